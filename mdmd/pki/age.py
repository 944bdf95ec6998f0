"""
Seal files for a passphrase or for X25519 keys, in the format of age.

Whoever has the program ``age`` can open them without mdmd.

Source: the age file format, https://age-encryption.org/v1
"""

import base64
import hmac
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from mdmd.errors import BadCertificate, BadRequest
from mdmd.pki.bech32 import bech32_decode

_MAGIC = b"age-encryption.org/v1"
_CHUNK = 64 * 1024
_TAG = 16
_LINE = 64  # characters of a stanza's line
_WORK = 18  # log2 of scrypt's cost: about a second
_MOST_WORK = 22
_HEADER_LIMIT = 64 * 1024
_ZERO_NONCE = bytes(12)

Random = Callable[[int], bytes]


class CannotOpen(BadRequest):
    """The file is not sealed for this passphrase or key, is damaged, or is cut short."""


@attrs.frozen
class Passphrase:
    """Seals and opens with a passphrase."""

    text: str = attrs.field(repr=False)

    def wrap(self, file_key: bytes, random: Random) -> bytes:
        """Write the stanza that lets the passphrase open a file."""
        salt = random(16)
        sealed = ChaCha20Poly1305(self._key(salt, _WORK)).encrypt(_ZERO_NONCE, file_key, None)
        return b"-> scrypt %b %d\n%b" % (_encode(salt), _WORK, _body(sealed))

    def unwrap(self, words: Sequence[bytes], sealed: bytes) -> bytes | None:
        """Open a stanza, None if it is not for a passphrase or for another one."""
        if len(words) != 3 or words[0] != b"scrypt" or not words[2].isdigit():
            return None
        work = int(words[2])
        if not 1 <= work <= _MOST_WORK:
            raise CannotOpen("opening this file would take too long")
        return _decrypt(self._key(_decode(words[1]), work), sealed)

    def _key(self, salt: bytes, work: int) -> bytes:
        return Scrypt(_MAGIC + b"/scrypt" + salt, 32, 2**work, 8, 1).derive(self.text.encode())


@attrs.frozen
class Recipient:
    """Somebody whose key opens the file: 32 bytes of an X25519 public key."""

    key: bytes

    def wrap(self, file_key: bytes, random: Random) -> bytes:
        """Write the stanza that lets the key's holder open a file."""
        ephemeral = X25519PrivateKey.from_private_bytes(random(32))
        share = ephemeral.public_key().public_bytes_raw()
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(self.key))
        wrap = _hkdf(shared, share + self.key, _MAGIC + b"/X25519")
        sealed = ChaCha20Poly1305(wrap).encrypt(_ZERO_NONCE, file_key, None)
        return b"-> X25519 %b\n%b" % (_encode(share), _body(sealed))


@attrs.frozen
class Identity:
    """The holder of an X25519 private key, 32 bytes."""

    key: bytes = attrs.field(repr=False)

    @property
    def recipient(self) -> Recipient:
        """Whoever seals for this key needs that."""
        return Recipient(self._private().public_key().public_bytes_raw())

    def unwrap(self, words: Sequence[bytes], sealed: bytes) -> bytes | None:
        """Open a stanza, None if it is not for this key."""
        if len(words) != 2 or words[0] != b"X25519":
            return None
        share = _decode(words[1])
        if len(share) != 32:
            raise CannotOpen("the file's header is damaged")
        shared = self._private().exchange(X25519PublicKey.from_public_bytes(share))
        wrap = _hkdf(shared, share + self.recipient.key, _MAGIC + b"/X25519")
        return _decrypt(wrap, sealed)

    def _private(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(self.key)


def read_recipient(text: str) -> Recipient:
    """
    Read ``age1…``, or a PEM public key of X25519.

    :raises BadCertificate: it is neither.
    """
    text = text.strip()
    if text.startswith("age1"):
        return Recipient(_bech32(text, "age"))
    try:
        key = serialization.load_pem_public_key(text.encode())
    except ValueError:
        key = None
    if not isinstance(key, X25519PublicKey):
        raise BadCertificate("expected age1… or a PEM public key of X25519")
    return Recipient(key.public_bytes_raw())


def read_identities(text: str) -> list[Identity]:
    """
    Read the lines ``AGE-SECRET-KEY-1…`` of a file, or one PEM private key of X25519.

    :raises BadCertificate: there is none.
    """
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line.upper().startswith("AGE-SECRET-KEY-1")]
    if found:
        return [Identity(_bech32(line.lower(), "age-secret-key-")) for line in found]
    try:
        key = serialization.load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, X25519PrivateKey):
        raise BadCertificate("expected AGE-SECRET-KEY-1… or a PEM private key of X25519")
    return [Identity(key.private_bytes_raw())]


# -- the file -----------------------------------------------------------------------------


