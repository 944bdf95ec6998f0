"""Challenges, records, revocation and renewals on a real Valkey: each rule is one atomic step."""

from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from mdmd.errors import BadSCEP, NotHere, WrongIdentity
from mdmd.interfaces.certificates import Challenge, IssuedCertificate, Link
from mdmd.interfaces.identity import Identity
from mdmd.mdm.report import Status
from mdmd.store import keys
from mdmd.store.link import Link as Connection
from mdmd.store.store import Settings, Store
from tests.storecase import BEGIN, MS, SEALER, StoreCase, Talker

YEAR = 365 * 86400
HOUR = 3600_000


def issued(number: int, via: str = "one-time", **more: Any) -> IssuedCertificate:
    """The record of a certificate just signed."""
    values = {
        "fingerprint": f"{number:064x}",
        "serial": f"{number:x}",
        "subject": f"CN=device {number}",
        "not_before": int(BEGIN),
        "not_after": int(BEGIN) + YEAR,
        "via": via,
    }
    return IssuedCertificate(**{**values, **more})


def identity(record: IssuedCertificate) -> Identity:
    """What a device shows that has it."""
    return Identity(record.fingerprint, record.serial, record.not_after, record.not_before)


class IdentityCase(StoreCase):
    """A store that refuses what it has not recorded, and renews after 70 %."""

    settings = Settings(refuse_unknown=True, renew_share=0.7)

    async def setUp(self) -> None:
        await super().setUp()
        self.identities = self.store.identities

    async def another_link(self) -> Connection:
        """The connection of another daemon."""
        link = await Connection.open(reactor, self.server.url, timeout=30.0)
        self.addCleanup(lambda: Deferred.fromCoroutine(link.close()))
        return link

    async def put(self, secret: str = "once-1", **more: Any) -> None:
        await self.identities.put_challenge(Challenge(secret, MS + HOUR, **more))

    async def refused(self, awaitable: Any, error: type[Exception] = BadSCEP) -> str:
        try:
            await awaitable
        except error as refusal:
            return str(refusal)
        raise AssertionError("not refused")

    async def newcomer(self, number: int) -> Talker:
        """A device with a recorded certificate, not yet enrolled."""
        record = issued(number, "static")
        await self.identities.issued(record, f"request {number}")
        talker = self.device(number)
        return attrs.evolve(talker, identity=identity(record))


