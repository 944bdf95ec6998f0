"""
Make a command's keys from what a person types: ``Queries=OSVersion,SerialNumber``.

A word is ``path=value``. A path names keys, and places in arrays from 0, with
dots between: ``Settings.0.Item=DeviceName``; a dot that belongs to a key is
written ``\\.``. What a value may be is decided by the catalogue:

* booleans: yes, no, true, false, on, off;
* dates: 2026-11-24T20:00:00Z or 2026-11-24, UTC unless they say otherwise;
* arrays: commas between; a comma that belongs to an element is written ``\\,``;
* ``@FILE``: what the file holds. For data its bytes, for a dictionary a
  property list, for an array of strings a line an element, for a string its
  text. ``@@`` begins a value that begins with ``@``;
* data in a word: ``base64:...``.

Where the catalogue does not know better: yes, no and whole numbers are taken
for what they look like, anything else is a string.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from mdmd.errors import BadRequest, MdmdError
from mdmd.mdm import plist
from mdmd.mdm.catalogue.entry import Entry, Key

ReadFile = Callable[[str], bytes]
Tree = dict[str, "Tree | str"]

MAX_DEPTH = 16
MAX_PLACE = 9_999

BOOLEANS = {
    "yes": True, "true": True, "on": True, "1": True,
    "no": False, "false": False, "off": False, "0": False,
}  # fmt: skip
_WHOLE = re.compile(r"-?(?:0|[1-9]\d{0,17})")
_DOT, _COMMA = re.compile(r"(?<!\\)\."), re.compile(r"(?<!\\),")


def build_keys(entry: Entry | None, words: Sequence[str], read: ReadFile) -> dict[str, object]:
    """
    Read ``words`` into the keys of a command, RequestType not among them.

    Whether the command is complete and its values in range is not looked at;
    see :mod:`mdmd.mdm.catalogue.check`.

    :param entry: None for a command that the catalogue does not know.
    :param read: gives the bytes of a file, by its path as typed.
    :raises BadRequest: one line for each word that can't be read.
    """
    faults: list[str] = []
    tree: Tree = {}
    for word in words:
        _take(tree, word, faults)
    if faults:
        raise BadRequest("\n".join(faults))
    reader = _Reader(read, faults)
    keys = reader.dictionary(tree, entry.keys if entry else None, "")
    if faults:
        raise BadRequest("\n".join(faults))
    return keys


def _take(tree: Tree, word: str, faults: list[str]) -> None:
    """Put one word in its place."""
    path, equals, value = word.partition("=")
    parts = [part.replace("\\.", ".") for part in _DOT.split(path)]
    if not equals or not all(parts):
        faults.append(f"{word[:60]!a}: not of the form key=value")
        return
    if len(parts) > MAX_DEPTH:
        faults.append(f"{path[:60]}: more than {MAX_DEPTH} parts")
        return
    node = tree
    for part in parts[:-1]:
        inner = node.setdefault(part, {})
        if isinstance(inner, str):
            faults.append(f"{path}: {part} has a value already, so it can't have parts")
            return
        node = inner
    if parts[-1] in node:
        faults.append(f"{path}: given twice")
        return
    node[parts[-1]] = value


class _Reader:
    """Turns the tree of words into values; what can't be turned becomes a fault."""

    def __init__(self, read: ReadFile, faults: list[str]) -> None:
        self._read = read
        self._faults = faults

    def dictionary(
        self, tree: Tree, keys: Mapping[str, Key] | None, path: str
    ) -> dict[str, object]:
        known = keys or {}
        return {
            name: self.value(
                node, known.get(name, known.get("*")), f"{path}.{name}" if path else name
            )
            for name, node in tree.items()
        }

    def value(self, node: Tree | str, key: Key | None, path: str) -> object:
        try:
            if isinstance(node, str):
                return self._word(node, key, path)
            return self._branch(node, key, path)
        except (ValueError, OSError, MdmdError) as error:
            self._faults.append(f"{path}: {_reason(error)}")
            return None

    def _branch(self, node: Tree, key: Key | None, path: str) -> object:
        kind = key.type if key else "any"
        places = all(name.isdecimal() and len(name) <= 4 for name in node)
        if kind == "array" or (kind == "any" and places):
            return self._array(node, key.of if key else None, path)
        if kind not in ("dictionary", "any"):
            raise ValueError(f"takes {a(kind)}, which has no parts")
        if key and key.told_by:
            told = node.get(key.told_by)
            key = key.kinds.get(told) if isinstance(told, str) else None
        return self.dictionary(node, key.keys if key else None, path)

    def _array(self, node: Tree, of: Key | None, path: str) -> list[object]:
        if sorted(node, key=_place) != [str(place) for place in range(len(node))]:
            raise ValueError("the places in an array are 0, 1, 2 and so on, none left out")
        return [self.value(node[str(place)], of, f"{path}.{place}") for place in range(len(node))]

    def _word(self, word: str, key: Key | None, path: str) -> object:
        kind = key.type if key else "any"
        if kind == "array":
            return self._list(word, key.of if key else None, path)
        from_file = word.startswith("@") and not word.startswith("@@")
        if from_file:
            return self._file(self._read(word[1:]), kind)
        return _PLAIN[kind](word[1:] if word.startswith("@@") else word)

    def _list(self, word: str, of: Key | None, path: str) -> list[object]:
        words = [each.replace("\\,", ",") for each in _COMMA.split(word)] if word else []
        of_text = of is None or of.type == "string"
        if len(words) == 1 and of_text and word.startswith("@") and not word.startswith("@@"):
            lines = self._read(word[1:]).decode().splitlines()
            return [line.strip() for line in lines if line.strip()]
        return [self.value(each, of, f"{path}.{place}") for place, each in enumerate(words)]

    def _file(self, content: bytes, kind: str) -> object:
        if kind in ("data", "any"):
            return content
        if kind == "dictionary":
            return plist.loads(content)
        return _PLAIN[kind](content.decode().rstrip("\r\n"))


