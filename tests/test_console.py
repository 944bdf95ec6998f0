"""A terminal at the manhole without SSH: what is typed and pasted, however much it is."""

import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mdmd.ops.manhole.console import Console
from mdmd.ops.manhole.editor import LONGEST
from mdmd.ops.manhole.history import History
from mdmd.ops.manhole.interpreter import is_whole
from mdmd.ops.manhole.keys import KeyReader
from mdmd.ops.manhole.session import Lines
from tests.opshelp import scratch

PACKET = 32 * 1024  # of what an SSH client sends


class Session:
    """Takes lines; each waits until it is told to end."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.refused: list[str] = []
        self.given_up: list[str] = []
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

    def give_up(self, source: str) -> "Deferred[str]":
        self.given_up.append(source)
        self.busy = True
        self.waiting = Deferred()
        return self.waiting

    def end(self) -> None:
        self.busy = False
        self.waiting.callback("ok")

    def cancel(self) -> None:
        if self.busy:
            self.end()


class Screen:
    """Counts what is written to it."""

    def __init__(self) -> None:
        self.text = ""
        self.closed = False

    def loseConnection(self) -> None:
        self.closed = True

    def write(self, data: bytes) -> None:
        self.text += data.decode()


class ConsoleCase(SynchronousTestCase):
    """A terminal without SSH, and a session that runs nothing."""

    def setUp(self) -> None:
        self.session = Session()
        self.screen = Screen()
        self.clock = Clock()
        session: Any = self.session
        history = History(scratch(), "anna")
        self.console = Console(lambda *_: session, history, "hello\n", 80, self.clock)
        self.console.makeConnection(self.screen)

    def paste(self, text: str) -> float:
        """Type it as SSH brings it; the seconds that the server was held up at most."""
        data, longest = text.encode(), 0.0
        for at in range(0, len(data), PACKET):
            begun = time.process_time()
            self.console.dataReceived(data[at : at + PACKET])
            longest = max(longest, time.process_time() - begun)
        return longest


class PastingTests(ConsoleCase):
    """Much text at once."""

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

    def test_a_long_block(self) -> None:
        """Devices have their turn between its lines; then it runs as it was typed."""
        block = "if True:\n" + "".join(f"    a{n} = ({n},)\n" for n in range(1000))
        self.paste(block.replace("\n", "\r") + "\rlast\r")
        self.assertLess(self.screen.text.count("... "), 100)
        self.assertEqual(self.session.ran, [])
        self.clock.advance(0)
        self.assertEqual(self.session.ran, [block])
        self.session.end()
        self.assertEqual(self.session.ran, [block, "last"])

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


class LeavingTests(ConsoleCase):
    """What was typed before somebody goes."""

    def test_a_client_that_goes_away(self) -> None:
        """What runs is cancelled, and what was typed ahead of it does not begin."""
        self.paste("wait\rpush('A')\rpush('B')\r")
        self.console.connectionLost()
        self.assertEqual(self.session.ran, ["wait"])
        self.assertFalse(self.session.busy)

    def test_behind_the_end(self) -> None:
        """Nothing runs after Ctrl-D."""
        self.paste("one\r\x04two\r")
        self.session.end()
        self.assertTrue(self.screen.closed)
        self.paste("three\r")
        self.assertEqual(self.session.ran, ["one"])

    def test_behind_exit(self) -> None:
        """Nothing runs after exit()."""
        self.paste("exit()\rtwo\r")
        self.session.namespace["exit"]()
        self.session.end()
        self.assertEqual(self.session.ran, ["exit()"])

    def test_behind_sys_exit(self) -> None:
        """Nor after a line that ended with SystemExit."""
        self.paste("sys.exit()\rtwo\r")
        self.session.busy = False
        self.session.waiting.callback("SystemExit")
        self.assertTrue(self.screen.closed)
        self.assertEqual(self.session.ran, ["sys.exit()"])

    def test_lines_that_are_no_statement_yet(self) -> None:
        """They were typed, so they are noted: at Ctrl-C, and when the client goes."""
        self.paste("if x:\r    a\r    b\x03")
        self.assertEqual(self.session.given_up, ["if x:\n    a"])
        self.session.end()
        self.paste("go\r")
        self.assertEqual(self.session.ran, ["go"])
        self.session.end()
        self.paste("while x:\r")
        self.console.connectionLost()
        self.assertEqual(self.session.given_up, ["if x:\n    a", "while x:"])
        self.assertEqual(self.session.ran, ["go"])


class LinesTests(SynchronousTestCase):
    """Lines of a statement: whole when Python says so, without asking it each time."""

    def looks(self, text: str) -> int:
        """Type a text that is one statement; say how often it was looked at."""
        looks = 0

        def look(source: str) -> bool:
            nonlocal looks
            looks += 1
            return is_whole(source)

        lines = Lines()
        *begun, last = text.split("\n")
        for line in begun:
            self.assertEqual(lines.add(line, look), None, line)
        self.assertEqual(lines.add(last, look), text)
        self.assertFalse(lines.begun)
        return looks

    def test_long_statements(self) -> None:
        """A thousand lines are not looked at a thousand times."""
        inner = "".join(f"    a{n} = [{n}]\n" for n in range(1000))
        numbers = "".join(f"  {n},\n" for n in range(1000))
        for text in (
            f"if x:\n{inner}",
            f"@twice\nasync def f():\n{inner}",
            f"x = [\n{numbers}]",
            f"x = f(\n{numbers}  2\n)",
            f'x = """\n{numbers} end"""',
            f"match = [\n{numbers}]",
        ):
            self.assertLess(self.looks(text), 60, text[:20])

    def test_any_statement(self) -> None:
        """However long, each ends where Python says."""
        sums = "".join(f"  {n} + \\\n" for n in range(100))
        cases = "".join(f"    case {n}: y = 1\n" for n in range(100))
        blank = "\n" * 100
        for text in (f"x = \\\n{sums}  1", f"match x:\n{cases}", f'x = """{blank}"""'):
            self.looks(text)


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
