"""
A device connects: it reports, and gets the next command.

This is the whole of it. The rules on state are in ``store/scripts/connect.lua``
because they have to be one atomic step: what the report ends, what the queue
offers next, what is parked, when to push again.
"""

from collections.abc import Awaitable, Callable

from mdmd.flow.renew import is_renewal
from mdmd.interfaces import Identity, IQueue
from mdmd.mdm.report import Report, decode_report

LARGE = 1 << 20  # bytes; reading more than that holds up other devices

Offload = Callable[[Callable[[], Report]], Awaitable[Report]]


class Connect:
    """
    The story of ``PUT /connect``.

    :param offload: runs a function elsewhere and gives what it returns; None: here.
    """

    def __init__(self, queue: IQueue, offload: Offload | None = None) -> None:
        self._queue = queue
        self._offload = offload

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
        report = await self._decode(body)
        command = await self._queue.report_and_next(report, identity)
        if command is None or (identity.expired and not is_renewal(command.uuid)):
            return b""
        return command.raw

    async def _decode(self, body: bytes) -> Report:
        if self._offload is None or len(body) <= LARGE:
            return decode_report(body)
        return await self._offload(lambda: decode_report(body))
