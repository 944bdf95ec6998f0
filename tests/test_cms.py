"""Signatures that hold are accepted, all others refused; openssl is the other party."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from asn1crypto import cms as asn1_cms
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import BadCertificate, BadSignature
from mdmd.pki import ber, certificates, cms, envelope, signed_data, structures
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import PrivateKey
from mdmd.pki.structures import NotDer
from tests import derhelp as der

BODY = b"<plist><dict><key>Status</key><string>Idle</string></dict></plist>"

CA = CertificateAuthority.create("CMS test CA", kind="ec")
KEYS: dict[str, PrivateKey] = {kind: certificates.new_key(kind) for kind in ("ec", "rsa")}
CERTS = {
    kind: CA.issue_identity(key.public_key(), f"device {kind}", 30) for kind, key in KEYS.items()
}
DIGESTS = ("sha256", "sha384", "sha512")


class Own(SynchronousTestCase):
    """What we sign, we verify; asn1crypto reads it as meant."""

    def test_detached(self) -> None:
        """A detached signature holds for its content and no other, and names its signer."""
        for kind, key in KEYS.items():
            signature = cms.sign_detached(BODY, CERTS[kind], key)
            self.assertEqual(cms.verify_detached(signature, BODY), CERTS[kind])
            for other in (BODY + b" ", b"", BODY[:-1]):
                self.assertRaises(BadSignature, cms.verify_detached, signature, other)

    def test_attached(self) -> None:
        """An attached one gives its content back, and brings the chain."""
        for kind, key in KEYS.items():
            blob = cms.sign_attached(BODY, CERTS[kind], key, [CA.certificate])
            self.assertEqual(cms.verify_attached(blob), (BODY, CERTS[kind]))
            info = asn1_cms.ContentInfo.load(blob, strict=True)["content"]
            self.assertEqual(len(info["certificates"]), 2)
            self.assertEqual(info["encap_content_info"]["content"].native, BODY)
            signer = info["signer_infos"][0]
            self.assertEqual(signer["digest_algorithm"]["algorithm"].native, "sha256")
            self.assertEqual(
                {each["type"].native for each in signer["signed_attrs"]},
                {"content_type", "message_digest"},
            )

    def test_not_the_other_kind(self) -> None:
        """A detached signature is not taken for an attached one, nor the other way round."""
        detached = cms.sign_detached(BODY, CERTS["ec"], KEYS["ec"])
        attached = cms.sign_attached(BODY, CERTS["ec"], KEYS["ec"])
        self.assertRaises(BadSignature, cms.verify_attached, detached)
        self.assertRaises(BadSignature, cms.verify_detached, attached, BODY)

    def test_sha1(self) -> None:
        """SHA-1 holds only for those who ask for it."""
        for kind, key in KEYS.items():
            blob = cms.sign(BODY, CERTS[kind], key, digest=cms.SHA1, detached=True)
            self.assertRaises(BadSignature, cms.verify_detached, blob, BODY)
            self.assertEqual(cms.verify_detached(blob, BODY, legacy=True), CERTS[kind])

    def test_wrong_key(self) -> None:
        """A signature made with another key than the certificate's does not hold."""
        for kind, key in (("ec", certificates.new_key("ec")), ("rsa", KEYS["ec"])):
            blob = cms.sign_detached(BODY, CERTS[kind], key)
            self.assertRaises(BadSignature, cms.verify_detached, blob, BODY)

    def test_certs_only(self) -> None:
        """A bag of certificates keeps them in order; it is no signature."""
        bag = [CERTS["rsa"], CA.certificate]
        blob = signed_data.certs_only(bag)
        self.assertEqual(signed_data.read_certs_only(blob), bag)
        self.assertRaises(BadSignature, cms.verify_attached, blob)
        self.assertRaises(BadSignature, cms.verify_detached, blob, b"")
        empty = signed_data.certs_only([])
        self.assertRaises(BadCertificate, signed_data.read_certs_only, empty)


DATA, SIGNED_DATA = "1.2.840.113549.1.7.1", "1.2.840.113549.1.7.2"
SHA256, SHA256_RSA, SHA512_RSA = (
    der.oid(each.dotted_string)
    for each in (cms.SHA256.oid, cms.SHA256.with_rsa, cms.SHA512.with_rsa)
)


