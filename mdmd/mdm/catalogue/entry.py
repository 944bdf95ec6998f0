"""
One command of the catalogue: what is in ``commands/NAME.json``, read into values.

A new command is one new file. Its form, with everything but ``does``,
``platforms`` and ``keys`` left out where it does not apply::

    {
     "does": "One sentence, in our words.",
     "example": ["Key=value", ...],        what to type after mdmctl send ID NAME
     "priority": "security",               before everything else in the queue
     "destructive": true,                  data is lost: admins only
     "single": "lock",                     at most one pending of this kind a device
     "dedupe": true,                       of several pending ones only the last counts
     "secrets": ["PIN"],                   keys that may not be shown or logged
     "secret_answer": true,                the answer holds a secret
     "one_of": [["Message", "PhoneNumber"]],   at least one of each group
     "platforms": {"*": AVAILABILITY, "iOS": AVAILABILITY, ...},
     "keys": {"PIN": KEY, ...}
    }

AVAILABILITY has ``since``, ``deprecated`` and ``removed`` (versions of the
system), ``right`` (Apple's name of an access right), ``supervised`` and
``automated`` (true: needs a supervised device, automated enrollment),
``user_enrollment`` (false: not there), ``channels`` (macOS: "device", "user"),
``shared_ipad`` (the channels on a Shared iPad, [] for none),
``shared_ipad_only`` and ``obsolete`` (only older devices know it). ``*``
stands for every platform named.

KEY has ``type`` (string, integer, real, boolean, date, data, array,
dictionary, any), ``required``, ``default``, ``values`` (a list, or an object
that says of each where it is available), ``min``, ``max``, ``max_length``,
``pattern``, ``help``; ``of`` for an array's elements; ``keys`` for a
dictionary, with ``*`` for keys of any name; ``told_by`` and ``kinds`` for a
dictionary whose kind one of its keys tells. ``platforms`` refines what holds
for the command or the key around it, null takes a platform away; ``only`` is
the same, and takes away each that it does not name.
"""

from collections.abc import Mapping
from typing import Any

import attrs

PLATFORMS = ("iOS", "macOS", "tvOS", "visionOS", "watchOS")
TYPES = ("string", "integer", "real", "boolean", "date", "data", "array", "dictionary", "any")

# Apple's names and bits of AccessRights in the enrollment profile.
RIGHTS = {
    "AllowInspection": 1,
    "AllowInstallationRemoval": 2,
    "AllowPasscodeRemovalAndLock": 4,
    "AllowDeviceErase": 8,
    "AllowQueryDeviceInformation": 16,
    "AllowQueryNetworkInformation": 32,
    "AllowProvisioningInspection": 64,
    "AllowProvisioningInstallationRemoval": 128,
    "AllowQueryApplications": 256,
    "AllowQueryRestrictions": 512,
    "AllowQuerySecurity": 1024,
    "AllowSettings": 2048,
    "AllowAppInstallation": 4096,
}


@attrs.frozen
class Availability:
    """On what terms one platform knows a command, key or value."""

    since: str = ""
    deprecated: str = ""
    removed: str = ""
    right: str = ""  # a name of RIGHTS
    supervised: bool = False
    automated: bool = False
    user_enrollment: bool = True
    channels: tuple[str, ...] = ("device",)
    shared_ipad: tuple[str, ...] = ("device",)
    shared_ipad_only: bool = False
    obsolete: bool = False


Platforms = Mapping[str, Availability]  # those that know it, by name


@attrs.frozen
class Key:
    """What one key of a command takes."""

    type: str
    platforms: Platforms = attrs.field(repr=False)
    required: bool = False
    default: object = None
    values: Mapping[object, Platforms] | None = None  # None: any value of the type
    min: float | None = None
    max: float | None = None
    max_length: int | None = None
    pattern: str = ""
    help: str = ""
    of: "Key | None" = None  # of an array's elements; None: anything
    keys: "Mapping[str, Key] | None" = None  # of a dictionary; None: anything
    told_by: str = ""
    kinds: "Mapping[str, Key]" = attrs.field(factory=dict)


@attrs.frozen
class Entry:
    """One command."""

    name: str
    does: str
    platforms: Platforms = attrs.field(repr=False)
    keys: Mapping[str, Key] = attrs.field(repr=False)
    example: tuple[str, ...] = ()
    priority: str = "normal"
    destructive: bool = False
    single: str = ""
    dedupe: bool = False
    secrets: tuple[str, ...] = ()
    secret_answer: bool = False
    one_of: tuple[tuple[str, ...], ...] = ()


