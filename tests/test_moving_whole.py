"""An export has everything: each kind of key that there is moves, or is said to stay."""

import inspect
import random
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from mdmd.errors import Conflict, WrongIdentity
from mdmd.flow.migrate import VOUCHED
from mdmd.interfaces.audit import BEGUN, AuditEntry
from mdmd.interfaces.certificates import Challenge, Link
from mdmd.interfaces.fleet import Policy
from mdmd.interfaces.inventory import Pin
from mdmd.interfaces.moving import Moved
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.mdm.report import Status
from mdmd.store import keys
from mdmd.store.store import Settings
from tests.storecase import MS, SEALER, Talker, certificate, udid
from tests.storehelp import REDIS
from tests.test_moving import MovingCase
from tests.test_store_identities import identity, issued

DOCS = Path(__file__).parent.parent / "docs"


def rows(document: str, heading: str) -> Iterator[list[str]]:
    """The rows of the first table below a heading."""
    _, _, text = (DOCS / document).read_text().partition(f"## {heading}\n")
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    for line in table[0].splitlines()[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def names(cell: str) -> list[str]:
    """The kinds of keys that a cell names; ``:dead`` after ``mdmd:a:b`` is ``mdmd:a:dead``."""
    found: list[str] = []
    for name in re.findall("`([^`]+)`", cell):
        if name.startswith(":"):
            found.append(found[-1].rpartition(":")[0] + name)
        elif name != "15":  # `mdmd:work:0` to `15`
            found.append(name)
    return found


DOCUMENTED = {
    name
    for heading in ("Keys of a device", "Keys across devices")
    for row in rows("store.md", heading)
    for name in names(row[0])
}
MOVES = {name: row[1] == "yes" for row in rows("moving.md", "What moves") for name in names(row[0])}


def kind(key: bytes) -> str:
    """The kind of a key, as docs/store.md spells it."""
    text = key.decode("ascii", "backslashreplace")
    if own := re.match(r"mdmd:\{[^}]*\}:(\w+)", text):
        return own[1]
    if text in DOCUMENTED:
        return text
    for name in sorted(DOCUMENTED, key=len, reverse=True):
        pattern = re.sub("[A-Z]{2,}[0-9]*", ".+", name)
        if re.fullmatch(re.sub(":0$", r":\\d+", pattern), text, re.DOTALL):
            return name
    raise AssertionError(f"docs/store.md says nothing of {text}")


class WholeCase(MovingCase):
    """A store with a key of every kind."""

    settings = Settings(renew_share=0.7)

    async def fill(self) -> None:
        """Let happen whatever leaves a key behind."""
        await super().fill()
        store, call = self.store, self.link.call
        await store.fits(SEALER)
        one, two, three = issued(21), issued(22, "renewal", renews=f"{21:064x}"), issued(23)
        for number, each in enumerate((one, three)):
            await store.identities.put_challenge(Challenge(f"c{number}", MS + 3600_000, label="x"))
            await store.identities.issued(each, "request", "", f"c{number}")
        mac = self.device(4)
        await mac.authenticate(identity(one), SerialNumber="C02Z")
        await mac.token_update(unlock_token=b"unlock")
        await store.identities.issued(two, "request")
        await store.identities.revoke(three.fingerprint, "lost")
        await store.identities.revoke(f"{99:064x}", "of another CA")
        await store.identities.put_link(Link("secret", MS + 3600_000, "ann", "label"))
        await store.identities.put_registration("ca", b"pem")
        await mac.is_sent("K", policy=Policy(kind="lock"))
        await mac.is_sent("R1", "R2", "R3")
        for uuid in ("K", "R1"):
            await mac.idle()
            await mac.acknowledges(uuid)
        await mac.says(Status.ERROR, "R2", b"\x00 no plist")
        await mac.is_sent("LATER", policy=Policy(not_before=MS + 3600_000))
        user = self.user(4, "ann@example.org")
        user.identity = mac.identity
        await user.token_update(user_short_name="ann")
        await user.is_sent("U1")
        await user.idle()
        await user.acknowledges("U1")
        await self.gone_generation()
        await store.inventory.keep_pin(mac.enrollment, Pin("K", "DeviceLock", "123456", MS))
        await store.inventory.learn(mac.enrollment, {"BatteryLevel": 0.5, "OSVersion": "1"}, MS)
        await store.inventory.learn(mac.enrollment, {"BatteryLevel": 0.4}, MS + 1)
        await store.refresh.plan({mac.enrollment: MS + 7000, user.enrollment: MS + 8000})
        await store.limits.plan({mac.enrollment: MS + 9000})
        topic = next(iter(await store.certificates.versions()))
        await store.certificates.warn_expiry(topic, 1, 30, MS // 1000 + 86400)
        await store.following.follow("learn", "d1", 60_000, "5-0")
        begun = AuditEntry("me", "manhole", "x", (), {}, BEGUN)
        begun = attrs.evolve(begun, id=await store.audit.write(begun))
        await store.audit.end(begun, attrs.evolve(begun, outcome="ok"))
        await self.dead_letters()
        self.assertEqual(await call("EXISTS", keys.TOTALS), 1)

    async def gone_generation(self) -> None:
        """A device whose last queue is still on its way into the results."""
        phone = self.device(5)
        await phone.enroll()
        await phone.is_sent("OLD", "OLDER")
        await phone.idle()
        one = phone.enrollment
        await self.link.call("RENAME", keys.queue(one), keys.ended(one))
        await self.link.call("RENAME", keys.sent(one), keys.ended_sent(one))

    async def dead_letters(self) -> None:
        """A webhook that took nothing."""
        deliveries = self.store.deliveries
        await deliveries.claim("hook", "d1", 60_000)
        await deliveries.postpone("hook", 60.0)
        await self.device(6).enroll()
        for each in await deliveries.more("hook", 2):
            await deliveries.bury("hook", each.id, "HTTP status 500", 3)


class WholeTests(WholeCase):
    """It moves whole."""

    async def keys(self) -> dict[bytes, tuple[Any, ...]]:
        """Every key with its type, its size and whether it ends by itself."""
        found: dict[bytes, tuple[Any, ...]] = {}
        sizes = {"hash": "HLEN", "zset": "ZCARD", "set": "SCARD", "list": "LLEN", "stream": "XLEN"}
        for key in await self.link.call("KEYS", "*"):
            type_ = (await self.link.call("TYPE", key)).decode()
            size = await self.link.call(sizes[type_], key) if type_ in sizes else 1
            found[key] = (type_, size, await self.link.call("TTL", key) > 0)
        return found

    async def test_every_kind_of_key(self) -> None:
        """Whoever adds a kind of key says whether it moves, and lets it be moved."""
        await self.fill()
        before = await self.keys()
        self.assertEqual({kind(each) for each in before}, DOCUMENTED)
        self.assertEqual(set(MOVES), DOCUMENTED)
        records = await self.out(self.store.moving)
        store = await self.empty()
        for each in records:
            await store.moving.put(each)
        after = await self.keys()
        for key, about in before.items():
            if MOVES[kind(key)]:
                self.assertEqual(after.get(key), about, key)
        new = {kind(each) for each in set(after) - set(before)}
        self.assertEqual(new, set())

    async def test_equal(self) -> None:
        """Export, import, export: equal, field by field; and again it is all here."""
        await self.fill()
        records = await self.out(self.store.moving)
        store = await self.empty()
        self.assertEqual({await store.moving.put(each, dry_run=True) for each in records}, {"new"})
        self.assertEqual(await self.link.call("DBSIZE"), 0)
        for each in records:
            await store.moving.put(each)
        self.assertEqual(await self.out(store.moving), records)
        self.assertEqual({await store.moving.put(each) for each in records}, {Moved.SAME})
        self.assertEqual({await store.moving.put(each, True) for each in records}, {Moved.SAME})

    async def test_names_of_keys(self) -> None:
        """Each name that the code can make is documented."""
        one = EnrollmentID(udid(1))
        made = {value for value in vars(keys).values() if isinstance(value, bytes)}
        for name, function in inspect.getmembers(keys, inspect.isfunction):
            wants = list(inspect.get_annotations(function, eval_str=True).items())
            if len(wants) == 2 and wants[1][1] is bytes and name != "device_key":
                found = function(one if wants[0][1] is EnrollmentID else "ab" * 32)
                made.add(found)
        prefixes = (keys.COMMANDS, keys.SERIALS)
        named = {each for each in made if each.startswith(b"mdmd:") and each not in prefixes}
        self.assertGreater(len(named), 30)
        for each in named:
            self.assertIn(kind(each), DOCUMENTED)

    async def test_certificates(self) -> None:
        """Revoked stays revoked, a renewed identity is awaited, what was used up stays so."""
        await self.fill()
        records = await self.out(self.store.moving)
        store = self.store = await self.empty()
        for each in records:
            await store.moving.put(each)
        found = await store.identities.find(f"{23:x}")
        self.assertEqual((found.revoked_at, found.reason), (MS, "lost"))
        for number in (23, 99):
            await self.assertRefused(
                self.device(8).authenticate(identity(issued(number))), WrongIdentity
            )
        mac = self.device(4)
        mac.identity = identity(issued(22))
        self.assertEqual(await mac.idle(), "R3")
        self.assertEqual((await store.renewals.get(mac.enrollment)).state, "renewed")
        self.assertEqual((await store.identities.take_link("secret", "r")).name, "ann")
        self.assertFalse(await store.identities.revoke(f"{99:064x}", "again"))

    async def test_history(self) -> None:
        """Results, changes, dead letters and counts are there to be read."""
        await self.fill()
        mac = self.device(4).enrollment

        async def told() -> list[Any]:
            store = self.store
            letters = await store.deliveries.dead("hook")
            pins = await store.inventory.pins(mac)
            return [
                *(await store.fleet.results(mac, 100), await store.inventory.history(mac)),
                *(letters, pins, await store.totals.ended(), await store.fleet.queue(mac)),
                await store.certificates.versions(),
            ]

        before = await told()
        self.assertTrue(all(before))
        records = await self.out(self.store.moving)
        self.store = await self.empty()
        for each in records:
            await self.store.moving.put(each)
        self.assertEqual(await told(), before)
        letter = before[2][0]
        await self.store.deliveries.exhume("hook", letter.id)
        self.assertEqual(len(await self.store.deliveries.dead("hook")), len(before[2]) - 1)
        # A report whose answer was lost comes again: it is known here, too.
        again = self.device(4)
        again.identity = identity(issued(21))
        await again.says(Status.ERROR, "R2", b"\x00 no plist")
        self.assertEqual(len(await again.results()), len(before[0]))

    async def test_more_results_than_a_record_holds(self) -> None:
        """They come in parts; a part whose beginning is missing is refused."""
        mac = await self.enrolled()
        for number in range(7):
            raw = bytes([number]) * 100_000 + bytes(str(number), "ascii")
            await mac.says(Status.ACKNOWLEDGED, f"O{number}", b"\x00" + raw)
        results = await mac.results()
        for part in range(3):
            await mac.says(Status.ACKNOWLEDGED, f"N{part}", self.noise(200_000, part))
        results = await mac.results()
        records = await self.out(self.store.moving)
        parts = [each for each in records if each["kind"] == "results"]
        self.assertGreater(len(parts), 1)
        store = self.store = mac.store = await self.empty()
        await self.assertRefused(store.moving.put(parts[0]), Conflict)
        for each in records:
            if each is parts[0]:
                await self.assertRefused(store.moving.put(parts[1]), Conflict)
            await store.moving.put(each)
        self.assertEqual(await mac.results(), results)

    def talker(self, id: str) -> Talker:
        """An enrollment of this id, with a certificate of its own."""
        return Talker(self.store, EnrollmentID.parse(id), certificate(zlib.crc32(id.encode())))

    def noise(self, size: int, seed: int) -> bytes:
        """Bytes that can't be compressed, the same each time."""
        return b"\x00" + random.Random(seed).randbytes(size)

    async def test_channels_in_any_order(self) -> None:
        """Ids that sort between a device and its channels do not make it come twice."""
        for id in ("U", "U-2", "U.3"):
            await self.talker(id).enroll()
        for id in ("U:bob", "U:zoe"):
            user = self.talker(id)
            user.identity = self.talker("U").identity
            await user.token_update()
        records = [e for e in await self.out(self.store.moving) if e["kind"] == "device"]
        self.assertEqual(sorted(each["id"] for each in records), ["U", "U-2", "U.3"])

    async def test_a_user_without_a_device(self) -> None:
        """One that came by /migration before its device did is moved, too."""
        bob = self.talker("U:bob")
        bob.identity = VOUCHED
        await bob.token_update()
        records = await self.out(self.store.moving)
        store = await self.empty()
        for each in records:
            await store.moving.put(each)
        self.assertEqual(await self.out(store.moving), records)
        (found,) = await store.fleet.enrollments()
        self.assertEqual(str(found.enrollment), "U:bob")

    async def test_a_serial_number_of_two(self) -> None:
        """It finds the device that had it last, whatever the order of the records."""
        await self.device(7).enroll(SerialNumber="S")
        await self.device(3).enroll(SerialNumber="S")
        records = await self.out(self.store.moving)
        store = await self.empty()
        for each in records:
            await store.moving.put(each)
        self.assertEqual(await store.fleet.find("S"), self.device(3).enrollment)


class DebianWholeTests(WholeTests):
    """The same with Debian's redis-server."""

    binary = REDIS
