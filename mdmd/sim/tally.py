"""What happened to a fleet: how often, and how long it took."""

from bisect import bisect_left
from collections import Counter

import attrs

_STEPS = [0.001 * 1.2**number for number in range(64)]  # seconds; up to some 100


@attrs.define
class Times:
    """Durations in steps of a fifth: small whatever their number."""

    counts: Counter[int] = attrs.field(factory=Counter)
    number: int = 0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(_STEPS, seconds)] += 1
        self.number += 1

    def quantile(self, share: float) -> float:
        """Say below how many seconds this share of them was, to a fifth; 0.0 if there are none."""
        left = share * self.number
        for step in sorted(self.counts):
            left -= self.counts[step]
            if left <= 0:
                return _STEPS[min(step, len(_STEPS) - 1)]
        return 0.0


@attrs.define
class Tally:
    """Counts by word, and times by kind of request."""

    counts: Counter[str] = attrs.field(factory=Counter)
    times: dict[str, Times] = attrs.field(factory=dict)

    def request(self, kind: str, status: int, seconds: float) -> None:
        """Count one request; status 0: no answer came."""
        self.counts[f"status {status}" if status else "no answer"] += 1
        self.times.setdefault(kind, Times()).add(seconds)

    def summary(self) -> dict[str, object]:
        """Say all of it as JSON can."""
        return {
            "counts": dict(sorted(self.counts.items())),
            "milliseconds": {
                kind: {
                    "number": times.number,
                    "p50": round(times.quantile(0.5) * 1000, 1),
                    "p99": round(times.quantile(0.99) * 1000, 1),
                }
                for kind, times in sorted(self.times.items())
            },
        }
