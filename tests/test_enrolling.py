"""What the profile makes devices trust, and which mistakes in the files are said at the start."""

import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mdmd.assembly.enrolling import EnrollFiles, trust_needed
from mdmd.assembly.parts import Parts
from mdmd.cli.init import make_state
from mdmd.config import parse
from mdmd.errors import ConfigError
from mdmd.pki import certificates
from mdmd.pki.authority import CertificateAuthority

OWN = CertificateAuthority.create("Own", kind="ec")
FORMER = CertificateAuthority.create("Former", kind="ec")
COMPANY = CertificateAuthority.create("Company root", kind="ec")


class TrustTests(SynchronousTestCase):
    """A device gets just what it lacks to trust the site."""

    def test_own(self) -> None:
        """A site of the device CA, or of the CA before it, brings that CA along."""
        for issuer in (OWN, FORMER):
            site, _ = issuer.issue_server(["mdm.example.org"], 30)
            files = EnrollFiles(trusted=(FORMER.certificate,), site_chain=(site,))
            self.assertEqual(trust_needed(OWN.certificate, files), ([issuer.certificate], []))

    def test_company(self) -> None:
        """A chain up to a self-signed root brings root and intermediates."""
        site, _ = COMPANY.issue_server(["mdm.example.org"], 30)
        files = EnrollFiles(site_chain=(site, COMPANY.certificate))
        self.assertEqual(trust_needed(OWN.certificate, files), ([COMPANY.certificate], []))
        middle, _ = COMPANY.issue_registration(30)
        files = EnrollFiles(site_chain=(site, middle, COMPANY.certificate))
        self.assertEqual(trust_needed(OWN.certificate, files), ([COMPANY.certificate], [middle]))

    def test_self_signed(self) -> None:
        """A self-signed site certificate is its own root."""
        files = EnrollFiles(site_chain=(COMPANY.certificate,))
        self.assertEqual(trust_needed(OWN.certificate, files), ([COMPANY.certificate], []))

    def test_public(self) -> None:
        """A public chain comes without its root, and needs nothing."""
        site, _ = COMPANY.issue_server(["mdm.example.org"], 30)
        middle, _ = COMPANY.issue_registration(30)
        files = EnrollFiles(site_chain=(site, middle))
        self.assertEqual(trust_needed(OWN.certificate, files), ([], []))

    def test_configured(self) -> None:
        """What is configured besides is always there."""
        middle, _ = COMPANY.issue_registration(30)
        files = EnrollFiles(for_profile=(COMPANY.certificate, middle))
        self.assertEqual(trust_needed(OWN.certificate, files), ([COMPANY.certificate], [middle]))
        self.assertTrue(certificates.is_issued_by(middle, COMPANY.certificate))


class FilesTests(SynchronousTestCase):
    """Each file that can't be used is a line of its own before anything starts."""

    def setUp(self) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="enrolling"))
        self.addCleanup(shutil.rmtree, self.state)
        make_state(self.state, "mdm.example.org", ca_key="ec")
        (self.state / "empty").write_text("")
        (self.state / "other.key").write_bytes(certificates.key_pem(certificates.new_key()))

    def mistakes(self, text: str) -> str:
        conf = (self.state / "mdmd.conf").read_text() + text
        config = parse(conf, "mdmd.conf")
        try:
            Parts.read(config, "mdmd.conf")
        except ConfigError as error:
            return str(error)
        return ""

    def test_good(self) -> None:
        """What init makes has no mistakes, the sealed CA key included."""
        self.assertEqual(self.mistakes(""), "")

    def test_mistakes(self) -> None:
        """Each with its place."""
        ca = self.state / "ca" / "ca.pem"
        for text, place in (
            ("[enroll]\naccess = basic\n", "[enroll] password_file"),
            (f"[enroll]\naccess = basic\npassword_file = {self.state}/empty\n", "password_file"),
            (f"[enroll]\nsigning_certificate = {ca}\n", "[enroll] signing_certificate"),
            (
                f"[enroll]\nsigning_certificate = {ca}\nsigning_key = {self.state}/other.key\n",
                "[enroll] signing_certificate",
            ),
            (f"[enroll]\napple_roots = {self.state}/empty\n", "[enroll] apple_roots"),
            (f"[enroll]\ntrust = {self.state}/nothing\n", "[enroll] trust"),
            (f"[ca]\ntrust = {self.state}/other.key\n", "[ca] trust"),
        ):
            said = self.mistakes(text)
            self.assertIn(place, said, text)
            self.assertEqual(said.count("\n"), 0, said)

    def test_other_sealing_key(self) -> None:
        """A CA key that was sealed with another key is a mistake of [ca]."""
        (self.state / "sealing.key").write_bytes(b"x" * 32)
        self.assertIn("[ca]", self.mistakes(""))
