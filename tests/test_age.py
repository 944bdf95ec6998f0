"""Sealed files, against the program age where it is there."""

import io
import shutil
import subprocess
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.python.procutils import which
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import BadCertificate, BadRequest
from mdmd.pki.age import Passphrase, Sealing, unseal
from mdmd.pki.age_keys import LockedKey, X25519Identity, read_identities, read_recipient
from mdmd.pki.age_stanza import CannotOpen, Opens, Seals

AGE = which("age")
OPENSSL = which("openssl")
# Of the age project's own documentation of the format: a key and its recipient.
KEY = X25519Identity(bytes(range(32)))
LARGE = bytes(range(256)) * 1000  # several chunks, the last one short


def sealed(data: bytes, *to: Seals, piece: int = 10_000) -> bytes:
    """Seal it in pieces."""
    sealing = Sealing(to)
    pieces = [sealing.write(data[at : at + piece]) for at in range(0, len(data), piece)]
    return b"".join(pieces) + sealing.finish()


def opened(file: bytes, *keys: Opens) -> bytes:
    """Open it."""
    return b"".join(unseal(io.BytesIO(file).read, keys))


class FormatTests(SynchronousTestCase):
    """Seal and open."""

    def test_there_and_back(self) -> None:
        """Any length: nothing, a bit, just a chunk, one byte more, several."""
        for size in (0, 1, 65_535, 65_536, 65_537, 131_072, 200_000):
            data = LARGE[:size]
            self.assertEqual(opened(sealed(data, KEY.recipient), KEY), data)

    def test_several_recipients(self) -> None:
        """Each of them opens it, a stranger does not."""
        other, stranger = X25519Identity(b"o" * 32), X25519Identity(b"s" * 32)
        file = sealed(b"data", KEY.recipient, other.recipient)
        self.assertEqual(opened(file, KEY), b"data")
        self.assertEqual(opened(file, stranger, other), b"data")
        self.assertRaises(CannotOpen, opened, file, stranger)

    def test_passphrase(self) -> None:
        """The right one opens it; keys and a passphrase do not mix."""
        file = sealed(b"data", Passphrase("p\N{SNOWMAN}"))
        self.assertEqual(opened(file, Passphrase("p\N{SNOWMAN}")), b"data")
        self.assertRaises(CannotOpen, opened, file, Passphrase("q"), KEY)
        self.assertRaises(BadRequest, Sealing, [Passphrase("p"), KEY.recipient])
        self.assertRaises(BadRequest, Sealing, [])

    def test_costly_passphrase(self) -> None:
        """A file can't make us work for hours."""
        file = sealed(b"data", Passphrase("p")).replace(b" 18\n", b" 40\n", 1)
        self.assertRaises(CannotOpen, opened, file, Passphrase("p"))

    def test_cut_short(self) -> None:
        """A file without its end is refused, also when just whole chunks are missing."""
        file = sealed(LARGE[:131_072], KEY.recipient)
        head = len(file) - 2 * (65_536 + 16)
        for end in (10, head - 20, head, head + 100, head + 65_552, len(file) - 1):
            self.assertRaises(CannotOpen, opened, file[:end], KEY)
        self.assertRaises(CannotOpen, opened, file + b"x", KEY)

    @settings(max_examples=60)
    @given(st.data())
    def test_damaged(self, data: st.DataObject) -> None:
        """No changed byte goes unnoticed."""
        file = bytearray(sealed(b"some data", KEY.recipient))
        at = data.draw(st.integers(0, len(file) - 1))
        file[at] ^= data.draw(st.integers(1, 255))
        self.assertRaises(CannotOpen, opened, bytes(file), KEY)

    def test_no_sealed_file(self) -> None:
        """Anything else is refused at once."""
        for file in (b"", b"age-encryption.org/v2\n", b"x" * 100_000, b"age-encryption.org/v1\n"):
            self.assertRaises(CannotOpen, opened, file, KEY)

    def test_keys(self) -> None:
        """Mistyped keys are refused."""
        for text in ("", "age1", "age1qqqq", "AGE-SECRET-KEY-1QQQ", "-----BEGIN PUBLIC KEY-----"):
            self.assertRaises(BadCertificate, read_recipient, text)
            self.assertRaises(BadCertificate, read_identities, text)


class AgeTests(SynchronousTestCase):
    """The program age opens what we seal, and we open what it seals."""

    if not AGE:
        skip = "age is not installed"

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        key = self.folder / "key.txt"
        self.run_it("age-keygen", "-o", str(key))
        self.identities = read_identities(key.read_text())
        self.recipient = self.run_it("age-keygen", "-y", str(key)).decode().strip()

    def run_it(self, *words: str) -> bytes:
        """Run a program, return what it says."""
        return subprocess.run(words, check=True, capture_output=True, cwd=self.folder).stdout

    def test_key(self) -> None:
        """Our reading of a key is age's own."""
        self.assertEqual(read_recipient(self.recipient), self.identities[0].recipient)

    def test_age_opens_ours(self) -> None:
        """With the key."""
        (self.folder / "file").write_bytes(sealed(LARGE, read_recipient(self.recipient)))
        self.assertEqual(self.run_it("age", "-d", "-i", "key.txt", "file"), LARGE)

    def test_we_open_ages(self) -> None:
        """With the key."""
        (self.folder / "plain").write_bytes(LARGE)
        self.run_it("age", "-r", self.recipient, "-o", "file", "plain")
        self.assertEqual(opened((self.folder / "file").read_bytes(), *self.identities), LARGE)


