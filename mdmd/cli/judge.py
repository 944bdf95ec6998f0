"""
Check a profile whole: its signature, the certificates inside, and the rest.

The property list is :mod:`mdmd.mdm.profile_check`'s; this is what needs cryptography.
"""

from collections.abc import Collection
from datetime import UTC, datetime

import attrs
from cryptography import x509

from mdmd.errors import BadCertificate, BadSignature
from mdmd.mdm.profile_check import Finding, check_profile
from mdmd.pki import certificates, cms, signed_data

_LARGEST = 64 << 20  # bytes
_DER_SEQUENCE = b"\x30"


def judge(blob: bytes, now: datetime, topics: Collection[str]) -> tuple[str, list[Finding]]:
    """
    Check a profile, signed or not; return who signed it ("" if nobody did) and what is wrong.

    :param topics: of the push certificates; empty if they are not known.
    """
    profile, signer = blob, ""
    found: list[Finding] = []
    if blob[:1] == _DER_SEQUENCE:
        profile, signer, found = _unsign(blob, now)
    naive = now.astimezone(UTC).replace(tzinfo=None)
    return signer, found + check_profile(profile, _Certificates(now), naive, topics)


def content_of(blob: bytes) -> bytes:
    """Give what a CMS message is a signature of, whoever signed it; b"" if it is none."""
    try:
        return signed_data.read(blob, _LARGEST).content or b""
    except BadSignature:
        return b""


def _unsign(blob: bytes, now: datetime) -> tuple[bytes, str, list[Finding]]:
    """Take a profile out of its signature, even of a broken one."""
    try:
        signed = signed_data.read(blob, _LARGEST)
    except BadSignature as error:
        return b"", "", [Finding("", "signature", f"can't be read: {error}")]
    try:
        signer = cms.check(signed, signed.content or b"", legacy=True)
    except BadSignature as error:
        return signed.content or b"", "", [Finding("", "signature", f"is broken: {error}")]
    found = []
    if not certificates.in_validity(signer, now):
        text = f"was signed with a certificate that is not valid now: {_validity(signer)}"
        found.append(Finding("", "signature-expired", text, True))
    digest = cms.digest_of(signed)
    if digest is not None and digest.legacy:
        found.append(Finding("", "signature-weak", f"is signed over {digest.name}", True))
    return signed.content or b"", _name(signer), found


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()


def _validity(certificate: x509.Certificate) -> str:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return f"{start:%Y-%m-%d} to {end:%Y-%m-%d}"


@attrs.frozen
class _Certificates:
    """What a profile check asks of certificates."""

    now: datetime

    def certificate(self, data: bytes) -> str:
        """Say what is wrong with a certificate, DER or PEM."""
        try:
            found = certificates.load_certificate(data)
        except BadCertificate as error:
            return f"is {error}"
        return self._dates(found)

    def pkcs12(self, data: bytes, password: str | None) -> str:
        """Say what is wrong with a PKCS#12 file; without a password only its form is looked at."""
        if password is None:
            return "" if data[:1] == _DER_SEQUENCE else "is not a PKCS#12 file"
        try:
            _, found, _ = certificates.load_pkcs12(data, password.encode())
        except BadCertificate as error:
            return f"is no usable identity: {error}"
        return self._dates(found)

    def _dates(self, found: x509.Certificate) -> str:
        if certificates.in_validity(found, self.now):
            return ""
        return f"is a certificate that is not valid now: {_name(found)}, {_validity(found)}"
