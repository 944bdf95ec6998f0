"""What ``mdmctl top`` shows, from what the daemon says and from its events; no terminal here."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from mdmd.cli import show
from mdmd.cli.watch import told

_KEPT = 200  # events, troubles
_SLOW = 12  # devices
_FORGET = 600_000  # ms after which a slow answer is old news
_FINAL = {"Acknowledged", "Error", "CommandFormatError", "Malformed"}
_WIDE = 140  # columns from which two lists stand side by side
_MOST_DEVICES = 10_000  # whose last words are remembered

Event = dict[str, Any]


class Screen:
    """
    One look after the other at the same daemon.

    :ivar status: what ``status.get`` said last.
    :ivar trouble: why nothing is heard just now, "" if all is well.
    :ivar last: the id of the newest event.
    """

    def __init__(self) -> None:
        self.status: dict[str, Any] = {}
        self.trouble = ""
        self.last = ""
        self._events: deque[Event] = deque(maxlen=_KEPT)
        self._troubles: deque[Event] = deque(maxlen=_KEPT)
        self._last: dict[str, int] = {}  # when a device was last heard, by enrollment
        self._slow: dict[str, tuple[int, int, str]] = {}  # by enrollment: took, when, what

    def happened(self, event: Event) -> None:
        """Take one event."""
        self._events.append(event)
        self.last = event["id"]
        if is_trouble(event):
            self._troubles.append(event)
        if event["topic"] == "mdm.Connect":
            self._measure(event)

    def _measure(self, event: Event) -> None:
        """A device that answers a command was handed it when it was last heard."""
        who, now = event["enrollment"], moment(event)
        before = self._last.pop(who, None)
        self._last[who] = now
        if len(self._last) > _MOST_DEVICES:
            del self._last[next(iter(self._last))]
        if before is None or event["facts"].get("status") not in _FINAL:
            return
        took = now - before
        if took >= self._slow.get(who, (0, 0, ""))[0]:
            self._slow[who] = (took, now, event["facts"].get("request_type", ""))
        if len(self._slow) > 10 * _SLOW:
            self._slow = dict(self._slowest(now))

    def _slowest(self, now: int) -> list[tuple[str, tuple[int, int, str]]]:
        fresh = [each for each in self._slow.items() if now - each[1][1] < _FORGET]
        return sorted(fresh, key=lambda each: -each[1][0])[:_SLOW]

    def data(self) -> dict[str, Any]:
        """Give what was learnt from events, for programs."""
        now = self.status.get("time", 0)
        return {
            "slowest": [
                {"enrollment": who, "ms": took, "request_type": what}
                for who, (took, _, what) in self._slowest(now)
            ],
            "troubles": list(self._troubles),
        }

    # -- how it looks

    def lines(self, width: int, height: int) -> list[str]:
        """Lay it out, so many lines of so many columns at most."""
        head = head_lines(self.status, width)
        if self.trouble:
            head.insert(0, show.colour(_cut(self.trouble, width), show.RED))
        if not self.status:
            return head[:height]
        room = max(0, height - len(head) - 1)
        if width >= _WIDE:
            half = (width - 3) // 2
            upper = min(len(self._slow) + 1, _SLOW + 1, max(4, room // 2))
            left, right = self._slow_lines(half, upper), self._trouble_lines(half, upper)
            upper_lines = _beside(left, right, half)
        else:
            third = max(3, room // 3)
            upper_lines = self._slow_lines(width, third) + self._trouble_lines(width, third)
        rest = max(0, height - len(head) - len(upper_lines) - 1)
        return [*head, "", *upper_lines, *self._event_lines(width, rest)][:height]

    def _slow_lines(self, width: int, most: int) -> list[str]:
        now = self.status.get("time", 0)
        rows = [
            (show.short(who, width), _took(took), what or "-")
            for who, (took, _, what) in self._slowest(now)[: most - 1]
        ]
        if not rows:
            return [show.colour("SLOWEST TO ANSWER", show.BOLD), "nobody answered lately"][:most]
        return show.table(("SLOWEST TO ANSWER", "TOOK", "WHAT"), rows, width)

    def _trouble_lines(self, width: int, most: int) -> list[str]:
        rows = [
            (show.moment(moment(each))[11:], show.short(each["enrollment"], width), trouble(each))
            for each in list(self._troubles)[-(most - 1) :]
        ]
        if not rows:
            return [show.colour("TROUBLE", show.BOLD), "none lately"][:most]
        lines = show.table(("TROUBLE", "DEVICE", "WHAT"), rows, width)
        return [lines[0], *(show.colour(line, show.RED) for line in lines[1:])]

    def _event_lines(self, width: int, most: int) -> list[str]:
        if most < 2:
            return []
        heads = ("EVENTS", "TOPIC", "DEVICE", "WHAT")
        last = list(self._events)[-(most - 1) :]
        firsts = [
            (show.moment(moment(each))[11:], each["topic"], show.short(each["enrollment"], width))
            for each in last
        ]
        if not last:
            return [show.colour("EVENTS", show.BOLD), "none lately"]
        columns = zip(heads, *firsts, strict=False)
        room = width - sum(max(map(show.cells, each)) + 2 for each in columns)
        rows = [(*first, told(each, room)) for first, each in zip(firsts, last, strict=True)]
        return show.table(heads, rows, width)


def head_lines(status: Mapping[str, Any], width: int) -> list[str]:
    """Lay out what ``status.get`` says, so wide at most."""
    if not status:
        return ["…"]
    parts = [
        [
            f"mdmd {status['version']}",
            f"up {show.span(max(0, status['time'] - status.get('started', 0)) / 1000)}",
            f"memory {_bytes(status.get('memory', 0))}",
            f"{status['operator']} ({status['role']})",
        ],
        _fleet(status.get("fleet", {})),
        _connections(status.get("connections", {})),
        _requests(status.get("requests", {})),
        *_pushes(status.get("push", {})),
        _log(status.get("log", {})),
    ]
    return [line for each in parts for line in wrap(each, width)]


def moment(event: Event) -> int:
    """Say when an event was, in ms."""
    return int(event["id"].partition("-")[0])


def is_trouble(event: Event) -> bool:
    """Say whether somebody should look at this."""
    if event["topic"] in ("mdmd.Refused", "mdmd.PushFailed", "mdmd.Parked", "mdmd.Lost"):
        return True
    return event["facts"].get("status") in ("Error", "CommandFormatError", "Malformed")


def trouble(event: Event) -> str:
    """Say in words what is wrong."""
    topic = event["topic"].removeprefix("mdmd.").removeprefix("mdm.")
    return f"{'' if topic == 'Connect' else topic} {told(event)}".strip()


def _fleet(fleet: dict[str, int]) -> list[str]:
    return [
        f"devices {fleet.get('enrollments', 0):,}",
        f"enrolled {fleet.get('enabled', 0):,}",
        f"with work {fleet.get('with_work', 0):,}",
    ]


def _connections(counts: dict[str, int]) -> list[str]:
    return ["connections", *(f"{name} {count:,}" for name, count in counts.items())]


def _requests(requests: dict[str, Any]) -> list[str]:
    if not requests:
        return ["requests -"]
    statuses = [f"{name} {count:,}" for name, count in requests["by_status"].items()]
    times = [
        f"{name} {_ms(requests[key])}"
        for name, key in (("median", "ms_median"), ("95 %", "ms_95"), ("most", "ms_most"))
        if requests[key] is not None
    ]
    return [f"requests {requests['per_second']}/s", *times, *statuses]


def _pushes(push: dict[str, Any]) -> list[list[str]]:
    lines = []
    for each in push.get("lines", []):
        words = [
            f"push {each['topic']}",
            f"connections {each['connections']}",
            f"in flight {each['in_flight']}",
            f"waiting {each['waiting']:,}",
            f"delivered {each['delivered']:,}",
            f"refused {each['refused']:,}",
        ]
        if each["alarm"]:
            words.append(show.colour(f"ALARM {show.clean(each['alarm'])}", show.RED))
        lines.append(words)
    return lines or [["push  nothing was pushed yet"]]


def _log(levels: dict[str, int]) -> list[str]:
    words = [f"{name} {count:,}" for name, count in levels.items()]
    return ["log", *words] if words else ["log -"]


def _took(ms: int) -> str:
    return f"{ms} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def _ms(value: float) -> str:
    return f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def _bytes(count: int) -> str:
    return f"{count / 1024 / 1024:.0f} MB"


def wrap(words: Sequence[str], width: int) -> list[str]:
    """Put words on as few lines as they need; the further ones are indented."""
    lines, line = [], ""
    for word in words:
        longer = f"{line}  {word}" if line else word
        if line.strip() and show.visible(longer) > width:
            lines.append(line)
            longer = f"    {word}"
        line = longer
    return [_cut(each, width) for each in [*lines, line]]


def _cut(line: str, width: int) -> str:
    return line if show.visible(line) <= width else show.cut(show.plain(line), width)


def _beside(left: list[str], right: list[str], width: int) -> list[str]:
    rows = max(len(left), len(right))
    left += [""] * (rows - len(left))
    right += [""] * (rows - len(right))
    return [
        one + " " * max(0, width - show.visible(one)) + "   " + two
        for one, two in zip(left, right, strict=True)
    ]
