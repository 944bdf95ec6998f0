"""Sending by the catalogue to a fleet of all kinds, on a real Valkey."""

import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from mdmd.cli.known import lines_of
from mdmd.errors import BadRequest, Conflict, NotHere
from mdmd.flow.enqueue import Enqueuer, Fault
from mdmd.flow.pins import Pins
from mdmd.flow.send import How, Sender
from mdmd.flow.targets import Targets
from mdmd.interfaces.fleet import Priority
from mdmd.interfaces.push import NoPush
from mdmd.mdm.command import build_command
from mdmd.mdm.enrollment import EnrollmentID, EnrollmentType
from mdmd.store import keys as names
from mdmd.store.keys import pack
from tests.storecase import BEGIN, MS, StoreCase, Talker, certificate, udid

NOW = datetime.fromtimestamp(BEGIN, UTC)
KINDS = {
    "iPhone14,2": ("iPhone 13 Pro", ("15.8", "16.7.10", "17.6.1", "18.1")),
    "iPad8,1": ("iPad Pro", ("9.3.5", "17.7", "18.0", "18.1")),
    "MacBookPro18,3": ("MacBook Pro", ("12.7", "14.6.1", "15.1")),
    "AppleTV11,1": ("Apple TV 4K", ("17.6", "18.1")),
    "RealityDevice14,1": ("Apple Vision Pro", ("1.3", "2.1")),
    "Watch6,1": ("Apple Watch", ("10.6", "11.1")),
}


class QuietWaker:
    """Nobody is pushed to here."""

    async def push(self, targets: list[EnrollmentID]) -> list[NoPush]:
        return [NoPush(each, "not in this test") for each in targets]

    def nudge(self) -> None:
        pass


class SendCase(StoreCase):
    """A store, and the two stories over it."""

    async def setUp(self) -> None:
        await super().setUp()
        store = self.store
        self.sender = Sender(
            store.fleet,
            store.inventory,
            Enqueuer(store.fleet, QuietWaker(), Pins(store.inventory, lambda: MS)),
            8191,
        )
        self.targets = Targets(store.fleet, store.inventory, store.groups)

    async def send(self, request_type: str, ids: list[str], how: How | None = None, **keys: object):
        command = build_command(request_type, keys)
        return await self.sender.send(command, ids, how or How())

    async def waiting(self, mac: Talker) -> list[tuple[str, int]]:
        lines = await self.store.fleet.queue(mac.enrollment)
        return [(each.request_type, each.priority) for each in lines]


