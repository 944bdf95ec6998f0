"""
Seal secrets before they reach the store.

A blob is one version byte (1), a nonce of 12 bytes, then AES-256-GCM ciphertext
with its 16 byte tag. Version byte and context are authenticated with it: a blob
moved to another place in the store does not open there.
"""

import base64
import binascii
import os
import textwrap
from collections.abc import Callable

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mdmd.errors import StoreCorrupt

KEY_SIZE = 32
CA_KEY = b"key of the device CA"  # the context of a sealed file
_VERSION = b"\x01"
_NONCE_SIZE = 12
_TAG_SIZE = 16


_BEGIN, _END = b"-----BEGIN MDMD SEALED DATA-----", b"-----END MDMD SEALED DATA-----"


def new_sealing_key(random: Callable[[int], bytes] = os.urandom) -> bytes:
    """Make a sealing key, 32 bytes."""
    return random(KEY_SIZE)


def _is_key(_: object, __: object, value: bytes) -> None:
    if len(value) != KEY_SIZE:
        raise ValueError(f"a sealing key has {KEY_SIZE} bytes, not {len(value)}")


@attrs.frozen
class Sealer:
    """
    Seal and unseal with one key.

    :param key: 32 bytes. Nonces are random: one key is good for some 2**32
        seals, far beyond what a fleet writes.
    :raises ValueError: the key has another length.
    """

    key: bytes = attrs.field(repr=False, eq=False, validator=_is_key)
    _random: Callable[[int], bytes] = attrs.field(
        default=os.urandom, repr=False, eq=False, kw_only=True
    )
    _cipher: AESGCM = attrs.field(init=False, repr=False, eq=False)

    @_cipher.default
    def _make_cipher(self) -> AESGCM:
        return AESGCM(self.key)

    def seal(self, plaintext: bytes, context: bytes) -> bytes:
        """Seal ``plaintext`` for the place that ``context`` names; 29 bytes longer."""
        nonce = self._random(_NONCE_SIZE)
        return _VERSION + nonce + self._cipher.encrypt(nonce, plaintext, _VERSION + context)

    def unseal(self, blob: bytes, context: bytes) -> bytes:
        """
        Open a blob that was sealed with this key for this context.

        :raises StoreCorrupt: another key, another context, or damaged.
        """
        if blob[:1] != _VERSION or len(blob) < 1 + _NONCE_SIZE + _TAG_SIZE:
            raise StoreCorrupt("a sealed value is cut short or of an unknown version")
        nonce, ciphertext = blob[1 : 1 + _NONCE_SIZE], blob[1 + _NONCE_SIZE :]
        try:
            return self._cipher.decrypt(nonce, ciphertext, _VERSION + context)
        except InvalidTag as error:
            raise StoreCorrupt("a sealed value does not open: wrong key or damaged") from error

    def seal_file(self, content: bytes, context: bytes) -> bytes:
        """Seal a file's content, as a text that looks like PEM."""
        text = base64.b64encode(self.seal(content, context)).decode()
        lines = textwrap.wrap(text, 64)
        return b"\n".join((_BEGIN, *(line.encode() for line in lines), _END, b""))

    def unseal_file(self, content: bytes, context: bytes) -> bytes:
        """
        Undo :meth:`seal_file`; what was never sealed comes back as it is.

        :raises StoreCorrupt: another key, another context, or damaged.
        """
        stripped = content.strip()
        if not stripped.startswith(_BEGIN):
            return content
        try:
            blob = base64.b64decode(stripped.removeprefix(_BEGIN).removesuffix(_END))
        except binascii.Error as error:
            raise StoreCorrupt("a sealed file is damaged") from error
        return self.unseal(blob, context)
