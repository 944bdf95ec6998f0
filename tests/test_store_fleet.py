"""What operators read and do, on a real Valkey."""

from datetime import UTC, datetime

from twisted.internet.defer import Deferred, gatherResults

from mdmd.errors import Conflict, NotHere, StoreCorrupt, StoreUnavailable
from mdmd.flow.targets import Targets
from mdmd.interfaces.fleet import Enqueued, Policy
from mdmd.mdm.command import Command
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.pki.sealing import Sealer
from mdmd.store import keys
from mdmd.store.fleet import ENQUEUE_AT_ONCE, LIST_AT_ONCE
from mdmd.store.store import Settings, Store
from tests.storecase import BEGIN, MS, SEALER, TOPIC, StoreCase, command, udid


class GoingLink:
    """A road to the store that is there for the first step only."""

    def __init__(self) -> None:
        self.steps = 0

    async def script(self, name: str, names: object, args: object) -> bytes:
        """Answer once."""
        self.steps += 1
        if self.steps > 1:
            raise StoreUnavailable("the store went away")
        return b"u" * ENQUEUE_AT_ONCE


class EnqueueTests(StoreCase):
    """One command to one or to very many."""

    async def test_what_became_of_each(self) -> None:
        """In the order of the targets; a disabled enrollment's is queued all the same."""
        mac, gone = await self.enrolled(1), await self.enrolled(2)
        await gone.check_out()
        targets = [EnrollmentID("nobody"), mac.enrollment, gone.enrollment]
        outcomes = await self.store.fleet.enqueue(command("A"), targets, Policy())
        self.assertEqual(outcomes, [Enqueued.UNKNOWN, Enqueued.QUEUED, Enqueued.DISABLED])
        self.assertEqual(await gone.queue(), [("A", "waiting")])

    async def test_repeated(self) -> None:
        """Who has it, or has just answered it, is not sent it again; new ones are."""
        mac, done, new = [await self.enrolled(n) for n in (1, 2, 3)]
        await mac.is_sent("A")
        self.assertEqual(await done.is_sent("A"), ["queued"])
        await done.acknowledges("A")
        targets = [each.enrollment for each in (mac, done, new)]
        outcomes = await self.store.fleet.enqueue(command("A"), targets, Policy())
        self.assertEqual(outcomes, [Enqueued.DUPLICATE, Enqueued.DUPLICATE, Enqueued.QUEUED])
        self.assertEqual(await new.idle(), "A")

    async def test_the_store_goes_away_in_the_middle(self) -> None:
        """That is StoreUnavailable, as at the beginning: the call is to be repeated."""
        store = Store(GoingLink(), SEALER, self.clock)  # type: ignore[arg-type]
        targets = [EnrollmentID(f"nobody-{n}") for n in range(ENQUEUE_AT_ONCE * 4)]
        await self.assertRefused(
            store.fleet.enqueue(command("A"), targets, Policy()), StoreUnavailable
        )

    async def test_another_body_under_the_same_name(self) -> None:
        """A conflict that changes nothing."""
        mac, other = await self.enrolled(1), await self.enrolled(2)
        await mac.is_sent("A")
        different = Command("A", "DeviceInformation", b"<plist>different</plist>")
        enqueue = self.store.fleet.enqueue(different, [other.enrollment], Policy())
        await self.assertRefused(enqueue, Conflict)
        self.assertEqual(await other.queue(), [])

    async def test_for_nobody_nothing_is_kept(self) -> None:
        """A command that no enrollment took leaves nothing behind."""
        await self.store.fleet.enqueue(command("A"), [EnrollmentID("nobody")], Policy())
        self.assertEqual(await self.link.call("KEYS", "mdmd:command:*"), [])

    async def test_many(self) -> None:
        """Several batches, one body; devices' requests are answered in between."""
        count = ENQUEUE_AT_ONCE * 5 + 1
        macs = [self.device(n) for n in range(count)]
        await gatherResults([Deferred.fromCoroutine(mac.enroll()) for mac in macs])
        order: list[str] = []
        enqueue = Deferred.fromCoroutine(
            self.store.fleet.enqueue(command("A"), [mac.enrollment for mac in macs], Policy())
        )
        enqueue.addCallback(lambda found: order.append("enqueued") or found)
        idle = Deferred.fromCoroutine(macs[-1].idle())
        idle.addCallback(lambda _: order.append("answered"))
        outcomes = await enqueue
        self.assertEqual(outcomes, [Enqueued.QUEUED] * count)
        self.assertEqual(order, ["answered", "enqueued"])
        (body,) = await self.link.call("KEYS", "mdmd:command:*")
        self.assertEqual(int(await self.link.call("HGET", body, "refs")), count)

    async def test_a_body_that_was_freed_between_two_batches(self) -> None:
        """All of the first batch answered already: the second one brings the body again."""
        macs = [self.device(n) for n in range(ENQUEUE_AT_ONCE * 4)]
        await gatherResults([Deferred.fromCoroutine(mac.enroll()) for mac in macs])
        targets = [EnrollmentID(f"nobody-{n}") for n in range(ENQUEUE_AT_ONCE)]
        targets += [mac.enrollment for mac in macs]
        outcomes = await self.store.fleet.enqueue(command("A"), targets, Policy())
        self.assertEqual(outcomes.count(Enqueued.QUEUED), len(macs))
        self.assertEqual(await macs[0].idle(), "A")

    async def test_defaults_of_the_configuration(self) -> None:
        """A policy that says nothing gets the configured expiry and number of attempts."""
        self.store = Store(
            self.link, self.store.tools.sealer, self.clock, Settings(expires=60, max_attempts=7)
        )
        mac = await self.enrolled()
        await mac.is_sent("A")
        (line,) = await self.store.fleet.queue(mac.enrollment)
        self.assertEqual((line.expires, line.max_attempts), (MS + 60_000, 7))

    async def test_cancel(self) -> None:
        """One is taken out, into the results; the answer says whether it was ever sent."""
        mac = await self.enrolled()
        await mac.is_sent("A", "B")
        await mac.idle()
        line = await self.store.fleet.cancel(mac.enrollment, "A")
        self.assertEqual((line.uuid, line.state, line.attempts), ("A", "sent", 1))
        self.assertEqual(await mac.queue(), [("B", "waiting")])
        self.assertEqual(await mac.results(), [("A", "cancelled")])
        await self.assertRefused(self.store.fleet.cancel(mac.enrollment, "A"), NotHere)

    async def test_clear(self) -> None:
        """All are taken out, however many; the bodies go with them."""
        mac = await self.enrolled()
        await mac.is_sent(*(f"N{n}" for n in range(250)))
        self.assertEqual(await self.store.fleet.clear(mac.enrollment), 250)
        self.assertEqual(await mac.queue(), [])
        self.assertEqual(await self.store.fleet.clear(mac.enrollment), 0)
        self.assertEqual(await self.link.call("KEYS", "mdmd:command:*"), [])

    async def test_a_long_queue_is_listed_whole(self) -> None:
        """In delivery order, across the parts that it is read in."""
        mac = await self.enrolled()
        names = [f"N{n:04}" for n in range(LIST_AT_ONCE + 20)]
        await mac.is_sent(*names)
        self.assertEqual([name for name, _ in await mac.queue()], names)


