"""Check-ins, as bytes: what is refused before anything is stored."""

import plistlib

from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import BadMessage
from mdmd.mdm.checkin import TokenUpdate, decode_checkin


class TokenUpdateTests(SynchronousTestCase):
    """Where to push to has to be a place that can be pushed to."""

    def decoded(self, **keys: object) -> object:
        message = {
            "MessageType": "TokenUpdate",
            "UDID": "U",
            "Topic": "com.apple.mgmt.External.t",
            "Token": b"t" * 32,
            "PushMagic": "m",
            **keys,
        }
        return decode_checkin(plistlib.dumps(message))

    def test_usual(self) -> None:
        """Apple's tokens have 32 bytes and may get longer."""
        for size in (32, 100, 1024):
            update = self.decoded(Token=b"t" * size)
            assert isinstance(update, TokenUpdate)
            self.assertEqual(len(update.token), size)

    def test_oversized(self) -> None:
        """What no push could carry is refused with a word, not stored."""
        for keys in (
            {"Token": b"t" * 1025},
            {"Token": b"t" * 100_000},
            {"PushMagic": "m" * 1025},
            {"Topic": "t" * 256},
        ):
            with self.assertRaisesRegex(BadMessage, f"{next(iter(keys))} is too long"):
                self.decoded(**keys)

    def test_topic(self) -> None:
        """A topic goes into a header of the push."""
        for topic in ("com.apple.mgmt\n", "com.apple.mgmt.ü", " x"):
            with self.assertRaisesRegex(BadMessage, "Topic is not a usable string"):
                self.decoded(Topic=topic)
