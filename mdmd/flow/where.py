"""
The little language of ``--where``: which enrollments are meant, by what is known of them.

    os<18 and model~iPad and last_seen>7d
    platform=macOS and not (supervised or owner="Jane Doe")

It has comparisons, ``and``, ``or``, ``not`` and brackets, and no more: it reads
fields of one enrollment and answers yes or no. docs/targets.md is for those who
type it.
"""

import operator
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, NoReturn, Protocol

import attrs

from mdmd.errors import BadRequest
from mdmd.mdm.catalogue.facts import parse_version
from mdmd.mdm.catalogue.load import nearest, need

MAX_LENGTH = 1_000  # characters
MAX_DEPTH = 20  # brackets and nots inside one another
MAX_TERMS = 100

Scalar = str | int | float | bool | datetime  # datetimes have a zone
Field = Scalar | list[str] | None
Fields = Mapping[str, Field]


class Condition(Protocol):
    """A parsed expression, or a part of one."""

    def matches(self, fields: Fields, now: datetime) -> bool:
        """Say whether it holds. A field that is not known holds for no comparison but ``!=``."""

    def names(self) -> set[str]:
        """Name the fields it reads."""


@attrs.frozen
class _Every:
    parts: tuple[Condition, ...]

    def matches(self, fields: Fields, now: datetime) -> bool:
        return all(part.matches(fields, now) for part in self.parts)

    def names(self) -> set[str]:
        return {name for part in self.parts for name in part.names()}


@attrs.frozen
class _Any:
    parts: tuple[Condition, ...]

    def matches(self, fields: Fields, now: datetime) -> bool:
        return any(part.matches(fields, now) for part in self.parts)

    def names(self) -> set[str]:
        return {name for part in self.parts for name in part.names()}


@attrs.frozen
class _Not:
    part: Condition

    def matches(self, fields: Fields, now: datetime) -> bool:
        return not self.part.matches(fields, now)

    def names(self) -> set[str]:
        return self.part.names()


@attrs.frozen
class _Known:
    """A field by itself: it is known, and it is not no."""

    name: str

    def matches(self, fields: Fields, _: datetime) -> bool:
        return bool(fields.get(self.name))

    def names(self) -> set[str]:
        return {self.name}


@attrs.frozen
class _Compare:
    name: str
    sign: str
    value: str

    def matches(self, fields: Fields, now: datetime) -> bool:
        field = fields.get(self.name)
        each = field if isinstance(field, list) else [field]
        if self.sign in _NEGATED:
            return not any(_holds(one, _NEGATED[self.sign], self.value, now) for one in each)
        return any(_holds(one, self.sign, self.value, now) for one in each)

    def names(self) -> set[str]:
        return {self.name}


# The fields with names of ours; besides them, every inventory field has Apple's name.
FIELDS = {
    "id": "enrollment id",
    "type": "Device, User, Shared iPad, User Enrollment or User Enrollment (Device)",
    "platform": "iOS, macOS, tvOS, visionOS or watchOS",
    "os": "version of the system",
    "build": "build of the system",
    "model": "name or number of the model",
    "serial": "serial number",
    "name": "the name that you gave the device, or else its own",
    "owner": "free text of yours",
    "location": "free text of yours",
    "notes": "free text of yours",
    "group": "groups that the enrollment is in",
    "enabled": "can be pushed to",
    "supervised": "as the device says",
    "awaiting": "waits for us in Setup Assistant",
    "enrolled": "when it enrolled",
    "last_seen": "when it last connected",
    "pending": "number of commands in the queue",
    "topic": "push topic",
    "app": "bundle identifiers and names of installed apps",
    "profile": "identifiers of installed profiles",
}


def is_field(name: str) -> bool:
    """
    Say whether there is a field of this name: one of FIELDS, or one that may be Apple's.

    Nobody knows all of Apple's; but one that differs from a known name by its
    capitals only is a slip, and ``not Supervised`` would mean the whole fleet.
    """
    known = _by_fold().get(name.casefold(), {name})
    return name in known and (name in FIELDS or name[0].isupper() or name.startswith("iTunes"))