def _signer(attributes: bytes | None, signature: bytes) -> bytes:
    name = structures.issuer_and_serial(certificates.certificate_der(CERTS["rsa"]))
    return der.sequence(
        der.integer(1),
        structures.encode(name),
        der.sequence(SHA256, der.null()),
        b"" if attributes is None else b"\xa0" + attributes[1:],
        der.sequence(SHA256_RSA, der.null()),
        der.octets(signature),
    )


def _message(
    *signers: bytes, kind: str = DATA, bag: Sequence[x509.Certificate] = (CERTS["rsa"],)
) -> bytes:
    body = der.sequence(
        der.integer(1),
        der.set_of(der.sequence(SHA256, der.null())),
        der.sequence(der.oid(kind)),
        der.element(der.CONTEXT_0, *map(certificates.certificate_der, bag)),
        der.set_of(*signers),
    )
    return der.sequence(der.oid(SIGNED_DATA), der.element(der.CONTEXT_0, body))


def _rsa_signature(message: bytes) -> bytes:
    key = KEYS["rsa"]
    assert isinstance(key, rsa.RSAPrivateKey)
    return key.sign(message, padding.PKCS1v15(), hashes.SHA256())


def _attribute(oid: str, *values: bytes) -> bytes:
    return der.sequence(der.oid(oid), der.set_of(*values))


CONTENT_TYPE = _attribute("1.2.840.113549.1.9.3", der.oid(DATA))
DIGEST_OID = "1.2.840.113549.1.9.4"
MESSAGE_DIGEST = _attribute(DIGEST_OID, der.octets(cms.SHA256.of(BODY)))


class Crafted(SynchronousTestCase):
    """Messages whose signature is genuine but which don't vouch for the content."""

    def refused(self, blob: bytes) -> str:
        return str(self.assertRaises(BadSignature, cms.verify_detached, blob, BODY))

    def signed(self, *attributes: bytes) -> bytes:
        encoded = der.set_of(*attributes)
        return _message(_signer(encoded, _rsa_signature(encoded)))

    def test_whole(self) -> None:
        """With both attributes in place it holds; the cases below differ by their flaw only."""
        blob = self.signed(CONTENT_TYPE, MESSAGE_DIGEST)
        self.assertEqual(cms.verify_detached(blob, BODY), CERTS["rsa"])

    def test_attributes(self) -> None:
        """Missing, foreign, doubled or many-valued attributes are refused."""
        wrong = _attribute(DIGEST_OID, der.octets(cms.SHA256.of(b"another body")))
        right = der.octets(cms.SHA256.of(BODY))
        two = _attribute(DIGEST_OID, right, der.octets(b"x" * 32))
        other_type = _attribute("1.2.840.113549.1.9.3", der.oid(SIGNED_DATA))
        for attributes in (
            (),
            (CONTENT_TYPE,),
            (MESSAGE_DIGEST,),
            (CONTENT_TYPE, wrong),
            (CONTENT_TYPE, two),
            (CONTENT_TYPE, MESSAGE_DIGEST, MESSAGE_DIGEST),
            (CONTENT_TYPE, MESSAGE_DIGEST, wrong),
            (other_type, MESSAGE_DIGEST),
            (CONTENT_TYPE, _attribute(DIGEST_OID)),
            (CONTENT_TYPE, _attribute(DIGEST_OID, der.null())),
        ):
            self.refused(self.signed(*attributes))

    def test_without_attributes(self) -> None:
        """Without attributes the signature is over the content itself, if that is plain data."""
        signer = _signer(None, _rsa_signature(BODY))
        self.assertEqual(cms.verify_detached(_message(signer), BODY), CERTS["rsa"])
        self.assertRaises(BadSignature, cms.verify_detached, _message(signer), BODY + b" ")
        self.refused(_message(signer, kind=SIGNED_DATA))

    def test_signers(self) -> None:
        """No signer and two signers are refused, though both be good."""
        signer = _signer(None, _rsa_signature(BODY))
        self.assertIn("0 signers", self.refused(_message()))
        self.assertIn("2 signers", self.refused(_message(signer, signer)))

    def test_algorithms(self) -> None:
        """A signature algorithm that names another digest, or an unknown digest, is refused."""
        good = _message(_signer(None, _rsa_signature(BODY)))
        rsa512 = good.replace(SHA256_RSA, SHA512_RSA)
        self.assertIn("signature algorithm", self.refused(rsa512))
        shake = good.replace(SHA256, der.oid("2.16.840.1.101.3.4.2.9"))
        self.assertIn("digest algorithm", self.refused(shake))

    def test_no_certificate(self) -> None:
        """The signer's certificate has to be there."""
        blob = _message(_signer(None, _rsa_signature(BODY)), bag=[CA.certificate])
        self.assertIn("not in the message", self.refused(blob))

    def test_trailing(self) -> None:
        """Bytes after the message are refused."""
        self.refused(cms.sign_detached(BODY, CERTS["ec"], KEYS["ec"]) + b"\0")

    def test_deep_and_large(self) -> None:
        """Deeply nested or large rubbish is refused without much work."""
        deep = b"\x30\x80" * 50_000
        for blob in (deep, deep + b"\0" * 100_000, b"\x30\x80" + b"\x04\x00" * 200_000):
            self.refused(blob)
        signer = _signer(None, _rsa_signature(BODY))
        bag = [CERTS["rsa"]] * 16
        self.assertEqual(cms.verify_detached(_message(signer, bag=bag), BODY), CERTS["rsa"])
        self.refused(_message(signer, bag=[*bag, CA.certificate]))

    def test_order_as_sent(self) -> None:
        """Attributes that the signer did not sort are checked in the order they were signed in."""
        for order in ((CONTENT_TYPE, MESSAGE_DIGEST), (MESSAGE_DIGEST, CONTENT_TYPE)):
            encoded = der.element(der.SET, *order)
            blob = _message(_signer(encoded, _rsa_signature(encoded)))
            self.assertEqual(cms.verify_detached(blob, BODY), CERTS["rsa"])

    def test_strict(self) -> None:
        """Lengths in a longer form than needed, and a cut message, are refused."""
        blob = self.signed(CONTENT_TYPE, MESSAGE_DIGEST)
        content_type = b"\x06\x09" + der.oid(DATA)[2:]
        self.assertIn(content_type, blob)
        self.refused(blob.replace(content_type, b"\x06\x81\x09" + content_type[2:]))
        self.refused(blob[:-1])


