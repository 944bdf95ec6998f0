"""The queue of an enrollment, as its device meets it, on a real Valkey."""

import attrs

from mdmd.errors import NotEnrolled, WrongIdentity
from mdmd.interfaces.fleet import Policy, Priority
from mdmd.interfaces.queue import Turn
from mdmd.mdm.command import Command
from mdmd.mdm.report import Report, Status
from mdmd.store.queue import PARK_AT_ONCE
from tests.storecase import MS, TOPIC, StoreCase, certificate, command
from tests.storehelp import REDIS


class QueueTests(StoreCase):
    """What product.md says of the queue."""

    async def test_order_is_priority_then_sequence(self) -> None:
        """Lock goes before what was there first; within a class the first one goes first."""
        mac = await self.enrolled()
        await mac.is_sent("A", "B")
        await mac.is_sent("LOCK", policy=Policy(Priority.SECURITY))
        await mac.is_sent("INVENTORY", policy=Policy(Priority.BACKGROUND))
        await mac.is_sent("C")
        order = [await mac.idle()]
        while order[-1]:
            order.append(await mac.acknowledges(order[-1]))
        self.assertEqual(order, ["LOCK", "A", "B", "C", "INVENTORY", None])

    async def test_the_body_comes_whole(self) -> None:
        """The very bytes that were queued, however large, XML or not."""
        mac = await self.enrolled()
        for raw in (b"<plist>small</plist>", b"bplist00" + bytes(range(256)) * 400):
            await self.store.fleet.enqueue(Command("X", "Y", raw), [mac.enrollment], Policy())
            report = Report(mac.enrollment, Status.IDLE, None, "", b"<plist/>")
            turn = await self.store.queue.report_and_next(report, mac.identity)
            self.assertEqual(turn, Turn(TOPIC, Command("X", "Y", raw)))
            await self.store.fleet.clear(mac.enrollment)

    async def test_unanswered_is_sent_again(self) -> None:
        """A command stays first until a final report; each delivery counts."""
        mac = await self.enrolled()
        await mac.is_sent("A", "B")
        self.assertEqual([await mac.idle() for _ in range(3)], ["A", "A", "A"])
        line = (await self.store.fleet.queue(mac.enrollment))[0]
        self.assertEqual((line.state, line.attempts, line.last_sent), ("sent", 3, MS))

    async def test_every_final_status_ends_the_command(self) -> None:
        """Acknowledged, Error, CommandFormatError and what can't be read: kept, and on with it."""
        mac = await self.enrolled()
        finals = (
            Status.ACKNOWLEDGED,
            Status.ERROR,
            Status.COMMAND_FORMAT_ERROR,
            Status.MALFORMED,
        )
        await mac.is_sent("1", "2", "3", "4")
        await mac.idle()
        after = [await mac.says(each, str(n)) for n, each in enumerate(finals, 1)]
        self.assertEqual(after, ["2", "3", "4", None])
        results = await self.store.fleet.results(mac.enrollment)
        self.assertEqual([each.status for each in results[::-1]], [each.value for each in finals])
        self.assertEqual([each.error for each in results[::-1]], ["", "it broke", "", ""])
        self.assertEqual(results[3].raw, b"<plist>Acknowledged 1</plist>")
        self.assertEqual((results[3].request_type, results[3].attempts), ("DeviceInformation", 1))
        self.assertEqual((results[3].received_at, results[3].queued_at), (MS, MS))

    async def test_not_now(self) -> None:
        """Skipped while the answer is NotNow, offered again in its old place with any other."""
        mac = await self.enrolled()
        await mac.is_sent("A", "B", "C")
        self.assertEqual(await mac.idle(), "A")
        self.assertEqual(await mac.not_now("A"), "B")
        self.clock.advance(1)
        self.assertEqual(await mac.not_now("B"), "C")
        self.assertEqual(await mac.acknowledges("C"), "A")
        self.assertEqual(await mac.not_now("A"), None)
        self.assertEqual(await mac.idle(), "A")
        self.assertEqual(await mac.acknowledges("A"), "B")
        lines = await self.store.fleet.queue(mac.enrollment)
        self.assertEqual([(each.uuid, each.not_now_count) for each in lines], [("B", 1)])
        self.assertEqual((lines[0].first_not_now, lines[0].last_not_now), (MS + 1000, MS + 1000))

    async def test_not_now_twice_without_a_new_delivery_counts_once(self) -> None:
        """The device repeats a NotNow whose answer it did not get."""
        mac = await self.enrolled()
        await mac.is_sent("A", "B")
        await mac.idle()
        self.assertEqual([await mac.not_now("A"), await mac.not_now("A")], ["B", "B"])
        self.assertEqual((await self.store.fleet.queue(mac.enrollment))[0].not_now_count, 1)
        self.assertEqual((await self.topics()).count("mdm.Connect"), 2)

    async def test_repeated_report(self) -> None:
        """A report whose answer was lost: no second result, no orphan, the same next command."""
        mac = await self.enrolled()
        await mac.is_sent("A", "B")
        await mac.idle()
        self.assertEqual([await mac.acknowledges("A"), await mac.acknowledges("A")], ["B", "B"])
        self.assertEqual(await mac.results(), [("A", "Acknowledged")])
        self.assertEqual((await self.topics()).count("mdm.Connect"), 2)

    async def test_orphan(self) -> None:
        """A result nobody asked for is kept once, told once, and the next command comes."""
        mac = await self.enrolled()
        await mac.is_sent("A")
        self.assertEqual([await mac.acknowledges("?") for _ in range(3)], ["A", "A", "A"])
        self.assertEqual(await mac.results(), [("?", "orphan")])
        last = (await self.store.fleet.events(limit=100))[-1]
        self.assertEqual((last.facts["orphan"], last.facts["status"]), ("1", "Acknowledged"))

    async def test_the_late_answer_to_what_was_taken_out(self) -> None:
        """It says of which kind it is, once; whether it is the whole is not known any more."""
        mac = await self.enrolled()
        await mac.is_sent("A", "B")
        await mac.idle()
        await self.store.fleet.cancel(mac.enrollment, "A")
        self.assertEqual([await mac.acknowledges("A") for _ in range(2)], ["B", "B"])
        results = await self.store.fleet.results(mac.enrollment)
        self.assertEqual(
            [(each.uuid, each.request_type, each.status) for each in results],
            [("A", "DeviceInformation", "orphan"), ("A", "DeviceInformation", "cancelled")],
        )
        facts = (await self.store.fleet.events(limit=100))[-1].facts
        self.assertEqual(
            [facts.get(each) for each in ("request_type", "orphan", "partial")],
            ["DeviceInformation", "1", "1"],
        )
        self.assertEqual(await mac.says(Status.ERROR, "A"), "B")  # another one of it
        self.assertEqual(
            (await self.store.fleet.results(mac.enrollment))[0].request_type, "DeviceInformation"
        )

    async def test_expired(self) -> None:
        """Parked with an event when its time is over, and the queue goes on."""
        mac = await self.enrolled()
        await mac.is_sent("A", policy=Policy(expires=MS + 1000))
        await mac.is_sent("B")
        self.assertEqual(await mac.idle(), "A")
        self.clock.advance(1)
        self.assertEqual(await mac.idle(), "B")
        self.assertEqual(await mac.queue(), [("B", "sent"), ("A", "expired")])
        self.assertIn("mdmd.Parked", await self.topics())
        self.assertEqual(await mac.acknowledges("A"), "B")  # late, but it did it
        self.assertEqual(await mac.results(), [("A", "Acknowledged")])

    async def test_stuck(self) -> None:
        """After max_attempts deliveries without an answer; NotNow is an answer."""
        mac = await self.enrolled()
        await mac.is_sent("A", policy=Policy(max_attempts=2))
        await mac.is_sent("B")
        await mac.idle()
        await mac.not_now("A")
        self.assertEqual([await mac.idle() for _ in range(3)], ["A", "A", "B"])
        self.assertEqual(await mac.queue(), [("B", "sent"), ("A", "stuck")])

    async def test_many_expired(self) -> None:
        """Thousands of expired ones do not keep the good one behind them from its device."""
        mac = await self.enrolled()
        names = [f"E{n}" for n in range(PARK_AT_ONCE * 3 + 7)]
        await mac.is_sent(*names, policy=Policy(expires=MS + 1))
        await mac.is_sent("GOOD")
        self.clock.advance(1)
        self.assertEqual(await mac.idle(), "GOOD")
        self.assertEqual(len(await mac.queue()), 1 + self.settings.results_kept)
        self.assertEqual(len(await mac.results()), self.settings.results_kept)

    async def test_results_are_bounded_by_count(self) -> None:
        """The newest are kept."""
        mac = await self.enrolled()
        for n in range(self.settings.results_kept + 5):
            await mac.acknowledges(f"R{n}")
        results = await mac.results()
        self.assertEqual((len(results), results[0][0]), (self.settings.results_kept, "R104"))

    async def test_results_are_bounded_by_age(self) -> None:
        """What is too old goes when a new one comes, and is not shown before."""
        mac = await self.enrolled()
        await mac.acknowledges("OLD")
        self.clock.advance(self.settings.results_age)
        self.assertEqual(await mac.results(), [])
        await mac.acknowledges("NEW")
        self.assertEqual(await self.link.call("LLEN", self.only(await self.keys("*:r"))), 1)

    async def keys(self, pattern: str) -> list[bytes]:
        return await self.link.call("KEYS", f"mdmd:{pattern}")

    def only(self, found: list[bytes]) -> bytes:
        self.assertEqual(len(found), 1)
        return found[0]

    async def test_totals_are_bounded(self) -> None:
        """Whatever RequestTypes somebody makes up, what is counted already is told apart."""
        mac = await self.enrolled()
        await mac.is_sent("A")
        await mac.idle()
        await mac.acknowledges("A")
        kind = command("A").request_type
        for n in range(2100):
            made_up = Command(f"{n}", f"MadeUp{n}", b"<plist/>")
            await self.store.fleet.enqueue(made_up, [mac.enrollment], Policy())
            await mac.idle()
            await mac.acknowledges(f"{n}")
        await mac.is_sent("B")
        await mac.idle()
        await mac.acknowledges("B")
        ended = await self.store.totals.ended()
        self.assertLessEqual(len(ended), 2001)
        self.assertEqual(ended[kind, "Acknowledged"], 2)
        self.assertEqual(sum(ended.values()), 2102)

    async def test_a_shared_body_is_stored_once_and_freed(self) -> None:
        """However many need it; when the last one has it, it is gone."""
        macs = [await self.enrolled(n) for n in range(1, 5)]
        await self.store.fleet.enqueue(command("S"), [mac.enrollment for mac in macs], Policy())
        for mac in macs:
            self.only(await self.keys("command:*"))
            self.assertEqual(await mac.idle(), "S")
            await mac.acknowledges("S")
        self.assertEqual(await self.keys("command:*"), [])

    async def test_pins(self) -> None:
        """Another device's certificate is refused, and nothing of what it says is taken."""
        mac, other = await self.enrolled(1), await self.enrolled(2)
        await mac.is_sent("A")
        mac.identity = other.identity
        await self.assertRefused(mac.idle(), WrongIdentity)
        mac.identity = certificate(9)
        await self.assertRefused(mac.acknowledges("A"), WrongIdentity)
        self.assertEqual(await mac.queue(), [("A", "waiting")])

    async def test_nobody_we_know(self) -> None:
        """A device that never authenticated; a user channel that never gave a token."""
        await self.assertRefused(self.device().idle(), NotEnrolled)
        await self.enrolled()
        await self.assertRefused(self.user().idle(), NotEnrolled)

    async def test_last_seen(self) -> None:
        """Each connect says when."""
        mac = await self.enrolled()
        self.clock.advance(5)
        await mac.idle()
        record = await self.store.fleet.enrollment(mac.enrollment)
        self.assertEqual(record.last_seen, MS + 5000)

    async def test_nothing_secret_in_clear(self) -> None:
        """Neither a PIN in a command nor an answer can be read in the store's memory."""
        mac = await self.enrolled()
        await mac.is_sent("A", request_type="DeviceLock", PIN="493817")
        await mac.idle()
        await mac.says(Status.ACKNOWLEDGED, "A", b"<plist>recovery key 77-88</plist>")
        await self.link.call("SAVE")
        dump = (self.server.folder / "dump.rdb").read_bytes()
        self.assertNotIn(b"493817", dump)
        self.assertNotIn(b"recovery key", dump)
        self.assertIn(b"recovery key", (await self.store.fleet.results(mac.enrollment))[0].raw)


