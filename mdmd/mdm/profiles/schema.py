"""
What Apple's schema says of each payload, and a walk that holds values against it.

The facts are of October 2024: a key or value that they don't know may be newer, so
that is a warning; a wrong type or a missing required key is an error.

Source: https://github.com/apple/device-management, ``mdm/profiles``; its licence
is beside ``facts.json``.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

import attrs

Payload = Mapping[str, object]

_ANY = "ANY"  # a key of this name stands for any name
_OURS = "com.apple."


@attrs.frozen
class Finding:
    """
    One thing that is wrong with a profile.

    :ivar path: the key, such as ``PayloadContent[1].Topic``; "" is the whole file.
    :ivar code: a word for programs, never changed.
    :ivar warning: a device may take it all the same.
    """

    path: str
    code: str
    text: str
    warning: bool = False


@attrs.frozen
class Key:
    """What is known of one key."""

    key: str
    type: str  # string, integer, real, boolean, date, data, array, dictionary, any
    required: bool = False
    rangelist: Sequence[object] = ()
    range: Mapping[str, float] = attrs.field(factory=dict)
    format: str = ""
    recurse: str = ""  # the key whose children repeat at this place
    keys: tuple["Key", ...] = ()


def _key(facts: Mapping[str, object]) -> Key:
    inside = facts.get("keys", ())
    assert isinstance(inside, list | tuple)
    return Key(**{**facts, "keys": tuple(map(_key, inside))})  # type: ignore[arg-type]


# Apple's schema no longer has it, but tools have written it into every payload for years.
_ENABLED = Key("PayloadEnabled", "boolean")


@attrs.frozen
class Schema:
    """Everything that is known."""

    envelope: tuple[Key, ...]
    common: tuple[Key, ...]
    payloads: Mapping[str, tuple[Key, ...]]


@cache
def schema() -> Schema:
    """Read the facts, once."""
    text = (files("mdmd.mdm.profiles") / "facts.json").read_text()
    facts = json.loads(text)
    return Schema(
        (*map(_key, facts["envelope"]), _ENABLED),
        (*map(_key, facts["common"]), _ENABLED),
        {kind: tuple(map(_key, keys)) for kind, keys in facts["payloads"].items()},
    )


def check_envelope(profile: Payload) -> Iterator[Finding]:
    """Hold the top level of a profile against the schema; payloads are not looked into."""
    yield from _dictionary(profile, schema().envelope, "", ())


def check_payload(payload: Payload, path: str) -> Iterator[Finding]:
    """Hold one payload against the schema, if its type is known."""
    known, kind = schema(), payload.get("PayloadType")
    yield from _dictionary(payload, known.common, path, (), closed=False)
    keys = known.payloads.get(kind) if isinstance(kind, str) else None
    if keys is not None:
        yield from _dictionary(payload, (*known.common, *keys), path, (), missing=keys)
    elif isinstance(kind, str) and kind.startswith(_OURS):
        close = get_close_matches(kind, known.payloads, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        yield Finding(
            _join(path, "PayloadType"), "unknown-payload", f"Apple has no {kind}{hint}", True
        )


def _dictionary(
    values: Payload,
    keys: tuple[Key, ...],
    path: str,
    around: tuple[Key, ...],
    closed: bool = True,
    missing: tuple[Key, ...] | None = None,
) -> Iterator[Finding]:
    """
    Check a dict.

    :param closed: a key that is not known is worth a warning, and values are looked at.
    :param missing: those that may be required; ``keys`` by default.
    """
    names = {each.key: each for each in keys}
    wild = next((each for each in keys if each.key.startswith(_ANY)), None)
    for each in keys if missing is None else missing:
        if each.required and each.key not in values and each is not wild:
            yield Finding(_join(path, each.key), "missing", "is required and not there")
    if not closed:
        return
    for name, value in values.items():
        where = _join(path, name)
        known = names.get(name, wild)
        if known is not None:
            yield from _value(value, known, where, around)
        elif keys:
            close = get_close_matches(name, names, n=1, cutoff=0.8)
            hint = f"; did you mean {close[0]}?" if close else ""
            yield Finding(where, "unknown-key", f"this payload has no such key{hint}", True)


def _value(value: object, known: Key, path: str, around: tuple[Key, ...]) -> Iterator[Finding]:
    if not _is(value, known.type):
        text = f"is {_name(value)}, and should be {_ARTICLE[known.type]}"
        yield Finding(path, "wrong-type", text)
        return
    yield from _range(value, known, path)
    keys = known.keys or next((each.keys for each in around if each.key == known.recurse), ())
    around = (*around, known)
    if isinstance(value, dict) and keys:
        yield from _dictionary(value, keys, path, around)
    if isinstance(value, list) and keys:
        for number, each in enumerate(value):
            yield from _element(each, keys, f"{path}[{number}]", around)


def _element(
    value: object, kinds: tuple[Key, ...], path: str, around: tuple[Key, ...]
) -> Iterator[Finding]:
    """Check an element of an array, which may be of several kinds."""
    fitting = [each for each in kinds if _is(value, each.type)]
    yield from _value(value, (fitting or kinds)[0], path, around)


def _range(value: object, known: Key, path: str) -> Iterator[Finding]:
    if known.rangelist and not isinstance(value, list | dict) and value not in known.rangelist:
        choices = ", ".join(map(str, known.rangelist))
        yield Finding(path, "value", f"is {value!r}; Apple knows {choices}", True)
    if known.range and isinstance(value, int | float):
        least = known.range.get("min", value)
        most = known.range.get("max", value)
        if not least <= value <= most:
            yield Finding(path, "range", f"is {value}, outside of {least} to {most}")
    if known.format and isinstance(value, str) and not re.search(known.format, value):
        yield Finding(path, "format", f"{value!r} is not of the form that it should have")


_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "real": (float, int),
    "boolean": (bool,),
    "date": (datetime,),
    "data": (bytes,),
    "array": (list,),
    "dictionary": (dict,),
}
_ARTICLE = {
    "string": "a string",
    "integer": "an integer",
    "real": "a number",
    "boolean": "a boolean",
    "date": "a date",
    "data": "data",
    "array": "an array",
    "dictionary": "a dictionary",
}


def _is(value: object, kind: str) -> bool:
    if kind == "any":
        return True
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


def _name(value: object) -> str:
    for kind, article in _ARTICLE.items():
        if _is(value, kind):
            return article
    return "something else"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
