"""Sealed files, against the program age where it is there."""

import io
import subprocess
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.python.procutils import which
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import BadCertificate, BadRequest
from mdmd.pki.age import (
    CannotOpen,
    Identity,
    Passphrase,
    Recipient,
    Sealing,
    read_identities,
    read_recipient,
    unseal,
)

AGE = which("age")
OPENSSL = which("openssl")
# Of the age project's own documentation of the format: a key and its recipient.
KEY = Identity(bytes(range(32)))
LARGE = bytes(range(256)) * 1000  # several chunks, the last one short


def sealed(data: bytes, *to: Passphrase | Recipient, piece: int = 10_000) -> bytes:
    """Seal it in pieces."""
    sealing = Sealing(to)
    pieces = [sealing.write(data[at : at + piece]) for at in range(0, len(data), piece)]
    return b"".join(pieces) + sealing.finish()


def opened(file: bytes, *keys: Passphrase | Identity) -> bytes:
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
        other, stranger = Identity(b"o" * 32), Identity(b"s" * 32)
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
    """Keys that openssl made."""

    if not OPENSSL:
        skip = "openssl is not installed"

    def test_pem(self) -> None:
        """X25519 in PEM seals and opens; other kinds are refused."""
        make = ["openssl", "genpkey", "-algorithm"]
        private = subprocess.run([*make, "x25519"], check=True, capture_output=True).stdout
        public = subprocess.run(
            ["openssl", "pkey", "-pubout"], input=private, check=True, capture_output=True
        ).stdout
        file = sealed(b"data", read_recipient(public.decode()))
        self.assertEqual(opened(file, *read_identities(private.decode())), b"data")
        other = subprocess.run([*make, "ed25519"], check=True, capture_output=True).stdout
        self.assertRaises(BadCertificate, read_identities, other.decode())
