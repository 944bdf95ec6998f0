"""The record of what operators did."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import attrs

_NOTED = 500  # characters
BEGUN = "begun"  # the outcome of what has not ended


@attrs.frozen
class AuditEntry:
    """One act of an operator, or one read of a secret. No secret's value is ever in it."""

    who: str
    source: str  # "unix uid 0", "tls 192.0.2.1", "ssh 192.0.2.1", "api 192.0.2.1"
    what: str  # the method, such as "commands.send"
    enrollments: tuple[str, ...] = ()
    facts: dict[str, str] = attrs.field(factory=dict)
    outcome: str = "ok"  # or the name of the error, or BEGUN
    id: str = ""  # the stream's id, "ms-n"; "" until written


def on_some(enrollments: Iterable[str], most: int = 20) -> tuple[tuple[str, ...], dict[str, str]]:
    """
    Name those that a page of many was about: each once, the first ones only.

    :return: whom an entry names, and how many it was if that is not all of them.
    """
    every = tuple(dict.fromkeys(each for each in enrollments if each))
    return every[:most], {} if len(every) <= most else {"enrollments": str(len(every))}


def on_refused(refused: Sequence[str], among: int) -> tuple[str, dict[str, str]]:
    """
    Say how an act ended that some of its enrollments may have refused.

    :return: the outcome, and what to note of those.
    """
    if not refused:
        return "ok", {}
    note = {"refused": f"{len(refused)} of {among}: {', '.join(refused)}"[:_NOTED]}
    return "refused" if len(refused) == among else "partly", note


class IAudit(Protocol):
    """The append-only record of what operators did."""

    async def write(self, entry: AuditEntry) -> str:
        """Append one entry, give its id."""

    async def end(self, begun: AuditEntry, ended: AuditEntry) -> None:
        """
        Add how it ended to an entry that was written as :data:`BEGUN`; once.

        :param begun: what was written, with its id.
        :param ended: the same with the outcome, and what became known meanwhile.
        """

    async def read(self, before: str = "+", limit: int = 100) -> list[AuditEntry]:
        """Read the newest entries that are older than the id ``before``, newest first."""


class IRefusals(Protocol):
    """The record of who was not let in, and what made no sense; bounded, however often."""

    def note(self, source: str, by: str, reason: str, name: str = "") -> None:
        """
        Count one failed log-in.

        :param source: as :class:`AuditEntry` has it.
        :param by: what was shown: ``password``, ``certificate``, ``uid``, ``SSH key``, ``API key``.
        :param reason: why it was refused; nothing that was shown is in it.
        :param name: who they said they are.
        """

    def note_call(self, who: str, source: str, method: str, reason: str, outcome: str) -> None:
        """
        Count one call of an operator that was refused before it could be looked at.

        :param method: as it was called; there may be none of this name.
        :param reason: why; no value of an argument is in it.
        :param outcome: the name of the error.
        """