class ChallengeTests(IdentityCase):
    """A one-time challenge lets one request have one certificate."""

    async def test_once(self) -> None:
        """It is good once; a second request is refused, and nothing of it is recorded."""
        await self.put(label="for Ada")
        await self.identities.issued(issued(1), "first", "any name", "once-1")
        text = await self.refused(self.identities.issued(issued(2), "second", "", "once-1"))
        self.assertIn("used", text)
        self.assertEqual([each.serial for each in await self.identities.page()], ["1"])
        (record,) = await self.identities.page()
        self.assertEqual((record.label, record.via, record.issued_at), ("for Ada", "one-time", MS))
        self.assertEqual(await self.topics(), ["mdmd.CertificateIssued"])

    async def test_race(self) -> None:
        """Of many requests at the same moment, on two connections, one wins."""
        await self.put()
        other = await self.another_link()
        stores = [self.store, Store(other, SEALER, self.clock, Settings())]

        async def ask(number: int) -> bool:
            request = stores[number % 2].identities.issued(
                issued(number), f"{number}", "", "once-1"
            )
            try:
                await request
            except BadSCEP:
                return False
            return True

        won = await gatherResults([Deferred.fromCoroutine(ask(n)) for n in range(1, 41)])
        self.assertEqual(sum(won), 1)
        self.assertEqual(len(await self.identities.page()), 1)

    async def test_repeated(self) -> None:
        """The same request again, after a broken connection, is applied once and not refused."""
        await self.put()
        for _ in range(2):
            await self.identities.issued(issued(1), "same", "", "once-1")
        self.assertEqual(len(await self.identities.page()), 1)

    async def test_refused(self) -> None:
        """Unknown, expired, for another name: refused, each with its reason."""
        await self.put(name="SERIAL-1")
        again = self.identities.issued
        self.assertIn("not known", await self.refused(again(issued(1), "r", "", "once-2")))
        self.assertIn("name", await self.refused(again(issued(1), "r", "SERIAL-2", "once-1")))
        self.clock.advance(3600)
        self.assertIn("expired", await self.refused(again(issued(1), "r", "SERIAL-1", "once-1")))
        self.assertEqual(await self.identities.page(), [])

    async def test_not_in_the_store(self) -> None:
        """The store does not know the challenge itself, only a digest."""
        await self.put("once-secret")
        for key in await self.link.call("KEYS", "*"):
            self.assertNotIn(b"secret", key)
            if (await self.link.call("TYPE", key)) == b"hash":
                self.assertNotIn(b"secret", b"".join(await self.link.call("HGETALL", key)))

    async def test_links(self) -> None:
        """A link is good once, and not after its end."""
        await self.identities.put_link(Link("a", MS + HOUR, "name", "label"))
        await self.identities.put_link(Link("b", MS + HOUR))
        taken = await self.identities.take_link("a", "one")
        self.assertEqual((taken.name, taken.label), ("name", "label"))
        take = self.identities.take_link
        self.assertIn("used", await self.refused(take("a", "two"), NotHere))
        self.assertIn("unknown", await self.refused(take("c", "one"), NotHere))
        self.clock.advance(3600)
        self.assertIn("expired", await self.refused(take("b", "one"), NotHere))

    async def test_bounded(self) -> None:
        """Challenges, links, records and pins all leave the store by themselves."""
        await self.put()
        await self.identities.put_link(Link("a", MS + HOUR))
        await self.identities.issued(issued(1), "r", "", "once-1")
        for key in await self.link.call("KEYS", "*"):
            if key not in (keys.EVENTS, keys.ISSUED):
                self.assertGreater(await self.link.call("PTTL", key), 0, key)


