"""
The way to the daemon: a verb is a coroutine that makes calls, and reads like a script.

Twisted is loaded here, when a verb runs, and nowhere before.
"""

import argparse
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet import reactor as twisted_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.spread import pb
from twisted.spread.jelly import globalSecurity

from mdmd import errors
from mdmd.cli.exits import FAILED, INTERRUPTED, NO_DAEMON, NOT_ALLOWED
from mdmd.errors import InternalError, MdmdError, NotAllowed
from mdmd.ops.wire import BLOB, ERRORS, PIECE

reactor: Any = twisted_reactor

# Not an error: how a failure of the daemon's is spelled.
globalSecurity.allowTypes("twisted.spread.pb.CopyableFailure")


class NoDaemon(MdmdError):
    """Nobody answers on the socket."""


class Remote:
    """
    The daemon, as the operator's role sees it.

    :ivar session: Perspective Broker's reference, for what is not a plain call.
    """

    def __init__(self, session: pb.RemoteReference) -> None:
        self.session = session

    async def call(self, name: str, /, **arguments: Any) -> Any:
        """
        Make one call; values larger than Banana allows go in pieces, both ways.

        :raises MdmdError: what the daemon refused, as the same class and text.
        """
        sent = await self._upload(arguments)
        return await self._download(await self._raw(name, sent))

    def leave(self) -> None:
        """End the connection."""
        self.session.broker.transport.loseConnection()

    async def gone(self) -> None:
        """
        Wait until the connection ends.

        :raises NoDaemon: always, in the end.
        """
        end: Deferred[None] = Deferred()
        self.session.broker.notifyOnDisconnect(lambda: end.callback(None))
        await end
        raise NoDaemon("the daemon went away")

    async def _raw(self, name: str, arguments: dict[str, Any]) -> Any:
        try:
            return await self.session.callRemote(name, **arguments)
        except pb.RemoteError as error:
            raise as_here(error) from None
        except (pb.PBConnectionLost, pb.DeadReferenceError):
            raise NoDaemon("the daemon went away; whether it did what was asked is open") from None

    async def _upload(self, value: Any) -> Any:
        if isinstance(value, bytes) and len(value) > PIECE:
            number = 0
            for start in range(0, len(value), PIECE):
                piece = value[start : start + PIECE]
                number = await self._raw("blob.append", {"number": number, "piece": piece})
            return {BLOB: number}
        if isinstance(value, dict):
            return {key: await self._upload(each) for key, each in value.items()}
        if isinstance(value, list):
            return [await self._upload(each) for each in value]
        return value

    async def _download(self, value: Any) -> Any:
        if isinstance(value, dict):
            if BLOB in value and "size" in value:
                return await self._fetch(value)
            return {key: await self._download(each) for key, each in value.items()}
        if isinstance(value, list):
            return [await self._download(each) for each in value]
        return value

    async def _fetch(self, blob: dict[str, Any]) -> bytes | str:
        whole = bytearray()
        while len(whole) < blob["size"]:
            at = {"number": blob[BLOB], "offset": len(whole)}
            whole += await self._raw("blob.read", at)
        return whole.decode() if blob.get("text") else bytes(whole)


class _Receiver(pb.Referenceable):
    """What the daemon calls with events."""

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        self._tell = tell

    def remote_events(self, events: list[dict[str, Any]]) -> None:
        """Take a batch; the answer asks for the next."""
        for each in events:
            self._tell(each)


async def follow(
    remote: Remote, tell: Callable[[dict[str, Any]], None], **wanted: Any
) -> pb.RemoteReference:
    """
    Let ``tell`` be called with each event as it comes.

    :param wanted: ``id``, ``topics``, ``after``, as ``events.subscribe`` takes them.
    """
    subscription: pb.RemoteReference = await remote.call(
        "events.subscribe", receiver=_Receiver(tell), **wanted
    )
    return subscription


async def pause(seconds: float) -> None:
    """Let some time pass."""
    await deferLater(reactor, seconds)


def as_here(error: Any) -> MdmdError:
    """Make of what the daemon refused the error of the same name and text."""
    kind = error.remoteType
    name = (kind.decode() if isinstance(kind, bytes) else str(kind)).rpartition(".")[2]
    if name not in ERRORS:
        return InternalError(f"{name}: {error}")
    made: MdmdError = getattr(errors, name)(str(error))
    return made


Verb = Callable[[Remote], Awaitable[int | None]]


def run(args: argparse.Namespace, verb: Verb) -> int:
    """Connect, let the verb run, and say how it went, by exit status and in one line."""
    from mdmd.cli.roads import reach

    outcome: list[int] = []
    work: list[Deferred[None]] = []

    async def whole() -> int:
        return await verb(await reach(args)) or 0

    def finished(status: int) -> None:
        if not outcome:
            outcome.append(status)
            reactor.stop()

    def failed(failure: Failure) -> None:
        if not outcome:
            finished(_tell(failure))

    def begin() -> None:
        work.append(Deferred.fromCoroutine(whole()).addCallbacks(finished, failed))

    def stopping() -> None:
        if not outcome:  # Ctrl-C: what is in `with` and `finally` has its turn
            outcome.append(INTERRUPTED)
            for each in work:
                each.cancel()

    reactor.addSystemEventTrigger("before", "shutdown", stopping)
    reactor.callWhenRunning(begin)
    reactor.run()
    return outcome[0]


def _tell(failure: Failure) -> int:
    error = failure.value
    if isinstance(error, BrokenPipeError):
        return FAILED
    sys.stderr.write(f"mdmctl: {error}\n")
    if isinstance(error, NoDaemon):
        return NO_DAEMON
    if isinstance(error, NotAllowed):
        return NOT_ALLOWED
    if not isinstance(error, MdmdError | OSError):
        failure.printTraceback(sys.stderr)  # our own mistake
    return FAILED
