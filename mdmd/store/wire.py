"""One connection to the store: txredisapi's protocol with deadlines, and the greeting."""

from collections import deque
from collections.abc import Iterable
from typing import Any

import hiredis
from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from txredisapi import InvalidData, InvalidResponse, RedisProtocol, ResponseError

from mdmd.errors import StoreUnavailable

Word = bytes | str | int
Waiting = tuple["Deferred[Any]", float]  # where the answer goes, and until when

OLDEST = (6, 2)


class StillLoading(StoreUnavailable):
    """The server has not read its data from disk yet."""


def encode(words: Iterable[Word]) -> bytes:
    """Write one command as the protocol wants it."""
    command: bytes = hiredis.pack_command(tuple(words))  # type: ignore[arg-type]  # its stub
    return command


class Wire(RedisProtocol):  # type: ignore[misc]  # it has no types
    """
    A connection that answers in order.

    txredisapi reads the replies; which command one belongs to is ours, because
    its own queue has no deadlines and its AUTH ends reconnecting for good.

    :ivar lost: fires with the reason, in words, when the connection is gone.
    """

    transport: Any

    def __init__(self) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self._in_flight: deque[Waiting] = deque()
        self._replies = hiredis.Reader(protocolError=InvalidData, replyError=ResponseError)
        self._why = ""
        self.up = False
        self.lost: Deferred[str] = Deferred()

    # -- for the link ---------------------------------------------------------------

    def send(self, command: bytes, waiting: Waiting) -> None:
        """
        Write a command; all of one reactor turn leave in one piece.

        Its Deferred fails with txredisapi's ResponseError for an error reply,
        with StoreUnavailable when the connection is lost first.
        """
        self._in_flight.append(waiting)
        self.transport.write(command)

    async def ask(self, *commands: tuple[Word, ...]) -> list[Any]:
        """Send several commands at once; an error reply is among the answers as a value."""
        answers: list[Deferred[Any]] = [Deferred() for _ in commands]
        for words, answer in zip(commands, answers, strict=True):
            answer.addErrback(_as_value)
            self.send(encode(words), (answer, float("inf")))
        try:
            return await gatherResults(answers, consumeErrors=True)
        except FirstError as error:
            if isinstance(error.subFailure.value, CancelledError):
                raise CancelledError from None
            raise StoreUnavailable(self._why or str(error.subFailure.value)) from None

    def tell(self, *words: Word) -> None:
        """Send a command whose answer nobody waits for."""
        answer: Deferred[Any] = Deferred()
        answer.addErrback(lambda _: None)
        self.send(encode(words), (answer, float("inf")))

    def overdue(self, now: float) -> bool:
        """Say whether an answer is late; in order as they are, the ones behind it are late too."""
        return any(until <= now and not answer.called for answer, until in self._in_flight)

    @property
    def in_flight(self) -> int:
        """Count the commands without an answer."""
        return len(self._in_flight)

    def abort(self, why: str) -> None:
        """Cut the connection; nothing more is sent on it."""
        self.up = False
        self._why = self._why or why
        self.transport.abortConnection()

    # -- Twisted and txredisapi call -----------------------------------------------------

    def connectionMade(self) -> None:
        """Begin."""
        self.up = True
        if hasattr(self.transport, "setTcpNoDelay"):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        """Hear the server: hiredis alone, for txredisapi goes through each list once more."""
        try:
            self._replies.feed(data)
            while (reply := self._replies.gets()) is not False:
                self.replyReceived(reply)
        except InvalidData:
            self.abort("what answers there does not speak the Redis protocol")

    def replyReceived(self, reply: Any) -> None:
        """Give one reply to the command it is for."""
        if not self._in_flight:
            self.abort("it answered what nobody asked")
            return
        answer, _ = self._in_flight.popleft()
        if answer.called:  # its sender has gone
            return
        if isinstance(reply, ResponseError | InvalidResponse):
            answer.errback(reply)
        else:
            answer.callback(reply)

    def connectionLost(self, reason: Failure) -> None:
        """Fail what is unanswered: nobody knows whether it was done."""
        self.up = False
        super().connectionLost(reason)
        why = self._why or explain(reason.value)
        unanswered, self._in_flight = self._in_flight, deque()
        for answer, _ in unanswered:
            if not answer.called:
                answer.errback(StoreUnavailable(f"the store went away with this unanswered: {why}"))
        self.lost.callback(why)


def _as_value(failure: Failure) -> Exception:
    if not isinstance(failure.value, ResponseError):
        failure.raiseException()
    assert isinstance(failure.value, Exception)
    return failure.value


def explain(error: BaseException | None) -> str:
    """Say in words why there is no connection (any more)."""
    if isinstance(error, VerificationError):
        return "its certificate is for another name"
    if isinstance(error, TLSError):
        words = ", ".join(p[2] for p in error.args[0]) if error.args and error.args[0] else ""
        if "certificate verify failed" in words:
            return "its certificate is not trusted"
        return f"TLS failed ({words or 'no reason given'})"
    if isinstance(error, ConnectionDone | ConnectionLost):
        return "the connection was closed"
    if isinstance(error, DeferredTimeout | CancelledError):
        return "no answer in time"
    return str(error).rstrip(".") or type(error).__name__


# -- the greeting ------------------------------------------------------------------------


async def greet(wire: Wire, user: str, password: str | None, db: int) -> None:
    """
    Log in, choose the database, and see that the server is one that can be relied on.

    :raises StoreUnavailable: it can't; the text says what to change.
    """
    commands: list[tuple[Word, ...]] = [("SELECT", db), ("INFO",), ("CLIENT", "SETNAME", "mdmd")]
    if password is not None:
        commands.insert(0, ("AUTH", user, password) if user else ("AUTH", password))
    *logins, selected, info, _ = await wire.ask(*commands)
    for step, reply in (*(("log in", one) for one in logins), (f"use database {db}", selected)):
        if isinstance(reply, Exception):
            raise StoreUnavailable(f"can't {step}: {reply}")
    if isinstance(info, Exception):
        raise StoreUnavailable(f"can't read INFO, which mdmd must be allowed to: {info}")
    check_info(info)


def check_info(info: bytes) -> None:
    """
    Refuse a server that would lose data or can't do the work, by what INFO says of it.

    :raises StoreUnavailable: the text says what to change.
    """
    facts = dict(
        line.split(":", 1) for line in info.decode("utf-8", "replace").splitlines() if ":" in line
    )
    version = facts.get("redis_version", "0.0")
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST:
        raise StoreUnavailable(f"it is version {version}; mdmd needs 6.2 or newer")
    if facts.get("redis_mode") == "cluster":
        raise StoreUnavailable("it is part of a cluster, which mdmd does not use")
    if facts.get("loading", "0") != "0":
        raise StillLoading("it is still loading its data")
    if facts.get("role", "master") != "master":
        raise StoreUnavailable("it is a replica, which takes no writes")
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise StoreUnavailable(
            f"its maxmemory-policy is {policy}, which throws data away when memory is short; "
            "set it to noeviction"
        )
