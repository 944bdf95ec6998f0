"""
The line of one topic: its connections, what waits for them, and when to try again.

One connection, more only when its streams have run out for a while. What is
known of a notification when its connection fails decides what comes next:

===============  ==========================================================
UNSENT           sent on the next connection
NOT_PROCESSED    sent again, up to ``RESENDS`` times
UNKNOWN          sent again once, and marked as perhaps sent twice
===============  ==========================================================

While an alarm of the topic is on, the :class:`~mdmd.apns.gate.Gate` answers instead.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger
from twisted.python.failure import Failure

from mdmd.apns.connection import Connection, KeepAlive, NotConnected
from mdmd.apns.conversation import Conversation
from mdmd.apns.gate import Gate
from mdmd.apns.message import Ended, Fate
from mdmd.apns.reasons import CLOSES_CONNECTION, decide
from mdmd.apns.status import LineStatus
from mdmd.apns.timing import Clock, Jitter, Wall, spread, step
from mdmd.interfaces.push import Decision, Notification, PushOutcome
from mdmd.pki.pushcert import PushCertificate

log = Logger()

MOST_WAITING = 10_000  # notifications of one topic; more are turned away
MOST_CONNECTIONS = 4  # of one topic
PATIENCE = 3.0  # seconds that a push waits while there is no connection
DEADLINE = 15.0  # seconds that a push may take, whatever happens
GROW_AFTER = 1.0  # seconds without a free stream before another connection is made
SHRINK_AFTER = 300.0  # seconds that more than one connection is kept without need
RESENDS = 3
CONNECT_DELAYS = (0.5, 1.0, 2.0, 5.0, 15.0, 30.0, 60.0)  # seconds, after failures in a row

Dial = Callable[[PushCertificate, Connection], Awaitable[None]]


@attrs.define(eq=False)
class _Push:
    notification: Notification
    done: Deferred[PushOutcome]
    since: float
    due: int  # the second in which its time is up
    place: tuple[Connection, int] | None = None  # connection and ticket
    resent: int = 0
    maybe_twice: bool = False


class Line:
    """
    Pushes of one topic.

    :param authority: what APNs is called in requests.
    :param dial: brings a connection up, or raises NotConnected.
    :param alarmed: called with topic and reason when an alarm begins, without when it is over.
    """

    def __init__(
        self,
        topic: str,
        authority: str,
        clock: Clock,
        dial: Dial,
        keep_alive: KeepAlive,
        connect_timeout: float,
        jitter: Jitter,
        alarmed: Callable[[str, str], None],
        wall: Wall,
    ) -> None:
        self.topic = topic
        self._authority = authority
        self._clock, self._wall = clock, wall
        self._dial = dial
        self._keep_alive, self._connect_timeout = keep_alive, connect_timeout
        self._jitter = jitter
        self._gate = Gate(topic, DEADLINE, jitter, alarmed)
        self._certificate: PushCertificate | None = None
        self.version = 0
        self._queue: deque[_Push] = deque()  # may hold some that are over
        self._waiting = 0  # those that are not
        self._by_second: dict[int, set[_Push]] = {}
        self._sent: dict[Connection, dict[int, _Push]] = {}
        self._dialing: Deferred[None] | None = None
        self._failures = 0  # connections in a row that came to nothing
        self._try_at = 0.0
        self._full_since = self._needed_at = clock.seconds()
        self._stopping = False
        self._trouble = PushOutcome(Decision.RETRY, reason="no connection to APNs yet")
        self._delivered = self._refused = self._dials = 0
        self._last_error, self._last_error_at = "", 0

    # -- for the service ------------------------------------------------------

    def use(self, version: int, certificate: PushCertificate) -> None:
        """Use this certificate from now on; connections with another one drain."""
        if version == self.version:
            return
        self.version, self._certificate = version, certificate
        self._failures, self._try_at = 0, 0.0
        self._gate.open()
        for connection in list(self._sent):
            connection.drain()
        if self._dialing is not None:  # with the old one; what comes next uses the new one
            self._dialing.cancel()
        self._pump()

    def push(self, notification: Notification) -> Deferred[PushOutcome]:
        """Send a notification; the Deferred always fires, with its outcome, in ``DEADLINE``."""
        done: Deferred[PushOutcome] = Deferred()
        refusal = self._refuses()
        if refusal is not None:
            done.callback(refusal)
            return done
        now = self._clock.seconds()
        push = _Push(notification, done, now, int(now + DEADLINE) + 1)
        self._by_second.setdefault(push.due, set()).add(push)
        self._enqueue(push)
        self._pump()
        return done

    def tick(self) -> None:
        """Do what time asks for; to be called about every second."""
        now = self._clock.seconds()
        for second in [each for each in self._by_second if each <= now]:
            for push in list(self._by_second.get(second, ())):
                self._expire(push)
        if len(self._queue) > 2 * self._waiting:
            self._queue = deque(push for push in self._queue if not push.done.called)
        self._pump()
        self._grow(now)
        self._shrink(now)

    async def stop(self, patience: float) -> None:
        """Take nothing more, wait for answers for so many seconds, then close."""
        self._stopping = True
        if self._dialing is not None:
            self._dialing.cancel()
        for push in self._take_queue():
            self._end(push, PushOutcome(Decision.RETRY, reason="the daemon is stopping"))
        closed = [connection.closed for connection in self._sent]
        for connection in list(self._sent):
            connection.drain()
        timer = self._clock.callLater(patience, self._close)
        for each in closed:
            await each
        if timer.active():
            timer.cancel()

    def status(self) -> LineStatus:
        """Say how it is."""
        usable = sum(each.usable for each in self._sent)
        return LineStatus(
            topic=self.topic,
            version=self.version,
            not_after=0 if self._certificate is None else self._certificate.not_after,
            connections=usable,
            draining=len(self._sent) - usable,
            in_flight=sum(map(len, self._sent.values())),
            waiting=self._waiting,
            delivered=self._delivered,
            refused=self._refused,
            reconnects=max(0, self._dials - 1),
            last_error=self._last_error,
            last_error_at=self._last_error_at,
            alarm="" if self._gate.alarm is None else self._gate.alarm.reason,
        )

    # -- pushes -----------------------------------------------------------------

    def _refuses(self) -> PushOutcome | None:
        """Say why a push is not even tried now, None if it is."""
        now = self._clock.seconds()
        if self._stopping:
            return PushOutcome(Decision.RETRY, reason="the daemon is stopping")
        if self._waiting >= MOST_WAITING:
            return PushOutcome(Decision.RETRY, reason="too many pushes of this topic are waiting")
        if self._gate.alarm is not None:
            return self._gate.refuses(now)
        if self._try_at - now > PATIENCE and not any(each.usable for each in self._sent):
            return self._trouble
        return None

    def _enqueue(self, push: _Push) -> None:
        self._queue.append(push)
        self._waiting += 1

    def _pump(self) -> None:
        """Give what waits to the connections that have room; see to a connection."""
        for connection, sent in self._sent.items():
            room = connection.room
            while room and self._waiting:
                push = self._queue.popleft()
                if push.done.called:
                    continue
                self._waiting -= 1
                room -= 1
                ticket = connection.send(push.notification)
                push.place = connection, ticket
                sent[ticket] = push
            if not self._waiting:
                self._queue.clear()
                return
        if self._waiting and not any(each.usable for each in self._sent):
            self._connect_soon()

    def _ended(self, connection: Connection, ended: Ended) -> None:
        """Decide what comes next for a notification that a connection is done with."""
        push = self._sent[connection].pop(ended.ticket, None)
        if push is None:
            return
        push.place = None
        if ended.fate is Fate.ANSWERED:
            self._answered(connection, push, ended)
        elif self._stopping or not self._may_resend(push, ended.fate):
            reason = ended.reason or "the connection to APNs was lost"
            self._note_error(reason)
            self._end(push, PushOutcome(Decision.RETRY, reason=reason))
        else:
            self._enqueue(push)

    def _may_resend(self, push: _Push, fate: Fate) -> bool:
        if fate is Fate.UNSENT:
            return True
        push.resent += 1
        if fate is Fate.NOT_PROCESSED:
            return push.resent <= RESENDS
        again = not push.maybe_twice
        push.maybe_twice = True
        return again

    def _answered(self, connection: Connection, push: _Push, ended: Ended) -> None:
        decision = decide(ended.status, ended.reason)
        outcome = PushOutcome(decision, ended.status, ended.reason, ended.apns_id)
        self._failures = 0
        if decision is Decision.DELIVERED:
            self._delivered += 1
        else:
            self._refused += 1
            self._note_error(ended.reason or f"HTTP status {ended.status}")
        self._gate.answered(outcome, self._clock.seconds())
        if ended.reason in CLOSES_CONNECTION:
            connection.drain()
        self._end(push, outcome)

    def _expire(self, push: _Push) -> None:
        if push.place is None:
            self._waiting -= 1
            reason = f"no connection to APNs in time ({self._trouble.reason})"
        else:
            connection, ticket = push.place
            self._sent[connection].pop(ticket, None)
            connection.cancel(ticket)
            push.maybe_twice = True
            reason = "APNs did not answer in time"
        self._note_error(reason)
        self._end(push, PushOutcome(Decision.RETRY, reason=reason))

    def _end(self, push: _Push, outcome: PushOutcome) -> None:
        due = self._by_second[push.due]
        due.discard(push)
        if not due:
            del self._by_second[push.due]
        if push.maybe_twice:
            outcome = attrs.evolve(outcome, maybe_twice=True)
        push.done.callback(outcome)

    def _take_queue(self) -> list[_Push]:
        waiting = [each for each in self._queue if not each.done.called]
        self._queue.clear()
        self._waiting = 0
        return waiting

    # -- connections ---------------------------------------------------------------

    def _connect_soon(self) -> None:
        if (
            self._dialing is None
            and self._certificate is not None
            and not self._stopping
            and self._clock.seconds() >= self._try_at
        ):
            self._dialing = Deferred.fromCoroutine(self._connect(self._certificate, self.version))
            self._dialing.addBoth(self._dialed)

    def _dialed(self, result: Any) -> None:
        self._dialing = None
        if isinstance(result, Failure) and not isinstance(result.value, CancelledError):
            log.failure("connecting to APNs failed in a way nobody thought of", result)
            self._came_to_nothing(PushOutcome(Decision.RETRY, reason="no connection to APNs"))
        elif not self._stopping:
            self._pump()

    async def _connect(self, certificate: PushCertificate, version: int) -> None:
        conversation = Conversation(self._authority, self.topic)
        connection = Connection(
            self._clock,
            self._authority,
            conversation,
            self._keep_alive,
            self._ended,
            self._changed,
        )
        self._dials += 1
        dialed: Deferred[None] = Deferred.fromCoroutine(_await(self._dial(certificate, connection)))
        dialed.addTimeout(self._connect_timeout, self._clock)  # type: ignore[arg-type]
        try:
            await dialed
        except CancelledError:
            connection.abort("stopped")
            raise
        except DeferredTimeout:
            connection.abort("no connection to APNs in time")
            self._came_to_nothing(
                PushOutcome(Decision.RETRY, reason="no connection to APNs in time")
            )
        except NotConnected as error:
            self._came_to_nothing(error.outcome)
        else:
            self._sent[connection] = {}
            log.info("connected to APNs for {topic}", topic=self.topic)
            connection.closed.addCallback(lambda _: self._lost(connection))
            if version != self.version or self._stopping:
                connection.drain()

    def _changed(self, connection: Connection) -> None:
        if connection in self._sent and self._waiting:
            self._pump()

    def _lost(self, connection: Connection) -> None:
        del self._sent[connection]
        trouble = connection.trouble
        log.info("connection to APNs ended: {reason}", reason=trouble.reason, topic=self.topic)
        if self._stopping or connection.retired:
            self._pump()
        elif connection.answered and trouble.decision is not Decision.ALARM:
            self._failures, self._try_at = 0, 0.0
            self._trouble = trouble
            self._pump()
        else:
            self._came_to_nothing(trouble)

    def _came_to_nothing(self, trouble: PushOutcome) -> None:
        """A connection never came up, or ended before it was of use: wait before the next."""
        self._failures += 1
        delay = spread(step(CONNECT_DELAYS, self._failures - 1), self._jitter)
        self._try_at = self._clock.seconds() + delay
        self._trouble = trouble
        self._note_error(trouble.reason)
        log.warn(
            "no connection to APNs: {reason}; the next try is in {delay:.1f} s",
            reason=trouble.reason,
            delay=delay,
            topic=self.topic,
        )
        if trouble.decision is Decision.ALARM:
            self._gate.shut(trouble, self._clock.seconds())
        for push in self._take_queue():
            if trouble.decision is Decision.ALARM or self._try_at - push.since > PATIENCE:
                self._end(push, trouble)
            else:
                self._enqueue(push)

    def _grow(self, now: float) -> None:
        usable = [each for each in self._sent if each.usable]
        if not self._waiting or not usable or any(each.room for each in usable):
            self._full_since = now
        elif now - self._full_since >= GROW_AFTER and len(usable) < MOST_CONNECTIONS:
            self._full_since = now
            self._connect_soon()

    def _shrink(self, now: float) -> None:
        usable = [each for each in self._sent if each.usable]
        if len(usable) < 2 or self._waiting or not any(each.room for each in usable):
            self._needed_at = now
        elif now - self._needed_at >= SHRINK_AFTER:
            self._needed_at = now
            usable[-1].drain()

    def _close(self) -> None:
        for connection in list(self._sent):
            connection.close()

    # -- trouble -------------------------------------------------------------------

    def _note_error(self, reason: str) -> None:
        self._last_error, self._last_error_at = reason, int(self._wall())


async def _await(awaitable: Awaitable[None]) -> None:
    await awaitable