class FleetTests(SendCase):
    """1,000 devices of platforms and versions of all kinds."""

    async def fleet(self, count: int) -> list[dict[str, object]]:
        chance = random.Random(7)
        made = []
        for number in range(count):
            product = chance.choice(list(KINDS))
            model, versions = KINDS[product]
            facts = {
                "ProductName": product,
                "ModelName": model,
                "OSVersion": chance.choice(versions),
                "SerialNumber": f"S{number:05}",
            }
            if chance.random() < 0.1:
                del facts["OSVersion"]  # it has not said yet
            one = self.device(number)
            self.clock.rightNow = BEGIN - chance.choice((1, 5, 8, 30)) * 86_400
            await one.enroll(**facts)
            supervised = chance.choice((True, False, None))
            if supervised is not None:
                await self.store.inventory.learn(one.enrollment, {"IsSupervised": supervised}, MS)
            made.append(
                {
                    **facts,
                    "id": str(one.enrollment),
                    "supervised": supervised,
                    "seen": self.clock.rightNow,
                }
            )
        self.clock.rightNow = BEGIN
        return made

    async def meant(self, where: str) -> list[str]:
        ids, after = [], ""
        while True:
            page = await self.targets.page(where, NOW, after, limit=170)
            ids += [str(record.enrollment) for record in page.records]
            after = page.after
            if not after:
                return ids

    async def test_where_and_report(self) -> None:
        """A send by --where reaches just those meant, refuses what can't, and the counts add up."""
        fleet = await self.fleet(1000)
        meant = await self.meant("os<18 and model~iPad and last_seen>7d")
        expected = [
            each["id"] for each in fleet
            if each["ProductName"] == "iPad8,1" and "OSVersion" in each
            and int(str(each["OSVersion"]).partition(".")[0]) < 18
            and BEGIN - float(each["seen"]) > 7 * 86_400
        ]  # fmt: skip
        self.assertGreater(len(expected), 20)
        self.assertEqual(sorted(meant), sorted(expected))

        everybody = await self.meant("")
        self.assertEqual(len(everybody), 1000)
        sent = await self.send("ShutDownDevice", everybody)
        outcomes = Counter(
            "refused" if each.command_error else "queued" for each in sent.reply.status.values()
        )
        able = [each for each in fleet if self.can_shut_down(each)]
        self.assertEqual(outcomes, {"queued": len(able), "refused": 1000 - len(able)})
        self.assertEqual(sum(outcomes.values()), 1000)
        refs = await self.store.link.call(
            "HGET", b"mdmd:command:" + self.packed(sent.reply.command_uuid), "refs"
        )
        self.assertEqual(int(refs), len(able))
        self.assertEqual(
            await self.store.link.call("KEYS", b"mdmd:command:*"),
            [b"mdmd:command:" + self.packed(sent.reply.command_uuid)],
        )
        counted = Counter(record.pending for record in await self.all_records())
        self.assertEqual(counted, {1: len(able), 0: 1000 - len(able)})

    async def test_reports_add_up(self) -> None:
        """Every device is in exactly one line by system and by model, and the fleet is whole."""
        fleet = await self.fleet(300)
        for what, field in (("os", "OSVersion"), ("models", "ModelName")):
            lines: Counter[str] = Counter()
            for record in await self.all_records():
                lines.update(lines_of(what, dict(record.facts)))
            self.assertEqual(sum(lines.values()), 300)
            expected = Counter(str(each.get(field, "unknown")) for each in fleet)
            if what == "os":  # the lines have the platform before the version
                lines = Counter(name.rpartition(" ")[2] for name in lines.elements())
            self.assertEqual(lines, expected)

    def can_shut_down(self, device: dict[str, object]) -> bool:
        """By hand: supervised iOS from 10.3 on, and macOS. What is not known may go."""
        product, version = str(device["ProductName"]), str(device.get("OSVersion", "99"))
        if product.startswith(("iPhone", "iPad")):
            return device["supervised"] is not False and int(version.partition(".")[0]) > 10
        return product.startswith("Mac")

    def packed(self, uuid: str) -> bytes:
        return pack(uuid)

    async def all_records(self):
        found, after = [], ""
        while True:
            page = await self.store.fleet.enrollments(after, 300)
            found += page
            if len(page) < 300:
                return found
            after = str(page[-1].enrollment)


