"""One call of the API: what was asked, which route it takes, and how an answer is spelled."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes

import attrs

from mdmd.errors import BadRequest
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.web.respond import Answer

PAGE = 100
LARGEST_PAGE = 1000

_LIMIT = re.compile("[0-9]{1,6}", re.ASCII)
_EVENT_ID = re.compile("[0-9]{1,18}(-[0-9]{1,18})?", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?", re.ASCII)


@attrs.frozen
class Call:
    """One request of an integrator."""

    method: str
    path: dict[str, str]  # by the names in the route
    query: dict[bytes, list[bytes]]
    body: bytes = attrs.field(repr=False)

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

    def ids(self) -> list[str]:
        """Give the ids of the path, trimmed, each once."""
        ids = (each.strip() for each in self.path["ids"].split(","))
        return list(dict.fromkeys(each for each in ids if each))

    def enrollment(self) -> EnrollmentID:
        """
        Give the one id of the path.

        :raises BadMessage: it is none.
        """
        return EnrollmentID.parse(self.path["id"])


@attrs.frozen
class Route:
    """Methods and a path, ``{name}`` for a part that varies; ``act`` names it in the audit."""

    methods: tuple[str, ...]
    path: str
    call: Callable[[Any, Call], Awaitable[Answer]]
    open: bool = False  # without the key
    act: str = ""  # a plain read is not audited

    def match(self, parts: list[str]) -> dict[str, str] | None:
        """Give the parts that vary by name, None if this is not the path."""
        template = self.path.split("/")[1:]
        if len(template) != len(parts):
            return None
        named = {}
        for wanted, part in zip(template, parts, strict=True):
            if wanted.startswith("{"):
                named[wanted[1:-1]] = part
            elif wanted != part:
                return None
        return named


def matching(routes: tuple[Route, ...], path: bytes) -> list[tuple[Route, dict[str, str]]]:
    """Find the routes of a path; an escaped slash is part of a name."""
    try:
        parts = [unquote_to_bytes(part).decode() for part in path.split(b"/")[1:]]
    except UnicodeDecodeError:
        return []
    matches = ((route, route.match(parts)) for route in routes)
    return [(route, named) for route, named in matches if named is not None]


def json_answer(value: object, status: int = 200) -> Answer:
    """Answer with JSON."""
    return Answer(*spell(value), status)


def spell_error(text: str) -> tuple[bytes, str]:
    """Spell an error as NanoMDM does: body and content type."""
    return spell({"error": text})


def spell(value: object) -> tuple[bytes, str]:
    """Spell a value as NanoMDM does, indented with tabs: body and content type."""
    text = json.dumps(value, indent="\t", ensure_ascii=False) + "\n"
    return text.encode("utf-8", "replace"), "application/json; charset=utf-8"