def _meant(name: str) -> str:
    known = _by_fold().get(name.casefold())
    return nearest(name, sorted(known or FIELDS))


@cache
def _by_fold() -> dict[str, set[str]]:
    """Give the names that are known, ours and Apple's, by how they are in small letters."""
    asked = need("DeviceInformation").keys["Queries"].of
    assert asked is not None
    found: dict[str, set[str]] = {}
    for name in (*FIELDS, *map(str, asked.values or ())):
        found.setdefault(name.casefold(), set()).add(name)
    return found


def parse(text: str) -> Condition:
    """
    Read an expression.

    :raises BadRequest: what is wrong, in one line, and below it where.
    """
    if len(text) > MAX_LENGTH:
        raise BadRequest(f"the expression is longer than {MAX_LENGTH} characters")
    parser = _Parser(text)
    condition = parser.any_of(0)
    parser.end()
    return condition


# -- reading ------------------------------------------------------------------

_TOKEN = re.compile(
    r"""\s*(?: (?P<sign> !=|!~|<=|>=|==|=|<|>|~ )
             | (?P<bracket> [()] )
             | "(?P<double> [^"]* )" | '(?P<single> [^']* )'
             | (?P<word> [^\s"'()=<>~!\x00-\x1f]+ ) )""",
    re.VERBOSE,
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,99}")
_NEGATED = {"!=": "=", "!~": "~"}


@attrs.frozen
class _Token:
    kind: str  # sign, bracket, quoted, word; "" at the end
    text: str
    start: int

    def is_word(self, word: str) -> bool:
        return self.kind == "word" and self.text.casefold() == word

    def __str__(self) -> str:
        return self.text or "the end"


