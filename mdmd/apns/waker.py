"""
Who is due is pushed: the work set of the store, carried to the push service.

Any number of daemons do this on one store. A claim is a lease: what a dead
daemon had claimed is due again when its lease ends, a few seconds later.
"""

import random
from collections.abc import Callable, Sequence

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mdmd.apns.line import DEADLINE
from mdmd.apns.status import WakerStatus
from mdmd.apns.timing import Clock, Jitter, Timer, Wall, spread, step, stop_timer
from mdmd.errors import MdmdError, StoreUnavailable
from mdmd.interfaces.push import (
    STORE_AWAY,
    Decision,
    DuePush,
    IPushService,
    IPushWork,
    NoPush,
    PushOutcome,
)
from mdmd.mdm.enrollment import EnrollmentID

log = Logger()

LEASE = DEADLINE + 5.0  # seconds; longer than a push can take
MOST_FLYING = 2000  # pushes at once
POLL = 2.0  # seconds between two looks when nothing is due: another daemon may have died
RETRY_DELAYS = (10.0, 30.0, 120.0, 600.0)  # seconds, by failures in a row
# The same when APNs was not reached: it is not about this enrollment, and soon after the way is
# mended everybody who waits is to be pushed. OUTAGE_DELAYS spare daemon and store.
UNREACHED_DELAYS = (10.0, 30.0, 60.0)
ALARM_DELAYS = (60.0, 300.0, 600.0)  # the same; somebody has to mend something meanwhile
# Seconds without looking, when nothing that was due could be sent: a million that are due must
# not keep daemon and store busy while APNs is away.
OUTAGE_DELAYS = (1.0, 2.0, 5.0, 10.0, 30.0)
STORE_DELAYS = (0.5, 1.0, 2.0, 5.0)  # seconds, after failures of the store in a row
STOP_PATIENCE = 6.0  # seconds that stop() waits for pushes and their records


@attrs.define(eq=False)
class _Flight:
    """A push of one enrollment from its claim to its record, and who waits for it."""

    waiting: list[Deferred[PushOutcome | NoPush]] = attrs.Factory(list)
    later: list[Deferred[PushOutcome | NoPush]] = attrs.Factory(list)  # for one push after it
    sent: bool = False  # whoever comes now needs another one