class RevocationTests(IdentityCase):
    """A revoked or unknown certificate lets nobody in."""

    async def test_unknown(self) -> None:
        """One that was never recorded is refused; by option it is let in."""
        stranger = self.device(7)
        self.assertIn("issued here", await self.refused(stranger.enroll(), WrongIdentity))
        lenient = Store(self.link, SEALER, self.clock, Settings())
        await attrs.evolve(stranger, store=lenient).enroll()

    async def test_revoked(self) -> None:
        """At once, for every kind of request, on another daemon too; enrolling again as well."""
        mac = await self.newcomer(1)
        await mac.enroll()
        await mac.is_sent("A")
        self.assertEqual(await mac.idle(), "A")
        other = await self.another_link()
        daemon = Store(other, SEALER, self.clock, Settings(refuse_unknown=True))
        self.assertTrue(await daemon.identities.revoke(mac.identity.fingerprint, "stolen"))
        self.assertFalse(await daemon.identities.revoke(mac.identity.fingerprint, "again"))
        for attempt in (mac.idle, mac.token_update, mac.escrowed, mac.check_out, mac.enroll):
            self.assertIn("revoked", await self.refused(attempt(), WrongIdentity))
        record = await self.identities.find(mac.identity.serial)
        self.assertEqual((record.revoked_at, record.reason), (MS, "stolen"))
        self.assertEqual(record.enrollment, mac.enrollment.device)
        self.assertIn("mdmd.CertificateRevoked", await self.topics())

    async def test_before_use(self) -> None:
        """One revoked before the device ever showed it enrolls nobody."""
        mac = await self.newcomer(1)
        await self.identities.revoke(mac.identity.fingerprint, "")
        self.assertIn("revoked", await self.refused(mac.enroll(), WrongIdentity))

    async def test_back_with_another(self) -> None:
        """With a new certificate the device may enroll again."""
        mac = await self.newcomer(1)
        await mac.enroll()
        await self.identities.revoke(mac.identity.fingerprint, "")
        fresh = await self.newcomer(2)
        await attrs.evolve(mac, identity=fresh.identity).enroll()

    async def test_no_renewal(self) -> None:
        """A revoked certificate renews nothing."""
        mac = await self.newcomer(1)
        await mac.enroll()
        await self.identities.revoke(mac.identity.fingerprint, "")
        request = issued(2, "renewal", renews=mac.identity.fingerprint)
        text = await self.refused(self.identities.issued(request, "r"))
        self.assertIn("revoked", text)

    async def test_with_its_renewal(self) -> None:
        """Whoever renewed in time what is revoked then is out all the same, to enroll again too."""
        mac = await self.newcomer(1)
        await mac.enroll()
        request = issued(2, "renewal", renews=mac.identity.fingerprint)
        await self.identities.issued(request, "r")
        await self.identities.revoke(mac.identity.fingerprint, "stolen")
        fresh = attrs.evolve(mac, identity=identity(request))
        await self.refused(fresh.idle(), WrongIdentity)
        self.assertIn("revoked", await self.refused(fresh.enroll(), WrongIdentity))
        self.assertEqual((await self.identities.find("2")).reason, "stolen")
        self.assertEqual((await self.topics()).count("mdmd.CertificateRevoked"), 2)

    async def test_renewal_alone(self) -> None:
        """A renewed one that is revoked before its use leaves the one in use as it is."""
        mac = await self.newcomer(1)
        await mac.enroll()
        await self.identities.issued(issued(2, "renewal", renews=mac.identity.fingerprint), "r")
        await self.identities.revoke(issued(2).fingerprint, "")
        await mac.idle()
        fresh = attrs.evolve(mac, identity=identity(issued(2)))
        await self.refused(fresh.idle(), WrongIdentity)

    async def test_find(self) -> None:
        """By serial number or fingerprint, however they are spelled."""
        await self.identities.issued(issued(0xAB, "static"), "r")
        for text in ("ab", "00:AB", f"{0xAB:064X}"):
            self.assertEqual((await self.identities.find(text)).serial, "ab")
        await self.refused(self.identities.find("cd"), NotHere)


