"""Inventories are asked for again, so that what is known is never older than wanted."""

from collections.abc import Callable, Sequence

from mdmd.flow.send import How, Sender
from mdmd.interfaces.fleet import Event, IFleet, Priority
from mdmd.interfaces.inventory import IDue, IInventory
from mdmd.interfaces.push import IWaker
from mdmd.mdm.catalogue.load import entry
from mdmd.mdm.command import build_command
from mdmd.mdm.enrollment import EnrollmentID

AT_ONCE = 50  # enrollments of one round
PAGE = 500  # enrollments that are looked through at once
SOON = 3600  # seconds at most; who is found with old data at a start is asked within it
LEASE = 600_000  # ms; who was taken by a daemon that died comes again after it
# What devices tell when they are asked, and not already when they enroll; each tells one of these.
_TOLD = ("IsSupervised", "DeviceCapacity", "UDID")
# What nobody wants regularly: large, secret, or costly for the device.
_NOT_ASKED = frozenset({"DevicePropertiesAttestation", "PushToken", "EACSPreflight", "UnlockToken"})


class Refresher:
    """
    A reaction to check-ins, and a round over those that are due.

    Its first rounds go through everybody who is enrolled: the schedule may be
    new, or have been made for a longer interval.

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
        inventory: IInventory,
        sender: Sender,
        jitter: Callable[[], float],
        now: Callable[[], int],
    ) -> None:
        self._interval = interval
        self._commands = tuple(commands)
        self._due = due
        self._fleet = fleet
        self._inventory = inventory
        self._sender = sender
        self._jitter = jitter
        self._now = now
        self._place: str | None = ""  # up to which enrollment all were gone through; None: all

    async def react(self, event: Event) -> None:
        """Begin with a device when it enrolls, end when it leaves."""
        topic = event.topic
        if topic == "mdmd.Migrated":
            topic = f"mdm.{event.facts['message']}"
        if topic not in ("mdm.TokenUpdate", "mdm.CheckOut"):
            return
        one = EnrollmentID.parse(event.enrollment)
        if one.channel:
            return
        if topic == "mdm.CheckOut":
            await self._due.plan({one: None})
        elif event.facts.get("tally") == "1":
            await self._due.plan({one: self._now()})
        else:
            # It may be one that came from another server.
            await self._due.plan({one: self._after(self._now())}, sooner=True)

    async def round(self) -> int:
        """Ask some of those that are due, say how many those were, and were looked at."""
        looked_at = 0 if self._place is None else await self._adopt(self._place)
        ones = await self._due.take(AT_ONCE, LEASE)
        records = await self._fleet.describe(ones)
        asked = [record for record in records if record is not None and record.enabled]
        ids = [str(record.enrollment) for record in asked]
        if ids:
            for request_type in self._commands:
                await self._ask(request_type, ids)
        planned: dict[EnrollmentID, int | None] = dict.fromkeys(ones)
        now = self._now()
        planned.update({record.enrollment: self._after(now) for record in asked})
        await self._due.plan(planned)
        return looked_at + len(ones)

    async def _adopt(self, after: str) -> int:
        """Bring forward, of a page, who would be asked too late for what is known of them."""
        page = await self._fleet.enrollments(after, PAGE)
        ones = [each.enrollment for each in page if each.enabled and not each.enrollment.channel]
        known = await self._inventory.known(ones, _TOLD)
        await self._due.plan(
            {
                one: self._catch_up(max((each.at for each in told.values()), default=0))
                for one, (told, _) in zip(ones, known, strict=True)
            },
            sooner=True,
        )
        self._place = str(page[-1].enrollment) if len(page) == PAGE else None
        return len(page)

    async def _ask(self, request_type: str, ids: list[str]) -> None:
        """Ask those who are not asked already, and leave alone what operators ask."""
        keys = {"Queries": _queries()} if request_type == "DeviceInformation" else {}
        kind = f"refresh {request_type}"
        how = How(Priority.BACKGROUND, wait=False, prune=True, kind=kind)
        await self._sender.send(build_command(request_type, keys), ids, how)

    def _after(self, asked: int) -> int:
        """Say when next: early enough for the answer to come in time."""
        return asked + int(self._interval * 1000 * (0.7 + 0.2 * self._jitter()))

    def _catch_up(self, told: int) -> int:
        """Say when who told something at that time is asked; those who are late not at once."""
        if not told and "DeviceInformation" not in self._commands:
            return self._after(self._now())  # nobody knows: nothing else tells one of those facts
        soon = min(SOON, self._interval * 0.1) * 1000 * self._jitter()
        return max(self._after(told), self._now() + int(soon))


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
