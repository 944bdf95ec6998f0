"""
Errors become statuses, and every request becomes one line of the log: only here.

A device never gets a 401 (one that does removes its management), and nobody
gets told about the inside.
"""

import math
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Protocol

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.web.http import datetimeToString

from mdmd import errors

log = Logger()

Facts = dict[str, object]


class Delayed(Protocol):
    """A call that is to come; twisted's IDelayedCall, as mypy can read it."""

    def cancel(self) -> None:
        """Take it back."""

    def active(self) -> bool:
        """Say whether it is still to come."""


class Clock(Protocol):
    """Time to wait by; twisted's IReactorTime, as mypy can read it."""

    def seconds(self) -> float:
        """Say how late it is, since no certain moment."""

    def callLater(self, delay: float, call: Callable[..., object], *args: object) -> Delayed:
        """Call after some seconds."""


# Seconds since the epoch, for what is told. They may be set forward or back, as no Clock is.
Wall = Callable[[], float]


class Asks(Protocol):
    """A request of :mod:`mdmd.web.channel`, as it is answered."""

    method: bytes
    path: bytes
    channel: Any  # None once the client is gone

    def reply(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Answer, once."""


STATUS: Mapping[type[BaseException], int] = {
    errors.BadMessage: 400,
    errors.BadRequest: 400,
    errors.BadCertificate: 400,
    errors.BadSCEP: 400,
    errors.NoIdentity: 400,
    errors.WrongIdentity: 403,
    errors.NotAllowed: 403,
    errors.NotHere: 404,
    errors.Conflict: 409,
    errors.Gone: 410,
    errors.Unreachable: 502,
    errors.StoreUnavailable: 503,
    errors.StoreCorrupt: 500,
    # What was waited for was cancelled: we are going down.
    CancelledError: 503,
}

_TEXT = {500: "internal error", 503: "try again later"}  # instead of the error's own
_PATH = 200  # characters of a path that the log keeps
_RETRY = (5, 30)  # seconds; spread, or a fleet comes back in step


@attrs.frozen
class Answer:
    """
    What goes back. ``content_type`` may be empty only if ``body`` is.

    :ivar told: what an audit may say of it.
    :ivar outcome: how the audit says that it went.
    """

    body: bytes = attrs.field(default=b"", repr=False)
    content_type: str = ""
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    told: Mapping[str, str] = attrs.field(factory=dict)
    outcome: str = "ok"


# What follows it is the secret that opens an app, in a path that was mistyped as well.
_APP = re.compile(rb"(apps/).*", re.DOTALL | re.IGNORECASE)


class Refusal(Exception):
    """
    A status that no cause of :mod:`mdmd.errors` stands for, such as 405.

    :ivar headers: what has to go with it.
    """

    def __init__(self, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


def method_not_allowed(allowed: tuple[bytes, ...]) -> Refusal:
    """Make the 405 that names the methods there are."""
    return Refusal(405, "method not allowed", (b"Allow", b", ".join(allowed)))


def status_of(error: BaseException) -> int:
    """Look the status of an error up by its class, the nearest one first; 500 if none is known."""
    if isinstance(error, Refusal):
        return error.status
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def text_of(error: BaseException) -> str:
    """Say what its sender may know of an error."""
    return _TEXT.get(status_of(error)) or str(error) or "refused"


def plain(text: str) -> tuple[bytes, str]:
    """Spell an error for a device: one line of text."""
    return text.encode("utf-8", "replace") + b"\n", "text/plain; charset=utf-8"


def wide_event(method: bytes, path: bytes, status: int, facts: Facts) -> None:
    """
    Write the one line of a request.

    :param facts: more of it: ``ms``, ``bytes_in``, ``bytes_out``, ``request``, ``peer``;
        and what the story adds: ``kind``, ``identity``, ``enrollment``, ``error``.
    """
    log.info(
        "{method} {path} {status}",
        method=_printable(method),
        path=_printable(_APP.sub(rb"\1", path[:_PATH])),
        status=status,
        **facts,
    )


def _printable(text: bytes) -> str:
    return text.decode("ascii", "backslashreplace")


@attrs.frozen
class Edge:
    """
    The outermost edge of a site: a story runs here, and always ends in an answer.

    :param wall: for the Date of an answer.
    :param jitter: 0 <= float < 1, for Retry-After.
    :param spell: an error's text to body and content type.
    """

    clock: Clock
    wall: Wall
    jitter: Callable[[], float]
    spell: Callable[[str], tuple[bytes, str]] = plain

    def answer(self, request: Asks, story: Coroutine[Any, Any, Answer], facts: Facts) -> None:
        """
        Answer with what ``story`` returns or raises.

        :param facts: the story may add to it while it runs; it is logged at the end.
        """
        done = Deferred.fromCoroutine(self._tell(request, story, facts))
        done.addErrback(lambda failure: log.failure("could not answer a request", failure))

    async def _tell(self, request: Asks, story: Coroutine[Any, Any, Answer], facts: Facts) -> None:
        began = self.clock.seconds()
        method, path = request.method, request.path
        try:
            answer = await story
        except (errors.MdmdError, Refusal, CancelledError) as error:
            answer = self.refuse(error, facts)
        except Exception as error:
            log.failure("a bug of ours, answered with 500: {path}", path=_printable(path[:_PATH]))
            answer = self.refuse(error, facts)
        facts["ms"] = round((self.clock.seconds() - began) * 1000, 1)
        facts["bytes_out"] = len(answer.body)
        if request.channel is None:
            facts["gone"] = True  # the client did not wait
        else:
            send(request, answer, self.wall())
        wide_event(method, path, answer.status, facts)

    def refuse(self, error: Exception, facts: Facts) -> Answer:
        """Make an answer of an error; ``facts`` are told of it."""
        status = status_of(error)
        facts["error"] = type(error).__name__
        if isinstance(error, errors.MdmdError):
            facts["reason"] = str(error)
        if isinstance(error, errors.StoreCorrupt):
            log.failure("a stored value can't be read")
        headers = error.headers if isinstance(error, Refusal) else ()
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers = (*headers, (b"Retry-After", b"%d" % self._retry_after()))
        body, content_type = self.spell(text_of(error))
        return Answer(body, content_type, status, headers)

    def _retry_after(self) -> int:
        least, most = _RETRY
        return least + math.floor(self.jitter() * (most - least + 1))


def send(request: Asks, answer: Answer, now: float) -> None:
    """Write the whole answer and end the request; ``now`` is seconds since the epoch."""
    headers = [(b"Date", _date(int(now)))]
    if answer.content_type:
        # It may be another server's word.
        headers.append((b"Content-Type", answer.content_type.encode("ascii", "replace")))
    headers += answer.headers
    request.reply(answer.status, headers, answer.body)


@lru_cache(maxsize=4)
def _date(now: int) -> bytes:
    date: bytes = datetimeToString(now)  # type: ignore[no-untyped-call]
    return date
