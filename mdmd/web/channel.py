"""
One HTTP/1.1 connection with limits, and the site that counts them.

Twisted reads the protocol; this module says how long, how large and how many.
There is one timer per connection and it is only looked at, not moved, by each
request:

- a new connection, and a request from its first byte on, has ``request_timeout``;
- between requests a connection may rest for ``idle_timeout``;
- while we answer there is no limit: the store has its own;
- a connection that we end has ``LINGER`` seconds to agree.
"""

from collections.abc import Callable
from enum import Enum, auto
from io import BytesIO
from itertools import count
from typing import Any

import attrs
from cryptography import x509
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocolFactory, ISSLTransport, ITCPTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer_only

from mdmd.web.respond import Clock, Delayed, plain, wide_event

log = Logger()

LINGER = 5.0  # seconds for the other side to close too, after we did
_LENGTH_DIGITS = 18  # of a Content-Length; int() of thousands of them raises


@attrs.frozen
class Limits:
    """What one client may take of us."""

    body: int = 4 << 20  # bytes
    request_timeout: float = 30.0  # seconds, first byte to last
    idle_timeout: float = 60.0  # seconds between requests
    connections: int = 20_000
    line: int = 16_384  # bytes; SCEP by GET has its message in the request line


class _Phase(Enum):
    RESTING = auto()
    READING = auto()
    ANSWERING = auto()
    CLOSING = auto()


class _OversizedError(Exception):
    """A chunked body grew beyond the limit; never leaves this module."""


class LimitedRequest(Request):
    """A request whose body is kept in memory, and never parsed as a form."""

    channel: "Channel"
    content: Any

    def __init__(self, channel: "Channel", *_: object) -> None:
        super().__init__(channel, parsePOSTFormSubmission=False)
        self._left = channel.site.limits.body

    def gotLength(self, length: int | None) -> None:
        """Begin the body; Channel has looked at the length already."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Take a part of the body."""
        self._left -= len(data)
        if self._left < 0:
            raise _OversizedError
        self.content.write(data)

    def process(self) -> None:
        """Hand over to the resource; there is only one, and it reads the path itself."""
        self.channel.site.resource.render(self)

    def peer_certificate(self) -> x509.Certificate | None:
        """Give the TLS client certificate, unchecked; None if none was shown."""
        return self.channel.peer_certificate()


