"""Post one event to one target, and say what became of it."""

import re
from collections.abc import Callable
from typing import Any, Self, cast

import attrs
from hyperlink import EncodedURL
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import stringToDatetime
from twisted.web.iweb import IAgent

from mdmd.interfaces.fleet import Event
from mdmd.interfaces.webhooks import UNREADABLE
from mdmd.webhook.message import message, signature
from mdmd.webhook.road import make_agent
from mdmd.webhook.target import Target

log = Logger()

BODY_LIMIT = 64 * 1024  # bytes of an answer's body that are taken before the connection is cut
LONGEST_WAIT = 86400.0  # seconds; a Retry-After beyond that is not believed


@attrs.frozen
class Outcome:
    """
    What became of one delivery.

    :ivar reason: what the target, or the network, said; "" when it took the event.
    :ivar wait: seconds that it asked to wait.
    :ivar hopeless: it will never be otherwise.
    """

    reason: str = ""
    wait: float | None = None
    hopeless: bool = False

    @property
    def taken(self) -> bool:
        """Say whether the target has the event."""
        return not self.reason


class _Url(EncodedURL):
    """A URL as it is: hyperlink takes the IPv6 address in one for a name, and refuses it."""

    def to_uri(self) -> Self:
        return self


class Post:
    """
    Delivers to one target.

    :param wall: seconds since the epoch.
    :raises BadCertificate: the target's CA can't be read.
    """

    def __init__(
        self, reactor: Any, target: Target, version: str, wall: Callable[[], float]
    ) -> None:
        self._reactor = reactor
        self._wall = wall
        self._target = target
        agent, self._pool = make_agent(reactor, target)
        self._client = HTTPClient(cast(IAgent, agent))
        self._url = _Url.from_text(target.url)
        self._agent_name = f"mdmd/{version}"

    async def close(self) -> None:
        """Close the connections that are kept."""
        await self._pool.closeCachedConnections()  # type: ignore[no-untyped-call]

    async def deliver(self, event: Event) -> Outcome:
        """Post one event; whatever goes wrong is an outcome."""
        if event.damaged:
            return Outcome(UNREADABLE, hopeless=True)
        try:
            body = message(event)
        except Exception:  # of all that was ever written to the stream
            log.failure("event {id} can't be spelled", id=event.id)
            return Outcome("the event can't be spelled", hopeless=True)
        headers: dict[bytes | str, bytes | str] = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": self._agent_name,
        }
        if self._target.key:
            headers["X-Hmac-Signature"] = signature(self._target.key, body)
        late: list[bool] = []

        def too_late(_: object, __: float) -> None:
            late.append(True)
            raise TimeoutError

        delivery = Deferred.fromCoroutine(self._post(body, headers))
        delivery.addTimeout(self._target.timeout, self._reactor, onTimeoutCancel=too_late)
        try:
            return await delivery
        except TimeoutError:
            return Outcome(f"no answer within {self._target.timeout:g} s")
        except CancelledError:
            raise
        except Exception as error:  # whatever a network, or a server out there, may come up with
            return Outcome(explain(error))

    async def _post(self, body: bytes, headers: dict[bytes | str, bytes | str]) -> Outcome:
        response = await self._client.post(
            self._url, data=body, headers=headers, allow_redirects=False, unbuffered=True
        )
        asked = response.headers.getRawHeaders("Retry-After", [""])[0]
        outcome = _read(response.code, retry_after(asked, self._wall()))
        await _drain(response, self._reactor, self._target.timeout)
        return outcome


def _read(status: int, wait: float | None) -> Outcome:
    if 200 <= status < 300:
        return Outcome()
    reason = f"HTTP status {status}"
    if 300 <= status < 400:
        return Outcome(f"{reason}: redirects are not followed")
    return Outcome(reason, wait if status in (429, 503) else None)


def retry_after(text: str, now: float) -> float | None:
    """
    Read Retry-After, seconds or a date, as seconds from now; None if it can't be read.

    :param now: seconds since the epoch.
    Source: RFC 9110, 10.2.3 and 5.6.7, with the old forms of dates.
    """
    text = text.strip()
    if re.fullmatch("[0-9]{1,9}", text, re.ASCII):
        return min(float(text), LONGEST_WAIT)
    try:
        moment: int = stringToDatetime(text.encode("ascii"))  # type: ignore[no-untyped-call]
    except (ValueError, LookupError):
        return None
    return min(max(moment - now, 0.0), LONGEST_WAIT)


async def _drain(response: Any, reactor: Any, patience: float) -> None:
    """Take what else the answer has, so that the connection can be used again; not for ever."""
    done: Deferred[None] = Deferred()
    drain = _Drain(done)
    response.deliverBody(drain)
    done.addTimeout(patience / 2, reactor, onTimeoutCancel=lambda _, __: drain.cut())
    await done


class _Drain(Protocol):
    """Counts what comes and throws it away."""

    transport: Any

    def __init__(self, done: "Deferred[None]") -> None:
        self._done = done
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > BODY_LIMIT:
            self.cut()

    def cut(self) -> None:
        """Take no more."""
        if self.transport is not None:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        if not self._done.called:
            self._done.callback(None)


def explain(error: Exception) -> str:
    """Say in words why a target could not be reached."""
    # Twisted wraps what happened, and does so once more while a request is being written.
    while reasons := getattr(error, "reasons", None):
        error = reasons[0].value
    if type(error).__name__ == "ParseError":
        return "what it answers is not HTTP"
    text = str(error).rstrip(".")
    words: Callable[[Any], str] = lambda e: ", ".join(p[2] for p in e.args[0])  # noqa: E731
    if type(error).__name__ == "Error" and error.args and isinstance(error.args[0], list):
        return f"TLS failed: {words(error)}"
    return text or type(error).__name__
