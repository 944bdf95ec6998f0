"""Time and chance, as this package asks for them: a reactor or a test's clock fits."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

Jitter = Callable[[], float]  # 0 <= value < 1, as random.random gives it
# Seconds since the epoch, for what is told or stored. To wait there is the Clock, for this one
# may be set, forward or back.
Wall = Callable[[], float]


class Timer(Protocol):
    """A call that is to come."""

    def active(self) -> bool:
        """Say whether it is still to come."""

    def cancel(self) -> None:
        """Make it never come."""


class Clock(Protocol):
    """The part of a reactor that tells the time and calls later."""

    def seconds(self) -> float:
        """Tell the time."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Timer:
        """Call after ``delay`` seconds."""


def stop_timer(timer: Timer | None) -> None:
    """Cancel a timer that may have gone off, or never been set."""
    if timer is not None and timer.active():
        timer.cancel()


def spread(seconds: float, jitter: Jitter) -> float:
    """Vary a delay by a fifth up and down, so that what failed together does not return so."""
    return seconds * (0.8 + 0.4 * jitter())


def step(delays: Sequence[float], attempt: int) -> float:
    """Take the delay for an attempt, counted from 0; the last one goes on for ever."""
    return delays[min(attempt, len(delays) - 1)]