class _Parser:
    """Recursive descent, one token ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._terms = 0
        self._token = self._read()

    def any_of(self, depth: int) -> Condition:
        parts = [self._every(depth)]
        while self._token.is_word("or"):
            self._next()
            parts.append(self._every(depth))
        return parts[0] if len(parts) == 1 else _Any(tuple(parts))

    def end(self) -> None:
        if self._token.kind:
            self._fail(f"'and' or 'or' is needed before {self._token}")

    def _every(self, depth: int) -> Condition:
        parts = [self._one(depth)]
        while self._token.is_word("and"):
            self._next()
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else _Every(tuple(parts))

    def _one(self, depth: int) -> Condition:
        if depth > MAX_DEPTH:
            self._fail(f"more than {MAX_DEPTH} brackets and nots inside one another")
        if self._token.is_word("not"):
            self._next()
            return _Not(self._one(depth + 1))
        if self._token.text == "(" and self._token.kind == "bracket":
            opened = self._next()
            inside = self.any_of(depth + 1)
            if self._token.text != ")":
                self._fail("this bracket is never closed", opened)
            self._next()
            return inside
        return self._comparison()

    def _comparison(self) -> Condition:
        self._terms += 1
        if self._terms > MAX_TERMS:
            self._fail(f"more than {MAX_TERMS} comparisons")
        name = self._field()
        if self._token.kind != "sign":
            return _Known(name)
        sign = self._next().text
        if self._token.kind not in ("word", "quoted") or self._is_reserved():
            self._fail(f"a value is needed after {sign}")
        wanted = _wanted(name, sign, self._token.text)
        if wanted:
            self._fail(f"{name} {sign} takes {wanted}, not {self._token}")
        value = self._next().text
        return _Compare(name, "=" if sign == "==" else sign, value)

    def _field(self) -> str:
        token = self._token
        if token.kind != "word" or self._is_reserved() or not _NAME.fullmatch(token.text):
            self._fail(f"the name of a field is needed, not {token}")
        if not is_field(token.text):
            self._fail(f"there is no field {token}{_meant(token.text)}")
        return self._next().text

    def _is_reserved(self) -> bool:
        return any(self._token.is_word(word) for word in ("and", "or", "not"))

    def _next(self) -> _Token:
        token, self._token = self._token, self._read()
        return token

    def _read(self) -> _Token:
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            rest = self._text[self._at :]
            start = self._at + len(rest) - len(rest.lstrip())
            if rest.strip():
                what = (
                    "this quote is never closed" if rest.strip()[0] in "\"'" else "this is no word"
                )
                self._fail(what, _Token("", rest.strip()[0], start))
            return _Token("", "", len(self._text))
        self._at = found.end()
        kind = str(found.lastgroup)
        quoted = kind in ("double", "single")
        start = found.start(kind) - quoted
        return _Token("quoted" if quoted else kind, found[kind], start)

    def _fail(self, what: str, token: _Token | None = None) -> NoReturn:
        start = (token or self._token).start
        shown = "".join(each if each.isprintable() else " " for each in self._text)
        raise BadRequest(f"{what}\n  {shown}\n  {' ' * start}^")


# -- comparing ------------------------------------------------------------------

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_AGE = re.compile(r"(\d{1,9})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_NUMBER = re.compile(r"-?\d{1,18}(?:\.\d{1,18})?")
_VERSION = re.compile(r"\d{1,5}(?:\.\d{1,5}){0,3}")
_BOOLEANS = {"yes": True, "true": True, "no": False, "false": False}


_ORDERS = frozenset(_ORDER) - {"="}
_TIMES = frozenset({"enrolled", "last_seen"})
_SWITCHES = frozenset({"enabled", "supervised", "awaiting"})
_VERSIONS = frozenset({"os", "OSVersion"})


def _wanted(name: str, sign: str, value: str) -> str:
    """
    Say what a field is compared with, if it is not with this; "" if it may be.

    By the alphabet every version is less than a word: a slip would mean the
    whole fleet.
    """
    if sign in ("~", "!~"):
        return ""
    if name in _SWITCHES:
        good, wanted = value.casefold() in _BOOLEANS and sign not in _ORDERS, "yes or no, with ="
    elif name in _TIMES:
        good, wanted = _is_time(value), "an age such as 7d, or a date such as 2026-01-01"
    elif name == "pending":
        good, wanted = bool(_NUMBER.fullmatch(value)), "a number"
    elif name in _VERSIONS and sign in _ORDERS:
        good, wanted = bool(_VERSION.fullmatch(value)), "a version such as 18.1"
    else:
        return ""
    return "" if good else wanted


def _is_time(value: str) -> bool:
    if _AGE.fullmatch(value):
        return True
    try:
        return bool(datetime.fromisoformat(value))
    except ValueError:
        return False


def _holds(field: Field, sign: str, value: str, now: datetime) -> bool:
    if field is None or isinstance(field, list):
        return False
    if sign == "~":
        return value.casefold() in _text(field).casefold()
    pair = _comparable(field, value, now)
    return pair is not None and _ORDER[sign](*pair)


def _comparable(field: Scalar, value: str, now: datetime) -> tuple[Any, Any] | None:
    """Put what is known and what was typed on one scale; None: they have none in common."""
    if isinstance(field, bool):
        return None if value.casefold() not in _BOOLEANS else (field, _BOOLEANS[value.casefold()])
    if isinstance(field, datetime):
        return _times(field, value, now)
    if isinstance(field, int | float):
        return (field, float(value)) if _NUMBER.fullmatch(value) else None
    if _VERSION.fullmatch(value) and _VERSION.fullmatch(field.partition(" ")[0]):
        return parse_version(field), parse_version(value)
    return field.casefold(), value.casefold()


def _times(field: datetime, value: str, now: datetime) -> tuple[Any, Any] | None:
    """An age is compared with the time since; a date with the time itself."""
    age = _AGE.fullmatch(value)
    if age is not None:
        return (now - field).total_seconds(), int(age[1]) * _SECONDS[age[2]]
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return field, moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _text(field: Scalar) -> str:
    if isinstance(field, bool):
        return "yes" if field else "no"
    return field.isoformat() if isinstance(field, datetime) else str(field)
