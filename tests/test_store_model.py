"""The same random traces to the model and to a real Valkey; every answer has to be the same."""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import MdmdError
from mdmd.interfaces.fleet import Policy, Priority
from mdmd.interfaces.identity import Identity
from mdmd.interfaces.push import Decision, DuePush, PushOutcome
from mdmd.mdm.command import Command
from mdmd.mdm.enrollment import EnrollmentID, EnrollmentType
from mdmd.mdm.report import Report, Status
from mdmd.store import keys
from mdmd.store.store import Settings, Store
from tests.blocking import BlockingLink, run
from tests.model import Line, Model
from tests.storecase import BEGIN, MS, SEALER, Talker
from tests.storehelp import Server

# How hard to look: the suite takes seconds; `MODEL_EXAMPLES=5000` takes its time.
EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "80"))
STEPS = 40

SETTINGS = Settings(results_kept=4, first_delay=5.0, repeat=(120.0, 600.0, 3600.0))
LEASE = 30_000
DEVICES = [EnrollmentID("MAC"), EnrollmentID("PHONE", "", EnrollmentType.USER_ENROLLMENT_DEVICE)]
USERS = [
    EnrollmentID("MAC", "jo", EnrollmentType.USER),
    EnrollmentID("PHONE", "al", EnrollmentType.USER_ENROLLMENT),
]
FINGERPRINTS = ["", "aa", "bb", "cc"]  # "": an integrator vouches for it
UUIDS = ["A", "0A1B2C3D-0000-5AC1-BDB2-00000000000B", "c", "d", "e"]
KINDS = ["authenticate", "token", "token", "out", "escrow", "forget", "escrowed", "enroll"]

anyone = st.sampled_from(DEVICES + USERS)
# Mostly the right one, or nothing would ever happen.
whose = st.sampled_from(["own"] * 8 + FINGERPRINTS)
uuids = st.sampled_from(UUIDS)
priorities = st.sampled_from(list(Priority))
answers = st.sampled_from([Status.NOT_NOW, Status.NOT_NOW, Status.ACKNOWLEDGED, Status.IDLE])


def outcome(call: Callable[[], Any]) -> Any:
    """What it returns, or the kind of error it raises."""
    try:
        return call()
    except MdmdError as error:
        return type(error)


