"""What the daemon knows of itself right now: requests, connections, pushes, trouble in the log."""

import resource
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.logger import ILogObserver, LogLevel
from zope.interface import implementer

from mdmd.ops.records import Record

WINDOW = 10  # seconds that rates and times are taken over
_REMEMBERED = 5000  # requests within it
_REQUEST = "mdmd.web.respond"  # where the one line of each request is logged


@attrs.frozen
class _Request:
    at: float
    ms: float


@implementer(ILogObserver)
class Figures:
    """
    Counts what the log tells: each request is one event of it, and so is each trouble.

    :param seconds: a clock that nobody sets.
    :param wall: seconds since the epoch.
    :ivar connections: counts of open ones, by what they are for.
    :ivar sources: more figures, by name, asked when somebody looks.
    """

    def __init__(self, seconds: Callable[[], float], wall: Callable[[], float]) -> None:
        self._seconds = seconds
        self._wall = wall
        self._started = seconds()
        self._recent: deque[_Request] = deque(maxlen=_REMEMBERED)
        self._requests = 0
        self._statuses: dict[str, int] = {}
        self._levels = {"warn": 0, "error": 0, "critical": 0}
        self.connections: dict[str, Callable[[], int]] = {}
        self.sources: dict[str, Callable[[], object]] = {}

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take one event of the log; Twisted calls this."""
        level = event.get("log_level")
        if level in (LogLevel.warn, LogLevel.error, LogLevel.critical):
            self._levels[level.name] += 1
        if event.get("log_namespace") == _REQUEST and "ms" in event:
            self._requests += 1
            kind = f"{int(event['status']) // 100}xx"
            self._statuses[kind] = self._statuses.get(kind, 0) + 1
            self._recent.append(_Request(self._seconds(), float(event["ms"])))

    def now(self) -> Record:
        """Give all figures as plain data; docs/pb.md says what each means."""
        return {
            "started": int((self._wall() - self._seconds() + self._started) * 1000),
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "requests": self._rates(),
            "connections": {name: count() for name, count in self.connections.items()},
            "log": dict(self._levels),
            **{name: ask() for name, ask in self.sources.items()},
        }

    def _rates(self) -> Record:
        since = self._seconds() - WINDOW
        times = sorted(each.ms for each in self._recent if each.at >= since)
        return {
            "total": self._requests,
            "by_status": dict(sorted(self._statuses.items())),
            "per_second": round(len(times) / WINDOW, 1),
            "ms_median": _at(times, 0.5),
            "ms_95": _at(times, 0.95),
            "ms_most": _at(times, 1.0),
        }


def _at(times: list[float], part: float) -> float | None:
    """Give the value below which a part of them is."""
    return times[min(len(times) - 1, int(len(times) * part))] if times else None
