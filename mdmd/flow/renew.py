"""
Identities are renewed before they end, each by a small state machine.

=========  ==================================================================
``""``     nothing to do before it is due
``sent``   the enrollment profile is queued as InstallProfile; looked at now and then
``failed`` the device refused it, or too much time went by; tried again after a while
``renewed``  the device has shown its new certificate; due again in that one's time
=========  ==================================================================

Each state has a time at which it is looked at again, in the store, so none can
last for ever; any daemon of the store may do the next step. The device shows the
new certificate to ``store/scripts/_pin.lua``, which makes it ``renewed``.
"""

from collections.abc import Awaitable, Callable

import attrs

from mdmd.errors import Conflict, MdmdError, NotHere, StoreUnavailable
from mdmd.flow.enroll import Guest
from mdmd.interfaces.certificates import IIdentities, IRenewals, Renewal
from mdmd.interfaces.fleet import IFleet, Policy, Priority
from mdmd.interfaces.push import IWaker
from mdmd.mdm.command import build_command
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.pki.certificates import name_parts

# How the CommandUUIDs of renewals begin.
PREFIX = "renew-identity-"

_HOUR = 3600_000
_DAY = 24 * _HOUR
_LOOK_AGAIN = _HOUR
_PATIENCE = 7 * _DAY  # for a device that does not take the command
_GRACE = _DAY  # for one that took it to show its new certificate
_BACK_OFF = (_HOUR, 4 * _HOUR, 12 * _HOUR, _DAY)  # the last one is repeated
_LEASE = 5 * 60_000
_AT_ONCE = 100

Makes = Callable[[Guest], Awaitable[bytes]]


@attrs.frozen
class Step:
    """Where a renewal goes next; ``at`` None: never looked at again."""

    state: str
    at: int | None
    attempts: int = 0
    uuid: str = ""
    reason: str = ""
    send: bool = False


def next_step(it: Renewal, now: int, share: float, status: str) -> Step:
    """
    Say what to do with a renewal that is due to be looked at.

    :param now: milliseconds.
    :param share: of its life after which an identity is renewed; 0: never.
    :param status: of the InstallProfile's report, "" while there is none.
    """
    if not share or not it.pin or not it.not_after:
        return Step(it.state, None)
    due = int((it.not_before + share * (it.not_after - it.not_before)) * 1000)
    keep = {"attempts": it.attempts, "uuid": it.uuid}
    if it.state == "sent":
        if status == "Acknowledged" and now - it.at < _GRACE + _LOOK_AGAIN:
            return Step("sent", now + _LOOK_AGAIN, **keep)  # type: ignore[arg-type]
        if not status and now - it.at < _PATIENCE:
            return Step("sent", now + _LOOK_AGAIN, **keep)  # type: ignore[arg-type]
        reason = {
            "": "the device did not take it in time",
            "Acknowledged": "the device took it, but shows no new certificate",
        }.get(status, f"the device answered {status}")
        wait = _BACK_OFF[min(max(it.attempts, 1), len(_BACK_OFF)) - 1]
        return Step("failed", now + wait, it.attempts, it.uuid, reason)
    if due > now:
        return Step(it.state, due, **keep)  # type: ignore[arg-type]
    if not it.enabled:
        return Step(it.state, now + _DAY, **keep)  # type: ignore[arg-type]
    attempts = it.attempts + 1 if it.state == "failed" else 1
    return Step("sent", now + _LOOK_AGAIN, attempts, send=True)


class Renew:
    """
    The story of renewals.

    :param profile: makes an enrollment profile.
    :param share: of its life after which an identity is renewed; 0: never.
    :param now: milliseconds since the epoch.
    :param new_uuid: makes the unique end of a CommandUUID.
    """

    def __init__(
        self,
        renewals: IRenewals,
        identities: IIdentities,
        fleet: IFleet,
        waker: IWaker,
        profile: Makes,
        share: float,
        now: Callable[[], int],
        new_uuid: Callable[[], str],
    ) -> None:
        self._renewals = renewals
        self._identities = identities
        self._fleet = fleet
        self._waker = waker
        self._profile = profile
        self._share = share
        self._now = now
        self._new_uuid = new_uuid

    async def work(self) -> int:
        """Do the next step of those that are due, return how many there were."""
        due = await self._renewals.claim_due(_AT_ONCE, _LEASE)
        for each in due:
            try:
                await self._look_at(each)
            except StoreUnavailable:
                raise
            except MdmdError as error:  # of this one; the others can't wait for it
                await self._failed(each.enrollment, str(error))
        return len(due)

    async def begin(self, enrollment: EnrollmentID) -> str:
        """
        Renew an identity now, due or not; return the command's UUID.

        :raises NotHere: there is no such enrollment, or it has no identity.
        :raises Conflict: another daemon has begun just now.
        :raises MdmdError: the profile can't be made; it is tried again later.
        """
        it = await self._renewals.get(enrollment)
        if not it.pin:
            raise NotHere("no such enrollment, or one without an identity")
        uuid = PREFIX + self._new_uuid()
        step = Step("sent", self._now() + _LOOK_AGAIN, 1, uuid)
        if not await self._move(it, step):
            raise Conflict("its renewal has moved on just now; look again")
        if it.state == "sent":
            await self._take_back(it)
        try:
            await self._send(it, uuid)
        except StoreUnavailable:
            raise
        except MdmdError as error:
            await self._failed(enrollment, str(error))
            raise
        return uuid

    async def _look_at(self, it: Renewal) -> None:
        step = next_step(it, self._now(), self._share, await self._status(it))
        if not step.send:
            if step.state == "failed" and it.state == "sent":
                await self._take_back(it)
            await self._move(it, step)
            return
        step = attrs.evolve(step, uuid=PREFIX + self._new_uuid())
        # First the state: of two daemons only one sends.
        if await self._move(it, step):
            await self._send(it, step.uuid)

    async def _failed(self, enrollment: EnrollmentID, reason: str) -> None:
        it = await self._renewals.get(enrollment)
        step = Step("failed", self._now() + _BACK_OFF[0], it.attempts, it.uuid, reason)
        await self._move(it, step)

    async def _move(self, it: Renewal, step: Step) -> bool:
        return await self._renewals.move(
            it, step.state, step.at, step.attempts, step.uuid, step.reason
        )

    async def _status(self, it: Renewal) -> str:
        if it.state != "sent":
            return ""
        for each in await self._fleet.results(it.enrollment, 1000):
            if each.uuid == it.uuid:
                return each.status
        return ""

    async def _take_back(self, it: Renewal) -> None:
        try:
            await self._fleet.cancel(it.enrollment, it.uuid)
        except NotHere:
            return

    async def _send(self, it: Renewal, uuid: str) -> None:
        who, subject = str(it.enrollment), await self._subject(it)
        guest = Guest(it.enrollment.device, who, "renewal", subject)
        payload = await self._profile(guest)
        command = build_command("InstallProfile", {"Payload": payload}, uuid)
        await self._fleet.enqueue(command, [it.enrollment], Policy(Priority.SECURITY))
        self._waker.nudge()

    async def _subject(self, it: Renewal) -> tuple[tuple[str, str], ...]:
        # A device may renew with its old certificate, and then for the same subject only.
        try:
            known = await self._identities.find(it.pin)
        except NotHere:
            return ()
        return tuple(name_parts(known.subject))
