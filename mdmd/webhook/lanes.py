"""
What a target still has to get, and what may be sent to it now: pure bookkeeping, no I/O.

A lane is an enrollment. Its events leave one after the other: the next one only
when the one before was taken, or set aside. Lanes do not wait for each other.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

import attrs

from mdmd.interfaces.fleet import Event

FIRST_RETRY = 0.2  # seconds
GROWTH = 1.4  # with each failure; gentle, for a target that fails now and then is not to be left
LAST_RETRY = 3600.0
TROUBLE = 20  # failures in a row, of whatever events: the target itself is in trouble
LOADED = 8  # events of a lane that are held with their messages; the others by their ids
LONGEST_PAUSE = 20.0  # seconds, spread, until one tries whether it still is


_LAST = 2**64 - 1  # in a millisecond


@attrs.define
class Waiting:
    """One event that the target has to get; the event itself may have been let go of."""

    id: str
    lane: str
    event: Event | None
    attempts: int = 0
    refused_at: float = 0.0  # at first, by the sender's clock


@attrs.define(eq=False)
class _Lane:
    name: str
    waiting: deque[Waiting] = attrs.field(factory=deque)
    at_work: bool = False  # its first one is being sent, or is waiting for its time

    @property
    def failures(self) -> int:
        """Count the tries of the first one that failed."""
        return self.waiting[0].attempts if self.waiting else 0


def _place(id: str) -> tuple[int, int]:
    milliseconds, _, nth = id.partition("-")
    return int(milliseconds), int(nth)


def before(id: str) -> str:
    """Make the id that comes right before another in the stream."""
    milliseconds, nth = _place(id)
    return f"{milliseconds}-{nth - 1}" if nth else f"{milliseconds - 1}-{_LAST}"


class Lanes:
    """
    Who is next.

    :param most: how many are sent at the same time.
    :param chance: 0 <= value < 1; spreads retries.
    """

    def __init__(self, most: int, chance: Callable[[], float]) -> None:
        self._most = most
        self._chance = chance
        self._lanes: dict[str, _Lane] = {}
        self._ready: deque[_Lane] = deque()
        self._later: list[tuple[float, int, _Lane]] = []
        self._count = 0
        self._sending = 0
        self._failures = 0  # in a row, of the whole target
        self._paused_until = 0.0
        self._asked_until = 0.0  # by the target; what it takes meanwhile changes nothing of that
        self._held: set[str] = set()
        self.loaded = 0  # events held in memory, not only by their ids

    def __len__(self) -> int:
        """Count the events that are not settled."""
        return len(self._held)

    def __contains__(self, id: str) -> bool:
        """Say whether an event is waiting or being sent."""
        return id in self._held

    @property
    def oldest(self) -> str:
        """Say the id of the oldest event that is not settled, "" if there is none."""
        firsts = [lane.waiting[0].id for lane in self._lanes.values()]
        return min(firsts, key=_place, default="")

    def add(self, events: Iterable[Event]) -> None:
        """Take events in the order of the stream; those that are in already are passed over."""
        for event in events:
            if event.id in self._held:
                continue
            self._held.add(event.id)
            name = event.enrollment
            lane = self._lanes.get(name)
            if lane is None:
                lane = self._lanes[name] = _Lane(name)
            # One that waits behind others, perhaps for days, takes no room from other lanes.
            soon = len(lane.waiting) < LOADED and not lane.failures
            lane.waiting.append(Waiting(event.id, name, event if soon else None))
            self.loaded += soon
            if not lane.at_work:
                lane.at_work = True
                self._ready.append(lane)

    def next(self, now: float) -> Waiting | None:
        """Give what may be sent now, None if nothing may; :meth:`due` says when to ask again."""
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[2])
        if self._full or now < self._pause_ends:
            return None
        if not self._ready and self.in_trouble and self._later:
            # Its time was for an event that is not taken, not for a target that takes none.
            self._ready.append(heapq.heappop(self._later)[2])
        if not self._ready:
            return None
        self._sending += 1
        return self._next_lane().waiting[0]

    def _next_lane(self) -> _Lane:
        if not self.in_trouble:
            return self._ready.popleft()
        # One that was never tried says more about the target than one that it refused.
        lane = min(self._ready, key=lambda each: each.failures)
        self._ready.remove(lane)
        return lane

    def due(self) -> float | None:
        """Say when :meth:`next` may give something without anything happening before."""
        if self._full:
            return None
        if self._ready or (self.in_trouble and self._later):
            return self._pause_ends
        return max(self._later[0][0], self._pause_ends) if self._later else None

    def settled(self, one: Waiting, taken: bool = True) -> None:
        """Let go of an event that was taken, or set aside; its lane goes on."""
        self._sending -= 1
        if taken:
            self._recovered()
        lane = self._lanes[one.lane]
        lane.waiting.popleft()
        self._held.discard(one.id)
        self._unload(one)
        if lane.waiting:
            self._ready.append(lane)
        else:
            del self._lanes[one.lane]

    def _recovered(self) -> None:
        """Go on with all; those who wait have failed because the target took nothing."""
        if self.in_trouble:
            self._ready.extend(lane for _, _, lane in sorted(self._later))
            self._later = []
        self._failures, self._paused_until = 0, 0.0

    def failed(self, one: Waiting, now: float, wait: float | None = None) -> None:
        """
        Keep an event for later; its lane waits with it.

        :param wait: seconds that the target asked for: then all lanes wait.
        """
        self._sending -= 1
        one.attempts += 1
        lane = self._lanes[one.lane]
        for each in islice(lane.waiting, LOADED):
            self._unload(each)
        self._failures += 1
        if wait:
            self._asked_until = max(self._asked_until, now + wait)
        if self._failures >= TROUBLE:
            steps = min(self._failures - TROUBLE, 20)
            pause = self._spread(min(FIRST_RETRY * 2**steps, LONGEST_PAUSE))
            self._paused_until = max(self._paused_until, now + pause)
        delay = self._spread(min(FIRST_RETRY * GROWTH ** min(one.attempts - 1, 50), LAST_RETRY))
        self._count += 1
        heapq.heappush(self._later, (now + delay, self._count, lane))

    def leave_alone(self, until: float) -> None:
        """Send nothing before a time, that one and no later: the target asked for it."""
        self._asked_until = until

    def _spread(self, seconds: float) -> float:
        return seconds * (0.5 + self._chance())

    def _unload(self, one: Waiting) -> None:
        if one.event is not None:
            one.event = None
            self.loaded -= 1

    def load(self, one: Waiting, event: Event) -> None:
        """Put an event back that was let go of."""
        one.event = event
        self.loaded += 1

    @property
    def _pause_ends(self) -> float:
        return max(self._paused_until, self._asked_until)

    @property
    def _full(self) -> bool:
        # While the target is in trouble one at a time tries whether it still is.
        return self._sending >= (1 if self.in_trouble else self._most)

    @property
    def in_trouble(self) -> bool:
        """Say whether the target takes nothing at all."""
        return self._failures >= TROUBLE
