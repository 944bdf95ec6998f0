"""What follows from what devices do: inventory, blueprints, refresh; on a real Valkey."""

import plistlib
import tempfile
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from random import random

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from mdmd.assembly.following import passed_over
from mdmd.errors import BadRequest, NotHere, StoreUnavailable
from mdmd.flow.enqueue import Enqueuer
from mdmd.flow.follow import BATCH, Follower
from mdmd.flow.learn import LARGE, Learner
from mdmd.flow.prepare import PATIENCE, Preparer
from mdmd.flow.refresh import Limits, Refresher
from mdmd.flow.send import How, Sender
from mdmd.interfaces.fleet import Event, Policy
from mdmd.interfaces.identity import Identity
from mdmd.mdm.catalogue.blueprint import Blueprint, Step, read_blueprints
from mdmd.mdm.catalogue.load import need_questions
from mdmd.mdm.command import build_command
from mdmd.mdm.report import Status
from mdmd.store.keys import REFRESH, member
from tests.storecase import StoreCase, Talker
from tests.test_send import QuietWaker

PHONE = {"ProductName": "iPhone14,2", "OSVersion": "18.1"}
PROFILE = Step("InstallProfile", {"Payload": b"<profile>"})


class FollowCase(StoreCase):
    """A store, a follower over it, and what it could not do."""

    async def setUp(self) -> None:
        await super().setUp()
        self.offloaded = 0
        self.numbers = count()
        self.failures: list[Event] = []
        learner = Learner(self.store.inventory, self.store.events, self.offload)
        self.enqueuer = Enqueuer(self.store.fleet, QuietWaker())
        self.reactions = [learner.react]
        self.follower = self.follow("one")

    def failed(self, event: Event, _: Exception) -> None:
        self.failures.append(event)

    def follow(
        self, who: str, failed: Callable[[Event, Exception], None] | None = None
    ) -> Follower:
        return Follower("t", who, self.store.following, self.reactions, failed or self.failed)

    async def offload(self, work):
        self.offloaded += 1
        return work()

    async def answer(
        self, mac: Talker, request_type: str, policy: Policy | None = None, **keys: object
    ) -> None:
        """Send a command and let the device answer it."""
        (outcome,) = await mac.is_sent(
            f"C-{next(self.numbers)}", policy=policy, request_type=request_type
        )
        self.assertEqual(outcome, "queued")
        uuid = await mac.idle()
        report = {
            "Status": "Acknowledged",
            "CommandUUID": uuid,
            "UDID": mac.enrollment.device,
            **keys,
        }
        await mac.says(Status.ACKNOWLEDGED, uuid, plistlib.dumps(report))

    async def fields(self, mac: Talker) -> dict[str, object]:
        ((known, _),) = await self.store.inventory.known([mac.enrollment])
        return {name: each.value for name, each in known.items()}

    async def all_steps(self) -> int:
        count = 0
        while done := await self.follower.step():
            count += done
        return count

    async def assertPushedSoon(self) -> None:
        """The waker pushes for what was queued as soon as it may: that is not a repeat."""
        due = await self.store.push.next_due()
        assert due is not None
        self.assertLessEqual(
            due, self.store.tools.now() + self.store.tools.settings.first_delay * 1000
        )


