"""
Rows out of a dump of MySQL or PostgreSQL, without a database.

Understood are ``INSERT INTO`` and ``REPLACE INTO`` (with or without the names of columns,
several rows in one) and PostgreSQL's ``COPY … FROM stdin``. Everything else is passed over.
"""

import re
from collections.abc import Collection, Generator, Iterator, Mapping
from pathlib import Path

import attrs

from mdmd.errors import BadRequest

Row = dict[str, bytes | None]

_NAME = rb'(?:[`"]?\w+[`"]?\.)?[`"]?(\w+)[`"]?'
_STATEMENT = re.compile(
    rb"^(?:(?:INSERT|REPLACE)\s+(?:IGNORE\s+)?INTO\s+" + _NAME + rb"\s*(?:\(([^)]*)\))?\s*VALUES\s*"
    rb"|COPY " + _NAME + rb"\s*\(([^)]*)\) FROM stdin;\r?\n"
    rb"|CREATE TABLE (?:IF NOT EXISTS )?" + _NAME + rb"\s*\()",
    re.MULTILINE | re.IGNORECASE,
)
_COLUMN = re.compile(rb'^\s*[`"]?(\w+)[`"]?\s+["\w]', re.ASCII)
_NO_COLUMN = {b"PRIMARY", b"UNIQUE", b"KEY", b"CONSTRAINT", b"CHECK", b"FOREIGN", b"INDEX"}
# Possessive: what is in quotes may have megabytes, and nothing of it is to be tried another way.
_VALUE = re.compile(
    rb"\s*(?:(NULL)|(?:_binary\s+)?(E?)'((?:[^'\\]++|\\.|'')*+)'(?:::\w+)?"
    rb"|0x([0-9A-Fa-f]+)|X'([0-9A-Fa-f]*)'|(-?[\w.]+))\s*",
    re.DOTALL | re.IGNORECASE,
)
_PLAIN_VALUE = re.compile(  # PostgreSQL: a backslash is a backslash
    rb"\s*(?:(NULL)|()'((?:[^']++|'')*+)'(?:::\w+)?|0x([0-9A-Fa-f]+)|X'([0-9A-Fa-f]*)'|(-?[\w.]+))\s*",
    re.DOTALL | re.IGNORECASE,
)
_ESCAPE = re.compile(rb"\\(.)|''", re.DOTALL)
_ESCAPES = {b"0": b"\0", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"Z": b"\x1a"}
_COPY_ESCAPES = {**_ESCAPES, b"f": b"\f", b"v": b"\v"}
_BYTE = re.compile(rb"\\(?:([0-7]{3})|\\)")  # as PostgreSQL's bytea_output = escape writes them
_HEAD = 10_000  # bytes in which a dump says what it is
_CHARSET = re.compile(rb"SET (?:NAMES |client_encoding = )'?(\w+)", re.IGNORECASE)
# As they are called there, in lower case, and here; "" is taken as it is. MySQL's latin1 is cp1252.
_CHARSETS = {
    **dict.fromkeys(("utf8", "utf8mb3", "utf8mb4", "binary", "sql_ascii"), ""),
    **dict.fromkeys(("latin1", "win1252"), "cp1252"),
}


@attrs.frozen
class _Way:
    """
    How a dump spells values.

    :ivar backslashes: in quotes they escape.
    :ivar bytea: columns whose bytes PostgreSQL spells in text.
    :ivar binary: columns that hold bytes.
    :ivar charset: of all other columns; "" for UTF-8.
    """

    backslashes: bool
    bytea: bool
    binary: Collection[str]
    charset: str

    def read(self, row: Row) -> Row:
        """Give a row as it was in the database, its text in UTF-8."""
        return {
            name: value if value is None else self._read(name, value) for name, value in row.items()
        }

    def _read(self, name: str, value: bytes) -> bytes:
        if name in self.binary:
            return _bytea(value) if self.bytea else value
        return value.decode(self.charset, "replace").encode() if self.charset else value


def read_dump(
    path: Path, tables: Mapping[str, tuple[str, ...]], binary: Collection[str] = ()
) -> Iterator[tuple[str, Row]]:
    """
    Give the rows of some tables, each with its table, in the order of the file.

    :param tables: names, without ``nano_``, and their columns: for an INSERT that
        names none and has no CREATE TABLE before it.
    :param binary: columns that hold bytes; all others are text, and come in UTF-8.
    :raises BadRequest: the file breaks off, a row does not fit its table, or it is in a
        character set that is not known here.
    """
    data = path.read_bytes()
    way = _way(data, binary)
    for table, row in _rows(data, tables, way.backslashes):
        yield table, way.read(row)


def _way(data: bytes, binary: Collection[str]) -> _Way:
    head = data[:_HEAD]
    bytea = b"PostgreSQL" in head or b"standard_conforming_strings" in head
    mysql = b"`" in data[:100_000] or b"MySQL" in data[:1000] or b"MariaDB" in data[:1000]
    backslashes = b"standard_conforming_strings = off" in head if bytea else mysql
    told = _CHARSET.search(head)
    name = told[1].decode().lower() if told else "utf8"
    if name not in _CHARSETS:
        raise BadRequest(f"the dump is in the character set {name}: make one in UTF-8")
    return _Way(backslashes, bytea, binary, _CHARSETS[name])


def _bytea(value: bytes) -> bytes:
    """Read bytes as PostgreSQL spells them, in hexadecimal or with escapes."""
    if value.startswith(b"\\x"):
        try:
            return bytes.fromhex(value[2:].decode("ascii", "replace"))
        except ValueError:
            pass
    return _BYTE.sub(lambda found: bytes([int(found[1], 8) & 255]) if found[1] else b"\\", value)


def _rows(
    data: bytes, tables: Mapping[str, tuple[str, ...]], backslashes: bool
) -> Iterator[tuple[str, Row]]:
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
