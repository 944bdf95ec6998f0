"""
A device is invited: the enrollment profile, with what gives it an identity.

The identity comes by SCEP, with a challenge in the profile, or is made here and
put into the profile as PKCS#12, for networks where devices can't reach ``/scep``.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import PrivateFormat
from cryptography.hazmat.primitives.serialization import pkcs12 as p12

from mdmd.errors import NotHere
from mdmd.flow.scep import ONE_TIME, recorded
from mdmd.interfaces.certificates import Challenge, IIdentities
from mdmd.interfaces.certificates import Link as EnrollLink
from mdmd.mdm.profile import EnrollmentProfile, Pkcs12Payload, ScepPayload, enrollment_profile
from mdmd.pki import certificates, cms
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import PrivateKey

_NAME_BYTES = 8


@attrs.frozen
class Signer:
    """Who signs profiles."""

    certificate: x509.Certificate
    key: PrivateKey = attrs.field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()


@attrs.frozen
class Terms:
    """
    How identities are given out.

    :ivar pkcs12: in the profile itself, not by SCEP.
    :ivar static: the challenge of everybody's profile; "": each has a one-time one.
    :ivar days: the life of a PKCS#12 identity.
    :ivar challenge_life: seconds that a one-time challenge is good for.
    :ivar link_life: seconds that a one-time link is good for, if nothing else is said.
    :ivar url: where profiles are fetched.
    :ivar challenge: the word of the configuration, for operators.
    """

    pkcs12: bool = False
    static: str = attrs.field(default="", repr=False)
    days: int = 365
    challenge_life: float = 3600.0
    link_life: float = 7 * 86400.0
    url: str = ""
    challenge: str = "one-time"


@attrs.frozen
class Guest:
    """
    Whom a profile is for, as far as that is known.

    :ivar name: the common name of the identity, such as a serial number.
    :ivar enrollment: the enrolled device whose identity this renews.
    :ivar label: for people.
    :ivar subject: the whole subject of the identity, (type, value) each.
    """

    name: str = ""
    enrollment: str = ""
    label: str = ""
    subject: tuple[tuple[str, str], ...] = ()


class Enroll:
    """
    The story of the enrollment profile.

    :param template: the profile but for topic, challenge and identity.
    :param topic: says the topic to enroll for, "" while there is none.
    :param now: milliseconds since the epoch.
    :param random: gives as many random bytes as asked for.
    :param new_key: makes the key of a PKCS#12 identity, which takes a while.
    """

    def __init__(
        self,
        authority: CertificateAuthority,
        template: EnrollmentProfile,
        topic: Callable[[], Awaitable[str]],
        identities: IIdentities,
        terms: Terms,
        now: Callable[[], int],
        random: Callable[[int], bytes],
        new_key: Callable[[], Awaitable[PrivateKey]],
        signer: Signer | None = None,
    ) -> None:
        self._authority = authority
        self._template = template
        self._topic = topic
        self._identities = identities
        self._terms = terms
        self._now = now
        self._random = random
        self._new_key = new_key
        self._signer = signer

    @property
    def authority(self) -> x509.Certificate:
        """Give the CA's certificate."""
        return self._authority.certificate

    @property
    def identifier(self) -> str:
        """Give the profile's PayloadIdentifier: who removes it ends the management of a device."""
        return self._template.identifier

    @property
    def terms(self) -> Terms:
        """Give the terms."""
        return self._terms

    async def profile(self, guest: Guest | None = None) -> bytes:
        """
        Make an enrollment profile, signed if there is somebody to sign.

        :raises NotHere: there is no push certificate yet, so no topic.
        """
        topic = await self._topic()
        if not topic:
            raise NotHere("no push certificate is installed yet, so nobody can enroll")
        who = guest or Guest()
        values = attrs.evolve(self._template, topic=topic)
        if self._terms.pkcs12:
            values = attrs.evolve(values, scep=None, pkcs12=await self._made(who))
        else:
            values = attrs.evolve(values, scep=await self._asked_for(who))
        return self._signed(enrollment_profile(values))

    async def link(self, name: str, label: str, seconds: float) -> EnrollLink:
        """Make a one-time link."""
        expires = self._now() + int(seconds * 1000)
        link = EnrollLink(self._random(24).hex(), expires, name, label)
        await self._identities.put_link(link)
        return link

    async def by_link(self, secret: str) -> bytes:
        """
        Make the profile that a one-time link leads to, once.

        :raises NotHere: the link is not known, used or expired.
        """
        # Not to be used up in vain.
        if not await self._topic():
            raise NotHere("no push certificate is installed yet, so nobody can enroll")
        link = await self._identities.take_link(secret, self._random(16).hex())
        return await self.profile(Guest(link.name or self._any_name(), label=link.label))

    async def _asked_for(self, guest: Guest) -> ScepPayload:
        scep = self._template.scep
        assert scep is not None  # the template is ours
        if self._terms.static and guest == Guest():
            return attrs.evolve(scep, challenge=self._terms.static)
        subject: Sequence[Sequence[str]] = guest.subject
        name = dict(guest.subject).get("CN", "")
        if not subject:
            name = guest.name or self._any_name()
            subject = [*(pair for pair in scep.subject if pair[0] != "CN"), ("CN", name)]
        expires = self._now() + int(self._terms.challenge_life * 1000)
        challenge = Challenge(
            ONE_TIME + self._random(24).hex(), expires, name, guest.enrollment, guest.label
        )
        await self._identities.put_challenge(challenge)
        return attrs.evolve(scep, challenge=challenge.secret, subject=subject)

    async def _made(self, guest: Guest) -> Pkcs12Payload:
        name, password = guest.name or self._any_name(), self._random(12).hex()
        key, moment = await self._new_key(), datetime.fromtimestamp(self._now() / 1000, UTC)
        certificate = self._authority.issue_identity(
            key.public_key(), certificates.name(name), self._terms.days, moment
        )
        record = recorded(certificate, "pkcs12", enrollment=guest.enrollment)
        await self._identities.issued(
            attrs.evolve(record, label=guest.label), self._random(16).hex(), name
        )
        return Pkcs12Payload(_pkcs12(name, key, certificate, password), password)

    def _any_name(self) -> str:
        return f"mdm-{self._random(_NAME_BYTES).hex()}"

    def _signed(self, profile: bytes) -> bytes:
        if self._signer is None:
            return profile
        return cms.sign_attached(
            profile, self._signer.certificate, self._signer.key, self._signer.chain
        )


def _pkcs12(name: str, key: PrivateKey, certificate: x509.Certificate, password: str) -> bytes:
    # What every version of Apple's systems reads; nobody but the device sees the file.
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(2048)
        .key_cert_algorithm(p12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())  # noqa: S303
        .build(password.encode())
    )
    return p12.serialize_key_and_certificates(name.encode(), key, certificate, None, encryption)