class LearnTests(FollowCase):
    """Answers become inventory after the reply has gone out."""

    async def test_an_answer_is_learnt(self) -> None:
        """Fields with the time of the answer; the record shows them."""
        mac = await self.enrolled()
        await self.answer(
            mac, "DeviceInformation", QueryResponses={"OSVersion": "15.1", "BatteryLevel": 0.5}
        )
        await self.all_steps()
        self.assertEqual(await self.fields(mac), {"OSVersion": "15.1", "BatteryLevel": 0.5})
        record = await self.store.fleet.enrollment(mac.enrollment)
        assert record is not None
        self.assertEqual(record.facts["OSVersion"], "15.1")
        self.assertEqual(self.offloaded, 0)

    async def test_a_large_one_is_read_elsewhere(self) -> None:
        """So that no other device waits for it."""
        mac = await self.enrolled()
        apps = [{"Identifier": f"com.example.{n}"} for n in range(2000)]
        self.assertGreater(len(plistlib.dumps({"a": apps})), LARGE)
        await self.answer(mac, "InstalledApplicationList", InstalledApplicationList=apps)
        await self.all_steps()
        self.assertEqual(self.offloaded, 1)
        self.assertEqual(await self.fields(mac), {"InstalledApplicationList": apps})

    async def test_an_odd_one_is_an_event_and_no_more(self) -> None:
        """It is in the results as it came, and the follower goes on."""
        mac = await self.enrolled()
        await self.answer(mac, "SecurityInfo", SecurityInfo="x")
        await self.answer(mac, "UserList", Users=[{"UserName": "jane"}])
        await self.all_steps()
        (odd,) = [
            each for each in await self.store.fleet.events() if each.topic == "mdmd.OddAnswer"
        ]
        self.assertEqual(odd.facts["oddities"], "SecurityInfo is a string, not a dictionary")
        self.assertEqual(odd.enrollment, str(mac.enrollment))
        self.assertEqual(await self.fields(mac), {"Users": [{"UserName": "jane"}]})
        self.assertEqual(self.failures, [])

    async def test_a_refused_setting_is_an_event(self) -> None:
        """Though the command as a whole was acknowledged."""
        mac = await self.enrolled()
        refused = [{"ErrorDomain": "MCMDMErrorDomain", "ErrorCode": 12021}]
        settings = [
            {"Item": "DeviceName", "Status": "Acknowledged"},
            {"Item": "Bluetooth", "Status": "Error", "ErrorChain": refused},
        ]
        await self.answer(mac, "Settings", Settings=settings)
        await self.answer(mac, "ScheduleOSUpdate", UpdateResults=[{"Status": "Downloading"}])
        await self.all_steps()
        failed = [each for each in await self.store.fleet.events() if "Part" in each.topic]
        self.assertEqual(
            [(each.facts["request_type"], each.facts["parts"]) for each in failed],
            [
                (
                    "Settings",
                    "Bluetooth Error MCMDMErrorDomain 12021 (it does not know this RequestType)",
                )
            ],
        )

    async def test_a_part_is_not_the_whole(self) -> None:
        """A list that was asked for by parts does not become the inventory."""
        mac = await self.enrolled()
        await self.answer(
            mac, "InstalledApplicationList", Policy(partial=True), InstalledApplicationList=[]
        )
        await self.all_steps()
        self.assertEqual(await self.fields(mac), {})

    async def test_it_goes_on_after_a_stop(self) -> None:
        """What was cut short by the end of the daemon is dealt with by the next one."""
        mac = await self.enrolled()
        await self.all_steps()
        await self.answer(mac, "DeviceInformation", QueryResponses={"OSVersion": "15.1"})
        learn, begun = self.reactions[0], Deferred()

        async def slow(event: Event) -> None:
            if event.facts.get("status") == "Acknowledged":
                reactor.callLater(0, begun.callback, None)  # type: ignore[attr-defined]
                await Deferred()

        self.reactions[0] = slow
        stopped = Deferred.fromCoroutine(self.follow("one", passed_over).step())
        await begun
        stopped.cancel()
        await self.assertFailure(stopped, CancelledError)
        self.reactions[0] = learn
        await self.all_steps()
        self.assertEqual(await self.fields(mac), {"OSVersion": "15.1"})

    async def test_it_goes_on_after_a_crash(self) -> None:
        """Another daemon takes over when the lease ends, from the same place; nothing is lost."""
        mac = await self.enrolled()
        for n in range(BATCH + 20):
            await self.answer(mac, "DeviceInformation", QueryResponses={f"N{n}": n})
            if n == 50:
                await self.follower.step()  # and then it dies
        second = self.follow("two")
        self.assertEqual(await second.step(), 0)
        await self.store.link.call("DEL", b"mdmd:follow:t:lease")
        while await second.step():
            pass
        self.assertEqual(len(await self.fields(mac)), BATCH + 20)

    async def test_a_message_that_can_not_be_read_stops_nobody(self) -> None:
        """Damaged, or sealed with another key: passed over, with a line in the log."""
        mac = await self.enrolled()
        facts = ("type", "Device", "status", "Acknowledged", "request_type", "UserList")
        await self.store.link.call(
            *("XADD", b"mdmd:events", "*", "topic", "mdm.Connect", "id", str(mac.enrollment)),
            *("raw", b"\x01damaged", *facts),
        )
        await self.answer(mac, "UserList", Users=[{"UserName": "jane"}])
        self.follower = Follower(
            *("t", "one", self.store.following, self.reactions),
            lambda event, _: self.failures.append(event),
            Learner.wants,
        )
        await self.all_steps()
        self.assertEqual(await self.fields(mac), {"Users": [{"UserName": "jane"}]})

    async def test_a_reaction_that_fails_stops_nobody(self) -> None:
        """It is told of, the event is passed over, and the others have it."""
        seen = []

        async def broken(event: Event) -> None:
            raise ValueError(event.id)

        async def sees(event: Event) -> None:
            seen.append(event.topic)

        self.reactions[:] = [broken, sees]
        await self.enrolled()
        await self.all_steps()
        self.assertEqual(seen, ["mdm.Authenticate", "mdm.TokenUpdate"])
        self.assertEqual([each.topic for each in self.failures], seen)


