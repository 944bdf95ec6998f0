"""The device CA: what it is, which certificates it issued, and their end."""

from typing import TypeVar

import attrs
from cryptography.hazmat.primitives.asymmetric import rsa

from mdmd.errors import BadMessage, BadRequest, NotHere
from mdmd.flow.enroll import Enroll, Guest
from mdmd.interfaces.certificates import IIdentities, IssuedCertificate
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.ops.method import Caller, Subject, Wire, method
from mdmd.ops.operators import Role
from mdmd.ops.subjects.enrollments import find, page_size
from mdmd.ops.wire import PAGE
from mdmd.pki.certificates import fingerprint, public_key

Part = TypeVar("Part")

_LONGEST_LINK = 366.0  # days
_HEX = frozenset("0123456789abcdef:")


class Ca(Subject):
    """The CA that signs the devices' identities."""

    name = "ca"

    def _identities(self) -> IIdentities:
        return _there(self.desk.identities)

    @method(Role.VIEWER)
    async def show(self, caller: Caller) -> Wire:
        """Say what the CA is: subject, kind of key, serial, fingerprint, not_after, challenge."""
        enroll = _there(self.desk.enroll)
        own = enroll.authority
        key = public_key(own)
        return {
            "subject": own.subject.rfc4514_string(),
            "key": f"RSA {key.key_size}" if isinstance(key, rsa.RSAPublicKey) else key.curve.name,
            "serial": f"{own.serial_number:x}",
            "fingerprint": fingerprint(own),
            "not_before": int(own.not_valid_before_utc.timestamp()),
            "not_after": int(own.not_valid_after_utc.timestamp()),
            "challenge": enroll.terms.challenge,
            "identity": "pkcs12" if enroll.terms.pkcs12 else "scep",
        }

    @method(Role.VIEWER)
    async def issued(self, caller: Caller, after: str = "", limit: int = PAGE) -> Wire:
        """List certificates by their end, the soonest first; ``after`` a fingerprint."""
        return [_record(each) for each in await self._identities().page(after, page_size(limit))]

    @method(Role.VIEWER)
    async def get(self, caller: Caller, certificate: str) -> Wire:
        """Read one certificate's record by serial number, fingerprint or enrollment id."""
        return _record(await self._find(certificate))

    @method(Role.ADMIN, audit=("certificate", "reason"))
    async def revoke(self, caller: Caller, certificate: str, reason: str = "") -> Wire:
        """
        Revoke a certificate, by serial number, fingerprint or enrollment id.

        From now on no daemon of the store lets anybody in with it, nor with one that
        the device has renewed it to and not shown yet. One that is not recorded can be
        revoked by its fingerprint. False: it was already.
        """
        if len(reason) > 200:
            raise BadRequest("a reason has at most 200 characters")
        try:
            mark = (await self._find(certificate)).fingerprint
        except NotHere:
            mark = certificate.lower().replace(":", "")
            if len(mark) != 64 or not set(mark) <= _HEX:
                raise
        return await self._identities().revoke(mark, reason)

    @method(Role.OPERATOR, audit=("id",))
    async def renew(self, caller: Caller, id: str) -> Wire:
        """Let a device renew its identity now; the answer is the command's UUID."""
        return await _there(self.desk.renew).begin(await find(self.desk, id, caller))

    async def _find(self, text: str) -> IssuedCertificate:
        if text and set(text.lower()) <= _HEX:
            return await self._identities().find(text)
        try:
            record = await self.desk.fleet.enrollment(EnrollmentID.parse(text))
        except BadMessage:
            record = None
        if record is None or not record.pin:
            raise NotHere("neither a certificate nor an enrollment with one is known by this")
        return await self._identities().find(record.pin.lstrip("!"))


class EnrollSubject(Subject):
    """The enrollment profile, and who may have it."""

    name = "enroll"

    def _enroll(self) -> Enroll:
        return _there(self.desk.enroll)

    @method(Role.ADMIN, audit=("name",))
    async def profile(self, caller: Caller, name: str = "") -> Wire:
        """
        Make an enrollment profile, as it is served; there is a challenge or a key in it.

        :param name: the common name of the identity; then its challenge is good once.
        """
        guest = Guest(_name(name), label=f"profile by {caller.name}") if name else None
        return await self._enroll().profile(guest)

    @method(Role.OPERATOR, audit=("name", "label", "days"))
    async def link(
        self, caller: Caller, name: str = "", label: str = "", days: float | None = None
    ) -> Wire:
        """Make a link that gives the enrollment profile once; it has the secret in it."""
        life = self._enroll().terms.link_life if days is None else days * 86400
        if not 0 < life <= _LONGEST_LINK * 86400:
            raise BadRequest("a link is good for up to 366 days")
        link = await self._enroll().link(_name(name), label[:100], life)
        return {"url": f"{self._enroll().terms.url}?link={link.secret}", "expires": link.expires}


def _name(text: str) -> str:
    if len(text) > 64 or not text.isprintable():
        raise BadRequest("a common name has at most 64 printable characters")
    return text.strip()


def _record(certificate: IssuedCertificate) -> Wire:
    return attrs.asdict(certificate)


def _there(part: Part | None) -> Part:
    if part is None:
        raise NotHere("this daemon has no device CA")
    return part
