"""Commands for later, commands of which one is enough, and a night of NotNow; on a real Valkey."""

from typing import Any

from mdmd.interfaces.fleet import Enqueued, Policy, Priority
from mdmd.interfaces.push import DuePush
from mdmd.mdm.report import Status
from mdmd.store import keys
from tests.storecase import MS, StoreCase, Talker, command

HOUR = 3_600_000


class LaterTests(StoreCase):
    """``not_before``."""

    async def next_due(self) -> int | None:
        return await self.store.push.next_due()

    async def test_it_waits_for_its_time(self) -> None:
        """Before, the device gets nothing and is not pushed; at the time it is, and gets it."""
        mac = await self.enrolled()
        await mac.idle()
        sent = await mac.is_sent("LATER", policy=Policy(not_before=MS + HOUR))
        self.assertEqual(sent, ["later"])
        self.assertIsNone(await mac.idle())
        self.assertEqual(await self.next_due(), MS + HOUR)
        self.clock.advance(3599)
        self.assertIsNone(await mac.idle())
        self.assertEqual(await self.store.push.claim_due(10, 1000), [])
        self.clock.advance(1)
        due = await self.store.push.claim_due(10, 1000)
        self.assertEqual([type(each) for each in due], [DuePush])
        self.assertEqual(await mac.idle(), "LATER")
        self.assertIsNone(await mac.acknowledges("LATER"))
        self.assertIsNone(await self.next_due())

    async def test_its_place_is_that_of_its_sequence(self) -> None:
        """When its time has come it goes before what was queued after it."""
        mac = await self.enrolled()
        await mac.is_sent("LATER", policy=Policy(not_before=MS + HOUR))
        await mac.is_sent("A", "B")
        self.assertEqual(await mac.idle(), "A")
        self.clock.advance(3600)
        self.assertEqual(await mac.acknowledges("A"), "LATER")

    async def test_other_work_is_pushed_for_meanwhile(self) -> None:
        """A repeat that is due sooner stays; one that is due later gives way."""
        mac = await self.enrolled()
        await mac.is_sent("LATER", policy=Policy(not_before=MS + HOUR))
        await mac.is_sent("A")
        self.assertLess(await self.next_due() or 0, MS + HOUR)
        await mac.idle()
        await mac.says(Status.NOT_NOW, "A")
        self.assertLessEqual(await self.next_due() or 0, MS + HOUR)

    async def test_it_is_listed_cancelled_and_ended_like_any_other(self) -> None:
        """An operator sees when; a new generation ends it."""
        mac = await self.enrolled()
        await mac.is_sent("LATER", "OTHER", policy=Policy(not_before=MS + HOUR))
        lines = await self.store.fleet.queue(mac.enrollment)
        self.assertEqual(
            [(each.state, each.not_before, each.priority) for each in lines],
            [("waiting", MS + HOUR, 4)] * 2,
        )
        record = await self.store.fleet.enrollment(mac.enrollment)
        assert record is not None
        self.assertEqual(record.pending, 2)
        await self.store.fleet.cancel(mac.enrollment, "LATER")
        self.assertEqual(await self.next_due(), MS + HOUR)
        await mac.enroll()
        self.assertEqual(await self.store.fleet.queue(mac.enrollment), [])

    async def test_one_that_expires_before_its_time_is_set_aside(self) -> None:
        """It is never sent, and the next one goes."""
        mac = await self.enrolled()
        await mac.is_sent("LATER", policy=Policy(not_before=MS + HOUR, expires=MS + HOUR))
        await mac.is_sent("A")
        self.clock.advance(3600)
        self.assertEqual(await mac.idle(), "A")
        self.assertEqual((await self.store.fleet.queue(mac.enrollment))[-1].state, "expired")

    async def test_one_that_is_ripe_among_many_is_offered(self) -> None:
        """However many others wait for their time, and wherever it is among them."""
        mac = await self.enrolled()
        for n in range(10_000):
            policy = Policy(not_before=MS + (3600 if n == 7_000 else 7200) * 1000)
            await self.store.fleet.enqueue(command(f"{n:05}"), [mac.enrollment], policy)
        self.clock.advance(3599)
        self.assertIsNone(await mac.idle())
        self.assertEqual(await self.next_due(), MS + HOUR)
        self.clock.advance(1)
        self.assertEqual(await mac.idle(), "07000")
        self.assertIsNone(await mac.acknowledges("07000"))
        self.assertEqual(await self.next_due(), MS + 2 * HOUR)

    async def test_many_ripen_at_once_in_their_order(self) -> None:
        """More than one script call lets in: the first of all is offered, and nothing waits."""
        mac = await self.enrolled()
        for n in range(2_500):
            urgent = n == 2_400
            policy = Policy(Priority.SECURITY if urgent else Priority.NORMAL, not_before=MS + 5000)
            await self.store.fleet.enqueue(command(f"{9999 - n}"), [mac.enrollment], policy)
        self.clock.advance(5)
        self.assertEqual(await mac.idle(), "7599")
        self.assertEqual(await mac.acknowledges("7599"), "9999")
        self.assertEqual(await mac.acknowledges("9999"), "9998")
        lines = await self.store.fleet.queue(mac.enrollment)
        self.assertEqual([each.uuid for each in lines[:3]], ["9998", "9997", "9996"])
        self.assertLessEqual(await self.next_due() or 0, MS + 5000 + 120_000)

    async def test_all_devices_keep_its_one_place(self) -> None:
        """Queued on another device later it has the place of the first; once ripe, its own."""
        mac, other, third = [await self.enrolled(n) for n in (1, 2, 3)]
        await mac.is_sent("LATER", policy=Policy(not_before=MS + HOUR))
        await other.is_sent("A")
        await other.is_sent("LATER", policy=Policy(Priority.SECURITY))
        places = [
            (each.uuid, each.priority, each.sequence)
            for one in (mac, other)
            for each in await self.store.fleet.queue(one.enrollment)
        ]
        self.assertEqual(places, [("LATER", 4, 1), ("LATER", 4, 1), ("A", 4, 2)])
        self.clock.advance(3600)
        self.assertEqual(await other.idle(), "LATER")
        await third.is_sent("B", "LATER")
        self.assertEqual(await third.idle(), "B")

    async def test_one_that_an_older_daemon_queued_keeps_its_time_and_place(self) -> None:
        """Its score was its place, not its time: it is listed, waits, and ripens all the same."""
        mac = await self.enrolled()
        for number, priority in enumerate(Priority, 1):
            policy = Policy(priority, not_before=MS + HOUR)
            await mac.is_sent(f"OLD{priority}", policy=policy)
            place = priority * keys.PRIORITY_STEP + number
            name = keys.queue(mac.enrollment)
            await self.store.link.call("ZADD", name, keys.LATER + place, f"OLD{priority}")
            await self.store.link.call("HDEL", keys.command(f"OLD{priority}"), "place")
        await mac.is_sent("NEW", policy=Policy(not_before=MS + HOUR))
        await mac.is_sent("A")
        order = ["OLD0", "OLD4", "NEW", "A", "OLD6"]

        async def listed() -> list[tuple[str, int, int]]:
            found = await self.store.fleet.queue(mac.enrollment)
            return [(each.uuid, each.priority, each.sequence) for each in found]

        before = await listed()
        self.assertEqual([each for each, *_ in before], order)
        self.assertEqual(await mac.idle(), "A")
        self.assertEqual(await listed(), before)
        self.clock.advance(3600)
        given = [await mac.idle()]
        while given[-1]:
            given.append(await mac.acknowledges(given[-1]))
        self.assertEqual(given, [*order, None])


