"""SCEP: who asks rightly gets a certificate; everything else gets a refusal, never an exception."""

import contextlib
from datetime import UTC, datetime, timedelta

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AttributeOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import BadCertificate, BadSCEP
from mdmd.pki import certificates, cms, envelope, scep, scep_client, scep_wire, signed_data
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import PrivateKey
from mdmd.pki.scep_wire import Header, MessageType
from tests.scephelp import CheckChallenge, Deciding

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

CA = CertificateAuthority.create("SCEP test CA", now=NOW - timedelta(days=30))
EC_CA = CertificateAuthority.create("SCEP test EC CA", kind="ec", now=NOW)
STRANGER = CertificateAuthority.create("SCEP test CA", now=NOW)  # same name, other key


def _rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


KEY, OTHER_KEY = _rsa_key(), _rsa_key()
CSR = certificates.new_csr(KEY, "device-1", "s3cret", "Example")


def _check(challenge: str, _: x509.CertificateSigningRequest) -> None:
    if challenge != "s3cret":
        raise BadSCEP("wrong challenge")


def _responder(
    authority: CertificateAuthority = CA,
    *,
    legacy: bool = False,
    now: datetime = NOW,
    check: CheckChallenge = _check,
) -> Deciding:
    return Deciding(authority, 30, legacy, check_challenge=check, now=lambda: now)


RESPONDER = _responder()


def _der(csr: x509.CertificateSigningRequest) -> bytes:
    return csr.public_bytes(serialization.Encoding.DER)


def _self_signed(key: PrivateKey, name: str = "device-1", issuer: str = "") -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(certificates.name(name))
        .issuer_name(certificates.name(issuer or name))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )


SIGNER = _self_signed(KEY)
HEADER = Header(message_type=MessageType.PKCS_REQ, transaction="T-1", sender_nonce=b"n" * 16)


def _message(
    content: bytes,
    signer: x509.Certificate = SIGNER,
    key: PrivateKey = KEY,
    header: Header = HEADER,
    digest: cms.Digest = cms.SHA256,
    cipher: envelope.Cipher = envelope.AES256,
) -> bytes:
    """Put a request together by hand, flaws and all."""
    sealed = envelope.seal_for(content, CA.certificate, cipher)
    return cms.sign(sealed, signer, key, digest=digest, attributes=header.attributes())