SIGNATURES = {kind: cms.sign_detached(BODY, CERTS[kind], KEYS[kind]) for kind in KEYS}


class Mutations(SynchronousTestCase):
    """Whatever happens to a message on its way, only BadSignature comes of it."""

    @settings(max_examples=300)
    @given(st.sampled_from(["ec", "rsa"]), st.data())
    def test_flipped(self, kind: str, data: st.DataObject) -> None:
        """A flipped byte is refused, or lies where it does not matter: content and signer hold."""
        blob = bytearray(SIGNATURES[kind])
        at = data.draw(st.integers(0, len(blob) - 1))
        blob[at] ^= data.draw(st.integers(1, 255))
        try:
            found = cms.verify_detached(bytes(blob), BODY)
        except BadSignature:
            return
        self.assertEqual(certificates.public_key(found), KEYS[kind].public_key())

    @given(st.sampled_from(["ec", "rsa"]), st.integers(0, len(BODY) - 1), st.integers(1, 255))
    def test_body(self, kind: str, at: int, change: int) -> None:
        """Any byte changed in the body under a good signature is refused."""
        body = bytearray(BODY)
        body[at] ^= change
        self.assertRaises(BadSignature, cms.verify_detached, SIGNATURES[kind], bytes(body))

    @given(st.binary(max_size=60) | st.integers(0, 400).map(lambda n: SIGNATURES["ec"][:n]))
    def test_noise(self, noise: bytes) -> None:
        """Noise and beginnings are refused."""
        for blob in (noise, b"\x30\x80" + noise):
            self.assertRaises(BadSignature, cms.verify_attached, blob)
            self.assertRaises(BadCertificate, envelope.read, blob)


