"""
The manhole's SSH server, on Conch: sessions with a terminal, commands, scripts.

To be served::

    manhole = make_manhole(perspective, admission, host_key, state / "manhole" / "history", reactor)
    endpoint.listen(manhole)
    …
    await manhole.close()
"""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.conch.avatar import ConchUser
from twisted.conch.error import ConchError
from twisted.conch.interfaces import IConchUser, ISession
from twisted.conch.ssh import factory, session, transport
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.connection import (
    MSG_CHANNEL_OPEN_FAILURE,
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    SSHConnection,
)
from twisted.conch.ssh.keys import Key
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.components import registerAdapter
from twisted.python.failure import Failure
from zope.interface import implementer

from mdmd.errors import ConfigError, NotAllowed
from mdmd.ops.manhole.admission import Admission
from mdmd.ops.manhole.batch import Batch
from mdmd.ops.manhole.console import Console
from mdmd.ops.manhole.history import History
from mdmd.ops.manhole.login import HURRY, Authentication, KeyChecker, Refused
from mdmd.ops.manhole.session import ManholeSession
from mdmd.ops.manhole.space import greeting
from mdmd.ops.perspective import Perspective

log = Logger()

MOST_CONNECTIONS = 64
PATIENCE = 2.0  # seconds for what is running to end, when the daemon does
LOOK = 1.0  # seconds between looks whether who is in may still be


@implementer(IRealm)
class Realm:
    """Makes the users of Conch."""

    def __init__(self, make_user: Callable[[str], "User"]) -> None:
        self._make_user = make_user

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        """Make the user with this key; Conch calls this."""
        return IConchUser, self._make_user(avatarId), lambda: None


class Channel(session.SSHSession):
    """A session's channel; Twisted's own would write the command into the log as it is."""

    def request_exec(self, data: bytes) -> int:
        """Run a command."""
        if self.client is not None:
            return 0
        command = getNS(data)[0]
        self.client = session.SSHSessionProcessProtocol(self)
        opened: Any = self._session
        opened.execCommand(self.client, command)
        return 1


class Connection(SSHConnection):
    """What runs on a connection once somebody is in."""

    transport: Any

    def ssh_CHANNEL_OPEN(self, packet: bytes) -> None:
        """Open a session; refuse anything else in one line, where Conch logs a traceback."""
        kind, rest = getNS(packet)
        if kind == b"session":
            super().ssh_CHANNEL_OPEN(packet)
            return
        log.warn(
            "the manhole has sessions only: {kind} refused",
            kind=kind[:40].decode("ascii", "replace"),
        )
        (number,) = struct.unpack(">L", rest[:4])
        answer = struct.pack(">2L", number, OPEN_ADMINISTRATIVELY_PROHIBITED)
        self.transport.sendPacket(MSG_CHANNEL_OPEN_FAILURE, answer + NS(b"sessions only") + NS(b""))


class User(ConchUser):
    """An admin on one connection: sessions and nothing else, no forwarding, no files."""

    def __init__(self, manhole: "Manhole", key: str) -> None:
        super().__init__()
        self.manhole = manhole
        self.key = key
        self.channelLookup[b"session"] = Channel


