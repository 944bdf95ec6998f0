"""The story of /scep on a real Valkey: who is refused, why, and that nothing is given away."""

from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AttributeOID
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import BadSCEP
from mdmd.flow.scep import ONE_TIME, Challenges, Scep, shared_registration
from mdmd.interfaces.certificates import Challenge, IssuedCertificate
from mdmd.interfaces.identity import Identity
from mdmd.pki import certificates, cms, envelope, scep, scep_client
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.scep_wire import FAIL_INFO, Header, MessageType
from mdmd.store.link import Link
from mdmd.store.store import Settings, Store
from tests.storecase import BEGIN, MS, SEALER, StoreCase

NOW = datetime.fromtimestamp(BEGIN, UTC)
CA = CertificateAuthority.create("Flow CA", now=NOW)
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SHORT = rsa.generate_private_key(public_exponent=65537, key_size=1024)
HOUR = 3600_000
BYTES = 16


def noise(count: int) -> bytes:
    """Chance, without chance: different each time, and long enough."""
    noise.turn += 1  # type: ignore[attr-defined]
    return noise.turn.to_bytes(count, "big")  # type: ignore[attr-defined]


noise.turn = 2**100  # type: ignore[attr-defined]


def request(challenge: str, name: str = "C02X", key: Any = KEY) -> x509.CertificateSigningRequest:
    """A CSR with any key, also with one that new_csr would not take."""
    builder = x509.CertificateSigningRequestBuilder(certificates.name(name))
    if challenge:
        builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, challenge.encode())
    return builder.sign(key, hashes.SHA256())


def message(csr: bytes, key: Any = KEY, name: str = "C02X") -> bytes:
    """Envelope and sign whatever is in there."""
    subject = certificates.name(name)
    signer = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW.replace(year=NOW.year + 1))
        .sign(key, hashes.SHA256())
    )
    header = Header(MessageType.PKCS_REQ, "T-1", b"n" * 16)
    sealed = envelope.seal_for(csr, CA.certificate)
    return cms.sign(sealed, signer, key, attributes=header.attributes())


def der(csr: x509.CertificateSigningRequest) -> bytes:
    return csr.public_bytes(serialization.Encoding.DER)


class ScepCase(StoreCase):
    settings = Settings(refuse_unknown=True)

    def story(self, challenges: Challenges | None = None, store: Store | None = None) -> Scep:
        responder = scep.Responder(CA, 365, lambda *_: None, now=self.now)
        identities = (store or self.store).identities
        return Scep(responder, identities, challenges or Challenges("static"), noise)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.seconds(), UTC)

    async def challenge(self, **more: Any) -> str:
        one = Challenge(ONE_TIME + noise(BYTES).hex(), MS + HOUR, **more)
        await self.store.identities.put_challenge(one)
        return one.secret

    async def refused(self, body: bytes, word: str, story: Scep | None = None) -> str:
        before = len(await self.store.identities.page())
        answer = await (story or self.story()).answer(body)
        self.assertEqual((answer.issued, answer.fail_info), (None, word), answer.refusal)
        self.assertEqual(len(await self.store.identities.page()), before)
        return answer.refusal


class Granting(ScepCase):
    async def test_static(self) -> None:
        """The static challenge is good for many; each certificate is recorded before it leaves."""
        for name in ("one", "two"):
            csr = request("static", name)
            body, pending = scep_client.enrolment_request(CA.certificate, csr, KEY, now=NOW)
            answer = await self.story().answer(body)
            got = scep_client.read_reply(pending, answer.body)
            record = await self.store.identities.find(certificates.fingerprint(got))
            self.assertEqual((record.subject, record.via), (f"CN={name}", "static"))
            self.assertEqual(record.not_after, int(got.not_valid_after_utc.timestamp()))

    async def test_race(self) -> None:
        """Of many requests with one challenge, at two daemons, one gets a certificate."""
        link = await Link.open(reactor, self.server.url, timeout=30.0)
        self.addCleanup(lambda: Deferred.fromCoroutine(link.close()))
        other = Store(link, SEALER, self.clock, self.settings)
        secret = await self.challenge()
        stories = [self.story(), self.story(store=other)]
        body = message(der(request(secret)))
        answers = await gatherResults(
            [Deferred.fromCoroutine(stories[n % 2].answer(body)) for n in range(20)]
        )
        self.assertEqual(sum(each.issued is not None for each in answers), 1)
        self.assertEqual(len(await self.store.identities.page()), 1)

    async def test_none(self) -> None:
        """By option no challenge is needed; a one-time one is then still looked at."""
        story = self.story(Challenges(needless=True))
        for challenge in ("", "whatever"):
            answer = await story.answer(message(der(request(challenge))))
            self.assertIsNotNone(answer.issued)
        await self.refused(message(der(request(ONE_TIME + "x"))), "badRequest", story)

    async def test_renewal(self) -> None:
        """An enrolled device's certificate renews without a challenge, and becomes its next."""
        answer = await self.story().answer(message(der(request("static"))))
        old = answer.issued
        mac = self.device()
        mac.identity = Identity(certificates.fingerprint(old), f"{old.serial_number:x}", MS, 0)
        await mac.enroll()
        csr = certificates.new_csr(KEY, "C02X")
        body, pending = scep_client.renewal_request(CA.certificate, csr, old, KEY)
        answer = await self.story().answer(body)
        fresh = scep_client.read_reply(pending, answer.body)
        record = await self.store.identities.find(certificates.fingerprint(fresh))
        self.assertEqual((record.via, record.enrollment), ("renewal", mac.enrollment.device))
        self.assertEqual(record.renews, mac.identity.fingerprint)

    async def test_shared_registration(self) -> None:
        """Two daemons answer for an EC CA as one; an RSA CA needs nobody."""
        own = CertificateAuthority.create("EC", kind="ec", now=NOW)
        first = await shared_registration(self.store.identities, own)
        second = await shared_registration(self.store.identities, own)
        self.assertEqual(first[0], second[0])
        self.assertIsNone(await shared_registration(self.store.identities, CA))