class Enrolling(SynchronousTestCase):
    """A device that asks rightly gets its certificate."""

    def test_first(self) -> None:
        """PKCSReq with the challenge: a certificate for the key and the subject asked for."""
        message, pending = scep_client.enrolment_request(CA.certificate, CSR, KEY, now=NOW)
        answer = RESPONDER.answer(message)
        self.assertEqual((answer.refusal, answer.fail_info, answer.renewed), ("", "", None))
        got = scep_client.read_reply(pending, answer.body)
        self.assertEqual(got, answer.issued)
        self.assertEqual(got.subject, CSR.subject)
        self.assertTrue(certificates.matches(got, KEY))
        self.assertTrue(certificates.chain_ok(got, CA.certificate, NOW))
        self.assertEqual(got.not_valid_after_utc, NOW + timedelta(days=30))

    def test_reply(self) -> None:
        """The reply copies transaction and nonce, and speaks the requester's digest and cipher."""
        for digest in (cms.SHA256, cms.SHA384, cms.SHA512):
            for cipher in (envelope.AES128, envelope.AES192, envelope.AES256):
                message = _message(_der(CSR), digest=digest, cipher=cipher)
                answer = RESPONDER.answer(message)
                self.assertIsNotNone(answer.issued, answer.refusal)
                signed = signed_data.read(answer.body)
                self.assertEqual(cms.digest_of(signed), digest)
                header = scep_wire.read_header(signed.signer.attributes)
                self.assertEqual(header.transaction, "T-1")
                self.assertEqual(header.recipient_nonce, b"n" * 16)
                self.assertEqual(len(header.sender_nonce), 16)
                self.assertNotEqual(header.sender_nonce, header.recipient_nonce)
                self.assertEqual((header.message_type, header.status), ("3", "0"))
                closed = envelope.read(signed.content or b"")
                self.assertEqual(closed.cipher, cipher)
                bag = envelope.open_with(closed, SIGNER, KEY)
                self.assertEqual(signed_data.read_certs_only(bag), [answer.issued, CA.certificate])

    def test_legacy(self) -> None:
        """Old algorithms work when let in, and are badAlg otherwise."""
        for digest, cipher in (
            (cms.SHA1, envelope.AES256),
            (cms.SHA256, envelope.DES3),
            (cms.SHA1, envelope.DES),
        ):
            message, pending = scep_client.enrolment_request(
                CA.certificate, CSR, KEY, digest=digest, cipher=cipher, now=NOW
            )
            self.assertEqual(RESPONDER.answer(message).fail_info, "badAlg")
            answer = _responder(legacy=True).answer(message)
            self.assertEqual(scep_client.read_reply(pending, answer.body), answer.issued)

    def test_capabilities(self) -> None:
        """What is said to be understood is what is understood."""
        self.assertEqual(
            set(RESPONDER.capabilities().decode().split()),
            {"AES", "POSTPKIOperation", "Renewal", "SCEPStandard", "SHA-256", "SHA-512"},
        )
        legacy = set(_responder(legacy=True).capabilities().decode().split())
        self.assertLessEqual({"DES3", "SHA-1", "SCEPStandard"}, legacy)

    def test_registration_authority(self) -> None:
        """An EC CA answers through a registration authority; the client finds its way."""
        responder = _responder(EC_CA)
        body, kind = responder.ca_certificate()
        self.assertEqual(kind, "application/x-x509-ca-ra-cert")
        ca = scep_client.read_ca(body)
        self.assertEqual(ca.certificate, EC_CA.certificate)
        self.assertNotEqual(ca.recipient, EC_CA.certificate)
        message, pending = scep_client.enrolment_request(ca, CSR, KEY, now=NOW)
        answer = responder.answer(message)
        got = scep_client.read_reply(pending, answer.body)
        self.assertTrue(certificates.chain_ok(got, EC_CA.certificate, NOW))

    def test_given_registration_authority(self) -> None:
        """A registration authority can be given; it must be of this CA and fit its key."""
        pair = EC_CA.issue_registration(30, NOW)
        responder = Deciding(EC_CA, 30, registration=pair)
        self.assertEqual(scep_client.read_ca(responder.ca_certificate()[0]).recipient, pair[0])
        for bad in ((pair[0], KEY), CA.issue_registration(30, NOW)):
            with self.assertRaises(BadCertificate):
                scep.Responder(EC_CA, 30, registration=bad)

    def test_ca_certificate(self) -> None:
        """An RSA CA shows itself, bare."""
        body, kind = RESPONDER.ca_certificate()
        self.assertEqual(kind, "application/x-x509-ca-cert")
        self.assertEqual(scep_client.read_ca(body).recipient, CA.certificate)
        with self.assertRaises(BadCertificate):
            scep_client.read_ca(b"neither")
        with self.assertRaises(BadCertificate):
            scep_client.read_ca(certificates.certificate_der(EC_CA.certificate))

    def test_ec_request(self) -> None:
        """A renewal signed with an RSA identity may ask for an EC key."""
        old = CA.issue_identity(KEY.public_key(), certificates.name("device-1"), 30, NOW)
        for curve in (ec.SECP256R1(), ec.SECP384R1()):
            csr = certificates.new_csr(ec.generate_private_key(curve), "device-1")
            message, pending = scep_client.renewal_request(CA.certificate, csr, old, KEY)
            answer = RESPONDER.answer(message)
            self.assertEqual(scep_client.read_reply(pending, answer.body), answer.issued)


