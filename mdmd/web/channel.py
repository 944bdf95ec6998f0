"""
One HTTP/1.1 connection with limits; :mod:`mdmd.web.limited` is the site that counts them.

:mod:`mdmd.web.http1` reads the requests; this module says how long, how large and
how many. There is one timer per connection and it is only looked at, not moved,
by each request:

- a new connection, and a request from its first byte on, has ``request_timeout``;
- between requests a connection may rest for ``idle_timeout``;
- while we answer there is no limit: the store has its own;
- a connection that we end has ``LINGER`` seconds to agree.

Requests are answered one after the other, and only while the client takes the
answers; what it sends meanwhile is not read beyond ``AHEAD`` bytes.
"""

from collections.abc import Sequence
from enum import Enum, auto
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import attrs
from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, dump_certificate
from twisted.internet.interfaces import IAddress, IPushProducer, ISSLTransport, ITCPTransport
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import RESPONSES
from zope.interface import implementer

from mdmd.web.http1 import MAX_LINE, Head, MalformedError, OversizedError, Reader
from mdmd.web.request import LimitedRequest, Pieces
from mdmd.web.respond import Delayed, wide_event

if TYPE_CHECKING:
    from mdmd.web.limited import LimitedSite

log = Logger()

LINGER = 5.0  # seconds for the other side to close too, after we did
RESTING_LINGER = 0.5  # the same for a connection that has nothing to read from us
LEAVING = 2.0  # seconds for a request that is on its way when we end
AHEAD = 65536  # bytes that a client may send before it has its answer


@attrs.frozen
class Limits:
    """What one client may take of us."""

    body: int = 4 << 20  # bytes
    request_timeout: float = 30.0  # seconds, first byte to last
    idle_timeout: float = 60.0  # seconds between requests
    connections: int = 20_000
    report: int = 0  # bytes of a body from a client whose certificate is known; 0: no more
    line: int = MAX_LINE  # bytes of the request line


class _Phase(Enum):
    RESTING = auto()
    READING = auto()
    ANSWERING = auto()
    CLOSING = auto()