class ExpiredTests(StoreCase):
    """An expired identity that is let in gets its renewal, and nothing else."""

    async def test_its_renewal_and_nothing_else(self) -> None:
        """Whatever stands before it; and what it does not get was not sent."""
        mac = await self.enrolled()
        first, uuid = Policy(Priority.SECURITY, max_attempts=2), "renew-identity-1"
        await mac.is_sent("LOCK", policy=first)
        due = await self.store.renewals.get(mac.enrollment)
        self.assertTrue(await self.store.renewals.move(due, "sent", MS, 1, uuid))
        mac.identity = attrs.evolve(mac.identity, expired=True)
        for _ in range(3):
            self.assertIsNone(await mac.idle())
        await mac.is_sent(uuid, policy=Policy(Priority.SECURITY))
        self.assertEqual(await mac.idle(), uuid)
        self.assertIsNone(await mac.not_now(uuid))
        self.assertEqual(await mac.idle(), uuid)
        self.assertIsNone(await mac.acknowledges(uuid))
        self.assertEqual(await mac.queue(), [("LOCK", "waiting")])
        mac.identity = attrs.evolve(mac.identity, expired=False)
        self.assertEqual(await mac.idle(), "LOCK")

    async def test_many_whose_time_has_come(self) -> None:
        """The renewal comes though there are more of them than one step lets in."""
        mac, uuid = await self.enrolled(), "renew-identity-1"
        many = [f"U-{n}" for n in range(1001)]
        await mac.is_sent(*many, policy=Policy(not_before=MS + 1000))
        due = await self.store.renewals.get(mac.enrollment)
        await self.store.renewals.move(due, "sent", MS, 1, uuid)
        await mac.is_sent(uuid, policy=Policy(Priority.SECURITY))
        self.clock.advance(2)
        mac.identity = attrs.evolve(mac.identity, expired=True)
        self.assertEqual(await mac.idle(), uuid)


class RedisQueueTests(QueueTests):
    """The same on Debian's redis-server."""

    binary = REDIS
