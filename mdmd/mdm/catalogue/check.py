"""
Check a command before it is queued: its form, and whether an enrollment can take it.

The form is the same for every target; the fit depends on a device's facts. What
is not known yet makes a warning, never a fault.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime

import attrs

from mdmd.mdm.catalogue.build import a
from mdmd.mdm.catalogue.entry import RIGHTS, Availability, Entry, Key, Platforms
from mdmd.mdm.catalogue.facts import Facts, parse_version
from mdmd.mdm.catalogue.load import entry as find
from mdmd.mdm.catalogue.load import names, nearest

Keys = Mapping[str, object]
EMPTY = '""'  # how a text is told that has nothing in it

_PYTHON: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "real": (float, int),
    "boolean": (bool,),
    "date": (datetime,),
    "data": (bytes,),
    "array": (list, tuple),
    "dictionary": (dict, Mapping),
}


@attrs.frozen
class Verdict:
    """What was found, a line each. With no fault the command may be sent."""

    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def check_form(request_type: str, keys: Keys) -> Verdict:
    """
    Check what does not depend on the device: keys, types, values.

    :param keys: the Command dict; a RequestType in it is not looked at.
    """
    entry = find(request_type)
    if entry is None:
        return Verdict((f"no command {request_type[:60]!a}{nearest(request_type, names())}",))
    given = {name: value for name, value in keys.items() if name != "RequestType"}
    faults = [*_dictionary(given, entry.keys, "")]
    for group in entry.one_of:
        if not any(name in given for name in group):
            faults.append(f"{' or '.join(group)}: one of these is needed")
    return Verdict(tuple(faults))


def check_fit(request_type: str, keys: Keys, facts: Facts) -> Verdict:
    """Check whether an enrollment of these ``facts`` can take a command, and each key of it."""
    entry = find(request_type)
    if entry is None:
        return Verdict()
    fit = _Fit(facts)
    fit.look(request_type, entry.platforms, frozenset())
    if facts.platform in entry.platforms:
        fit.keys(keys, entry)
    return Verdict(tuple(fit.faults), tuple(fit.warnings))


def fitting(request_type: str, keys: Keys, facts: Facts) -> dict[str, object]:
    """
    Leave out of ``keys`` what a device of these ``facts`` can't take.

    Keys go, and elements of lists; that the command can be taken at all, and is
    complete without them, is for :func:`check_fit` and :func:`check_form`.
    """
    entry = find(request_type)
    if entry is None or facts.platform not in entry.platforms:
        return dict(keys)
    return _fitting(keys, entry.keys, facts, frozenset(_reasons(entry.platforms, facts)))


# -- the form ---------------------------------------------------------------


def _dictionary(value: Keys, keys: Mapping[str, Key] | None, path: str) -> Iterator[str]:
    if keys is None:
        return
    for name, inner in value.items():
        key = keys.get(name, keys.get("*"))
        if key is None:
            known = [each for each in keys if each not in value]
            yield f"{_join(path, name)}: no such key{nearest(name, known)}"
        else:
            yield from _value(inner, key, _join(path, name))
    for name, key in keys.items():
        if key.required and name not in value:
            yield f"{_join(path, name)}: needed, but missing"


def _value(value: object, key: Key, path: str) -> Iterator[str]:
    if key.type == "any":
        return
    right = isinstance(value, _PYTHON[key.type])
    if not right or (isinstance(value, bool) and key.type != "boolean"):
        yield f"{path}: takes {a(key.type)}, not {_kind(value)}"
    elif isinstance(value, Mapping):
        yield from _mapping(value, key, path)
    elif isinstance(value, list | tuple):
        if key.of is not None:
            for place, each in enumerate(value):
                yield from _value(each, key.of, f"{path}.{place}")
    else:
        yield from _range(value, key, path)


def _mapping(value: Keys, key: Key, path: str) -> Iterator[str]:
    if not key.told_by:
        yield from _dictionary(value, key.keys, path)
        return
    teller = _join(path, key.told_by)
    told = value.get(key.told_by)
    if told is None:
        yield f"{teller}: needed, but missing"
    elif not isinstance(told, str):
        yield f"{teller}: takes a string, not {_kind(told)}"
    elif told not in key.kinds:
        yield f"{teller}: there is no {told[:60] or EMPTY}{nearest(told, list(key.kinds))}"
    else:
        yield from _dictionary(value, key.kinds[told].keys, path)


def _range(value: object, key: Key, path: str) -> Iterator[str]:
    if key.values is not None and value not in key.values:
        known = [str(each) for each in key.values]
        hint = nearest(str(value), known) or (
            f" (one of {', '.join(known)})" if len(known) < 15 else ""
        )
        yield f"{path}: there is no {str(value)[:60] or EMPTY}{hint}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if key.min is not None and value < key.min:
            yield f"{path}: at least {key.min}, not {value}"
        if key.max is not None and value > key.max:
            yield f"{path}: at most {key.max}, not {value}"
    if key.max_length and isinstance(value, str | bytes) and len(value) > key.max_length:
        yield f"{path}: longer than {key.max_length}"
    if key.pattern and isinstance(value, str) and not re.fullmatch(key.pattern, value):
        # The value itself may be a secret.
        yield f"{path}: not of the form {key.pattern}"


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "a boolean"
    for kind, types in _PYTHON.items():
        if isinstance(value, types):
            return a(kind)
    return "nothing" if value is None else type(value).__name__


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


# -- the fit ----------------------------------------------------------------

Reason = tuple[str, bool]  # text, and whether it is only a warning


class _Fit:
    """Walks over a command with one device's facts; says each reason once, where it begins."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.faults: list[str] = []
        self.warnings: list[str] = []

    def look(self, path: str, platforms: Platforms, known: frozenset[Reason]) -> frozenset[Reason]:
        """Note what stands against ``path``, but for what is ``known`` of its surroundings."""
        reasons = frozenset(_reasons(platforms, self._facts))
        for text, only_warn in sorted(reasons - known):
            (self.warnings if only_warn else self.faults).append(f"{path}: {text}")
        return reasons | known

    def keys(self, keys: Keys, entry: Entry) -> None:
        known = frozenset(_reasons(entry.platforms, self._facts))
        self._dictionary(keys, entry.keys, "", known)

    def _dictionary(
        self, value: Keys, keys: Mapping[str, Key] | None, path: str, known: frozenset[Reason]
    ) -> None:
        for name, inner in value.items():
            key = (keys or {}).get(name)
            if key is not None:
                self._value(inner, key, _join(path, name), known)

    def _value(self, value: object, key: Key, path: str, known: frozenset[Reason]) -> None:
        known = self.look(path, key.platforms, known)
        if isinstance(value, Mapping):
            kind = key.kinds.get(str(value.get(key.told_by))) if key.told_by else key
            if kind is not None:
                if kind is not key:
                    known = self.look(f"{path}.{value[key.told_by]}", kind.platforms, known)
                self._dictionary(value, kind.keys, path, known)
        elif isinstance(value, list | tuple):
            if key.of is not None:
                for place, each in enumerate(value):
                    self._value(each, key.of, f"{path}.{place}", known)
        elif key.values and isinstance(value, str | int) and value in key.values:
            self.look(f"{path}={value}", key.values[value], known)