class KindTests(StoreCase):
    """Kinds of which only one is pending."""

    async def send(self, mac: Talker, uuid: str, kind: str, replaces: bool) -> Enqueued:
        policy = Policy(kind=kind, replaces=replaces)
        (outcome,) = await self.store.fleet.enqueue(command(uuid), [mac.enrollment], policy)
        return outcome

    async def waiting(self, mac: Talker) -> list[str]:
        return [each.uuid for each in await self.store.fleet.queue(mac.enrollment)]

    async def test_only_the_last_one_counts(self) -> None:
        """A new one takes the place of one that waits; its result says so."""
        mac = await self.enrolled()
        await mac.is_sent("OTHER")
        for uuid in ("1", "2", "3"):
            self.assertIs(await self.send(mac, uuid, "DeviceInformation", True), Enqueued.QUEUED)
        self.assertEqual(await self.waiting(mac), ["OTHER", "3"])
        results = await self.store.fleet.results(mac.enrollment)
        self.assertEqual(
            [(each.uuid, each.status) for each in results],
            [("2", "superseded"), ("1", "superseded")],
        )

    async def test_what_the_device_has_is_left_to_it(self) -> None:
        """One that was sent and not answered stays, so that its answer is no orphan."""
        mac = await self.enrolled()
        await self.send(mac, "1", "DeviceInformation", True)
        await mac.idle()
        await self.send(mac, "2", "DeviceInformation", True)
        self.assertEqual(await self.waiting(mac), ["1", "2"])
        await mac.says(Status.NOT_NOW, "1")
        await mac.says(Status.NOT_NOW, "2")
        await self.send(mac, "3", "DeviceInformation", True)
        self.assertEqual(await self.waiting(mac), ["1", "3"])

    async def test_one_lock_is_enough(self) -> None:
        """A second lock is refused while the first is pending, whatever its PIN; then it goes."""
        mac = await self.enrolled()
        self.assertIs(await self.send(mac, "1", "lock", False), Enqueued.QUEUED)
        self.assertIs(await self.send(mac, "2", "lock", False), Enqueued.PENDING)
        self.assertIs(await self.send(mac, "1", "lock", False), Enqueued.DUPLICATE)
        self.assertIs(await self.send(mac, "3", "wipe", False), Enqueued.QUEUED)
        await mac.idle()
        self.assertIs(await self.send(mac, "2", "lock", False), Enqueued.PENDING)
        await mac.acknowledges("1")
        self.assertIs(await self.send(mac, "2", "lock", False), Enqueued.QUEUED)

    async def test_one_that_was_set_aside_keeps_none_back(self) -> None:
        """A lock that expired or got stuck is not pending any more."""
        mac = await self.enrolled()
        policy = Policy(kind="lock", max_attempts=1)
        await self.store.fleet.enqueue(command("1"), [mac.enrollment], policy)
        await mac.idle()
        await mac.idle()
        self.assertIs(await self.send(mac, "2", "lock", False), Enqueued.QUEUED)

    async def test_the_body_of_the_replaced_goes(self) -> None:
        """Nothing of it stays in the store."""
        mac = await self.enrolled()
        for uuid in ("1", "2"):
            await self.send(mac, uuid, "DeviceInformation", True)
        self.assertEqual(await self.store.link.call("KEYS", b"mdmd:command:*"), [b"mdmd:command:2"])


