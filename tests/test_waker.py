"""Who is due is pushed: the waker, between a work set and a push service of the test's."""

from collections.abc import Sequence
from itertools import islice

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mdmd.apns.waker import LEASE, MOST_FLYING, Waker
from mdmd.errors import StoreUnavailable
from mdmd.interfaces.push import Decision, DuePush, NoPush, Notification, PushOutcome
from mdmd.mdm.enrollment import EnrollmentID
from tests.test_conversation import TOPIC

DELIVERED = PushOutcome(Decision.DELIVERED, 200, "", "apns-1")
NOW = 1_700_000_000


class Work:
    """A work set of which the test says who is due."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.apart = 0.0  # what somebody has set the time of day by since the start
        self.due: dict[EnrollmentID, int] = {}  # ms, by enrollment
        self.attempts: dict[EnrollmentID, int] = {}
        self.none: dict[EnrollmentID, str] = {}  # why it can't be pushed
        self.records: list[tuple[EnrollmentID, PushOutcome, int | None]] = []
        self.leases: list[int] = []
        self.away = False
        self.broken = False
        self.hold: Deferred[None] | None = None

    def now(self) -> float:
        """The time of day, in seconds."""
        return self.clock.seconds() + self.apart

    def _ask(self) -> None:
        if self.broken:
            raise ZeroDivisionError("a bug")
        if self.away:
            raise StoreUnavailable("the store is away")

    def _take(self, enrollment: EnrollmentID, lease_ms: int) -> DuePush:
        self.due[enrollment] = int(self.now() * 1000) + lease_ms
        self.leases.append(lease_ms)
        return DuePush(
            enrollment,
            Notification(TOPIC, enrollment.device.encode(), "m"),
            self.attempts.get(enrollment, 0),
            self.attempts.get(enrollment, 0),
        )

    async def claim_due(self, limit: int, lease_ms: int) -> list[DuePush]:
        self._ask()
        now = self.now() * 1000
        due = list(islice((each for each, when in self.due.items() if when <= now), limit))
        return [self._take(each, lease_ms) for each in due]

    async def claim(self, targets: Sequence[EnrollmentID], lease_ms: int) -> list[DuePush | NoPush]:
        self._ask()
        if self.hold is not None:
            await self.hold
        return [
            NoPush(each, self.none[each]) if each in self.none else self._take(each, lease_ms)
            for each in targets
        ]

    async def pushed(self, due: DuePush, outcome: PushOutcome, next_push: int | None) -> None:
        self._ask()
        self.records.append((due.enrollment, outcome, next_push))
        self.due.pop(due.enrollment, None)
        if next_push is not None:
            self.due[due.enrollment] = next_push
            self.attempts[due.enrollment] = due.attempt + 1

    async def next_due(self) -> int | None:
        self._ask()
        return min(self.due.values(), default=None)


class Service:
    """A push service that waits for the test to answer."""

    def __init__(self) -> None:
        self.open: list[tuple[Notification, Deferred[PushOutcome]]] = []
        self.sent = 0
        self.at_once: PushOutcome | None = None
        self.broken = False

    async def push(self, notification: Notification) -> PushOutcome:
        self.sent += 1
        if self.broken:
            raise ZeroDivisionError("a bug")
        if self.at_once is not None:
            return self.at_once
        done: Deferred[PushOutcome] = Deferred()
        self.open.append((notification, done))
        return await done

    def answer(self, outcome: PushOutcome = DELIVERED) -> None:
        """Answer all that is open."""
        answered, self.open = self.open, []
        for _, done in answered:
            done.callback(outcome)


def enrollment(number: int) -> EnrollmentID:
    return EnrollmentID.parse(f"DEVICE-{number}")


class Case(SynchronousTestCase):
    """A waker, started."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.work = Work(self.clock)
        self.service = Service()
        self.outcomes: list[PushOutcome] = []
        self.waker = Waker(
            self.clock,
            self.work,
            self.service,
            repeat=(120.0, 600.0),
            jitter=lambda: 0.5,
            recorded=lambda topic, outcome: self.outcomes.append(outcome),
            wall=self.work.now,
        )
        self.successResultOf(Deferred.fromCoroutine(self.waker.start()))

    def make_due(self, count: int, delay: float = 0.0) -> None:
        """Make so many enrollments due."""
        for number in range(count):
            self.work.due[enrollment(number)] = int((self.work.now() + delay) * 1000)

    def push(self, *numbers: int) -> Deferred[list[PushOutcome | NoPush]]:
        return Deferred.fromCoroutine(self.waker.push([enrollment(each) for each in numbers]))


