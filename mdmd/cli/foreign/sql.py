"""
Rows out of a dump of MySQL or PostgreSQL, without a database.

Understood are ``INSERT INTO`` (with or without the names of columns, several
rows in one) and PostgreSQL's ``COPY … FROM stdin``. Everything else is passed over.
"""

import re
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

from mdmd.errors import BadRequest

Row = dict[str, bytes | None]

_NAME = rb'(?:[`"]?\w+[`"]?\.)?[`"]?(\w+)[`"]?'
_STATEMENT = re.compile(
    rb"^(?:INSERT (?:IGNORE )?INTO " + _NAME + rb"\s*(?:\(([^)]*)\))?\s*VALUES\s*"
    rb"|COPY " + _NAME + rb"\s*\(([^)]*)\) FROM stdin;\r?\n"
    rb"|CREATE TABLE (?:IF NOT EXISTS )?" + _NAME + rb"\s*\()",
    re.MULTILINE | re.IGNORECASE,
)
_COLUMN = re.compile(rb'^\s*[`"]?(\w+)[`"]?\s+\w', re.ASCII)
_NO_COLUMN = {b"PRIMARY", b"UNIQUE", b"KEY", b"CONSTRAINT", b"CHECK", b"FOREIGN", b"INDEX"}
_VALUE = re.compile(
    rb"\s*(?:(NULL)|(?:_binary\s+)?(E?)'((?:[^'\\]|\\.|'')*)'(?:::\w+)?"
    rb"|0x([0-9A-Fa-f]+)|X'([0-9A-Fa-f]*)'|(-?[\w.]+))\s*",
    re.DOTALL | re.IGNORECASE,
)
_PLAIN_VALUE = re.compile(  # PostgreSQL: a backslash is a backslash
    rb"\s*(?:(NULL)|()'((?:[^']|'')*)'(?:::\w+)?|0x([0-9A-Fa-f]+)|X'([0-9A-Fa-f]*)'|(-?[\w.]+))\s*",
    re.DOTALL | re.IGNORECASE,
)
_ESCAPE = re.compile(rb"\\(.)|''", re.DOTALL)
_ESCAPES = {b"0": b"\0", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"Z": b"\x1a"}
_COPY_ESCAPES = {**_ESCAPES, b"f": b"\f", b"v": b"\v"}


def read_dump(path: Path, tables: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, Row]]:
    """
    Give the rows of some tables, each with its table, in the order of the file.

    :param tables: names, without ``nano_``, and their columns: for an INSERT that
        names none and has no CREATE TABLE before it.
    :raises BadRequest: the file breaks off, or a row does not fit its table.
    """
    data = path.read_bytes()
    backslashes = b"`" in data[:100_000] or b"MySQL" in data[:1000] or b"MariaDB" in data[:1000]
    columns = dict(tables)
    at = 0
    while found := _STATEMENT.search(data, at):
        at = found.end()
        table = _table(found[1] or found[3] or found[5])
        if found[5]:
            created = _created(data, at)
            if table in tables and created:
                columns[table] = created
        elif table in tables and found[3]:
            at = yield from _copied(data, at, table, _names(found[4]))
        elif table in tables:
            names = _names(found[2]) if found[2] else columns[table]
            at = yield from _inserted(data, at, table, names, backslashes)
        elif found[3]:
            at = data.find(b"\n\\.", at)
            if at < 0:
                raise BadRequest("the dump breaks off in a COPY")


def _table(name: bytes) -> str:
    return name.decode().lower().removeprefix("nano_")


def _names(text: bytes) -> tuple[str, ...]:
    return tuple(each.strip(b' `"\r\n\t').decode() for each in text.split(b","))


def _created(data: bytes, at: int) -> tuple[str, ...]:
    names = []
    end = data.find(b";", at)
    for line in data[at : end if end > 0 else at].splitlines():
        found = _COLUMN.match(line)
        if found and found[1].upper() not in _NO_COLUMN:
            names.append(found[1].decode())
    return tuple(names)


def _inserted(
    data: bytes, at: int, table: str, names: tuple[str, ...], backslashes: bool
) -> Generator[tuple[str, Row], None, int]:
    value = _VALUE if backslashes else _PLAIN_VALUE
    while data[at : at + 1] == b"(":
        row: list[bytes | None] = []
        while data[at : at + 1] in (b"(", b","):
            found = value.match(data, at + 1)
            if not found:
                raise BadRequest(f"the dump breaks off, or is none, in a row of {table}")
            row.append(_value(found, backslashes))
            at = found.end()
        if data[at : at + 1] != b")" or len(row) != len(names):
            raise BadRequest(f"a row of {table} has {len(row)} values for {len(names)} columns")
        yield table, dict(zip(names, row, strict=True))
        between = re.compile(rb"\)\s*(,\s*)?").match(data, at)
        assert between is not None
        at = between.end()
        if not between[1]:
            break
    return at


def _value(found: "re.Match[bytes]", backslashes: bool) -> bytes | None:
    null, extended, text, number, digits, word = found.groups()
    if null:
        return None
    if text is not None:
        if backslashes or extended:
            return _ESCAPE.sub(_unescape, text)
        return text.replace(b"''", b"'")
    if number is not None or digits is not None:
        return bytes.fromhex((number if number is not None else digits).decode())
    return bytes(word)


def _unescape(found: "re.Match[bytes]") -> bytes:
    return b"'" if found[1] is None else _ESCAPES.get(found[1], found[1])


def _copied(
    data: bytes, at: int, table: str, names: tuple[str, ...]
) -> Generator[tuple[str, Row], None, int]:
    while True:
        end = data.find(b"\n", at)
        if end < 0:
            raise BadRequest(f"the dump breaks off in {table}")
        line = data[at:end].rstrip(b"\r")
        at = end + 1
        if line == b"\\.":
            return at
        values = line.split(b"\t")
        if len(values) != len(names):
            raise BadRequest(f"a row of {table} has {len(values)} values for {len(names)} columns")
        yield table, {name: _copy_value(each) for name, each in zip(names, values, strict=True)}


def _copy_value(text: bytes) -> bytes | None:
    if text == b"\\N":
        return None
    return re.sub(rb"\\(.)", lambda found: _COPY_ESCAPES.get(found[1], found[1]), text)
