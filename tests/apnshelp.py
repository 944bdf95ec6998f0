"""APNs in memory: connections whose other side is h2, and certificates without a store."""

from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from mdmd.apns.client import PushService, Settings
from mdmd.apns.connection import Connection, NotConnected
from mdmd.errors import StoreUnavailable
from mdmd.interfaces.push import Decision, PushOutcome
from mdmd.pki.pushcert import PushCertificate, read_push_certificate
from tests.certhelp import push_pair
from tests.test_conversation import TOPIC, Peer

T = TypeVar("T")


class Certificates:
    """IPushCertificates without a store behind it: the store is not what is tested here."""

    def __init__(self, *topics: str) -> None:
        self.held: dict[str, tuple[int, bytes, bytes, int]] = {}
        self.looks = self.reads = 0
        self.away = False
        self.slow: Deferred[None] | None = None  # what a read waits for
        for topic in topics:
            self.renew(topic)

    def renew(self, topic: str) -> None:
        """Install a new certificate."""
        pair = read_push_certificate(push_pair(topic)[1])
        version = self.held[topic][0] + 1 if topic in self.held else 1
        self.held[topic] = (version, pair.certificate_pem, pair.key_pem, pair.not_after)

    def _ask(self) -> None:
        if self.away:
            raise StoreUnavailable("the store is away")

    async def get(self, topic: str) -> tuple[int, bytes, bytes] | None:
        self._ask()
        self.reads += 1
        if self.slow is not None:
            await self.slow
        return self.held[topic][:3] if topic in self.held else None

    async def versions(self) -> Mapping[str, tuple[int, int]]:
        self.looks += 1
        self._ask()
        return {topic: (each[0], each[3]) for topic, each in self.held.items()}


class Link:
    """One connection: a transport for our side, h2 on the other."""

    negotiatedProtocol = b"h2"

    def __init__(self, connection: Connection, version: PushCertificate, peer: Peer) -> None:
        self.connection = connection
        self.certificate = version
        self.peer = peer
        self.out = b""
        self.ended = False
        self.silent = False  # the peer neither hears nor says anything
        connection.makeConnection(self)  # type: ignore[arg-type]
        connection.handshakeCompleted()

    def setTcpNoDelay(self, enabled: bool) -> None:
        assert enabled

    def write(self, data: bytes) -> None:
        self.out += data

    def abortConnection(self) -> None:
        self.cut(ConnectionLost())

    def loseConnection(self) -> None:
        self.peer.receive(self.out)
        self.cut(ConnectionDone())

    def cut(self, why: Exception) -> None:
        """Lose the connection, from either side."""
        if not self.ended:
            self.ended = True
            self.connection.connectionLost(Failure(why))

    def carry(self) -> bool:
        """Carry bytes both ways once; True if there were any."""
        if self.ended or self.silent:
            return False
        out, self.out = self.out, b""
        if out:
            self.peer.receive(out)
        back = self.peer.take()
        if back:
            self.connection.dataReceived(back)
        return bool(out or back)


class Apns:
    """A push service on a Clock, and everything it connects to."""

    def __init__(self, *topics: str, **limits: int) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.certificates = Certificates(*(topics or (TOPIC,)))
        self.limits = limits
        self.links: list[Link] = []
        self.dials = 0
        self.refuse: PushOutcome | None = None  # what connecting comes to
        self.hang = False  # connecting comes to nothing at all
        self.alarms: list[tuple[str, str]] = []
        self.service = PushService(
            self.clock,
            Settings(),
            self.certificates,  # type: ignore[arg-type]
            alarmed=lambda topic, reason: self.alarms.append((topic, reason)),
            jitter=lambda: 0.5,
            dial=self._dial,
            wall=self.clock.seconds,
        )
        told(self.service.start())

    async def _dial(self, certificate: PushCertificate, connection: Connection) -> None:
        self.dials += 1
        if self.hang:
            await Deferred()
        if self.refuse is not None:
            raise NotConnected(self.refuse)
        self.links.append(Link(connection, certificate, Peer(**self.limits)))
        await connection.ready

    @property
    def link(self) -> Link:
        """The newest connection."""
        return self.links[-1]

    def carry(self) -> None:
        """Let everything that takes no time happen."""
        moving = True
        while moving:
            self.clock.advance(0)
            moving = any([link.carry() for link in self.links])

    def pass_time(self, seconds: float, step: float = 0.25) -> None:
        """Let time pass, traffic and all."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            self.carry()

    def push(self, *notifications: Any) -> list[Deferred[PushOutcome]]:
        """Begin pushes, up to the point where the peer has to answer."""
        begun = [Deferred.fromCoroutine(self.service.push(each)) for each in notifications]
        self.carry()
        return begun

    def answer_all(self, status: int = 200, body: bytes = b"") -> None:
        """Answer whatever is open, on all connections, until nothing is."""
        while True:
            self.carry()
            busy = [link for link in self.links if link.peer.open and not link.ended]
            if not busy:
                return
            for link in busy:
                for stream_id in list(link.peer.open):
                    link.peer.answer(stream_id, status, body)


def told(story: Coroutine[Deferred[Any], Any, T]) -> T:
    """Run a coroutine that waits for nothing."""
    result: list[T] = []
    failed: list[Failure] = []
    Deferred.fromCoroutine(story).addCallbacks(result.append, failed.append)
    if failed:
        failed[0].raiseException()
    return result[0]


def refused(reason: str, decision: Decision = Decision.RETRY) -> PushOutcome:
    """Say why there is no connection."""
    return PushOutcome(decision, reason=reason)
