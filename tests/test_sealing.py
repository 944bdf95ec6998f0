"""Secrets open with their key in their place, and nowhere else."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import StoreCorrupt
from mdmd.pki.sealing import Sealer, new_sealing_key

KEY = bytes(range(32))


class Sealing(SynchronousTestCase):
    """A seal keeps a secret, and keeps it where it belongs."""

    @given(st.binary(max_size=200), st.binary(max_size=40))
    def test_round_trip(self, secret: bytes, context: bytes) -> None:
        """What was sealed comes back."""
        sealer = Sealer(KEY)
        self.assertEqual(sealer.unseal(sealer.seal(secret, context), context), secret)

    @given(st.data())
    def test_damage(self, data: st.DataObject) -> None:
        """A blob with any bit changed, or cut short, does not open."""
        blob = bytearray(Sealer(KEY).seal(b"unlock token", b"place"))
        bit = data.draw(st.integers(0, len(blob) * 8 - 1))
        blob[bit // 8] ^= 1 << bit % 8
        cut = data.draw(st.integers(0, len(blob) - 1))
        for bad in (bytes(blob), bytes(blob[:cut])):
            self.assertRaises(StoreCorrupt, Sealer(KEY).unseal, bad, b"place")

    def test_context(self) -> None:
        """Moved to another place it does not open."""
        blob = Sealer(KEY).seal(b"token", b"{A}:unlock")
        self.assertRaises(StoreCorrupt, Sealer(KEY).unseal, blob, b"{B}:unlock")

    def test_other_key(self) -> None:
        """With another key it does not open."""
        blob = Sealer(KEY).seal(b"token", b"place")
        self.assertRaises(StoreCorrupt, Sealer(new_sealing_key()).unseal, blob, b"place")

    def test_layout(self) -> None:
        """The layout is fixed: version 1, nonce, ciphertext, tag."""
        sealer = Sealer(KEY, random=lambda size: b"\x07" * size)
        blob = sealer.seal(b"four", b"")
        self.assertEqual(blob[:13], b"\x01" + b"\x07" * 12)
        self.assertEqual(len(blob), 1 + 12 + 4 + 16)

    def test_never_the_same_twice(self) -> None:
        """The same secret sealed twice looks different."""
        sealer = Sealer(KEY)
        self.assertNotEqual(sealer.seal(b"token", b"p"), sealer.seal(b"token", b"p"))

    def test_repr(self) -> None:
        """The key does not show."""
        shown = repr(Sealer(b"k" * 32))
        self.assertNotIn("kkk", shown)
        self.assertEqual(shown, "Sealer()")

    def test_key_size(self) -> None:
        """A key of another length is refused, and not shown."""
        error = self.assertRaises(ValueError, Sealer, b"short-secret")
        self.assertNotIn("short-secret", str(error))
        self.assertEqual(len(new_sealing_key()), 32)
