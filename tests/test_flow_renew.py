"""Renewals: no state lasts for ever, whatever a device does; and the expired have one way back."""

from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from mdmd.assembly.rounds import Rounds
from mdmd.errors import Conflict, MdmdError, NoIdentity, NotHere
from mdmd.flow.checkin import CheckIns
from mdmd.flow.enroll import Guest
from mdmd.flow.renew import PREFIX, Renew, next_step
from mdmd.interfaces.certificates import IssuedCertificate, Renewal
from mdmd.interfaces.fleet import Result
from mdmd.interfaces.identity import Identity
from mdmd.mdm import plist
from mdmd.mdm.command import Command
from mdmd.mdm.enrollment import EnrollmentID

DAY = 86_400_000
HOUR = 3_600_000
BEGIN, END = 1_700_000_000, 1_700_000_000 + 100 * 86_400
DUE = (BEGIN + 70 * 86_400) * 1000
ONE = EnrollmentID("UDID-1")


def renewal(state: str = "", at: int = 0, **more: Any) -> Renewal:
    """How far a renewal is."""
    values = {
        "attempts": 1 if state else 0,
        "uuid": f"{PREFIX}1" if state else "",
        "pin": "ab",
        "next_pin": "",
        "not_before": BEGIN,
        "not_after": END,
        "enabled": True,
    }
    return Renewal(ONE, state, at, **{**values, **more})


class StepTests(SynchronousTestCase):
    """The rules of the state machine."""

    def step(self, it: Renewal, now: int, status: str = "") -> tuple[str, int | None, bool]:
        step = next_step(it, now, 0.7, status)
        return step.state, None if step.at is None else step.at - now, step.send

    def test_due(self) -> None:
        """Before its time it waits for just that; then the profile is sent."""
        self.assertEqual(self.step(renewal(), DUE - 5), ("", 5, False))
        self.assertEqual(self.step(renewal(), DUE), ("sent", HOUR, True))

    def test_sent(self) -> None:
        """A device has a week to take it, and then a day to show its new certificate."""
        sent = renewal("sent", DUE)
        self.assertEqual(self.step(sent, DUE + DAY), ("sent", HOUR, False))
        self.assertEqual(self.step(sent, DUE + 7 * DAY), ("failed", HOUR, False))
        self.assertEqual(self.step(sent, DUE + HOUR, "Acknowledged"), ("sent", HOUR, False))
        self.assertEqual(self.step(sent, DUE + 2 * DAY, "Acknowledged"), ("failed", HOUR, False))
        self.assertEqual(self.step(sent, DUE + HOUR, "Error"), ("failed", HOUR, False))

    def test_back_off(self) -> None:
        """Each failure waits longer, up to a day, and is followed by another try."""
        waits = []
        for attempts in range(1, 7):
            sent = renewal("sent", DUE, attempts=attempts)
            waits.append(self.step(sent, DUE + HOUR, "Error")[1])
        self.assertEqual(waits, [HOUR, 4 * HOUR, 12 * HOUR, DAY, DAY, DAY])
        failed = renewal("failed", DUE, attempts=3)
        step = next_step(failed, DUE + DAY, 0.7, "")
        self.assertEqual((step.state, step.send, step.attempts), ("sent", True, 4))

    def test_renewed(self) -> None:
        """With the new certificate it waits for that one's time."""
        fresh = renewal("renewed", DUE, not_before=BEGIN + 70 * 86_400, not_after=END + 70 * 86_400)
        self.assertEqual(self.step(fresh, DUE), ("renewed", 70 * DAY, False))

    def test_disabled(self) -> None:
        """A device that left is looked at again, and sent nothing."""
        self.assertEqual(self.step(renewal(enabled=False), DUE), ("", DAY, False))

    def test_never(self) -> None:
        """Without a pin, or switched off, there is nothing to look at."""
        self.assertEqual(next_step(renewal(pin=""), DUE, 0.7, "").at, None)
        self.assertEqual(next_step(renewal(), DUE, 0.0, "").at, None)

    @given(
        st.sampled_from(["", "sent", "failed", "renewed"]),
        st.integers(0, 400 * DAY),
        st.integers(0, 400 * DAY),
        st.integers(0, 50),
        st.booleans(),
        st.sampled_from(["", "Acknowledged", "Error", "CommandFormatError", "cancelled"]),
    )
    def test_no_state_lasts(
        self, state: str, at: int, later: int, attempts: int, enabled: bool, status: str
    ) -> None:
        """From any state, at any time, there is a next look, and it is in the future."""
        it = renewal(state, BEGIN * 1000 + at, attempts=attempts, enabled=enabled)
        now = BEGIN * 1000 + at + later
        step = next_step(it, now, 0.7, status)
        self.assertIsNotNone(step.at)
        self.assertGreater(step.at, now)
        self.assertLessEqual(step.at - now, 100 * DAY)