class InsteadTests(StoreCase):
    """One goes into the queue in the moment that another one goes out, or neither does."""

    async def put_back(self, mac: Talker, old: str, new: str, **more: Any) -> Enqueued:
        policy = Policy(instead_of=old, **more)
        (outcome,) = await self.store.fleet.enqueue(command(new), [mac.enrollment], policy)
        return outcome

    async def test_the_old_one_ends(self) -> None:
        """As cancelled, in the results and in the events; nothing of it stays in the store."""
        mac = await self.enrolled()
        await mac.is_sent("A", "B")
        await mac.idle()
        self.assertIs(await self.put_back(mac, "A", "A2"), Enqueued.QUEUED)
        self.assertEqual(await mac.queue(), [("B", "waiting"), ("A2", "waiting")])
        (ended,) = await self.store.fleet.results(mac.enrollment)
        self.assertEqual((ended.uuid, ended.status, ended.attempts), ("A", "cancelled", 1))
        self.assertEqual((await self.topics())[-2:], ["mdmd.Cancelled", "mdmd.Enqueued"])
        self.assertIsNone(await self.store.fleet.command("A"))
        self.assertIs(await self.put_back(mac, "A", "A2"), Enqueued.DUPLICATE)

    async def test_what_has_been_answered_is_not_sent_again(self) -> None:
        """The device was faster than the operator."""
        mac = await self.enrolled()
        await mac.is_sent("A")
        await mac.acknowledges("A")
        self.assertIs(await self.put_back(mac, "A", "A2"), Enqueued.GONE)
        self.assertEqual(await mac.queue(), [])

    async def test_of_a_kind(self) -> None:
        """A lock is in no way of itself; while another one is pending, it stays set aside."""
        mac = await self.enrolled()
        await mac.is_sent("A", policy=Policy(kind="lock", max_attempts=1))
        self.assertIs(await self.put_back(mac, "A", "A2", kind="lock"), Enqueued.QUEUED)
        await mac.is_sent("B", policy=Policy(kind="lock"))
        self.assertEqual(await mac.queue(), [("A2", "waiting")])
        await self.put_back(mac, "A2", "A3", kind="lock", max_attempts=1)
        await mac.idle()
        await mac.idle()
        await mac.is_sent("B", policy=Policy(kind="lock"))
        self.assertIs(await self.put_back(mac, "A3", "A4", kind="lock"), Enqueued.PENDING)
        self.assertEqual(await mac.queue(), [("B", "waiting"), ("A3", "stuck")])


