"""
Read what a device answered, by the command that it answers.

Answers come from devices of all ages, and from some with faults: nothing in here
raises for what they say. What has not the shape that Apple gives it becomes an
oddity, one line, and the report itself is kept whole by the store.

Values come out as JSON has them: a date is a string such as
``2026-11-24T20:00:00Z``, data is ``base64:`` and the rest, a number that is
none, or endless, the word for it.
"""

import base64
import math
from collections.abc import Callable, Mapping
from datetime import datetime

import attrs

from mdmd.errors import BadMessage
from mdmd.mdm import plist
from mdmd.mdm.answers.chain import ErrorItem, read_chain
from mdmd.mdm.answers.kinds import KINDS

LARGEST = 64 << 20  # bytes of a report; what the site takes is less
MAX_ODDITIES = 20
MAX_FIELDS = 500  # of one answer; Apple has some 150
MAX_NAME = 100  # characters of a field's name


@attrs.frozen
class Part:
    """What became of one part of a command that has several, such as one setting."""

    name: str
    status: str
    errors: tuple[ErrorItem, ...] = ()

    @property
    def failed(self) -> bool:
        """Say whether the device refused it; an update that goes on has other words."""
        return bool(self.errors) or self.status in ("Error", "CommandFormatError")

    def __str__(self) -> str:
        """Put it into one line."""
        return " ".join(filter(None, (self.name, self.status, "; ".join(map(str, self.errors)))))


@attrs.frozen
class Answer:
    """One decoded report."""

    status: str
    fields: dict[str, object] = attrs.field(factory=dict, repr=False)  # for the inventory
    details: dict[str, object] = attrs.field(factory=dict, repr=False)  # the rest of it
    parts: tuple[Part, ...] = ()
    errors: tuple[ErrorItem, ...] = ()
    oddities: tuple[str, ...] = ()


# Around every answer; the store has them by itself.
_ENVELOPE = frozenset(
    {
        "Status", "CommandUUID", "UDID", "UserID", "UserShortName", "UserLongName",
        "EnrollmentID", "EnrollmentUserID", "NotOnConsole", "ErrorChain", "RequestType",
    }
)  # fmt: skip
# Never in the inventory, which anybody with an account may read.
SECRETS = frozenset(
    {
        "UnlockToken", "PushToken", "ActivationLockBypassCode", "EncryptedNewRecoveryKey",
        "FDE_PersonalRecoveryKeyCMS", "FDE_PersonalRecoveryKeyDeviceKey",
    }
)  # fmt: skip
# Keys of a command that make its answer a part of the truth only.
LIMITS = frozenset(
    {"Identifiers", "ManagedAppsOnly", "ManagedOnly", "FilterExtensionPoints", "Items"}
)


def decode_answer(request_type: str, raw: bytes, partial: bool = False) -> Answer:
    """
    Read one report; never raises for what is in it.

    :param request_type: of the command that it answers, "" if that is unknown.
    :param partial: the command asked for a part only, see :func:`is_partial`: the
        list of some apps does not become the inventory's list of all.
    """
    reading = _Reading()
    try:
        message = reading.load(raw)
    except BadMessage as error:
        return Answer("", oddities=(f"the report can't be read: {error}",))
    status = message.get("Status")
    rest = {key: value for key, value in message.items() if key not in _ENVELOPE}
    if status == "Acknowledged":
        _READERS.get(request_type, _unknown)(reading, rest)
    if partial:
        reading.details.update(reading.fields)
        reading.fields = {}
    reading.details.update({key: plain(value) for key, value in rest.items()})
    return Answer(
        status if isinstance(status, str) else "",
        _without_secrets(reading.bounded()),
        _without_secrets(reading.details),
        tuple(reading.parts),
        read_chain(message.get("ErrorChain")),
        tuple(reading.oddities[:MAX_ODDITIES]),
    )


def tells_fields(request_type: str) -> bool:
    """Say whether the answer to a command tells anything for the inventory."""
    return request_type in _READERS


