"""What devices and operators send, compressed and sealed before it reaches the store."""

import hmac
import zlib

from mdmd.errors import StoreCorrupt
from mdmd.pki.sealing import Sealer

_SEALED = b"\x01"  # a sealed blob's first byte; a plist never begins with it
_PLAIN, _DEFLATED = b"p", b"z"
_SMALL = 512  # bytes; below, compressing costs more than it saves
_WINDOW = 14  # bits: 16 kB, which most messages fit into
_MEMORY = 6


class Payloads:
    """Seal whole messages, and tell two of them apart without opening them."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        # A PIN has few digits: a plain hash of the command would give it away.
        self._digest_key = hmac.digest(sealer.key, b"mdmd digest of a message", "sha256")

    def seal(self, raw: bytes, place: bytes, small: int = _SMALL) -> bytes:
        """Compress (from ``small`` bytes on) and seal for ``place``; nothing stays nothing."""
        if not raw:
            return b""
        plain = _PLAIN + raw if len(raw) < small else _DEFLATED + _deflated(raw)
        return self._sealer.seal(plain, place)

    def unseal(self, blob: bytes, place: bytes) -> bytes:
        """
        Undo :meth:`seal`; a message stored in clear comes back as it is.

        :raises StoreCorrupt: another key, another place, or damaged.
        """
        if blob[:1] != _SEALED:
            return blob
        plain = self._sealer.unseal(blob, place)
        if plain[:1] == _PLAIN:
            return plain[1:]
        try:
            return zlib.decompress(plain[1:])
        except zlib.error as error:
            raise StoreCorrupt("a stored message can't be decompressed") from error

    def digest(self, raw: bytes) -> str:
        """Make 16 hex digits that are the same for the same message, and only for it."""
        return hmac.digest(self._digest_key, raw, "sha256").hex()[:16]


def _deflated(raw: bytes) -> bytes:
    """
    Compress a message, fast.

    The usual state takes 268 kB, and clearing that costs a message of 1 kB five times what
    the rest does; a third of it does as well for all that it covers. Source: zconf.h.
    """
    if len(raw) > 1 << _WINDOW:
        return zlib.compress(raw, 1)
    machine = zlib.compressobj(1, zlib.DEFLATED, _WINDOW, _MEMORY)
    return machine.compress(raw) + machine.flush()