class OpenSSL(SynchronousTestCase):
    """openssl verifies what we sign, and we verify what it signs."""

    if shutil.which("openssl") is None:
        skip = "openssl is not installed"

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cms"))
        self.addCleanup(shutil.rmtree, self.folder)
        (self.folder / "ca.pem").write_bytes(certificates.certificate_pem(CA.certificate))
        (self.folder / "body").write_bytes(BODY)
        for kind, key in KEYS.items():
            pair = certificates.certificate_pem(CERTS[kind]) + certificates.key_pem(key)
            (self.folder / f"{kind}.pem").write_bytes(pair)

    def openssl(self, *words: str, given: bytes = b"", ok: bool = True) -> bytes:
        ran = subprocess.run(
            ["openssl", "cms", *words],
            cwd=self.folder,
            input=given,
            capture_output=True,
            check=False,
        )
        self.assertEqual(ran.returncode == 0, ok, ran.stderr.decode())
        return ran.stdout

    def verify(self, blob: bytes, *words: str, ok: bool = True) -> bytes:
        fixed = ("-verify", "-binary", "-inform", "DER", "-CAfile", "ca.pem", "-purpose", "any")
        return self.openssl(*fixed, *words, given=blob, ok=ok)

    def test_ours(self) -> None:
        """It accepts ours, detached and attached, with every digest; not for another body."""
        for kind, key in KEYS.items():
            self.verify(cms.sign_detached(BODY, CERTS[kind], key), "-content", "body")
            for digest in (cms.SHA256, cms.SHA384, cms.SHA512):
                blob = cms.sign(BODY, CERTS[kind], key, digest=digest)
                self.assertEqual(self.verify(blob), BODY)
        (self.folder / "body").write_bytes(b"another")
        self.verify(SIGNATURES["ec"], "-content", "body", ok=False)

    def test_detached(self) -> None:
        """We accept its detached signatures of every shape; never for a changed body."""
        shapes = ((), ("-keyid",), ("-noattr",), ("-nosmimecap",))
        for kind in KEYS:
            for digest, shape in [(each, ()) for each in DIGESTS] + [
                ("sha256", each) for each in shapes
            ]:
                blob = self.openssl(
                    "-sign", "-binary", "-in", "body", "-outform", "DER",
                    "-signer", f"{kind}.pem", "-md", digest, *shape,
                )  # fmt: skip
                self.assertEqual(cms.verify_detached(blob, BODY), CERTS[kind])
                self.assertRaises(BadSignature, cms.verify_detached, blob, b"<" + BODY)
                self.assertRaises(BadSignature, cms.verify_detached, blob, b"")

    def test_attached(self) -> None:
        """We accept its attached ones, streamed in BER too."""
        for kind in KEYS:
            for shape in ((), ("-stream",)):
                blob = self.openssl(
                    "-sign", "-binary", "-nodetach", "-in", "body", "-outform", "DER",
                    "-signer", f"{kind}.pem", "-certfile", "ca.pem", *shape,
                )  # fmt: skip
                self.assertEqual(blob[1] == 0x80, bool(shape))
                self.assertEqual(cms.verify_attached(blob), (BODY, CERTS[kind]))

    def test_refused(self) -> None:
        """SHA-1, several signers, RSA-PSS and a missing certificate are refused."""
        for shape in (
            ("-signer", "rsa.pem", "-md", "sha1"),
            ("-signer", "rsa.pem", "-signer", "ec.pem"),
            ("-signer", "rsa.pem", "-keyopt", "rsa_padding_mode:pss"),
            ("-signer", "rsa.pem", "-nocerts"),
        ):
            blob = self.openssl("-sign", "-binary", "-in", "body", "-outform", "DER", *shape)
            self.assertRaises(BadSignature, cms.verify_detached, blob, BODY)

    def test_envelope(self) -> None:
        """It opens our envelopes and we open its, in each cipher."""
        key = KEYS["rsa"]
        assert isinstance(key, rsa.RSAPrivateKey)
        for cipher, name in (
            (envelope.AES128, "-aes128"),
            (envelope.AES192, "-aes192"),
            (envelope.AES256, "-aes256"),
            (envelope.DES3, "-des3"),
        ):
            ours = envelope.seal_for(BODY, CERTS["rsa"], cipher)
            words = ("-decrypt", "-binary", "-inform", "DER", "-recip", "rsa.pem")
            self.assertEqual(self.openssl(*words, given=ours), BODY)
            for shape in ((), ("-stream",)):
                theirs = self.openssl(
                    "-encrypt", "-binary", "-in", "body", "-outform", "DER", name, *shape,
                    "rsa.pem",
                )  # fmt: skip
                closed = envelope.read(theirs)
                self.assertEqual(closed.cipher, cipher)
                self.assertEqual(envelope.open_with(closed, CERTS["rsa"], key), BODY)

    def test_single_des(self) -> None:
        """Single DES, which openssl keeps in its legacy provider, is what openssl takes it for."""
        words = ("-decrypt", "-binary", "-inform", "DER", "-recip", "rsa.pem")
        ours = envelope.seal_for(BODY, CERTS["rsa"], envelope.DES)
        found = self.openssl(*words, "-provider", "legacy", "-provider", "default", given=ours)
        self.assertEqual(found, BODY)


