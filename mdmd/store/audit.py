"""What operators did: one stream that is only ever appended to."""

import json
from collections.abc import Mapping, Sequence

import attrs

from mdmd.interfaces.audit import AuditEntry
from mdmd.store import keys
from mdmd.store.subject import Tools, Word

KEPT = 1_000_000  # entries, some 300 bytes each; the oldest make room


@attrs.frozen
class Audit:
    """Implements :class:`mdmd.interfaces.audit.IAudit`."""

    _tools: Tools

    async def write(self, entry: AuditEntry) -> None:
        """Append one entry."""
        await self._tools.link.call(*spelled(**attrs.asdict(entry)))

    async def read(self, before: str = "+", limit: int = 100) -> list[AuditEntry]:
        """Read the newest entries that are older than the id ``before``, newest first."""
        newest = before if before == "+" else f"({before}"
        found = await self._tools.link.call("XREVRANGE", keys.AUDIT, newest, "-", "COUNT", limit)
        return [_entry(at.decode(), fields) for at, fields in found]


def spelled(
    who: str,
    source: str,
    what: str,
    enrollments: Sequence[str],
    facts: Mapping[str, str],
    outcome: str,
    **_: object,
) -> tuple[Word, ...]:
    """Spell the command that appends an entry with these fields; the id is the store's to give."""
    return (
        *("XADD", keys.AUDIT, "MAXLEN", "~", KEPT, "*", "who", who, "source", source, "what", what),
        *("enrollments", json.dumps(enrollments), "facts", json.dumps(facts), "outcome", outcome),
    )


def _entry(at: str, flat: list[bytes]) -> AuditEntry:
    words = [each.decode("utf-8", "replace") for each in flat]
    fields = dict(zip(words[::2], words[1::2], strict=True))
    return AuditEntry(
        fields["who"],
        fields["source"],
        fields["what"],
        tuple(json.loads(fields["enrollments"])),
        json.loads(fields["facts"]),
        fields["outcome"],
        at,
    )