class PEMTests(SynchronousTestCase):
    """Keys and certificates that openssl made."""

    if not OPENSSL:
        skip = "openssl is not installed"

    KINDS = (
        ("x25519",),
        ("RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
        ("RSA", "-pkeyopt", "rsa_keygen_bits:3072"),
        ("EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
        ("EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
        ("EC", "-pkeyopt", "ec_paramgen_curve:P-521"),
    )

    def openssl(self, *words: str, given: str = "") -> str:
        """Run openssl."""
        done = subprocess.run(
            ["openssl", *words], input=given, check=True, capture_output=True, text=True
        )
        return done.stdout

    def made(self, *kind: str) -> tuple[str, str]:
        """A new private key, and its public one."""
        private = self.openssl("genpkey", "-algorithm", *kind)
        return private, self.openssl("pkey", "-pubout", given=private)

    def test_each_kind(self) -> None:
        """Its holder opens the file, among others; nobody else does, whatever their kind."""
        pairs = [self.made(*kind) for kind in self.KINDS]
        strangers = [key for kind in self.KINDS for key in read_identities(self.made(*kind)[0])]
        everybody = sealed(LARGE, *(read_recipient(public) for _, public in pairs))
        for private, public in pairs:
            (key,) = read_identities(private)
            file = sealed(LARGE, read_recipient(public))
            self.assertEqual(opened(file, *strangers, key), LARGE)
            self.assertEqual(opened(everybody, key), LARGE)
            self.assertRaises(CannotOpen, opened, file, *strangers, Passphrase("x"))
        self.assertRaises(CannotOpen, opened, everybody, *strangers)

    def test_certificates(self) -> None:
        """A certificate seals for its key; old forms of private keys open, too."""
        for *words, form in (
            ("-newkey", "rsa:2048", "rsa"),
            ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "ec"),
        ):
            private = self.openssl(
                *("req", "-x509", "-nodes", *words, "-subj", "/CN=x"),
                *("-keyout", "-", "-out", "/dev/null"),
            )
            certificate = self.openssl(
                "req", "-x509", "-key", "/dev/stdin", "-subj", "/CN=x", given=private
            )
            file = sealed(b"data", read_recipient(certificate))
            old = self.openssl(form, *(["-traditional"] if form == "rsa" else []), given=private)
            self.assertIn(f"BEGIN {form.upper()} PRIVATE", old)
            for text in (private, old):
                self.assertEqual(opened(file, *read_identities(text)), b"data")

    def test_encrypted_keys(self) -> None:
        """A private key that is itself encrypted opens with its passphrase."""
        private, public = self.made(*self.KINDS[3])
        file = sealed(b"data", read_recipient(public))
        for form in (("pkcs8", "-topk8"), ("ec", "-aes128")):
            pem = self.openssl(*form, "-passout", "pass:secret", given=private)
            self.assertRaises(LockedKey, read_identities, pem)
            self.assertRaises(LockedKey, read_identities, pem, "wrong")
            self.assertEqual(opened(file, *read_identities(pem, "secret")), b"data")

    @settings(max_examples=60)
    @given(st.data())
    def test_damaged(self, data: st.DataObject) -> None:
        """No changed byte goes unnoticed, whatever kind the key is."""
        private, file = data.draw(st.sampled_from(self.files()))
        changed = bytearray(file)
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at] ^= data.draw(st.integers(1, 255))
        self.assertRaises(CannotOpen, opened, bytes(changed), *read_identities(private))

    def files(self) -> list[tuple[str, bytes]]:
        """A private key, and a file for it; one of each kind, once."""
        if not hasattr(type(self), "_files"):
            pairs = [self.made(*kind) for kind in self.KINDS]
            type(self)._files = [(key, sealed(b"d", read_recipient(pub))) for key, pub in pairs]
        found: list[tuple[str, bytes]] = self._files
        return found

    def test_other_kinds(self) -> None:
        """Keys that can't seal, or are too short for it, are refused with what is expected."""
        for kind in (
            ("ed25519",),
            ("EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"),
            ("RSA", "-pkeyopt", "rsa_keygen_bits:1024"),
        ):
            private, public = self.made(*kind)
            with self.assertRaisesRegex(BadCertificate, "RSA .*EC .*X25519"):
                read_recipient(public)
            if kind[0] != "RSA":
                with self.assertRaisesRegex(BadCertificate, "RSA .*EC .*X25519"):
                    read_identities(private)
        private, public = self.made("x25519")
        self.assertRaises(BadCertificate, read_recipient, private)
        self.assertRaises(BadCertificate, read_identities, public)

    def test_age_and_rsa(self) -> None:
        """What is sealed for an RSA key opens with age, and what age seals for it opens here."""
        if not AGE or not which("ssh-keygen"):
            self.skipTest("age or ssh-keygen is not installed")
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        private, public = self.made(*self.KINDS[1])
        (folder / "key.pem").write_text(private)
        (folder / "key.pem").chmod(0o600)
        (folder / "file").write_bytes(sealed(LARGE, read_recipient(public)))
        age = ["age", "-d", "-i", "key.pem", "file"]
        done = subprocess.run(age, check=True, capture_output=True, cwd=folder)
        self.assertEqual(done.stdout, LARGE)
        keygen = ["ssh-keygen", "-y", "-f", "key.pem"]
        ssh = subprocess.run(keygen, check=True, capture_output=True, text=True, cwd=folder).stdout
        subprocess.run(["age", "-r", ssh, "-o", "back"], check=True, input=LARGE, cwd=folder)
        self.assertEqual(opened((folder / "back").read_bytes(), *read_identities(private)), LARGE)
