"""Webhooks' dead letters, out of one store and into another."""

from typing import Any

import attrs
from twisted.logger import Logger

from mdmd.errors import Conflict, StoreCorrupt
from mdmd.interfaces.moving import Moved
from mdmd.store import keys
from mdmd.store.deliveries import DEAD_KEPT
from mdmd.store.link import ScriptError
from mdmd.store.subject import Tools
from mdmd.store.unpacking import of_bytes, of_text, text, texts, to_bytes

log = Logger()

Record = dict[str, Any]


@attrs.frozen
class MovingLetters:
    """Records of dead letters; a part of :class:`mdmd.store.moving.Moving`."""

    _tools: Tools

    async def page(self, target: str, after: str, limit: int) -> tuple[list[Record], str]:
        """See :class:`mdmd.interfaces.moving.IMoving`."""
        place = keys.dead_letters(target)
        entries = await self._tools.link.call(
            "XRANGE", place, f"({after}" if after else "-", "+", "COUNT", limit
        )
        records = []
        for at, fields in entries:
            try:
                records.append(self._record(target, at.decode(), fields))
            except StoreCorrupt as error:
                # There is nothing to save of it, and all the others are to be saved.
                words = "a dead letter of webhook {name} is left out of an export: {why}"
                log.error(words, name=target, why=str(error), letter=at.decode())
        return records, entries[-1][0].decode() if len(entries) == limit else ""

    def _record(self, target: str, letter: str, fields: list[bytes]) -> Record:
        told = texts(fields)
        raw = dict(zip(fields[::2], fields[1::2], strict=True)).get(b"raw", b"")
        told.pop("raw", None)
        message = self._tools.payloads.unseal(raw, _sealed_for(told.get("id", "")))
        # The order of the fields counts: a letter begins with what bury.lua says of it.
        names = [text(each) for each in fields[::2]]
        record: Record = {"kind": "dead_letter", "target": target, "letter": letter}
        return {**record, "names": names, "fields": told, "raw": message}

    async def put(self, record: Record, dry_run: bool) -> Moved:
        """Write a dead letter behind those of its target that are here."""
        target, letter = of_text(record, "target"), of_text(record, "letter")
        place = keys.dead_letters(target)
        there = await self._tools.link.call("XRANGE", place, letter, letter)
        if there:
            if self._record(target, letter, there[0][1]) == record:
                return Moved.SAME
            raise Conflict("there is another dead letter in its place")
        fields = {name: of_text(record["fields"], name) for name in record["fields"]}
        raw = self._tools.payloads.seal(of_bytes(record, "raw"), _sealed_for(fields.get("id", "")))
        words = [
            word
            for name in record["names"]
            for word in (to_bytes(name), raw if name == "raw" else to_bytes(fields[name]))
        ]
        if dry_run:
            return Moved.NEW
        try:
            await self._tools.link.call("XADD", place, "MAXLEN", "~", DEAD_KEPT, letter, *words)
        except ScriptError:
            raise Conflict("there are newer dead letters of this webhook here") from None
        return Moved.NEW


def _sealed_for(id: str) -> bytes:
    return b"message of " + id.encode()
