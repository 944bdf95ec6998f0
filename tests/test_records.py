"""What operators are given of the store's values."""

from twisted.trial.unittest import SynchronousTestCase

from mdmd.interfaces.fleet import Result
from mdmd.mdm import plist
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
