"""What devices send is compressed on its way to the store, and comes back as it was."""

import os
import zlib

from twisted.trial.unittest import TestCase

from mdmd.pki.sealing import Sealer
from mdmd.store.payload import Payloads

PLACE = b"message of a test"
SEALING = 64  # bytes, at most, that sealing adds


class PayloadTests(TestCase):
    """Messages of all sizes."""

    def setUp(self) -> None:
        """With a key of its own."""
        self.payloads = Payloads(Sealer(os.urandom(32)))

    def test_comes_back(self) -> None:
        """Around each size where something else is done with it, and whatever is in it."""
        for size in (1, 511, 512, 1000, 16_383, 16_384, 16_385, 100_000):
            for raw in (b"<key>Name</key>" * (size // 15 + 1), os.urandom(size)):
                message = raw[:size]
                sealed = self.payloads.seal(message, PLACE)
                self.assertEqual(self.payloads.unseal(sealed, PLACE), message, size)

    def test_as_small(self) -> None:
        """The compressor that is quick with short messages leaves no more than the usual one."""
        for size in (600, 4000, 16_000, 16_384, 50_000):
            lines = (f"<string>App {n * 7919 % 1000}</string>" for n in range(size))
            message = "".join(lines).encode()[:size]
            sealed = self.payloads.seal(message, PLACE)
            usual = len(zlib.compress(message, 1))
            self.assertLess(len(sealed), usual * 1.05 + SEALING, size)
