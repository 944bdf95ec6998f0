"""How many pushes came to what, for those who measure."""

from collections import Counter

from mdmd.apns.reasons import TABLE
from mdmd.interfaces.push import Decision, PushOutcome

_KNOWN = {reason for _, reason in TABLE}
MOST_STRANGE = 100  # topics that never had a connection and are told apart


class PushCounts:
    """
    Count outcomes by topic, decision and reason.

    Reasons are Apple's words, ``other`` for one that is new to us, and empty for
    a success or where no answer came: there is no end to what a peer could say.
    Nor is there one to the topics that enrolled devices could name: of those that
    there is no certificate for, all beyond the first hundred are ``other``.
    """

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str, str]] = Counter()
        self._strange: set[str] = set()

    def add(self, topic: str, outcome: PushOutcome) -> None:
        """Count one."""
        reason = outcome.reason if outcome.status not in (0, 200) else ""
        if reason and reason not in _KNOWN:
            reason = "other"
        self.outcomes[self._told(topic, outcome), outcome.decision.value, reason] += 1

    def _told(self, topic: str, outcome: PushOutcome) -> str:
        """Give the topic, or ``other``; only one with a certificate is answered or retried."""
        if outcome.status or outcome.decision is Decision.RETRY:
            return topic
        if len(self._strange) < MOST_STRANGE:
            self._strange.add(topic)
        return topic if topic in self._strange else "other"
