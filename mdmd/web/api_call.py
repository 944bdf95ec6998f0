"""One call of the API: what was asked, which route it takes, and how an answer is spelled."""

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes

import attrs

from mdmd.errors import BadRequest, MdmdError, NotHere
from mdmd.interfaces.audit import on_some
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.web.respond import Answer, text_of

JSON = "application/json; charset=utf-8"
PAGE = 100
LARGEST_PAGE = 1000

_TOLD = ("request_type", "command_uuid", "topic")  # what an audit may say of an answer
_IDS = "ids"  # the part of a path that may name thousands
_LONGEST_PART = 8192  # bytes of any other; an id with everything escaped is shorter
_PIECE = 32 * 1024  # bytes of a list of ids that are read at a time
_COMMA = re.compile(b",|%2[Cc]")
_NO_TEXT = re.compile("[\udc80-\udcff]")  # what decoding could make nothing of
_LIMIT = re.compile("[0-9]{1,6}", re.ASCII)
_EVENT_ID = re.compile("[0-9]{1,18}(-[0-9]{1,18})?", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?", re.ASCII)


@attrs.define
class Noted:
    """
    What a call and its answer have in them that the audit is to know of.

    :ivar is_secret: messages as devices sent them: nobody knows what is in there.
    """

    is_secret: bool = False
    enrollments: tuple[str, ...] = ()
    facts: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Call:
    """
    One request of an integrator.

    :ivar path: the parts that vary, by their names in the route.
    :ivar ids: those of a path that may name several, trimmed, each once.
    :ivar besides: what the answer says too if this fails, at a path of NanoMDM's.
    """

    method: str
    path: dict[str, str]
    query: dict[bytes, list[bytes]]
    body: bytes = attrs.field(repr=False)
    ids: list[str] = attrs.field(factory=list)
    noted: Noted = attrs.field(factory=Noted, eq=False)
    besides: dict[str, object] = attrs.field(factory=dict, eq=False)

    def note_secret(self, enrollments: Iterable[str], **facts: str) -> None:
        """Note that messages of these enrollments go out as they came."""
        named, more = on_some(enrollments)
        self.noted.is_secret = True
        self.noted.enrollments = named
        self.noted.facts = facts | more

    def text(self, name: str, default: str = "") -> str:
        """Give a query parameter; of several the first."""
        values = self.query.get(name.encode(), [])
        try:
            return values[0].decode() if values else default
        except UnicodeDecodeError:
            raise BadRequest(f"{name} is not UTF-8") from None

    def flag(self, name: str) -> bool:
        """Say whether a query parameter is there and means yes."""
        return self.text(name).lower() not in ("", "0", "false", "no")

    def limit(self) -> int:
        """Give the size of a page."""
        text = self.text("limit", str(PAGE))
        if not _LIMIT.fullmatch(text) or not 1 <= int(text) <= LARGEST_PAGE:
            raise BadRequest(f"limit is a number from 1 to {LARGEST_PAGE}")
        return int(text)

    def seconds(self, name: str, most: float) -> float:
        """Give a query parameter that is a time in seconds; 0 if it is not there."""
        text = self.text(name, "0")
        if not _SECONDS.fullmatch(text) or float(text) > most:
            raise BadRequest(f"{name} is a number of seconds, {most:g} at most")
        return float(text)

    def event_id(self, name: str) -> str:
        """Give a query parameter that is an event's id; "0" if it is not there."""
        text = self.text(name, "0")
        if not _EVENT_ID.fullmatch(text):
            raise BadRequest(f"{name} is an event's id, such as 1764016000000-0")
        return text

    def form(self) -> dict[str, str]:
        """
        Give the fields of a form in the body; of several the first.

        :raises BadRequest: it can't be read.
        """
        try:
            body = parse_qs(self.body.decode(), keep_blank_values=True, max_num_fields=100)
        except ValueError:
            raise BadRequest("the body is no form") from None
        return {name: values[0] for name, values in body.items()}

    def enrollment(self) -> EnrollmentID:
        """
        Give the one id of the path.

        :raises BadMessage: it is none.
        """
        return EnrollmentID.parse(self.path["id"])


@attrs.frozen
class Fails:
    """
    How NanoMDM says, at a path that it has, that a call failed: 500, in a field of that path.

    :ivar faults: the errors that are 400 there.
    Source: NanoMDM's http/api and api: whatever its storage or a push says is a 500.
    """

    field: str = "error"
    faults: tuple[type[MdmdError], ...] = ()

    def status(self, error: BaseException) -> int:
        """Say which of the two an error is."""
        return 400 if isinstance(error, self.faults) else 500

    def spell(
        self, error: BaseException, besides: Mapping[str, object] | None = None
    ) -> tuple[int, bytes, str]:
        """Spell an error: status, body and content type."""
        body, content_type = spell({self.field: text_of(error), **(besides or {})})
        return self.status(error), body, content_type


@attrs.frozen
class Route:
    """
    Methods and a path, ``{name}`` for a part that varies.

    :ivar act: names it in the audit: each call of it is there.
    :ivar reads: names it there too, but only an answer with a secret in it is.
    :ivar fails: of a path that NanoMDM has, how it says that a call failed.
    """

    methods: tuple[str, ...]
    path: str
    call: Callable[[Any, Call], Awaitable[Answer]]
    open: bool = False  # without the key
    act: str = ""
    reads: str = ""
    fails: Fails | None = None

    def match(self, parts: list[bytes]) -> dict[str, bytes] | None:
        """Give the parts that vary by name, still escaped; None if this is not the path."""
        template = self.path.split("/")[1:]
        if template[-1] == f"{{{_IDS}}}" and len(parts) > len(template):
            # A slash in an id, and somebody did not escape it: NanoMDM takes that.
            at = len(template) - 1
            parts = [*parts[:at], b"/".join(parts[at:])]
        if len(template) != len(parts):
            return None
        named = {}
        for wanted, part in zip(template, parts, strict=True):
            if wanted.startswith("{"):
                named[wanted[1:-1]] = part
            elif len(part) > _LONGEST_PART or wanted.encode() != unquote_to_bytes(part):
                return None
        return named


def matching(routes: tuple[Route, ...], path: bytes) -> list[tuple[Route, dict[str, bytes]]]:
    """Find the routes of a path; an escaped slash is part of a name."""
    parts = path.split(b"/")[1:]
    matches = ((route, route.match(parts)) for route in routes)
    return [(route, named) for route, named in matches if named is not None]


def read_path(named: Mapping[str, bytes]) -> dict[str, str]:
    """
    Read the parts of a path that vary, but for the one with many ids.

    :raises NotHere: nothing can be named so.
    """
    return {name: _unescape(part) for name, part in named.items() if name != _IDS}


def read_ids(named: Mapping[str, bytes]) -> Iterator[list[str]]:
    """
    Read the ids of a path, trimmed, some at a time: a megabyte of them is no short work.

    What is no UTF-8 stays escaped, and so is the id of nobody; the others are good all the same.
    """
    part, at = named.get(_IDS, b""), 0
    while at < len(part):
        comma = _COMMA.search(part, at + _PIECE)
        end, following = comma.span() if comma else (len(part), len(part))
        text = unquote_to_bytes(part[at:end]).decode("utf-8", "surrogateescape")
        ids = (each.strip() for each in _NO_TEXT.sub(_escape, text).split(","))
        yield [each for each in ids if each]
        at = following


def _escape(byte: re.Match[str]) -> str:
    return f"%{ord(byte[0]) & 0xFF:02X}"


def _unescape(part: bytes) -> str:
    try:
        if len(part) <= _LONGEST_PART:
            return unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        pass
    raise NotHere("no such path")


def json_answer(value: Mapping[str, object], status: int = 200) -> Answer:
    """Answer with JSON."""
    return Answer(*spell(value), status, told=told(value))


def told(value: Mapping[str, object]) -> dict[str, str]:
    """Take out of an answer what an audit may say of it; nothing in there is a secret."""
    return {key: str(value[key]) for key in _TOLD if key in value}


def spell_error(text: str) -> tuple[bytes, str]:
    """Spell an error as NanoMDM does: body and content type."""
    return spell({"error": text})


def spell(value: object) -> tuple[bytes, str]:
    """Spell a value as NanoMDM does, indented with tabs: body and content type."""
    text = json.dumps(value, indent="\t", ensure_ascii=False) + "\n"
    return text.encode("utf-8", "replace"), JSON
