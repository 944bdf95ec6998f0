"""
Perspective Broker: the door that programs of operators come through.

To be served, on any stream::

    doors = make_pb(Perspective(desk), reactor)
    endpoint.listen(doors.unix)   # for a unix socket: the kernel says who calls
    endpoint.listen(doors.tls)    # for TLS: a password or a client certificate
    …
    doors.close()                 # ends every connection

A client's first object is the :class:`Door`; it gives a :class:`Session`, whose
methods are those of :mod:`mdmd.ops.perspective`. The whole story is in docs/pb.md.
"""

import inspect
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.spread import pb

from mdmd import errors
from mdmd.errors import BadRequest, ConfigError, InternalError, MdmdError, NotAllowed
from mdmd.ops.blobs import Blobs, Budget
from mdmd.ops.broker import LARGEST, Broker, PlainValues
from mdmd.ops.method import Caller
from mdmd.ops.operators import Operator
from mdmd.ops.pace import Pace
from mdmd.ops.passwords import ATTEMPTS, Attempts
from mdmd.ops.perspective import Perspective
from mdmd.ops.recognize import ByTLS, ByUid, Recognizes, caller_now
from mdmd.ops.spelling import Speller
from mdmd.ops.wire import ERRORS, PROTOCOL

log = Logger()

MOST_CONNECTIONS = 500
HURRY = 15.0  # seconds that a stranger has to say who they are
LOOK = 1.0  # seconds between looks whether who is in may still be


def _error_class(name: str) -> type[pb.Error]:
    # Twisted sends the class's full name, and logs no traceback for a pb.Error.
    return type(name, (pb.Error,), {"__module__": errors.__name__})


_ERRORS = {name: _error_class(name) for name in ERRORS}


def named(error: MdmdError) -> pb.Error:
    """Make of a refusal what the peer gets as a RemoteError of the same name and text."""
    for each in type(error).__mro__:
        if each.__name__ in _ERRORS:
            return _ERRORS[each.__name__](str(error))
    return _ERRORS["InternalError"](str(error))


def _as_it_is(value: Any) -> Any:
    return value


def answered(
    broker: Any,
    call: Callable[[], Coroutine[Any, Any, Any]],
    plain: Callable[[Any], Any] = _as_it_is,
) -> Deferred[Any]:
    """Let a call run in its turn, and its answer or refusal go to the peer."""

    async def spelled() -> Any:
        answer = await call()
        speller = Speller(broker, plain, lambda: deferLater(broker.factory.reactor, 0))
        return await speller.spell(answer)

    def refuse(failure: Failure) -> Failure:
        if not isinstance(failure.value, MdmdError):
            return failure
        # A new Failure: one that was raised carries its frames, file names and all, to the peer.
        return Failure(named(failure.value))

    return Deferred.fromCoroutine(broker.pace.call(spelled)).addErrback(refuse)


def arguments(broker: Any, args: Any, kw: Any) -> tuple[list[Any], dict[str, Any]]:
    """
    Read what a call brought.

    :raises pb.Error: it is not plain data.
    """
    try:
        return list(broker.unserialize(args)), dict(broker.unserialize(kw))
    except Exception:
        raise named(BadRequest("the arguments are not plain values")) from None


class Session(pb.Referenceable):
    """
    An operator who has been let in, on one connection.

    :param source: from where, as the audit tells it.
    :param caller: says who they are now: their role may have changed since.
    """

    def __init__(
        self,
        perspective: Perspective,
        name: str,
        source: str,
        caller: Callable[[], Caller],
        budget: Budget,
    ) -> None:
        self.name = name
        self._source = source
        self._perspective = perspective
        self._caller = caller
        self._blobs = Blobs(budget)

    def close(self) -> None:
        """Free what the connection held."""
        self._blobs.close()

    def remoteMessageReceived(self, broker: Any, message: str, args: Any, kw: Any) -> Any:
        """Take one call; the name is SUBJECT.METHOD, or one of the connection's own."""
        try:
            positional, named_ones = arguments(broker, args, kw)
        except pb.Error:
            self._note(message, "its arguments can't be read")
            raise
        call = partial(self._call, message, positional, named_ones)
        return answered(broker, call, self._blobs.take_out)

    async def _call(self, name: str, args: list[Any], kw: dict[str, Any]) -> Any:
        blobs: dict[str, Callable[..., Any]] = {
            "blob.append": self._blobs.append,
            "blob.read": self._blobs.read,
        }
        own = blobs.get(name)
        try:
            if own is not None:
                return _plainly(own, args, kw)
            args, kw = self._blobs.fill_in(args), self._blobs.fill_in(kw)
        except MdmdError as error:
            self._note(name, "its arguments can't be read", type(error).__name__)
            raise
        try:
            caller = self._caller()
        except MdmdError as error:
            # They were let in: until their connection ends nothing that they try goes unseen.
            self._note(name, str(error), type(error).__name__)
            raise
        return await self._perspective.call(caller, name, args, kw)

    def _note(self, name: str, reason: str, outcome: str = "BadRequest") -> None:
        self._perspective.note_refused(self.name, self._source, name, reason, outcome)


