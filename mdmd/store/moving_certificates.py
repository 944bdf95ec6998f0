"""Certificates that were issued, pins that are no device's current one, challenges and links."""

from collections.abc import Sequence
from typing import Any

import attrs

from mdmd.errors import Conflict
from mdmd.interfaces.moving import Moved
from mdmd.store import keys
from mdmd.store.subject import Tools
from mdmd.store.unpacking import of_text, text, texts, without_empty

Record = dict[str, Any]

_SCANNED = 1000  # keys that one look passes
_LOOSE = b"mdmd:[pclw][ihe][nab]*"  # pins, challenges, links, webhooks
_PIN, _CHALLENGE, _LINK = b"mdmd:pin:", b"mdmd:challenge:", b"mdmd:link:"
_WEBHOOK, _DEAD = b"mdmd:webhook:", b":dead"


@attrs.frozen
class MovingCertificates:
    """Their records; a part of :class:`mdmd.store.moving.Moving`."""

    _tools: Tools

    # -- issued ---------------------------------------------------------------------

    async def page(self, after: str, limit: int) -> tuple[list[Record], str]:
        """See :class:`mdmd.interfaces.moving.IMoving`."""
        call = self._tools.link.call
        start = 0
        if after:
            rank = await call("ZRANK", keys.ISSUED, keys.from_hex(after))
            start = 0 if rank is None else rank + 1
        found = await call("ZRANGE", keys.ISSUED, start, start + limit - 1)
        fingerprints = [each.hex() for each in found]
        records = [await self._read(each) for each in fingerprints]
        following = fingerprints[-1] if len(found) == limit else ""
        return [each for each in records if each is not None], following

    async def _read(self, fingerprint: str) -> Record | None:
        names = (keys.identity(fingerprint), keys.pin(fingerprint), keys.ISSUED)
        args = (keys.from_hex(fingerprint),)
        fields, pin, ends, gone = await self._tools.link.script("export_certificate", names, args)
        if not fields:
            return None
        record: Record = {"kind": "certificate", "fingerprint": fingerprint}
        record["fields"] = texts(fields)
        record["forgotten"] = int(float(gone or 0))
        # None: it has ended, and its pin with it; "": nobody's yet; "!": revoked.
        record["pin"] = None if pin is None else text(pin)
        record["pin_ends"] = ends
        return {name: value for name, value in record.items() if value is not None}

    async def put(self, record: Record, dry_run: bool) -> Moved:
        """Write one that was issued, revoked or not."""
        fingerprint = of_text(record, "fingerprint")
        there = await self._read(fingerprint)
        if there is not None:
            if there == record:
                return Moved.SAME
            raise Conflict("it is here already, and not the same")
        fields = {name: of_text(record["fields"], name) for name in record["fields"]}
        serial = of_text(fields, "serial")
        names = (
            *(keys.identity(fingerprint), keys.pin(fingerprint)),
            *(keys.identity_serial(serial), keys.ISSUED),
        )
        words = [word for field in fields.items() for word in field]
        pin = record.get("pin")
        args = (
            *(keys.from_hex(fingerprint), int(record["forgotten"])),
            *(int(pin is not None), pin or "", int(record.get("pin_ends", 0)), *words),
        )
        if not dry_run and not await self._tools.link.script("import_certificate", names, args):
            raise Conflict("its pin is here, and another one")
        return Moved.NEW

    # -- what has no index --------------------------------------------------------------

    async def loose(self, cursor: str) -> tuple[list[Record], str]:
        """See :class:`mdmd.interfaces.moving.IMoving`."""
        following, names = await self._tools.link.call(
            "SCAN", cursor, "MATCH", _LOOSE, "COUNT", _SCANNED
        )
        records = [*await self._pins([each for each in names if each.startswith(_PIN)])]
        for name in names:
            if name.startswith((_CHALLENGE, _LINK)):
                records += await self._secret(name)
            elif name.startswith(_WEBHOOK) and name.endswith(_DEAD):
                target = text(name[len(_WEBHOOK) : -len(_DEAD)])
                records.append({"kind": "dead_letters", "target": target})
        return records, "" if following == b"0" else following.decode()

    async def _pins(self, names: Sequence[bytes]) -> list[Record]:
        """Read pins, but for those that come with a device or an issued certificate."""
        if not names:
            return []
        identities = [keys.identity(each[len(_PIN) :].decode()) for each in names]
        places = [name for pair in zip(names, identities, strict=True) for name in pair]
        found = await self._tools.link.script("export_pins", places, keys.RECORD)
        return [
            without_empty(
                {"kind": "pin", "fingerprint": text(pin), "owner": text(owner), "ends": ends}
            )
            for pin, owner, ends in found
        ]

    async def _secret(self, name: bytes) -> list[Record]:
        kind, digest = name.decode().split(":")[1:]
        fields, forgotten = await self._tools.link.script("export_secret", (name,))
        if not fields:
            return []
        return [{"kind": kind, "digest": digest, "fields": texts(fields), "forgotten": forgotten}]

    async def put_pin(self, record: Record, dry_run: bool) -> Moved:
        """Write a pin of a certificate that is nobody's current one, or is revoked."""
        place, owner = keys.pin(of_text(record, "fingerprint")), record.get("owner", "")
        there = await self._tools.link.call("GET", place)
        if there is not None:
            if text(there) == owner:
                return Moved.SAME
            raise Conflict("it is here already, and another's")
        if not dry_run:
            ends = record.get("ends")
            await self._tools.link.call(
                "SET", place, owner, "NX", *(() if ends is None else ("EXAT", int(ends)))
            )
        return Moved.NEW

    async def put_secret(self, record: Record, dry_run: bool) -> Moved:
        """Write a one-time challenge or link, which has only the digest of its secret."""
        kind, digest = of_text(record, "kind"), of_text(record, "digest")
        name = f"mdmd:{kind}:{digest}".encode()
        there = await self._secret(name)
        if there:
            if there == [record]:
                return Moved.SAME
            raise Conflict("it is here already, and not the same")
        words = [word for field in record["fields"].items() for word in field]
        if not dry_run:
            args = (int(record["forgotten"]), *words)
            await self._tools.link.script("import_secret", (name,), args)
        return Moved.NEW
