"""A site of one resource: it counts its connections, and ends them gently."""

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from mdmd.web.channel import Channel, Limits
from mdmd.web.request import LimitedRequest, Renders
from mdmd.web.respond import Clock, plain

log = Logger()


@attrs.define
class Counts:
    """What happened at a site since it started, for the metrics."""

    opened: int = 0  # connections; each is a TLS handshake, where there is TLS
    tls_failed: int = 0  # handshakes that failed, and TLS that broke later
    turned_away: int = 0  # connections beyond the limit
    cut: int = 0  # requests that did not end in time
    bad: int = 0  # requests refused before they were read


def _unread(text: str, path: bytes) -> tuple[int, bytes, str]:
    return 400, *plain(text)


class LimitedSite(Factory):
    """
    A site of one resource.

    :param too_large: is told of an oversized body and the peer's address.
    :param unread: of what is refused unread, the reason and the path, if it was read, to
        status, body and content type.
    :param knows: says of a request whose body is still to come whether a certificate of
        ours comes with it; its holder may send larger bodies.
    """

    noisy = False

    def __init__(
        self,
        resource: Renders,
        reactor: Clock,
        limits: Limits,
        too_large: Callable[[str], object] = lambda peer: None,
        knows: Callable[[LimitedRequest], bool] = lambda request: False,
        unread: Callable[[str, bytes], tuple[int, bytes, str]] = _unread,
    ) -> None:
        self.resource = resource
        self.reactor = reactor
        self.limits = limits
        self.oversized = too_large
        self.knows = knows
        self.unread = unread
        self.channels: set[Channel] = set()
        self.most = 0  # connections at a time, since whoever looks at it set it back
        self.counts = Counts()
        self._told = float("-inf")
        self._empty: list[Deferred[None]] = []

    def buildProtocol(self, addr: IAddress | None) -> Channel | None:
        """Take a connection, or None: there are too many."""
        if len(self.channels) < self.limits.connections:
            return Channel(self, addr)
        self.counts.turned_away += 1
        now = self.reactor.seconds()
        if now - self._told >= 1:
            self._told = now
            log.warn(
                "too many connections: {limit} are open, {turned_away} turned away so far",
                limit=self.limits.connections,
                turned_away=self.counts.turned_away,
            )
        return None

    def turn_away(self, count: int) -> None:
        """Count those that the port did not even let in."""
        self.counts.turned_away += count

    def came(self, channel: Channel) -> None:
        """Count a connection."""
        self.channels.add(channel)
        self.counts.opened += 1
        self.most = max(self.most, len(self.channels))

    def left(self, channel: Channel) -> None:
        """Note that a connection is gone."""
        if not self.channels:
            waiting, self._empty = self._empty, []
            for each in waiting:
                each.callback(None)

    async def drain(self, seconds: float) -> None:
        """
        End all connections, those being answered after their answer; once the port is closed.

        Returns when none is left, or when ``seconds`` have passed and the rest was ended by force.
        """
        for channel in list(self.channels):
            channel.leave()
        if not self.channels:
            return
        empty: Deferred[None] = Deferred()
        self._empty.append(empty)
        late = self.reactor.callLater(seconds, self._abort_all)
        await empty
        if late.active():
            late.cancel()

    def _abort_all(self) -> None:
        for channel in list(self.channels):
            channel.abort()