class Door(pb.Referenceable):
    """What a client meets first: it says who it is and gets a session."""

    def __init__(self, broker: "Connection", recognizes: Recognizes) -> None:
        self._broker = broker
        self._recognizes = recognizes

    def remoteMessageReceived(self, broker: Any, message: str, args: Any, kw: Any) -> Any:
        """Take ``enter(version)`` or ``login(version, name, password)``."""
        positional, named_ones = arguments(broker, args, kw)
        return answered(broker, partial(self._call, message, positional, named_ones))

    async def _call(self, name: str, args: list[Any], kw: dict[str, Any]) -> Any:
        known: dict[str, Callable[..., Any]] = {"enter": self.enter, "login": self.login}
        if name not in known:
            raise BadRequest("the door knows enter(version) and login(version, name, password)")
        try:
            return await _plainly(known[name], args, kw)
        except ConfigError as error:
            log.error("the operators file can't be used: {reason}", reason=str(error))
            raise InternalError("the operators file can't be used; the log says why") from None

    async def enter(self, version: int) -> Session:
        """Let in whoever the connection itself says it is."""
        _check_version(version)
        with self._noting(self._recognizes.by):
            who = self._recognizes.by_transport(self._broker.transport)
            return self._broker.let_in(*who, self._recognizes.by)

    async def login(self, version: int, name: str, password: str) -> Session:
        """Let in by name and password."""
        _check_version(version)
        if not isinstance(name, str) or not isinstance(password, str):
            raise BadRequest("name and password are texts")
        with self._noting("password", name):
            self._broker.count_attempt()
            who = await self._recognizes.by_password(self._broker.transport, name, password)
            return self._broker.let_in(*who, "password")

    @contextmanager
    def _noting(self, by: str, name: str = "") -> Iterator[None]:
        """Note it when somebody is turned away."""
        source = self._recognizes.source(self._broker.transport)
        try:
            yield
        except NotAllowed as error:
            log.warn(
                "an operator was turned away: {reason} ({source})", reason=error, source=source
            )
            refusals = self._broker.factory.perspective.desk.refusals
            if refusals is not None:
                refusals.note(source, by, str(error), name)
            raise


def _plainly(function: Callable[..., Any], args: list[Any], kw: dict[str, Any]) -> Any:
    try:
        bound = inspect.signature(function).bind(*args, **kw)
    except TypeError as error:
        raise BadRequest(str(error)) from None
    return function(*bound.args, **bound.kwargs)


def _check_version(version: object) -> None:
    if version != PROTOCOL:
        raise BadRequest(f"this mdmd speaks version {PROTOCOL} of the interface")


