"""
What NanoMDM keeps: its file stores, and its tables in MySQL or PostgreSQL, running or dumped.

Source: NanoMDM, storage/mysql/schema.sql, storage/pgsql/schema.sql.
"""

import base64
import binascii
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Protocol

from mdmd.cli.foreign.building import (
    Channel,
    Device,
    Faulty,
    Record,
    command_record,
    push_certificate_record,
    tried,
)
from mdmd.cli.foreign.database import Database, is_place, open_database, read_place
from mdmd.cli.foreign.filekv import FileKV, is_filekv
from mdmd.cli.foreign.filestore import FileStore
from mdmd.cli.foreign.sql import Row, read_dump
from mdmd.errors import BadRequest

TABLES = {
    "devices": (
        *("id", "identity_cert", "serial_number", "unlock_token", "unlock_token_at"),
        *("authenticate", "authenticate_at", "token_update", "token_update_at"),
        *("bootstrap_token_b64", "bootstrap_token_at", "created_at", "updated_at"),
    ),
    "users": (
        *("id", "device_id", "user_short_name", "user_long_name", "token_update"),
        *("token_update_at", "user_authenticate", "user_authenticate_at"),
        *("user_authenticate_digest", "user_authenticate_digest_at", "created_at", "updated_at"),
    ),
    "enrollments": (
        *("id", "device_id", "user_id", "type", "topic", "push_magic", "token_hex", "enabled"),
        *("token_update_tally", "last_seen_at", "created_at", "updated_at"),
    ),
    "commands": ("command_uuid", "request_type", "command", "created_at", "updated_at"),
    "command_results": (
        *("id", "command_uuid", "status", "result", "not_now_at", "not_now_tally"),
        *("created_at", "updated_at"),
    ),
    "enrollment_queue": ("id", "command_uuid", "active", "priority", "created_at", "updated_at"),
    "push_certs": ("topic", "cert_pem", "key_pem", "stale_token", "created_at", "updated_at"),
    "cert_auth_associations": ("id", "sha256", "created_at", "updated_at"),
}
BINARY = ("unlock_token",)


def read_nanomdm(where: str, now: int, after: Callable[[], str] = str) -> Iterator[Record | Faulty]:
    """
    Give everything as records: push certificates, commands that wait, devices.

    :param now: milliseconds since the epoch, where NanoMDM has no time.
    :param after: of a running database, after which device to begin; it is asked when the
        first record is. Devices come by their ids then.
    :raises BadRequest: it is neither a file store nor a dump, or the database can't be asked.
    """
    if is_place(where):
        database = open_database(read_place(where))
        return _hang_up_after(_Tables(_Asked(database, after), now).records(), database)
    path = Path(where)
    if not path.is_dir():
        return _Tables(_Dump(path), now).records()
    return _any((FileKV if is_filekv(path) else FileStore)(path, now).records())


def _any(records: Iterator[Record | Faulty]) -> Iterator[Record | Faulty]:
    first = next(records, None)
    if first is None:
        raise BadRequest("nothing that NanoMDM keeps is in this folder")
    yield first
    yield from records


def _hang_up_after(
    records: Iterator[Record | Faulty], database: Database
) -> Iterator[Record | Faulty]:
    try:
        yield from records
    finally:
        database.close()


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "replace")


class _Rows(Protocol):
    """Where rows of NanoMDM's tables are."""

    def of(self, table: str) -> Iterator[Row]:
        """Give the rows of a table that count here."""


class _Dump:
    """A file with SQL."""

    def __init__(self, path: Path) -> None:
        self._rows: dict[str, list[Row]] = defaultdict(list)
        for table, row in read_dump(path, TABLES, BINARY):
            if table == "command_results":
                row.pop("result", None)  # history stays where it is
            self._rows[table].append(row)
        if not self._rows["devices"] and not self._rows["push_certs"]:
            raise BadRequest("no rows of NanoMDM's tables are in this file")

    def of(self, table: str) -> Iterator[Row]:
        return iter(self._rows[table])


# What a database is asked for: only what is used, for the history may be large.
_ASKED: dict[str, tuple[tuple[str, ...], str]] = {
    "push_certs": (("topic", "cert_pem", "key_pem"), ""),
    "enrollment_queue": (
        ("id", "command_uuid", "active", "priority", "created_at"),
        "t WHERE active",
    ),
    "command_results": (
        ("t.id", "t.command_uuid", "t.status"),
        "t JOIN {prefix}enrollment_queue q ON q.id = t.id AND q.command_uuid = t.command_uuid "
        "WHERE q.active",
    ),
    "commands": (
        ("command_uuid", "command"),
        "t WHERE command_uuid IN (SELECT command_uuid FROM {prefix}enrollment_queue WHERE active)",
    ),
    "cert_auth_associations": (("id", "sha256", "updated_at"), ""),
    "users": (("id", "user_short_name"), ""),
    "enrollments": (TABLES["enrollments"], ""),
    "devices": (
        (
            *("id", "identity_cert", "unlock_token", "authenticate", "token_update"),
            *("bootstrap_token_b64", "created_at"),
        ),
        "WHERE id > {after} ORDER BY id",
    ),
}


