"""Enrollments out of one store and into another: everything, or an error that says why not."""

import copy
from typing import Any

from mdmd.cli.walk import Place, walk
from mdmd.errors import BadRequest, Conflict, StoreCorrupt, WrongIdentity
from mdmd.interfaces.fleet import Policy, Priority
from mdmd.interfaces.moving import Moved
from mdmd.interfaces.push import Decision, PushOutcome
from mdmd.pki.pushcert import read_push_certificate
from mdmd.pki.sealing import Sealer
from mdmd.store import keys
from mdmd.store.moving import Moving
from mdmd.store.store import Store
from tests.certhelp import push_pair
from tests.storecase import BEGIN, MS, TOPIC, StoreCase, certificate, udid
from tests.storehelp import REDIS

ANOTHER = Sealer(b"o" * 32)


class Direct:
    """What mdmctl has of a daemon, without one: the store's own calls, two records a page."""

    def __init__(self, moving: Moving) -> None:
        self._moving = moving

    async def call(self, name: str, /, **arguments: Any) -> Any:
        """Make a call of ``moving``."""
        if "limit" in arguments:
            arguments["limit"] = 2
        found = await getattr(self._moving, name.removeprefix("moving."))(**arguments)
        return {"records": found[0], "next": found[1]} if isinstance(found, tuple) else found


class MovingCase(StoreCase):
    """A store with a bit of everything in it."""

    async def fill(self) -> None:
        """Two Macs, one with a user and a long story, an empty iPhone, a group, a certificate."""
        mac, user = self.device(1), self.user(1, "U-1")
        await mac.authenticate(SerialNumber="C02X", DeviceName="Mac \N{SNOWMAN}")
        await mac.token_update(b"first" * 6, unlock_token=b"old unlock")
        await mac.authenticate(certificate(11), SerialNumber="C02X")
        await mac.token_update(unlock_token=b"unlock")
        await mac.escrow(b"boot")
        user.identity = mac.identity
        await user.token_update(b"u" * 32, user_short_name="ann")
        await mac.is_sent("A", "B", "C", Queries=["UDID"])
        await mac.is_sent("L", policy=Policy(Priority.SECURITY, max_attempts=3))
        await mac.idle()
        await mac.not_now("L")
        await user.is_sent("A", Queries=["UDID"])
        await self.device(2).enroll(SerialNumber="C02Y")
        await self.device(3).authenticate()
        await self.store.groups.add("lab", [mac.enrollment, user.enrollment])
        await self.store.inventory.note(mac.enrollment, {"room": "5"})
        _, pem = push_pair("com.apple.mgmt.External.t")
        pair = read_push_certificate(pem)
        await self.store.certificates.put(
            pair.topic, pair.certificate_pem, pair.key_pem, pair.not_after
        )

    async def out(self, moving: Moving) -> list[dict[str, Any]]:
        """Everything, commands before those who wait for them."""
        records: list[dict[str, Any]] = []
        async for some in walk(Direct(moving), Place()):
            records += some
        return records

    async def empty(self) -> Store:
        """The same server, emptied, with another sealing key."""
        await self.link.call("FLUSHALL")
        return Store(self.link, ANOTHER, self.clock, self.settings)


