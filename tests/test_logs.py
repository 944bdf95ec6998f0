"""What a log line looks like, for people and for programs."""

import contextlib
import io
import json
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

from twisted.logger import LogEvent, Logger, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mdmd.ops.logs import LogLines, Logs, json_line, text_line


class LineTests(SynchronousTestCase):
    """One event, one line."""

    def event(self, format: str, level: str = "info", **facts: object) -> LogEvent:
        """An event as a Logger of mdmd makes it, at a known time."""
        events: list[LogEvent] = []
        log = Logger("mdmd.web.respond", observer=events.append)  # type: ignore[arg-type]
        getattr(log, level)(format, **facts)
        return {**events[0], "log_time": 1_790_000_000.25}

    def test_text(self) -> None:
        """The text, then the facts that are not in it."""
        event = self.event("{method} {path} {status}", method="PUT", path="/connect", status=200)
        self.assertEqual(
            text_line({**event, "ms": 1.5, "peer": "a b"}),
            "2026-09-21T14:13:20.250Z info     mdmd.web.respond: "
            'PUT /connect 200 ms=1.5 peer="a b"\n',
        )

    def test_one_line(self) -> None:
        """Whatever somebody puts into a fact, it does not begin a line of its own."""
        event = self.event("{path} {{}}", path="a\nb", reason="x\ny")
        self.assertEqual(text_line(event).count("\n"), 1)
        self.assertEqual(json_line(event).count("\n"), 1)

    def test_terminal(self) -> None:
        """Nor does it tell the terminal of whoever reads it what to do."""
        line = text_line(self.event("{path} is gone", path="a\x1b[2Jb", topic="\x1b[31mc\x9b"))
        self.assertTrue(line[:-1].isprintable(), line)
        self.assertIn(r"a\u001b[2Jb is gone", line)
        self.assertIn(r'topic="\u001b[31mc\u009b"', line)

    def test_json(self) -> None:
        """Facts keep their types; objects of the program are left out."""
        line = json.loads(json_line(self.event("{status}", status=503, thing=object())))
        self.assertEqual(
            line,
            {
                "time": "2026-09-21T14:13:20.250Z",
                "level": "info",
                "room": "mdmd.web.respond",
                "text": "503",
                "status": 503,
            },
        )

    def test_failure(self) -> None:
        """A bug of ours comes with its traceback."""
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            event = self.event("a bug", "failure")
        self.assertIn("ZeroDivisionError", text_line(event))
        self.assertIn("ZeroDivisionError", json.loads(json_line(event))["traceback"])


class LogsTests(SynchronousTestCase):
    """A log in a file."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "mdmd.log"
        self.logs = Logs(self.path, False, "info")

    def log(self, room: str = "web") -> Logger:
        return Logger(f"mdmd.{room}.part", observer=self.logs.observer)

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    def test_levels(self) -> None:
        """One part can be made talkative while the daemon runs."""
        self.log().debug("one")
        self.logs.set_level("web", "debug")
        self.log().debug("two")
        self.log("apns").debug("three")
        self.logs.set_level("", "critical")
        self.log("apns").error("four")
        self.assertEqual([line.rpartition(" ")[2] for line in self.lines()], ["two"])
        self.assertRaises(ValueError, self.logs.set_level, "web", "loud")

    def test_reopen(self) -> None:
        """A file that was moved away is left alone after the signal."""
        self.log().info("one")
        self.path.rename(self.path.with_suffix(".1"))
        self.logs._lines.reopen()
        self.log().info("two")
        self.assertEqual([line.rpartition(" ")[2] for line in self.lines()], ["two"])

    def test_reopen_on_signal(self) -> None:
        """The signal only says what is to be done soon: it may come in the middle of a line."""
        later: list[Callable[[], None]] = []
        self.addCleanup(signal.signal, signal.SIGUSR2, signal.getsignal(signal.SIGUSR2))
        self.logs.reopen_on(later.append, signal.SIGUSR2)
        self.path.rename(self.path.with_suffix(".1"))
        signal.raise_signal(signal.SIGUSR2)
        self.assertFalse(self.path.exists())
        later.pop()()
        self.assertTrue(self.path.exists())

    def test_not_reopened(self) -> None:
        """A file that can't be opened anew: a line in the old one, which stays."""
        folder = self.path.parent / "away"
        folder.mkdir()
        logs = Logs(folder / "mdmd.log", False, "info")
        globalLogPublisher.addObserver(logs.observer)
        self.addCleanup(globalLogPublisher.removeObserver, logs.observer)
        moved = folder.rename(self.path.parent / "moved")
        logs.reopen()
        self.assertIn("not opened anew: [Errno 2]", (moved / "mdmd.log").read_text())

    def test_trouble_on_a_full_disk(self) -> None:
        """What tells trouble is said on standard error then, and nothing else is."""
        told = io.StringIO()
        with contextlib.redirect_stderr(told):
            lines = LogLines(Path("/dev/full"), False)
        make = LineTests().event
        for event in (make("well"), make("no room", "critical")):
            self.assertRaises(OSError, lines, event)
        self.assertRegex(told.getvalue(), "^[^\n]+ critical [^\n]+: no room\n$")

    def test_reopened_on_a_full_disk(self) -> None:
        """What the old file has not taken does not keep a new one from being opened."""
        lines = LogLines(Path("/dev/full"), False)
        event = LineTests().event("one")
        self.assertRaises(OSError, lines, event)
        lines.reopen()
