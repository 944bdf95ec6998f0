"""
Perspective Broker: the door that programs of operators come through.

To be served, on any stream::

    doors = make_pb(perspective, operators, reactor)
    endpoint.listen(doors.unix)   # for a unix socket: the kernel says who calls
    endpoint.listen(doors.tls)    # for TLS: a password or a client certificate
    …
    doors.close()                 # ends every connection

A client's first object is the :class:`Door`; it gives a :class:`Session`, whose
methods are those of :mod:`mdmd.ops.perspective`. The whole story is in docs/pb.md.
"""

import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.spread import pb

from mdmd import errors
from mdmd.errors import BadRequest, ConfigError, InternalError, MdmdError, NotAllowed
from mdmd.ops.blobs import Blobs
from mdmd.ops.broker import LARGEST, Broker, PlainValues
from mdmd.ops.method import Caller
from mdmd.ops.operators import Operator, Operators
from mdmd.ops.perspective import Perspective
from mdmd.ops.wire import ERRORS, PROTOCOL

log = Logger()

MOST_CONNECTIONS = 500
HURRY = 15.0  # seconds that a stranger has to say who they are


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


def answered(broker: Any, coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
    """Let a call run, and its answer or refusal go to the peer."""

    def refuse(failure: Failure) -> Failure:
        if not isinstance(failure.value, MdmdError):
            return failure
        # A new Failure: one that was raised carries its frames, file names and all, to the peer.
        return Failure(named(failure.value))

    done = Deferred.fromCoroutine(coroutine)
    return done.addCallbacks(broker.serialize, refuse)


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
    """An operator who has been let in, on one connection."""

    def __init__(self, perspective: Perspective, caller: Caller) -> None:
        self._perspective = perspective
        self._caller = caller
        self._blobs = Blobs()

    def remoteMessageReceived(self, broker: Any, message: str, args: Any, kw: Any) -> Any:
        """Take one call; the name is SUBJECT.METHOD, or one of the connection's own."""
        positional, named_ones = arguments(broker, args, kw)
        return answered(broker, self._call(message, positional, named_ones))

    async def _call(self, name: str, args: list[Any], kw: dict[str, Any]) -> Any:
        blobs: dict[str, Callable[..., Any]] = {
            "blob.append": self._blobs.append,
            "blob.read": self._blobs.read,
        }
        own = blobs.get(name)
        if own is not None:
            try:
                return own(*args, **kw)
            except TypeError as error:
                raise BadRequest(str(error)) from None
        args, kw = self._blobs.fill_in(args), self._blobs.fill_in(kw)
        return self._blobs.take_out(await self._perspective.call(self._caller, name, args, kw))


class Door(pb.Referenceable):
    """
    What a client meets first: it says who it is and gets a session.

    :param recognize: says who is at the other end of a connection by what the
        transport knows, and where they come from.
    """

    def __init__(
        self, broker: "Connection", recognize: Callable[[Any], tuple[Operator, str]]
    ) -> None:
        self._broker = broker
        self._recognize = recognize

    def remoteMessageReceived(self, broker: Any, message: str, args: Any, kw: Any) -> Any:
        """Take ``enter(version)``."""
        positional, named_ones = arguments(broker, args, kw)
        return answered(broker, self._call(message, positional, named_ones))

    async def _call(self, name: str, args: list[Any], kw: dict[str, Any]) -> Any:
        if name != "enter" or len(args) != 1 or kw:
            raise BadRequest("the door knows enter(version)")
        if args[0] != PROTOCOL:
            raise BadRequest(f"this mdmd speaks version {PROTOCOL} of the interface")
        try:
            operator, source = self._recognize(self._broker.transport)
        except ConfigError as error:
            log.error("the operators file can't be used: {reason}", reason=str(error))
            raise InternalError("the operators file can't be used; the log says why") from None
        return self._broker.let_in(Caller(operator.name, operator.role, source))


class Connection(Broker):
    """A broker that knows its door, and that strangers may not linger."""

    factory: Any  # a Doorway
    _hurry: Any

    def connectionMade(self) -> None:
        """Count it in, and give it a time to say who it is."""
        self._hurry = self.factory.reactor.callLater(HURRY, self._too_slow)
        if not self.factory.admit(self):
            self.transport.abortConnection()
            return
        super().connectionMade()

    def _too_slow(self) -> None:
        self.transport.abortConnection()

    def let_in(self, caller: Caller) -> Session:
        """Make the session of one who has been recognized."""
        if self._hurry.active():
            self._hurry.cancel()
        self.largest = LARGEST
        log.info("{operator} is here, from {source}", operator=caller.name, source=caller.source)
        return Session(self.factory.perspective, caller)

    def connectionLost(self, reason: Any = connectionDone) -> None:
        """Count it out."""
        if self._hurry.active():
            self._hurry.cancel()
        self.factory.leave(self)
        super().connectionLost(reason)


class Doorway(pb.PBServerFactory):
    """The factory of one listener."""

    protocol = Connection
    noisy = False

    def __init__(
        self,
        perspective: Perspective,
        recognize: Callable[[Any], tuple[Operator, str]],
        reactor: Any,
    ) -> None:
        super().__init__(_NoRoot(), security=PlainValues())
        self.perspective = perspective
        self.reactor = reactor
        self._recognize = recognize
        self._connections: set[Connection] = set()

    def buildProtocol(self, addr: Any) -> Connection:
        """Make a connection with a door of its own."""
        connection = Connection(isClient=False, security=self.security)
        connection.factory = self
        connection.setNameForLocal("root", Door(connection, self._recognize))
        return connection

    def admit(self, connection: Connection) -> bool:
        """Count a connection in; too many are turned away."""
        if len(self._connections) >= MOST_CONNECTIONS:
            log.warn("too many operators' connections: one was turned away")
            return False
        self._connections.add(connection)
        return True

    def leave(self, connection: Connection) -> None:
        """Count a connection out."""
        self._connections.discard(connection)

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

    def close(self) -> None:
        """End every connection."""
        self.unix.close()
        self.tls.close()


def make_pb(perspective: Perspective, operators: Operators, reactor: Any) -> Doors:
    """Make the factories for a unix socket and for TLS."""

    def by_uid(transport: Any) -> tuple[Operator, str]:
        uid = peer_uid(transport.socket)
        return operators.by_uid(uid), f"unix uid {uid}"

    def nobody(transport: Any) -> tuple[Operator, str]:
        raise NotAllowed("nobody can log in here yet")

    return Doors(Doorway(perspective, by_uid, reactor), Doorway(perspective, nobody, reactor))


def peer_uid(peer: socket.socket) -> int:
    """
    Ask the kernel which user is at the other end of a unix socket.

    Source: unix(7), SO_PEERCRED: pid, uid, gid, three C ints.
    """
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)
