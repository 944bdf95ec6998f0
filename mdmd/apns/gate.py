"""
Whether pushes of a topic may go out: an alarm shuts the gate.

APNs, or TLS, says that certificate or topic is wrong: the same would be said to
every push. While the gate is shut pushes are answered with the alarm at once,
and now and then a single one is let through to see whether it is over.
"""

from collections.abc import Callable

from twisted.logger import Logger

from mdmd.apns.reasons import TABLE
from mdmd.apns.timing import Jitter, spread, step
from mdmd.interfaces.push import Decision, PushOutcome

log = Logger()

ALARM_DELAYS = (30.0, 60.0, 300.0, 600.0)  # seconds until a try, after alarms in a row
STRANGE_ANSWERS = 10  # 4xx answers in a row that nobody knows before they are an alarm


class Gate:
    """
    The gate of one topic.

    :param patience: seconds until a push that was let through is given up.
    :param alarmed: called with topic and reason when an alarm begins, without when it is over.
    :ivar alarm: why it is shut, None while it is open.
    """

    def __init__(
        self, topic: str, patience: float, jitter: Jitter, alarmed: Callable[[str, str], None]
    ) -> None:
        self.alarm: PushOutcome | None = None
        self._topic = topic
        self._patience = patience
        self._jitter = jitter
        self._alarmed = alarmed
        self._alarms = 0  # in a row
        self._try_at = 0.0
        self._trying = False
        self._strange = 0

    def refuses(self, now: float) -> PushOutcome | None:
        """Answer a push that may not go out; None if it may."""
        if self.alarm is None:
            return None
        if now < self._try_at:
            return PushOutcome(Decision.ALARM, reason=f"not sent: {self.alarm.reason}")
        self._trying, self._try_at = True, now + self._patience
        return None

    def answered(self, outcome: PushOutcome, now: float) -> None:
        """Hear what APNs answered to a push."""
        if outcome.decision is not Decision.ALARM:
            self._strange = 0
            self.open()
        elif self._is_serious(outcome):
            self.shut(outcome, now)

    def shut(self, alarm: PushOutcome, now: float) -> None:
        """Let nothing out for a while; longer each time that a try came to the same."""
        begins = self.alarm is None
        self.alarm = alarm
        if begins or self._trying:
            self._trying = False
            self._try_at = now + spread(step(ALARM_DELAYS, self._alarms), self._jitter)
            self._alarms += 1
        if begins:
            log.error(
                "pushes for {topic} are refused: {reason}", topic=self._topic, reason=alarm.reason
            )
            self._alarmed(self._topic, alarm.reason)

    def open(self) -> None:
        """Let everything out again."""
        if self.alarm is not None:
            log.info("pushes for {topic} are taken again", topic=self._topic)
            self._alarmed(self._topic, "")
        self.alarm, self._alarms = None, 0

    def _is_serious(self, outcome: PushOutcome) -> bool:
        """An answer that nobody knows may be one device's doing: it must come often."""
        if (outcome.status, outcome.reason) in TABLE:
            return True
        self._strange += 1
        return self._strange >= STRANGE_ANSWERS
