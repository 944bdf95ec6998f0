"""Keys, certificates, requests, and what the CA signs."""

import subprocess
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import AttributeOID, ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import BadCertificate
from mdmd.pki import certificates
from mdmd.pki.authority import CertificateAuthority

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)

RSA_CA = CertificateAuthority.create("Device CA", now=NOW)
EC_CA = CertificateAuthority.create("Device CA", kind="ec", now=NOW)
RSA_KEY = certificates.new_key("rsa")
EC_KEY = certificates.new_key("ec")


def _pem(key: object, passphrase: bytes | None = None, form: str = "PKCS8") -> bytes:
    hidden: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        hidden = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(  # type: ignore[attr-defined,no-any-return]
        serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), hidden
    )


class Keys(SynchronousTestCase):
    """Keys are read and written; what can't be is said in words."""

    def test_round_trip(self) -> None:
        """A key written is the key read, in every usual form."""
        for key in (RSA_KEY, EC_KEY):
            self.assertEqual(
                certificates.load_key(certificates.key_pem(key)).public_key(), key.public_key()
            )
            for form in ("PKCS8", "TraditionalOpenSSL"):
                self.assertEqual(
                    certificates.load_key(_pem(key, b"pw", form), b"pw").public_key(),
                    key.public_key(),
                )

    def test_among_certificates(self) -> None:
        """Key and certificate may share a file, in any order."""
        cert = EC_CA.issue_identity(EC_KEY.public_key(), "d", 1, NOW)
        pair = [certificates.certificate_pem(cert), certificates.key_pem(EC_KEY)]
        for text in (b"".join(pair), b"".join(reversed(pair))):
            self.assertTrue(
                certificates.matches(
                    certificates.load_certificate(text), certificates.load_key(text)
                )
            )

    def test_passphrase(self) -> None:
        """A missing and a wrong passphrase are told apart; one too many does no harm."""
        sealed = _pem(EC_KEY, b"right")
        missing = self.assertRaises(BadCertificate, certificates.load_key, sealed)
        self.assertIn("no passphrase", str(missing))
        wrong = self.assertRaises(BadCertificate, certificates.load_key, sealed, b"wrong")
        self.assertIn("wrong passphrase", str(wrong))
        certificates.load_key(certificates.key_pem(EC_KEY), b"needless")

    def test_refused(self) -> None:
        """Short RSA keys, other kinds and rubbish are refused."""
        short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
        other = ed25519.Ed25519PrivateKey.generate()
        rubbish = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
        for pem, word in (
            (_pem(short), "1024"),
            (_pem(other), "neither"),
            (rubbish, "damaged"),
            (b"", "no PEM"),
        ):
            error = self.assertRaises(BadCertificate, certificates.load_key, pem)
            self.assertIn(word, str(error))
        self.assertRaises(BadCertificate, certificates.new_key, "dsa")


