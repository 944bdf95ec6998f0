"""The queue as a device sees it."""

from typing import Any

import attrs
from twisted.internet.threads import deferToThread

from mdmd.interfaces.identity import Identity
from mdmd.interfaces.queue import Turn
from mdmd.mdm.command import Command
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.mdm.report import Report, Status
from mdmd.store import keys
from mdmd.store.subject import Tools

LARGE = 1 << 20  # bytes
PARK_AT_ONCE = 100  # exhausted commands in one script call


@attrs.frozen
class Queue:
    """Implements :class:`mdmd.interfaces.queue.IQueue`."""

    _tools: Tools

    async def report_and_next(self, report: Report, identity: Identity) -> Turn:
        """
        Record the report and take the next command, in one round trip.

        Only a queue that begins with many exhausted commands needs more than
        one, so that no script call takes long.

        :raises WrongIdentity: another certificate is pinned.
        :raises NotEnrolled: none is pinned, or the enrollment is not known.
        """
        one, tools = report.enrollment, self._tools
        fingerprint = identity.fingerprint
        names = (*keys.of_connect(one), keys.pin(fingerprint), keys.renewals(one))
        # Compressing and sealing megabytes would hold up other devices.
        large = len(report.raw) > LARGE
        words = await deferToThread(self._report, report) if large else self._report(report)
        args = (
            *(fingerprint, one.device, str(one), one.type.value, keys.member(one)),
            *(tools.repeat, PARK_AT_ONCE, report.status.value, *words),
            *(*tools.life(one, identity), int(identity.expired)),
        )
        topic, *answer = await tools.change("connect", names, args, identity.query)
        while answer and answer[0] == b"again":
            answer = await self._offer(one, report.status is Status.NOT_NOW, identity.expired)
        return Turn(topic.decode(), self._command(answer) if answer else None)

    def _report(self, report: Report) -> tuple[str, bytes, str, str, bytes]:
        if report.command_uuid is None:
            # Idle says nothing but that, so there is nothing to seal.
            return "", b"", "", "", report.raw
        return (
            report.command_uuid,
            keys.pack(report.command_uuid),
            self._tools.payloads.digest(report.raw),
            report.error,
            self._tools.payloads.seal(report.raw, keys.payload_place(report.enrollment)),
        )

    async def _offer(self, one: EnrollmentID, skip: bool, expired: bool) -> Any:
        names = (
            *(keys.record(one), keys.queue(one), keys.sent(one)),
            *(keys.results(one), keys.work(one), keys.device_record(one)),
        )
        args = (
            *(str(one), keys.member(one), self._tools.repeat, PARK_AT_ONCE),
            *(int(skip), int(expired)),
        )
        return await self._tools.change("offer", names, args)

    def _command(self, answer: Any) -> Command:
        uuid = answer[1].decode()
        raw = self._tools.payloads.unseal(answer[3], keys.command(uuid))
        return Command(uuid, answer[2].decode(), raw)
