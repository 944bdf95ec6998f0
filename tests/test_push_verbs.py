"""``mdmctl push --wait`` and ``mdmctl push-status``, as a person types them."""

from tests.opshelp import MAC, PHONE
from tests.test_mdmctl import CommandLine


class PushVerbs(CommandLine):
    """Against a served desk: the Mac connects when it is pushed, the phone does not."""

    def test_wait(self) -> None:
        """Each device that connects is told with its time; the status says whether all did."""
        self.assertIn(f"{MAC}  connected after", self.mdmctl("push", MAC, "--wait").stdout)
        done = self.mdmctl("push", MAC, PHONE, "--wait", "--timeout", "0.5", status=5)
        self.assertIn(f"{MAC}  connected after", done.stdout)
        self.assertIn(f"{PHONE}  pushed, but it did not connect", done.stderr)
        self.assertIn(MAC, self.data("push", MAC, "--wait")["connected_after"])

    def test_push_status(self) -> None:
        """Connections, streams in flight, queue and last error of each topic."""
        said = self.mdmctl("push-status").stdout
        for each in (
            "12 enrollments have work, 3 are due",
            "com.apple.mgmt.t  1 + 1 ending  5          7      100        2",
            "TooManyRequests, ",
            "nothing is sent: BadCertificate",
        ):
            self.assertIn(each, said)
        (line,) = self.data("push-status")["topics"]
        self.assertEqual((line["connections"], line["in_flight"], line["waiting"]), (1, 5, 7))