class Certificates(SynchronousTestCase):
    """Certificates are read and judged."""

    def test_load(self) -> None:
        """PEM and DER read the same."""
        cert = RSA_CA.certificate
        for form in (certificates.certificate_pem(cert), certificates.certificate_der(cert)):
            self.assertEqual(certificates.load_certificate(form), cert)

    def test_pem_inside_der(self) -> None:
        """A certificate that carries another as PEM is read as itself."""
        decoy = certificates.certificate_pem(RSA_CA.certificate)
        outer = (
            x509.CertificateBuilder()
            .subject_name(certificates.name("outer"))
            .issuer_name(certificates.name("outer"))
            .public_key(EC_KEY.public_key())
            .serial_number(1)
            .not_valid_before(NOW)
            .not_valid_after(NOW + DAY)
            .add_extension(
                x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), decoy), critical=False
            )
            .sign(EC_KEY, hashes.SHA256())
        )
        self.assertEqual(certificates.load_certificate(certificates.certificate_der(outer)), outer)

    @given(st.binary(max_size=100))
    def test_rubbish(self, noise: bytes) -> None:
        """Rubbish is BadCertificate, nothing else."""
        for blob in (noise, b"-----BEGIN CERTIFICATE-----\n" + noise):
            self.assertRaises(BadCertificate, certificates.load_certificate, blob)
            self.assertRaises(BadCertificate, certificates.load_pkcs12, blob, b"x")

    def test_other_key_kinds(self) -> None:
        """A certificate with a key that we can't use is refused on reading."""
        key = dsa.generate_private_key(1024)
        cert = (
            x509.CertificateBuilder()
            .subject_name(certificates.name("odd"))
            .issuer_name(certificates.name("odd"))
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(NOW)
            .not_valid_after(NOW + DAY)
            .sign(RSA_KEY, hashes.SHA256())
        )
        self.assertRaises(
            BadCertificate, certificates.load_certificate, certificates.certificate_der(cert)
        )

    def test_fingerprint(self) -> None:
        """The fingerprint is that of openssl, in lower-case hex."""
        shown = subprocess.run(
            ["openssl", "x509", "-inform", "DER", "-noout", "-fingerprint", "-sha256"],
            input=certificates.certificate_der(RSA_CA.certificate),
            capture_output=True,
            check=True,
        ).stdout.decode()
        self.assertEqual(
            certificates.fingerprint(RSA_CA.certificate),
            shown.split("=")[1].strip().replace(":", "").lower(),
        )

    def test_csr(self) -> None:
        """A request carries its name and its challenge."""
        csr = certificates.new_csr(EC_KEY, "device", "s3cret", "Example")
        self.assertTrue(csr.is_signature_valid)
        self.assertEqual(csr.subject.rfc4514_string(), "CN=device,O=Example")
        found = csr.attributes.get_attribute_for_oid(AttributeOID.CHALLENGE_PASSWORD)
        self.assertEqual(found.value, b"s3cret")
        self.assertEqual(len(certificates.new_csr(EC_KEY, "device").attributes), 0)
        self.assertRaises(BadCertificate, certificates.new_csr, EC_KEY, "x" * 65)

    def test_pkcs12(self) -> None:
        """A PKCS#12 file gives key, certificate and chain; half of one is refused."""
        cert = RSA_CA.issue_identity(RSA_KEY.public_key(), "d", 1, NOW)
        hidden = serialization.BestAvailableEncryption(b"pw")
        assert isinstance(RSA_KEY, rsa.RSAPrivateKey)
        whole = pkcs12.serialize_key_and_certificates(
            b"n", RSA_KEY, cert, [RSA_CA.certificate], hidden
        )
        key, got, chain = certificates.load_pkcs12(whole, b"pw")
        self.assertTrue(certificates.matches(got, key))
        self.assertEqual((got, chain), (cert, (RSA_CA.certificate,)))
        self.assertRaises(BadCertificate, certificates.load_pkcs12, whole, b"other")
        half = pkcs12.serialize_key_and_certificates(b"n", None, cert, None, hidden)
        self.assertRaises(BadCertificate, certificates.load_pkcs12, half, b"pw")


class Damaged(SynchronousTestCase):
    """Certificates that open, and have something inside that does not. Found by fuzzing."""

    def test_names_and_version(self) -> None:
        """Whatever can't be read is a BadCertificate at once, and not when somebody looks at it."""
        der = certificates.certificate_der(
            CertificateAuthority.create("Some Name", kind="ec").certificate
        )
        name = der.index(b"Some Name")
        bit_string = der[: name - 2] + b"\x03" + der[name - 1 : name] + b"\0" + der[name + 1 :]
        no_text = der[:name] + b"\xff" + der[name + 1 :]
        version = der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x22", 1)
        for damaged in (bit_string, no_text, version):
            self.assertNotEqual(damaged, der)
            self.assertRaises(BadCertificate, certificates.load_certificate, damaged)


