"""Long sends tell how far they are: live on a terminal, now and then elsewhere."""

import os
from io import StringIO

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mdmd.cli.progress import EVERY, Progress
from tests.test_mdmctl import TerminalTests as _TerminalTests


class Screen(StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


class ProgressTests(SynchronousTestCase):
    """What is said, and when."""

    def told(self, out: StringIO, total: int, seconds: float) -> list[str]:
        """The lines of five parts that take so long each."""
        clock = Clock()
        progress = Progress(total, out, clock.seconds)
        for part in range(1, 6):
            clock.advance(seconds)
            progress.tell(500 * part, f", {part} refused")
        progress.end()
        return out.getvalue().split("\r\x1b[K" if out.isatty() else "\n")[:-1]

    def test_where_nobody_looks(self) -> None:
        """Nothing of what is done soon, then a line every ten seconds at most."""
        self.assertEqual(self.told(StringIO(), 2500, EVERY / 6), [])
        self.assertEqual(
            self.told(StringIO(), 2500, EVERY / 2),
            ["1,000 of 2,500 (40 %) looked at, 2 refused",
             "2,000 of 2,500 (80 %) looked at, 4 refused"],
        )  # fmt: skip

    def test_on_a_terminal(self) -> None:
        """One line that is written over, and taken off at the end."""
        told = self.told(Screen(), 0, 1.0)
        self.assertEqual(told[:2], ["", "500 looked at, 1 refused …"])
        self.assertEqual(len(told), 6)

    def test_more_than_there_were(self) -> None:
        """Those that enroll meanwhile make no more than 100 %."""
        self.assertIn("2,400 of 2,400 (100 %)", self.told(StringIO(), 2400, EVERY)[-1])


class SendTests(_TerminalTests):
    """mdmctl itself."""

    test_ctrl_c = test_q_leaves_top = test_colour_and_width = None

    def test_a_send_in_parts(self) -> None:
        """It counts on the terminal, and clears the line before it tells what became of them."""
        ids = ",".join(f"NOBODY-{number}" for number in range(1500))
        pid, end = self.on_terminal("send", ids, "SecurityInfo")
        seen = self.until(end, b"500 of 1,500 (33 %) looked at, 0 sent to, 500 refused")
        seen += self.until(end, b"0 queued, 1500 refused")
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 1)
        progress, _, rest = seen.rpartition(b"\r\x1b[K")
        self.assertNotIn(b"NOBODY", progress)
        self.assertNotIn(b"looked at", rest)

    def test_in_a_script(self) -> None:
        """What goes into a file has no progress in it."""
        ids = ",".join(f"NOBODY-{number}" for number in range(1500))
        done = self.mdmctl("send", ids, "SecurityInfo", status=1)
        self.assertNotIn("looked at", done.stdout + done.stderr)
