"""A device is invited: the enrollment profile, and the certificate it enrolls with."""

import hmac
from collections.abc import Awaitable, Callable

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mdmd.errors import BadSCEP, NotHere
from mdmd.mdm.profile import EnrollmentProfile, enrollment_profile
from mdmd.pki.scep import Responder, ScepAnswer

ChallengeCheck = Callable[[str, x509.CertificateSigningRequest], None]


def static_challenge(challenge: str) -> ChallengeCheck:
    """
    Make the check of one challenge for everybody.

    An empty one would let anybody in, so it matches nothing.
    """

    def check(given: str, _: x509.CertificateSigningRequest) -> None:
        same = hmac.compare_digest(given.encode(), challenge.encode())
        if not challenge or not same:
            raise BadSCEP("the challenge is not the one expected", "badRequest")

    return check


class Enroll:
    """
    The story of ``/enroll``, ``/scep`` and ``/ca``.

    :param template: the profile but for its topic.
    :param topic: says the topic to enroll for, "" while there is none.
    :param authority: the certificate of the CA that identities come from.
    :param issued: is told of each SCEP answer, for the log.
    """

    def __init__(
        self,
        responder: Responder,
        authority: x509.Certificate,
        template: EnrollmentProfile,
        topic: Callable[[], Awaitable[str]],
        issued: Callable[[ScepAnswer], None],
    ) -> None:
        self._responder = responder
        self._authority = authority
        self._template = template
        self._topic = topic
        self._issued = issued

    async def profile(self) -> bytes:
        """
        Make the enrollment profile.

        :raises NotHere: there is no push certificate yet, so no topic.
        """
        topic = await self._topic()
        if not topic:
            raise NotHere("no push certificate is installed yet, so nobody can enroll")
        return enrollment_profile(attrs.evolve(self._template, topic=topic))

    def scep_capabilities(self) -> bytes:
        """Say what SCEP clients may use, one word a line."""
        return self._responder.capabilities()

    def scep_ca_certificate(self) -> tuple[bytes, str]:
        """Give the CA's certificate (or certificates) and the content type."""
        return self._responder.ca_certificate()

    async def scep(self, message: bytes) -> bytes:
        """Answer a PKIOperation; a refusal is a CertRep too."""
        answer = self._responder.answer(message)
        self._issued(answer)
        return answer.body

    def ca_certificate(self) -> bytes:
        """Give the CA's certificate, DER."""
        return self._authority.public_bytes(Encoding.DER)
