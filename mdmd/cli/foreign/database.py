"""
Rows out of a running MySQL, MariaDB or PostgreSQL, some at a time.

The drivers come with ``pip install mdmd[import]``; nothing else here needs them.
"""

import getpass
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from mdmd.errors import BadRequest

Row = dict[str, bytes | None]
Query = Callable[[str], Iterator[Sequence[Any]]]

_AT_ONCE = 200  # rows
_GO_STYLE = re.compile(r"(?:([^:@/]*)(?::([^@/]*))?@)?(tcp|unix)\(([^)]*)\)/([^?]*)(?:\?(.*))?")
_SAFE = re.compile("[A-Za-z0-9_]+", re.ASCII)
_PASSWORDS = {"mysql": "MYSQL_PWD", "postgresql": "PGPASSWORD"}


@attrs.frozen
class Place:
    """
    Where a database is.

    :ivar kind: ``mysql`` or ``postgresql``.
    :ivar socket: path of a unix socket, of PostgreSQL's folder of them; "" for TCP.
    """

    kind: str
    user: str = ""
    password: str | None = attrs.field(default=None, repr=False)
    host: str = ""
    port: int | None = None
    socket: str = ""
    database: str = ""
    options: dict[str, str] = attrs.field(factory=dict)

    def __str__(self) -> str:
        """Show it without the password."""
        user = f"{self.user}@" if self.user else ""
        host = f"{self.host}:{self.port}" if self.port else self.host
        return f"{self.kind}://{user}{host or self.socket}/{self.database}"


def is_place(text: str) -> bool:
    """Say whether a text names a database rather than a file."""
    return "://" in text or _GO_STYLE.fullmatch(text) is not None


def read_place(text: str) -> Place:
    """
    Read ``mysql://``, ``postgresql://`` or the way that NanoMDM's ``-storage-dsn`` has for MySQL.

    :raises BadRequest: it is none of them; the text repeats nothing of it.
    """
    if found := _GO_STYLE.fullmatch(text):
        user, password, how, where, database, query = found.groups()
        options = dict(parse_qsl(query or ""))
        if how == "unix":
            return Place("mysql", user or "", password, "", None, where, database, options)
        host, _, port = where.rpartition(":") if ":" in where else (where, "", "")
        number = int(port) if port.isdigit() else None
        return Place("mysql", user or "", password, host, number, "", database, options)
    try:
        parts = urlsplit(text)
        kind = {"mysql": "mysql", "mariadb": "mysql"}.get(parts.scheme, parts.scheme)
        kind = "postgresql" if kind in ("postgres", "pgsql") else kind
        options = dict(parse_qsl(parts.query))
        socket = options.pop("unix_socket", options.pop("host", ""))
        database = unquote(parts.path.strip("/"))
        if kind not in _PASSWORDS or not database:
            raise ValueError
        password = None if parts.password is None else unquote(parts.password)
        user, host = unquote(parts.username or ""), parts.hostname or ""
        return Place(kind, user, password, host, parts.port, socket, database, options)
    except ValueError:
        raise BadRequest(
            "expected mysql://USER@HOST/DATABASE or postgresql://USER@HOST/DATABASE"
        ) from None


@attrs.frozen
class Database:
    """
    A connection, in one transaction that sees one moment and changes nothing.

    :ivar place: where it is.
    """

    place: Place
    _query: Query = attrs.field(repr=False)
    _close: Callable[[], object] = attrs.field(repr=False)

    def rows(self, table: str, columns: Sequence[str], where: str = "") -> Iterator[Row]:
        """
        Give the rows of a table, text and times as a dump spells them.

        :raises BadRequest: the database refuses.
        """
        names = ", ".join(columns)
        asked = f"SELECT {names} FROM {table} {where}"  # noqa: S608  (names of ours)
        for values in self._query(asked):
            yield {name: _bytes(value) for name, value in zip(_bare(columns), values, strict=True)}

    def tables(self) -> set[str]:
        """Name the tables."""
        schema = "DATABASE()" if self.place.kind == "mysql" else "ANY (current_schemas(false))"
        asked = f"SELECT table_name FROM information_schema.tables WHERE table_schema = {schema}"  # noqa: S608
        return {str(name) for (name,) in self._query(asked) if _SAFE.fullmatch(str(name))}

    def literal(self, text: str) -> str:
        """Spell a text in SQL; whatever is in it, nothing but digits is there."""
        digits = text.encode("utf-8", "surrogateescape").hex()
        if self.place.kind == "mysql":
            # A plain literal, and no function: so it compares as the column does.
            return f"_utf8mb4 X'{digits}'"
        return f"convert_from(decode('{digits}', 'hex'), 'UTF8')"

    def close(self) -> None:
        """Hang up."""
        self._close()


def _bare(columns: Sequence[str]) -> list[str]:
    return [each.rpartition(".")[2] for each in columns]