class Waker:
    """
    Push whoever is due, and whoever is asked for (:class:`~mdmd.interfaces.push.IWaker`).

    :param wall: seconds since the epoch, as the store's times are.
    :param repeat: seconds before each further push while a device does not connect.
    :param recorded: called with topic and outcome of each push, for those who count.
    :param lease: seconds after which a dead daemon's claims are due again.
    :param most_flying: pushes at once; claims are made in batches of a quarter of it.
    """

    def __init__(
        self,
        clock: Clock,
        work: IPushWork,
        service: IPushService,
        repeat: Sequence[float] = (120.0, 600.0, 3600.0, 21600.0, 86400.0),
        jitter: Jitter = random.random,
        recorded: Callable[[str, PushOutcome], None] = lambda topic, outcome: None,
        lease: float = LEASE,
        most_flying: int = MOST_FLYING,
        *,
        wall: Wall,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._work = work
        self._service = service
        self._repeat = tuple(repeat)
        self._jitter = jitter
        self._recorded = recorded
        self._lease_ms = int(lease * 1000)
        self._most_flying = most_flying
        self._batch = most_flying // 4
        self._flying: dict[EnrollmentID, _Flight] = {}
        self._timer: Timer | None = None
        self._looking = False
        self._again = False  # something new came while we looked
        self._running = False
        self._idle: list[Deferred[None]] = []
        self._claimed = self._failures = 0
        self._unanswered = 0  # pushes in a row that APNs did not get to see
        self._outages = 0  # looks in a row after which that was so
        self._paused_until = 0.0

    # -- life -----------------------------------------------------------------

    async def start(self) -> None:
        """Begin to look for who is due."""
        self._running = True
        self.nudge()

    async def stop(self) -> None:
        """Claim nothing more; wait a few seconds for what is under way."""
        self._running = False
        stop_timer(self._timer)
        if not self._flying and not self._looking:
            return
        settled: Deferred[None] = Deferred()
        self._idle.append(settled)
        timer = self._clock.callLater(STOP_PATIENCE, settled.cancel)
        try:
            await settled
        except CancelledError:
            log.warn("{count} pushes are left to other daemons", count=len(self._flying))
        stop_timer(timer)

    def nudge(self) -> None:
        """Say that the work set has something new."""
        if self._looking:
            self._again = True
        elif self._running and self._clock.seconds() >= self._paused_until:
            self._look_in(0.0)

    def status(self) -> WakerStatus:
        """Say how it is."""
        return WakerStatus(len(self._flying), self._claimed, self._failures)

    def __repr__(self) -> str:
        now = self.status()
        return f"<the waker: {now.flying} pushes under way, {now.claimed} since the start>"

    # -- by name ----------------------------------------------------------------

    async def push(self, targets: Sequence[EnrollmentID]) -> list[PushOutcome | NoPush]:
        """
        Push now and wait for the outcomes, in the order of ``targets``.

        A target that is being pushed already gets one more push after it,
        shared by all who ask meanwhile: the one under way may have come before
        what this one is for.
        """
        outcomes: list[PushOutcome | NoPush] = []
        for start in range(0, len(targets), self._batch):
            outcomes += await self._push_some(targets[start : start + self._batch])
        return outcomes

    async def _push_some(self, targets: Sequence[EnrollmentID]) -> list[PushOutcome | NoPush]:
        asked = [self._ask(target) for target in targets]
        fresh = [target for target, (_, is_new) in zip(targets, asked, strict=True) if is_new]
        if fresh:
            await self._claim_named(fresh)
        return [await done for done, _ in asked]

    def _ask(self, target: EnrollmentID) -> tuple[Deferred[PushOutcome | NoPush], bool]:
        """Join the flight of a target; True if it has none yet, so that it has to be claimed."""
        done: Deferred[PushOutcome | NoPush] = Deferred()
        flight = self._flying.get(target)
        if flight is None:
            self._flying[target] = _Flight([done])
            return done, True
        (flight.later if flight.sent else flight.waiting).append(done)
        return done, False

    async def _claim_named(self, targets: list[EnrollmentID]) -> None:
        try:
            claims = await self._work.claim(targets, self._lease_ms)
        except StoreUnavailable:
            claims = []
        except BaseException:
            for target in targets:
                self._land(target, STORE_AWAY)
            raise
        if not claims:
            for target in targets:
                self._land(target, STORE_AWAY)
            return
        for target, claim in zip(targets, claims, strict=True):
            if isinstance(claim, NoPush):
                self._land(target, claim)
            else:
                self._fly(claim)

    # -- by time ------------------------------------------------------------------

    def _look_in(self, delay: float) -> None:
        stop_timer(self._timer)
        self._timer = self._clock.callLater(delay, self._look)

    def _look(self) -> None:
        if not self._running or self._looking:
            return
        self._looking, self._again = True, False
        looked = Deferred.fromCoroutine(self._claim_due())
        looked.addBoth(self._looked)

    def _looked(self, result: float | Failure) -> None:
        """Plan the next look, whatever happened: this must never end."""
        self._looking = False
        if isinstance(result, Failure):
            self._failures += 1
            wait = step(STORE_DELAYS, self._failures - 1)
            if not isinstance(result.value, MdmdError):
                log.failure("looking for due pushes failed", result)
            elif self._failures == 1:
                log.warn("due pushes can't be read: {reason}", reason=str(result.value))
        else:
            self._failures, wait = 0, result
        if self._running:
            again = self._again and not self._failures
            pause = self._paused_until - self._clock.seconds()
            self._look_in(max(pause, 0.0 if again else wait))
        self._settle()

    async def _claim_due(self) -> float:
        """Claim and send what there is room for; return the seconds until the next look."""
        if len(self._flying) > self._most_flying - self._batch:
            return POLL  # a landing looks again before
        pause = self._paused_until - self._clock.seconds()
        if pause > 0:
            return pause
        claims = await self._work.claim_due(self._batch, self._lease_ms)
        self._claimed += len(claims)
        for due in claims:
            if due.enrollment not in self._flying:  # else: it has a flight by name
                self._flying[due.enrollment] = _Flight()
                self._fly(due)
        if len(claims) == self._batch:
            return 0.0
        next_due = await self._work.next_due()
        if next_due is None:
            return POLL
        return min(POLL, max(0.05, next_due / 1000 - self._wall()))

    # -- one push -------------------------------------------------------------------

    def _fly(self, due: DuePush) -> None:
        self._flying[due.enrollment].sent = True
        flown = Deferred.fromCoroutine(self._wake(due))
        flown.addBoth(self._flown, due.enrollment)

    async def _wake(self, due: DuePush) -> PushOutcome:
        outcome = await self._service.push(due.notification)
        self._watch_outage(outcome)
        delay = self._delay(outcome, due)
        next_push = None if delay is None else int((self._wall() + delay) * 1000)
        self._recorded(due.notification.topic, outcome)
        try:
            await self._work.pushed(due, outcome, next_push)
        except StoreUnavailable as error:
            # Its lease ends by itself; at worst the device is woken once too often.
            log.warn("the outcome of a push is not recorded: {reason}", reason=str(error))
        return outcome

    def _delay(self, outcome: PushOutcome, due: DuePush) -> float | None:
        """Say after how many seconds to push again if the device does not connect, None: never."""
        if outcome.decision is Decision.DELIVERED:
            return spread(step(self._repeat, due.attempt), self._jitter)
        if outcome.decision is Decision.RETRY:
            delays = RETRY_DELAYS if outcome.status else UNREACHED_DELAYS
            return spread(step(delays, due.failures), self._jitter)
        if outcome.decision is Decision.ALARM:
            return spread(step(ALARM_DELAYS, due.failures), self._jitter)
        return None

    def _watch_outage(self, outcome: PushOutcome) -> None:
        """Look less and less often while APNs answers nothing."""
        if outcome.status or outcome.decision is Decision.GIVE_UP:
            self._unanswered = self._outages = 0
            self._paused_until = 0.0
            return
        self._unanswered += 1
        if self._unanswered >= self._batch:
            self._unanswered = 0
            pause = spread(step(OUTAGE_DELAYS, self._outages), self._jitter)
            self._outages += 1
            self._paused_until = self._clock.seconds() + pause

    def _flown(self, result: PushOutcome | Failure, enrollment: EnrollmentID) -> None:
        if isinstance(result, Failure):
            log.failure("a push failed in a way nobody thought of", result)
            result = STORE_AWAY
        self._land(enrollment, result)

    def _land(self, enrollment: EnrollmentID, outcome: PushOutcome | NoPush) -> None:
        flight = self._flying.pop(enrollment)
        for done in flight.waiting:
            done.callback(outcome)
        if flight.later:
            self._flying[enrollment] = _Flight(flight.later)
            again = Deferred.fromCoroutine(self._claim_named([enrollment]))
            again.addErrback(lambda failure: log.failure("a push can't be claimed", failure))
        if len(self._flying) == self._most_flying - self._batch:
            self.nudge()
        self._settle()

    def _settle(self) -> None:
        if not self._flying and not self._looking:
            idle, self._idle = self._idle, []
            for each in idle:
                each.callback(None)
