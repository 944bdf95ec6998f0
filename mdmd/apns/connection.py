"""One TLS connection to APNs: it carries a conversation's bytes and watches for silence."""

from collections.abc import Callable
from typing import Any, ClassVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mdmd.apns.conversation import Conversation
from mdmd.apns.message import Ended, Fate
from mdmd.apns.reasons import decide_goodbye
from mdmd.apns.timing import Clock, Timer, stop_timer
from mdmd.apns.tls import ALPN, explain
from mdmd.interfaces.push import Decision, Notification, PushOutcome

log = Logger()

CLOSE_TIMEOUT = 1.0  # seconds for the goodbye before the socket is cut


@attrs.frozen
class KeepAlive:
    """
    When a silent peer is asked for a sign of life, in seconds.

    A dead one is found after ``idle`` (or ``busy``) + ``answer``, and some.
    """

    BUSY: ClassVar[float] = 2.0
    ANSWER: ClassVar[float] = 4.0

    idle: float = 60.0  # of silence, with nothing to answer
    busy: float = BUSY  # of silence, with pushes unanswered
    answer: float = ANSWER  # to answer a PING, before the connection is given up

    @classmethod
    def within(cls, ping: float) -> "KeepAlive":
        """Make one of the configured time; nothing in it is longer."""
        return cls(idle=ping, busy=min(ping, cls.BUSY), answer=min(ping, cls.ANSWER))

    @property
    def tick(self) -> float:
        """Say how often to look."""
        return min(self.idle, self.busy, self.answer) / 2


@implementer(IHandshakeListener)
class Connection(Protocol):
    """
    The protocol on a TLS transport to APNs.

    :ivar ready: fires with None when HTTP/2 is up, or fails if it never comes up.
    :ivar closed: fires with None when the transport is gone.
    :param ended: called with each notification that ended.
    :param changed: called when room may have appeared, or the connection began to end.
    """

    transport: Any  # a TLSMemoryBIOProtocol

    def __init__(
        self,
        clock: Clock,
        host: str,
        conversation: Conversation,
        keep_alive: KeepAlive,
        ended: Callable[["Connection", Ended], None],
        changed: Callable[["Connection"], None],
    ) -> None:
        self.ready: Deferred[None] = Deferred()
        self.closed: Deferred[None] = Deferred()
        self._clock = clock
        self._host = host
        self._conversation = conversation
        self._keep_alive = keep_alive
        self._ended = ended
        self._changed = changed
        self._timer: Timer | None = None
        self._heard = self._pinged = 0.0
        self._why: PushOutcome | None = None  # our own reason to give up
        self.opened_at = 0.0
        self.answered = 0  # notifications that APNs has answered
        self.trouble = PushOutcome(Decision.RETRY)  # what ended it, once it is ended
        self.retired = False  # it was told to drain
        self._flushing = False

    # -- for the line ---------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Say whether it takes notifications."""
        return self._conversation.ready and not self._conversation.draining and not self._why

    @property
    def held(self) -> int:
        """Count the notifications it has taken that have not ended."""
        return self._conversation.held

    @property
    def room(self) -> int:
        """Count the notifications that it could send at once."""
        return 0 if self._why else self._conversation.room

    def send(self, notification: Notification) -> int:
        """Take a notification; return its ticket. Only when :attr:`usable`."""
        ticket = self._conversation.send(notification)
        self._flush_soon()
        return ticket

    def cancel(self, ticket: int) -> None:
        """Forget a notification; it is not reported any more."""
        self._conversation.cancel(ticket)
        self._flush_soon()
        self._close_when_done()

    def drain(self) -> None:
        """Take nothing new, give back what has not left, close after the last answer."""
        self.retired = True
        self._report(self._conversation.drain())
        self._close_when_done()

    def close(self) -> None:
        """End now; what is unanswered is reported."""
        self._report(self._conversation.close())
        self._flush()
        self._hang_up()

    def abort(self, reason: str) -> None:
        """Cut the connection."""
        self._why = PushOutcome(Decision.RETRY, reason=reason)
        if self.transport is not None:
            self.transport.abortConnection()

    # -- Twisted calls ----------------------------------------------------------

    def connectionMade(self) -> None:
        """Begin; the TLS handshake is still to come."""
        self.transport.setTcpNoDelay(True)
        self._flush()

    def handshakeCompleted(self) -> None:
        """Check that the peer speaks HTTP/2."""
        if self.transport.negotiatedProtocol != ALPN:
            self._give_up(f"{self._host} does not speak HTTP/2")

    def dataReceived(self, data: bytes) -> None:
        """Hear the peer."""
        self._heard = self._clock.seconds()
        self._report(self._conversation.receive(data))
        self._flush()
        if self._conversation.over:
            self._hang_up()
        elif self._conversation.ready and not self.ready.called:
            self.opened_at = self._heard
            self._watch()
            self.ready.callback(None)
        self._close_when_done()
        self._changed(self)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Report everything that is still open."""
        stop_timer(self._timer)
        self.trouble = self._why or self._explain(reason)
        self._report(self._conversation.lost(self.trouble.reason))
        if not self.ready.called:
            self.ready.errback(NotConnected(self.trouble))
        self.closed.callback(None)
        self._changed(self)

    # -- inside -------------------------------------------------------------------

    def _explain(self, failure: Failure | None) -> PushOutcome:
        goodbye = self._conversation.goodbye
        if goodbye and goodbye != "NO_ERROR":
            return PushOutcome(decide_goodbye(goodbye), reason=f"APNs said goodbye: {goodbye}")
        error = None if failure is None else failure.value
        return explain(error or ConnectionDone(), self._host)

    def _give_up(self, reason: str) -> None:
        self._why = PushOutcome(Decision.ALARM, reason=reason)
        self.transport.abortConnection()

    def _hang_up(self) -> None:
        if self.transport is not None and not self.closed.called:
            # A peer that does not answer the TLS goodbye would keep us waiting for ever.
            self._schedule(CLOSE_TIMEOUT, self.transport.abortConnection)
            self.transport.loseConnection()

    def _flush(self) -> None:
        self._flushing = False
        data = self._conversation.data_to_send()
        if data and self.transport is not None:
            self.transport.write(data)

    def _flush_soon(self) -> None:
        """Write once for all that is sent in this turn: a TLS record a push costs more than h2."""
        if not self._flushing:
            self._flushing = True
            self._clock.callLater(0, self._flush)

    def _report(self, ended: list[Ended]) -> None:
        for each in ended:
            self.answered += each.fate is Fate.ANSWERED
            self._ended(self, each)

    def _close_when_done(self) -> None:
        conversation = self._conversation
        if conversation.draining and not conversation.over and not conversation.held:
            self.close()

    def _schedule(self, delay: float, act: Callable[[], object]) -> None:
        stop_timer(self._timer)
        self._timer = self._clock.callLater(delay, act)

    def _watch(self) -> None:
        """Ask a silent peer for a sign of life; give up one that stays silent."""
        now, limits = self._clock.seconds(), self._keep_alive
        if self._pinged > self._heard:
            if now - self._pinged >= limits.answer:
                log.warn("APNs does not answer a PING, the connection is given up")
                self.abort("APNs did not answer a PING")
                return
        elif now - self._heard >= (limits.busy if self._conversation.in_flight else limits.idle):
            self._pinged = now
            self._conversation.ping()
            self._flush()
        self._schedule(limits.tick, self._watch)


class NotConnected(Exception):
    """There is no connection to APNs; ``outcome`` says why, as a push's outcome."""

    def __init__(self, outcome: PushOutcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome
