"""The push certificate's life: from the vendor's request to a renewal, held against openssl."""

import base64
import contextlib
import datetime
import io
import os
import plistlib
import shutil
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID
from twisted.trial.unittest import SynchronousTestCase

from mdmd.cli.main import main
from mdmd.errors import BadCertificate
from mdmd.pki import certificates, pushcert_request
from mdmd.pki.pushcert import read_push_certificate
from tests.opshelp import scratch
from tests.test_mdmctl import CommandLine

TOPIC = "com.apple.mgmt.t"  # where the desk's two devices are
OPENSSL = shutil.which("openssl")
DAY = datetime.timedelta(days=1)


class Apple:
    """A throw-away Apple: a root, an intermediate, and what they issue."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._root_key, self._key = certificates.new_key("rsa"), certificates.new_key("rsa")
        root_name, self._name = certificates.name("Apple Root CA"), certificates.name("WWDR")
        self.root = self._issue(root_name, root_name, self._root_key.public_key(), self._root_key)
        self.intermediate = self._issue(
            self._name, root_name, self._key.public_key(), self._root_key
        )
        (folder / "root.pem").write_bytes(certificates.certificate_pem(self.root))
        (folder / "wwdr.cer").write_bytes(certificates.certificate_der(self.intermediate))

    def _issue(
        self, subject: x509.Name, issuer: x509.Name, key: object, by: object, ca: bool = True
    ) -> x509.Certificate:
        start = datetime.datetime.now(datetime.UTC) - DAY
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + 365 * DAY)
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(
                x509.AuthorityInformationAccess(
                    [
                        x509.AccessDescription(
                            AuthorityInformationAccessOID.CA_ISSUERS,
                            x509.UniformResourceIdentifier("http://certs.example/issuer.cer"),
                        )
                    ]
                ),
                critical=False,
            )
            .sign(by, hashes.SHA256())  # type: ignore[arg-type]
        )

    def vendor(self, request: Path) -> Path:
        """Answer an MDM CSR, as the developer site does."""
        csr = x509.load_pem_x509_csr(request.read_bytes())
        certificate = self._issue(csr.subject, self._name, csr.public_key(), self._key, ca=False)
        path = self.folder / "mdm.cer"
        path.write_bytes(certificates.certificate_der(certificate))
        return path

    def portal(self, signed: Path, topic: str = TOPIC, name: str = "MDM_.pem") -> Path:
        """Answer a signed request, as the push portal does."""
        body = plistlib.loads(base64.b64decode(signed.read_bytes()))
        csr = x509.load_der_x509_csr(base64.b64decode(body["PushCertRequestCSR"]))
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.USER_ID, topic),
                x509.NameAttribute(NameOID.COMMON_NAME, f"APSP:{topic[-20:]}"),
            ]
        )
        certificate = self._issue(subject, self._name, csr.public_key(), self._key, ca=False)
        path = self.folder / name
        path.write_bytes(certificates.certificate_pem(certificate))
        return path


class Life(CommandLine):
    """Every step as a sysadmin types it, against a served desk."""

    if OPENSSL is None:
        skip = "openssl is not installed"

    def setUp(self) -> None:
        self.work = scratch()
        self.addCleanup(shutil.rmtree, self.work)
        self.apple = Apple(self.work)

    def step(self, name: str, *words: str, status: int = 0) -> str:
        """Take a step; what it says on either output. Those that need no daemon run in here."""
        if name in ("install", "renew") or not words:
            done = self.mdmctl("pushcert", name, *words, status=status)
            return done.stdout + done.stderr
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            self.assertEqual(main(["pushcert", name, *words]), status, said.getvalue())
        return said.getvalue()

    def openssl(self, *words: str, data: bytes = b"") -> bytes:
        """Run openssl; it has to succeed."""
        done = subprocess.run([OPENSSL, *words], input=data, capture_output=True, cwd=self.work)
        self.assertEqual(done.returncode, 0, done)
        return done.stdout

    def at(self, name: str) -> str:
        return str(self.work / name)

    def vendor_options(self) -> tuple[str, ...]:
        """Become a vendor."""
        said = self.step(
            "vendor-csr", "--name", "Acme", "--email", "mdm@acme.example", "--country", "DE",
            "--out", self.at(""),
        )  # fmt: skip
        self.assertIn("developer.apple.com", said)
        self.openssl("req", "-verify", "-noout", "-in", "vendor.csr")
        vendor = self.apple.vendor(self.work / "vendor.csr")
        return (
            "--vendor-certificate", str(vendor), "--vendor-key", self.at("vendor.key"),
            "--chain", self.at("root.pem"), "--chain", self.at("wwdr.cer"),
        )  # fmt: skip

    def test_from_vendor_csr_to_renewal(self) -> None:
        """Request, signature, installation, a wrong topic refused, and the renewal."""
        vendor = self.vendor_options()
        said = self.step("csr", "--name", "Acme devices", "--out", self.at(""))
        self.assertIn("mdmctl pushcert sign", said)
        self.assertEqual(os.stat(self.at("push.key")).st_mode & 0o777, 0o600)
        said = self.step("sign", self.at("push.csr"), *vendor, "--out", self.at(""))
        self.assertIn("identity.apple.com/pushcert", said)
        self.assertIn("mdmctl pushcert install", said)
        self.check_with_openssl(self.work / "push-request.b64")

        issued = self.apple.portal(self.work / "push-request.b64")
        said = self.step("install", str(issued), "--key", self.at("push.key"))
        self.assertIn(f"installed for topic {TOPIC}", said)
        self.assertIn("2 enrolled devices", said)
        (shown,) = self.data("pushcert", "show")
        self.assertEqual((shown["topic"], shown["version"], shown["enrolled"]), (TOPIC, 4, 2))
        self.assertIn(TOPIC, self.step("show"))
        said = self.step("show", str(issued), "--key", self.at("push.key"))
        self.assertIn("key: fits", said)

        other = self.apple.portal(self.work / "push-request.b64", "com.apple.mgmt.other", "other")
        said = self.step("install", str(other), "--key", self.at("push.key"), status=1)
        self.assertIn("2 enrolled devices", said)
        self.assertIn(f"are on {TOPIC}", said)
        self.assertEqual([each["topic"] for each in self.data("pushcert", "show")], [TOPIC])

        renewal = self.work / "renewal"
        said = self.step("renew", "--name", "Acme devices", "--out", str(renewal), *vendor)
        self.assertIn(f"UID is {TOPIC}", said)
        self.assertIn('"Renew"', said)
        self.check_with_openssl(renewal / "push-request.b64")
        renewed = self.apple.portal(renewal / "push-request.b64", TOPIC, "renewed.pem")
        self.step("install", str(renewed), "--key", str(renewal / "push.key"))
        (shown,) = self.data("pushcert", "show")
        self.assertEqual(shown["version"], 5)
        said = self.step("install", str(renewed), "--key", self.at("push.key"), status=1)
        self.assertIn("the private key is not that of the push certificate", said)

        said = self.step("install", str(other), "--key", self.at("push.key"), "--force")
        self.assertIn("0 enrolled devices", said)
        said = self.step("renew", "--name", "A", "--out", self.at("third"), status=1)
        self.assertIn("--topic", said)

    def check_with_openssl(self, signed: Path) -> None:
        """The portal's own checks: request, signature over it, and the chain."""
        (self.work / "plist").write_bytes(
            self.openssl("base64", "-d", "-A", data=signed.read_bytes())
        )
        body = plistlib.loads((self.work / "plist").read_bytes())
        self.assertEqual(
            set(body), {"PushCertRequestCSR", "PushCertCertificateChain", "PushCertSignature"}
        )
        for name, key in (("csr.der", "PushCertRequestCSR"), ("signature", "PushCertSignature")):
            decoded = self.openssl("base64", "-d", "-A", data=body[key].encode())
            (self.work / name).write_bytes(decoded)
        (self.work / "chain.pem").write_text(body["PushCertCertificateChain"])
        self.assertEqual(body["PushCertCertificateChain"].count("BEGIN CERTIFICATE"), 3)
        self.openssl("req", "-verify", "-noout", "-inform", "DER", "-in", "csr.der")
        public = self.openssl("x509", "-in", "chain.pem", "-noout", "-pubkey")
        (self.work / "vendor.pub").write_bytes(public)
        self.openssl(
            "dgst", "-sha256", "-verify", "vendor.pub", "-signature", "signature", "csr.der"
        )
        self.openssl("verify", "-CAfile", "root.pem", "-untrusted", "chain.pem", "chain.pem")

    def test_through_a_service(self) -> None:
        """What a service encrypted to us is opened: in hexadecimal, base64, DER and BER."""
        self.vendor_options()
        said = self.step("csr", "--name", "Acme", "--for-service", "--out", self.at(""))
        self.assertIn("mdmctl pushcert decrypt", said)
        by = pushcert_request.vendor(
            (self.work / "mdm.cer").read_bytes(),
            certificates.load_key((self.work / "vendor.key").read_bytes()),
            [],
        )
        request = pushcert_request.read_request((self.work / "push.csr").read_bytes())
        signed = pushcert_request.sign_request(request, by)
        options = ("--key", self.at("push.key"), "--certificate", self.at("push-encryption.pem"))
        for number, (cipher, form, wrap) in enumerate(
            (
                (("-des3",), ("-outform", "DER"), lambda data: data.hex().encode()),
                (("-aes256",), ("-outform", "DER"), base64.encodebytes),
                (("-aes128",), ("-outform", "PEM"), bytes),
                (("-aes256",), ("-outform", "DER", "-stream"), bytes),
            )
        ):
            sent = self.openssl(
                "cms", "-encrypt", "-binary", *cipher, *form, "push-encryption.pem", data=signed
            )
            (self.work / "answer").write_bytes(wrap(sent))
            out = self.work / str(number)
            said = self.step("decrypt", self.at("answer"), *options, "--out", str(out))
            self.assertIn("identity.apple.com", said)
            self.assertEqual((out / "push-request.b64").read_bytes(), signed)
        wrong = self.openssl(
            "cms", "-encrypt", "-binary", "-aes256", "-outform", "DER", "push-encryption.pem",
            data=b"hello",
        )  # fmt: skip
        (self.work / "answer").write_bytes(wrong)
        said = self.step("decrypt", self.at("answer"), *options, "--out", self.at("none"), status=1)
        self.assertIn("not a signed push certificate request", said)

    def test_nothing_is_overwritten(self) -> None:
        """A key that is there stays; half a pair is never made."""
        self.step("csr", "--name", "Acme", "--out", self.at(""))
        before = (self.work / "push.key").read_bytes()
        (self.work / "push.csr").unlink()
        said = self.step("csr", "--name", "Acme", "--out", self.at(""), status=1)
        self.assertIn("is there already", said)
        self.assertEqual((self.work / "push.key").read_bytes(), before)
        self.assertFalse((self.work / "push.csr").exists())

    def test_whole_chain(self) -> None:
        """An incomplete chain is said so, with the place where the rest is."""
        vendor = self.vendor_options()
        self.step("csr", "--name", "Acme", "--out", self.at(""))
        said = self.step("sign", self.at("push.csr"), *vendor[:4], "--out", self.at(""))
        self.assertIn("CN=WWDR (from http://certs.example/issuer.cer) is not in it", said)

    def test_mistakes(self) -> None:
        """What can't be read is one line."""
        vendor = self.vendor_options()
        (self.work / "junk").write_bytes(b"junk")
        for words in (
            ("sign", self.at("junk"), *vendor, "--out", self.at("x")),
            ("sign", self.at("missing"), *vendor, "--out", self.at("x")),
            ("install", self.at("junk")),
            ("install", self.at("mdm.cer"), "--key", self.at("vendor.key")),
            ("show", self.at("junk")),
            ("csr", "--name", "", "--out", self.at("x")),
            ("csr", "--name", "A", "--country", "Germany", "--out", self.at("x")),
        ):
            said = self.step(*words, status=1)
            self.assertEqual(len(said.splitlines()), 1, said)


class Forms(SynchronousTestCase):
    """Every form in which certificate and key may come."""

    def setUp(self) -> None:
        self.work = scratch()
        self.addCleanup(shutil.rmtree, self.work)
        key, csr = pushcert_request.new_request("Acme")
        (self.work / "r").write_bytes(b"")
        apple = Apple(self.work)
        by = pushcert_request.Vendor(apple.root, certificates.new_key("rsa"))  # type: ignore[arg-type]
        (self.work / "s").write_bytes(pushcert_request.sign_request(csr, by))
        pem = apple.portal(self.work / "s").read_bytes()
        self.key, self.certificate = key, certificates.load_certificate(pem)

    def test_forms(self) -> None:
        """PEM, DER, PKCS#12; the key encrypted or not, joined or apart."""
        pem = certificates.certificate_pem(self.certificate)
        der = certificates.certificate_der(self.certificate)
        encrypted = serialization.BestAvailableEncryption(b"word")
        plain = serialization.NoEncryption()
        pkcs8, traditional = (
            serialization.PrivateFormat.PKCS8,
            serialization.PrivateFormat.TraditionalOpenSSL,
        )

        def key(encoding: str, form: object, encryption: object = plain) -> bytes:
            return self.key.private_bytes(
                getattr(serialization.Encoding, encoding), form, encryption
            )  # type: ignore[arg-type]

        def pfx(encryption: serialization.KeySerializationEncryption) -> bytes:
            return pkcs12.serialize_key_and_certificates(
                None, self.key, self.certificate, None, encryption
            )

        for data, apart, word in (
            (pem + key("PEM", pkcs8), None, None),
            (key("PEM", traditional) + pem, None, None),
            (pem.rstrip() + key("PEM", pkcs8), None, None),
            (pem + key("PEM", pkcs8, encrypted), None, b"word"),
            (pem + key("PEM", traditional, encrypted), None, b"word"),
            (pem, key("PEM", pkcs8), None),
            (pem, key("DER", pkcs8), None),
            (der, key("PEM", traditional), None),
            (der, key("DER", pkcs8, encrypted), b"word"),
            (pfx(plain), None, None),
            (pfx(encrypted), None, b"word"),
        ):  # fmt: skip
            pair = read_push_certificate(data, apart, word)
            self.assertEqual((pair.topic, pair.certificate), (TOPIC, self.certificate))
            self.assertEqual(pair.key.public_key(), self.key.public_key())

    def test_wrong_passphrase(self) -> None:
        """It is said that the passphrase is the trouble, in each form."""
        encrypted = serialization.BestAvailableEncryption(b"word")
        p12 = pkcs12.serialize_key_and_certificates(
            None, self.key, self.certificate, None, encrypted
        )
        der_key = self.key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, encrypted
        )
        der = certificates.certificate_der(self.certificate)
        for word in (None, b"wrong"):
            for data, apart in ((p12, None), (der, der_key)):
                with self.assertRaisesRegex(BadCertificate, "passphrase"):
                    read_push_certificate(data, apart, word)
