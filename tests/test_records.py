"""What operators are given of the store's values."""

import plistlib

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mdmd.interfaces.fleet import Result
from mdmd.mdm import plist
from mdmd.mdm.answers.decode import SECRETS
from mdmd.ops.records import is_secret, result


class ResultTests(SynchronousTestCase):
    def told(self, request_type: str, **answer: object) -> Result:
        raw = plist.dumps({"Status": "Acknowledged", **answer})
        return Result("C", request_type, "Acknowledged", "", 1, 1, 1, raw)

    def test_secrets(self) -> None:
        """A report with a secret in it is told apart, whichever command brought it."""
        plain = self.told("DeviceInformation", QueryResponses={"OSVersion": "18.1"})
        self.assertFalse(is_secret(plain))
        self.assertNotIn("raw", result(plain, raw=False))
        token = self.told("DeviceInformation", QueryResponses={"UnlockToken": b"t"})
        self.assertTrue(is_secret(token))
        self.assertTrue(is_secret(self.told("RequestUnlockToken", UnlockToken=b"t")))
        self.assertTrue(is_secret(self.told("SomethingNew", Anything=1)))

    def test_what_the_inventory_leaves_out_is_secret(self) -> None:
        """A viewer does not read in the report what is not shown beside it, however it came."""
        for name in SECRETS:
            told = self.told("SecurityInfo", SecurityInfo={name: b"x"})
            self.assertTrue(is_secret(told), name)
            binary = plistlib.dumps({"SecurityInfo": {name: b"x"}}, fmt=plistlib.FMT_BINARY)
            self.assertTrue(is_secret(attrs.evolve(told, raw=binary)), name)
        self.assertFalse(is_secret(self.told("SecurityInfo", SecurityInfo={"FDE_Enabled": True})))