class Renewing(SynchronousTestCase):
    """An identity of ours renews itself, while it is valid and as itself."""

    def renew(
        self,
        old: x509.Certificate,
        csr: x509.CertificateSigningRequest,
        responder: Deciding = RESPONDER,
    ) -> scep.ScepAnswer:
        message, _ = scep_client.renewal_request(CA.certificate, csr, old, KEY)
        return responder.answer(message)

    def test_renew(self) -> None:
        """No challenge is needed; the answer says which certificate was renewed."""
        old = CA.issue_identity(KEY.public_key(), CSR.subject, 30, NOW)
        csr = certificates.new_csr(OTHER_KEY, "device-1", organization="Example")
        message, pending = scep_client.renewal_request(CA.certificate, csr, old, KEY)
        answer = RESPONDER.answer(message)
        self.assertEqual(answer.renewed, old)
        got = scep_client.read_reply(pending, answer.body)
        self.assertTrue(certificates.matches(got, OTHER_KEY))

    def test_refused(self) -> None:
        """Another subject, another CA's, expired, our server's, self-signed: refused."""
        name = CSR.subject
        key = KEY.public_key()
        stranger = STRANGER.issue_identity(key, name, 30, NOW)
        expired = CA.issue_identity(key, name, 5, NOW - timedelta(days=6))
        issued = CA.issue_identity(key, "device-2", 30, NOW)
        for old, word in (
            (stranger, "badCertId"),
            (expired, "badTime"),
            (issued, "badRequest"),
            (SIGNER, "badCertId"),
        ):
            answer = self.renew(old, CSR)
            self.assertEqual((answer.fail_info, answer.issued), (word, None))

    def test_old_way(self) -> None:
        """A PKCSReq signed with a certificate of ours is a renewal too, as before RFC 8894."""
        old = CA.issue_identity(KEY.public_key(), CSR.subject, 30, NOW)
        answer = RESPONDER.answer(_message(_der(CSR), old))
        self.assertEqual((answer.refusal, answer.renewed), ("", old))
        late = NOW + timedelta(days=31)
        answer = _responder(now=late).answer(_message(_der(CSR), old))
        self.assertEqual((answer.fail_info, answer.issued), ("badTime", None))

    def test_expired(self) -> None:
        """By option an expired certificate renews as well; only one of ours, and an identity."""
        late = NOW + timedelta(days=31)
        responder = attrs.evolve(_responder(now=late), expired=True)
        old = CA.issue_identity(KEY.public_key(), CSR.subject, 30, NOW)
        message, _ = scep_client.renewal_request(CA.certificate, CSR, old, KEY)
        self.assertEqual(responder.answer(message).renewed, old)
        stranger = STRANGER.issue_identity(KEY.public_key(), CSR.subject, 30, NOW)
        for signer in (stranger, CA.issue_registration(30, NOW)[0]):
            message, _ = scep_client.renewal_request(CA.certificate, CSR, signer, KEY)
            self.assertIsNone(responder.answer(message).issued)

    def test_server_certificate(self) -> None:
        """The server's own certificate is no identity to renew."""
        cert, key = CA.issue_server(["mdm.example.org"], 30, kind="rsa", now=NOW)
        csr = certificates.new_csr(key, "mdm.example.org")
        message, _ = scep_client.renewal_request(CA.certificate, csr, cert, key)
        self.assertEqual(RESPONDER.answer(message).fail_info, "badCertId")

    def test_veto(self) -> None:
        """check_renewal sees the old certificate and can refuse."""

        def veto(certificate: x509.Certificate, _: x509.CertificateSigningRequest) -> None:
            seen.append(certificate)
            raise BadSCEP("wiped", "badCertId")

        seen: list[x509.Certificate] = []
        old = CA.issue_identity(KEY.public_key(), CSR.subject, 30, NOW)
        responder = Deciding(CA, 30, check_renewal=veto, now=lambda: NOW)
        self.assertEqual(self.renew(old, CSR, responder).fail_info, "badCertId")
        self.assertEqual(seen, [old])


