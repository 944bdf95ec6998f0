"""
The push service: a line of connections for each topic, with its certificate of today.

Certificates are kept in the store. Before a push is sent, at most once a
second, the versions there are compared with those in use: a renewed
certificate is used by the next push of every daemon.
"""

import random
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mdmd.apns.connection import KeepAlive
from mdmd.apns.dial import Dialer
from mdmd.apns.line import Dial, Line
from mdmd.apns.message import unsendable
from mdmd.apns.status import LineStatus
from mdmd.apns.timing import Clock, Jitter, Timer, Wall, stop_timer
from mdmd.errors import BadCertificate, StoreCorrupt, StoreUnavailable
from mdmd.interfaces.push import Decision, IPushCertificates, Notification, PushOutcome
from mdmd.pki.pushcert import read_push_certificate

log = Logger()

CHECK_EVERY = 1.0  # seconds between two looks at the certificates' versions
TICK = 0.5  # seconds
_MOST_UNUSABLE = 100  # topics without a usable certificate that are told apart
STOP_PATIENCE = 5.0  # seconds that stop() waits for answers

_STOPPING = PushOutcome(Decision.RETRY, reason="the daemon is stopping")
_UNREAD = PushOutcome(Decision.RETRY, reason="the push certificate was not read")


@attrs.frozen
class Settings:
    """How to reach APNs; the section ``[apns]`` of the configuration."""

    host: str = "api.push.apple.com"
    port: int = 443
    trust: bytes | None = None  # PEM of the roots to trust instead of the system's
    expiration: float = 7 * 86400.0  # seconds that APNs keeps a push; 0: deliver now or drop
    ping: float = 60.0  # seconds of silence after which an idle connection is tested
    connect_timeout: float = 10.0  # seconds, TLS and HTTP/2 included
    proxy: str | None = attrs.field(default=None, repr=False)

    @property
    def authority(self) -> str:
        """Say what APNs is called in requests."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"


class PushService:
    """
    Send notifications to APNs (:class:`~mdmd.interfaces.push.IPushService`).

    :param alarmed: called with topic and reason when APNs or TLS begins to
        refuse all pushes of a topic, with an empty reason when that is over.
    :param dial: brings a connection up; tests give their own.
    :param wall: seconds since the epoch, as Apple's are.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        certificates: IPushCertificates,
        alarmed: Callable[[str, str], None] = lambda topic, reason: None,
        jitter: Jitter = random.random,
        dial: Dial | None = None,
        *,
        wall: Wall,
    ) -> None:
        self._clock: Clock = reactor
        self._wall = wall
        self._settings = settings
        self._certificates = certificates
        self._alarmed = alarmed
        self._jitter = jitter
        self._dial = dial or Dialer(
            reactor,
            settings.host,
            settings.port,
            settings.trust,
            settings.connect_timeout,
            settings.proxy,
        )
        self._lines: dict[str, Line] = {}
        # By topic, who waits for the line that is being made.
        self._making: dict[str, list[Deferred[Line | PushOutcome]]] = {}
        self._unusable: dict[str, str] = {}  # why there is no line, by topic
        self._refused: dict[str, int] = {}  # versions that can't be used, by topic
        self._versions: Mapping[str, tuple[int, int]] = {}
        self._checked_at = float("-inf")
        self._checking: list[Deferred[None]] | None = None  # who waits for the look in progress
        self._timer: Timer | None = None
        self._stopping = False

    async def start(self) -> None:
        """Begin to keep time. Connections are made when they are needed."""
        self._stopping = False
        self._tick()

    async def stop(self) -> None:
        """Settle what is in flight, for at most a few seconds, and close."""
        self._stopping = True
        stop_timer(self._timer)
        stopping = [
            Deferred.fromCoroutine(line.stop(STOP_PATIENCE)) for line in self._lines.values()
        ]
        for each in stopping:
            await each
        self._lines.clear()

    async def push(self, notification: Notification) -> PushOutcome:
        """Send one notification; what APNs or the network does is the outcome."""
        why = unsendable(notification)
        if why:
            return PushOutcome(Decision.GIVE_UP, reason=why)
        if self._clock.seconds() - self._checked_at >= CHECK_EVERY:
            await self._check()
        line = self._lines.get(notification.topic) or await self._shared_line(notification.topic)
        if isinstance(line, PushOutcome):
            return line
        return await line.push(self._with_expiration(notification))

    def status(self) -> list[LineStatus]:
        """Say how each topic's line is, by topic."""
        return [line.status() for _, line in sorted(self._lines.items())]

    def __repr__(self) -> str:
        lines = self.status()
        words = [
            f"{sum(each.connections for each in lines)} connections",
            f"{sum(each.in_flight for each in lines)} in flight",
            f"{sum(each.waiting for each in lines)} waiting",
        ]
        topics = ", ".join(each.topic for each in lines) or "nothing was pushed yet"
        return f"<pushes of {topics}: {', '.join(words)}>"

    # -- inside -------------------------------------------------------------------

    def _with_expiration(self, notification: Notification) -> Notification:
        if notification.expiration or not self._settings.expiration:
            return notification
        expiration = int(self._wall() + self._settings.expiration)
        return Notification(
            notification.topic, notification.token, notification.push_magic, expiration
        )

    async def _shared_line(self, topic: str) -> Line | PushOutcome:
        """Make a topic's line, once for all who ask meanwhile: to read an RSA key takes long."""
        if (waiting := self._making.get(topic)) is not None:
            done: Deferred[Line | PushOutcome] = Deferred()
            waiting.append(done)
            return await done
        waiting = self._making[topic] = []
        made: Line | PushOutcome = _UNREAD
        try:
            made = await self._new_line(topic)
        finally:
            del self._making[topic]
            for each in waiting:
                each.callback(made)
        return made

    async def _new_line(self, topic: str) -> Line | PushOutcome:
        if topic not in self._versions:
            return self._complain(topic, f"no push certificate for {topic} is installed")
        line = Line(
            topic,
            self._settings.authority,
            self._clock,
            self._dial,
            KeepAlive.within(self._settings.ping),
            self._settings.connect_timeout,
            self._jitter,
            self._alarmed,
            self._wall,
        )
        try:
            await self._equip(line)
        except StoreUnavailable as error:
            return PushOutcome(Decision.RETRY, reason=f"no push certificate yet: {error}")
        except (StoreCorrupt, BadCertificate) as error:
            return self._complain(topic, f"the push certificate of {topic} is of no use: {error}")
        if self._unusable.pop(topic, None):
            self._alarmed(topic, "")
        if self._stopping:
            return _STOPPING
        self._lines[topic] = line
        return line

    def _complain(self, topic: str, reason: str) -> PushOutcome:
        """Say once what somebody has to mend."""
        if self._unusable.get(topic) != reason:
            if len(self._unusable) >= _MOST_UNUSABLE:  # topics are what devices said
                self._unusable.clear()
            self._unusable[topic] = reason
            log.error("{reason}", reason=reason, topic=topic)
            self._alarmed(topic, reason)
        return PushOutcome(Decision.ALARM, reason=reason)

    async def _equip(self, line: Line) -> None:
        """Give a line the certificate of the store."""
        found = await self._certificates.get(line.topic)
        if found is None:
            raise BadCertificate("it is gone")
        version, certificate, key = found
        line.use(version, read_push_certificate(certificate, key))

    async def _check(self) -> None:
        """Look at the versions, once for all who ask meanwhile."""
        if self._checking is not None:
            done: Deferred[None] = Deferred()
            self._checking.append(done)
            await done
            return
        self._checking = []
        try:
            await self._compare()
        finally:
            # Also after a failure: a store that is away must not slow each push down.
            self._checked_at = self._clock.seconds()
            waiting, self._checking = self._checking, None
            for each in waiting:
                each.callback(None)

    async def _compare(self) -> None:
        try:
            self._versions = await self._certificates.versions()
        except StoreUnavailable as error:
            log.warn("push certificates can't be compared: {reason}", reason=str(error))
            return
        for topic, line in list(self._lines.items()):
            version, _ = self._versions.get(topic, (line.version, 0))
            if version in (line.version, self._refused.get(topic)):
                continue
            try:
                await self._equip(line)
                log.info(
                    "push certificate {version} of {topic} is used", version=version, topic=topic
                )
            except StoreUnavailable as error:
                log.warn("push certificates can't be read: {reason}", reason=str(error))
            except (StoreCorrupt, BadCertificate) as error:
                self._refused[topic] = version
                log.error(
                    "push certificate {version} of {topic} can't be used: {reason}",
                    version=version,
                    topic=topic,
                    reason=str(error),
                )

    def _tick(self) -> None:
        try:
            for line in list(self._lines.values()):
                line.tick()
        except Exception:
            log.failure("a push line's timer failed")
        self._timer = self._clock.callLater(TICK, self._tick)
