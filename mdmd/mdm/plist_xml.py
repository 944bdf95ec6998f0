"""
XML property lists from the root element on, read by expat.

The caller has dealt with the prolog, so expat never meets a document type: no
entity but XML's own five is defined, and nothing external is ever asked for.

Speed: text is appended to a list by expat itself, without a call of Python
code, and looked at when the next tag comes.
"""

import re
from binascii import a2b_base64
from collections.abc import Callable, Collection
from datetime import datetime
from xml.parsers import expat

from mdmd.errors import BadMessage

# After a refusal expat goes on to the end of what it was given, so it is given
# no more than this at once: what it keeps for tags left open stays small.
_PIECE = 256 << 10

_BLANK = " \t\r\n"
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}|0[xX][0-9a-fA-F]{1,16}")
_REAL = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,5})?|[+-]?inf(?:inity)?|nan",
    re.IGNORECASE,
)
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z")


def read(
    body: bytes, start: int, depth: int, keys: Collection[str] | None = None
) -> dict[str, object]:
    """
    Read the plist whose root element begins at ``start``.

    :param keys: convert only the values of these keys of the top dict; those of
        the rest come out as anything.
    :raises BadMessage: it is not exactly one plist with a dict at the top.
    """
    reader = _Reader(depth, keys)
    parser = expat.ParserCreate("UTF-8")
    parser.buffer_text = True
    parser.StartElementHandler = reader.open
    parser.EndElementHandler = reader.close
    parser.CharacterDataHandler = reader.pieces.append
    try:
        while len(body) - start > _PIECE:
            parser.Parse(body[start : start + _PIECE], False)
            start += _PIECE
        parser.Parse(body[start:], True)
    except expat.ExpatError as error:
        raise BadMessage(f"not well-formed XML: {error}") from None
    if reader.top is None:
        raise _bad("its top is not a dict")
    return reader.top


class _Reader:
    """What expat calls. A leaf is a value without elements in it, or a key."""

    __slots__ = ("current", "depth", "key", "keys", "leaf", "pieces", "skipping", "stack", "top")

    def __init__(self, depth: int, keys: Collection[str] | None) -> None:
        self.depth = depth
        self.keys = keys
        self.skipping = False  # below a key that nobody asked for
        self.pieces: list[str] = []  # the text since the last tag
        self.leaf = False  # inside of one
        self.stack: list[dict[str, object] | list[object] | None] = []  # None: in <plist> only
        self.current: dict[str, object] | list[object] | None = None
        self.key: str | None = None  # waits for its value
        self.top: dict[str, object] | None = None

    def open(self, tag: str, _: object) -> None:
        """An element begins."""
        if self.pieces:
            self._between()
        if self.leaf:
            raise _bad("an element inside a value")
        if tag in LEAVES:
            if self.current is None:
                raise _bad("its top is not a dict")
            self.leaf = True
        elif tag == "dict":
            self._enter({})
        elif tag == "array":
            self._enter([])
        elif tag == "plist" and not self.stack:
            self.stack.append(None)
        else:
            raise _bad("an element that is none of its own")

    def close(self, tag: str) -> None:
        """An element ends; expat has checked that it is the open one."""
        if self.leaf:
            self.leaf = False
            pieces = self.pieces
            text = pieces[0] if len(pieces) == 1 else "".join(pieces)
            pieces.clear()
            if tag == "key":
                self._name(text)
            elif tag == "string" or self.skipping:
                self._put(text)
            else:
                self._put(LEAVES[tag](text))
            return
        if self.pieces:
            self._between()
        if self.key is not None:
            raise _bad("a key without a value")
        self.stack.pop()
        self.current = self.stack[-1] if self.stack else None

    def _between(self) -> None:
        if "".join(self.pieces).strip(_BLANK):
            raise _bad("text outside of a value")
        self.pieces.clear()

    def _enter(self, inner: dict[str, object] | list[object]) -> None:
        if self.current is not None:
            self._put(inner)
        elif self.top is None and self.stack and isinstance(inner, dict):
            self.top = inner
        else:
            raise _bad("its top is not one dict")
        if len(self.stack) > self.depth:
            raise _bad("nested too deep")
        self.stack.append(inner)
        self.current = inner

    def _name(self, text: str) -> None:
        current = self.current
        if self.key is not None or type(current) is not dict:
            raise _bad("a key in the wrong place")
        if len(self.stack) == 2:
            self.skipping = self.keys is not None and text not in self.keys
            if text in current:
                raise _bad("a key twice in its dict")
        elif text in current and not self.skipping:
            raise _bad("a key twice in its dict")
        self.key = text

    def _put(self, value: object) -> None:
        current = self.current
        if type(current) is dict:
            if self.key is None:
                raise _bad("a value without a key")
            current[self.key] = value
            self.key = None
        else:
            current.append(value)  # type: ignore[union-attr]


def _bad(why: str) -> BadMessage:
    return BadMessage(f"not a property list: {why}")


def _integer(text: str) -> int:
    text = text.strip(_BLANK)
    if _INTEGER.fullmatch(text):
        value = int(text, 16 if text[:2] in ("0x", "0X") else 10)
        if -(1 << 63) <= value < 1 << 64:
            return value
    raise _bad("an integer that is none, or too large")


def _real(text: str) -> float:
    text = text.strip(_BLANK)
    if _REAL.fullmatch(text):
        return float(text)
    raise _bad("a real number that is none")


def _date(text: str) -> datetime:
    match = _DATE.fullmatch(text.strip(_BLANK))
    if match:
        try:
            return datetime(*map(int, match.groups()))  # type: ignore[arg-type]
        except ValueError:
            pass
    raise _bad("a date that is none")


def _data(text: str) -> bytes:
    try:
        return a2b_base64(text.encode("ascii").translate(None, b" \t\r\n"), strict_mode=True)
    except ValueError:
        raise _bad("data that is not base64") from None


def _true(text: str) -> bool:
    return not _false(text)


def _false(text: str) -> bool:
    if text:
        raise _bad("a boolean with something in it")
    return False


# How to read the text of each element that has no elements in it.
LEAVES: dict[str, Callable[[str], object]] = {
    "string": str,
    "key": str,
    "integer": _integer,
    "true": _true,
    "false": _false,
    "data": _data,
    "date": _date,
    "real": _real,
}