def _reasons(platforms: Platforms, facts: Facts) -> Iterator[Reason]:
    """Say what stands against it, and what might because it is not known."""
    if facts.platform is None:
        yield "the platform is not known yet, so this could not be checked", True
        return
    terms = platforms.get(facts.platform)
    if terms is None:
        yield f"not for {facts.platform}", False
        return
    yield from _versions(terms, facts)
    yield from _conditions(terms, facts)
    yield from _channels(terms, facts)


def _versions(terms: Availability, facts: Facts) -> Iterator[Reason]:
    system, has = facts.platform, ".".join(map(str, facts.version))
    if terms.obsolete:
        yield "only older devices know it", True
    if not facts.version:
        yield "the version of the system is not known yet, so it could not be checked", True
        return
    if terms.since and facts.version < parse_version(terms.since):
        yield f"needs {system} {terms.since} or later, this one has {has}", False
    if terms.removed and facts.version >= parse_version(terms.removed):
        yield f"gone since {system} {terms.removed}, this one has {has}", False
    elif terms.deprecated and facts.version >= parse_version(terms.deprecated):
        yield f"deprecated since {system} {terms.deprecated}", True


def _conditions(terms: Availability, facts: Facts) -> Iterator[Reason]:
    if terms.supervised and not facts.supervised:
        unknown = facts.supervised is None
        yield ("needs supervision" + _whether(unknown), unknown)
    if terms.automated and not facts.automated:
        unknown = facts.automated is None
        yield ("needs automated enrollment" + _whether(unknown), unknown)
    if terms.right and not (facts.access_rights or 0) & RIGHTS[terms.right]:
        unknown = facts.access_rights is None
        text = f"needs the access right {terms.right} ({RIGHTS[terms.right]})"
        yield (text + _whether(unknown), unknown)


def _whether(unknown: bool) -> str:
    return "; whether there is any is not known yet" if unknown else ", and there is none"


def _channels(terms: Availability, facts: Facts) -> Iterator[Reason]:
    if facts.user_enrollment and not terms.user_enrollment:
        yield "not for devices by User Enrollment", False
    if facts.platform == "iOS":
        yield from _shared_ipad(terms, facts)
    elif facts.channel not in (terms.channels if facts.platform == "macOS" else ("device",)):
        yield f"not on the {facts.channel} channel", False


def _shared_ipad(terms: Availability, facts: Facts) -> Iterator[Reason]:
    if facts.shared_ipad:
        if not terms.shared_ipad:
            yield "not for Shared iPads", False
        elif facts.channel not in terms.shared_ipad:
            yield f"not on the {facts.channel} channel", False
    elif terms.shared_ipad_only:
        unknown = facts.shared_ipad is None
        text = "; whether it is one is not known yet" if unknown else ", and this is none"
        yield f"only for Shared iPads{text}", unknown


# -- what is left of a command ------------------------------------------------


def _fitting(
    value: Keys, keys: Mapping[str, Key], facts: Facts, known: frozenset[Reason]
) -> dict[str, object]:
    kept: dict[str, object] = {}
    for name, inner in value.items():
        key = keys.get(name)
        if key is None:
            kept[name] = inner
        elif not _stands_against(key.platforms, facts, known):
            kept[name] = _fitting_value(inner, key, facts, known)
    return kept


def _fitting_value(value: object, key: Key, facts: Facts, known: frozenset[Reason]) -> object:
    if isinstance(value, Mapping) and key.keys is not None:
        return _fitting(value, key.keys, facts, known)
    of = key.of
    if isinstance(value, list | tuple) and of is not None:
        return [each for each in value if not _unfit(each, of, facts, known)]
    return value


def _unfit(element: object, of: Key, facts: Facts, known: frozenset[Reason]) -> bool:
    if isinstance(element, Mapping):
        kind = of.kinds.get(str(element.get(of.told_by)))
        return kind is not None and _stands_against(kind.platforms, facts, known)
    if of.values and isinstance(element, str | int) and element in of.values:
        return _stands_against(of.values[element], facts, known)
    return False


def _stands_against(platforms: Platforms, facts: Facts, known: frozenset[Reason]) -> bool:
    return any(not only_warns for _, only_warns in frozenset(_reasons(platforms, facts)) - known)
