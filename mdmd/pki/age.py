"""
Seal files for a passphrase or for keys, in the format of age.

Whoever has the program ``age`` can open them without mdmd, but for EC keys.

Source: the age file format, https://age-encryption.org/v1
"""

import hmac
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from mdmd.errors import BadRequest
from mdmd.pki.age_stanza import (
    MAGIC,
    ZERO_NONCE,
    CannotOpen,
    Opens,
    Random,
    Seals,
    body,
    decode,
    decrypt,
    encode,
    hkdf,
)

_CHUNK = 64 * 1024
_TAG = 16
_WORK = 18  # log2 of scrypt's cost: about a second
_MOST_WORK = 22
_HEADER_LIMIT = 64 * 1024


@attrs.frozen
class Passphrase:
    """Seals and opens with a passphrase."""

    text: str = attrs.field(repr=False)

    def wrap(self, file_key: bytes, random: Random) -> bytes:
        """Write the stanza that lets the passphrase open a file."""
        salt = random(16)
        sealed = ChaCha20Poly1305(self._key(salt, _WORK)).encrypt(ZERO_NONCE, file_key, None)
        return b"-> scrypt %b %d\n%b" % (encode(salt), _WORK, body(sealed))

    def unwrap(self, words: Sequence[bytes], sealed: bytes) -> bytes | None:
        """Open a stanza, None if it is not for a passphrase or for another one."""
        if len(words) != 3 or words[0] != b"scrypt" or not words[2].isdigit():
            return None
        work = int(words[2])
        if not 1 <= work <= _MOST_WORK:
            raise CannotOpen("opening this file would take too long")
        return decrypt(self._key(decode(words[1]), work), sealed)

    def _key(self, salt: bytes, work: int) -> bytes:
        return Scrypt(MAGIC + b"/scrypt" + salt, 32, 2**work, 8, 1).derive(self.text.encode())


# -- the file -----------------------------------------------------------------------------


class Sealing:
    """
    A file that is being sealed.

    :param to: one passphrase, or any number of recipients.
    """

    def __init__(self, to: Sequence[Seals], random: Random = os.urandom) -> None:
        if not to or (len(to) > 1 and any(isinstance(each, Passphrase) for each in to)):
            raise BadRequest("seal for one passphrase, or for keys")
        file_key, nonce = random(16), random(16)
        head = MAGIC + b"\n" + b"".join(each.wrap(file_key, random) for each in to) + b"---"
        self._start = head + b" " + encode(_mac(file_key, head)) + b"\n" + nonce
        self._key = hkdf(file_key, nonce, b"payload")
        self._cipher = ChaCha20Poly1305(self._key)
        self._number = 0
        self._rest = b""

    def state(self) -> tuple[bytes, int, bytes]:
        """Say what it takes to go on after all that came out so far; it opens the file."""
        return self._key, self._number, self._rest

    @classmethod
    def going_on(cls, state: tuple[bytes, int, bytes]) -> "Sealing":
        """Go on from a state."""
        one = cls.__new__(cls)
        one._start = b""
        one._key, one._number, one._rest = state
        one._cipher = ChaCha20Poly1305(one._key)
        return one

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


def unseal(read: Callable[[int], bytes], keys: Iterable[Opens]) -> Iterator[bytes]:
    """
    Open a sealed file; what comes out has been checked, the end by the last piece.

    :param read: reads up to so many bytes of the file, as a file's ``read`` does.
    :raises CannotOpen: none of ``keys`` opens it, or it is damaged or cut short.
    """
    head, rest = _read_header(read)
    file_key = _open_header(head, keys)
    reader = _Reader(read, rest)
    nonce = reader.take(16)
    cipher = ChaCha20Poly1305(hkdf(file_key, nonce, b"payload"))
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
        if not more or len(found) > _HEADER_LIMIT or not (found + more).startswith(MAGIC + b"\n"):
            raise CannotOpen("this is no sealed file")
        found += more
    end = found.index(b"\n", found.index(b"\n--- ") + 1) + 1
    return found[:end], found[end:]


def _open_header(head: bytes, keys: Iterable[Opens]) -> bytes:
    signed, _, mac = head.rpartition(b" ")
    stanzas = list(_stanzas(signed))
    for key in keys:
        for words, sealed in stanzas:
            file_key = key.unwrap(words, sealed)
            if file_key is None:
                continue
            if not hmac.compare_digest(_mac(file_key, signed), decode(mac.strip())):
                raise CannotOpen("the file's header is damaged")
            return file_key
    raise CannotOpen("the file is sealed for another passphrase or key")


def _stanzas(signed: bytes) -> Iterator[tuple[list[bytes], bytes]]:
    words: list[bytes] = []
    text = b""
    for line in signed.split(b"\n")[1:]:
        if line.startswith(b"-> ") or line == b"---":
            if words:
                yield words, decode(text)
            words, text = line[3:].split(b" "), b""
        else:
            text += line


def _mac(file_key: bytes, head: bytes) -> bytes:
    return hmac.digest(hkdf(file_key, b"", b"header"), head, "sha256")