class RenewalTests(IdentityCase):
    """A device changes from one certificate to the next, and loses nothing."""

    async def enrolled_with_token(self) -> Talker:
        mac = await self.newcomer(1)
        await mac.enroll()
        await mac.escrow(b"bootstrap")
        return mac

    async def renewed(self, mac: Talker, number: int = 2) -> Talker:
        """The same device with the certificate that its old one asked for."""
        record = issued(number, "renewal", renews=mac.identity.fingerprint)
        await self.identities.issued(record, f"request {number}")
        return attrs.evolve(mac, identity=identity(record))

    async def test_by_the_old_one(self) -> None:
        """The new certificate counts from its first request on, the old one no longer."""
        mac = await self.enrolled_with_token()
        fresh = await self.renewed(mac)
        await mac.idle()  # still good
        await fresh.idle()
        self.assertIn("another", await self.refused(mac.idle(), WrongIdentity))
        self.assertIn("mdmd.IdentityRenewed", await self.topics())

    async def test_authenticate_keeps_tokens(self) -> None:
        """The Authenticate that follows a renewal keeps the bootstrap token live."""
        fresh = await self.renewed(await self.enrolled_with_token())
        await fresh.enroll()
        self.assertEqual(await fresh.escrowed(), b"bootstrap")

    async def test_by_challenge(self) -> None:
        """A challenge made for an enrollment makes the certificate its next one."""
        mac = await self.enrolled_with_token()
        await self.put(enrollment=mac.enrollment.device)
        await self.identities.issued(issued(2), "r", "", "once-1")
        fresh = attrs.evolve(mac, identity=identity(issued(2)))
        await fresh.enroll()
        self.assertEqual(await fresh.escrowed(), b"bootstrap")

    async def test_not_anothers(self) -> None:
        """The certificate made for one device enrolls no other."""
        mac = await self.enrolled_with_token()
        fresh = await self.renewed(mac)
        other = attrs.evolve(await self.newcomer(5), identity=fresh.identity)
        await self.refused(other.enroll(), WrongIdentity)

    async def test_migrated(self) -> None:
        """A device that came from another server is renewed as well, once it has shown itself."""
        for number, first in ((1, "idle"), (2, "token_update")):
            mac = self.device(number)
            mac.identity = Identity("")
            await mac.enroll()
            mac.identity = identity(issued(number, not_after=int(BEGIN) + 2 * YEAR))
            await getattr(mac, first)()
        claim = self.store.renewals.claim_due
        self.clock.advance(1.39 * YEAR)
        self.assertEqual(await claim(10, 60_000), [])
        self.clock.advance(0.02 * YEAR)
        due = await claim(10, 60_000)
        self.assertEqual({each.not_after for each in due}, {int(BEGIN) + 2 * YEAR})
        self.assertEqual(len(due), 2)

    async def test_due(self) -> None:
        """After its share of life an identity is claimed, by one daemon at a time."""
        mac = await self.enrolled_with_token()
        claim = self.store.renewals.claim_due
        self.assertEqual(await claim(10, 60_000), [])
        self.clock.advance(0.7 * YEAR)
        (due,) = await claim(10, 60_000)
        self.assertEqual((due.enrollment, due.state), (mac.enrollment, ""))
        self.assertEqual((due.not_before, due.not_after), (int(BEGIN), int(BEGIN) + YEAR))
        self.assertEqual(await claim(10, 60_000), [])
        self.clock.advance(60)
        self.assertEqual(len(await claim(10, 60_000)), 1)

    async def test_moves(self) -> None:
        """Of two daemons that look at the same renewal one moves it."""
        await self.enrolled_with_token()
        self.clock.advance(0.7 * YEAR)
        (due,) = await self.store.renewals.claim_due(10, 60_000)
        move = self.store.renewals.move
        self.assertTrue(await move(due, "sent", self.ms() + HOUR, 1, "uuid"))
        self.assertFalse(await move(due, "sent", self.ms() + HOUR, 1, "other"))
        self.clock.advance(3600)
        (now,) = await self.store.renewals.claim_due(10, 60_000)
        self.assertEqual((now.state, now.attempts, now.uuid), ("sent", 1, "uuid"))
        self.assertTrue(await move(now, "sent", self.ms() + HOUR, 1, "by hand"))
        self.assertEqual((await self.store.renewals.get(now.enrollment)).uuid, "by hand")

    async def test_seen(self) -> None:
        """The device's first request with the new certificate ends the renewal."""
        mac = await self.enrolled_with_token()
        self.clock.advance(0.7 * YEAR)
        (due,) = await self.store.renewals.claim_due(10, 60_000)
        await self.store.renewals.move(due, "sent", self.ms() + HOUR, 1, "uuid")
        fresh = await self.renewed(mac)
        await fresh.says(Status.IDLE)
        self.clock.advance(3600)
        (now,) = await self.store.renewals.claim_due(10, 60_000)
        self.assertEqual((now.state, now.pin), ("renewed", fresh.identity.fingerprint))

    async def test_record_name(self) -> None:
        """Scripts that learn an id late name the same record as everybody else."""
        one = self.device().enrollment
        self.assertEqual(str(one).encode().join(keys.RECORD), keys.record(one))

    async def test_registration(self) -> None:
        """All daemons of a store share one registration authority: the first one made."""
        self.assertIsNone(await self.identities.registration("ca"))
        self.assertEqual(await self.identities.put_registration("ca", b"one"), b"one")
        self.assertEqual(await self.identities.put_registration("ca", b"two"), b"one")
        self.assertNotIn(b"one", await self.link.call("HGET", keys.REGISTRATION, "ca"))

    def ms(self) -> int:
        return int(self.clock.seconds() * 1000)
