"""A device asks for its identity by SCEP: the request is judged, recorded, and granted."""

import hmac
from collections.abc import Callable
from typing import Protocol

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from mdmd.errors import BadCertificate, BadSCEP
from mdmd.interfaces.certificates import IIdentities, IssuedCertificate
from mdmd.pki import certificates
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.scep import Judged, Responder, ScepAnswer

# How a one-time challenge begins, so that it is never taken for another kind.
ONE_TIME = "once-"

_REGISTRATION_DAYS = 3650


class ISharesRegistration(Protocol):
    """Where the daemons of one store keep their registration authority."""

    async def registration(self, authority: str) -> bytes | None:
        """Read it, PEM; None if there is none."""

    async def put_registration(self, authority: str, pem: bytes) -> bytes:
        """Store one unless there is one; return the one that counts."""


@attrs.frozen
class Challenges:
    """
    Which challenges are good, besides one-time ones, which always are.

    :ivar static: good for everybody; "" for none such.
    :ivar needless: a request without a good challenge is served too.
    """

    static: str = attrs.field(default="", repr=False)
    needless: bool = False

    def judge(self, given: str) -> tuple[str, str]:
        """
        Say which kind a challenge is, and for a one-time one its secret.

        :raises BadSCEP: it is of no kind that is good here.
        """
        if given.startswith(ONE_TIME):
            return "one-time", given
        if self.static and hmac.compare_digest(given.encode(), self.static.encode()):
            return "static", ""
        if self.needless:
            return "none", ""
        raise BadSCEP("there is no challenge" if not given else "the challenge is not known")


class Scep:
    """
    The story of ``/scep`` and ``/ca``.

    :param random: gives as many random bytes as asked for.
    """

    def __init__(
        self,
        responder: Responder,
        identities: IIdentities,
        challenges: Challenges,
        random: Callable[[int], bytes],
    ) -> None:
        self._responder = responder
        self._identities = identities
        self._challenges = challenges
        self._random = random

    def capabilities(self) -> bytes:
        """Say what SCEP clients may use, one word a line."""
        return self._responder.capabilities()

    def ca_certificate(self) -> tuple[bytes, str]:
        """Give the CA's certificate (or certificates) and the content type."""
        return self._responder.ca_certificate()

    def authority(self) -> bytes:
        """Give the CA's certificate, DER."""
        return self._responder.authority.certificate.public_bytes(Encoding.DER)

    async def answer(self, message: bytes) -> ScepAnswer:
        """
        Answer a PKIOperation; a refusal is a CertRep too.

        :raises StoreUnavailable: nothing was given away; whether the challenge is
            used up is open.
        """
        judged = self._responder.judge(message)
        if isinstance(judged, ScepAnswer):
            return judged
        try:
            certificate = self._responder.issue(judged)
            await self._record(judged, certificate)
        except BadSCEP as refusal:
            return self._responder.refuse(judged, refusal)
        return self._responder.grant(judged, certificate)

    async def _record(self, judged: Judged, certificate: x509.Certificate) -> None:
        via, secret, renews = "renewal", "", ""
        if judged.renewed is None:
            via, secret = self._challenges.judge(judged.challenge)
        else:
            renews = certificates.fingerprint(judged.renewed)
        record = recorded(certificate, via, renews=renews)
        request = self._random(16).hex()
        await self._identities.issued(record, request, judged.common_name, secret)


def recorded(
    certificate: x509.Certificate, via: str, *, renews: str = "", enrollment: str = ""
) -> IssuedCertificate:
    """Make the record of a certificate just signed."""
    return IssuedCertificate(
        fingerprint=certificates.fingerprint(certificate),
        serial=f"{certificate.serial_number:x}",
        subject=certificate.subject.rfc4514_string(),
        not_before=int(certificate.not_valid_before_utc.timestamp()),
        not_after=int(certificate.not_valid_after_utc.timestamp()),
        via=via,
        renews=renews,
        enrollment=enrollment,
    )


async def shared_registration(
    store: ISharesRegistration, authority: CertificateAuthority
) -> tuple[x509.Certificate, rsa.RSAPrivateKey] | None:
    """
    Give the registration authority that all daemons of a store answer with.

    None for an RSA CA, which needs none.
    """
    if isinstance(authority.key, rsa.RSAPrivateKey):
        return None
    name = certificates.fingerprint(authority.certificate)
    pem = await store.registration(name)
    if pem is None:
        certificate, key = authority.issue_registration(_REGISTRATION_DAYS)
        made = certificates.certificate_pem(certificate) + certificates.key_pem(key)
        pem = await store.put_registration(name, made)
    private = certificates.load_key(pem)
    if not isinstance(private, rsa.RSAPrivateKey):
        raise BadCertificate("the stored registration authority has no RSA key")
    return certificates.load_certificate(pem), private
