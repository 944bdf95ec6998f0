"""
Everything of a store's, out of it and into another: lossless, secrets opened.

A record is plain data: text, numbers, lists, dicts, and bytes for what is secret
or no text. What it says, and what stays behind, is in docs/moving.md.
"""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from mdmd.errors import BadRequest, Conflict
from mdmd.interfaces.moving import Moved
from mdmd.store import keys
from mdmd.store.moving_certificates import MovingCertificates
from mdmd.store.moving_devices import MovingDevices, enrollment_of
from mdmd.store.moving_letters import MovingLetters
from mdmd.store.moving_results import MovingResults
from mdmd.store.subject import Tools
from mdmd.store.unpacking import of_bytes, of_text, pairs, text, texts, to_bytes, without_empty

Record = dict[str, Any]

# Of a command's hash, what is not a field of its record, or is one of another form.
_COMMAND_OWN = frozenset({b"uuid", b"digest", b"body", b"refs"})


class Moving:
    """Implements :class:`mdmd.interfaces.moving.IMoving`."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._devices = MovingDevices(tools)
        self._results = MovingResults(tools)
        self._certificates = MovingCertificates(tools)
        self._letters = MovingLetters(tools)
        self.devices = self._devices.page
        self.results = self._results.page
        self.certificates = self._certificates.page
        self.loose = self._certificates.loose
        self.dead_letters = self._letters.page
        self._put: dict[str, Callable[[Record, bool], Awaitable[Moved]]] = {
            "device": self._devices.put,
            "results": self._results.put,
            "certificate": self._certificates.put,
            "pin": self._certificates.put_pin,
            "challenge": self._certificates.put_secret,
            "link": self._certificates.put_secret,
            "dead_letter": self._letters.put,
            "command": self._put_command,
            "push_certificate": self._put_push_certificate,
            "group": self._put_group,
            "counts": self._put_counts,
        }

    async def put(self, record: Record, dry_run: bool = False) -> Moved:
        """
        Write one record unless it is here already, just so.

        :raises Conflict: it is here, but not the same; nothing was changed.
        :raises BadRequest: it is no record.
        """
        kind = of_text(record, "kind")
        if kind not in self._put:
            raise BadRequest(f"no records of the kind {kind[:40]!r}")
        try:
            return await self._put[kind](record, dry_run)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise BadRequest(f"a {kind} record can't be read: {error!r:.100}") from None

    async def resume_key(self) -> bytes:
        """Make the key for what tells where an export or import is; 32 bytes."""
        return hmac.digest(self._tools.sealer.key, b"mdmd where a move is", "sha256")

    async def size(self) -> int:
        """Count the enrollments."""
        return int(await self._tools.link.call("ZCARD", keys.IDS))

    # -- commands ---------------------------------------------------------------------

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
            more = {text(k): text(v) for k, v in fields.items() if k not in _COMMAND_OWN}
            found.append({**more, **record})
        return found

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
            own = {"kind", "body", *(each.decode() for each in _COMMAND_OWN)}
            fields = {k: of_text(record, k) for k in record if k not in own}
            words = [word for field in fields.items() for word in map(to_bytes, field)]
            sealed = self._tools.payloads.seal(body, name)
            await self._tools.link.script(
                "import_command", (name,), (digest, "uuid", uuid, "body", sealed, *words)
            )
        return Moved.NEW

    # -- push certificates --------------------------------------------------------------

    async def push_certificates(self) -> list[Record]:
        """Read every push certificate with its key."""
        versions = texts(await self._tools.link.call("HGETALL", keys.CERTIFICATES))
        warnings = texts(await self._tools.link.call("HGETALL", keys.EXPIRY_WARNINGS))
        found = []
        for topic, ends in sorted(versions.items()):
            place = keys.certificate(topic)
            certificate, key = await self._tools.link.call("HMGET", place, "certificate", "key")
            version, not_after = ends.split()
            record: Record = {
                "kind": "push_certificate",
                "topic": topic,
                "certificate": certificate.decode(),
                "key": self._tools.sealer.unseal(key, place),
                "not_after": int(not_after),
                "version": int(version),
                "warned": warnings.get(topic),
            }
            found.append(without_empty(record))
        return found

    async def _put_push_certificate(self, record: Record, dry_run: bool) -> Moved:
        topic = of_text(record, "topic")
        for each in await self.push_certificates():
            if each["topic"] == topic:
                if {**each, **record} == each:
                    return Moved.SAME
                raise Conflict("there is another push certificate of this topic")
        if not dry_run:
            place = keys.certificate(topic)
            sealed = self._tools.sealer.seal(of_bytes(record, "key"), place)
            names = (place, keys.CERTIFICATES, keys.EXPIRY_WARNINGS)
            args = (
                *(topic, of_text(record, "certificate"), sealed, int(record["not_after"])),
                *(int(record.get("version", 1)), record.get("warned", "")),
            )
            await self._tools.change("import_push_certificate", names, args)
        return Moved.NEW

    # -- groups -----------------------------------------------------------------------

    async def groups(self) -> list[Record]:
        """Read every group with its members."""
        found = []
        for name in sorted(await self._tools.link.call("SMEMBERS", keys.GROUPS)):
            members = await self._tools.link.call("SMEMBERS", keys.group(name.decode()))
            ids = sorted(str(keys.read_member(each)) for each in members)
            found.append({"kind": "group", "name": name.decode(), "members": ids})
        return found

    async def _put_group(self, record: Record, dry_run: bool) -> Moved:
        name = of_text(record, "name")
        members = [keys.member(enrollment_of(each)) for each in record["members"]]
        there = set(await self._tools.link.call("SMEMBERS", keys.group(name)))
        new = [each for each in members if each not in there]
        if not new:
            return Moved.SAME
        for at in range(0, 0 if dry_run else len(new), _MEMBERS_AT_ONCE):
            some = new[at : at + _MEMBERS_AT_ONCE]
            places = (keys.group(name), keys.GROUPS)
            await self._tools.change("group", places, (name, "SADD", *some))
        return Moved.NEW

    # -- counts -----------------------------------------------------------------------

    async def counts(self) -> Record:
        """Read what counts up: the sequence of enqueues, and what ended, by type and status."""
        sequence = int(await self._tools.link.call("GET", keys.SEQUENCE) or 0)
        ended = texts(await self._tools.link.call("HGETALL", keys.TOTALS))
        lines = sorted([*name.split("\0"), int(count)] for name, count in ended.items())
        return {"kind": "counts", "sequence": sequence, "ended": lines}

    async def _put_counts(self, record: Record, dry_run: bool) -> Moved:
        """Let each count be as large as told; what is larger here went on meanwhile."""
        args: list[Any] = [int(dry_run), int(record["sequence"])]
        for *name, count in record["ended"]:
            args += ("\0".join(name), int(count))
        names = (keys.SEQUENCE, keys.TOTALS)
        grown = await self._tools.link.script("import_counts", names, args)
        return Moved.NEW if grown else Moved.SAME


_MEMBERS_AT_ONCE = 1000