class Refusing(SynchronousTestCase):
    """Whatever is wrong is answered with the RFC's word for it, and nothing is issued."""

    def refused(self, message: bytes, word: str) -> scep.ScepAnswer:
        asked: list[str] = []
        responder = _responder(check=lambda challenge, _: asked.append(challenge))
        answer = responder.answer(message)
        self.assertEqual((answer.fail_info, answer.issued), (word, None), answer.refusal)
        self.assertTrue(answer.refusal)
        self.assertEqual(asked, [], "a challenge good for one use must not be spent on this")
        signed = signed_data.read(answer.body)
        cms.check(signed, b"")
        header = scep_wire.read_header(signed.signer.attributes)
        self.assertEqual((header.message_type, header.status), ("3", "2"))
        self.assertEqual(scep_wire.FAIL_WORD[header.fail_info], word)
        self.assertEqual(header.transaction, answer.transaction)
        return answer

    def test_challenge(self) -> None:
        """A wrong and a missing challenge are refused, and the client is told."""
        for challenge in ("", "guess"):
            csr = certificates.new_csr(KEY, "device-1", challenge)
            message, pending = scep_client.enrolment_request(CA.certificate, csr, KEY, now=NOW)
            answer = RESPONDER.answer(message)
            self.assertIsNone(answer.issued)
            with self.assertRaises(BadSCEP) as caught:
                scep_client.read_reply(pending, answer.body)
            self.assertEqual(caught.exception.fail_info, "badRequest")

    def test_challenge_encodings(self) -> None:
        """A challenge is read in any string type that requests come with."""
        for tag, value in ((12, "grün".encode()), (30, "grün".encode("utf-16-be")), (19, b"abc")):
            seen: list[str] = []
            builder = x509.CertificateSigningRequestBuilder(certificates.name("device-1"))
            csr = builder.add_attribute(
                AttributeOID.CHALLENGE_PASSWORD, value, _tag=_asn1_type(tag)
            ).sign(KEY, hashes.SHA256())

            def check(got: str, _: object, seen: list[str] = seen) -> None:
                seen.append(got)

            answer = _responder(check=check).answer(_message(_der(csr)))
            self.assertIsNotNone(answer.issued, answer.refusal)
            self.assertIn(seen, (["grün"], ["abc"]))

    def test_weak_keys(self) -> None:
        """Short RSA keys and other curves are badAlg."""
        short = _rsa_key(1024)
        self.refused(
            _message(_der(certificates.new_csr(short, "d")), _self_signed(short, "d"), short),
            "badAlg",
        )
        odd = ec.generate_private_key(ec.SECP521R1())
        old = CA.issue_identity(KEY.public_key(), "device-1", 30, NOW)
        csr = certificates.new_csr(odd, "device-1")
        message, _ = scep_client.renewal_request(CA.certificate, csr, old, KEY)
        self.refused(message, "badAlg")

    def test_ec_signer(self) -> None:
        """A requester with an EC key can't be answered: badAlg, on the client's side too."""
        key = certificates.new_key("ec")
        csr = certificates.new_csr(key, "device-1", "s3cret")
        self.refused(_message(_der(csr), _self_signed(key), key), "badAlg")
        with self.assertRaises(BadSCEP) as caught:
            scep_client.enrolment_request(CA.certificate, csr, key, now=NOW)
        self.assertEqual(caught.exception.fail_info, "badAlg")

    def test_signers(self) -> None:
        """A first request is signed by itself, with the key that it asks for."""
        content = _der(CSR)
        stranger = STRANGER.issue_identity(KEY.public_key(), "device-1", 30, NOW)
        for signer in (stranger, _self_signed(KEY, "device-1", "somebody")):
            self.refused(_message(content, signer), "badMessageCheck")
        ours = CA.issue_identity(KEY.public_key(), "device-2", 30, NOW)
        self.refused(_message(content, ours), "badRequest")  # a renewal, for another name
        self.refused(_message(content, _self_signed(OTHER_KEY), OTHER_KEY), "badRequest")
        # The certificate is the right one, the signature is another key's.
        self.refused(_message(content, SIGNER, OTHER_KEY), "badMessageCheck")

    def test_content(self) -> None:
        """An envelope without a request in it, or for someone else, is badMessageCheck."""
        self.refused(_message(b""), "badMessageCheck")
        self.refused(_message(b"not a request"), "badMessageCheck")
        for content in (b"", b"no envelope", envelope.seal_for(_der(CSR), STRANGER.certificate)):
            message = cms.sign(content, SIGNER, KEY, attributes=HEADER.attributes())
            self.refused(message, "badMessageCheck")

    def test_csr_signature(self) -> None:
        """A request whose own signature is broken, or that names nobody, is refused."""
        broken = bytearray(_der(CSR))
        broken[-1] ^= 1
        self.refused(_message(bytes(broken)), "badMessageCheck")
        nobody = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(KEY, hashes.SHA256())
        self.refused(_message(_der(nobody)), "badRequest")

    def test_long_subject(self) -> None:
        """A subject has some hundred bytes; what is far beyond is nobody's name."""
        parts = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "x" * 60)] * 20
        csr = x509.CertificateSigningRequestBuilder(x509.Name(parts)).sign(KEY, hashes.SHA256())
        self.refused(_message(_der(csr)), "badRequest")

    def test_odd_subject(self) -> None:
        """A subject in a string type that no name may have is refused."""
        utf8, bits = b"\x0c\x08device-1", b"\x03\x08device-1"
        self.assertIn(utf8, _der(CSR))
        self.refused(_message(_der(CSR).replace(utf8, bits)), "badMessageCheck")

    def test_content_swapped(self) -> None:
        """Another envelope under a genuine signature is refused: the digest is compared."""
        message, _ = scep_client.enrolment_request(CA.certificate, CSR, KEY, now=NOW)
        genuine = signed_data.read(message).content or b""
        other = envelope.seal_for(
            _der(certificates.new_csr(KEY, "device-2", "s3cret", "Example")), CA.certificate
        )
        self.assertEqual(len(other), len(genuine))
        swapped = message.replace(genuine, other)
        self.assertNotEqual(swapped, message)
        self.refused(swapped, "badMessageCheck")

    def test_header(self) -> None:
        """Requests of other types, or without transaction or nonce, are refused."""
        content = _der(CSR)
        for change, word in (
            ({"message_type": MessageType.CERT_POLL}, "badCertId"),
            ({"message_type": MessageType.GET_CERT}, "badCertId"),
            ({"message_type": MessageType.GET_CRL}, "badRequest"),
            ({"message_type": MessageType.CERT_REP}, "badRequest"),
            ({"message_type": "99"}, "badRequest"),
            ({"message_type": ""}, "badRequest"),
            ({"transaction": ""}, "badRequest"),
            ({"transaction": "x" * 300}, "badRequest"),
            ({"sender_nonce": b""}, "badRequest"),
            ({"sender_nonce": b"x" * 65}, "badRequest"),
        ):
            header = attrs.evolve(HEADER, **change)
            self.refused(_message(content, header=header), word)

    def test_no_attributes(self) -> None:
        """A detached signature, an unsigned bag, no message at all: badMessageCheck."""
        for message in (
            cms.sign(b"", SIGNER, KEY, attributes=HEADER.attributes(), detached=True),
            signed_data.certs_only([SIGNER]),
            b"",
            b"rubbish",
            b"\x30\x80" * 30_000,
            b"\0" * (scep.LARGEST_MESSAGE + 1),
        ):
            answer = self.refused(message, "badMessageCheck")
            self.assertIn(answer.transaction, ("", "T-1"))

    def test_unreadable_is_told(self) -> None:
        """A client whose request arrived as rubbish still understands the refusal."""
        _, pending = scep_client.enrolment_request(CA.certificate, CSR, KEY, now=NOW)
        with self.assertRaises(BadSCEP) as caught:
            scep_client.read_reply(pending, RESPONDER.answer(b"rubbish").body)
        self.assertEqual(caught.exception.fail_info, "badMessageCheck")
        self.assertIn("refused", str(caught.exception))

    def test_expired_ca(self) -> None:
        """A CA past its end issues nothing, and says so in its refusal."""
        answer = _responder(now=NOW + timedelta(days=5000)).answer(_message(_der(CSR)))
        self.assertIsNone(answer.issued)
        self.assertIn("expired", answer.refusal)

    def test_clock_behind(self) -> None:
        """A CA that is not valid yet issues nothing, and says what to look at."""
        answer = _responder(now=NOW - timedelta(days=40)).answer(_message(_der(CSR)))
        self.assertIsNone(answer.issued)
        self.assertIn("set the clock", answer.refusal)

    def test_own_errors_pass(self) -> None:
        """An error of ours in the challenge check is not turned into a refusal."""

        def broken(_: str, __: x509.CertificateSigningRequest) -> None:
            raise RuntimeError("our bug")

        with self.assertRaises(RuntimeError):
            _responder(check=broken).answer(_message(_der(CSR)))