class BlueprintTests(FollowCase):
    """What a device is sent when it enrolls."""

    def prepare(self, *blueprints: Blueprint) -> None:
        preparer = Preparer(
            blueprints,
            self.store.fleet,
            self.enqueuer,
            self.store.limits,
            self.store.events,
            self.store.tools.now,
        )
        self.reactions.append(preparer.react)

    async def phone(self, awaiting: bool) -> Talker:
        one = self.device()
        await one.authenticate(**PHONE)
        await one.token_update(awaiting_configuration=awaiting)
        return one

    async def waiting(self, mac: Talker) -> list[str]:
        return [each.request_type for each in await self.store.fleet.queue(mac.enrollment)]

    async def test_in_order_and_device_configured_last(self) -> None:
        """A device that waits is let go after its steps; one that does not gets the steps only."""
        self.prepare(
            Blueprint("a", (PROFILE, Step("SecurityInfo", {}))),
            Blueprint("b", (Step("ProfileList", {}),)),
        )
        phone = await self.phone(awaiting=True)
        await self.all_steps()
        self.assertEqual(
            await self.waiting(phone),
            ["InstallProfile", "SecurityInfo", "ProfileList", "DeviceConfigured"],
        )
        await self.assertPushedSoon()
        await phone.authenticate(**PHONE)
        await phone.token_update()
        await self.all_steps()
        self.assertEqual(
            await self.waiting(phone), ["InstallProfile", "SecurityInfo", "ProfileList"]
        )

    async def test_who_it_is_for(self) -> None:
        """By platform and by the way of enrollment; nobody it is for is left as he is."""
        self.prepare(
            Blueprint("macs", (PROFILE,), platforms=("macOS",)),
            Blueprint("by hand", (Step("NSExtensionMappings", {}),), enrolled="manual"),
        )
        phone = await self.phone(awaiting=True)
        await self.all_steps()
        self.assertEqual(await self.waiting(phone), [])
        phone = await self.phone(awaiting=False)
        await self.all_steps()
        # A command that it can't take is left out, with an event.
        self.assertEqual(await self.waiting(phone), [])
        (left_out,) = [
            each for each in await self.store.fleet.events() if each.topic == "mdmd.StepLeftOut"
        ]
        self.assertEqual(left_out.facts["reason"], "NSExtensionMappings: not for iOS")

    async def test_one_from_another_server_is_left_alone(self) -> None:
        """A migrated device has been set up long ago."""
        self.prepare(Blueprint("a", (PROFILE,)))
        phone = self.device()
        phone.identity = Identity("")
        await phone.authenticate(Identity(""), **PHONE)
        await phone.token_update()
        await self.all_steps()
        self.assertEqual(await self.waiting(phone), [])

    async def test_repeated_it_does_no_harm(self) -> None:
        """The same event makes the same commands."""
        self.prepare(Blueprint("a", (PROFILE,)))
        phone = await self.phone(awaiting=True)
        events = await self.store.fleet.events()
        for _ in range(2):
            for event in events:
                await self.reactions[-1](event)
        self.assertEqual(await self.waiting(phone), ["InstallProfile", "DeviceConfigured"])

    async def test_a_crash_after_the_answer_repeats_nothing(self) -> None:
        """It dies with steps sent and answered, its place not moved on: none comes twice."""
        steps = (PROFILE, Step("SecurityInfo", {}), Step("ProfileList", {}))
        for answered in range(5):
            self.prepare(Blueprint("a", steps))
            prepare, begun = self.reactions[-1], Deferred()

            async def dies(event: Event) -> None:
                await prepare(event)  # noqa: B023
                if event.topic == "mdm.TokenUpdate":
                    reactor.callLater(0, begun.callback, None)  # noqa: B023
                    await Deferred()

            self.reactions[-1] = dies
            phone = await self.phone(awaiting=True)
            dying = Deferred.fromCoroutine(self.follow("one", passed_over).step())
            await begun
            given = [await phone.idle()]
            for _ in range(answered):
                given.append(await phone.acknowledges(given[-1]))
            dying.cancel()
            await self.assertFailure(dying, CancelledError)
            self.reactions[-1] = prepare
            await self.all_steps()
            while given[-1]:
                given.append(await phone.acknowledges(given[-1]))
            self.assertEqual(len(given), 5)
            kinds = [each.request_type for each in await self.store.fleet.results(phone.enrollment)]
            self.assertEqual(
                kinds[:4], ["DeviceConfigured", "ProfileList", "SecurityInfo", "InstallProfile"]
            )
            self.reactions.pop()

    async def test_a_crash_between_two_steps_goes_on_with_the_next(self) -> None:
        """What was not queued before is queued after it, in order; the rest is not repeated."""
        steps = (PROFILE, Step("SecurityInfo", {}), Step("ProfileList", {}))
        store, sent = self.store, count(1)

        class Dying:
            async def enqueue(self, command, targets, policy):
                if next(sent) == 3:
                    raise StoreUnavailable("gone")
                return await store.fleet.enqueue(command, targets, policy)

        preparer = Preparer(
            *((Blueprint("a", steps),), store.fleet, Enqueuer(Dying(), QuietWaker())),
            *(store.limits, store.events, store.tools.now),
        )
        phone = await self.phone(awaiting=True)
        with self.assertRaises(StoreUnavailable):
            await preparer.react((await store.fleet.events())[-1])
        self.prepare(Blueprint("a", steps))
        first = await phone.idle()
        assert first is not None
        second = await phone.acknowledges(first)
        assert second is not None
        self.assertIsNone(await phone.acknowledges(second))
        await self.all_steps()
        self.assertEqual(await self.waiting(phone), ["ProfileList", "DeviceConfigured"])

    async def test_other_blueprints_after_a_crash(self) -> None:
        """The blueprint was changed while the daemon that had begun was down: on to the end."""
        steps = [Step("SecurityInfo", {}), Step("ProfileList", {}), Step("CertificateList", {})]
        for after in (steps, steps[:1], []):
            store, sent = self.store, count(1)

            class Dying:
                async def enqueue(self, command, targets, policy):
                    if next(sent) == 3:  # noqa: B023
                        raise StoreUnavailable("gone")
                    return await store.fleet.enqueue(command, targets, policy)  # noqa: B023

            before = Preparer(
                *((Blueprint("a", (PROFILE,) * 3),), store.fleet, Enqueuer(Dying(), QuietWaker())),
                *(store.limits, store.events, store.tools.now),
            )
            phone = await self.phone(awaiting=True)
            event = (await store.fleet.events(limit=1000))[-1]
            with self.assertRaises(StoreUnavailable):
                await before.react(event)
            self.prepare(Blueprint("a", tuple(after)))
            await self.reactions.pop()(event)
            self.assertEqual(
                await self.waiting(phone),
                ["InstallProfile"] * 2
                + [each.request_type for each in after[2:]]
                + ["DeviceConfigured"],
            )

    async def test_one_that_was_let_go_waits_no_more(self) -> None:
        """Once it has acknowledged DeviceConfigured; a device that refuses it still waits."""
        for status, waits in ((Status.ERROR, True), (Status.ACKNOWLEDGED, False)):
            self.prepare(Blueprint("a", ()))
            phone = await self.phone(awaiting=True)
            await self.all_steps()
            end = await phone.idle()
            assert end is not None
            await phone.says(status, end)
            record = await self.store.fleet.enrollment(phone.enrollment)
            assert record is not None
            self.assertEqual(record.awaiting_configuration, waits)

    async def test_enrolled_again_before_it_was_seen(self) -> None:
        """A device that enrolls twice while nobody follows gets each step once."""
        self.prepare(Blueprint("a", (PROFILE,)))
        await self.phone(awaiting=True)
        phone = await self.phone(awaiting=True)
        await self.all_steps()
        self.assertEqual(await self.waiting(phone), ["InstallProfile", "DeviceConfigured"])

    async def test_a_step_that_fails_holds_nobody_back(self) -> None:
        """Error and NotNow: on with the next one, up to DeviceConfigured."""
        self.prepare(Blueprint("a", (PROFILE, Step("SecurityInfo", {}))))
        phone = await self.phone(awaiting=True)
        await self.all_steps()
        first, second, end = [each.uuid for each in await self.store.fleet.queue(phone.enrollment)]
        self.assertEqual(await phone.idle(), first)
        self.assertEqual(await phone.says(Status.ERROR, first), second)
        self.assertEqual(await phone.not_now(second), end)

    async def test_a_step_without_an_answer_is_given_up(self) -> None:
        """After some deliveries, or when the time is over; then the device is pushed once more."""
        self.prepare(Blueprint("a", (PROFILE, Step("SecurityInfo", {})), limit=600))
        phone = await self.phone(awaiting=True)
        await self.all_steps()
        first, second, end = [each.uuid for each in await self.store.fleet.queue(phone.enrollment)]
        for _ in range(PATIENCE):
            self.assertEqual(await phone.idle(), first)
        self.assertEqual(await phone.idle(), second)
        self.clock.advance(599)
        self.assertEqual(await self.store.limits.take(10, 1000), [])
        self.clock.advance(1)
        pushed = []

        class Waker(QuietWaker):
            async def push(self, targets):
                pushed.extend(targets)
                return await super().push(targets)

        limits = Limits(self.store.limits, Waker())
        self.assertEqual(await limits.round(), 1)
        self.assertEqual(pushed, [phone.enrollment])
        self.assertEqual(await phone.idle(), end)
        self.clock.advance(10_000)
        self.assertEqual(await limits.round(), 0)


