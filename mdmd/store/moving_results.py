"""Results of commands, out of one store and into another."""

from collections.abc import Sequence
from typing import Any

import attrs

from mdmd.errors import Conflict
from mdmd.interfaces.moving import Moved
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.store import keys
from mdmd.store.moving_devices import enrollment_of
from mdmd.store.subject import Tools
from mdmd.store.unpacking import of_text, text, to_bytes

Record = dict[str, Any]

_AT_ONCE = 100
_SIZE = 256 * 1024  # bytes of one record, but for a single larger result


@attrs.frozen
class MovingResults:
    """Records of results; a part of :class:`mdmd.store.moving.Moving`."""

    _tools: Tools

    async def page(self, id: str, start: int) -> tuple[list[Record], int]:
        """See :class:`mdmd.interfaces.moving.IMoving`."""
        one = enrollment_of(id)
        entries = await self._tools.link.call(
            "LRANGE", keys.results(one), start, start + _AT_ONCE - 1
        )
        size = 0
        results: list[list[Any]] = []
        for entry in entries:
            size += len(entry)
            if results and size > _SIZE:
                break
            results.append(self._record(one, entry))
        if not results:
            return [], 0
        record: Record = {"kind": "results", "id": id, "start": start, "results": results}
        whole = len(results) == len(entries) < _AT_ONCE
        return [record], 0 if whole else start + len(results)

    def _record(self, one: EnrollmentID, entry: bytes) -> list[Any]:
        uuid, digest, kind, status, why, at, queued, attempts, raw = entry.split(b"\0", 8)
        report = self._tools.payloads.unseal(raw, keys.payload_place(one))
        told = [text(each) for each in (uuid, kind, status, why, at, queued, attempts)]
        return [*told, bool(digest), report]

    async def put(self, record: Record, dry_run: bool) -> Moved:
        """Write a part of the results of an enrollment, which is here already."""
        one, start = enrollment_of(of_text(record, "id")), int(record["start"])
        entries = [self._entry(one, each) for each in record["results"]]
        place, count = keys.results(one), len(entries)
        there = await self._tools.link.call("LRANGE", place, start, start + count - 1)
        if there:
            if [self._record(one, each) for each in there] == record["results"]:
                return Moved.SAME
            raise Conflict("its results here are others")
        if dry_run:
            return Moved.NEW
        life = int(self._tools.settings.results_age * 1000)
        names = (place, keys.record(one))
        written = await self._tools.link.script("import_results", names, (start, life, *entries))
        if not written:
            raise Conflict("the results before these are not here; put them, and the device, first")
        return Moved.NEW

    def _entry(self, one: EnrollmentID, told: Sequence[Any]) -> bytes:
        *texts_, has_digest, report = told
        uuid, kind, status, why, at, queued, attempts = (to_bytes(each) for each in texts_)
        digest = self._tools.payloads.digest(report).encode() if has_digest else b""
        sealed = self._tools.payloads.seal(report, keys.payload_place(one))
        int(at), int(attempts)
        return b"\0".join((uuid, digest, kind, status, why, at, queued, attempts, sealed))
