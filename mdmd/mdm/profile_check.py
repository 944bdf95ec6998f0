"""
Judge a configuration profile as a device would, before a device does.

Everything that can be said by looking at the property list itself is said here.
What needs cryptography comes in as :class:`Certificates`.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol
from urllib.parse import urlsplit
from uuid import UUID

import attrs

from mdmd.errors import BadMessage
from mdmd.mdm import plist
from mdmd.mdm.profiles.schema import Finding, Payload, check_envelope, check_payload

__all__ = ["Certificates", "Finding", "check_profile"]

_LIMIT = 64 << 20  # bytes; fonts are profiles too

_MDM = "com.apple.mdm"
_SCEP = "com.apple.security.scep"
_PKCS12 = "com.apple.security.pkcs12"
_IDENTITIES = (_SCEP, _PKCS12, "com.apple.security.acme", "com.apple.ADCertificate.managed")
_CERTIFICATES = ("com.apple.security.root", "com.apple.security.pkcs1", "com.apple.security.pem")
_REMOVAL = "com.apple.profileRemovalPassword"
_TOPIC = "com.apple.mgmt."
_FINGERPRINTS = (16, 20, 32)  # bytes of MD5, SHA-1 and SHA-256


class Certificates(Protocol):
    """What is asked about certificates; each answers "" if there is nothing to say."""

    def certificate(self, data: bytes) -> str:
        """Say what is wrong with a certificate, DER or PEM."""

    def pkcs12(self, data: bytes, password: str | None) -> str:
        """Say what is wrong with a PKCS#12 file; without a password only its form is looked at."""


@attrs.frozen
class _Place:
    """A payload and where it is."""

    payload: Payload
    path: str

    @property
    def kind(self) -> object:
        return self.payload.get("PayloadType")

    def at(self, key: str) -> str:
        return f"{self.path}.{key}"


def check_profile(
    mobileconfig: bytes,
    certificates: Certificates,
    now: datetime,
    topics: Collection[str] = (),
) -> list[Finding]:
    """
    Find all that would make a device refuse a profile or misbehave, errors first.

    :param mobileconfig: the plist, XML or binary; out of its signature if it has one.
    :param now: naive UTC, as dates in plists are.
    :param topics: of the push certificates; empty if they are not known.
    """
    try:
        profile = plist.loads(mobileconfig, limit=_LIMIT)
    except BadMessage as error:
        return [Finding("", "unreadable", str(error))]
    places, found = _payloads(profile)
    found += check_envelope(_to_be_checked(profile))
    for place in places:
        found += check_payload(place.payload, place.path)
    for rule in (_names, _references, _removal):
        found += rule(profile, places)
    found += _dates(profile, now)
    for place in places:
        found += _certificate(place, certificates)
        if place.kind == _SCEP:
            found += _scep(place)
    found += _management(profile, places, topics)
    unique = dict.fromkeys(found)
    return sorted(unique, key=lambda each: each.warning)


def _to_be_checked(profile: Payload) -> Payload:
    # An encrypted profile has its payloads elsewhere.
    if "EncryptedPayloadContent" in profile:
        return {"PayloadContent": [], **profile}
    return profile


def _payloads(profile: Payload) -> tuple[list[_Place], list[Finding]]:
    content = profile.get("PayloadContent")
    places: list[_Place] = []
    found: list[Finding] = []
    if profile.get("PayloadType") not in (None, "Configuration"):
        found.append(
            Finding("PayloadType", "not-a-profile", "is not Configuration: no device installs it")
        )
    for number, each in enumerate(content if isinstance(content, list) else ()):
        path = f"PayloadContent[{number}]"
        if isinstance(each, dict):
            places.append(_Place(each, path))
    if content == [] and "EncryptedPayloadContent" not in profile:
        found.append(Finding("PayloadContent", "empty", "there is nothing in this profile", True))
    return places, found


# -- names and references ------------------------------------------------------