class RefreshTests(FollowCase):
    """What is known is asked for again in time."""

    async def setUp(self) -> None:
        await super().setUp()
        store = self.store
        self.jitter: float | None = 0.5
        self.sender = Sender(store.fleet, store.inventory, self.enqueuer)
        self.refresher = self.refreshing(3600)
        self.reactions.append(self.refresher.react)

    def refreshing(
        self, interval: float, commands: Sequence[str] = ("DeviceInformation", "SecurityInfo")
    ) -> Refresher:
        store = self.store
        return Refresher(
            interval,
            commands,
            store.refresh,
            store.fleet,
            store.inventory,
            self.sender,
            lambda: random() if self.jitter is None else self.jitter,
            store.tools.now,
        )

    async def kinds(self, mac: Talker) -> list[str]:
        return [each.request_type for each in await self.store.fleet.queue(mac.enrollment)]

    async def test_at_enrollment_and_then_in_time(self) -> None:
        """At once, then before the hour is over; each device what it can answer; one of each."""
        mac, phone = self.device(1), self.device(2)
        await mac.enroll(ProductName="Mac14,7", OSVersion="15.1")
        await phone.enroll(**PHONE)
        await self.all_steps()
        await self.until_done(self.refresher)
        self.assertEqual(await self.kinds(mac), ["DeviceInformation", "SecurityInfo"])
        await self.assertPushedSoon()
        self.assertEqual(await self.refresher.round(), 0)
        report = await self.asked(phone)
        self.assertIn("IsMDMLostModeEnabled", report)
        self.assertNotIn("HostName", report)
        self.assertIn("HostName", await self.asked(mac))
        self.clock.advance(3600 * 0.9)
        self.assertEqual(await self.refresher.round(), 2)
        # What was not answered is asked already.
        self.assertEqual(await self.kinds(phone), ["DeviceInformation", "SecurityInfo"])

    async def test_a_device_that_is_away_for_long(self) -> None:
        """What waits for it is enough: no refresh adds to its queue, or pushes results out."""
        mac = await self.enrolled()
        await self.all_steps()
        await self.until_done(self.refresher)
        events = len(await self.store.fleet.events(limit=1000))
        for _ in range(30):
            self.clock.advance(3600 * 0.9)
            await self.until_done(self.refresher)
        self.assertEqual(await self.kinds(mac), ["DeviceInformation", "SecurityInfo"])
        self.assertEqual(await self.store.fleet.results(mac.enrollment), [])
        self.assertEqual(len(await self.store.fleet.events(limit=1000)), events)
        first = await mac.idle()
        assert first is not None
        self.assertIsNotNone(await mac.acknowledges(first))

    async def test_what_an_operator_asks_is_left_alone(self) -> None:
        """It may be more than the schedule asks; and an operator's own does not wait for it."""
        mac = await self.enrolled()
        await self.all_steps()
        command = build_command("DeviceInformation", {"Queries": ["DevicePropertiesAttestation"]})
        await self.sender.send(command, [str(mac.enrollment)], How())
        await self.until_done(self.refresher)
        self.assertEqual(
            await self.kinds(mac), ["DeviceInformation", "DeviceInformation", "SecurityInfo"]
        )
        self.assertEqual(await self.asked(mac), ["DevicePropertiesAttestation"])

    async def asked(self, mac: Talker) -> list[str]:
        uuid = await mac.idle()
        assert uuid is not None
        command = await self.store.fleet.command(uuid)
        assert command is not None
        return plistlib.loads(command.raw)["Command"]["Queries"]

    async def test_who_left_is_not_asked(self) -> None:
        """A device that checked out, before or after it was due."""
        mac, phone = await self.enrolled(1), await self.enrolled(2)
        await self.all_steps()
        await mac.check_out()
        await self.until_done(self.refresher)
        self.assertEqual(await self.kinds(mac), [])
        await phone.check_out()
        await self.all_steps()
        self.clock.advance(7200)
        self.assertEqual(await self.refresher.round(), 0)

    async def until_done(self, refresher: Refresher) -> None:
        while await refresher.round():
            pass

    async def told(self, mac: Talker) -> None:
        """It tells what it is, at this very moment."""
        await self.store.inventory.learn(
            mac.enrollment, {"OSVersion": "15.1", "IsSupervised": True}, self.store.tools.now()
        )

    async def due(self, mac: Talker) -> float:
        """In how many seconds it is asked again."""
        score = await self.store.link.call("ZSCORE", REFRESH, member(mac.enrollment))
        assert score is not None, "never"
        return (float(score) - self.store.tools.now()) / 1000

    async def test_who_enrolled_before_there_was_a_schedule_is_asked(self) -> None:
        """Soon after the option was set, without a word from the device; user channels are not."""
        mac, user = await self.enrolled(), self.user()
        await user.token_update()
        # What it said when it enrolled is no answer.
        now = self.store.tools.now()
        await self.store.inventory.learn(mac.enrollment, {"OSVersion": "15.1"}, now)
        await self.until_done(self.refresher)
        self.clock.advance(3600 * 0.1)
        await self.until_done(self.refresher)
        self.assertEqual(await self.kinds(mac), ["DeviceInformation", "SecurityInfo"])
        self.assertEqual(await self.kinds(user), [])

    async def test_a_shorter_time_brings_everybody_forward(self) -> None:
        """By the age of what each told; a start with the same interval puts nobody off."""
        fresh, stale = await self.enrolled(1), await self.enrolled(2)
        weekly = self.refreshing(7 * 86_400)
        await self.told(stale)
        self.clock.advance(3000)
        await self.told(fresh)
        await self.until_done(weekly)
        self.assertGreater(await self.due(fresh), 5 * 86_400)
        for _ in range(2):
            await self.until_done(self.refreshing(3600))
            self.assertApproximates(await self.due(fresh), 3600 * 0.8, 1)
            self.assertLessEqual(await self.due(stale), 600)
        await self.until_done(self.refreshing(7 * 86_400))
        self.assertApproximates(await self.due(fresh), 3600 * 0.8, 1)

    async def test_nothing_gets_older_than_wanted(self) -> None:
        """Even by the latest jitter a device has a tenth of the time left to answer."""
        mac = await self.enrolled()
        await self.all_steps()
        self.jitter = 0.999
        await self.until_done(self.refresher)
        self.assertLess(await self.due(mac), 3600 * 0.9)

    async def test_other_commands(self) -> None:
        """Where nobody asks for what would tell when they were last asked, a start asks nobody."""
        await self.device(1).enroll(**PHONE)
        refresher = self.refreshing(3600, ["SecurityInfo"])
        await self.until_done(refresher)
        self.assertEqual(await self.kinds(self.device(1)), [])
        self.clock.advance(3600 * 0.9)
        self.assertEqual(await refresher.round(), 1)
        self.assertEqual(await self.kinds(self.device(1)), ["SecurityInfo"])
        again = self.refreshing(3600, ["SecurityInfo"])
        await self.until_done(again)
        self.clock.advance(3600 * 0.6)
        self.assertEqual(await again.round(), 0)

    async def test_after_a_long_rest_everybody_is_asked(self) -> None:
        """By a daemon that was down for longer than the interval; and spread the next time."""
        macs = [await self.enrolled(number) for number in range(1, 130)]
        await self.all_steps()
        await self.until_done(self.refresher)
        self.clock.advance(3600 * 10)
        self.jitter = None
        await self.until_done(self.refreshing(3600))
        dues = sorted([await self.due(mac) for mac in macs])
        self.assertGreater(dues[0], 3600 * 0.7 - 1)
        self.assertLess(dues[-1], 3600 * 0.9)
        self.assertGreater(dues[-1] - dues[0], 3600 * 0.1)

    async def test_a_later_token_update_puts_nobody_off(self) -> None:
        """What is planned stays."""
        await self.until_done(self.refresher)
        mac = await self.enrolled()
        await mac.token_update()
        await self.all_steps()
        self.assertEqual(await self.refresher.round(), 1)
        await self.store.link.call("DEL", b"mdmd:refresh")
        await mac.token_update()
        await self.all_steps()
        self.clock.advance(3600)
        await mac.token_update()
        await self.all_steps()
        self.assertEqual(await self.refresher.round(), 1)