class CheckTests(SendCase):
    """What is refused, what warns, how it is queued."""

    async def mac(self, number: int = 1, **facts: str) -> Talker:
        one = self.device(number)
        await one.enroll(
            **{
                "ProductName": "Mac14,7",
                "OSVersion": "15.1",
                "SerialNumber": f"C0{number}",
                **facts,
            }
        )
        return one

    async def test_a_bad_form_is_refused_before_anything(self) -> None:
        """One line a fault; nothing is queued."""
        mac = await self.mac()
        with self.assertRaises(BadRequest) as caught:
            await self.send("DeviceLock", ["C01"], PIN=123456, Mesage="x")
        self.assertEqual(
            str(caught.exception),
            "Mesage: no such key (did you mean Message?)\nPIN: takes a string, not an integer",
        )
        with self.assertRaisesRegex(BadRequest, "did you mean DeviceInformation"):
            await self.send("DeviceInformtion", ["C01"])
        self.assertEqual(await self.waiting(mac), [])

    async def test_each_target_by_itself(self) -> None:
        """By id or serial number; one that can't or is unknown does not keep the others back."""
        mac = await self.mac(1)
        await self.mac(2, OSVersion="10.13")
        phone = self.device(3)
        await phone.enroll(ProductName="iPhone14,2", OSVersion="18.1")
        sent = await self.send(
            "SetRecoveryLock",
            ["C01", "C02", str(phone.enrollment), "nobody", " C01 "],
            NewPassword="x",
        )
        self.assertEqual(
            {name: reply.command_error for name, reply in sent.reply.status.items()},
            {
                "C01": "",
                "C02": "SetRecoveryLock: needs macOS 11.5 or later, this one has 10.13",
                str(phone.enrollment): "SetRecoveryLock: not for iOS",
                "nobody": "no such enrollment",
            },
        )
        self.assertEqual(await self.waiting(mac), [("SetRecoveryLock", 4)])

    async def test_force_sends_whatever_it_is(self) -> None:
        """What the catalogue does not know yet, or thinks impossible."""
        mac = await self.mac()
        sent = await self.send("FromTheFuture", ["C01"], How(force=True), Flux=1)
        self.assertEqual(sent.reply.status["C01"].command_error, "")
        self.assertEqual(await self.waiting(mac), [("FromTheFuture", 4)])

    async def test_unknown_facts_warn(self) -> None:
        """It goes, and whoever sends it hears what could not be checked."""
        one = self.device()
        await one.enroll(ProductName="iPhone14,2")
        sent = await self.send("ShutDownDevice", [str(one.enrollment)])
        self.assertEqual(len(sent.warnings[str(one.enrollment)]), 2)
        self.assertEqual(await self.waiting(one), [("ShutDownDevice", 4)])

    async def test_user_channels(self) -> None:
        """The device's facts count for its users; what is for devices does not go to them."""
        await self.mac()
        user = Talker(self.store, EnrollmentID(udid(1), "U-1", EnrollmentType.USER), certificate(1))
        await user.token_update()
        sent = await self.send("RestartDevice", [str(user.enrollment)])
        self.assertEqual(
            sent.reply.status[str(user.enrollment)].command_error,
            "RestartDevice: not on the user channel",
        )
        sent = await self.send("ProfileList", [str(user.enrollment)])
        self.assertEqual(
            (sent.reply.status[str(user.enrollment)].command_error, sent.warnings), ("", {})
        )

    async def test_security_first_one_lock_and_its_pin(self) -> None:
        """A lock goes first, only one is pending, and its PIN is the one that is kept."""
        mac = await self.mac()
        await self.send("ProfileList", ["C01"])
        await self.send("DeviceLock", ["C01"], PIN="111111")
        for how in (How(), How(keep=True), How(force=True)):
            again = await self.send("DeviceLock", ["C01"], how, PIN="222222")
            error = again.reply.status["C01"].command_error
            self.assertRegex(error, "^a lock is pending already, .* --cancel UUID$")
        self.assertEqual(
            await self.waiting(mac),
            [("DeviceLock", Priority.SECURITY), ("ProfileList", Priority.NORMAL)],
        )
        pins = await self.store.inventory.pins(mac.enrollment)
        self.assertEqual([pin.pin for pin in pins], ["111111"])

    async def test_a_pin_that_was_sent_is_never_forgotten(self) -> None:
        """Not by a repeat of its lock while another one is pending."""
        mac = await self.mac()
        first = build_command("DeviceLock", {"PIN": "111111"}, "FIRST")
        await self.sender.send(first, ["C01"], How())
        await mac.acknowledges("FIRST")
        await mac.is_sent("OTHER")
        await mac.acknowledges("OTHER")
        await self.send("DeviceLock", ["C01"], PIN="222222")
        again = await self.sender.send(first, ["C01"], How())
        self.assertIn("pending", again.reply.status["C01"].command_error)
        pins = await self.store.inventory.pins(mac.enrollment)
        self.assertEqual([pin.pin for pin in pins], ["222222", "111111"])

    async def test_nobody_is_woken_who_was_not_to_be(self) -> None:
        """Without a push the waker leaves a device asleep, until it would push once more."""
        mac = await self.mac()
        self.clock.advance(60)
        enqueuer = Enqueuer(self.store.fleet, QuietWaker())
        for push, wait in ((False, 120), (True, 0), (False, 0)):
            command = build_command("ProfileList", {})
            await enqueuer.enqueue(command, [str(mac.enrollment)], push=push)
            due = await self.store.push.next_due()
            self.assertEqual(due, self.store.tools.now() + wait * 1000)

    async def test_integrators_are_held_to_it_too(self) -> None:
        """By the API as well a lock goes first, is pending once, and leaves its PIN."""
        mac = await self.mac()
        enqueuer = Enqueuer(self.store.fleet, QuietWaker(), Pins(self.store.inventory, lambda: MS))
        errors = []
        for request_type, keys in (
            ("ProfileList", {}),
            ("DeviceLock", {"PIN": "111111"}),
            ("DeviceLock", {"PIN": "222222"}),
        ):
            command = build_command(request_type, keys)
            reply = await enqueuer.enqueue(command, [str(mac.enrollment), "nobody"], push=False)
            errors.append(reply.status[str(mac.enrollment)].command_error)
        self.assertEqual([bool(each) for each in errors], [False, False, True])
        self.assertEqual(await self.waiting(mac), [("DeviceLock", 0), ("ProfileList", 4)])
        pins = await self.store.inventory.pins(mac.enrollment)
        self.assertEqual([each.pin for each in pins], ["111111"])
        self.assertEqual(await self.store.inventory.pins(EnrollmentID("nobody")), [])

    async def test_only_the_last_question_counts(self) -> None:
        """Of the commands marked so in the catalogue one is enough, unless told otherwise."""
        mac = await self.mac()
        for _ in range(3):
            await self.send("SecurityInfo", ["C01"])
        await self.send("SecurityInfo", ["C01"], How(keep=True))
        self.assertEqual(len(await self.waiting(mac)), 2)

    async def test_a_missing_right(self) -> None:
        """What the enrollment profile does not allow is refused."""
        await self.mac()
        self.sender = Sender(
            self.store.fleet,
            self.store.inventory,
            Enqueuer(self.store.fleet, QuietWaker()),
            8191 - 8,
        )
        sent = await self.send("EraseDevice", ["C01"], PIN="123456")
        self.assertIn(
            "needs the access right AllowDeviceErase (8)", sent.reply.status["C01"].command_error
        )

    async def test_none_is_no_number_of_attempts(self) -> None:
        """It would be set aside before it was ever sent, and push out one that waits."""
        await self.device().enroll(ProductName="Mac14,7")
        await self.send("SecurityInfo", [udid(1)])
        for number in (0, -1):
            with self.assertRaisesRegex(BadRequest, "max_attempts is at least 1"):
                await self.send("SecurityInfo", [udid(1)], How(max_attempts=number))
        self.assertEqual(len(await self.waiting(self.device())), 1)

    async def test_what_ends_before_it_begins_is_refused(self) -> None:
        """It would push one that waits out, and be set aside unsent."""
        await self.device().enroll(ProductName="Mac14,7")
        await self.send("SecurityInfo", [udid(1)])
        with self.assertRaisesRegex(BadRequest, "expires before its time comes"):
            await self.send("SecurityInfo", [udid(1)], How(not_before=MS + 2, expires=MS + 2))
        self.assertEqual(len(await self.waiting(self.device())), 1)