@implementer(IPushProducer)
class Channel(TwistedProtocol):
    """One connection."""

    transport: Any

    def __init__(self, site: "LimitedSite", peer: IAddress | None) -> None:
        self.site = site
        self.peer: Any = peer
        self.persistent = True
        self._reader = Reader(site.limits.body, site.limits.line, self._larger)
        self._phase = _Phase.RESTING
        self._deadline: float | None = None  # by the site's clock
        self._timer: Delayed | None = None
        self._certificate: bytes | None = None
        self._request: LimitedRequest | None = None  # that is being answered
        self._pieces: Pieces | None = None  # of a large answer, as far as they are not written
        self._choked = False  # the client does not take our answers
        self._ahead = False  # it has sent too much, and is not read
        self._reading = False
        self._fresh = True  # nothing was answered yet

    # -- life ------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Begin to count and to watch."""
        self.site.came(self)
        self.transport.registerProducer(self, True)
        self._enter(_Phase.RESTING, self.site.limits.request_timeout)
        self._watch()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Stop counting; say so if it was TLS that failed."""
        self.site.channels.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if isinstance(reason.value, SSL.Error):
            self.site.counts.tls_failed += 1
            log.info(
                "TLS with {peer} failed: {reason}",
                peer=self.host(),
                reason=_tls_reason(reason.value),
            )
        if self._request is not None:
            self._request.channel = None
        if self._pieces is not None:
            self._pieces.close()
            self._pieces = None
        self._enter(_Phase.CLOSING, None)
        self._reader.close()
        self.site.left(self)

    def loseConnection(self, linger: float = LINGER) -> None:
        """End it cleanly, or by force if the other side does not play along in time."""
        self._linger(linger)
        # A transport with a producer waits for more to send.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def leave(self) -> None:
        """
        End it now, or as soon as the request being answered, or on its way, is done.

        Whoever has only just connected is about to ask something, and would not know why
        nobody answers.
        """
        self.persistent = False
        if self._phase is _Phase.READING or (self._fresh and self._phase is _Phase.RESTING):
            self._arm(self._phase, LEAVING)
        elif self._phase is _Phase.RESTING:
            # Many clients don't look at a connection that rests: nobody is to wait for them.
            self.loseConnection(RESTING_LINGER)

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

    def _linger(self, seconds: float) -> None:
        self._arm(_Phase.CLOSING, seconds)

    def _arm(self, phase: _Phase, seconds: float) -> None:
        """Enter a phase whose end is nearer than what is watched for."""
        self._enter(phase, seconds)
        if self._timer is not None:
            self._timer.cancel()
        if self in self.site.channels:
            self._timer = self.site.reactor.callLater(seconds, self._watch)

    def _late(self) -> None:
        if self._phase is _Phase.CLOSING:
            self._deadline = None
            self.abort()
            return
        if self._phase is _Phase.READING:
            self.site.counts.cut += 1
            log.info("cut off {peer}: its request did not end in time", peer=self.host())
        self.loseConnection(LINGER if self.persistent else RESTING_LINGER)

    # -- reading ---------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Take bytes; the first of a request start its clock."""
        if self._phase is _Phase.CLOSING:
            return
        if self._phase is _Phase.RESTING:
            left = self.site.limits.request_timeout if self.persistent else LEAVING
            self._enter(_Phase.READING, left)
        self._reader.feed(data)
        if self._phase is _Phase.READING and not self._choked:
            self._read()
        elif self._reader.pending > AHEAD and not self._ahead:
            self._ahead = True
            self.transport.pauseProducing()

    def _read(self) -> None:
        """Answer what is there, one request after the other."""
        if self._reading:  # an answer that was ready at once comes back here
            return
        self._reading = True
        try:
            while self._phase is _Phase.READING and not self._choked:
                request = self._next()
                if request is None:
                    break
                self._enter(_Phase.ANSWERING, None)
                self._request = request
                self.site.resource.render(request)
        except MalformedError as error:
            self.refuse(str(error))
        except OversizedError:
            self.site.oversized(self.host())
            self.refuse("the body is too large")
        finally:
            self._reading = False

    def _next(self) -> LimitedRequest | None:
        reader = self._reader
        head = reader.head
        if head is None:
            head = reader.read_head()
            if head is None:
                return None
            if head.waits and not reader.pending:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = reader.read_body()
        if body is None:
            return None
        self.persistent = self.persistent and head.persistent
        return LimitedRequest(self, head, body)

    # -- the client takes our answers, or does not ----------------------------------

    def pauseProducing(self) -> None:
        """Begin nothing new: what we wrote is not taken."""
        self._choked = True

    def resumeProducing(self) -> None:
        """Go on."""
        self._choked = False
        if self._pieces is not None:
            self._pour()
        if self._phase is _Phase.READING:
            self._read()

    def stopProducing(self) -> None:
        """Note that the transport is gone; connectionLost says the rest."""
        self._choked = True

    # -- answering -------------------------------------------------------------

    def reply(
        self,
        request: LimitedRequest,
        status: int,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
    ) -> None:
        """Write an answer in one piece, then rest, or go on with what came meanwhile."""
        lines = self._head(status, headers, len(body))
        if request.method != b"HEAD":
            lines.append(body)
        self.transport.write(b"".join(lines))
        self._answered()

    def stream(
        self,
        request: LimitedRequest,
        status: int,
        headers: Sequence[tuple[bytes, bytes]],
        size: int,
        pieces: Pieces,
    ) -> None:
        """Write an answer piece by piece, as fast as the client takes it."""
        self.transport.write(b"".join(self._head(status, headers, size)))
        if request.method == b"HEAD":
            pieces.close()
            self._answered()
        else:
            self._pieces = pieces
            self._pour()

    def _pour(self) -> None:
        while self._pieces is not None and not self._choked:
            try:
                piece = next(self._pieces, None)
            except OSError as error:
                log.error("an answer broke off: {reason}", reason=str(error))
                self.abort()
                return
            if piece is None:
                self._pieces = None
                self._answered()
                return
            # One that takes nothing any more is late.
            self._enter(_Phase.ANSWERING, self.site.limits.request_timeout)
            self.transport.write(piece)

    def _head(self, status: int, headers: Sequence[tuple[bytes, bytes]], size: int) -> list[bytes]:
        lines = [_status_line(status), *(_header(*header) for header in headers)]
        lines.append(b"Content-Length: %d\r\n" % size)
        lines.append(b"\r\n" if self.persistent else b"Connection: close\r\n\r\n")
        return lines

    def _answered(self) -> None:
        """End a request: rest, or go on with what came meanwhile."""
        self._request, self._fresh = None, False
        if not self.persistent:
            self.loseConnection()
            return
        if self._reader.pending:
            self._enter(_Phase.READING, self.site.limits.request_timeout)
        else:
            self._enter(_Phase.RESTING, self.site.limits.idle_timeout)
        if self._ahead:
            self._ahead = False
            self.transport.resumeProducing()
        if self._reader.pending:
            self._read()

    # -- refusing --------------------------------------------------------------

    def refuse(self, text: str) -> None:
        """Answer a request that is not read to its end, and end the connection."""
        if self._phase is _Phase.CLOSING:
            return
        self.site.counts.bad += 1
        head = self._reader.head
        path = b"" if head is None else head.target.partition(b"?")[0]
        status, body, content_type = self.site.unread(text, path)
        self.transport.write(
            b"%bContent-Type: %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (_status_line(status), content_type.encode(), len(body), body)
        )
        wide_event(
            b"?" if head is None else head.method,
            path or b"?",
            status,
            {"peer": self.host(), "reason": text},
        )
        self._hang_up()

    def _hang_up(self) -> None:
        # Closing a TCP socket that has unread bytes resets it, and the client might never see
        # our answer: so only our half is closed, and the rest is dropped for a while.
        tcp = ITCPTransport.providedBy(self.transport)
        if tcp and not ISSLTransport.providedBy(self.transport):
            self._linger(LINGER)
            self.transport.unregisterProducer()
            self.transport.loseWriteConnection()
        else:
            self.loseConnection()

    def _larger(self, head: Head) -> int:
        """Say how large a body may be from whoever it is, by the certificate shown."""
        report = self.site.limits.report
        return report if report and self.site.knows(LimitedRequest(self, head, b"")) else 0

    # -- who is there ------------------------------------------------------------

    def host(self) -> str:
        """Give the peer's address, for the log."""
        return peer_of(self.peer)

    def peer_certificate(self) -> bytes | None:
        """Give the TLS client certificate, DER, unchecked; it can't change while connected."""
        if self._certificate is None and ISSLTransport.providedBy(self.transport):
            connection: SSL.Connection | None = self.transport.getHandle()
            shown = None if connection is None else connection.get_peer_certificate()
            if shown is not None:
                self._certificate = dump_certificate(FILETYPE_ASN1, shown)
        return self._certificate


def peer_of(address: object) -> str:
    """Spell a peer's address; a unix socket's has none."""
    return str(getattr(address, "host", "unix"))


@lru_cache(maxsize=1000)
def _header(name: bytes, value: bytes) -> bytes:
    # What comes from elsewhere, such as Apple's content type, must not begin a line of its own.
    return b"%b: %b\r\n" % (name, b" ".join(value.splitlines()))


@lru_cache(maxsize=100)
def _status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (status, RESPONSES.get(status, b"-"))


def _tls_reason(error: BaseException | None) -> str:
    """Take OpenSSL's words out of its error: a list of (library, function, reason)."""
    stack = error.args[0] if error is not None and error.args else ()
    words = [str(entry[-1]) for entry in stack if isinstance(entry, tuple) and entry]
    return ", ".join(words) or "no reason given"
