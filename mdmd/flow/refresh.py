"""Inventories are asked for again, so that what is known is never older than wanted."""

from collections.abc import Callable, Sequence

from mdmd.flow.send import How, Sender
from mdmd.interfaces.fleet import Event, IFleet, Priority
from mdmd.interfaces.inventory import IDue
from mdmd.interfaces.push import IWaker
from mdmd.mdm.catalogue.load import entry
from mdmd.mdm.command import build_command
from mdmd.mdm.enrollment import EnrollmentID

AT_ONCE = 50  # enrollments of one round
LEASE = 600_000  # ms; who was taken by a daemon that died comes again after it
# What nobody wants regularly: large, secret, or costly for the device.
_NOT_ASKED = frozenset({"DevicePropertiesAttestation", "PushToken", "EACSPreflight", "UnlockToken"})


class Refresher:
    """
    A reaction to check-ins, and a round over those that are due.

    :param interval: seconds; what is known is at most this old, if the device answers.
    :param commands: RequestTypes.
    :param jitter: 0 <= float < 1; spreads the work.
    :param now: ms since the epoch.
    """

    def __init__(
        self,
        interval: float,
        commands: Sequence[str],
        due: IDue,
        fleet: IFleet,
        sender: Sender,
        jitter: Callable[[], float],
        now: Callable[[], int],
    ) -> None:
        self._interval = interval
        self._commands = tuple(commands)
        self._due = due
        self._fleet = fleet
        self._sender = sender
        self._jitter = jitter
        self._now = now

    async def react(self, event: Event) -> None:
        """Begin with a device when it enrolls, end when it leaves."""
        if event.topic not in ("mdm.TokenUpdate", "mdm.CheckOut"):
            return
        one = EnrollmentID.parse(event.enrollment)
        if one.channel:
            return
        if event.topic == "mdm.CheckOut":
            await self._due.plan({one: None})
        elif event.facts.get("tally") == "1":
            await self._due.plan({one: self._now()})
        else:
            # It enrolled before there was a schedule.
            await self._due.plan({one: self._next()}, only_new=True)

    async def round(self) -> int:
        """Ask some of those that are due, say how many those were."""
        ones = await self._due.take(AT_ONCE, LEASE)
        records = await self._fleet.describe(ones)
        asked = [record for record in records if record is not None and record.enabled]
        ids = [str(record.enrollment) for record in asked]
        if ids:
            for request_type in self._commands:
                await self._ask(request_type, ids)
        planned: dict[EnrollmentID, int | None] = dict.fromkeys(ones)
        planned.update({record.enrollment: self._next() for record in asked})
        await self._due.plan(planned)
        return len(ones)

    async def _ask(self, request_type: str, ids: list[str]) -> None:
        keys = {"Queries": _queries()} if request_type == "DeviceInformation" else {}
        expires = self._now() + int(self._interval * 1000)
        how = How(Priority.BACKGROUND, expires, push=False, prune=True)
        await self._sender.send(build_command(request_type, keys), ids, how)

    def _next(self) -> int:
        """Say when next: early enough for the answer to come in time."""
        return self._now() + int(self._interval * 1000 * (0.8 + 0.2 * self._jitter()))


def _queries() -> list[str]:
    found = entry("DeviceInformation")
    assert found is not None
    values = found.keys["Queries"].of
    assert values is not None
    return [
        str(name)
        for name, platforms in (values.values or {}).items()
        if name not in _NOT_ASKED and not any(each.obsolete for each in platforms.values())
    ]


class Limits:
    """Devices whose time in Setup Assistant is over are pushed once more."""

    def __init__(self, limits: IDue, waker: IWaker) -> None:
        self._limits = limits
        self._waker = waker

    async def round(self) -> int:
        """Push to some, say how many."""
        ones = await self._limits.take(AT_ONCE, LEASE)
        if ones:
            await self._waker.push(ones)
            await self._limits.plan(dict.fromkeys(ones))
        return len(ones)