def a(kind: str) -> str:
    """Put the article before the name of a type."""
    return {"integer": "an integer", "array": "an array", "data": "data", "any": "anything"}.get(
        kind, f"a {kind}"
    )


def _place(name: str) -> int:
    return int(name) if name.isdecimal() and len(name) <= 4 else MAX_PLACE + 1


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "the file is not UTF-8 text"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _integer(word: str) -> int:
    if not _WHOLE.fullmatch(word):
        raise ValueError(f"takes an integer, not {word[:40]!a}")
    return int(word)


def _real(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"takes a number, not {word[:40]!a}") from None


def _boolean(word: str) -> bool:
    value = BOOLEANS.get(word.casefold())
    if value is None:
        raise ValueError(f"takes yes or no, not {word[:40]!a}")
    return value


def _date(word: str) -> datetime:
    try:
        value = datetime.fromisoformat(word)
    except ValueError:
        raise ValueError(f"takes a date such as 2026-11-24T20:00:00Z, not {word[:40]!a}") from None
    return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value


def _data(word: str) -> bytes:
    if not word.startswith("base64:"):
        raise ValueError("takes data: @FILE, or base64:...")
    try:
        return base64.b64decode(word.removeprefix("base64:"), validate=True)
    except binascii.Error:
        raise ValueError("what follows base64: is not base64") from None


def _dictionary(_: str) -> object:
    raise ValueError("takes a dictionary: give its keys as key.part=value, or a plist as @FILE")


def _guess(word: str) -> object:
    if word.casefold() in ("yes", "true", "no", "false"):
        return BOOLEANS[word.casefold()]
    return int(word) if _WHOLE.fullmatch(word) else word


_PLAIN: dict[str, Callable[[str], object]] = {
    "string": str,
    "integer": _integer,
    "real": _real,
    "boolean": _boolean,
    "date": _date,
    "data": _data,
    "dictionary": _dictionary,
    "any": _guess,
}