def _asn1_type(tag: int):  # type: ignore[no-untyped-def]
    from cryptography.x509.name import _ASN1Type

    return _ASN1Type(tag)


class ClientSide(SynchronousTestCase):
    """The client believes no reply that is not its own CA's, to its own request."""

    def setUp(self) -> None:
        self.message, self.pending = scep_client.enrolment_request(
            CA.certificate, CSR, KEY, now=NOW
        )
        self.body = RESPONDER.answer(self.message).body

    def distrusted(self, body: bytes) -> None:
        with self.assertRaises(BadSCEP) as caught:
            scep_client.read_reply(self.pending, body)
        self.assertIn("does not hold", str(caught.exception))

    def test_replayed(self) -> None:
        """The reply to an earlier request of the same key is refused: its nonce differs."""
        earlier, _ = scep_client.enrolment_request(CA.certificate, CSR, KEY, now=NOW)
        self.distrusted(RESPONDER.answer(earlier).body)

    def test_stranger(self) -> None:
        """A reply signed by a CA of the same name and another key is refused."""
        signed = signed_data.read(self.body)
        header = scep_wire.read_header(signed.signer.attributes)
        content = signed.content or b""
        forged = cms.sign(
            content, STRANGER.certificate, STRANGER.key, attributes=header.attributes()
        )
        self.distrusted(forged)

    def test_other_certificate(self) -> None:
        """A reply with a certificate for another key is refused."""
        header = scep_wire.read_header(signed_data.read(self.body).signer.attributes)
        foreign = CA.issue_identity(OTHER_KEY.public_key(), "device-1", 30, NOW)
        for bag in ([foreign, CA.certificate], [CA.certificate]):
            content = envelope.seal_for(signed_data.certs_only(bag), self.pending.signer)
            body = cms.sign(content, CA.certificate, CA.key, attributes=header.attributes())
            self.distrusted(body)

    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def test_flipped(self, data: st.DataObject) -> None:
        """A changed byte leads to BadSCEP, or to the very certificate that was issued."""
        body = bytearray(self.body)
        body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
        with contextlib.suppress(BadSCEP):
            got = scep_client.read_reply(self.pending, bytes(body))
            self.assertTrue(certificates.matches(got, KEY))