def _names(profile: Payload, places: Sequence[_Place]) -> Iterator[Finding]:
    everything = [("", profile), *((each.path, each.payload) for each in places)]
    for key, normal in (("PayloadUUID", str.upper), ("PayloadIdentifier", str)):
        seen: dict[str, list[str]] = defaultdict(list)
        for path, payload in everything:
            where = f"{path}.{key}" if path else key
            value = payload.get(key)
            if not isinstance(value, str):
                continue  # the schema has said so
            if not value.strip():
                yield Finding(where, "empty", "is empty")
            else:
                seen[normal(value)].append(where)
            if key == "PayloadUUID" and value.strip() and not _is_uuid(value):
                yield Finding(where, "not-a-uuid", f"{value!r} is not a UUID", True)
        for value, (first, *others) in seen.items():
            for where in others:
                yield Finding(where, "duplicate", f"{value} is also that of {first}")
    for path, payload in everything:
        if payload.get("PayloadVersion", 1) != 1 and type(payload["PayloadVersion"]) is int:
            where = f"{path}.PayloadVersion" if path else "PayloadVersion"
            yield Finding(where, "value", "is not 1, the only version there is")


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _references(_: Payload, places: Sequence[_Place]) -> Iterator[Finding]:
    """Find references from one payload to a certificate that this profile does not have."""
    there = {str(each.payload.get("PayloadUUID")) for each in places}
    for place in places:
        for path, key, value in _texts(place.payload, place.path, ""):
            named = "Cert" in key and "UUID" in key and key != "IdentityCertificateUUID"
            if named and value not in there:
                yield Finding(path, "dangling", f"no payload of this profile has UUID {value}")


def _texts(value: object, path: str, key: str) -> Iterator[tuple[str, str, str]]:
    """Walk over all strings: where, the nearest key, the string."""
    if isinstance(value, str):
        yield path, key, value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _texts(each, f"{path}.{name}", name)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _texts(each, f"{path}[{number}]", key)


def _removal(profile: Payload, places: Sequence[_Place]) -> Iterator[Finding]:
    passwords = [each for each in places if each.kind == _REMOVAL]
    wanted = profile.get("HasRemovalPasscode")
    if wanted is True and not passwords:
        text = f"is set, but there is no {_REMOVAL} payload with the password"
        yield Finding("HasRemovalPasscode", "dangling", text)


def _dates(profile: Payload, now: datetime) -> Iterator[Finding]:
    for key in ("PayloadExpirationDate", "RemovalDate"):
        value = profile.get(key)
        if isinstance(value, datetime) and value <= now:
            yield Finding(key, "expired", f"is in the past: {value:%Y-%m-%d %H:%M} UTC")
    duration = profile.get("DurationUntilRemoval")
    if isinstance(duration, int | float) and duration <= 0:
        yield Finding("DurationUntilRemoval", "range", "is not above 0")


# -- payloads ------------------------------------------------------------------


def _certificate(place: _Place, certificates: Certificates) -> Iterator[Finding]:
    data = place.payload.get("PayloadContent")
    if not isinstance(data, bytes):
        return
    where = place.at("PayloadContent")
    if place.kind in _CERTIFICATES:
        complaint = certificates.certificate(data)
        if complaint:
            yield Finding(where, "certificate", complaint)
    elif place.kind == _PKCS12:
        password = place.payload.get("Password")
        text = password if isinstance(password, str) else None
        if complaint := certificates.pkcs12(data, text):
            yield Finding(where, "certificate", complaint)
        if text is None:
            yield Finding(
                place.at("Password"), "missing", "is not there: the device asks its user", True
            )


def _scep(place: _Place) -> Iterator[Finding]:
    content = place.payload.get("PayloadContent")
    if not isinstance(content, dict):
        return
    at = place.at("PayloadContent")
    yield from _url(content.get("URL"), f"{at}.URL", secure=False)
    fingerprint = content.get("CAFingerprint")
    if isinstance(fingerprint, bytes) and len(fingerprint) not in _FINGERPRINTS:
        text = f"has {len(fingerprint)} bytes; fingerprints have 16 (MD5), 20 (SHA-1) or 32"
        yield Finding(f"{at}.CAFingerprint", "value", text)
    if content.get("Keysize", 1024) == 1024:
        yield Finding(f"{at}.Keysize", "weak", "is 1024 (the default): many CAs refuse it", True)
    subject = content.get("Subject")
    if isinstance(subject, list) and not _is_subject(subject):
        text = "is not an array of arrays of pairs: [[[O, Example]], [[CN, name]]]"
        yield Finding(f"{at}.Subject", "value", text)