class ByTime(Case):
    """The work set is emptied as it gets due."""

    def test_due(self) -> None:
        """A due enrollment is pushed once, recorded, and pushed again while it stays away."""
        self.make_due(1)
        self.waker.nudge()
        self.clock.advance(0)
        self.assertEqual(self.service.sent, 1)
        self.service.answer()
        self.assertEqual(self.work.records, [(enrollment(0), DELIVERED, (NOW + 120) * 1000)])
        self.clock.pump([1.0] * 119)
        self.assertEqual(self.service.sent, 1)
        self.clock.pump([1.0] * 3)
        self.assertEqual(self.service.sent, 2)
        self.service.answer()
        self.assertAlmostEqual(self.work.records[-1][2] / 1000 - self.clock.seconds(), 600, delta=3)  # type: ignore[operator]

    def test_clock_set_back(self) -> None:
        """The next push is planned by the store's time, and a pause is as long as it was to be."""
        self.service.at_once = PushOutcome(Decision.RETRY, reason="no connection to APNs")
        self.make_due(MOST_FLYING)
        self.waker.nudge()
        self.clock.advance(0)  # all are tried in vain: nobody looks for a second
        self.work.apart = -3600.0
        self.service.at_once = DELIVERED
        self.work.records.clear()
        self.work.due = {enrollment(-1): int(self.work.now() * 1000)}
        self.clock.pump([0.5] * 5)
        ((who, _, planned),) = self.work.records
        self.assertEqual(who, enrollment(-1))
        assert planned is not None
        self.assertLess(abs(planned / 1000 - (NOW - 3600 + 120)), 3)

    def test_wakes_up_in_time(self) -> None:
        """What gets due between two looks is pushed when it is due, not a poll later."""
        self.make_due(1, delay=0.7)
        self.waker.nudge()
        self.clock.advance(0)
        self.clock.advance(0.69)
        self.assertEqual(self.service.sent, 0)
        self.clock.advance(0.02)
        self.assertEqual(self.service.sent, 1)

    def test_leases_end_in_seconds(self) -> None:
        """What this daemon claims is somebody else's soon after it dies, and not before."""
        self.make_due(1)
        self.clock.advance(0)
        self.assertEqual(self.work.leases, [int(LEASE * 1000)])
        self.assertLess(LEASE, 30)

    def test_bounded(self) -> None:
        """A million due are claimed as there is room, not all at once."""
        self.make_due(3 * MOST_FLYING)
        self.waker.nudge()
        self.clock.pump([0.0] * 50)
        self.assertEqual(self.service.sent, MOST_FLYING)
        self.assertEqual(self.waker.status().flying, MOST_FLYING)
        while self.service.open:
            self.service.answer()
            self.clock.pump([0.0] * 20)
            self.assertLessEqual(len(self.service.open), MOST_FLYING)
        self.assertEqual(self.service.sent, 3 * MOST_FLYING)
        self.assertEqual(len({each for each, _, _ in self.work.records}), 3 * MOST_FLYING)

    def test_store_away(self) -> None:
        """The store goes and comes back; the waker goes on."""
        self.work.away = True
        self.make_due(1)
        self.clock.pump([1.0] * 60)
        self.assertEqual(self.service.sent, 0)
        self.assertGreater(self.waker.status().store_failures, 5)
        self.work.away = False
        self.clock.pump([1.0] * 6)
        self.assertEqual(self.service.sent, 1)

    def test_outcome_not_recorded(self) -> None:
        """A record that fails is left to the lease: pushed again, not lost."""
        self.make_due(1)
        self.clock.advance(0)
        self.work.away = True
        self.service.answer()
        self.assertEqual(self.waker.status().flying, 0)
        self.work.away = False
        self.clock.pump([1.0] * int(LEASE + 6))
        self.assertEqual(self.service.sent, 2)

    def test_bugs_do_not_stop_it(self) -> None:
        """An exception nobody thought of is logged, and the next look comes."""
        self.make_due(1)
        self.work.broken = True
        self.clock.pump([1.0] * 5)
        self.assertGreaterEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.work.broken = False
        self.service.broken = True
        self.clock.pump([1.0] * 6)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.service.broken = False
        self.clock.pump([1.0] * int(LEASE + 6))
        self.assertEqual(self.service.sent, 2)


class Outages(Case):
    """APNs is away, with everybody due."""

    def test_looks_rarely(self) -> None:
        """Nobody is lost, and the daemon has time for its devices."""
        self.service.at_once = PushOutcome(Decision.RETRY, reason="no connection to APNs")
        self.make_due(20_000)
        self.waker.nudge()
        self.clock.pump([0.5] * 600)  # five minutes
        self.assertLess(self.service.sent, 20 * 500)
        tried = self.service.sent
        self.waker.nudge()
        self.clock.pump([0.0] * 20)
        self.assertEqual(self.service.sent, tried)
        (outcome,) = self.successResultOf(self.push(1))
        self.assertEqual(outcome, self.service.at_once)
        self.service.at_once = DELIVERED
        self.clock.pump([0.5] * 240)
        self.assertEqual(self.waker.status().flying, 0)
        pushed = {each for each, outcome, _ in self.work.records if outcome == DELIVERED}
        self.assertGreater(len(pushed), 10_000)