def is_partial(command: Mapping[str, object]) -> bool:
    """Say whether the keys of a command make its answer a part of the truth only."""
    return any(command.get(key) for key in LIMITS)


def plain(value: object) -> object:
    """Turn a value of a plist into one of JSON."""
    if isinstance(value, datetime):
        return f"{value.isoformat(timespec='seconds')}Z"
    if isinstance(value, bytes):
        return f"base64:{base64.b64encode(value).decode()}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value


class _Reading:
    """What has been found so far. Readers take out of ``rest`` what they understand."""

    def __init__(self) -> None:
        self.fields: dict[str, object] = {}
        self.details: dict[str, object] = {}
        self.parts: list[Part] = []
        self.oddities: list[str] = []

    def load(self, raw: bytes) -> dict[str, object]:
        """
        Read the whole report.

        :raises BadMessage: it can't be read, not even mended.
        """
        try:
            return plist.loads(raw, limit=LARGEST)
        except BadMessage:
            mended = plist.mended(raw)
            message = plist.loads(mended, limit=max(LARGEST, len(mended)))
            self.oddities.append("characters that XML has not, U+FFFD here")
            return message

    def tell(self, name: str, value: object) -> None:
        """Make a field; a list or dictionary where there should be none, or none, makes none."""
        kind = KINDS.get(name)
        if kind is not None and _alike(kind) != _alike(type(value)):
            self.oddities.append(f"{name} is a {_WORDS[type(value)]}, not a {_WORDS[kind]}")
            if {kind, type(value)} & {dict, list}:
                self.details[name] = plain(value)
                return
        self.fields[name] = plain(value)

    def bounded(self) -> dict[str, object]:
        """Give the fields, but not more than a device of sound mind has."""
        sound = [
            name for name in self.fields if len(name) <= MAX_NAME and name.isprintable() and name
        ][:MAX_FIELDS]
        if len(sound) < len(self.fields):
            self.oddities.append(f"{len(self.fields)} fields, or bad names: not all are kept")
        return {name: self.fields[name] for name in sound}

    def take(self, rest: dict[str, object], key: str, kind: type) -> object:
        """Take out ``key`` if it is of this kind; else note the oddity and leave it there."""
        value = rest.get(key)
        if isinstance(value, kind):
            del rest[key]
            return value
        there = f"is a {_WORDS[type(value)]}" if key in rest else "is missing"
        self.oddities.append(f"{key} {there}, not a {_WORDS[kind]}")
        return None


_MANY: dict[type, str] = {dict: "no dictionaries", str: "no strings"}
_WORDS: dict[type, str] = {
    dict: "dictionary",
    list: "list",
    int: "number",
    float: "number",
    bool: "boolean",
    str: "string",
    bytes: "data",
    datetime: "date",
}


def _alike(kind: type) -> type:
    """Take numbers and booleans for one another, as devices of all ages do."""
    return float if kind in (int, bool) else kind


_Reader = Callable[[_Reading, dict[str, object]], None]


def _unknown(_: _Reading, __: dict[str, object]) -> None:
    """Leave everything where it is: it becomes details."""


def _spread(key: str, *inner: str) -> _Reader:
    """Make each key of one dictionary a field, and each key of dictionaries in it."""

    def read(reading: _Reading, rest: dict[str, object]) -> None:
        found = reading.take(rest, key, dict)
        if not isinstance(found, dict):
            return
        for name, value in found.items():
            reading.tell(name, value)
            if name in inner and isinstance(value, dict):
                for each, deep in value.items():
                    reading.tell(each, deep)

    return read


def _whole(key: str, kind: type, field: str = "", of: type = dict) -> _Reader:
    """Make a field of this key (by another name, if one is given); ``of``: a list's elements."""

    def read(reading: _Reading, rest: dict[str, object]) -> None:
        found = reading.take(rest, key, kind)
        if isinstance(found, list):
            sound = [each for each in found if isinstance(each, of)]
            if len(sound) != len(found):
                reading.oddities.append(f"{key} has elements that are {_MANY[of]}")
            found = sound
        if found is not None:
            reading.fields[field or key] = plain(found)

    return read


