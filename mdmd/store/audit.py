"""
What operators did: one stream that is only ever appended to.

How an entry ended that was written when it began is kept beside the stream, and put
together with it when it is read.
"""

import json
from collections.abc import Mapping, Sequence

import attrs

from mdmd.interfaces.audit import BEGUN, AuditEntry
from mdmd.store import keys
from mdmd.store.subject import Tools, Word

KEPT = 1_000_000  # entries, some 300 bytes each; the oldest make room
_TRIM = 64  # of so many that ended, one makes room


@attrs.frozen
class Audit:
    """Implements :class:`mdmd.interfaces.audit.IAudit`."""

    _tools: Tools

    async def write(self, entry: AuditEntry) -> str:
        """Append one entry, give its id."""
        at: bytes = await self._tools.link.call(*spelled(**attrs.asdict(entry)))
        return at.decode()

    async def end(self, begun: AuditEntry, ended: AuditEntry) -> None:
        """Add how it ended, and what is new, to an entry that was written as begun; once."""
        at, told = _moment(begun.id), f"{begun.id} {ended.outcome}{_news(begun, ended)}"
        await self._tools.link.call("ZADD", keys.AUDIT_ENDED, at, told)
        if int(at) % _TRIM == 0:
            await self._tools.link.call("ZREMRANGEBYRANK", keys.AUDIT_ENDED, 0, -KEPT - 1)

    async def read(self, before: str = "+", limit: int = 100) -> list[AuditEntry]:
        """Read the newest entries that are older than the id ``before``, newest first."""
        newest = before if before == "+" else f"({before}"
        found = await self._tools.link.call("XREVRANGE", keys.AUDIT, newest, "-", "COUNT", limit)
        entries = [_entry(at.decode(), fields) for at, fields in found]
        ended = await self._ended([each.id for each in entries if each.outcome == BEGUN])
        return [_whole(each, ended.get(each.id, "")) for each in entries]

    async def _ended(self, begun: Sequence[str]) -> dict[str, str]:
        """Say what was added to these, newest first; those that did not end are left out."""
        if not begun:
            return {}
        range = (_moment(begun[-1]), _moment(begun[0]))
        found = await self._tools.link.call("ZRANGEBYSCORE", keys.AUDIT_ENDED, *range)
        return dict(each.decode().split(" ", 1) for each in found)


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


def _moment(id: str) -> str:
    """Give the milliseconds of a stream's id."""
    return id.partition("-")[0]


def _news(begun: AuditEntry, ended: AuditEntry) -> str:
    """Spell what an entry has at its end that it did not have when it began."""
    new = ended.facts.items() - begun.facts.items()
    news: dict[str, object] = {"facts": dict(sorted(new))} if new else {}
    if ended.enrollments != begun.enrollments:
        news["enrollments"] = ended.enrollments
    return f" {json.dumps(news)}" if news else ""


def _whole(entry: AuditEntry, added: str) -> AuditEntry:
    """Put what was added at the end into an entry."""
    outcome, _, rest = added.partition(" ")
    news = json.loads(rest or "{}")
    return attrs.evolve(
        entry,
        outcome=outcome or entry.outcome,
        facts=entry.facts | news.get("facts", {}),
        enrollments=tuple(news.get("enrollments", entry.enrollments)),
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
