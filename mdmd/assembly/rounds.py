"""Work that is looked for again and again, and never stops for one failure."""

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mdmd.errors import MdmdError

log = Logger()


class Rounds:
    """
    Do something every so often, one round after the other.

    :param clock: an IReactorTime.
    :param seconds: from the end of a round to the next; a round that says it did
        something is followed by the next at once.
    :param work: a round; says how much it did.
    """

    def __init__(
        self, clock: Any, name: str, seconds: float, work: Callable[[], Awaitable[int]]
    ) -> None:
        self._clock = clock
        self._name = name
        self._seconds = seconds
        self._work = work
        self._timer: Any = None
        self._running: Deferred[None] | None = None
        self._why = ""  # the last round failed

    async def start(self) -> None:
        """Begin with a round right away."""
        self._begin()

    async def stop(self) -> None:
        """End; a round that is under way is cut short."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._running is not None:
            self._running.cancel()

    def _begin(self) -> None:
        self._running = Deferred.fromCoroutine(self._round())
        self._running.addErrback(_ended)

    async def _round(self) -> None:
        done = 0
        try:
            done = await self._work()
            self._why = ""
        except CancelledError:
            raise
        except MdmdError as error:
            why = str(error)
            if why != self._why:  # once, not twice a second for as long as the store is away
                log.warn("{name}: {reason}", name=self._name, reason=why)
            self._why = why
        except Exception:
            log.failure("{name}: a round failed", name=self._name)
        self._timer = self._clock.callLater(0 if done else self._seconds, self._begin)


def _ended(failure: Failure) -> None:
    failure.trap(CancelledError)  # type: ignore[no-untyped-call]