class Envelopes(SynchronousTestCase):
    """An envelope opens for its recipient only."""

    def test_other_recipient(self) -> None:
        """Another certificate, even of the same key, does not open it."""
        key = KEYS["rsa"]
        assert isinstance(key, rsa.RSAPrivateKey)
        other = CA.issue_identity(key.public_key(), "other", 30)
        closed = envelope.read(envelope.seal_for(BODY, CERTS["rsa"]))
        self.assertRaises(BadCertificate, envelope.open_with, closed, other, key)

    def test_needs_rsa(self) -> None:
        """Nothing can be enveloped to an EC key."""
        self.assertRaises(BadCertificate, envelope.seal_for, BODY, CERTS["ec"])

    @settings(max_examples=100)
    @given(st.data())
    def test_flipped(self, data: st.DataObject) -> None:
        """A flipped byte leads to other content or BadCertificate, nothing else."""
        key = KEYS["rsa"]
        assert isinstance(key, rsa.RSAPrivateKey)
        blob = bytearray(envelope.seal_for(BODY, CERTS["rsa"]))
        blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))
        with contextlib.suppress(BadCertificate):
            envelope.open_with(envelope.read(bytes(blob)), CERTS["rsa"], key)


class Ber(SynchronousTestCase):
    """What streams is rewritten faithfully; what is damaged is refused."""

    def test_rewritten(self) -> None:
        """Open lengths are closed and chunks joined, at any depth."""
        open_octets = b"\x24\x80\x04\x01a\x24\x03\x04\x01b\0\0"
        for streamed, plain in (
            (b"\x30\x80\0\0", b"\x30\0"),
            (open_octets, b"\x04\x02ab"),
            (b"\x30\x80\xa0\x80" + open_octets + b"\0\0\0\0", b"\x30\x06\xa0\x04\x04\x02ab"),
            (b"\x30\x80\x04\x81\x80" + b"x" * 128 + b"\0\0", der.sequence(der.octets(b"x" * 128))),
        ):
            self.assertEqual(ber.to_der(streamed), plain)

    def test_refused(self) -> None:
        """Cuts, missing ends, odd chunks, many-byte tags, overlong insides."""
        for bad in (
            b"",
            b"\x30",
            b"\x30\x80",
            b"\x30\x80\0",
            b"\x30\x80\0\0\0",
            b"\x04\x80\0\0",
            b"\x04\x02a",
            b"\x1f\x81\x01\x00",
            b"\x24\x80\x02\x01a\0\0",
            b"\x24\x02\x04\x01a",
            b"\x30\x80\x04\x85\0\0\0\0\x01a\0\0",
        ):
            self.assertRaises(NotDer, ber.to_der, bad)

    @given(st.binary(max_size=80))
    def test_noise(self, noise: bytes) -> None:
        """Noise ends in one error, or in something that stays as it is."""
        for blob in (noise, b"\x30\x80" + noise, b"\x24\x80" + noise + b"\0\0"):
            try:
                found = ber.to_der(blob)
            except NotDer:
                continue
            self.assertEqual(ber.to_der(found), found)

    def test_der_untouched(self) -> None:
        """A certificate goes through unchanged."""
        for cert in (*CERTS.values(), CA.certificate):
            encoded = certificates.certificate_der(cert)
            self.assertEqual(ber.to_der(encoded), encoded)
