"""
Give the memory that a wave of connections took back to the system once the wave is over.

The C library keeps what is freed for the next one, in holes between what is still in
use: after five thousand connections, all gone, a daemon kept two hundred megabytes.
"""

import ctypes
from collections.abc import Callable

from mdmd.web.limited import LimitedSite

WAVE = 500  # connections that must have ended for it to be worth some milliseconds
LOOK = 1.0  # seconds between two looks


class Ebb:
    """
    Watches how many connections are open.

    :param release: gives back what can be.
    """

    def __init__(self, site: LimitedSite, release: Callable[[], object]) -> None:
        self._site = site
        self._release = release

    async def look(self) -> int:
        """Release if a wave has ended; 0, as there is never more to do."""
        now = len(self._site.channels)
        if self._site.most - now >= WAVE:
            self._site.most = now
            self._release()
        return 0


def release_memory() -> None:
    """Give free memory back; glibc can, with others nothing happens. Source: malloc_trim(3)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
