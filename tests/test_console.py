"""A terminal at the manhole without SSH: what is typed and pasted, however much it is."""

import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mdmd.ops.manhole.console import Console
from mdmd.ops.manhole.editor import LONGEST
from mdmd.ops.manhole.history import History
from mdmd.ops.manhole.keys import KeyReader
from tests.opshelp import scratch

PACKET = 32 * 1024  # of what an SSH client sends


class Session:
    """Takes lines; each waits until it is told to end."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.refused: list[str] = []
        self.busy = False
        self.waiting: Deferred[str] = Deferred()
        self.interpreter = self
        self.namespace: dict[str, Any] = {}
        self.width = 80

    def run(self, source: str) -> "Deferred[str]":
        self.ran.append(source)
        self.busy = True
        self.waiting = Deferred()
        return self.waiting

    def refuse(self, source: str, error: Exception) -> "Deferred[str]":
        self.refused.append(str(error))
        self.busy = True
        self.waiting = Deferred()
        return self.waiting

    def end(self) -> None:
        self.busy = False
        self.waiting.callback("ok")

    def cancel(self) -> None:
        self.end()


class Screen:
    """Counts what is written to it."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, data: bytes) -> None:
        self.text += data.decode()


class PastingTests(SynchronousTestCase):
    """Much text at once."""

    def setUp(self) -> None:
        self.session = Session()
        self.screen = Screen()
        session: Any = self.session
        self.console = Console(lambda *_: session, History(scratch(), "anna"), "hello\n", 80)
        self.console.makeConnection(self.screen)

    def paste(self, text: str) -> float:
        """Type it as SSH brings it; the seconds that the server was held up at most."""
        data, longest = text.encode(), 0.0
        for at in range(0, len(data), PACKET):
            begun = time.process_time()
            self.console.dataReceived(data[at : at + PACKET])
            longest = max(longest, time.process_time() - begun)
        return longest

    def test_a_long_line_holds_nobody_up(self) -> None:
        """It is drawn once, not once for each of its characters."""
        took = self.paste("x = '" + "ü" * (LONGEST - 10) + "'")
        self.assertLess(took, 1.0)
        self.assertLess(len(self.screen.text), 10 * LONGEST)
        self.paste("\r")
        self.assertEqual(self.session.ran, ["x = '" + "ü" * (LONGEST - 10) + "'"])

    def test_a_line_that_never_ends(self) -> None:
        """Ten megabytes: bounded in time, memory and answer; half of it does not run."""
        took = self.paste("push('A'); " * (10_000_000 // 11))
        self.assertLess(took, 1.0)
        self.assertLess(len(self.screen.text), 10 * LONGEST)
        self.paste("\r")
        self.assertEqual(self.session.ran, [])
        self.assertIn("a line has 20,000 characters at most", self.session.refused[0])
        self.session.end()
        self.paste("1\r")
        self.assertEqual(self.session.ran, ["1"])

    def test_lines_wait_for_the_one_that_runs(self) -> None:
        """In order, none left out."""
        self.paste("a\rb\r\rc")
        self.assertEqual(self.session.ran, ["a"])
        self.session.end()
        self.assertEqual(self.session.ran, ["a", "b"])
        self.session.end()
        self.paste("\r")
        self.assertEqual(self.session.ran, ["a", "b", "c"])

    def test_too_much_typed_ahead(self) -> None:
        """No line runs without those before it: nothing does, until Ctrl-C."""
        self.paste("wait\r" + "step\r" * 30_000)
        self.assertIn("too much typed ahead", self.screen.text)
        self.paste("step\r")
        self.session.end()
        self.paste("step\r")
        self.assertEqual(self.session.ran, ["wait"])
        self.paste("\x03go\r")
        self.assertEqual(self.session.ran, ["wait", "go"])


class KeyReaderTests(SynchronousTestCase):
    """Bytes to keys, however they are cut."""

    def test_each_cut(self) -> None:
        """Letters of every size, arrows and controls come out whole."""
        typed = "aü€𝄞b\x1b[A\x03é\r".encode()
        whole = ["a", "ü", "€", "𝄞", "b", "<up>", "<c-c>", "é", "<enter>"]
        for at in range(len(typed) + 1):
            reader = KeyReader()
            self.assertEqual(reader.feed(typed[:at]) + reader.feed(typed[at:]), whole, at)

    def test_bytes_that_are_no_text(self) -> None:
        """They don't stick: what follows is read."""
        reader = KeyReader()
        self.assertEqual(reader.feed(b"\xff\xfe\x80a\r")[-2:], ["a", "<enter>"])
        self.assertEqual(reader.feed(b"\xe2\xe2\r")[-1:], ["<enter>"])