@attrs.define
class FakeStore:
    """What the store says, told by the test; and what it is told."""

    it: Renewal
    moves: bool = True
    status: str = ""
    moved: list[tuple[str, int, str, str]] = attrs.field(factory=list)
    queued: list[Command] = attrs.field(factory=list)
    cancelled: list[str] = attrs.field(factory=list)
    more: list[Renewal] = attrs.field(factory=list)

    async def claim_due(self, limit: int, lease_ms: int) -> list[Renewal]:
        return [self.it, *self.more]

    async def get(self, enrollment: EnrollmentID) -> Renewal:
        return self.it

    async def move(
        self,
        renewal: Renewal,
        state: str,
        next_step: int | None,
        attempts: int = 0,
        uuid: str = "",
        reason: str = "",
    ) -> bool:
        self.moved.append((state, attempts, uuid, reason))
        return self.moves

    async def results(self, enrollment: EnrollmentID, limit: int) -> list[Result]:
        result = Result(self.it.uuid, "InstallProfile", self.status, "", 0, 0, 1, b"")
        return [result] if self.status else []

    async def cancel(self, enrollment: EnrollmentID, uuid: str) -> None:
        self.cancelled.append(uuid)
        raise NotHere("the device has it already")

    async def enqueue(self, command: Command, targets: Any, policy: Any) -> list[Any]:
        self.queued.append(command)
        return []

    async def find(self, text: str) -> IssuedCertificate:
        return IssuedCertificate("ab", "1", "CN=C02X,O=Example", BEGIN, END, "static")

    def nudge(self) -> None:
        return None


class RenewTests(SynchronousTestCase):
    """The story: state first, then the command."""

    unlucky: tuple[str, ...] = ()

    def story(self, store: Any) -> Renew:
        self.guests: list[Guest] = []

        async def profile(guest: Guest) -> bytes:
            self.guests.append(guest)
            if guest.enrollment in self.unlucky:
                raise NotHere("no push certificate is installed yet")
            return b"profile"

        return Renew(store, store, store, store, profile, 0.7, lambda: DUE, lambda: "NEW")

    def done(self, awaitable: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(awaitable))

    def test_send(self) -> None:
        """It is sent as InstallProfile, for this device, with its subject."""
        store = FakeStore(renewal())
        self.assertEqual(self.done(self.story(store).work()), 1)
        (command,) = store.queued
        self.assertEqual((command.uuid, command.request_type), (f"{PREFIX}NEW", "InstallProfile"))
        self.assertEqual(plist.loads(command.raw)["Command"]["Payload"], b"profile")
        (guest,) = self.guests
        self.assertEqual((guest.enrollment, guest.name), ("UDID-1", "UDID-1"))
        self.assertEqual(guest.subject, (("O", "Example"), ("CN", "C02X")))
        self.assertEqual(store.moved[0][:3], ("sent", 1, f"{PREFIX}NEW"))

    def test_another_was_first(self) -> None:
        """Whoever could not move the state sends nothing."""
        store = FakeStore(renewal(), moves=False)
        self.done(self.story(store).work())
        self.assertEqual(store.queued, [])
        failure = self.failureResultOf(Deferred.fromCoroutine(self.story(store).begin(ONE)))
        self.assertIsInstance(failure.value, Conflict)

    def test_failed(self) -> None:
        """After a refusal the command is taken back, and the reason is told."""
        store = FakeStore(renewal("sent", DUE - HOUR), status="Error")
        self.done(self.story(store).work())
        self.assertEqual(store.cancelled, [f"{PREFIX}1"])
        self.assertEqual(store.moved, [("failed", 1, f"{PREFIX}1", "the device answered Error")])

    def test_one_that_fails(self) -> None:
        """What goes wrong with one is noted with it, and the others go on."""
        self.unlucky = ("UDID-1",)
        store = FakeStore(renewal())
        store.more = [attrs.evolve(renewal(), enrollment=EnrollmentID("UDID-2"))]
        self.assertEqual(self.done(self.story(store).work()), 2)
        self.assertEqual([each[0] for each in store.moved], ["sent", "failed", "sent"])
        self.assertIn("no push certificate", store.moved[1][3])
        self.assertEqual(len(store.queued), 1)
        failure = self.failureResultOf(Deferred.fromCoroutine(self.story(store).begin(ONE)))
        self.assertIsInstance(failure.value, NotHere)

    def test_again_by_hand(self) -> None:
        """Asked for while one is on its way: that one is taken back."""
        store = FakeStore(renewal("sent", DUE - HOUR))
        self.done(self.story(store).begin(ONE))
        self.assertEqual(store.cancelled, [f"{PREFIX}1"])
        self.assertEqual(len(store.queued), 1)

    def test_by_hand(self) -> None:
        """An operator may have it done at once; not for a device without an identity."""
        store = FakeStore(renewal())
        self.assertEqual(self.done(self.story(store).begin(ONE)), f"{PREFIX}NEW")
        nobody = FakeStore(renewal(pin=""))
        failure = self.failureResultOf(Deferred.fromCoroutine(self.story(nobody).begin(ONE)))
        self.assertIsInstance(failure.value, NotHere)


