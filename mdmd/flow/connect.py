"""
A device connects: it reports, and gets the next command, until there is none.

==================  ================================================================
its report          what becomes of the command, and what the device gets next
==================  ================================================================
Idle                the first of the queue: a lock before a profile, then by age; one
                    that was given and never answered is given again
Acknowledged        it is done: the answer is kept, the next one is given
Error,              it has failed for good: the reason is kept, the next one is given
CommandFormatError
NotNow              it keeps its place; until the device says anything else, all that it
                    put off so are passed over
anything else       kept as it came, for a person to look at; the next one is given
==================  ================================================================

The rules themselves are in ``store/scripts/connect.lua``, because they have to be one
atomic step: what the report ends, what the queue offers next (to an expired identity,
where one is let in, its renewal only), what is parked, when to push again.
"""

from collections.abc import Awaitable, Callable

from mdmd.interfaces.identity import Identity, Notes
from mdmd.interfaces.queue import IQueue
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

    async def answer(self, identity: Identity, body: bytes, noted: Notes | None = None) -> bytes:
        """
        Take one report, return the next command's plist, or ``b""``: nothing to do.

        The status of the report never decides whether there is an answer: after
        an Error, a result nobody asked for, or one we can't read, the device
        still gets its next command, or it would repeat itself for ever.

        :param noted: gets what the log is to tell: who, what was reported, what was given.
        :raises BadMessage: it is no report at all; nothing was changed.
        :raises WrongIdentity: the certificate is not the one pinned to the device.
        """
        report = await self._decode(body)
        noted = {} if noted is None else noted
        noted["enrollment"], noted["report"] = str(report.enrollment), report.status.value
        if report.command_uuid is not None:
            noted["command"] = report.command_uuid
        turn = await self._queue.report_and_next(report, identity)
        if turn.topic:
            noted["topic"] = turn.topic
        if turn.command is None:
            return b""
        noted["given"] = turn.command.request_type
        return turn.command.raw

    async def _decode(self, body: bytes) -> Report:
        if self._offload is None or len(body) <= LARGE:
            return decode_report(body)
        return await self._offload(lambda: decode_report(body))