@implementer(ISession)
class SSHSession:
    """One session of Conch's on its way to a console or a batch."""

    def __init__(self, user: User) -> None:
        self._user = user
        self._manhole = user.manhole
        self._width: int | None = None
        self._protocol: Any = None
        self._channel: Any = None
        self._looking: LoopingCall | None = None
        self._end: Callable[[], None] = lambda: None

    def getPty(self, term: bytes, windowSize: tuple[int, ...], modes: Any) -> None:
        """Take the terminal's size: there is one."""
        self._width = windowSize[1] or 80

    def windowChanged(self, newWindowSize: tuple[int, ...]) -> None:
        """Take its new size."""
        self._width = newWindowSize[1] or 80
        if isinstance(self._protocol, Console):
            self._protocol.resize(self._width)

    def openShell(self, proto: Any) -> None:
        """Begin a session with a terminal, or take a script."""
        if self._width is None:
            self._connect(Batch(self._make, None, proto.processEnded), proto)
            return
        name = self._name()
        history = History(self._manhole.history, name)
        hello = greeting(self._manhole.perspective.desk.version, name)
        clock = self._manhole.reactor
        self._connect(Console(self._make, history, hello, self._width, clock), proto)

    def execCommand(self, proto: Any, command: bytes) -> None:
        """Run one command and end with its exit status."""
        source, terminal = command.decode("utf-8", "replace"), self._width is not None
        self._connect(Batch(self._make, source, proto.processEnded, terminal), proto)

    def eofReceived(self) -> None:
        """Take the end of standard input."""
        if isinstance(self._protocol, Batch):
            self._protocol.end_of_input()

    def closed(self) -> None:
        """End what is running: the client went away."""
        if self._looking is not None and self._looking.running:
            self._looking.stop()
        if self._protocol is not None:
            self._protocol.connectionLost(connectionDone)

    def _connect(self, protocol: Any, proto: Any) -> None:
        self._protocol = protocol
        self._channel = proto.session
        self._end = lambda: proto.processEnded(Failure(ProcessTerminated(exitCode=1)))
        proto.makeConnection(_Input(protocol))
        protocol.makeConnection(_Output(proto, self._width is not None))
        self._looking = LoopingCall(self._look)
        self._looking.clock = self._manhole.reactor
        self._looking.start(LOOK, now=False)

    def _look(self) -> None:
        """End the session of somebody who was removed, with whatever is running in it."""
        try:
            self._manhole.admission.caller(self._user.key, self._host())
        except NotAllowed as error:
            log.warn("a session in the manhole ends: {reason}", reason=str(error))
            self._protocol.write(f"\nNotAllowed: {error}\n")
            self._protocol.connectionLost(connectionDone)
            self._end()
        except ConfigError:
            pass  # nothing can be done in it, but nobody was removed

    def _host(self) -> str:
        return host_of(self._user.conn.transport)

    def _name(self) -> str:
        return self._manhole.admission.caller(self._user.key, self._host()).name

    def _make(
        self, write: Callable[[str], None], progress: Callable[[str], None] = lambda _: None
    ) -> ManholeSession:
        host = self._host()
        return ManholeSession(
            self._manhole.perspective,
            lambda: self._manhole.admission.caller(self._user.key, host),
            write,
            self._manhole.lines,
            progress,
            lambda: 0 if self._channel is None else len(self._channel.buf),
        )


class _Input:
    """A transport for Conch's session: to the protocol."""

    def __init__(self, protocol: Any) -> None:
        self.write = protocol.dataReceived

        def lose() -> None:
            protocol.connectionLost(connectionDone)

        self.loseConnection = lose


class _Output:
    """A transport for the protocol: to the client's standard output."""

    def __init__(self, proto: Any, terminal: bool) -> None:
        self._proto = proto
        self._terminal = terminal

    def write(self, data: bytes) -> None:
        # A terminal of ssh -t is raw at the other end.
        if self._terminal:
            data = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        self._proto.outReceived(data)

    def loseConnection(self) -> None:
        self._proto.processEnded(Failure(ProcessDone(0)))


def host_of(connection: Any) -> str:
    """Say where a connection comes from."""
    return str(getattr(connection.transport.getPeer(), "host", "-"))


class Transport(transport.SSHServerTransport):
    """A connection, with those algorithms that are sound today."""

    factory: Any  # a Manhole
    transport: Any
    _hurry: Any
    supportedCiphers = [b"aes256-ctr", b"aes192-ctr", b"aes128-ctr"]  # noqa: RUF012
    supportedMACs = [b"hmac-sha2-512", b"hmac-sha2-256"]  # noqa: RUF012
    supportedKeyExchanges = [  # noqa: RUF012  (those that need no file of primes)
        b"curve25519-sha256",
        b"curve25519-sha256@libssh.org",
        b"ecdh-sha2-nistp256",
        b"ecdh-sha2-nistp384",
        b"ecdh-sha2-nistp521",
    ]
    ourVersionString = b"SSH-2.0-mdmd"

    def connectionMade(self) -> None:
        """Count it in, and give it a time to log in."""
        self.refused: list[Refused] = []
        self._hurry = self.factory.reactor.callLater(HURRY, self._too_slow)
        if not self.factory.admit(self):
            self.transport.abortConnection()
            return
        self.transport.setTcpKeepAlive(1)
        super().connectionMade()

    @property
    def is_stranger(self) -> bool:
        """Say whether nobody has logged in on it."""
        return not hasattr(self, "avatar")

    def _too_slow(self) -> None:
        if self.is_stranger:
            self.transport.abortConnection()

    def _note_refused(self) -> None:
        """Note a connection that ends without a log-in; one that got in may have tried keys."""
        if self.refused and self.is_stranger:
            last = self.refused[-1]
            reasons = "; ".join(dict.fromkeys(each.reason for each in self.refused))
            self.factory.note_refused(f"ssh {host_of(self)}", last.by, reasons, last.name)

    def dataReceived(self, data: bytes) -> None:
        """Read what came; what is not SSH ends the connection with one line in the log."""
        try:
            super().dataReceived(data)
        except Exception as error:
            reason = str(error)[:200] or type(error).__name__
            log.info("closed an SSH connection: {reason}", reason=reason)
            self.transport.abortConnection()

    def receiveError(self, reasonCode: int, description: bytes) -> None:
        """Take the client's goodbye; there is nothing wrong with it."""

    def connectionLost(self, reason: Any = connectionDone) -> None:
        """Count it out."""
        if self._hurry.active():
            self._hurry.cancel()
        self._note_refused()
        self.factory.leave(self)
        super().connectionLost(reason)