class Authority(SynchronousTestCase):
    """What the CA signs is what openssl and Apple's devices accept, and no more."""

    def test_chain(self) -> None:
        """Only a device identity of this CA, in its time, passes."""
        ca = RSA_CA.certificate
        cert = RSA_CA.issue_identity(EC_KEY.public_key(), "device", 30, NOW)
        self.assertTrue(certificates.chain_ok(cert, ca, NOW))
        self.assertTrue(certificates.chain_ok(cert, ca, NOW + 30 * DAY))
        self.assertFalse(certificates.chain_ok(cert, ca, NOW + 30 * DAY + timedelta(seconds=1)))
        self.assertFalse(certificates.chain_ok(cert, ca, NOW - DAY))
        # The other CA has the same name, not the same key.
        self.assertFalse(certificates.chain_ok(cert, EC_CA.certificate, NOW))
        self.assertFalse(certificates.is_issued_by(cert, EC_CA.certificate))

    def test_others_of_the_ca(self) -> None:
        """The CA itself, its server and its registration authority are no devices."""
        server, _ = RSA_CA.issue_server(["mdm.example.org"], 30, now=NOW)
        registration, _ = RSA_CA.issue_registration(30, NOW)
        for cert in (RSA_CA.certificate, server, registration):
            self.assertTrue(certificates.is_issued_by(cert, RSA_CA.certificate))
            self.assertFalse(certificates.chain_ok(cert, RSA_CA.certificate, NOW))

    def test_identity_profile(self) -> None:
        """An identity is for clients, can't sign others, and names both keys."""
        for authority, key, encipher in ((RSA_CA, RSA_KEY, True), (EC_CA, EC_KEY, False)):
            cert = authority.issue_identity(key.public_key(), "device", 30, NOW)
            found = cert.extensions
            usage = found.get_extension_for_class(x509.KeyUsage)
            self.assertTrue(usage.critical and usage.value.digital_signature)
            self.assertEqual(usage.value.key_encipherment, encipher)
            self.assertFalse(usage.value.key_cert_sign)
            purposes = found.get_extension_for_class(x509.ExtendedKeyUsage).value
            self.assertEqual(list(purposes), [ExtendedKeyUsageOID.CLIENT_AUTH])
            self.assertFalse(found.get_extension_for_class(x509.BasicConstraints).value.ca)
            named = found.get_extension_for_class(x509.AuthorityKeyIdentifier).value
            own = authority.certificate.extensions.get_extension_for_class(
                x509.SubjectKeyIdentifier
            )
            self.assertEqual(named.key_identifier, own.value.digest)
            self.assertEqual(cert.not_valid_after_utc, NOW + 30 * DAY)

    def test_serials(self) -> None:
        """Serial numbers are random, positive, of 128 bits."""
        serials = [
            EC_CA.issue_identity(EC_KEY.public_key(), "d", 1, NOW).serial_number for _ in range(8)
        ]
        self.assertEqual(len(set(serials)), 8)
        self.assertTrue(all(0 < each < 1 << 128 for each in serials))
        zero = CertificateAuthority(EC_CA.certificate, EC_CA.key, random=bytes)
        self.assertEqual(zero.issue_identity(EC_KEY.public_key(), "d", 1, NOW).serial_number, 1)

    def test_never_outlives_the_ca(self) -> None:
        """A certificate ends with its CA at the latest; an ended CA signs nothing."""
        cert = EC_CA.issue_identity(EC_KEY.public_key(), "d", 9999, NOW)
        self.assertEqual(cert.not_valid_after_utc, EC_CA.certificate.not_valid_after_utc)
        late = NOW + timedelta(days=4000)
        self.assertRaises(BadCertificate, EC_CA.issue_identity, EC_KEY.public_key(), "d", 1, late)

    def test_load(self) -> None:
        """A CA is loaded from its two files; a wrong pair or a plain certificate is not."""
        ca = certificates.certificate_pem(EC_CA.certificate)
        loaded = CertificateAuthority.load(ca, certificates.key_pem(EC_CA.key))
        self.assertEqual(loaded.certificate, EC_CA.certificate)
        key = certificates.key_pem(EC_KEY)
        self.assertRaises(BadCertificate, CertificateAuthority.load, ca, key)
        leaf = certificates.certificate_pem(EC_CA.issue_identity(EC_KEY.public_key(), "d", 1, NOW))
        self.assertRaises(BadCertificate, CertificateAuthority.load, leaf, key)
        self.assertNotIn("PrivateKey", repr(loaded))

    def test_bad_names(self) -> None:
        """Names that can't be are refused."""
        for names in ([], ["mdm..example"], ["bücher.example"], [""], ["ok.example", "a b"]):
            self.assertRaises(BadCertificate, EC_CA.issue_server, names, 1)
        self.assertRaises(BadCertificate, EC_CA.issue_identity, EC_KEY.public_key(), "", 1, NOW)

    def test_openssl(self) -> None:
        """openssl's strict verification accepts them for their purpose and host, not for others."""
        for authority in (
            CertificateAuthority.create("Strict RSA"),
            CertificateAuthority.create("Strict EC", kind="ec"),
        ):
            device = authority.issue_identity(EC_KEY.public_key(), "device", 30)
            server, _ = authority.issue_server(["mdm.example.org", "127.0.0.1", "::1"], 30)
            registration, _ = authority.issue_registration(30)
            ask = self.asker(authority)
            self.assertTrue(ask(device, "-purpose", "sslclient"))
            self.assertFalse(ask(device, "-purpose", "sslserver"))
            self.assertTrue(ask(server, "-purpose", "sslserver"))
            self.assertFalse(ask(server, "-purpose", "sslclient"))
            self.assertTrue(ask(server, "-verify_hostname", "mdm.example.org"))
            self.assertFalse(ask(server, "-verify_hostname", "other.example.org"))
            self.assertTrue(ask(server, "-verify_ip", "127.0.0.1"))
            self.assertTrue(ask(server, "-verify_ip", "::1"))
            self.assertTrue(ask(registration))

    def asker(self, authority: CertificateAuthority) -> Callable[..., bool]:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        ca, leaf = Path(folder.name) / "ca.pem", Path(folder.name) / "leaf.pem"
        ca.write_bytes(certificates.certificate_pem(authority.certificate))

        def ask(cert: x509.Certificate, *options: str) -> bool:
            leaf.write_bytes(certificates.certificate_pem(cert))
            return (
                subprocess.run(
                    ["openssl", "verify", "-x509_strict", *options, "-CAfile", ca, leaf],
                    capture_output=True,
                    check=False,
                ).returncode
                == 0
            )

        return ask
