"""Places in the event stream that outlive the daemon, and what is due by the clock."""

from collections.abc import Callable, Mapping

import attrs

from mdmd.interfaces.fleet import Event
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.store import keys
from mdmd.store.events import Events
from mdmd.store.subject import Tools, Word


@attrs.frozen
class Following:
    """Implements :class:`mdmd.interfaces.inventory.IFollowing`."""

    _tools: Tools
    _events: Events

    async def follow(self, name: str, who: str, lease_ms: int, done: str = "") -> str | None:
        """Hold the lease and move the place on to ``done``; None while another one holds it."""
        names = (keys.lease(name), keys.place(name))
        place = await self._tools.link.script("follow", names, (who, lease_ms, done))
        return None if place is None else place.decode()

    async def events(
        self,
        after: str,
        limit: int,
        wants: Callable[[str, Mapping[str, str]], bool] | None = None,
    ) -> list[Event]:
        """Read events after the given stream id, oldest first."""
        return await self._events.read(after, limit, wants)


@attrs.frozen
class Due:
    """Implements :class:`mdmd.interfaces.inventory.IDue`, in the sorted set of this key."""

    _tools: Tools
    _key: bytes

    async def plan(self, due: Mapping[EnrollmentID, int | None], sooner: bool = False) -> None:
        """Say when (ms since the epoch), None: not any more; ``sooner``: put nobody off."""
        gone = [keys.member(one) for one, at in due.items() if at is None]
        later: list[Word] = []
        for one, at in due.items():
            if at is not None:
                later += (at, keys.member(one))
        if gone:
            await self._tools.link.call("ZREM", self._key, *gone)
        if later:
            await self._tools.link.call("ZADD", self._key, *(("LT",) if sooner else ()), *later)

    async def take(self, limit: int, lease_ms: int) -> list[EnrollmentID]:
        """Take those that are due; they come again after the lease unless planned anew."""
        now = self._tools.now()
        args = (now, now + lease_ms, limit)
        taken = await self._tools.link.script("take_due", (self._key,), args)
        return [keys.read_member(member) for member in taken]
