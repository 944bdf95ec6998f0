"""
What the ways to seal a file's key have in common: a stanza of age's header.

Source: the age file format, https://age-encryption.org/v1
"""

import base64
from collections.abc import Callable, Sequence
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mdmd.errors import BadRequest

MAGIC = b"age-encryption.org/v1"
ZERO_NONCE = bytes(12)
_LINE = 64  # characters of a stanza's line

Random = Callable[[int], bytes]


class CannotOpen(BadRequest):
    """The file is not sealed for this passphrase or key, is damaged, or is cut short."""


class Seals(Protocol):
    """Whom a file is sealed for."""

    def wrap(self, file_key: bytes, random: Random) -> bytes:
        """Write the stanza that lets them open a file."""


class Opens(Protocol):
    """Who opens a file."""

    def unwrap(self, words: Sequence[bytes], sealed: bytes) -> bytes | None:
        """
        Open a stanza, None if it is not for them.

        :raises CannotOpen: it is damaged.
        """


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    """Derive 32 bytes, with SHA-256."""
    return HKDF(hashes.SHA256(), 32, salt, info).derive(key)


def decrypt(key: bytes, sealed: bytes) -> bytes | None:
    """Open a file's key, None if it is sealed with another."""
    try:
        return ChaCha20Poly1305(key).decrypt(ZERO_NONCE, sealed, None)
    except InvalidTag:
        return None


def encode(data: bytes) -> bytes:
    """Write base64 as age does: without padding."""
    return base64.b64encode(data).rstrip(b"=")


def decode(text: bytes) -> bytes:
    """
    Undo :func:`encode`.

    :raises CannotOpen: it is none.
    """
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise CannotOpen("the file's header is damaged") from None


def body(sealed: bytes) -> bytes:
    """Break a stanza's body into lines; the last one is shorter than a full one."""
    text = encode(sealed)
    lines = [text[at : at + _LINE] for at in range(0, len(text) + 1, _LINE)]
    return b"".join(line + b"\n" for line in lines)