class MovingTests(MovingCase):
    """Out and in."""

    async def test_there_and_back(self) -> None:
        """Export, import into an empty store with another sealing key, export: equal."""
        await self.fill()
        records = await self.out(self.store.moving)
        self.assertEqual(
            [each["kind"] for each in records],
            [
                *("push_certificate", "pin", *["command"] * 4, *["device"] * 3),
                *("group", "counts"),
            ],
        )
        store = await self.empty()
        outcomes = [await store.moving.put(each) for each in records]
        self.assertEqual(set(outcomes[:-1]), {Moved.NEW})  # the sequence came with the queues
        self.assertEqual(await self.out(store.moving), records)
        self.assertEqual({await store.moving.put(each) for each in records}, {Moved.SAME})

    async def test_pushes_make_no_other_device(self) -> None:
        """What was imported and then pushed to is the same still; what connected is not."""
        await self.fill()
        records = await self.out(self.store.moving)
        store = self.store = await self.empty()
        for each in records:
            await store.moving.put(each)
        self.clock.advance(self.settings.repeat[1])
        for due in await store.push.claim_due(10, 1000):
            for outcome in (
                PushOutcome(Decision.RETRY, 0, "nobody answers"),
                PushOutcome(Decision.DROP_TOKEN, 410, "Unregistered"),
            ):
                await store.push.pushed(due, outcome, self.clock.seconds() * 1000 + 60_000)
        self.assertEqual({await store.moving.put(each) for each in records}, {Moved.SAME})
        user = self.user(1, "U-1")
        user.identity = certificate(11)
        await user.idle()
        with self.assertRaises(Conflict):
            for each in records:
                await store.moving.put(each)

    async def test_the_same_server(self) -> None:
        """After the move the devices are served as before: pin, queue, tokens, pushes."""
        await self.fill()
        told = [await self.store.fleet.enrollment(self.device(n).enrollment) for n in (1, 2, 3)]
        records = await self.out(self.store.moving)
        store = self.store = await self.empty()
        for each in records:
            await store.moving.put(each)
        mac, user = self.device(1), self.user(1, "U-1")
        mac.identity = user.identity = certificate(11)
        now = [await store.fleet.enrollment(self.device(n).enrollment) for n in (1, 2, 3)]
        self.assertEqual([each.facts for each in now], [each.facts for each in told])
        self.assertEqual([each.tally for each in now], [each.tally for each in told])
        self.clock.advance(self.settings.repeat[1])  # it had commands sent, and said NotNow
        due = await store.push.claim_due(10, 1000)
        self.assertEqual({str(each.enrollment) for each in due}, {udid(1), f"{udid(1)}:U-1"})
        self.assertEqual(await mac.escrowed(), b"boot")
        self.assertEqual(await store.inventory.unlock_token(mac.enrollment), b"unlock")
        self.assertEqual(await mac.idle(), "L")
        self.assertEqual(await mac.acknowledges("L"), "A")
        self.assertEqual(await mac.acknowledges("A"), "B")
        self.assertEqual(await user.idle(), "A")
        stranger = self.device(2)
        stranger.identity = certificate(9)
        await self.assertRefused(stranger.idle(), WrongIdentity)
        await self.assertRefused(self.device(8).authenticate(certificate(11)), WrongIdentity)
        self.assertEqual(await store.fleet.find("C02Y"), self.device(2).enrollment)
        self.assertEqual(dict(await store.certificates.enrolled()), {TOPIC: 3})
        await mac.is_sent("D")
        self.assertEqual((await mac.queue())[-1][0], "D")

    async def test_bodies_are_let_go(self) -> None:
        """A command's body is there as long as somebody waits for it, and no longer."""
        await self.fill()
        records = await self.out(self.store.moving)
        store = self.store = await self.empty()
        for each in records:
            await store.moving.put(each)
        mac, user = self.device(1), self.user(1, "U-1")
        mac.identity = user.identity = certificate(11)
        self.assertEqual(await self.link.call("TTL", "mdmd:command:A"), -1)
        await user.acknowledges("A")
        self.assertEqual(await self.link.call("EXISTS", "mdmd:command:A"), 1)
        await mac.acknowledges("A")
        self.assertEqual(await self.link.call("EXISTS", "mdmd:command:A"), 0)

    async def test_commands_for_later(self) -> None:
        """They keep time and place, and what is queued after the move is behind them."""
        for priority in Priority:
            await self.for_later(priority)

    async def for_later(self, priority: Priority) -> None:
        self.store = await self.empty()
        mac = self.device(1)
        await mac.enroll()
        for n in range(4):
            when = MS + 3_600_000 * (2 - n % 2)
            await mac.is_sent(f"L{n}", policy=Policy(priority, not_before=when))
        # Whoever takes only the devices over does not get the counts.
        records = [each for each in await self.out(self.store.moving) if each["kind"] != "counts"]
        older = copy.deepcopy(records)
        for record in older:  # as an older version wrote it
            if record["kind"] == "command":
                place = record.pop("place")
                (device,) = [each for each in older if each["kind"] == "device"]
                for line in device["channels"][""]["queue"]:
                    if line[0] == record["uuid"]:
                        line[1] = keys.LATER + int(place)
        for version in (records, older):
            self.store = mac.store = await self.empty()
            for each in version:
                await self.store.moving.put(each)
            await mac.is_sent("A", policy=Policy(priority))
            self.assertEqual([each for each, _ in await mac.queue()], ["L0", "L1", "L2", "L3", "A"])
            self.assertEqual(await mac.idle(), "A")
            self.clock.advance(3600)
            self.assertEqual(await mac.idle(), "L1")
            self.clock.advance(3600)
            self.assertEqual(await mac.acknowledges("L1"), "L0")
            self.clock.rightNow = BEGIN

    async def test_a_damaged_device(self) -> None:
        """What can't be read ends an export, which says which device it is of."""
        for damage in (
            ("SET", keys.bootstrap(self.device(1).enrollment), "damaged"),
            ("SET", keys.push(self.device(1).enrollment), "damaged"),
        ):
            await self.link.call("FLUSHDB")
            await self.fill()
            await self.link.call("DEL", damage[1])
            await self.link.call(*damage)
            with self.assertRaises(StoreCorrupt) as caught:
                await self.out(self.store.moving)
            self.assertIn(udid(1), str(caught.exception))

    async def test_dry_run(self) -> None:
        """It says what would happen, and nothing does."""
        await self.fill()
        records = await self.out(self.store.moving)
        store = await self.empty()
        outcomes = {await store.moving.put(each, dry_run=True) for each in records}
        self.assertEqual(outcomes, {Moved.NEW})
        self.assertEqual(await self.link.call("DBSIZE"), 0)

    async def test_what_is_here_stays(self) -> None:
        """A record that differs from what is here is refused, and nothing is changed."""
        await self.fill()
        records = await self.out(self.store.moving)
        for record in copy.deepcopy(records):
            if record["kind"] == "device":
                record["channels"][""]["record"]["tally"] = "77"
            elif record["kind"] == "command":
                record["body"] += b" "
            elif record["kind"] == "push_certificate":
                record["not_after"] += 1
            else:
                continue
            await self.assertRefused(self.store.moving.put(record), Conflict)
        self.assertEqual(await self.out(self.store.moving), records)

    async def test_a_pin_of_another_device(self) -> None:
        """A device whose certificate is pinned to another one here is refused whole."""
        await self.fill()
        records = await self.out(self.store.moving)
        store = self.store = await self.empty()
        await self.device(9).authenticate(certificate(11))
        for each in records:
            if each["kind"] == "device" and each["id"] == udid(1):
                await self.assertRefused(store.moving.put(each), WrongIdentity)
            elif each["kind"] != "group":
                await store.moving.put(each)
        self.assertIsNone(await store.fleet.enrollment(self.device(1).enrollment))

    async def test_a_command_that_is_not_there(self) -> None:
        """A device that waits for a command that did not come is refused, not half imported."""
        await self.fill()
        records = await self.out(self.store.moving)
        store = await self.empty()
        device = next(each for each in records if each.get("id") == udid(1))
        await self.assertRefused(store.moving.put(device), Conflict)
        self.assertEqual(await self.link.call("KEYS", f"mdmd:{{{udid(1)}}}*"), [])

    async def test_nonsense(self) -> None:
        """What is no record is refused with what is wrong; nothing is written."""
        await self.fill()
        (device, *_) = (e for e in await self.out(self.store.moving) if e["kind"] == "device")
        store = await self.empty()
        for change in (
            {"kind": "car"},
            {"kind": 7},
            {"id": "a:b:c\n"},
            {"id": 5},
            {"channels": {}},
            {"channels": {"": {"record": {"type": "Toaster"}}}},
            {"channels": {"": {"record": {"type": 5}}}},
            {"channels": {"": {**device["channels"][""], "push": {"token": "text", "magic": "m"}}}},
            {"channels": {"": {**device["channels"][""], "queue": [["A"]]}}},
            {"unlock_token": "text"},
            {"pins": [[]]},
        ):
            await self.assertRefused(store.moving.put({**device, **change}), BadRequest)
        for record in ({}, {"kind": "command"}, {"kind": "group", "name": "x", "members": [5]}):
            await self.assertRefused(store.moving.put(record), BadRequest)
        self.assertEqual(await self.link.call("DBSIZE"), 0)


class DebianMovingTests(MovingTests):
    """The same with Debian's redis-server."""

    binary = REDIS