MESSAGE = scep_client.enrolment_request(CA.certificate, CSR, KEY, now=NOW)[0]


def _under_signature() -> list[range]:
    """Say which stretches of MESSAGE the signature vouches for, itself included."""
    signed = signed_data.read(MESSAGE)
    inner = signed.signer.signed_attributes[1:]  # the first byte is written differently
    found = []
    for part in (signed.content or b"", inner, signed.signer.signature):
        assert MESSAGE.count(part) == 1
        start = MESSAGE.index(part)
        found.append(range(start, start + len(part)))
    return found


SIGNED_BYTES = [at for stretch in _under_signature() for at in stretch]


class Mutations(SynchronousTestCase):
    """A real request, damaged: never an exception, never a certificate that nobody asked for."""

    def judge(self, message: bytes) -> scep.ScepAnswer:
        answer = RESPONDER.answer(message)
        cms.check(signed_data.read(answer.body), signed_data.read(answer.body).content or b"")
        self.assertEqual(answer.issued is None, bool(answer.fail_info and answer.refusal))
        return answer

    def test_genuine(self) -> None:
        """The message as it was made is served; else the rest would prove nothing."""
        self.assertIsNotNone(self.judge(MESSAGE).issued)
        self.assertGreater(len(SIGNED_BYTES), len(MESSAGE) // 2)

    @settings(max_examples=250, deadline=None)
    @given(st.sampled_from(SIGNED_BYTES), st.integers(1, 255))
    def test_under_the_signature(self, at: int, change: int) -> None:
        """A changed byte anywhere under the signature is refused."""
        message = bytearray(MESSAGE)
        message[at] ^= change
        self.assertIsNone(self.judge(bytes(message)).issued)

    @settings(max_examples=250, deadline=None)
    @given(st.integers(0, len(MESSAGE) - 1), st.integers(1, 255))
    def test_anywhere(self, at: int, change: int) -> None:
        """A changed byte elsewhere at most does not matter: key, subject, transaction hold."""
        message = bytearray(MESSAGE)
        message[at] ^= change
        answer = self.judge(bytes(message))
        if answer.issued is not None:
            self.assertTrue(certificates.matches(answer.issued, KEY))
            self.assertEqual(answer.issued.subject, CSR.subject)

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_cut_and_spliced(self, data: st.DataObject) -> None:
        """Cut, doubled, stretched or mixed with noise it is refused."""
        at = data.draw(st.integers(0, len(MESSAGE) - 1))
        to = data.draw(st.integers(at, len(MESSAGE)))
        noise = data.draw(st.binary(min_size=1, max_size=40))
        for message in (MESSAGE[:at], MESSAGE[:at] + noise + MESSAGE[at:], noise):
            self.assertIsNone(self.judge(message).issued)
        self.judge(MESSAGE[:at] + MESSAGE[to:])

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_inside(self, data: st.DataObject) -> None:
        """A damaged request in a genuine envelope under a genuine signature: no exception."""
        content = bytearray(_der(CSR))
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        answer = self.judge(_message(bytes(content)))
        if answer.issued is not None:
            # Only outside of what the request itself signs can a change go unseen.
            asked = x509.load_der_x509_csr(bytes(content))
            self.assertEqual(asked.tbs_certrequest_bytes, CSR.tbs_certrequest_bytes)

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_envelope_inside(self, data: st.DataObject) -> None:
        """A damaged envelope under a genuine signature: no exception, and one kind of refusal."""
        content = bytearray(envelope.seal_for(_der(CSR), CA.certificate))
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
        message = cms.sign(bytes(content), SIGNER, KEY, attributes=HEADER.attributes())
        answer = self.judge(message)
        self.assertIn(answer.fail_info, ("", "badMessageCheck", "badAlg", "badRequest"))

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_signer_certificate(self, data: st.DataObject) -> None:
        """A damaged signer certificate, rightly pointed to: no exception."""
        encoded = bytearray(certificates.certificate_der(SIGNER))
        at = data.draw(st.integers(0, len(encoded) - 1))
        encoded[at] ^= data.draw(st.integers(1, 255))
        genuine = certificates.certificate_der(SIGNER)
        answer = self.judge(_message(_der(CSR)).replace(genuine, bytes(encoded)))
        if answer.issued is not None:
            # The count of unused bits at the signature's end may change when those bits are 0.
            read = x509.load_der_x509_certificate(bytes(encoded))
            self.assertEqual(read.tbs_certificate_bytes, SIGNER.tbs_certificate_bytes)
            self.assertEqual(read.signature, SIGNER.signature)