class Channel(HTTPChannel):
    """One connection."""

    site: "LimitedSite"
    transport: Any
    timeOut = None  # Twisted's own timer stays off
    _phase = _Phase.RESTING
    _deadline: float | None = None  # by the site's clock
    _timer: Delayed | None = None
    _peer: x509.Certificate | None = None

    # -- life ------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Begin to count and to watch."""
        self.MAX_LENGTH = self.site.limits.line
        self.totalHeadersSize = self.MAX_LENGTH + 16_384
        self.site.channels.add(self)
        super().connectionMade()  # type: ignore[no-untyped-call]
        self._enter(_Phase.RESTING, self.site.limits.request_timeout)
        self._watch()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Stop counting; say so if it was TLS that failed."""
        self.site.channels.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if isinstance(reason.value, SSL.Error):
            log.info(
                "TLS with {peer} failed: {reason}",
                peer=self.host(),
                reason=_tls_reason(reason.value),
            )
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self._enter(_Phase.CLOSING, None)
        self.site.left(self)

    def loseConnection(self) -> None:
        """End it cleanly, or by force if the other side does not play along."""
        self._linger()
        super().loseConnection()  # type: ignore[no-untyped-call]

    def leave(self) -> None:
        """End it now, or as soon as the request being answered is done."""
        self.persistent = False
        if self._phase is not _Phase.ANSWERING:
            self.loseConnection()

    def abort(self) -> None:
        """End it by force."""
        self.transport.abortConnection()

    # -- time ------------------------------------------------------------------

    def _enter(self, phase: _Phase, seconds: float | None) -> None:
        self._phase = phase
        self._deadline = None if seconds is None else self.site.reactor.seconds() + seconds

    def _watch(self) -> None:
        # Never further ahead than the shorter limit, so no request needs another timer.
        self._timer = None
        limits, now = self.site.limits, self.site.reactor.seconds()
        ahead = min(limits.request_timeout, limits.idle_timeout)
        if self._deadline is not None:
            if self._deadline <= now:
                self._late()
            elif self._deadline - now < ahead:
                ahead = self._deadline - now
        if self._timer is None and self in self.site.channels:
            self._timer = self.site.reactor.callLater(ahead, self._watch)

    def _linger(self) -> None:
        self._enter(_Phase.CLOSING, LINGER)
        if self._timer is not None:
            self._timer.cancel()
        if self in self.site.channels:
            self._timer = self.site.reactor.callLater(LINGER, self._watch)

    def _late(self) -> None:
        if self._phase is _Phase.CLOSING:
            self._deadline = None
            self.abort()
            return
        if self._phase is _Phase.READING:
            self.site.counts.cut += 1
            log.info("cut off {peer}: its request did not end in time", peer=self.host())
        self.loseConnection()

    # -- reading ---------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Take bytes; the first of a request start its clock."""
        if self._phase is _Phase.CLOSING:
            return
        if self._phase is _Phase.RESTING:
            self._enter(_Phase.READING, self.site.limits.request_timeout)
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def lineReceived(self, line: bytes) -> None:
        """Take one line of a head, unless we have refused the request already."""
        if self._phase is not _Phase.CLOSING:
            super().lineReceived(line)  # type: ignore[no-untyped-call]

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line that no head of ours has."""
        self.refuse(400, "header too long")

    def rawDataReceived(self, data: bytes) -> None:
        """Take a part of a body."""
        if self._phase is _Phase.CLOSING:
            return
        try:
            super().rawDataReceived(data)
        except _OversizedError:
            self._oversized()

    def headerReceived(self, line: bytes) -> bool:
        """Take one header; those that say where the body ends must be beyond doubt."""
        if line[:1] not in b"cCtT":
            return bool(super().headerReceived(line))  # type: ignore[no-untyped-call]
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name == b"content-length" and len(value) > _LENGTH_DIGITS:
            self.refuse(400, "bad Content-Length")
            return False
        if name == b"transfer-encoding" and (
            value.lower() != b"chunked" or self._version != b"HTTP/1.1"
        ):
            self.refuse(400, "bad Transfer-Encoding")
            return False
        return bool(super().headerReceived(line))  # type: ignore[no-untyped-call]

    def allHeadersReceived(self) -> None:
        """Decide by the head alone, before a body is read or a 100 is sent."""
        hosts = self.requests[-1].requestHeaders.getRawHeaders(b"Host", [])
        if len(hosts) > 1 or (not hosts and self._version == b"HTTP/1.1"):
            self.refuse(400, "one Host header is needed")
        elif self.length is not None and self.length > self.site.limits.body:
            self._oversized()
        else:
            super().allHeadersReceived()  # type: ignore[no-untyped-call]

    def allContentReceived(self) -> None:
        """Answer the request; from here on the time is ours."""
        if self._phase is not _Phase.CLOSING:
            self._enter(_Phase.ANSWERING, None)
            super().allContentReceived()  # type: ignore[no-untyped-call]

    def requestDone(self, request: Request) -> None:
        """Rest, or go on with what the client sent meanwhile."""
        self._enter(_Phase.RESTING, self.site.limits.idle_timeout)
        super().requestDone(request)  # type: ignore[no-untyped-call]

    # -- refusing --------------------------------------------------------------

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(400, "bad request")

    def _oversized(self) -> None:
        self.site.oversized(self.host())
        self.refuse(400, "the body is too large")

    def refuse(self, status: int, text: str) -> None:
        """Answer a request that is not read to its end, and end the connection."""
        if self._phase is _Phase.CLOSING:
            return
        self.site.counts.bad += 1
        body, content_type = plain(text)
        self.transport.write(
            b"HTTP/1.1 %d Bad Request\r\nContent-Type: %b\r\nContent-Length: %d\r\n"
            b"Connection: close\r\n\r\n%b" % (status, content_type.encode(), len(body), body)
        )
        # The command and path are there only if the first line was.
        wide_event(
            getattr(self, "_command", b"?"),
            getattr(self, "_path", b"?").partition(b"?")[0],
            status,
            {"peer": self.host(), "reason": text},
        )
        self._hang_up()

    def _hang_up(self) -> None:
        # Closing a TCP socket that has unread bytes resets it, and the client might never see
        # our answer: so only our half is closed, and the rest is dropped for a while.
        tcp = ITCPTransport.providedBy(self.transport)
        if tcp and not ISSLTransport.providedBy(self.transport):
            self._linger()
            self._networkProducer.unregisterProducer()
            self.transport.loseWriteConnection()
        else:
            self.loseConnection()

    # -- who is there ------------------------------------------------------------

    def host(self) -> str:
        """Give the peer's address, for the log."""
        return peer_of(self.getPeer())  # type: ignore[no-untyped-call]

    def peer_certificate(self) -> x509.Certificate | None:
        """Give the TLS client certificate, unchecked; it can't change while connected."""
        if self._peer is None and ISSLTransport.providedBy(self.transport):
            connection: SSL.Connection | None = self.transport.getHandle()
            if connection is not None:
                self._peer = connection.get_peer_certificate(as_cryptography=True)
        return self._peer


@attrs.define
class Counts:
    """What happened at a site since it started, for the metrics."""

    turned_away: int = 0  # connections beyond the limit
    cut: int = 0  # requests that did not end in time
    bad: int = 0  # requests refused before they were read


@implementer_only(IProtocolFactory)  # Site would offer HTTP/2 to TLS, and its limits are others
class LimitedSite(Site):
    """
    A site of one resource.

    :param too_large: is told of an oversized body and the peer's address.
    """

    protocol = Channel  # type: ignore[assignment]
    requestFactory = LimitedRequest  # type: ignore[assignment]
    noisy = False
    reactor: Clock  # type: ignore[assignment]

    def __init__(
        self,
        resource: Resource,
        reactor: Clock,
        limits: Limits,
        too_large: Callable[[str], object] = lambda peer: None,
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            resource, reactor=reactor, parsePOSTFormSubmission=False
        )
        self.timeOut = None
        self.limits = limits
        self.oversized = too_large
        self.channels: set[Channel] = set()
        self.counts = Counts()
        self.request_numbers = count(1)
        self._told = float("-inf")
        self._empty: list[Deferred[None]] = []

    def startFactory(self) -> None:
        """Begin; Twisted's access log is not ours."""

    def stopFactory(self) -> None:
        """End, likewise."""

    def log(self, request: Request) -> None:
        """Leave it to :mod:`mdmd.web.respond`."""

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Take a connection, or None: there are too many."""
        if len(self.channels) < self.limits.connections:
            return super().buildProtocol(addr)  # type: ignore[no-untyped-call]
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


def peer_of(address: object) -> str:
    """Spell a peer's address; a unix socket's has none."""
    return str(getattr(address, "host", "unix"))


def _tls_reason(error: BaseException | None) -> str:
    """Take OpenSSL's words out of its error: a list of (library, function, reason)."""
    stack = error.args[0] if error is not None and error.args else ()
    words = [str(entry[-1]) for entry in stack if isinstance(entry, tuple) and entry]
    return ", ".join(words) or "no reason given"