class _Asked:
    """A running database."""

    def __init__(self, database: Database, after: Callable[[], str]) -> None:
        self._database = database
        self._after = after
        there = database.tables()
        self._prefix = "nano_" if "nano_devices" in there else ""
        if not {f"{self._prefix}{table}" for table in _ASKED} <= there:
            raise BadRequest(f"{database.place}: NanoMDM's tables are not in this database")

    def of(self, table: str) -> Iterator[Row]:
        columns, where = _ASKED[table]
        name = f"{self._prefix}{table}"
        after = self._database.literal(self._after())
        return self._database.rows(name, columns, where.format(prefix=self._prefix, after=after))


class _Tables:
    """Records out of rows."""

    def __init__(self, rows: _Rows, now: int) -> None:
        self._now = now
        self._commands_told: set[str] = set()
        self._rows = rows

    def records(self) -> Iterator[Record | Faulty]:
        for row in self._rows.of("push_certs"):
            pair = (row["cert_pem"] or b"", row["key_pem"] or b"")
            yield tried(_text(row["topic"]), push_certificate_record, *pair)
        waiting = self._waiting()
        wanted = {uuid for queue in waiting.values() for uuid, _ in queue}
        for row in self._rows.of("commands"):
            uuid = _text(row["command_uuid"])
            if uuid in wanted:
                record = tried(uuid, command_record, row["command"] or b"")
                if not isinstance(record, Faulty):
                    self._commands_told.add(uuid)
                yield record
        pins = self._pins()
        users = {_text(row["id"]): row for row in self._rows.of("users")}
        enrollments: dict[str, list[Row]] = defaultdict(list)
        for row in self._rows.of("enrollments"):
            enrollments[_text(row["device_id"])].append(row)
        for row in self._rows.of("devices"):
            id = _text(row["id"])
            yield tried(id, self._device, row, enrollments[id], users, waiting, pins)

    def _waiting(self) -> dict[str, list[tuple[str, bool]]]:
        """Say by enrollment what waits, in the order of delivery, and what was NotNow'd."""
        results = {
            (_text(row["id"]), _text(row["command_uuid"])): _text(row["status"])
            for row in self._rows.of("command_results")
        }
        queues: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
        for row in self._rows.of("enrollment_queue"):
            if _true(row["active"]):
                place = (-int(_text(row["priority"]) or 0), _text(row["created_at"]))
                queues[_text(row["id"])].append((*place, _text(row["command_uuid"])))
        return {
            id: [
                (uuid, results.get((id, uuid)) == "NotNow")
                for _, _, uuid in sorted(queue)
                if results.get((id, uuid)) in (None, "NotNow")
            ]
            for id, queue in queues.items()
        }

    def _pins(self) -> dict[str, str]:
        newest = sorted(
            self._rows.of("cert_auth_associations"), key=lambda row: _text(row["updated_at"])
        )
        return {_text(row["id"]): _text(row["sha256"]).lower() for row in newest}

    def _device(
        self,
        row: Row,
        enrollments: list[Row],
        users: dict[str, Row],
        waiting: dict[str, list[tuple[str, bool]]],
        pins: dict[str, str],
    ) -> Record:
        id = _text(row["id"])
        device = Device(id, {"": Channel("", "Device", enabled=False)})
        for each in enrollments:
            own = _text(each["id"])
            channel = own.removeprefix(id).removeprefix(":")
            made = self._channel(channel, each, users.get(_text(each["user_id"])))
            made.queue = [each for each in waiting.get(own, []) if each[0] in self._commands_told]
            device.channels[channel] = made
        if row["authenticate"]:
            device.take_authenticate(row["authenticate"])
        if row["token_update"]:
            device.channels[""].take_token_update(row["token_update"])
        device.unlock_token = row["unlock_token"] or b""
        device.bootstrap_token = _base64(row["bootstrap_token_b64"])
        if row["identity_cert"]:
            device.take_certificate(row["identity_cert"])
        if id in pins and pins[id] != device.pin:
            device.pin, device.ends = pins[id], 0
        # The device's own, or a database would say another thing each time it is asked.
        return device.record(count(1), _time(row["created_at"], self._now))

    def _channel(self, name: str, row: Row, user: Row | None) -> Channel:
        channel = Channel(
            name,
            _text(row["type"]),
            _text(row["topic"]),
            _hex(row["token_hex"]),
            _text(row["push_magic"]),
            _true(row["enabled"]),
            int(_text(row["token_update_tally"]) or 1),
            _time(row["last_seen_at"], self._now),
            _time(row["created_at"], self._now),
        )
        if user is not None:
            channel.user = _text(user["user_short_name"])
        return channel


def _true(value: bytes | None) -> bool:
    return _text(value).lower() in ("1", "t", "true")


def _hex(value: bytes | None) -> bytes:
    try:
        return bytes.fromhex(_text(value))
    except ValueError:
        raise BadRequest("a push token is not hexadecimal") from None


def _base64(value: bytes | None) -> bytes:
    try:
        return base64.b64decode(value or b"", validate=True)
    except binascii.Error:
        raise BadRequest("a bootstrap token is not base64") from None


def _time(value: bytes | None, otherwise: int) -> int:
    """Read a timestamp; one without a zone is taken for UTC, as a dump of MySQL's is."""
    try:
        moment = datetime.fromisoformat(_text(value))
    except ValueError:
        return otherwise
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