class Manhole(factory.SSHFactory):
    """The factory of the manhole."""

    protocol = Transport
    noisy = False
    services = {  # noqa: RUF012  (Conch's way to declare them)
        b"ssh-userauth": Authentication,
        b"ssh-connection": Connection,
    }

    def __init__(
        self,
        perspective: Perspective,
        admission: Admission,
        host_key: Key,
        history: Path,
        reactor: Any,
    ) -> None:
        self.perspective = perspective
        self.admission = admission
        self.history = history
        self.reactor = reactor
        self.publicKeys = {host_key.sshType(): host_key.public()}
        self.privateKeys = {host_key.sshType(): host_key}
        self.primes = None
        realm: Any = Realm(lambda key: User(self, key))
        checker: Any = KeyChecker(admission)
        self.portal = Portal(realm, [checker])
        self.lines: set[Deferred[str]] = set()  # that are running
        self._connections: dict[Transport, None] = {}  # the oldest first

    def buildProtocol(self, addr: Any) -> Any:
        """Make a connection; Conch's own would note each time that it has no primes."""
        made: Any = Factory.buildProtocol(self, addr)
        keys = self.privateKeys.values()
        made.supportedPublicKeys = [
            algorithm for each in keys for algorithm in each.supportedSignatureAlgorithms()
        ]
        return made

    def admit(self, connection: Transport) -> bool:
        """Count a connection in; when there are too many, the oldest stranger has to leave."""
        if len(self._connections) >= MOST_CONNECTIONS:
            log.warn("too many connections to the manhole: one is turned away")
            stranger = next((each for each in self._connections if each.is_stranger), None)
            if stranger is None:
                return False
            self.leave(stranger)  # now: its end comes later, after others have come
            stranger.transport.abortConnection()
        self._connections[connection] = None
        return True

    def leave(self, connection: Transport) -> None:
        """Count a connection out."""
        self._connections.pop(connection, None)

    @property
    def connections(self) -> int:
        """Count those that are open."""
        return len(self._connections)

    def note_refused(self, source: str, by: str, reason: str, name: str) -> None:
        """Pass on that somebody was not let in."""
        refusals = self.perspective.desk.refusals
        if refusals is not None:
            refusals.note(source, by, reason, name)

    async def close(self) -> None:
        """End every session, and see that what was running is in the audit."""
        for each in list(self._connections):
            each.transport.abortConnection()
        waited = 0.0
        while (self._connections or self.lines) and waited < PATIENCE:
            await deferLater(self.reactor, 0.02)
            waited += 0.02


def make_manhole(
    perspective: Perspective, admission: Admission, host_key: Path, history: Path, reactor: Any
) -> Manhole:
    """
    Make the manhole's factory.

    :param host_key: the server's SSH key, as ``mdmctl init`` makes it.
    :param history: the folder for the operators' histories.
    :raises OSError: the host key can't be read.
    :raises ConchError: it is no private key.
    """
    try:
        key = Key.fromString(host_key.read_bytes())
    except OSError:
        raise
    except Exception as error:
        raise ConchError(f"{host_key}: not an SSH private key: {error}") from None
    return Manhole(perspective, admission, key, history, reactor)


registerAdapter(SSHSession, User, ISession)
