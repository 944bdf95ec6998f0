"""
A device enrolls by itself: it shows a MachineInfo signed with its factory identity.

Nothing of it counts unless the signature, the digest and the signer's chain up to
one of Apple's roots hold.
"""

from collections.abc import Awaitable, Callable, Sequence

import attrs
from cryptography import x509

from mdmd.errors import BadCertificate, BadMessage, BadSignature, NotHere
from mdmd.flow.enroll import Guest
from mdmd.mdm.machine_info import MachineInfo, read_machine_info, update_demanded
from mdmd.pki import certificates, cms, signed_data

Minimums = Sequence[tuple[str, tuple[int, ...]]]
Makes = Callable[[Guest], Awaitable[bytes]]
Tells = Callable[[str, dict[str, str]], Awaitable[None]]


@attrs.frozen
class Invited:
    """What becomes of a device: a profile, or the version it has to update to first."""

    info: MachineInfo
    profile: bytes = attrs.field(default=b"", repr=False)
    update_to: str = ""


class Automated:
    """
    The story of ``POST /enroll``.

    :param roots: Apple's; without any nobody enrolls like this.
    :param minimums: system and version, such as ``("iOS", (17, 5))``.
    :param profile: makes an enrollment profile.
    :param tell: writes an event: its topic and facts.
    """

    def __init__(
        self,
        roots: Sequence[x509.Certificate],
        minimums: Minimums,
        profile: Makes,
        tell: Tells,
    ) -> None:
        self._roots = tuple(roots)
        self._minimums = minimums
        self._profile = profile
        self._tell = tell

    async def invite(self, body: bytes) -> Invited:
        """
        Take a signed MachineInfo, return the profile for that very device.

        :raises BadMessage: it is not one.
        :raises BadSignature: its signature or its chain does not hold.
        :raises NotHere: no roots are configured, or there is no push certificate.
        """
        info = self._verified(body)
        update_to = update_demanded(info, self._minimums)
        facts = {
            "udid": info.udid,
            "serial": info.serial,
            "product": info.product,
            "os_version": info.os_version,
            "build": info.build,
            "update_to": update_to,
        }
        profile = b""
        if not update_to:
            profile = await self._profile(Guest(info.udid or info.serial, label=info.serial))
        await self._tell("mdmd.MachineInfo", facts)
        return Invited(info, profile, update_to)

    def _verified(self, body: bytes) -> MachineInfo:
        if not self._roots:
            raise NotHere("automated enrollment is not set up here")
        signed = signed_data.read(body)
        if signed.content is None:
            raise BadSignature("the MachineInfo is not in the message")
        # Old devices sign over SHA-1; what they could gain by a collision is their own profile.
        signer = cms.check(signed, signed.content, legacy=True)
        try:
            bag = [certificates.load_certificate(each) for each in signed.certificates]
            holds = certificates.chains_to(signer, bag, self._roots)
        except BadCertificate as error:
            raise BadSignature(str(error)) from error
        if not holds:
            raise BadSignature("the signer is no device of Apple's")
        info = read_machine_info(signed.content)
        if not (info.udid or info.serial):
            raise BadMessage("the MachineInfo names no device")
        return info