def _bytes(value: Any) -> bytes | None:
    match value:
        case None | bytes():
            return value
        case bytearray() | memoryview():
            return bytes(value)
        case bool():
            return b"1" if value else b"0"
        case date():
            return value.isoformat().encode()
    return str(value).encode("utf-8", "surrogateescape")


def open_database(place: Place) -> Database:
    """
    Connect; the password is that of the URL, of the environment, or asked for if one is needed.

    :raises BadRequest: the driver is missing, nobody answers, or we are not let in.
    """
    connect = {"mysql": _mysql, "postgresql": _postgresql}[place.kind]
    variable = _PASSWORDS[place.kind]
    if place.password is None:
        place = attrs.evolve(place, password=os.environ.get(variable))
    try:
        return connect(place)
    except _RefusedError as error:
        if place.password is not None or not sys.stdin.isatty():
            hint = "" if place.password else f"; its password is taken from ${variable}"
            raise BadRequest(f"{place}: {error}{hint}") from None
    password = getpass.getpass(f"Password for {place}: ")
    try:
        return connect(attrs.evolve(place, password=password))
    except _RefusedError as error:
        raise BadRequest(f"{place}: {error}") from None


class _RefusedError(Exception):
    """We are not let in."""


def _missing(place: Place, package: str) -> BadRequest:
    return BadRequest(f"{place.kind}:// needs {package}: pip install 'mdmd[import]'")


def _mysql(place: Place) -> Database:
    try:
        import pymysql
        from pymysql.cursors import SSCursor
    except ImportError:
        raise _missing(place, "PyMySQL") from None
    secure = place.options.get("tls", "").lower()
    try:
        link = pymysql.connect(
            user=place.user or getpass.getuser(),
            password=place.password or "",
            host=place.host or "localhost",
            port=place.port or 3306,
            unix_socket=place.socket or None,
            database=place.database,
            charset="utf8mb4",
            connect_timeout=10,
            ssl=_tls(verify=secure != "skip-verify") if secure in ("true", "skip-verify") else None,
        )
    except (pymysql.err.MySQLError, OSError, RuntimeError) as error:
        raise _said(place, error, refused=_code(error) in (1044, 1045, 1698)) from None

    def query(text: str) -> Iterator[Sequence[Any]]:
        try:
            with link.cursor(SSCursor) as cursor:
                cursor.execute(text)
                while some := cursor.fetchmany(_AT_ONCE):
                    yield from some
        except (pymysql.err.MySQLError, OSError) as error:
            raise _said(place, error) from None

    list(query("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    list(query("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"))
    list(query("SET time_zone = '+00:00'"))
    return Database(place, query, link.close)


def _postgresql(place: Place) -> Database:
    try:
        import pg8000.dbapi as driver
    except ImportError:
        raise _missing(place, "pg8000") from None
    port = place.port or 5432
    mode = place.options.get("sslmode", "prefer")
    # None: TLS if the server has it, and else in clear.
    secure = {"disable": False, "allow": None, "prefer": None, "require": _tls(verify=False)}
    try:
        link = driver.connect(
            user=place.user or getpass.getuser(),
            password=place.password or "none",  # with none at all the driver stumbles
            host=place.host or "localhost",
            port=port,
            unix_sock=f"{place.socket}/.s.PGSQL.{port}" if place.socket else None,
            database=place.database,
            ssl_context=False if place.socket else secure.get(mode, _tls(verify=True)),
            timeout=None,
        )
    except (driver.Error, OSError) as error:
        # A server that lets nobody in may hang up before the driver has read why.
        refused = _code(error) in ("28P01", "28000", "network error")
        raise _said(place, error, refused) from None

    def ask(text: str, cursor: Any) -> Sequence[Sequence[Any]]:
        try:
            cursor.execute(text)
            return cursor.fetchall() if cursor.description else ()
        except (driver.Error, OSError) as error:
            raise _said(place, error) from None

    def query(text: str) -> Iterator[Sequence[Any]]:
        cursor = link.cursor()
        ask(f"DECLARE mdmd NO SCROLL CURSOR FOR {text}", cursor)
        while some := ask(f"FETCH {_AT_ONCE} FROM mdmd", cursor):
            yield from some
        ask("CLOSE mdmd", cursor)

    # The driver begins a transaction with the first command; this is it.
    ask("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY", link.cursor())
    ask("SET LOCAL TIME ZONE 'UTC'", link.cursor())
    return Database(place, query, link.close)


def _tls(verify: bool) -> Any:
    import ssl

    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _code(error: Exception) -> object:
    """Give what the database calls an error."""
    first = error.args[0] if error.args else None
    return first.get("C") if isinstance(first, dict) else first


def _said(place: Place, error: Exception, refused: bool = False) -> Exception:
    """Make of a driver's error one line."""
    first = error.args[-1] if error.args else error
    text = str(first.get("M", first) if isinstance(first, dict) else first)
    text = " ".join(text.split())[:300] or type(error).__name__
    return _RefusedError(text) if refused else BadRequest(f"{place}: {text}")
