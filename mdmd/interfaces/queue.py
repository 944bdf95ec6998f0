"""The queue as a device sees it."""

from typing import Protocol

import attrs

from mdmd.interfaces.identity import Identity
from mdmd.mdm.command import Command
from mdmd.mdm.report import Report


@attrs.frozen
class Turn:
    """
    What follows a report.

    :ivar topic: the enrollment's push topic; "" if it told none.
    :ivar command: the next one; None: nothing to do.
    """

    topic: str = ""
    command: Command | None = None


class IQueue(Protocol):
    """The queue as a device sees it."""

    async def report_and_next(self, report: Report, identity: Identity) -> Turn:
        """
        Record the report and take the next command, in one step.

        Rules: docs/store.md, "connect". An orphan result is kept and makes an
        event; the answer is the next command all the same. An identity that has
        expired gets its renewal or none.

        :raises WrongIdentity: another certificate is pinned.
        :raises NotEnrolled: none is pinned.
        """
