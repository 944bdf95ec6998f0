"""The life of enrollments on a real Valkey."""

from mdmd.errors import BadMessage, NotEnrolled, WrongIdentity
from mdmd.interfaces.identity import Identity
from mdmd.mdm.enrollment import EnrollmentType
from mdmd.store import keys
from mdmd.store.enrollments import SUPERSEDE_AT_ONCE
from tests.storecase import MS, TOPIC, StoreCase, certificate, udid
from tests.storehelp import REDIS

MIGRATION = Identity("")


class EnrollmentTests(StoreCase):
    """What product.md says of check-ins and of identities."""

    async def test_enrollment(self) -> None:
        """Authenticate makes a disabled record, TokenUpdate enables it with tally 1."""
        mac = self.device()
        await mac.authenticate(SerialNumber="C02X", DeviceName="Mac \N{SNOWMAN}" * 20)
        record = await self.store.fleet.enrollment(mac.enrollment)
        self.assertEqual((record.enabled, record.tally, record.generation), (False, 0, 1))
        self.assertEqual(record.facts["SerialNumber"], "C02X")
        self.assertEqual(record.pin, mac.identity.fingerprint)
        self.assertEqual(await mac.token_update(awaiting_configuration=True), 1)
        record = await self.store.fleet.enrollment(mac.enrollment)
        self.assertEqual((record.enabled, record.topic), (True, TOPIC))
        self.assertEqual((record.has_token, record.has_unlock_token), (True, False))
        self.assertEqual((record.enrolled_at, record.last_seen), (MS, MS))
        self.assertTrue(record.awaiting_configuration)
        self.assertEqual(await mac.token_update(), 2)
        self.assertEqual(await self.topics(), ["mdm.Authenticate"] + ["mdm.TokenUpdate"] * 2)

    async def test_a_new_generation(self) -> None:
        """Pending commands of the device and of its channels end as superseded; tally is 0."""
        mac, user = await self.enrolled(), self.user()
        await user.token_update()
        await mac.is_sent("A", "B")
        await user.is_sent("C")
        await mac.idle()
        await mac.authenticate()
        self.assertEqual([await mac.queue(), await user.queue()], [[], []])
        self.assertEqual(await mac.results(), [("B", "superseded"), ("A", "superseded")])
        self.assertEqual(await user.results(), [("C", "superseded")])
        attempts = [each.attempts for each in await self.store.fleet.results(mac.enrollment)]
        self.assertEqual(attempts, [0, 1])
        for who in (mac, user):
            record = await self.store.fleet.enrollment(who.enrollment)
            self.assertEqual((record.enabled, record.tally, record.generation), (False, 0, 2))
        self.assertEqual(await self.link.call("KEYS", "mdmd:command:*"), [])

    async def test_superseding_many(self) -> None:
        """More than one script call ends; the bodies are all freed, the newest results kept."""
        mac = await self.enrolled()
        count = SUPERSEDE_AT_ONCE * 2 + 3
        await mac.is_sent(*(f"N{n}" for n in range(count)))
        await mac.authenticate()
        self.assertEqual(await mac.queue(), [])
        self.assertEqual((await mac.results())[0], (f"N{count - 1}", "superseded"))
        self.assertEqual(await self.link.call("KEYS", "mdmd:command:*"), [])

    async def test_tokens_of_the_last_generation_are_archived(self) -> None:
        """Put away sealed, not destroyed; with a new identity the bootstrap token too."""
        mac = self.device()
        await mac.authenticate()
        await mac.token_update(unlock_token=b"unlock")
        await mac.escrow(b"boot")
        await mac.authenticate(certificate(77))
        record = await self.store.fleet.enrollment(mac.enrollment)
        self.assertEqual(
            (record.has_token, record.has_unlock_token, record.has_bootstrap_token),
            (False, False, False),
        )
        self.assertEqual(await mac.escrowed(), None)
        archived = await self.link.call("HKEYS", f"mdmd:{{{udid(1)}}}:archive")
        self.assertEqual(set(archived), {b"push", b"unlock", b"bootstrap", b"generation"})

    async def test_a_bootstrap_token_stays_live_at_a_renewal(self) -> None:
        """The device is the one that we know: the same identity authenticates again."""
        mac = await self.enrolled()
        await mac.escrow(b"boot")
        await mac.authenticate()
        self.assertEqual(await mac.escrowed(), b"boot")

    async def test_bootstrap_token(self) -> None:
        """Given back; none when there is none, or when an empty one forgot it."""
        mac = await self.enrolled()
        self.assertEqual(await mac.escrowed(), None)
        await mac.escrow(b"boot")
        self.assertEqual(await mac.escrowed(), b"boot")
        await mac.escrow(b"")
        self.assertEqual(await mac.escrowed(), None)

    async def test_unlock_token_is_replaced_only_by_another(self) -> None:
        """A TokenUpdate without one keeps the stored one."""
        mac = self.device()
        await mac.authenticate()
        await mac.token_update(unlock_token=b"unlock")
        await mac.token_update()
        self.assertTrue((await self.store.fleet.enrollment(mac.enrollment)).has_unlock_token)

    async def test_check_out(self) -> None:
        """The device and its channels are disabled; queue and history stay."""
        mac, user = await self.enrolled(), self.user()
        await user.token_update()
        await mac.acknowledges("R")
        await mac.is_sent("A")
        await mac.check_out()
        for who in (mac, user):
            self.assertFalse((await self.store.fleet.enrollment(who.enrollment)).enabled)
        self.assertEqual(
            (await mac.queue(), await mac.results()), ([("A", "waiting")], [("R", "orphan")])
        )
        self.assertEqual(dict(await self.store.certificates.enrolled()), {})

    async def test_topics_that_nobody_is_on(self) -> None:
        """A device may name a new topic with each TokenUpdate: the store keeps the last."""
        mac = await self.enrolled()
        for number in range(3):
            await mac.token_update(topic=f"{TOPIC}{number}")
        self.assertEqual(await self.link.call("HKEYS", keys.TOPICS), [f"{TOPIC}2".encode()])
        await mac.authenticate()
        self.assertEqual(await self.link.call("HKEYS", keys.TOPICS), [])
        await mac.token_update()
        await mac.check_out()
        self.assertEqual(await self.link.call("HKEYS", keys.TOPICS), [])

    async def test_check_out_of_a_user(self) -> None:
        """Only the channel is disabled."""
        mac, user = await self.enrolled(), self.user()
        await user.token_update()
        await user.check_out()
        self.assertTrue((await self.store.fleet.enrollment(mac.enrollment)).enabled)
        self.assertFalse((await self.store.fleet.enrollment(user.enrollment)).enabled)
        self.assertEqual(dict(await self.store.certificates.enrolled()), {TOPIC: 1})

    async def test_a_certificate_is_one_devices(self) -> None:
        """Another device can't authenticate with it; nothing is changed by the attempt."""
        await self.enrolled(1)
        thief = self.device(2)
        await self.assertRefused(thief.authenticate(certificate(1)), WrongIdentity)
        self.assertIsNone(await self.store.fleet.enrollment(thief.enrollment))

    async def test_a_new_certificate_comes_with_authenticate_only(self) -> None:
        """Then it is the one that counts, and the old one is not."""
        mac = await self.enrolled()
        mac.identity = certificate(8)
        await self.assertRefused(mac.token_update(), WrongIdentity)
        await self.assertRefused(mac.check_out(), WrongIdentity)
        await self.assertRefused(mac.escrow(b"x"), WrongIdentity)
        await mac.authenticate(certificate(8))
        await mac.token_update()
        mac.identity = certificate(1)
        await self.assertRefused(mac.idle(), WrongIdentity)

    async def test_nothing_before_authenticate(self) -> None:
        """Nobody without a pin gets in."""
        mac = self.device()
        for attempt in (mac.token_update(), mac.check_out(), mac.escrow(b"x"), mac.escrowed()):
            await self.assertRefused(attempt, NotEnrolled)
        self.assertEqual(await self.link.call("DBSIZE"), 0)

    async def test_user_channels(self) -> None:
        """Each is listed by its type, after its device, and has a queue of its own."""
        mac, user = await self.enrolled(), self.user()
        ipad = self.user(2, "jo@example.org")
        await self.enrolled(2)
        ipad.enrollment = type(ipad.enrollment)(
            udid(2), "jo@example.org", EnrollmentType.SHARED_IPAD
        )
        await user.token_update(user_short_name="jo")
        await ipad.token_update()
        records = await self.store.fleet.enrollments()
        self.assertEqual(
            [(str(each.enrollment), each.enrollment.type) for each in records],
            [
                (udid(1), EnrollmentType.DEVICE),
                (f"{udid(1)}:U-1", EnrollmentType.USER),
                (udid(2), EnrollmentType.DEVICE),
                (f"{udid(2)}:jo@example.org", EnrollmentType.SHARED_IPAD),
            ],
        )
        await user.is_sent("U")
        self.assertEqual([await mac.idle(), await user.idle()], [None, "U"])
        await self.assertRefused(user.authenticate(), BadMessage)

    async def test_migration(self) -> None:
        """Raw check-ins without a certificate; the first certificate shown after is pinned."""
        mac = self.device()
        mac.identity = MIGRATION
        await mac.authenticate(MIGRATION)
        await mac.token_update()
        await mac.escrow(b"boot")
        await self.enrolled(2)
        mac.identity = certificate(2)  # another's
        await self.assertRefused(mac.idle(), WrongIdentity)
        mac.identity = certificate(1)
        await mac.is_sent("A")
        self.assertEqual(await mac.idle(), "A")
        self.assertEqual(await mac.escrowed(), b"boot")
        mac.identity = certificate(3)
        await self.assertRefused(mac.idle(), WrongIdentity)

    async def test_serial_numbers(self) -> None:
        """A device is found by the one that it told last."""
        mac = self.device()
        await mac.authenticate(SerialNumber="OLD")
        await mac.authenticate(SerialNumber="NEW")
        self.assertEqual(await self.store.fleet.find("NEW"), mac.enrollment)
        self.assertEqual(await self.store.fleet.find(udid(1)), mac.enrollment)
        self.assertIsNone(await self.store.fleet.find("OLD"))

    async def test_secrets_are_sealed(self) -> None:
        """No token, magic or message with one can be read in the store's file."""
        mac = self.device()
        await mac.authenticate()
        await mac.token_update(
            token=b"TOKEN-BYTES", push_magic="MAGIC-WORD", unlock_token=b"UNLOCK-BYTES"
        )
        await mac.escrow(b"BOOTSTRAP-BYTES")
        await self.link.call("SAVE")
        dump = (self.server.folder / "dump.rdb").read_bytes()
        for secret in (b"TOKEN-BYTES", b"MAGIC-WORD", b"UNLOCK-BYTES", b"BOOTSTRAP-BYTES"):
            self.assertNotIn(secret, dump)
        events = await self.store.fleet.events()
        self.assertIn(b"MAGIC-WORD", events[1].raw)

    async def test_refusals_are_told(self) -> None:
        """A request that was turned away makes an event."""
        await self.store.enrollments.refused("connect", "no pin", self.device().enrollment, "ab")
        event = (await self.store.fleet.events())[0]
        self.assertEqual((event.topic, event.enrollment), ("mdmd.Refused", udid(1)))
        self.assertEqual(event.facts, {"kind": "connect", "reason": "no pin", "fingerprint": "ab"})


class RedisEnrollmentTests(EnrollmentTests):
    """The same on Debian's redis-server."""

    binary = REDIS