class DamagedTests(SendCase):
    """What is damaged in the store of one device is that device's own failure."""

    async def fleet(self) -> list[str]:
        for number in range(5):
            await self.device(number).enroll(ProductName="Mac14,7", SerialNumber=f"S{number}")
        return [udid(number) for number in range(5)]

    async def damage(self, number: int, key: Callable[[EnrollmentID], bytes], *words: str) -> None:
        """Write nonsense into a hash, or another type over the key."""
        name = key(EnrollmentID(udid(number)))
        if words:
            await self.store.link.call("HSET", name, *words)
        else:
            await self.store.link.call("SET", name, "nonsense")

    async def test_a_send_goes_on(self) -> None:
        """By mdmctl and by the API: those that can be read get it, the others are named."""
        ids = await self.fleet()
        await self.damage(0, names.record, "type", "Toaster", "tally", "many")
        await self.damage(1, names.record)
        await self.damage(2, names.queue)
        await self.damage(
            3, names.inventory, "OSVersion", "nonsense", "IsSupervised", "1 znonsense"
        )
        for each in ("S4", ids[4]):
            sent = await self.send("SecurityInfo", [*ids[:4], each], How(keep=True))
            errors = [reply.command_error for reply in sent.reply.status.values()]
            self.assertEqual(errors, [Fault.UNREADABLE] * 3 + [""] * 2)
        reply = await Enqueuer(self.store.fleet, QuietWaker()).enqueue(
            build_command("SecurityInfo", {}), ids
        )
        errors = [each.command_error for each in reply.status.values()]
        self.assertEqual(errors, ["", *[Fault.UNREADABLE] * 2, "", ""])
        self.assertEqual(len(await self.waiting(self.device(4))), 3)

    async def test_a_lock_goes_on(self) -> None:
        """One whose PIN could not be kept is not locked; the others are, and theirs are kept."""
        ids = await self.fleet()
        await self.damage(1, names.pins)
        pins = Pins(self.store.inventory, self.store.tools.now)
        enqueuer = Enqueuer(self.store.fleet, QuietWaker(), pins)
        reply = await enqueuer.enqueue(build_command("DeviceLock", {"PIN": "123456"}), ids)
        errors = [each.command_error for each in reply.status.values()]
        self.assertEqual(errors, ["", Fault.UNREADABLE, "", "", ""])
        self.assertEqual(await self.waiting(self.device(1)), [])
        for number in (0, 2, 3, 4):
            self.assertEqual(len(await self.store.inventory.pins(EnrollmentID(udid(number)))), 1)

    async def test_no_pin_of_a_lock_that_never_went(self) -> None:
        """Neither where the queue is damaged, nor where the CommandUUID was another lock's."""
        ids = await self.fleet()
        await self.damage(2, names.queue)
        pins = Pins(self.store.inventory, self.store.tools.now)
        enqueuer = Enqueuer(self.store.fleet, QuietWaker(), pins)
        reply = await enqueuer.enqueue(build_command("DeviceLock", {"PIN": "111111"}, "L"), ids[:3])
        self.assertEqual(reply.status[ids[2]].command_error, Fault.UNREADABLE)
        other = build_command("DeviceLock", {"PIN": "222222"}, "L")
        with self.assertRaises(Conflict):
            await enqueuer.enqueue(other, ids[3:])
        kept = [await self.store.inventory.pins(EnrollmentID(each)) for each in ids]
        self.assertEqual([[pin.pin for pin in each] for each in kept], [["111111"]] * 2 + [[]] * 3)

    async def test_a_list_and_an_expression_go_on(self) -> None:
        """It is listed as damaged; an expression looks at all the others."""
        ids = await self.fleet()
        await self.damage(0, names.record, "type", "Toaster")
        await self.damage(1, names.record)
        await self.damage(2, names.inventory)
        records = await self.store.fleet.enrollments()
        self.assertEqual(
            [(str(each.enrollment), each.unreadable) for each in records],
            [(id, id in ids[:2]) for id in ids],
        )
        page = await self.targets.page("model~mac", NOW)
        self.assertEqual([str(each.enrollment) for each in page.records], ids[2:])


