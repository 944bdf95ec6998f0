"""Named sets of enrollments."""

from collections.abc import Sequence

import attrs

from mdmd.mdm.enrollment import EnrollmentID
from mdmd.store import keys
from mdmd.store.subject import Tools

CHANGE_AT_ONCE = 1000


@attrs.frozen
class Groups:
    """Implements :class:`mdmd.interfaces.inventory.IGroups`."""

    _tools: Tools

    async def add(self, name: str, enrollments: Sequence[EnrollmentID]) -> int:
        """Put enrollments into a group, say how many are new in it."""
        return await self._change("SADD", name, enrollments)

    async def remove(self, name: str, enrollments: Sequence[EnrollmentID]) -> int:
        """Take enrollments out of a group, say how many were in it."""
        return await self._change("SREM", name, enrollments)

    async def _change(self, how: str, name: str, enrollments: Sequence[EnrollmentID]) -> int:
        count = 0
        for at in range(0, len(enrollments), CHANGE_AT_ONCE):
            members = [keys.member(one) for one in enrollments[at : at + CHANGE_AT_ONCE]]
            names = (keys.group(name), keys.GROUPS)
            count += int(await self._tools.change("group", names, (name, how, *members)))
        return count

    async def sizes(self) -> dict[str, int]:
        """Say which groups there are, and how many are in each."""
        call = self._tools.link.call
        return {name: int(await call("SCARD", keys.group(name))) for name in await self._names()}

    async def members(
        self, name: str, cursor: int = 0, limit: int = 1000
    ) -> tuple[int, list[EnrollmentID]]:
        """Read about ``limit`` members and the cursor to go on with; 0: that was all."""
        after, found = await self._tools.link.call(
            "SSCAN", keys.group(name), cursor, "COUNT", limit
        )
        return int(after), sorted(map(keys.read_member, found), key=str)

    async def of(self, enrollments: Sequence[EnrollmentID]) -> list[list[str]]:
        """Say of each enrollment in which groups it is."""
        found: list[list[str]] = [[] for _ in enrollments]
        if not enrollments:
            return found
        members = [keys.member(one) for one in enrollments]
        for name in await self._names():
            inside = await self._tools.link.call("SMISMEMBER", keys.group(name), *members)
            for groups, is_in in zip(found, inside, strict=True):
                if is_in:
                    groups.append(name)
        return found

    async def _names(self) -> list[str]:
        return sorted(
            name.decode() for name in await self._tools.link.call("SMEMBERS", keys.GROUPS)
        )
