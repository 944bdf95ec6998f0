"""mdmctl top: what it learns from events, and that it fits whatever terminal there is."""

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mdmd.cli import show, watch
from mdmd.cli.screen import Screen
from mdmd.cli.server import status_lines
from mdmd.ops.figures import WINDOW, Figures

STATUS = {
    "version": "1.2.3",
    "operator": "me",
    "role": "admin",
    "time": 1_800_000_100_000,
    "started": 1_800_000_000_000,
    "memory": 80 * 1024 * 1024,
    "fleet": {"enrollments": 12345, "enabled": 12000, "with_work": 17},
    "connections": {"site": 120, "api": 3, "programs": 2, "manhole": 1},
    "requests": {
        "total": 1000,
        "by_status": {"2xx": 990, "4xx": 10},
        "per_second": 100.0,
        "ms_median": 1.2,
        "ms_95": 4.0,
        "ms_most": 220.0,
    },
    "push": {
        "lines": [
            {
                "topic": "com.apple.mgmt.External.7faed215-0000-4618-a210-000000000000",
                "connections": 1,
                "in_flight": 3,
                "waiting": 0,
                "delivered": 123456,
                "refused": 2,
                "alarm": "the push certificate has ended",
                "not_after": 1_800_100_000,
                "last_error": "TooManyRequests",
                "last_error_at": 1_800_000_050,
            }
        ]
    },
    "log": {"warn": 3, "error": 0, "critical": 0},
}


def event(second: int, who: str, topic: str = "mdm.Connect", **facts: str) -> dict[str, Any]:
    """One event, so many seconds after the beginning."""
    return {
        "id": f"{1_800_000_000_000 + second * 1000}-0",
        "topic": topic,
        "enrollment": who,
        "facts": facts,
    }


class ScreenTests(SynchronousTestCase):
    """One look."""

    def setUp(self) -> None:
        self.screen = Screen()
        self.screen.status = STATUS
        for number in range(30):
            who = f"0A1B2C3D-0000-5AC1-BDB2-{number:012}"
            self.screen.happened(event(10, who, status="Idle"))
            self.screen.happened(
                event(
                    11 + number, who, status="Acknowledged", request_type="InstalledApplicationList"
                )
            )
        self.screen.happened(
            event(50, "MAC", "mdmd.Refused", reason="WrongIdentity: another certificate " * 9)
        )

    def test_slowest_devices(self) -> None:
        """How long each took from when it was handed a command to its answer, longest first."""
        slowest = self.screen.data()["slowest"]
        self.assertEqual([each["ms"] for each in slowest[:3]], [30_000, 29_000, 28_000])
        self.assertEqual(slowest[0]["request_type"], "InstalledApplicationList")

    def test_a_device_that_only_comes_by_is_not_slow(self) -> None:
        """Days between two visits say nothing."""
        screen = Screen()
        screen.status = STATUS
        screen.happened(event(0, "A", status="Idle"))
        screen.happened(event(9000, "A", status="Idle"))
        self.assertEqual(screen.data()["slowest"], [])

    def test_fits_every_terminal(self) -> None:
        """No line is too long, and there are no more lines than fit."""
        for width in (40, 80, 120, 139, 140, 200, 400):
            for height in (10, 24, 50, 100):
                lines = self.screen.lines(width, height)
                self.assertLessEqual(len(lines), height)
                for line in lines:
                    self.assertLessEqual(show.visible(line), width, (width, height, line))

    def test_no_half_of_what_needs_to_be_whole(self) -> None:
        """A CommandUUID is there whole where there is room, and otherwise not at all."""
        uuid = "2EC830E3-731A-408A-B56A-0A993729189E"
        what = {"status": "Acknowledged", "request_type": "DeviceInformation", "command_uuid": uuid}
        one = event(60, uuid, **what)
        self.screen.happened(one)
        for width in range(60, 220, 10):
            for line in (watch.line(one, width), self.screen.lines(width, 24)[-1]):
                self.assertEqual("command_uuid" in line, f"command_uuid={uuid}" in line, line)
            self.assertLessEqual(len(watch.line(one, width)), width)
        self.assertNotIn("command", watch.line(one, 80))
        self.assertIn(uuid, watch.line(one, 200)[60:])
        self.assertIn("Acknowledged DeviceInformation", watch.line(one, 80))
        # A text is worth its beginning.
        told = watch.line(event(1, uuid, reason="it is not " * 20, command_uuid=uuid), 80)
        self.assertRegex(told, "it is not.*…$")

    def test_everything_is_there(self) -> None:
        """Connections, pushes, work, slow devices, errors, at 80 columns as at 200."""
        for width in (80, 200):
            text = "\n".join(self.screen.lines(width, 50))
            for word in (
                "devices 12,345",
                "with work 17",
                "site 120",
                "requests 100.0/s",
                "median 1.2 ms",
                "delivered 123,456",
                "ALARM",
                "SLOWEST",
                "30.0 s",
                "TROUBLE",
                "Refused",
                "EVENTS",
            ):
                self.assertIn(word, text, width)

    def test_nobody_is_there(self) -> None:
        """No headers over nothing."""
        screen = Screen()
        screen.status = STATUS | {"push": {"lines": []}}
        text = "\n".join(screen.lines(80, 24))
        for words in ("nothing was pushed yet", "nobody answered lately", "none lately"):
            self.assertIn(words, text)

    def test_trouble_comes_first(self) -> None:
        """A daemon that is gone, or hangs, is told above figures that are old."""
        self.screen.trouble = "the daemon went away; waiting for it"
        for height in (3, 24):
            self.assertIn("went away", self.screen.lines(80, height)[0])

    def test_short_ids_tell_devices_apart(self) -> None:
        """Those that begin with their chip by their end."""
        self.assertEqual(show.short("00008130-03EE5E2A10CCC321", 80), "…5E2A10CCC321")
        self.assertEqual(show.short("5B3228A6-AB9D-560F-9475-13307C7E44F0", 80), "5B3228A6…44F0")
        self.assertEqual(show.short("00008130-03EE5E2A10CCC321", 200), "00008130-03EE5E2A10CCC321")

    def test_before_the_first_answer(self) -> None:
        """Nothing is known yet, and nothing breaks."""
        self.assertTrue(Screen().lines(80, 24))

    def test_memory_is_bounded(self) -> None:
        """It may run for weeks."""
        for number in range(30_000):
            self.screen.happened(event(number, f"device-{number}", status="Error"))
        self.assertLessEqual(len(self.screen._last), 10_000)
        self.assertLessEqual(len(self.screen._slow), 121)