class Connection(Broker):
    """A broker that knows its door, and that strangers may not linger."""

    factory: Any  # a Doorway
    _hurry: Any
    _attempts = 0
    _session: Session | None = None
    _looking: LoopingCall | None = None
    pace: Pace | None = None

    def connectionMade(self) -> None:
        """Count it in, and give it a time to say who it is."""
        self._hurry = self.factory.reactor.callLater(HURRY, self._too_slow)
        if not self.factory.admit(self):
            self.transport.abortConnection()
            return
        self.transport.setTcpKeepAlive(1)  # who vanished without a word is found out
        super().connectionMade()

    def dataReceived(self, chunk: bytes) -> None:
        """Read what came, at the peer's own pace."""
        # Not from the beginning: a TLS handshake is a writer that waits for what is read.
        if self.pace is None:
            self.pace = Pace(self.transport, self.factory.reactor)
        super().dataReceived(chunk)

    def _too_slow(self) -> None:
        self.transport.abortConnection()

    def count_attempt(self) -> None:
        """
        Bound the attempts of one connection, whatever names and addresses it has.

        :raises NotAllowed: too many.
        """
        self._attempts += 1
        if self._attempts > ATTEMPTS:
            self.transport.abortConnection()
            raise NotAllowed("too many attempts on one connection")

    def let_in(self, operator: Operator, source: str, by: str) -> Session:
        """
        Make the session of one who has been recognized; a connection has one.

        :raises BadRequest: somebody else is in already.
        """
        if self._session is not None:
            if self._session.name != operator.name:
                raise BadRequest(f"{self._session.name} is in on this connection")
            return self._session
        if self._hurry.active():
            self._hurry.cancel()
        self.factory.known(self)
        self.largest = LARGEST
        operators = self.factory.perspective.desk.operators
        log.info("{operator} is here, from {source}", operator=operator.name, source=source)
        caller = partial(caller_now, operators, operator, source, by)
        self._session = Session(
            self.factory.perspective, operator.name, source, caller, self.factory.budget
        )
        self._looking = LoopingCall(self._look, caller)
        self._looking.clock = self.factory.reactor
        self._looking.start(LOOK, now=False)
        return self._session

    def _look(self, caller: Callable[[], Caller]) -> None:
        """End the connection of who may not be here any more, whatever they are waiting for."""
        try:
            caller()
        except ConfigError:
            pass  # nothing can be called, but nobody was removed
        except NotAllowed as error:
            log.warn("an operator's connection ends: {reason}", reason=str(error))
            self.transport.abortConnection()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        """Count it out."""
        if self._hurry.active():
            self._hurry.cancel()
        if self.pace is not None:
            self.pace.close()
        if self._session is not None:
            self._session.close()
        if self._looking is not None and self._looking.running:
            self._looking.stop()
        self.factory.leave(self)
        super().connectionLost(reason)


class Doorway(pb.PBServerFactory):
    """The factory of one listener."""

    protocol = Connection
    noisy = False

    def __init__(self, perspective: Perspective, recognizes: Recognizes, reactor: Any) -> None:
        super().__init__(_NoRoot(), security=PlainValues())
        self.perspective = perspective
        self.reactor = reactor
        self._recognizes = recognizes
        self.budget = Budget()
        self._connections: set[Connection] = set()
        self._strangers: dict[Connection, None] = {}  # the oldest first

    def buildProtocol(self, addr: Any) -> Connection:
        """Make a connection with a door of its own."""
        connection = Connection(isClient=False, security=self.security)
        connection.factory = self
        connection.setNameForLocal("root", Door(connection, self._recognizes))
        return connection

    def admit(self, connection: Connection) -> bool:
        """Count a connection in; when there are too many, the oldest stranger has to leave."""
        if len(self._connections) >= MOST_CONNECTIONS:
            log.warn("too many operators' connections: one is turned away")
            if not self._strangers:
                return False
            oldest = next(iter(self._strangers))
            self.leave(oldest)  # now: its end comes later, after others have come
            oldest.transport.abortConnection()
        self._connections.add(connection)
        self._strangers[connection] = None
        return True

    def known(self, connection: Connection) -> None:
        """Note that somebody has been recognized."""
        self._strangers.pop(connection, None)

    def leave(self, connection: Connection) -> None:
        """Count a connection out."""
        self._connections.discard(connection)
        self._strangers.pop(connection, None)

    @property
    def connections(self) -> int:
        """Count those that are open."""
        return len(self._connections)

    def close(self) -> None:
        """End every connection."""
        for each in list(self._connections):
            each.transport.abortConnection()


class _NoRoot(pb.Root):
    """Twisted wants a root for all; here each connection has its own."""


@attrs.frozen
class Doors:
    """What to listen with, by kind of listener."""

    unix: Doorway
    tls: Doorway

    @property
    def connections(self) -> int:
        """Count those that are open."""
        return self.unix.connections + self.tls.connections

    def close(self) -> None:
        """End every connection."""
        self.unix.close()
        self.tls.close()


def make_pb(perspective: Perspective, reactor: Any) -> Doors:
    """Make the factories for a unix socket and for TLS."""
    operators = perspective.desk.operators
    return Doors(
        Doorway(perspective, ByUid(operators), reactor),
        Doorway(perspective, ByTLS(operators, Attempts(reactor.seconds)), reactor),
    )
