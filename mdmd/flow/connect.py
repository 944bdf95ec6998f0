"""
A device connects: it reports, and gets the next command.

This is the whole of it. The rules on state are in ``store/scripts/connect.lua``
because they have to be one atomic step: what the report ends, what the queue
offers next, what is parked, when to push again.
"""

from mdmd.flow.renew import is_renewal
from mdmd.interfaces import Identity, IQueue
from mdmd.mdm.report import decode_report


class Connect:
    """The story of ``PUT /connect``."""

    def __init__(self, queue: IQueue) -> None:
        self._queue = queue

    async def answer(self, identity: Identity, body: bytes) -> bytes:
        """
        Take one report, return the next command's plist, or ``b""``: nothing to do.

        The status of the report never decides whether there is an answer: after
        an Error, a result nobody asked for, or one we can't read, the device
        still gets its next command, or it would repeat itself for ever.

        An expired identity, where it is let in, gets its renewal only.

        :raises BadMessage: it is no report at all; nothing was changed.
        :raises WrongIdentity: the certificate is not the one pinned to the device.
        """
        report = decode_report(body)
        command = await self._queue.report_and_next(report, identity)
        if command is None or (identity.expired and not is_renewal(command.uuid)):
            return b""
        return command.raw
