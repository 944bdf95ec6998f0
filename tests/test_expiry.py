"""Push certificates that end: warned of in time, once, whoever looks."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mdmd.apns.alarms import Alarms
from mdmd.apns.counts import PushCounts
from mdmd.apns.expiry import ExpiryWatch, warning_due
from mdmd.errors import StoreUnavailable
from mdmd.interfaces.push import Decision, PushOutcome
from tests.apnshelp import told
from tests.storecase import BEGIN, TOPIC, StoreCase

DAY = 86400


class Certificates:
    """One topic whose certificate ends when the test says."""

    def __init__(self, not_after: int) -> None:
        self.held = {TOPIC: (1, not_after)}
        self.warned: list[tuple[str, int, int, int]] = []
        self.away = False

    async def versions(self) -> dict[str, tuple[int, int]]:
        if self.away:
            raise StoreUnavailable("away")
        return self.held

    async def warn_expiry(self, topic: str, version: int, days: int, not_after: int) -> bool:
        self.warned.append((topic, version, days, not_after))
        return True


class Watching(SynchronousTestCase):
    """A year passes."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.certificates = Certificates(100 * DAY)
        self.watch = ExpiryWatch(self.clock, self.certificates, self.clock.seconds)
        self.said: list[dict[str, object]] = []
        globalLogPublisher.addObserver(self.hear)
        self.addCleanup(globalLogPublisher.removeObserver, self.hear)
        told(self.watch.start())

    def hear(self, event: dict[str, object]) -> None:
        if "expiry" in str(event.get("log_namespace")):
            self.said.append(event)

    def days(self, count: int) -> None:
        """Let days pass, hour by hour."""
        self.clock.pump([3600.0] * 24 * count)

    def test_thresholds(self) -> None:
        """Which warning is due, at each side of each day."""
        for left, due in (
            (61, None), (60, 60), (31, 60), (30, 30), (15, 30), (14, 14), (7, 7), (2, 7), (1, 1),
            (0.5, 1), (0, 0), (-5, 0),
        ):  # fmt: skip
            self.assertEqual(warning_due(1000 * DAY, (1000 - left) * DAY), due, left)

    def test_logged_once_each(self) -> None:
        """Six lines of log from sixty days before the end to the end, the last one critical."""
        self.days(39)
        self.assertEqual(self.said, [])
        self.assertEqual(round(self.watch.days_left[TOPIC]), 61)
        self.days(80)
        levels = [event["log_level"] for event in self.said]
        self.assertEqual(levels, [LogLevel.warn] * 5 + [LogLevel.critical])
        self.assertEqual([event.get("days") for event in self.said[:5]], [60, 30, 14, 7, 1])

    def test_renewed(self) -> None:
        """A new version is another certificate."""
        self.days(95)
        count = len(self.said)
        self.certificates.held[TOPIC] = (2, (95 + 365) * DAY)
        self.days(10)
        self.assertEqual(len(self.said), count)
        self.certificates.held[TOPIC] = (3, (105 + 7) * DAY)
        self.days(1)
        self.assertEqual(len(self.said), count + 1)

    def test_goes_on(self) -> None:
        """A store that was away, even for long, ends nothing."""
        self.certificates.away = True
        self.days(45)
        self.certificates.away = False
        self.days(1)
        self.assertEqual(self.certificates.warned[0][:3], (TOPIC, 1, 60))

    def test_stops(self) -> None:
        """Nothing is left behind."""
        told(self.watch.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class Events(StoreCase):
    """One event for all daemons, on a real Valkey."""

    async def expiries(self) -> list[tuple[str, str]]:
        """Version and days of each warning."""
        return [
            (event.facts["version"], event.facts["days"])
            for event in await self.store.fleet.events(limit=100)
            if event.topic == "mdmd.PushCertificateExpiry"
        ]

    async def test_once_for_all_daemons(self) -> None:
        """Three daemons look each hour; the event stream has each warning once."""
        await self.store.certificates.put(TOPIC, b"c", b"k", int(BEGIN) + 32 * DAY)
        watches = [
            ExpiryWatch(self.clock, self.store.certificates, self.clock.seconds) for _ in range(3)
        ]
        for _ in range(40):
            await self.all(watches)
            self.clock.advance(DAY)
        expected = [("1", days) for days in ("60", "30", "14", "7", "1", "0")]
        self.assertEqual(await self.expiries(), expected)
        await self.store.certificates.put(TOPIC, b"c", b"k", int(self.clock.seconds()) + 5 * DAY)
        await self.all(watches)
        self.assertEqual((await self.expiries())[-1], ("2", "7"))

    async def all(self, watches: list[ExpiryWatch]) -> None:
        for each in watches:
            await each.look()

    async def test_alarms(self) -> None:
        """An alarm of a topic, and its end, are events."""
        alarms = Alarms(self.store.events)
        alarms(TOPIC, "BadCertificate")
        alarms(TOPIC, "")
        await self.link.ping()
        first, second = await self.store.fleet.events(limit=10)
        self.assertEqual(
            (first.topic, first.facts),
            ("mdmd.PushAlarm", {"push_topic": TOPIC, "reason": "BadCertificate"} | self.at(first)),
        )
        self.assertEqual(second.topic, "mdmd.PushAlarmOver")

    def at(self, event: object) -> dict[str, str]:
        return {key: event.facts[key] for key in event.facts if key not in ("push_topic", "reason")}  # type: ignore[attr-defined]

    async def test_alarm_without_store(self) -> None:
        """Without the store the log has it, and nothing else happens."""

        class Away:
            def tell(self, *_: object, **__: object) -> "Deferred[None]":
                async def away() -> None:
                    raise StoreUnavailable("away")

                return away()  # type: ignore[return-value]

        Alarms(Away())("t", "BadCertificate")  # type: ignore[arg-type]


class Counting(SynchronousTestCase):
    """What is counted has an end, whatever a peer says."""

    def test_reasons(self) -> None:
        """Apple's words by name, others together, none where no answer came."""
        counts = PushCounts()
        for status, reason, decision in (
            (200, "", Decision.DELIVERED),
            (410, "Unregistered", Decision.DROP_TOKEN),
            (400, "Made up 1", Decision.ALARM),
            (400, "Made up 2", Decision.ALARM),
            (0, "no connection to APNs: whatever", Decision.RETRY),
        ):
            counts.add("t", PushOutcome(decision, status, reason))
        self.assertEqual(
            dict(counts.outcomes),
            {
                ("t", "delivered", ""): 1,
                ("t", "drop-token", "Unregistered"): 1,
                ("t", "alarm", "other"): 2,
                ("t", "retry", ""): 1,
            },
        )

    def test_topics(self) -> None:
        """Devices name their topics; those that no certificate is for share a name in the end."""
        counts = PushCounts()
        for number in range(500):
            counts.add(f"made-up-{number}", PushOutcome(Decision.ALARM))
        counts.add("made-up-0", PushOutcome(Decision.ALARM))
        counts.add("made-up-499", PushOutcome(Decision.ALARM))
        for outcome in (PushOutcome(Decision.DELIVERED, 200), PushOutcome(Decision.RETRY)):
            counts.add("ours", outcome)
        self.assertEqual(len({topic for topic, *_ in counts.outcomes}), 102)
        self.assertEqual(counts.outcomes["made-up-0", "alarm", ""], 2)
        self.assertEqual(counts.outcomes["other", "alarm", ""], 401)
        self.assertEqual(counts.outcomes["ours", "delivered", ""], 1)
