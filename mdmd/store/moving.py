"""
Everything of an enrollment, out of one store and into another: lossless, secrets opened.

A record is plain data: text, numbers, lists, dicts, and bytes for what is secret
or no text. What it says is in docs/moving.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, FirstError, gatherResults

from mdmd.errors import BadRequest, Conflict, MdmdError
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
    write_pins,
)

Record = dict[str, Any]

_COMMAND_FIELDS = ("type", "queued", "expires", "max", "not_before", "place", "partial")
_REVOKED = "!"


@attrs.frozen
class Moving:
    """Implements :class:`mdmd.interfaces.moving.IMoving`."""

    _tools: Tools

    # -- out ------------------------------------------------------------------------

    async def devices(self, after: str, limit: int) -> tuple[list[Record], str]:
        """Read devices after an id in id order; the id to go on after comes too, "" at the end."""
        start = f"({after}" if after else "-"
        found = await self._tools.link.call("ZRANGEBYLEX", keys.IDS, start, "+", "LIMIT", 0, limit)
        ids = [EnrollmentID.parse(each.decode()) for each in found]
        # A device's channels come with it; one whose device is unknown stands for itself.
        devices = list(dict.fromkeys(one.device for one in ids))
        fresh = [each for each in devices if not _inside(each, after)]
        reading = [Deferred.fromCoroutine(self._read(EnrollmentID(each))) for each in fresh]
        try:
            records = await gatherResults(reading, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        return records, str(ids[-1]) if len(found) == limit else ""

    async def _read(self, one: EnrollmentID) -> Record:
        names = (*_channel_keys(one), *_device_keys(one))
        channels, unlock, bootstrap, archive, notes, pins, *each = await self._tools.link.script(
            "export", names
        )
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
        }
        for channel, *parts in each:
            name = channel.decode()
            record["channels"][name] = self._read_channel(attrs.evolve(one, channel=name), *parts)
        return _without_empty(record)

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
    ) -> Record:
        deliveries = pairs(sent)
        found: Record = {
            "record": texts(record),
            "facts": texts(facts),
            "push": self._open_push(push, keys.push(one)),
            "queue": [
                [keys.unpack(uuid), int(float(score)), maybe_text(deliveries.get(uuid))]
                for uuid, score in zip(queue[::2], queue[1::2], strict=True)
            ],
            "kinds": {text(name): keys.unpack(uuid) for name, uuid in pairs(kinds).items()},
            "inventory": {text(name): value for name, value in pairs(inventory).items()},
        }
        if "last" in found["record"]:
            found["record"]["last"] = keys.unpack(pairs(record)[b"last"])
        return _without_empty(found)

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

    async def commands(self, uuids: Sequence[str]) -> list[Record]:
        """Read commands by their UUIDs; one that is in no queue any more is left out."""
        found = []
        for uuid in uuids:
            name = keys.command(uuid)
            fields = pairs(await self._tools.link.call("HGETALL", name))
            if b"body" not in fields:
                continue
            record: Record = {"kind": "command", "uuid": uuid}
            record["body"] = self._tools.payloads.unseal(fields[b"body"], name)
            record |= {each: maybe_text(fields.get(each.encode())) for each in _COMMAND_FIELDS}
            found.append(_without_empty(record))
        return found

    async def push_certificates(self) -> list[Record]:
        """Read every push certificate with its key."""
        found = []
        versions = pairs(await self._tools.link.call("HGETALL", keys.CERTIFICATES))
        for topic, ends in sorted(versions.items()):
            place = keys.certificate(topic.decode())
            certificate, key = await self._tools.link.call("HMGET", place, "certificate", "key")
            record: Record = {"kind": "push_certificate", "topic": topic.decode()}
            record["certificate"] = certificate.decode()
            record["key"] = self._tools.sealer.unseal(key, place)
            record["not_after"] = int(ends.split()[1])
            found.append(record)
        return found

    async def groups(self) -> list[Record]:
        """Read every group with its members."""
        found = []
        for name in sorted(await self._tools.link.call("SMEMBERS", keys.GROUPS)):
            members = await self._tools.link.call("SMEMBERS", keys.group(name.decode()))
            ids = sorted(str(keys.read_member(each)) for each in members)
            found.append({"kind": "group", "name": name.decode(), "members": ids})
        return found

    # -- in ---------------------------------------------------------------------------

    async def put(self, record: Record, dry_run: bool = False) -> Moved:
        """
        Write one record unless it is here already, just so.

        :raises Conflict: it is here, but not the same; nothing was changed.
        :raises BadRequest: it is no record.
        """
        kind = of_text(record, "kind")
        write = {
            "device": self._put_device,
            "command": self._put_command,
            "push_certificate": self._put_push_certificate,
            "group": self._put_group,
        }.get(kind)
        if write is None:
            raise BadRequest(f"no records of the kind {kind[:40]!r}")
        try:
            return await write(record, dry_run)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise BadRequest(f"a {kind} record can't be read: {error!r:.100}") from None

    async def _put_device(self, record: Record, dry_run: bool) -> Moved:
        one = _enrollment(of_text(record, "id"))
        if one.channel:
            raise BadRequest("a device record is of a device, its channels are in it")
        there = await self._read(one)
        if there.get("channels", {}).get("", {}).get("record"):
            if there == _without_empty(record):
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

    async def _put_command(self, record: Record, dry_run: bool) -> Moved:
        uuid, body = of_text(record, "uuid"), of_bytes(record, "body")
        name = keys.command(uuid)
        digest = self._tools.payloads.digest(body)
        known = await self._tools.link.call("HGET", name, "digest")
        if known is not None:
            if known.decode() != digest:
                raise Conflict("this CommandUUID is here with another body")
            return Moved.SAME
        if not dry_run:
            fields = {"uuid": uuid, **{f: record[f] for f in _COMMAND_FIELDS if f in record}}
            words = [word for field in fields.items() for word in field]
            sealed = self._tools.payloads.seal(body, name)
            await self._tools.link.script(
                "import_command", (name,), (digest, "body", sealed, *words)
            )
        return Moved.NEW

    async def _put_push_certificate(self, record: Record, dry_run: bool) -> Moved:
        topic = of_text(record, "topic")
        for each in await self.push_certificates():
            if each["topic"] == topic:
                if each == record:
                    return Moved.SAME
                raise Conflict("there is another push certificate of this topic")
        if not dry_run:
            place = keys.certificate(topic)
            sealed = self._tools.sealer.seal(of_bytes(record, "key"), place)
            args = (topic, of_text(record, "certificate"), sealed, int(record["not_after"]))
            await self._tools.change("put_certificate", (place, keys.CERTIFICATES), args)
        return Moved.NEW

    async def _put_group(self, record: Record, dry_run: bool) -> Moved:
        name = of_text(record, "name")
        members = [keys.member(_enrollment(each)) for each in record["members"]]
        there = set(await self._tools.link.call("SMEMBERS", keys.group(name)))
        if set(members) <= there:
            return Moved.SAME
        if not dry_run:
            places = (keys.group(name), keys.GROUPS)
            await self._tools.change("group", places, (name, "SADD", *members))
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
            self._channel(_enrollment(f"{one.device}:{name}") if name else one, parts)

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
        if fields:
            self._write("HSET", name, *(word for field in fields.items() for word in field))

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
        EnrollmentType(record["type"])
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
        waiting = self._queue(one, parts.get("queue", []))
        self._indexes(one, record, parts.get("facts", {}).get("SerialNumber", ""), waiting)

    def _queue(self, one: EnrollmentID, queue: list[list[Any]]) -> bool:
        waiting = False
        for uuid, score, delivery in queue:
            self.commands.append(uuid)
            if not keys.LATER <= int(score) <= keys.LATER + keys.LAST_MOMENT:  # its command says
                self.sequence = max(self.sequence, int(score) % keys.PRIORITY_STEP)
            waiting = waiting or not keys.PARKED <= int(score) < keys.LATER
            self._write("ZADD", keys.queue(one), int(score), keys.pack(uuid))
            if delivery is not None:
                self._write("HSET", keys.sent(one), keys.pack(uuid), delivery)
        return waiting

    def _indexes(self, one: EnrollmentID, record: Record, serial: str, waiting: bool) -> None:
        self._write("ZADD", keys.IDS, 0, str(one))
        if serial and not one.channel:
            self._write("SET", keys.serial(serial), one.device)
            self._write("ZADD", keys.SERIAL_ORDER, 0, serial)
        if record.get("enabled") == "1":
            self._write("HINCRBY", keys.TOPICS, record.get("topic", ""), 1)
            if waiting:
                # Not at once: devices may have to find the way here first.
                due = self._tools.now() + int(self._tools.settings.first_delay * 1000)
                self._write("ZADD", keys.work(one), due, keys.member(one))


def _channel_keys(one: EnrollmentID) -> tuple[bytes, ...]:
    return (
        *(keys.record(one), keys.facts(one), keys.push(one), keys.queue(one), keys.sent(one)),
        *(keys.kinds(one), keys.inventory(one)),
    )


def _device_keys(one: EnrollmentID) -> tuple[bytes, ...]:
    return (
        *(keys.channels(one), keys.unlock(one), keys.bootstrap(one), keys.archive(one)),
        *(keys.notes(one), keys.pins(one)),
    )


def _archived(one: EnrollmentID, field: str) -> bytes:
    """Say for where a token in the archive was sealed: its place before it came there."""
    name, _, channel = field.partition(":")
    if name == "push":
        return keys.push(attrs.evolve(one, channel=channel))
    return keys.unlock(one) if name == "unlock" else keys.bootstrap(one)


def _inside(device: str, after: str) -> bool:
    """Say whether a page began in the middle of a device, whose record the last page had."""
    return after.partition(":")[0] == device


def _enrollment(id: str) -> EnrollmentID:
    try:
        return EnrollmentID.parse(id)
    except MdmdError as error:
        raise BadRequest(str(error)) from None


def _without_empty(record: Record) -> Record:
    return {name: value for name, value in record.items() if value not in (None, {}, [], "")}
