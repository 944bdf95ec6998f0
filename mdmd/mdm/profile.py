"""
The enrollment profile: what a device installs to become managed.

Payloads keep their identifiers and UUIDs from one profile to the next, so that
a newer profile replaces an older one in place.

Source: Apple, payloads com.apple.mdm, com.apple.security.scep, .pkcs12, .root
and .pkcs1, and the keys common to all payloads.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar
from uuid import NAMESPACE_OID, uuid5

import attrs

from mdmd.errors import BadMessage, BadRequest
from mdmd.mdm import plist

Payload = Mapping[str, object]
Value = TypeVar("Value")

_MDM = "com.apple.mdm"
_SCEP = "com.apple.security.scep"
_PKCS12 = "com.apple.security.pkcs12"
_ROOT = "com.apple.security.root"
_INTERMEDIATE = "com.apple.security.pkcs1"

_NO_WORDS: list[object] = []

# The namespace of all UUIDs made here. Another one would make profiles that
# stand beside the installed ones.
_NAMESPACE = uuid5(NAMESPACE_OID, "mdmd enrollment profile")


def _pairs(subject: Iterable[Iterable[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple(map(tuple, subject))


def _blobs(values: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(values)


def _words(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


@attrs.frozen
class ScepPayload:
    """How the device gets its identity from a SCEP server; the key is made on the device."""

    url: str
    challenge: str = attrs.field(default="", repr=False)
    name: str = ""  # of the CA, for servers that have several
    # (type, value) each: CN, O, OU... or a dotted OID. Devices put values for
    # such words as %SerialNumber% or %HardwareUUID%.
    subject: Sequence[Sequence[str]] = attrs.field(
        default=(("CN", "MDM Identity"),), converter=_pairs
    )
    key_size: int = 2048
    key_type: str = "RSA"
    key_usage: int = 5  # 1: sign, 4: encrypt
    retries: int = 3
    retry_delay: int = 10  # seconds
    ca_fingerprint: bytes = b""


@attrs.frozen
class Pkcs12Payload:
    """An identity with its key, in the profile itself."""

    data: bytes = attrs.field(repr=False)
    password: str = attrs.field(repr=False)


@attrs.frozen
class EnrollmentProfile:
    """
    What an enrollment profile says; exactly one of ``scep`` and ``pkcs12``.

    :ivar access_rights: Apple's bits; 8191 is all of them.
    :ivar trust: DER certificates that the device shall trust as roots.
    :ivar intermediates: DER certificates that it shall know besides.
    """

    identifier: str  # the root of all PayloadIdentifiers, such as org.example.mdm
    organization: str
    server_url: str
    checkin_url: str
    topic: str  # com.apple.mgmt.…, of the push certificate
    scep: ScepPayload | None = None
    pkcs12: Pkcs12Payload | None = None
    trust: Sequence[bytes] = attrs.field(default=(), converter=_blobs)
    intermediates: Sequence[bytes] = attrs.field(default=(), converter=_blobs)
    access_rights: int = 8191
    sign_message: bool = False
    check_out_when_removed: bool = True
    server_capabilities: Sequence[str] = attrs.field(
        default=("com.apple.mdm.per-user-connections", "com.apple.mdm.bootstraptoken"),
        converter=_words,
    )
    display_name: str = "Device Management"
    description: str = ""


def enrollment_profile(values: EnrollmentProfile) -> bytes:
    """
    Write the profile as an unsigned XML mobileconfig; the same values, the same bytes.

    :raises BadRequest: something is missing, or can't be so.
    """
    _check(values)
    content = [
        *(_certificate(values, _ROOT, n, der) for n, der in enumerate(values.trust)),
        *(
            _certificate(values, _INTERMEDIATE, n, der)
            for n, der in enumerate(values.intermediates)
        ),
        _identity(values),
        _management(values),
    ]
    return plist.dumps(
        {
            **_common(values, "Configuration", "", values.display_name),
            "PayloadScope": "System",
            "PayloadContent": content,
        }
    )


def payload_uuid(identifier: str) -> str:
    """Make the PayloadUUID that belongs to a PayloadIdentifier, upper case, always the same."""
    return str(uuid5(_NAMESPACE, identifier)).upper()


def _check(values: EnrollmentProfile) -> None:
    for name in ("identifier", "organization", "server_url", "checkin_url", "topic"):
        if not getattr(values, name).strip():
            raise BadRequest(f"an enrollment profile without {name}")
    if (values.scep is None) == (values.pkcs12 is None):
        raise BadRequest("an enrollment profile needs one of scep and pkcs12")
    rights = values.access_rights
    if not 0 < rights < 1 << 13:
        raise BadRequest("access_rights is not between 1 and 8191")
    # To change something one has to be allowed to look at it.
    if rights & 3 == 2 or rights & 192 == 128:
        raise BadRequest("access_rights has bit 2 without 1, or 128 without 64")


def _common(
    values: EnrollmentProfile, payload_type: str, suffix: str, display_name: str
) -> dict[str, object]:
    identifier = f"{values.identifier}.{suffix}" if suffix else values.identifier
    common: dict[str, object] = {
        "PayloadType": payload_type,
        "PayloadVersion": 1,
        "PayloadIdentifier": identifier,
        "PayloadUUID": payload_uuid(identifier),
        "PayloadDisplayName": display_name,
        "PayloadOrganization": values.organization,
    }
    if values.description and not suffix:
        common["PayloadDescription"] = values.description
    return common


def _certificate(values: EnrollmentProfile, kind: str, number: int, der: bytes) -> Payload:
    word = "root" if kind == _ROOT else "intermediate"
    return {
        **_common(values, kind, f"{word}.{number}", f"{values.organization} {word} certificate"),
        "PayloadCertificateFileName": f"{word}-{number}.cer",
        "PayloadContent": der,
    }


def _identity(values: EnrollmentProfile) -> Payload:
    # One identifier for both kinds: whichever it is, it replaces the last.
    if values.scep is not None:
        kind = _SCEP
        content: dict[str, object] = {"PayloadContent": _scep_content(values.scep)}
    else:
        assert values.pkcs12 is not None  # _check has seen to it
        kind, content = _PKCS12, _pkcs12_content(values.pkcs12)
    common = _common(values, kind, "identity", f"{values.organization} device identity")
    return {**common, **content}


def _pkcs12_content(pkcs12: Pkcs12Payload) -> dict[str, object]:
    return {
        "PayloadCertificateFileName": "identity.p12",
        "PayloadContent": pkcs12.data,
        "Password": pkcs12.password,
        "KeyIsExtractable": False,
    }


def _scep_content(scep: ScepPayload) -> Payload:
    content: dict[str, object] = {
        "URL": scep.url,
        "Subject": [[list(pair)] for pair in scep.subject],
        "Keysize": scep.key_size,
        "Key Type": scep.key_type,
        "Key Usage": scep.key_usage,
        "Retries": scep.retries,
        "RetryDelay": scep.retry_delay,
        "KeyIsExtractable": False,
    }
    optional = {
        "Name": scep.name,
        "Challenge": scep.challenge,
        "CAFingerprint": scep.ca_fingerprint,
    }
    return content | {key: value for key, value in optional.items() if value}


def _management(values: EnrollmentProfile) -> Payload:
    return {
        **_common(values, _MDM, "management", values.display_name),
        "IdentityCertificateUUID": payload_uuid(f"{values.identifier}.identity"),
        "Topic": values.topic,
        "ServerURL": values.server_url,
        "CheckInURL": values.checkin_url,
        "AccessRights": values.access_rights,
        "SignMessage": values.sign_message,
        "CheckOutWhenRemoved": values.check_out_when_removed,
        "ServerCapabilities": list(values.server_capabilities),
    }


def read_enrollment_profile(mobileconfig: bytes) -> EnrollmentProfile:
    """
    Read an enrollment profile as a device does, ours or another server's.

    A signed one has to be taken out of its CMS envelope first.

    :raises BadMessage: no profile, not exactly one com.apple.mdm payload, an
        IdentityCertificateUUID that names no identity payload, or a key that
        is missing or of another type.
    """
    profile = plist.loads(mobileconfig)
    if profile.get("PayloadType") != "Configuration":
        raise BadMessage("not a configuration profile")
    payloads = [_dict(each, "payload") for each in _list(profile, "PayloadContent")]
    managements = [each for each in payloads if each.get("PayloadType") == _MDM]
    if len(managements) != 1:
        raise BadMessage("not exactly one com.apple.mdm payload")
    mdm = managements[0]
    identity = _find_identity(payloads, _need(mdm, "IdentityCertificateUUID", str))
    kind, server_url = identity["PayloadType"], _need(mdm, "ServerURL", str)
    return EnrollmentProfile(
        identifier=_need(profile, "PayloadIdentifier", str),
        organization=_have(profile, "PayloadOrganization", ""),
        server_url=server_url,
        checkin_url=_have(mdm, "CheckInURL", server_url),
        topic=_need(mdm, "Topic", str),
        scep=_read_scep(identity) if kind == _SCEP else None,
        pkcs12=_read_pkcs12(identity) if kind == _PKCS12 else None,
        trust=_certificates(payloads, _ROOT),
        intermediates=_certificates(payloads, _INTERMEDIATE),
        access_rights=_have(mdm, "AccessRights", 0),
        sign_message=_have(mdm, "SignMessage", False),
        check_out_when_removed=_have(mdm, "CheckOutWhenRemoved", False),
        server_capabilities=_capabilities(mdm),
        display_name=_have(profile, "PayloadDisplayName", ""),
        description=_have(profile, "PayloadDescription", ""),
    )


def _find_identity(payloads: Sequence[Payload], uuid: str) -> Payload:
    for each in payloads:
        if each.get("PayloadUUID") == uuid and each.get("PayloadType") in (_SCEP, _PKCS12):
            return each
    raise BadMessage("IdentityCertificateUUID names no identity payload of this profile")


def _read_scep(payload: Payload) -> ScepPayload:
    content = _dict(payload.get("PayloadContent"), "PayloadContent")
    return ScepPayload(
        url=_need(content, "URL", str),
        challenge=_have(content, "Challenge", ""),
        name=_have(content, "Name", ""),
        subject=_read_subject(_have(content, "Subject", [])),
        key_size=_have(content, "Keysize", 1024),
        key_type=_have(content, "Key Type", "RSA"),
        key_usage=_have(content, "Key Usage", 0),
        retries=_have(content, "Retries", 3),
        retry_delay=_have(content, "RetryDelay", 10),
        ca_fingerprint=_have(content, "CAFingerprint", b""),
    )


def _read_subject(names: list[object]) -> tuple[tuple[str, str], ...]:
    found = []
    for relative in names:
        for pair in relative if isinstance(relative, list) else [None]:
            match pair:
                case [str(kind), str(value)]:
                    found.append((kind, value))
                case _:
                    raise BadMessage("Subject is not a list of lists of pairs")
    return tuple(found)


def _read_pkcs12(payload: Payload) -> Pkcs12Payload:
    return Pkcs12Payload(_need(payload, "PayloadContent", bytes), _have(payload, "Password", ""))


def _certificates(payloads: Sequence[Payload], kind: str) -> tuple[bytes, ...]:
    return tuple(
        _need(each, "PayloadContent", bytes) for each in payloads if each.get("PayloadType") == kind
    )


def _capabilities(mdm: Payload) -> list[str]:
    return [str(each) for each in _have(mdm, "ServerCapabilities", _NO_WORDS)]


def _list(payload: Payload, key: str) -> list[object]:
    return _need(payload, key, list)


def _dict(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise BadMessage(f"a {what} that is not a dict")
    return value


def _need(payload: Payload, key: str, kind: type[Value]) -> Value:
    value = payload.get(key)
    if type(value) is not kind:
        raise BadMessage(f"the profile has no usable {key}")
    return value


def _have(payload: Payload, key: str, default: Value) -> Value:
    return _need(payload, key, type(default)) if key in payload else default