class Refusing(ScepCase):
    async def test_challenges(self) -> None:
        """Missing, wrong, used, expired, for another name: badRequest, nothing recorded."""
        await self.refused(message(der(request(""))), "badRequest")
        await self.refused(message(der(request("guess"))), "badRequest")
        await self.refused(message(der(request(ONE_TIME + "guess"))), "badRequest")
        secret = await self.challenge(name="C02X")
        text = await self.refused(message(der(request(secret, "C02Y"))), "badRequest")
        self.assertIn("another name", text)
        self.assertIsNotNone((await self.story().answer(message(der(request(secret))))).issued)
        replayed = await self.refused(message(der(request(secret))), "badRequest")
        self.assertIn("used", replayed)
        secret = await self.challenge()
        self.clock.advance(3600)
        self.assertIn("expired", await self.refused(message(der(request(secret))), "badRequest"))

    async def test_keys_and_signatures(self) -> None:
        """A weak key, another curve, a broken signature: refused, the challenge stays good."""
        secret = await self.challenge()
        await self.refused(message(der(request(secret, key=SHORT))), "badAlg")
        curve = ec.generate_private_key(ec.SECP521R1())
        await self.refused(message(der(request(secret, key=curve))), "badAlg")
        broken = bytearray(der(request(secret)))
        broken[-1] ^= 1
        await self.refused(message(bytes(broken)), "badMessageCheck")
        other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        await self.refused(message(der(request(secret)), other), "badRequest")
        self.assertIsNotNone((await self.story().answer(message(der(request(secret))))).issued)

    async def test_unknown_renewal(self) -> None:
        """What the CA's key signed elsewhere renews nothing."""
        stray = CA.issue_identity(KEY.public_key(), certificates.name("C02X"), 30, NOW)
        csr = certificates.new_csr(KEY, "C02X")
        body, _ = scep_client.renewal_request(CA.certificate, csr, stray, KEY)
        await self.refused(body, "badCertId")


class _Strict:
    """A ledger that nothing may reach."""

    async def issued(
        self, certificate: IssuedCertificate, request: str, name: str = "", challenge: str = ""
    ) -> None:
        if challenge != "once-real":
            raise BadSCEP("the challenge is not known")


GENUINE = message(der(request("once-real")))


class Fuzzing(SynchronousTestCase):
    """Whatever arrives, there is a CertRep; and a certificate only for the genuine request."""

    def answer(self, body: bytes) -> scep.ScepAnswer:
        responder = scep.Responder(CA, 30, lambda *_: None, now=lambda: NOW)
        story = Scep(responder, _Strict(), Challenges("static"), noise)  # type: ignore[arg-type]
        return self.successResultOf(Deferred.fromCoroutine(story.answer(body)))

    def judge(self, body: bytes) -> None:
        answer = self.answer(body)
        self.assertTrue(answer.body.startswith(b"\x30"))
        if answer.issued is not None:
            # What was changed does not matter to what was asked for.
            self.assertEqual(answer.issued.public_key(), KEY.public_key())
            self.assertEqual(answer.issued.subject, certificates.name("C02X"))
        else:
            self.assertIn(answer.fail_info, FAIL_INFO)

    def test_genuine(self) -> None:
        """The message as it is; else the rest would prove nothing."""
        self.assertIsNotNone(self.answer(GENUINE).issued)

    @settings(max_examples=80, deadline=None)
    @given(st.data())
    def test_mutated(self, data: st.DataObject) -> None:
        """Bytes changed, cut out, doubled."""
        body = bytearray(GENUINE)
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(body) - 1))
            count = data.draw(st.integers(0, 40))
            match data.draw(st.sampled_from(["flip", "cut", "double", "noise"])):
                case "flip":
                    body[at] ^= data.draw(st.integers(1, 255))
                case "cut":
                    del body[at : at + count]
                case "double":
                    body[at:at] = body[at : at + count]
                case "noise":
                    body[at : at + count] = data.draw(st.binary(max_size=40))
            body = body or bytearray(b"\0")
        self.judge(bytes(body))

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_inside(self, data: st.DataObject) -> None:
        """The same to the request in a genuine envelope: its own signature holds it together."""
        content = bytearray(der(request("once-real")))
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        answer = self.answer(message(bytes(content)))
        self.assertIsNone(answer.issued)