class ReadTests(StoreCase):
    """Listings, events, certificates."""

    async def test_paging(self) -> None:
        """Every enrollment once, in id order, whatever the size of the page."""
        for n in range(7):
            await self.enrolled(n)
        seen, after = [], ""
        while page := await self.store.fleet.enrollments(after, 3):
            seen += [str(each.enrollment) for each in page]
            after = seen[-1]
        self.assertEqual(seen, [udid(n) for n in range(7)])

    async def test_paging_past_a_lost_record(self) -> None:
        """It is listed as damaged: who reads page by page goes on to the end."""
        for n in range(7):
            await self.enrolled(n)
        await self.store.link.call("DEL", keys.record(EnrollmentID(udid(1))))
        first = await self.store.fleet.enrollments("", 3)
        self.assertEqual([each.unreadable for each in first], [False, True, False])
        targets = Targets(self.store.fleet, self.store.inventory, self.store.groups)
        now, found, after = datetime.fromtimestamp(BEGIN, UTC), list[str](), ""
        for _ in range(3):
            page = await targets.page("", now, after, 3)
            found, after = found + [str(each.enrollment) for each in page.records], page.after
        self.assertEqual(found, [udid(n) for n in (0, 2, 3, 4, 5, 6)])
        self.assertEqual(after, "")

    async def test_nobody(self) -> None:
        """An unknown enrollment has no record, no queue and no results."""
        nobody = EnrollmentID("nobody")
        self.assertIsNone(await self.store.fleet.enrollment(nobody))
        self.assertEqual(await self.store.fleet.queue(nobody), [])
        self.assertEqual(await self.store.fleet.results(nobody), [])
        self.assertIsNone(await self.store.fleet.find("nobody"))

    async def test_events_are_replayed_from_an_id(self) -> None:
        """In order, from the one after the given id."""
        mac = await self.enrolled()
        await mac.idle()
        events = await self.store.fleet.events()
        self.assertEqual(
            [event.topic for event in events],
            ["mdm.Authenticate", "mdm.TokenUpdate", "mdm.Connect"],
        )
        self.assertEqual(events[0].raw, b"<plist>authenticate</plist>")
        self.assertEqual(events[2].facts, {"type": "Device", "status": "Idle"})
        after = await self.store.fleet.events(after=events[0].id)
        self.assertEqual(after, events[1:])
        self.assertEqual(await self.store.events.newest(), events[-1].id)

    async def test_events_are_bounded(self) -> None:
        """About as many as the option says."""
        self.store = Store(
            self.link, self.store.tools.sealer, self.clock, Settings(events_kept=200)
        )
        mac = await self.enrolled()
        for _ in range(600):
            await mac.idle()
        self.assertLess(await self.link.call("XLEN", "mdmd:events"), 400)
        self.assertEqual((await self.store.fleet.events(limit=1000))[-1].topic, "mdm.Connect")

    async def test_old_events_go_though_nothing_happens(self) -> None:
        """To the last one, not only in blocks, and what is younger stays."""
        store = Store(self.link, self.store.tools.sealer, self.clock, Settings(events_age=86_400.0))
        told = ("topic", "mdmd.Test", "id", "", "raw", "")
        for at in range(250):
            await self.link.call("XADD", "mdmd:events", f"{MS - 250 + at}-0", *told)
        self.assertEqual(await store.events.drop_old(), 0)
        self.clock.advance(86_400 - 0.05)
        dropped = 0
        while some := await store.events.drop_old():
            dropped += some
        self.assertEqual(dropped, 200)
        self.assertEqual((await store.events.read())[0].id, f"{MS - 50}-0")
        self.clock.advance(1)
        while await store.events.drop_old():
            pass
        self.assertEqual(await self.link.call("XLEN", "mdmd:events"), 0)

    async def test_another_key_opens_nothing(self) -> None:
        """A wrong sealing key is a clear error, never garbage."""
        mac = await self.enrolled()
        await mac.escrow(b"boot")
        stranger = Store(self.link, Sealer(b"x" * 32), self.clock)
        mac.store = stranger
        await self.assertRefused(mac.escrowed(), StoreCorrupt)
        # Who follows the stream reads on, and is told what can't be read.
        events = await stranger.fleet.events()
        self.assertEqual(
            [each.topic for each in events][:2], ["mdm.Authenticate", "mdm.TokenUpdate"]
        )
        self.assertEqual([(each.raw, each.damaged) for each in events][:2], [(b"", True)] * 2)
        # Who wants no messages is not troubled.
        self.assertFalse((await stranger.fleet.events(messages=False))[0].damaged)

    async def test_push_certificates(self) -> None:
        """Versions count up by topic; the key is sealed; enabled enrollments are counted."""
        certificates = self.store.certificates
        self.assertIsNone(await certificates.get(TOPIC))
        self.assertEqual(await certificates.put(TOPIC, b"CERT", b"KEY-BYTES", 99), 1)
        self.assertEqual(await certificates.put(TOPIC, b"CERT2", b"KEY-BYTES2", 100), 2)
        self.assertEqual(await certificates.get(TOPIC), (2, b"CERT2", b"KEY-BYTES2"))
        self.assertEqual(await certificates.versions(), {TOPIC: (2, 100)})
        await self.link.call("SAVE")
        self.assertNotIn(b"KEY-BYTES", (self.server.folder / "dump.rdb").read_bytes())
        mac = await self.enrolled()
        await mac.token_update(topic="com.apple.mgmt.other")
        await self.enrolled(2)
        self.assertEqual(await certificates.enrolled(), {TOPIC: 1, "com.apple.mgmt.other": 1})