class TargetsTests(SendCase):
    """Fields of records, inventory, notes and groups in one expression."""

    async def ids(self, where: str, group: str = "") -> list[str]:
        page = await self.targets.page(where, NOW, group=group)
        return [record.facts.get("SerialNumber", "user") for record in page.records]

    async def test_fields_from_everywhere(self) -> None:
        """Whatever is known can be asked for."""
        for number in range(3):
            await self.device(number).enroll(
                SerialNumber=f"S{number}", ProductName="Mac14,7", DeviceName=f"Mac {number}"
            )
        await self.user(0).token_update()
        await self.device(2).check_out()
        first, second = self.device(0).enrollment, self.device(1).enrollment
        await self.store.inventory.learn(
            first,
            {
                "InstalledApplicationList": [{"Identifier": "com.example.a", "Name": "Slack"}],
                "BatteryLevel": 0.1,
                "OSVersion": "15.1",
            },
            MS,
        )
        await self.store.inventory.note(second, {"owner": "Jane Doe", "name": "Front desk"})
        await self.store.groups.add("sales", [second, self.device(2).enrollment])
        for where, expected in {
            "app~slack": ["S0"],
            "app=com.example.a and BatteryLevel<0.2": ["S0"],
            "owner='jane doe'": ["S1"],
            "name=\"front desk\" or name='Mac 0'": ["S0", "S1"],
            "group=sales": ["S1"],
            "not enabled": ["S2"],
            "type=User": ["user"],
            "os=15.1": ["S0"],
            "not os": ["S1"],
            "platform=macos": ["S0", "S1"],
            "serial=S1": ["S1"],
            "pending>0": [],
            "enrolled<2020-01-01": [],
            "enrolled<1d": ["S0", "S1"],
        }.items():
            self.assertEqual(await self.ids(where), expected, where)
        self.assertEqual(await self.ids("", group="sales"), ["S1"])
        await self.assertRefused(self.ids("", group="nobodys"), NotHere)
        for place in ("U-1", "-1", "9" * 30, "\u0663"):
            page = self.targets.page("", NOW, place, group="sales")
            await self.assertRefused(page, BadRequest)
        self.assertEqual(await self.ids("owner", group="sales"), ["S1"])
        await self.store.groups.add("sales", [self.user(0).enrollment])
        self.assertEqual(sorted(await self.ids("", group="sales")), ["S1", "user"])
