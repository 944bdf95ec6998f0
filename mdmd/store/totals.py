"""Numbers about the whole store that cost nothing to keep."""

import attrs

from mdmd.store import keys
from mdmd.store.subject import Tools


@attrs.frozen
class Totals:
    """Counts since the store was new; every daemon of it reads the same."""

    _tools: Tools

    async def ended(self) -> dict[tuple[str, str], int]:
        """Count the commands that ended, by RequestType and status."""
        found = await self._tools.link.call("HGETALL", keys.TOTALS)
        names = (tuple(name.decode().split("\0")) for name in found[::2])
        counts = map(int, found[1::2])
        return {(n[0], n[1]): count for n, count in zip(names, counts, strict=True) if len(n) == 2}