class ExpiredTests(SynchronousTestCase):
    """An expired identity that is let in connects, and does nothing else."""

    def test_check_in(self) -> None:
        """It can't check in."""
        checkins = CheckIns(None, None)  # type: ignore[arg-type]
        body = plist.dumps({"UDID": "UDID-1", "MessageType": "CheckOut"})
        done = Deferred.fromCoroutine(checkins.answer(Identity("ab", expired=True), body))
        self.assertIsInstance(self.failureResultOf(done).value, NoIdentity)


class RoundsTests(SynchronousTestCase):
    """Work goes on, round after round."""

    def test_failures(self) -> None:
        """Neither the store's absence nor a bug of ours ends it."""
        clock, turns = Clock(), iter([MdmdError("no store"), ValueError("a bug"), 0, 3, 0])
        called: list[float] = []

        async def work() -> int:
            called.append(clock.seconds())
            turn = next(turns)
            if isinstance(turn, Exception):
                raise turn
            return turn

        rounds = Rounds(clock, "tests", 60, work)
        self.successResultOf(Deferred.fromCoroutine(rounds.start()))
        for _ in range(3):
            clock.advance(60)
        clock.advance(0)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(called, [0, 60, 120, 180, 180])
        self.successResultOf(Deferred.fromCoroutine(rounds.stop()))
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_told_once(self) -> None:
        """What keeps round after round from its work is told once, until one goes well."""
        clock = Clock()
        turns = (
            [MdmdError("no store")] * 9 + [0] + [MdmdError("no store")] * 2 + [MdmdError("full")]
        )

        async def work() -> int:
            turn = turns.pop(0)
            if isinstance(turn, Exception):
                raise turn
            return turn

        rounds = Rounds(clock, "tests", 1, work)
        with capturedLogs() as told:
            self.successResultOf(Deferred.fromCoroutine(rounds.start()))
            clock.pump([1] * (len(turns)))
        self.successResultOf(Deferred.fromCoroutine(rounds.stop()))
        self.assertEqual([each["reason"] for each in told], ["no store", "no store", "full"])

    def test_stopped_at_work(self) -> None:
        """A round under way is cut short."""
        clock, waiting = Clock(), Deferred()

        async def work() -> int:
            await waiting
            return 0

        rounds = Rounds(clock, "tests", 60, work)
        self.successResultOf(Deferred.fromCoroutine(rounds.start()))
        self.successResultOf(Deferred.fromCoroutine(rounds.stop()))
        self.assertEqual(clock.getDelayedCalls(), [])
