"""
Devices with their user channels, out of one store and into another.

A record is plain data; docs/moving.md says what is in it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, FirstError, gatherResults

from mdmd.errors import BadRequest, Conflict, MdmdError, StoreCorrupt
from mdmd.interfaces.moving import Moved
from mdmd.mdm.enrollment import EnrollmentID, EnrollmentType
from mdmd.store import keys
from mdmd.store.enrollments import pack_push, unpack_push
from mdmd.store.link import ScriptError
from mdmd.store.subject import Tools, Word
from mdmd.store.unpacking import (
    maybe_text,
    of_bytes,
    of_text,
    pairs,
    read_pins,
    text,
    texts,
    to_bytes,
    without_empty,
    write_pins,
)

Record = dict[str, Any]

_REVOKED = "!"
_DUES = ("push_due", "refresh_due", "limit_due")
_WORDS = 2000  # of one command in a script; it can't take more than some 8000
# Of a record, what becomes of pushes.
_PUSHES = {"pushes", "pushed", "push_result", "failures", "dropped", "first_push"}
_SOON = 0  # a push_due of an enrollment of which nobody knows when it was to be pushed


@attrs.frozen
class MovingDevices:
    """Device records; a part of :class:`mdmd.store.moving.Moving`."""

    _tools: Tools

    async def page(self, after: str, limit: int) -> tuple[list[Record], str]:
        """See :class:`mdmd.interfaces.moving.IMoving`."""
        start = f"({after}" if after else "-"
        found = await self._tools.link.call("ZRANGEBYLEX", keys.IDS, start, "+", "LIMIT", 0, limit)
        ids = [EnrollmentID.parse(each.decode()) for each in found]
        fresh = await self._devices_of(ids, after)
        reading = [Deferred.fromCoroutine(self._named(EnrollmentID(each))) for each in fresh]
        try:
            records = await gatherResults(reading, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        return records, str(ids[-1]) if len(found) == limit else ""

    async def _devices_of(self, ids: list[EnrollmentID], after: str) -> list[str]:
        """Name the devices whose turn it is."""
        # A channel comes with its device, wherever that is in the order; one whose device is
        # unknown brings it, unless another of its channels did so on the page before.
        channels = list(dict.fromkeys(one.device for one in ids if one.channel))
        known = await self._tools.link.call("ZMSCORE", keys.IDS, *channels) if channels else []
        alone = {
            device
            for device, score in zip(channels, known, strict=True)
            if score is None and after.partition(":")[0] != device
        }
        found = (one.device for one in ids if not one.channel or one.device in alone)
        return list(dict.fromkeys(found))

    async def _named(self, one: EnrollmentID) -> Record:
        """Read a device; whoever moves a fleet has to know which one is in the way."""
        try:
            return await self._read(one)
        except (StoreCorrupt, ScriptError, LookupError, TypeError, ValueError) as error:
            raise StoreCorrupt(f"the record of {one.device} is damaged: {error}") from error

    async def _read(self, one: EnrollmentID) -> Record:
        names = (*_channel_keys(one), *_device_keys(one))
        args = (keys.member(one), keys.SERIALS, one.device)
        own, *each = await self._tools.link.script("export", names, args)
        channels, unlock, bootstrap, archive, notes, pins, renewal, serial = own
        record: Record = {
            "kind": "device",
            "id": one.device,
            "channels": {},
            "types": texts(channels),
            "unlock_token": self._open(unlock, keys.unlock(one)),
            "bootstrap_token": self._open(bootstrap, keys.bootstrap(one)),
            "archive": self._open_archive(one, archive),
            "notes": texts(notes),
            "pins": read_pins(self._tools.sealer, keys.pins(one), pins),
            "renewal_due": _due(renewal),
            "serial_elsewhere": None if serial else True,
        }
        for channel, *parts in each:
            name = channel.decode()
            record["channels"][name] = self._read_channel(attrs.evolve(one, channel=name), *parts)
        return without_empty(record)

    def _read_channel(
        self,
        one: EnrollmentID,
        record: list[bytes],
        facts: list[bytes],
        push: bytes | None,
        queue: list[bytes],
        sent: list[bytes],
        kinds: list[bytes],
        inventory: list[bytes],
        history: list[bytes],
        ended: list[bytes],
        ended_sent: list[bytes],
        results: int,
        *due: bytes | None,
    ) -> Record:
        found: Record = {
            "record": texts(record),
            "facts": texts(facts),
            "push": self._open_push(push, keys.push(one)),
            "queue": _read_queue(queue, sent),
            "ended": _read_queue(ended, ended_sent),
            "results": results or None,
            "kinds": {text(name): keys.unpack(uuid) for name, uuid in pairs(kinds).items()},
            "inventory": {text(name): value for name, value in pairs(inventory).items()},
            "history": [_read_change(each) for each in history],
            **{name: _due(each) for name, each in zip(_DUES, due, strict=True)},
        }
        if "last" in found["record"]:
            found["record"]["last"] = keys.unpack(pairs(record)[b"last"])
        return without_empty(found)

    def _open(self, sealed: bytes | None, place: bytes) -> bytes | None:
        return None if sealed is None else self._tools.sealer.unseal(sealed, place)

    def _open_push(self, sealed: bytes | None, place: bytes) -> Record | None:
        secret = self._open(sealed, place)
        if secret is None:
            return None
        token, magic = unpack_push(secret)
        return {"token": token, "magic": magic}

    def _open_archive(self, one: EnrollmentID, archive: list[bytes]) -> Record:
        found: Record = {}
        for name, value in pairs(archive).items():
            field = text(name)
            if field == "generation":
                found[field] = text(value)
            elif field.startswith("push"):
                found[field] = self._open_push(value, _archived(one, field))
            else:
                found[field] = self._open(value, _archived(one, field))
        return found

    # -- in ---------------------------------------------------------------------------

    async def put(self, record: Record, dry_run: bool) -> Moved:
        """Write a device; see :class:`mdmd.interfaces.moving.IMoving`."""
        one = enrollment_of(of_text(record, "id"))
        if one.channel:
            raise BadRequest("a device record is of a device, its channels are in it")
        there = await self._read(one)
        if there.get("channels", {}).get("", {}).get("record"):
            if _comparable(there) == _comparable(record):
                return Moved.SAME
            raise Conflict("it is here already, and not the same")
        writing = _Writing(self._tools, one, record)
        if dry_run:
            return Moved.NEW
        pins = writing.pins()
        names = [keys.record(one), keys.SEQUENCE, *(keys.pin(each) for each, _ in pins)]
        commands = [keys.command(uuid) for uuid in writing.commands]
        args: list[Word] = [one.device, writing.sequence, len(pins), *(ends for _, ends in pins)]
        args += [len(commands), *commands, *writing.words]
        try:
            await self._tools.change("import", names, args)
        except ScriptError as error:
            if error.code == "HERE":
                raise Conflict("it came here meanwhile") from None
            if error.code == "NOBODY":
                raise Conflict("a command in its queue is not here; put it first") from None
            raise
        return Moved.NEW


class _Writing:
    """The writes that make a device of its record."""

    def __init__(self, tools: Tools, one: EnrollmentID, record: Record) -> None:
        self._tools = tools
        self._one = one
        self._record = record
        self.words: list[Word] = []
        self.commands: list[str] = []
        self.sequence = 0
        self._device()
        for channel, parts in record["channels"].items():
            name = of_text({"channel": channel}, "channel")
            self._channel(enrollment_of(f"{one.device}:{name}") if name else one, parts)

    def pins(self) -> list[tuple[str, str]]:
        """Give the fingerprints that the device may show, and when each ends (s)."""
        record = self._record["channels"][""]["record"]
        found = ((record.get("pin", ""), "ends"), (record.get("next_pin", ""), "next_ends"))
        return [
            (pin, "" if record.get(ends, "0") == "0" else record[ends])
            for pin, ends in found
            if pin and not pin.startswith(_REVOKED)
        ]

    def _write(self, *words: Word) -> None:
        self.words += (len(words), *words)

    def _hash(self, name: bytes, fields: Mapping[str, Any]) -> None:
        words = [word for field in fields.items() for word in field]
        for at in range(0, len(words), _WORDS):
            self._write("HSET", name, *words[at : at + _WORDS])

    def _seal(self, place: bytes, secret: bytes) -> bytes:
        return self._tools.sealer.seal(secret, place)

    def _device(self) -> None:
        one, record = self._one, self._record
        self._hash(keys.channels(one), record.get("types", {}))
        self._hash(keys.notes(one), record.get("notes", {}))
        tokens = {"unlock_token": keys.unlock(one), "bootstrap_token": keys.bootstrap(one)}
        for name, place in tokens.items():
            if name in record:
                self._write("SET", place, self._seal(place, of_bytes(record, name)))
        self._hash(keys.archive(one), dict(self._archive(record.get("archive", {}))))
        for entry in write_pins(self._tools.sealer, keys.pins(one), record.get("pins", [])):
            self._write("RPUSH", keys.pins(one), entry)
        if "renewal_due" in record:
            self._write("ZADD", keys.renewals(one), int(record["renewal_due"]), keys.member(one))

    def _archive(self, archive: Record) -> Iterator[tuple[str, Word]]:
        for field in archive:
            if field == "generation":
                yield field, of_text(archive, field)
                continue
            secret = (
                pack_push(of_bytes(archive[field], "token"), of_text(archive[field], "magic"))
                if field.startswith("push")
                else of_bytes(archive, field)
            )
            yield field, self._seal(_archived(self._one, field), secret)

    def _channel(self, one: EnrollmentID, parts: Record) -> None:
        record = {name: of_text(parts["record"], name) for name in parts["record"]}
        if "type" in record or one.channel:  # of a device that is known by its channels only
            EnrollmentType(record["type"])
            self._write("ZADD", keys.IDS, 0, str(one))
        if "last" in record:
            self._hash(keys.record(one), {"last": keys.pack(record.pop("last"))})
        self._hash(keys.record(one), record)
        self._hash(keys.facts(one), parts.get("facts", {}))
        if "push" in parts:
            push = pack_push(of_bytes(parts["push"], "token"), of_text(parts["push"], "magic"))
            self._write("SET", keys.push(one), self._seal(keys.push(one), push))
        kinds = {name: keys.pack(uuid) for name, uuid in parts.get("kinds", {}).items()}
        self._hash(keys.kinds(one), kinds)
        self._hash(keys.inventory(one), parts.get("inventory", {}))
        for at, field, value in parts.get("history", []):
            change = b"\0".join((str(int(at)).encode(), to_bytes(field), value))
            self._write("RPUSH", keys.history(one), change)
        self._queue(keys.queue(one), keys.sent(one), parts.get("queue", []))
        self._queue(keys.ended(one), keys.ended_sent(one), parts.get("ended", []))
        self._dues(one, parts)
        if record.get("enabled") == "1":
            self._write("HINCRBY", keys.TOPICS, record.get("topic", ""), 1)
        serial = parts.get("facts", {}).get("SerialNumber", "")
        if serial and not one.channel and not self._record.get("serial_elsewhere"):
            self._write("SET", keys.serial(serial), one.device)
            self._write("ZADD", keys.SERIAL_ORDER, 0, serial)

    def _queue(self, place: bytes, sent: bytes, queue: list[list[Any]]) -> None:
        for uuid, score, delivery in queue:
            self.commands.append(uuid)
            time = int(score) - keys.LATER
            if not keys.FIRST_MOMENT <= time <= keys.LAST_MOMENT:  # or else its command says
                self.sequence = max(self.sequence, int(score) % keys.PRIORITY_STEP)
            self._write("ZADD", place, int(score), keys.pack(uuid))
            if delivery is not None:
                self._write("HSET", sent, keys.pack(uuid), delivery)

    def _dues(self, one: EnrollmentID, parts: Record) -> None:
        for name, place in zip(_DUES, (keys.work(one), keys.REFRESH, keys.LIMITS), strict=True):
            if name not in parts:
                continue
            due = int(parts[name])
            if due == _SOON:
                # Not at once: devices may have to find the way here first.
                due = self._tools.now() + int(self._tools.settings.first_delay * 1000)
            self._write("ZADD", place, due, keys.member(one))


def _channel_keys(one: EnrollmentID) -> tuple[bytes, ...]:
    return (
        *(keys.record(one), keys.facts(one), keys.push(one), keys.queue(one), keys.sent(one)),
        *(keys.kinds(one), keys.inventory(one), keys.history(one)),
        *(keys.ended(one), keys.ended_sent(one), keys.results(one)),
    )


def _device_keys(one: EnrollmentID) -> tuple[bytes, ...]:
    return (
        *(keys.channels(one), keys.unlock(one), keys.bootstrap(one), keys.archive(one)),
        *(keys.notes(one), keys.pins(one)),
        *(keys.work(one), keys.renewals(one), keys.REFRESH, keys.LIMITS),
    )


def _archived(one: EnrollmentID, field: str) -> bytes:
    """Say for where a token in the archive was sealed: its place before it came there."""
    name, _, channel = field.partition(":")
    if name == "push":
        return keys.push(attrs.evolve(one, channel=channel))
    return keys.unlock(one) if name == "unlock" else keys.bootstrap(one)


def _read_queue(queue: list[bytes], sent: list[bytes]) -> list[list[Any]]:
    deliveries = pairs(sent)
    return [
        [keys.unpack(uuid), int(float(score)), maybe_text(deliveries.get(uuid))]
        for uuid, score in zip(queue[::2], queue[1::2], strict=True)
    ]


def _read_change(line: bytes) -> list[Any]:
    at, field, value = line.split(b"\0", 2)
    return [int(at), text(field), value]


def _due(score: bytes | None) -> int | None:
    return None if score is None else int(float(score))


def _comparable(record: Record) -> Record:
    """
    Leave out what is in parts of its own, and what a daemon does about pushes by itself.

    It begins with that as soon as a device is here; an import that is repeated must not take
    its own device for another one.
    """
    channels = {}
    for name, parts in record.get("channels", {}).items():
        kept = {key: value for key, value in parts.items() if key not in {"results", *_DUES}}
        own = kept.get("record", {})
        kept["record"] = {key: value for key, value in own.items() if key not in _PUSHES}
        channels[name] = kept
    return without_empty({**record, "channels": channels, "renewal_due": None})


def enrollment_of(id: str) -> EnrollmentID:
    try:
        return EnrollmentID.parse(id)
    except MdmdError as error:
        raise BadRequest(str(error)) from None