class StoreMachine(RuleBasedStateMachine):
    """Every rule does the same on both sides and compares."""

    server: Server

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = BEGIN
        self.link = BlockingLink(str(self.server.socket))
        run(self.link.call("FLUSHALL"))
        self.store = Store(self.link, SEALER, self.clock, SETTINGS)
        self.given: str | None = None
        self.fresh = 0
        self.reported: tuple[EnrollmentID, str, Status, str, str] | None = None
        self.model = Model(5000, [120_000, 600_000, 3_600_000], 4, MS)
        self.claims: list[tuple[DuePush, bytes]] = []
        self.touched = str(DEVICES[0])
        for one in DEVICES:
            self.enroll(one)
        for one in USERS:
            self.token_update(one, "own")

    def teardown(self) -> None:
        self.link.close()

    def talker(self, one: EnrollmentID, whose: str) -> tuple[Talker, str]:
        """A device with a certificate; ``own`` is the one pinned, or one of its own."""
        own = self.model.pins.get(one.device) or ("aa" if one.device == "MAC" else "bb")
        fingerprint = own if whose == "own" else whose
        self.touched = str(one)
        return Talker(self.store, one, Identity(fingerprint)), fingerprint

    def same(self, real: Callable[[], Any], model: Callable[[], Any]) -> Any:
        expected = outcome(model)
        got = outcome(real)
        assert got == expected, (got, expected)
        return got

    # -- check-ins ---------------------------------------------------------------

    @rule(
        one=anyone,
        whose=whose,
        kind=st.sampled_from(
            ["authenticate", "token", "token", "out", "escrow", "forget", "escrowed", "enroll"]
        ),
    )
    def check_in(self, one: EnrollmentID, whose: str, kind: str) -> None:
        """One rule for all of them: a fleet connects more often than it enrolls."""
        match kind:
            case "authenticate":
                self.authenticate(one, whose)
            case "token":
                self.token_update(one, whose)
            case "out":
                self.check_out(one, whose)
            case "escrow":
                self.escrow(one, whose, b"boot")
            case "forget":
                self.escrow(one, whose, b"")
            case "escrowed":
                self.escrowed(one, whose)
            case _:
                self.enroll(one)

    def authenticate(self, one: EnrollmentID, whose: str) -> None:
        talker, fingerprint = self.talker(one, whose)
        self.same(
            lambda: run(talker.authenticate()),
            lambda: self.model.authenticate(str(one), fingerprint, one.type.value),
        )

    def token_update(self, one: EnrollmentID, whose: str) -> None:
        talker, fingerprint = self.talker(one, whose)
        self.same(
            lambda: run(talker.token_update()),
            lambda: self.model.token_update(str(one), fingerprint, one.type.value),
        )

    def enroll(self, one: EnrollmentID) -> None:
        self.authenticate(one, "own")
        self.token_update(one, "own")

    def check_out(self, one: EnrollmentID, whose: str) -> None:
        talker, fingerprint = self.talker(one, whose)
        self.same(
            lambda: run(talker.check_out()), lambda: self.model.check_out(str(one), fingerprint)
        )

    def escrow(self, one: EnrollmentID, whose: str, token: bytes) -> None:
        talker, fingerprint = self.talker(one, whose)
        self.same(
            lambda: run(talker.escrow(token)),
            lambda: self.model.set_bootstrap(str(one), fingerprint, token),
        )

    def escrowed(self, one: EnrollmentID, whose: str) -> None:
        talker, fingerprint = self.talker(one, whose)
        self.same(
            lambda: run(talker.escrowed()),
            lambda: self.model.get_bootstrap(str(one), fingerprint),
        )

    # -- connect -------------------------------------------------------------------

    @rule(
        one=anyone,
        whose=whose,
        status=st.sampled_from(list(Status)),
        uuid=uuids,
        flavour=st.sampled_from(["", "", " again"]),
    )
    def connect(
        self, one: EnrollmentID, whose: str, status: Status, uuid: str, flavour: str
    ) -> None:
        talker, fingerprint = self.talker(one, whose)
        named = None if status is Status.IDLE else uuid
        raw = f"<plist>{status.value}{named}{flavour}</plist>".encode()

        def real() -> str | None:
            report = Report(one, status, named, "", raw)
            answer = run(self.store.queue.report_and_next(report, talker.identity)).command
            if answer is None:
                return None
            assert answer.raw == self.model.bodies[answer.uuid]
            return str(answer.uuid)

        answer = self.same(
            real, lambda: self.model.connect(str(one), fingerprint, status.value, named, raw)
        )
        self.given = answer if isinstance(answer, str) else None
        self.reported = one, whose, status, uuid, flavour

    @rule()
    def say_it_again(self) -> None:
        """The answer did not arrive, so the device repeats its report."""
        if self.reported:
            self.connect(*self.reported)

    @rule(
        one=anyone,
        statuses=st.lists(answers, min_size=4, max_size=10),
        priorities=st.lists(priorities, max_size=4),
        max_attempts=st.sampled_from([None, 1, 2]),
    )
    def session(
        self,
        one: EnrollmentID,
        statuses: list[Status],
        priorities: list[Priority],
        max_attempts: int | None,
    ) -> None:
        """A device that answers what it gets, among it commands that nobody had before."""
        for priority in priorities:
            self.fresh += 1
            self.enqueue(f"N{self.fresh}", 0, [one], priority, None, max_attempts, True)
        self.given = None
        for status in statuses:
            if self.given is None or status is Status.IDLE:
                self.connect(one, "own", Status.IDLE, "", "")
            else:
                self.connect(one, "own", status, self.given, "")

    # -- operators ------------------------------------------------------------------

    @rule(
        uuid=uuids,
        variant=st.sampled_from([0, 0, 0, 1]),
        whom=st.lists(anyone, min_size=1, max_size=4, unique=True),
        priority=priorities,
        expires=st.sampled_from([None, None, 0, 60_000]),
        max_attempts=st.sampled_from([None, None, 1, 2]),
        wake=st.booleans(),
        later=st.sampled_from([None, None, None, 0, 30_000, 7_200_000]),
        kind=st.sampled_from(["", "", "", "lock", "info"]),
        step=st.sampled_from([None, None, None, (1, 1), (1, 2), (2, 1), (3, 2)]),
    )
    def enqueue(
        self,
        uuid: str,
        variant: int,
        whom: list[EnrollmentID],
        priority: Priority,
        expires: int | None,
        max_attempts: int | None,
        wake: bool,
        later: int | None = None,
        kind: str = "",
        step: tuple[int, int] | None = None,
    ) -> None:
        body = f"<plist>{uuid} {variant}</plist>".encode()
        until = None if expires is None else self.model.now + expires
        not_before = None if later is None else self.model.now + later
        extra = (not_before, kind, kind == "info")  # of "info" a new one replaces the old
        policy = Policy(priority, until, max_attempts, wake, *extra, step=step)
        self.touched = str(whom[0])
        self.same(
            lambda: run(self.store.fleet.enqueue(Command(uuid, "T", body), whom, policy)),
            lambda: self.model.enqueue(
                *(uuid, body, list(map(str, whom)), priority, until, max_attempts, wake),
                *extra,
                step=step,
            ),
        )

    @rule(one=anyone, uuid=st.sampled_from([*UUIDS, None]))
    def cancel(self, one: EnrollmentID, uuid: str | None) -> None:
        """One, or all."""
        self.touched, fleet = str(one), self.store.fleet
        if uuid is None:
            self.same(lambda: run(fleet.clear(one)), lambda: self.model.clear(str(one)))
            return

        def real() -> None:
            assert run(fleet.cancel(one, uuid)).uuid == uuid

        self.same(real, lambda: self.model.cancel(str(one), uuid))

    # -- push and time ---------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.001, 5.0, 31.0, 130.0]))
    def wait(self, seconds: float) -> None:
        # In whole milliseconds, for both count in them.
        self.model.now += int(seconds * 1000)
        self.clock.rightNow = self.model.now / 1000

    @rule()
    def claim(self) -> None:
        def real() -> list[tuple[str, int]]:
            due = run(self.store.push.claim_due(100, LEASE))
            self.claims += [(each, self.secret(each.enrollment)) for each in due]
            return sorted((str(each.enrollment), each.attempt) for each in due)

        before = len(self.model.events)
        self.same(real, lambda: self.model.due(self.model.now + LEASE))
        # Of those that are claimed together anybody may be the first.
        told = self.told()[before:]
        assert sorted(told) == sorted(self.model.events[before:])
        self.model.events[before:] = told

    def secret(self, one: EnrollmentID) -> bytes:
        """The sealed token, which tells whether another came since."""
        return bytes(run(self.link.call("GET", keys.push(one))) or b"")

    @rule(decision=st.sampled_from(list(Decision)), again=st.sampled_from([None, 120_000]))
    def pushed(self, decision: Decision, again: int | None) -> None:
        if not self.claims:
            return
        due, secret = self.claims.pop()
        dropped = decision is Decision.DROP_TOKEN
        next_push = None if again is None or dropped else self.model.now + again
        result = PushOutcome(decision, 200, "R", "apns-id")
        same = self.secret(due.enrollment) == secret
        self.touched = str(due.enrollment)
        run(self.store.push.pushed(due, result, next_push))
        self.model.pushed(
            str(due.enrollment),
            due.claim.until,  # type: ignore[attr-defined]
            next_push,
            decision is Decision.DELIVERED,
            dropped,
            same,
        )

    # -- what has to be the same after every step ----------------------------------------

    @invariant()
    def the_same_state(self) -> None:
        if not hasattr(self, "model"):
            return
        one = EnrollmentID.parse(self.touched)
        record = run(self.store.fleet.enrollment(one))
        expected = self.model.one.get(self.touched)
        assert (record is None) == (expected is None)
        if record is None or expected is None:
            return
        assert record.enrollment.type.value == expected.type
        assert record.pin == self.model.pins.get(one.device, "")
        for field in ("enabled", "tally", "generation", "has_token", "next_push"):
            assert getattr(record, field) == getattr(expected, field), field
        assert record.last_seen == expected.seen
        assert record.pending == sum(not line.parked for line in expected.lines)
        queue = run(self.store.fleet.queue(one))
        assert [_shown(line) for line in queue] == [_shown(line) for line in expected.ordered()]
        results = run(self.store.fleet.results(one))
        assert [(each.uuid, each.status, each.attempts) for each in results] == expected.results

    @invariant()
    def bodies_live_as_long_as_they_are_needed(self) -> None:
        if hasattr(self, "model"):
            kept = run(self.link.call("KEYS", "mdmd:command:*"))
            assert len(kept) == len(self.model.live())

    @invariant()
    def the_same_events(self) -> None:
        if hasattr(self, "model"):
            told = self.told()
            assert told == self.model.events, (told[-3:], self.model.events[-3:])

    def told(self) -> list[tuple[str, str, str]]:
        """The events: topic, enrollment, status."""
        return [
            (each.topic, each.enrollment, each.facts.get("status", ""))
            for each in run(self.store.fleet.events(limit=10_000))
            if each.topic != "mdmd.PushFailed"
        ]


def _shown(line: Any) -> tuple[object, ...]:
    """What both sides say of a command in a queue."""
    model = isinstance(line, Line)
    return (
        *(line.uuid, line.priority, line.sequence, line.state, line.attempts, line.last_sent),
        line.not_now if model else line.not_now_count,
        *(line.first_not_now, line.last_not_now, line.expires, line.max_attempts),
        line.not_before,
    )


class ModelTests(SynchronousTestCase):
    """The scripts do what the rules say, in any order of events."""

    def test_random_traces(self) -> None:
        """Enrollments, reports, operators, pushes and time in random order."""
        server = Server()
        self.addCleanup(server.close)
        server.start()
        StoreMachine.server = server
        run_state_machine_as_test(
            StoreMachine,
            settings=hypothesis_settings(
                max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, database=None
            ),
        )