class StepTests(StoreCase):
    """What a generation gets once, in order."""

    async def test_once_and_in_this_generation_only(self) -> None:
        """Whether it waits, was answered long ago, or the device has enrolled again since."""
        mac = await self.enrolled()
        for uuid in ("1", "2"):
            await mac.is_sent(uuid, policy=Policy(step=(1, int(uuid))))
        for uuid in ("1", "2"):
            await mac.acknowledges(uuid)
        self.assertEqual(await mac.is_sent("1", policy=Policy(step=(1, 1))), ["duplicate"])
        self.assertEqual(await mac.is_sent("3", policy=Policy(step=(1, 3))), ["queued"])
        await mac.enroll()
        self.assertEqual(await mac.is_sent("4", policy=Policy(step=(1, 4))), ["duplicate"])
        self.assertEqual(await mac.is_sent("1", policy=Policy(step=(2, 1))), ["queued"])


class NightTests(StoreCase):
    """NotNow for a whole night and then Idle delivers in the old order."""

    async def test_a_night_of_not_now(self) -> None:
        """Nothing is lost, nothing overtakes, and the counts tell the story."""
        mac = await self.enrolled()
        uuids = [f"{n:02}" for n in range(20)]
        await mac.is_sent(*uuids)
        offers = 0
        for _ in range(8 * 6):  # every ten minutes for eight hours
            offered = await mac.idle()
            self.assertEqual(offered, "00")
            while offered:
                offers += 1
                offered = await mac.says(Status.NOT_NOW, offered)
            self.clock.advance(600)
        # The first time each is tried; after that only the first, until it is not NotNow'd.
        self.assertEqual(offers, 20 + 8 * 6 - 1)
        lines = await self.store.fleet.queue(mac.enrollment)
        self.assertEqual([each.uuid for each in lines], uuids)
        self.assertEqual((lines[0].not_now_count, lines[0].first_not_now), (48, MS))
        await mac.is_sent("lock", policy=Policy(Priority.SECURITY))
        delivered = [await mac.idle()]
        while delivered[-1]:
            delivered.append(await mac.acknowledges(delivered[-1]))
        self.assertEqual(delivered, ["lock", *uuids, None])
