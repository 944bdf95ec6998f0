"""What the profile makes devices trust, and which mistakes in the files are said at the start."""

from twisted.trial.unittest import SynchronousTestCase

from mdmd.assembly.enrolling import EnrollFiles, trust_needed
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
