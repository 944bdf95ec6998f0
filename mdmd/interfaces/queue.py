"""The queue as a device sees it."""

from typing import Protocol

from mdmd.interfaces.identity import Identity
from mdmd.mdm.command import Command
from mdmd.mdm.report import Report


class IQueue(Protocol):
    """The queue as a device sees it."""

    async def report_and_next(self, report: Report, identity: Identity) -> Command | None:
        """
        Record the report and take the next command, in one step.

        Rules: docs/store.md, "connect". An orphan result is kept and makes an
        event; the answer is the next command all the same.

        :raises WrongIdentity: another certificate is pinned.
        :raises NotEnrolled: none is pinned.
        """
