"""``mdmctl demo`` shows the whole loop for real, says so only if it held, and leaves nothing."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mdmd.cli.stage import DaemonProcess, Stage, StepFailed, shown, table
from tests.daemonhelp import redis_server

MDMCTL = str(Path(sys.executable).parent / "mdmctl")


def left_over(state: str) -> list[str]:
    """Processes that still have the demo's folder in their command line."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = each.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if state in words:
            found.append(words)
    return found


class DemoTests(SynchronousTestCase):
    """Each one a real daemon with everything around it."""

    def start(self, *words: str) -> "subprocess.Popen[str]":
        demo = subprocess.Popen(
            [MDMCTL, "demo", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.addCleanup(demo.stdout.close)  # type: ignore[union-attr]
        self.addCleanup(demo.wait, 30)
        return demo

    def until(self, demo: "subprocess.Popen[str]", text: str) -> str:
        """Read on until a line has ``text``; what was read."""
        read = ""
        assert demo.stdout is not None
        for line in demo.stdout:
            read += line
            if text in line:
                return read
        raise AssertionError(read)

    def assert_nothing_left(self, said: str) -> None:
        match = re.search(r"files in (\S+)", said)
        assert match is not None, said
        self.assertEqual(left_over(match[1]), [])
        self.assertFalse(Path(match[1]).exists())

    def test_once(self) -> None:
        """Exit status 0 after both have answered, each step with its time, the answers a table."""
        demo = self.start("--once")
        said, _ = demo.communicate(timeout=60)
        self.assertEqual(demo.returncode, 0, said)
        for name in ("Mac", "iPhone"):
            for step in (
                "identity by SCEP over TLS",
                "enrolled: Authenticate, TokenUpdate",
                "woken by the push, connects with its certificate",
                "takes DeviceInformation",
                "reports Acknowledged",
            ):
                self.assertRegex(said, rf"(?m)^ +\d+\.\d\d s  {name} +{re.escape(step)}", said)
            self.assertRegex(said, rf"200: push for the {name}")
        self.assertRegex(said, r"(?m)^  ProductName +Mac15,6 +iPhone16,1$")
        self.assertLessEqual(max(map(len, said.splitlines())), 80, said)
        self.assert_nothing_left(said)

    def test_interrupted(self) -> None:
        """Ctrl-C, as a terminal sends it to all of us, ends everything; what to try was said."""
        demo = self.start()
        said = self.until(demo, "Ctrl-C ends everything")
        for word in ("ssh -p", "curl -u", "mdmctl --state", "send"):
            self.assertIn(word, said)
        self.assertLessEqual(max(map(len, said.splitlines())), 80, said)
        os.killpg(demo.pid, signal.SIGINT)
        rest, _ = demo.communicate(timeout=30)
        self.assertEqual(demo.returncode, 0, rest)
        self.assertIn("nothing is left running", rest)
        self.assert_nothing_left(said)

    def test_terminated_in_the_middle(self) -> None:
        """SIGTERM while the daemon is still starting leaves nothing either."""
        demo = self.start()
        said = self.until(demo, "twistd -n mdmd")
        demo.terminate()
        rest, _ = demo.communicate(timeout=30)
        self.assertEqual(demo.returncode, 0, rest)
        self.assert_nothing_left(said)

    def test_killed_daemon(self) -> None:
        """A daemon that is killed fails the demo, and its store is not left behind."""
        demo = self.start()
        said = self.until(demo, "Ctrl-C ends everything")
        match = re.search(r"files in (\S+)", said)
        assert match is not None, said
        found = subprocess.run(
            ["pgrep", "-f", f"twistd .*{match[1]}"], capture_output=True, text=True, check=True
        )
        os.kill(int(found.stdout), signal.SIGKILL)
        rest, _ = demo.communicate(timeout=30)
        self.assertEqual(demo.returncode, 1, rest)
        self.assert_nothing_left(said)

    def test_failed_step(self) -> None:
        """A daemon that can't start is exit status 1, with its own words, and nothing left."""
        demo = self.start("--once", "--redis", "unix:///nowhere/redis.sock")
        said, _ = demo.communicate(timeout=60)
        self.assertEqual(demo.returncode, 1, said)
        self.assertIn("failed: ", said)
        self.assertIn("/nowhere/redis.sock", said)
        self.assert_nothing_left(said)

    def test_another_store(self) -> None:
        """The same with a Redis that is not ours."""
        binary = shutil.which("redis-server")
        if binary is None:
            self.skipTest("redis-server is not installed")
        with redis_server(binary) as url:
            demo = self.start("--once", "--redis", url)
            said, _ = demo.communicate(timeout=60)
        self.assertEqual(demo.returncode, 0, said)
        self.assert_nothing_left(said)

    def test_state_is_kept(self) -> None:
        """--state keeps the folder, and another demo may use it; somebody else's is refused."""
        with tempfile.TemporaryDirectory(prefix="kept-", dir="/tmp") as folder:
            for _ in range(2):
                demo = self.start("--once", "--state", folder)
                said, _ = demo.communicate(timeout=60)
                self.assertEqual(demo.returncode, 0, said)
            self.assertTrue(Path(folder, "daemon.log").exists())
            self.assertEqual(left_over(folder), [])
        with tempfile.TemporaryDirectory(prefix="kept-", dir="/tmp") as folder:
            Path(folder, "mine").touch()
            demo = self.start("--once", "--state", folder)
            said, _ = demo.communicate(timeout=60)
            self.assertEqual((demo.returncode, os.listdir(folder)), (1, ["mine"]), said)


class DaemonProcessTests(TestCase):
    """The process, without a play around it."""

    timeout = 30

    async def test_end_at_once(self) -> None:
        """One that is ended in the moment it is started hears it."""
        folder = Path(tempfile.mkdtemp(prefix="stage-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, folder)
        daemon = DaemonProcess(reactor, folder / "log")
        began = time.monotonic()
        daemon.start(folder / "no.conf")
        await daemon.stop()
        self.assertLess(time.monotonic() - began, 5)
        await self.assertFailure(daemon.ready, StepFailed)


class StageTests(SynchronousTestCase):
    def test_table(self) -> None:
        """Columns as wide as their text; never wider than the terminal."""
        self.assertEqual(
            table(["a", "bb"], [["ccc", "d"]]),
            "  ───  ──\n  a    bb\n  ───  ──\n  ccc  d\n  ───  ──\n",
        )
        wide = table(["name", "value"], [["x" * 60, "y" * 60]], width=40)
        self.assertEqual(max(map(len, wide.splitlines())), 40)
        self.assertIn("…", wide)

    def test_line(self) -> None:
        """Seconds, who, what."""
        lines: list[str] = []
        times = iter([100.0, 101.25])
        Stage(lines.append, lambda: next(times)).tell("Mac", "enrolled")
        self.assertEqual(lines, ["  1.25 s  Mac       enrolled\n"])

    def test_values(self) -> None:
        """Values are spelled for people."""
        self.assertEqual([shown(True), shown(0.5), shown("x")], ["yes", "0.5", "x"])