class Sealing:
    """
    A file that is being sealed.

    :param to: one passphrase, or any number of recipients.
    """

    def __init__(self, to: Sequence[Passphrase | Recipient], random: Random = os.urandom) -> None:
        if not to or (len(to) > 1 and any(isinstance(each, Passphrase) for each in to)):
            raise BadRequest("seal for one passphrase, or for keys")
        file_key, nonce = random(16), random(16)
        head = _MAGIC + b"\n" + b"".join(each.wrap(file_key, random) for each in to) + b"---"
        self._start = head + b" " + _encode(_mac(file_key, head)) + b"\n" + nonce
        self._cipher = ChaCha20Poly1305(_hkdf(file_key, nonce, b"payload"))
        self._number = 0
        self._rest = b""

    def write(self, data: bytes) -> bytes:
        """Seal some more; what is ready comes back."""
        out, self._start = self._start, b""
        self._rest += data
        # One byte more than a chunk: only then it is sure not to be the last one.
        while len(self._rest) > _CHUNK:
            chunk, self._rest = self._rest[:_CHUNK], self._rest[_CHUNK:]
            out += self._seal(chunk, last=False)
        return out

    def finish(self) -> bytes:
        """Seal the end."""
        return self._start + self._seal(self._rest, last=True)

    def _seal(self, chunk: bytes, last: bool) -> bytes:
        nonce = self._number.to_bytes(11, "big") + bytes([last])
        self._number += 1
        return self._cipher.encrypt(nonce, chunk, None)


def unseal(read: Callable[[int], bytes], keys: Iterable[Passphrase | Identity]) -> Iterator[bytes]:
    """
    Open a sealed file; what comes out has been checked, the end by the last piece.

    :param read: reads up to so many bytes of the file, as a file's ``read`` does.
    :raises CannotOpen: none of ``keys`` opens it, or it is damaged or cut short.
    """
    head, rest = _read_header(read)
    file_key = _open_header(head, keys)
    reader = _Reader(read, rest)
    nonce = reader.take(16)
    cipher = ChaCha20Poly1305(_hkdf(file_key, nonce, b"payload"))
    number, chunk = 0, reader.take(_CHUNK + _TAG)
    while True:
        following = reader.take(_CHUNK + _TAG)
        last = not following
        try:
            yield cipher.decrypt(number.to_bytes(11, "big") + bytes([last]), chunk, None)
        except InvalidTag:
            raise CannotOpen("the file is damaged or cut short") from None
        if last:
            return
        number, chunk = number + 1, following


class _Reader:
    def __init__(self, read: Callable[[int], bytes], rest: bytes) -> None:
        self._read = read
        self._rest = rest

    def take(self, size: int) -> bytes:
        while len(self._rest) < size:
            more = self._read(size - len(self._rest))
            if not more:
                break
            self._rest += more
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


def _read_header(read: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    """Read up to the line with the MAC; what was read beyond it comes too."""
    found = b""
    while b"\n--- " not in found or b"\n" not in found.partition(b"\n--- ")[2]:
        more = read(4096)
        if not more or len(found) > _HEADER_LIMIT or not (found + more).startswith(_MAGIC + b"\n"):
            raise CannotOpen("this is no sealed file")
        found += more
    end = found.index(b"\n", found.index(b"\n--- ") + 1) + 1
    return found[:end], found[end:]


def _open_header(head: bytes, keys: Iterable[Passphrase | Identity]) -> bytes:
    signed, _, mac = head.rpartition(b" ")
    stanzas = list(_stanzas(signed))
    for key in keys:
        for words, sealed in stanzas:
            file_key = key.unwrap(words, sealed)
            if file_key is None:
                continue
            if not hmac.compare_digest(_mac(file_key, signed), _decode(mac.strip())):
                raise CannotOpen("the file's header is damaged")
            return file_key
    raise CannotOpen("the file is sealed for another passphrase or key")


def _stanzas(signed: bytes) -> Iterator[tuple[list[bytes], bytes]]:
    words: list[bytes] = []
    body = b""
    for line in signed.split(b"\n")[1:]:
        if line.startswith(b"-> ") or line == b"---":
            if words:
                yield words, _decode(body)
            words, body = line[3:].split(b" "), b""
        else:
            body += line


def _mac(file_key: bytes, head: bytes) -> bytes:
    return hmac.digest(_hkdf(file_key, b"", b"header"), head, "sha256")


def _hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt, info).derive(key)


def _decrypt(key: bytes, sealed: bytes) -> bytes | None:
    try:
        return ChaCha20Poly1305(key).decrypt(_ZERO_NONCE, sealed, None)
    except InvalidTag:
        return None


def _encode(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise CannotOpen("the file's header is damaged") from None


def _body(sealed: bytes) -> bytes:
    """Break a stanza's body into lines; the last one is shorter than a full one."""
    text = _encode(sealed)
    lines = [text[at : at + _LINE] for at in range(0, len(text) + 1, _LINE)]
    return b"".join(line + b"\n" for line in lines)


def _bech32(text: str, prefix: str) -> bytes:
    found = bech32_decode(text)
    if found is None or found[0] != prefix or len(found[1]) != 32:
        raise BadCertificate("an age key is mistyped")
    return found[1]
