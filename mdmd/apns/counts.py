"""How many pushes came to what, for those who measure."""

from collections import Counter

from mdmd.apns.reasons import TABLE
from mdmd.interfaces.push import PushOutcome

_KNOWN = {reason for _, reason in TABLE}


class PushCounts:
    """
    Count outcomes by topic, decision and reason.

    Reasons are Apple's words, ``other`` for one that is new to us, and empty for
    a success or where no answer came: there is no end to what a peer could say.
    """

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str, str]] = Counter()

    def add(self, topic: str, outcome: PushOutcome) -> None:
        """Count one."""
        reason = outcome.reason if outcome.status not in (0, 200) else ""
        if reason and reason not in _KNOWN:
            reason = "other"
        self.outcomes[topic, outcome.decision.value, reason] += 1