class NamesTests(StoreCase):
    """Whoever is told "Anna's Mac" has no serial number."""

    async def all_named(self, name: str, limit: int) -> list[str]:
        """Look through everything."""
        found, after, looked_at, more = [], "", 0, True
        while more:
            page = await self.store.fleet.named(name, after, limit)
            found += [str(each) for each in page.enrollments]
            after, more = page.after, bool(page.after)
            looked_at += page.looked_at
        self.assertEqual(looked_at, await self.link.call("ZCARD", keys.IDS))
        return found

    async def test_by_either_name(self) -> None:
        """The device's own and the operator's, capitals don't matter, on whatever page."""
        macs = [await self.enrolled(n) for n in range(7)]
        ids = [str(each.enrollment) for each in macs]
        learn, note = self.store.inventory.learn, self.store.inventory.note
        await learn(macs[5].enrollment, {"DeviceName": "Zoës iPad"}, MS)
        await note(macs[2].enrollment, {"name": " zoËs ipad "})
        await learn(macs[3].enrollment, {"DeviceName": "Zoë"}, MS)
        for limit in (1, 2, 3, 500):
            self.assertEqual(await self.all_named("ZOËS IPAD", limit), [ids[2], ids[5]])
        await learn(macs[5].enrollment, {"DeviceName": "Another"}, MS + 1)
        self.assertEqual(await self.all_named("Zoës iPad", 500), [ids[2]])
        self.assertEqual(await self.all_named("nobody", 2), [])
        self.assertEqual(await self.all_named("", 2), [])

    async def test_a_damaged_one_is_passed_over(self) -> None:
        """The others are found all the same."""
        one, two = await self.enrolled(1), await self.enrolled(2)
        await self.store.inventory.note(two.enrollment, {"name": "x"})
        await self.link.call("DEL", keys.facts(one.enrollment))
        await self.link.call("SET", keys.facts(one.enrollment), "damaged")
        self.assertEqual(await self.all_named("x", 500), [str(two.enrollment)])