class StatusTests(SynchronousTestCase):
    """``mdmctl status``: the same once, and what there is no room for on the screen."""

    def test_for_people(self) -> None:
        """Times and sizes as people say them, no line wider than the terminal."""
        for width in (80, 200):
            lines = status_lines(STATUS, width)
            text = "\n".join(lines)
            for word in ("up 100 s", "memory 80 MB", "started 2027-01-1", "until 2027-01-1"):
                self.assertIn(word, text)
            self.assertIn("last error TooManyRequests, ", text)
            self.assertNotIn("180", text)
            self.assertLessEqual(max(map(show.visible, lines)), width)


class FiguresTests(SynchronousTestCase):
    """What the log tells is counted."""

    def test_requests_and_troubles(self) -> None:
        """Rates over the last seconds, statuses and troubles since the start."""
        clock = Clock()
        figures = Figures(clock.seconds, clock.seconds)
        publisher = LogPublisher(figures)
        requests = Logger(namespace="mdmd.web.respond", observer=publisher)
        for number in range(20):
            clock.advance(0.1)
            requests.info("{status}", status=200 if number else 503, ms=float(number))
        Logger(namespace="x", observer=publisher).emit(LogLevel.warn, "careful")
        now = figures.now()
        self.assertEqual(now["requests"]["by_status"], {"2xx": 19, "5xx": 1})
        self.assertEqual(now["requests"]["per_second"], 20 / WINDOW)
        self.assertEqual(now["requests"]["ms_most"], 19.0)
        self.assertEqual(now["log"]["warn"], 1)
        clock.advance(WINDOW + 1)
        self.assertEqual(figures.now()["requests"]["per_second"], 0)
        self.assertEqual(figures.now()["requests"]["total"], 20)

    def test_started(self) -> None:
        """How long it has been up stays right when somebody sets the clock."""
        clock, wall = Clock(), Clock()
        wall.advance(7200)
        figures = Figures(clock.seconds, wall.seconds)
        for each in (clock, wall):
            each.advance(60)
        wall.advance(-3600)
        self.assertEqual(figures.now()["started"], (wall.seconds() - 60) * 1000)
