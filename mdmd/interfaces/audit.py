"""The record of what operators did."""

from typing import Protocol

import attrs


@attrs.frozen
class AuditEntry:
    """One act of an operator, or one read of a secret. No secret's value is ever in it."""

    who: str
    source: str  # "unix uid 0", "tls 192.0.2.1", "ssh 192.0.2.1", "api 192.0.2.1"
    what: str  # the method, such as "commands.send"
    enrollments: tuple[str, ...] = ()
    facts: dict[str, str] = attrs.field(factory=dict)
    outcome: str = "ok"  # or the name of the error
    id: str = ""  # the stream's id, "ms-n"; "" until written


class IAudit(Protocol):
    """The append-only record of what operators did."""

    async def write(self, entry: AuditEntry) -> None:
        """Append one entry."""

    async def read(self, before: str = "+", limit: int = 100) -> list[AuditEntry]:
        """Read the newest entries that are older than the id ``before``, newest first."""
