"""Warnings of push certificates that end: after the last one no device can be woken."""

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mdmd.apns.timing import Clock, Timer, Wall, stop_timer
from mdmd.errors import MdmdError
from mdmd.interfaces.push import IExpiryWarnings

log = Logger()

WARN_AT = (60, 30, 14, 7, 1, 0)  # days before the end
LOOK_EVERY = 3600.0  # seconds
_DAY = 86400.0


def warning_due(not_after: int, now: float) -> int | None:
    """
    Say which warning is due, as its number of days; None if the end is far away.

    :param not_after: epoch seconds.
    """
    left = (not_after - now) / _DAY
    return min((days for days in WARN_AT if left <= days), default=None)


class ExpiryWatch:
    """
    Look now and then, and warn: in the log of each daemon, and by one event for all.

    :ivar days_left: by topic, as of the last look; for those who measure.
    """

    def __init__(self, clock: Clock, certificates: IExpiryWarnings, wall: Wall) -> None:
        self._clock = clock
        self._wall = wall
        self._certificates = certificates
        self._timer: Timer | None = None
        self._logged: dict[str, tuple[int, int]] = {}  # version and days, by topic
        self._running = False
        self.days_left: dict[str, float] = {}

    async def start(self) -> None:
        """Look, and go on looking."""
        self._running = True
        self._look()

    async def stop(self) -> None:
        """Look no more."""
        self._running = False
        stop_timer(self._timer)

    def _look(self) -> None:
        Deferred.fromCoroutine(self.look()).addBoth(self._looked)

    def _looked(self, result: object) -> None:
        """Plan the next look, whatever happened."""
        if isinstance(result, Failure):
            if isinstance(result.value, MdmdError):
                log.warn("push certificates can't be looked at: {reason}", reason=str(result.value))
            else:
                log.failure("looking at push certificates failed", result)
        if self._running:
            self._timer = self._clock.callLater(LOOK_EVERY, self._look)

    async def look(self) -> None:
        """Look once."""
        versions = await self._certificates.versions()
        now = self._wall()
        self.days_left = {
            topic: (not_after - now) / _DAY for topic, (_, not_after) in versions.items()
        }
        for topic, (version, not_after) in versions.items():
            days = warning_due(not_after, now)
            if days is None:
                continue
            if self._logged.get(topic) != (version, days):
                self._logged[topic] = version, days
                self._tell(topic, self.days_left[topic])
            await self._certificates.warn_expiry(topic, version, days, not_after)

    def _tell(self, topic: str, left: float) -> None:
        if left <= 0:
            log.critical(
                "the push certificate of {topic} has ended: no device can be woken; "
                "mdmctl pushcert renew",
                topic=topic,
            )
            return
        log.warn(
            "the push certificate of {topic} ends in {days} days; mdmctl pushcert renew",
            topic=topic,
            days=max(1, round(left)),
        )
