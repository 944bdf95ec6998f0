"""
Two clocks: a steady one to wait by, and the one on the wall for what is told.

Twisted's reactor waits by the wall: where that is set back by an hour, each of its
timers comes an hour late, and where it is set forward, all that wait are too late.
"""

import time
from typing import Any


def keep_steady(reactor: Any) -> None:
    """Have the reactor wait by a clock that nobody sets; it begins with the time of day."""
    ahead = time.time() - time.monotonic()
    reactor.seconds = lambda: ahead + time.monotonic()


class WallClock:
    """The time of day, as the store, other machines and people have it; somebody may set it."""

    @staticmethod
    def seconds() -> float:
        """Say what time it is, in seconds since the epoch."""
        return time.time()