def read_entry(name: str, raw: Mapping[str, Any]) -> Entry:
    """
    Read what a file of ``commands/`` holds.

    :raises ValueError: the file is not of the form above; the text says where.
    """
    _only_known(name, raw, Entry)
    nothing: Platforms = dict.fromkeys(PLATFORMS, Availability())
    platforms = _refined(name, nothing, {"only": _needed(name, raw, "platforms")})
    return Entry(
        name=name,
        does=_needed(name, raw, "does"),
        platforms=platforms,
        keys=_keys(name, _needed(name, raw, "keys"), platforms),
        example=tuple(raw.get("example", ())),
        priority=raw.get("priority", "normal"),
        destructive=raw.get("destructive", False),
        single=raw.get("single", ""),
        dedupe=raw.get("dedupe", False),
        secrets=tuple(raw.get("secrets", ())),
        secret_answer=raw.get("secret_answer", False),
        one_of=tuple(map(tuple, raw.get("one_of", ()))),
    )


def _keys(where: str, raw: Mapping[str, Any], platforms: Platforms) -> dict[str, Key]:
    return {name: _key(f"{where}.{name}", each, platforms) for name, each in raw.items()}


def _key(where: str, raw: Mapping[str, Any], around: Platforms) -> Key:
    _only_known(where, raw, Key, "only")
    if _needed(where, raw, "type") not in TYPES:
        raise ValueError(f"{where}: no such type: {raw['type']}")
    platforms = _refined(where, around, raw)
    told_by = raw.get("told_by", "")
    return Key(
        type=raw["type"],
        platforms=platforms,
        required=raw.get("required", False),
        default=raw.get("default"),
        values=_values(where, raw.get("values"), platforms),
        min=raw.get("min"),
        max=raw.get("max"),
        max_length=raw.get("max_length"),
        pattern=raw.get("pattern", ""),
        help=raw.get("help", ""),
        of=_key(f"{where}[]", raw["of"], platforms) if "of" in raw else None,
        keys=_keys(where, raw["keys"], platforms) if "keys" in raw else None,
        told_by=told_by,
        kinds={
            kind: _kind(f"{where}.{kind}", told_by, kind, each, platforms)
            for kind, each in raw.get("kinds", {}).items()
        },
    )


def _kind(where: str, told_by: str, kind: str, raw: Mapping[str, Any], around: Platforms) -> Key:
    teller = {told_by: {"type": "string", "required": True, "values": [kind]}}
    return _key(
        where, {"type": "dictionary", **raw, "keys": {**teller, **raw.get("keys", {})}}, around
    )


def _values(where: str, raw: Any, platforms: Platforms) -> Mapping[object, Platforms] | None:
    if raw is None:
        return None
    if isinstance(raw, dict):
        return {value: _refined(f"{where}={value}", platforms, each) for value, each in raw.items()}
    return dict.fromkeys(raw, platforms)


def _refined(where: str, around: Platforms, raw: Mapping[str, Any]) -> Platforms:
    """Apply ``platforms`` or ``only`` of ``raw`` to what holds around it."""
    changes = raw.get("only", raw.get("platforms", {}))
    if not changes:
        return around
    if strange := set(changes) - {"*", *PLATFORMS}:
        raise ValueError(f"{where}: no such platform: {', '.join(sorted(strange))}")
    everywhere = changes.get("*", {})
    refined = {}
    for platform in PLATFORMS:
        change = changes.get(platform, None if "only" in raw else {})
        # What is not there around can be there again only by a version of its own.
        base = around.get(platform, Availability() if change and "since" in change else None)
        if change is not None and base is not None:
            refined[platform] = _changed(where, base, {**everywhere, **change})
    return refined


def _changed(where: str, base: Availability, change: Mapping[str, Any]) -> Availability:
    _only_known(where, change, Availability)
    changed: dict[str, Any] = {
        field: tuple(value) if isinstance(value, list) else value for field, value in change.items()
    }
    return attrs.evolve(base, **changed)


def _needed(where: str, raw: Mapping[str, Any], field: str) -> Any:
    if field not in raw:
        raise ValueError(f"{where}: no {field}")
    return raw[field]


def _only_known(where: str, raw: Mapping[str, Any], of: type, *more: str) -> None:
    known = {each.name for each in attrs.fields(of)} - {"name"}
    if strange := set(raw) - known - set(more):
        raise ValueError(f"{where}: unknown field: {', '.join(sorted(strange))}")