class BlueprintFileTests(SynchronousTestCase):
    """The file that says it."""

    def read(self, text: str) -> tuple[Blueprint, ...]:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(lambda: [*map(Path.unlink, folder.iterdir()), folder.rmdir()])
        (folder / "wifi.mobileconfig").write_bytes(b"<profile>")
        (folder / "blueprints.toml").write_text(text)
        return read_blueprints(folder / "blueprints.toml")

    def test_a_good_one(self) -> None:
        """The words of mdmctl send; files beside it."""
        (found,) = self.read(
            """
            [[blueprint]]
            name = "ipads"
            platforms = ["iOS"]
            enrolled = "automated"
            limit = "90s"
            [[blueprint.step]]
            command = "InstallProfile"
            words = ["Payload=@wifi.mobileconfig"]
            """
        )
        self.assertEqual(found, Blueprint("ipads", (PROFILE,), ("iOS",), "automated", 90.0))
        self.assertTrue(found.is_for("iOS", True))
        self.assertFalse(found.is_for("iOS", False))
        self.assertFalse(found.is_for(None, True))
        self.assertEqual(self.read(""), ())

    def test_every_mistake_is_named(self) -> None:
        """All at once: the daemon does not start with a blueprint that can't work."""
        with self.assertRaises(ValueError) as caught:
            self.read(
                """
                [[blueprint]]
                name = "x"
                platform = ["iOS"]
                platforms = ["webOS"]
                enrolled = "often"
                limit = "soon"
                [[blueprint.step]]
                command = "InstalProfile"
                [[blueprint.step]]
                command = "InstallProfile"
                [[blueprint.step]]
                command = "InstallProfile"
                words = ["Payload=@nothing"]
                [[blueprint.step]]
                command = "InstallProfile"
                words = "Payload"
                [[blueprint.step]]
                command = "DeviceConfigured"
                [[blueprint]]
                name = "y"
                limit = "0s"
                """
            )
        text = str(caught.exception)
        for mistake in (
            "unknown key 'platform' (did you mean platforms?)",
            "platforms is a list of",
            "enrolled is one of",
            "limit is a time such as",
            "step 1: no command 'InstalProfile' (did you mean InstallProfile?)",
            "step 2: Payload: needed, but missing",
            "step 3: Payload: ",
            "step 4: words is a list",
            "step 5: DeviceConfigured is sent by itself",
            "blueprint y: limit is a time",
        ):
            self.assertIn(mistake, text)
        for broken in ("blueprint = 1", "[blueprint]", "= ="):
            self.assertRaises(ValueError, self.read, broken)

    def test_questions(self) -> None:
        """Only commands that ask can be sent on a schedule."""
        need_questions(("DeviceInformation", "SecurityInfo", "ProfileList"))
        for wrong in (
            "EraseDevice",
            "InstallProfile",
            "ManagedApplicationAttributes",
            "RestartDevice",
        ):
            self.assertRaises(BadRequest, need_questions, (wrong,))
        self.assertRaises(NotHere, need_questions, ("DeviceInfo",))
