"""Alarms of a topic become events."""

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mdmd.errors import MdmdError
from mdmd.interfaces.push import IEventWriter

log = Logger()


class Alarms:
    """Call with topic and reason when an alarm begins, with an empty reason when it is over."""

    def __init__(self, events: IEventWriter) -> None:
        self._events = events

    def __call__(self, topic: str, reason: str) -> None:
        """Write the event; nobody waits for it, and the log has told it already."""
        if reason:
            told = self._events.tell("mdmd.PushAlarm", None, push_topic=topic, reason=reason)
        else:
            told = self._events.tell("mdmd.PushAlarmOver", None, push_topic=topic)
        Deferred.fromCoroutine(told).addErrback(_failed)


def _failed(failure: Failure) -> None:
    if isinstance(failure.value, MdmdError):
        log.warn("no event of a push alarm: {reason}", reason=str(failure.value))
    else:
        log.failure("no event of a push alarm", failure)