class Outcomes(Case):
    """What comes next, by decision."""

    def next_after(self, outcome: PushOutcome, attempt: int = 0) -> float | None:
        """Push once with this outcome; say in how many seconds the next push is."""
        self.work.attempts[enrollment(0)] = attempt
        self.service.at_once = outcome
        self.make_due(1)
        self.waker.nudge()
        self.clock.advance(0)
        _, recorded, next_push = self.work.records[-1]
        self.assertEqual(recorded, outcome)
        return None if next_push is None else round(next_push / 1000 - self.clock.seconds())

    def test_decisions(self) -> None:
        """Each decision has its delay; a dropped token and a bad request have none."""
        self.assertEqual(self.next_after(DELIVERED), 120)
        self.assertEqual(self.next_after(DELIVERED, 1), 600)
        self.assertEqual(self.next_after(DELIVERED, 7), 600)
        self.assertEqual(self.next_after(PushOutcome(Decision.RETRY, 503)), 10)
        self.assertEqual(self.next_after(PushOutcome(Decision.RETRY, 503), 2), 120)
        self.assertEqual(self.next_after(PushOutcome(Decision.RETRY, 429), 9), 600)
        self.assertEqual(self.next_after(PushOutcome(Decision.ALARM, 403)), 60)
        self.assertIsNone(self.next_after(PushOutcome(Decision.DROP_TOKEN, 410, "Unregistered")))
        self.assertIsNone(self.next_after(PushOutcome(Decision.GIVE_UP, 413)))
        self.assertEqual(len(self.outcomes), 9)

    def test_not_reached(self) -> None:
        """While APNs can't be reached nobody waits longer than a minute for the next try."""
        nobody = PushOutcome(Decision.RETRY, reason="no connection to APNs")
        waits = [self.next_after(nobody, failures) for failures in (0, 1, 2, 9)]
        self.assertEqual(waits, [10, 30, 60, 60])


class ByName(Case):
    """Somebody asks and waits for the outcome."""

    def test_in_order(self) -> None:
        """Each target has its own answer, in the order asked."""
        self.work.none[enrollment(2)] = "disabled"
        asked = self.push(3, 2, 1)
        self.assertEqual(self.service.sent, 2)
        self.service.answer()
        self.assertEqual(
            self.successResultOf(asked), [DELIVERED, NoPush(enrollment(2), "disabled"), DELIVERED]
        )

    def test_the_same_twice(self) -> None:
        """One enrollment named twice is pushed once."""
        asked = self.push(1, 1)
        self.service.answer()
        self.assertEqual(self.successResultOf(asked), [DELIVERED, DELIVERED])
        self.assertEqual(self.service.sent, 1)

    def test_coalesced(self) -> None:
        """Many who ask during a push share one more push after it."""
        first = self.push(1)
        others = [self.push(1) for _ in range(50)]
        self.assertEqual(self.service.sent, 1)
        self.service.answer()
        self.successResultOf(first)
        self.assertEqual(self.service.sent, 2)
        self.assertNoResult(others[0])
        self.service.answer(PushOutcome(Decision.RETRY, 503))
        for each in others:
            self.assertEqual(self.successResultOf(each), [PushOutcome(Decision.RETRY, 503)])
        self.assertEqual(self.service.sent, 2)

    def test_coalesced_before_it_is_sent(self) -> None:
        """Those who ask while it is being claimed need no second push."""
        self.work.hold = Deferred()
        asked = [self.push(1) for _ in range(5)]
        self.work.hold.callback(None)
        self.service.answer()
        for each in asked:
            self.assertEqual(self.successResultOf(each), [DELIVERED])
        self.assertEqual(self.service.sent, 1)

    def test_store_away(self) -> None:
        """Without the store nobody can be found; whoever asked is told, and nothing sticks."""
        self.work.away = True
        (outcome,) = self.successResultOf(self.push(1))
        self.assertIsInstance(outcome, PushOutcome)
        self.assertEqual(outcome.decision, Decision.RETRY)  # type: ignore[union-attr]
        self.work.away = False
        asked = self.push(1)
        self.service.answer()
        self.assertEqual(self.successResultOf(asked), [DELIVERED])

    def test_many(self) -> None:
        """A long list is claimed in batches."""
        self.service.at_once = DELIVERED
        asked = self.push(*range(MOST_FLYING + 1))
        self.assertEqual(self.successResultOf(asked), [DELIVERED] * (MOST_FLYING + 1))


class Stopping(Case):
    """The end of the daemon."""

    def test_waits_for_records(self) -> None:
        """What is under way is recorded before it ends; nothing new is claimed."""
        self.make_due(2)
        self.clock.advance(0)
        stopped = Deferred.fromCoroutine(self.waker.stop())
        self.make_due(5)
        self.waker.nudge()
        self.clock.advance(1)
        self.assertNoResult(stopped)
        self.service.answer()
        self.successResultOf(stopped)
        self.assertEqual((len(self.work.records), self.service.sent), (2, 2))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bounded(self) -> None:
        """A push that does not end does not keep the daemon from ending."""
        self.make_due(1)
        self.clock.advance(0)
        stopped = Deferred.fromCoroutine(self.waker.stop())
        self.clock.advance(10)
        self.successResultOf(stopped)
