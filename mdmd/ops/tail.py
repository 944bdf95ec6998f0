"""
Events as they come, for everybody who follows them: one read of the store for all.

Whoever follows has a place in the stream and takes the next events from there.
Those who keep up take them from a short memory; those who lag read pages of the
store. So nobody holds anything up, and nothing piles up for anybody.
"""

from collections import deque
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from mdmd.errors import StoreUnavailable
from mdmd.interfaces.fleet import Event, IFleet
from mdmd.interfaces.webhooks import IFeed

log = Logger()

PAUSE = 0.25  # seconds between two looks at the store, when nobody tells that there is something
_LONGEST = 10.0  # seconds of one wait for the feed
_REMEMBERED = 1000  # events
_PAGE = 100


def order(id: str) -> tuple[int, int]:
    """Give what ids of a stream are ordered by."""
    first, _, second = id.partition("-")
    return int(first), int(second or 0)


class Tail:
    """
    The end of the event stream.

    :param feed: tells when there is something new; None: it is looked for again and again.
    """

    def __init__(self, fleet: IFleet, clock: Any, feed: IFeed | None = None) -> None:
        self._fleet = fleet
        self._clock = clock
        self._feed = feed
        self._recent: deque[Event] = deque(maxlen=_REMEMBERED)
        self._since = ""  # everything after this id is in memory; "" while nobody looks
        self._waiting: set[Deferred[None]] = set()
        self._looking: Deferred[None] | None = None

    async def take(self, after: str) -> list[Event]:
        """
        Wait for events after an id, give the next of them, oldest first, without messages.

        :raises StoreUnavailable: the store does not answer.
        """
        while True:
            found = self._remembered(after)
            if found is None:
                found = await self._fleet.events(after, _PAGE, messages=False)
                if not found:
                    self._begin_at(after)
            if found:
                return found
            await self._next_look()

    def _remembered(self, after: str) -> list[Event] | None:
        if not self._since or order(after) < order(self._since):
            return None
        return [each for each in self._recent if order(each.id) > order(after)][:_PAGE]

    def _begin_at(self, id: str) -> None:
        # The end of the stream was just seen to be at this id.
        if not self._since:
            self._since = id

    async def _next_look(self) -> None:
        waiting: Deferred[None] = Deferred(self._gone)
        self._waiting.add(waiting)
        if self._looking is None:
            self._looking = Deferred.fromCoroutine(self._look())
            self._looking.addErrback(_ended)
        await waiting

    def _gone(self, waiting: "Deferred[None]") -> None:
        self._waiting.discard(waiting)
        if not self._waiting and self._looking is not None:
            self._looking.cancel()

    async def _look(self) -> None:
        try:
            while self._waiting:
                await self._until_new()
                await self._read()
        finally:
            self._looking = None
            # Nobody looks any more: what comes now would be missing in memory.
            self._recent.clear()
            self._since = ""

    async def _until_new(self) -> None:
        if self._feed is None or not await self._feed.wait(self._last(), _LONGEST):
            await deferLater(self._clock, PAUSE)

    def _last(self) -> str:
        return self._recent[-1].id if self._recent else self._since

    async def _read(self) -> None:
        try:
            found = await self._fleet.events(self._last(), _PAGE, messages=False)
        except StoreUnavailable as error:
            log.warn("events can't be followed just now: {reason}", reason=str(error))
            return
        for each in found:
            if len(self._recent) == _REMEMBERED:
                self._since = self._recent[0].id
            self._recent.append(each)
        if found:
            for waiting in list(self._waiting):
                self._waiting.discard(waiting)
                waiting.callback(None)


def _ended(failure: Failure) -> None:
    if not failure.check(CancelledError):
        log.failure("following events ended", failure)