def _optional(**kinds: type) -> _Reader:
    """Make a field of each of these keys that is there; lists are of strings."""

    def read(reading: _Reading, rest: dict[str, object]) -> None:
        for key, kind in kinds.items():
            if key in rest:
                _whole(key, kind, of=str)(reading, rest)

    return read


def _location(reading: _Reading, rest: dict[str, object]) -> None:
    """Keep a place together in one field; its parts mean nothing alone."""
    names = ("Latitude", "Longitude", "HorizontalAccuracy", "VerticalAccuracy", "Altitude",
             "Speed", "Course", "Timestamp")  # fmt: skip
    place = {name: plain(rest.pop(name)) for name in names if name in rest}
    if {"Latitude", "Longitude"} <= place.keys():
        reading.fields["DeviceLocation"] = place
    else:
        reading.oddities.append("Latitude or Longitude is missing")
        reading.details.update(place)


def _parts(key: str, name: str, needed: bool = True) -> _Reader:
    """Read a list of what became of each part; ``name`` is the key that names a part."""

    def read(reading: _Reading, rest: dict[str, object]) -> None:
        if not needed and key not in rest:
            return
        found = rest.get(key)
        for each in found if isinstance(found, list) else [found]:
            if not isinstance(each, dict):
                if isinstance(found, list):
                    reading.oddities.append(f"{key} has elements that are {_MANY[dict]}")
                else:
                    reading.take(rest, key, list)
                return
            status, called = each.get("Status"), each.get(name) or each.get("Item")
            reading.parts.append(
                Part(
                    called if isinstance(called, str) else "",
                    status if isinstance(status, str) else "",
                    read_chain(each.get("ErrorChain")),
                )
            )

    return read


_READERS: dict[str, _Reader] = {
    "ActiveNSExtensions": _whole("Extensions", list, "ActiveNSExtensions"),
    "AvailableOSUpdates": _whole("AvailableOSUpdates", list),
    "CertificateList": _whole("CertificateList", list),
    "ContentCachingInformation": _whole("StatusResponse", dict),
    "DeviceInformation": _spread("QueryResponses"),
    "DeviceLocation": _location,
    "InstalledApplicationList": _whole("InstalledApplicationList", list),
    "LOMSetupRequest": _optional(
        PrimaryIPv6AddressList=list, SecondaryIPv6AddressList=list, LOMProtocolVersion=int
    ),
    "ManagedApplicationAttributes": _whole("ApplicationAttributes", list),
    "ManagedApplicationConfiguration": _whole("ApplicationConfigurations", list),
    "ManagedApplicationFeedback": _whole("ManagedApplicationFeedback", list),
    "ManagedApplicationList": _whole("ManagedApplicationList", dict),
    "ManagedMediaList": _whole("Books", list),
    "NSExtensionMappings": _whole("Extensions", list, "NSExtensionMappings"),
    "OSUpdateStatus": _whole("OSUpdateStatus", list),
    "ProfileList": _whole("ProfileList", list),
    "ProvisioningProfileList": _whole("ProvisioningProfileList", list),
    "Restrictions": _optional(GlobalRestrictions=dict, ProfileRestrictions=dict),
    "ScheduleOSUpdate": _parts("UpdateResults", "ProductKey"),
    "SecurityInfo": _spread("SecurityInfo", "ManagementStatus"),
    "Settings": _parts("Settings", "Identifier", needed=False),
    "UserList": _whole("Users", list),
}


def _without_secrets(fields: dict[str, object]) -> dict[str, object]:
    return {
        key: _without_secrets(value) if isinstance(value, dict) else value
        for key, value in fields.items()
        if key not in SECRETS
    }