def _is_subject(names: list[object]) -> bool:
    return all(
        isinstance(relative, list)
        and relative
        and all(
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, str) for x in pair)
            for pair in relative
        )
        for relative in names
    )


def _url(value: object, path: str, secure: bool = True) -> Iterator[Finding]:
    if not isinstance(value, str):
        return
    try:
        parts = urlsplit(value)
        host, scheme = parts.hostname, parts.scheme.lower()
        _ = parts.port
    except ValueError:
        host, scheme = None, ""
    if not host or scheme not in ("http", "https") or any(c.isspace() for c in value):
        yield Finding(path, "url", f"{value!r} is not a web address")
    elif scheme == "http":
        text = "is http: devices take https only" if secure else "is http: nobody proves who it is"
        yield Finding(path, "http", text, warning=not secure)


# -- com.apple.mdm -------------------------------------------------------------


def _management(
    profile: Payload, places: Sequence[_Place], topics: Collection[str]
) -> Iterator[Finding]:
    managements = [each for each in places if each.kind == _MDM]
    for other in managements[1:]:
        yield Finding(other.path, "duplicate", f"is a second {_MDM} payload; one is allowed")
    for place in managements:
        yield from _identity(place, places)
        for key in ("ServerURL", "CheckInURL"):
            yield from _url(place.payload.get(key), place.at(key))
        yield from _topic(place, topics)
        yield from _rights(place)
        if profile.get("PayloadScope") == "User":
            text = "is User: a Mac then manages this user only, and other devices refuse it"
            yield Finding("PayloadScope", "value", text, True)


def _identity(place: _Place, places: Sequence[_Place]) -> Iterator[Finding]:
    wanted = place.payload.get("IdentityCertificateUUID")
    if not isinstance(wanted, str):
        return
    where = place.at("IdentityCertificateUUID")
    kinds = [each.kind for each in places if each.payload.get("PayloadUUID") == wanted]
    if not kinds:
        yield Finding(where, "dangling", f"no payload of this profile has UUID {wanted}")
    elif not any(kind in _IDENTITIES for kind in kinds):
        text = f"points at a {kinds[0]} payload, which is no identity (SCEP, ACME, PKCS#12)"
        yield Finding(where, "not-an-identity", text)


def _topic(place: _Place, topics: Collection[str]) -> Iterator[Finding]:
    value = place.payload.get("Topic")
    if not isinstance(value, str):
        return
    if not value.startswith(_TOPIC):
        text = f"{value!r} does not begin with {_TOPIC} as push certificates for MDM do"
        yield Finding(place.at("Topic"), "topic", text)
    elif topics and value not in topics:
        others = " and ".join(sorted(topics))
        text = f"is {value}, but the push certificate is for {others}: no push would arrive"
        yield Finding(place.at("Topic"), "topic", text)


def _rights(place: _Place) -> Iterator[Finding]:
    where, rights = place.at("AccessRights"), place.payload.get("AccessRights")
    by_user = ("ManagedAppleID", "AssignedManagedAppleID", "EnrollmentMode")
    if rights is None:
        if not any(key in place.payload for key in by_user):
            yield Finding(where, "missing", "is required but in a user's enrollment")
    elif type(rights) is int:
        if not 0 < rights < 1 << 13:
            yield Finding(where, "range", f"is {rights}, outside of 1 to 8191")
        for bit, needed in ((2, 1), (128, 64)):
            if rights & bit and not rights & needed:
                yield Finding(where, "rights", f"has bit {bit} without bit {needed}")
