"""SCEP without a store: a responder that decides at once."""

from collections.abc import Callable

import attrs
from cryptography import x509

from mdmd.errors import BadSCEP
from mdmd.pki import scep

CheckChallenge = Callable[[str, x509.CertificateSigningRequest], None]
CheckRenewal = Callable[[x509.Certificate, x509.CertificateSigningRequest], None]


@attrs.frozen
class Deciding(scep.Responder):
    """
    A responder that asks nobody, where mdmd's own asks the store.

    :param check_challenge: is given the challenge password ("" if there is none) and the request;
        raises BadSCEP to refuse.
    :param check_renewal: is given the certificate to renew and the request; raises BadSCEP to
        refuse. The old certificate stands in for a challenge.
    """

    check_challenge: CheckChallenge = attrs.field(default=lambda _, __: None, kw_only=True)
    check_renewal: CheckRenewal = attrs.field(default=lambda _, __: None, kw_only=True)

    def answer(self, message: bytes) -> scep.ScepAnswer:
        """Answer PKIOperation; what the checks raise besides BadSCEP comes through."""
        judged = self.judge(message)
        if isinstance(judged, scep.ScepAnswer):
            return judged
        try:
            if judged.renewed is not None:
                self.check_renewal(judged.renewed, judged.csr)
            else:
                self.check_challenge(judged.challenge, judged.csr)
            return self.grant(judged, self.issue(judged))
        except BadSCEP as refusal:
            return self.refuse(judged, refusal)
