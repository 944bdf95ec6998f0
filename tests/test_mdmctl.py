"""mdmctl: as a person types it, against a daemon's operators' door in a process of its own."""

import argparse
import contextlib
import json
import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mdmd.cli import show
from mdmd.cli.main import make_parser
from tests.opshelp import MAC, PHONE, scratch, write_operators

ROOT = Path(__file__).parent.parent
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmdRLLlgL3rIkZh2tBM3SmS6GEbwpSGdbgb5yUSKmd9"
MDMCTL = (sys.executable, "-m", "mdmd.cli.main")


class CommandLine(SynchronousTestCase):
    """One served desk for all tests of a class."""

    role = "admin"

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = scratch()
        write_operators(cls.folder / "operators.json", me={"role": cls.role, "uid": os.getuid()})
        cls.begin()

    @classmethod
    def begin(cls) -> None:
        """Start the server."""
        cls.server = subprocess.Popen(
            [sys.executable, "-m", "tests.opshelp", cls.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert cls.server.stdout.readline() == b"ready 0\n"

    @classmethod
    def end(cls) -> None:
        """End it."""
        cls.server.stdin.close()
        cls.server.wait(10)
        cls.server.stdout.close()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.end()
        shutil.rmtree(cls.folder)

    def mdmctl(self, *words: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
        """Run it; its exit status is checked."""
        done = subprocess.run(
            [*MDMCTL, "--state", str(self.folder), *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env={**os.environ, "COLUMNS": "100"},
        )
        self.assertEqual(done.returncode, status, done)
        self.assertNotIn("Traceback", done.stderr)
        return done

    def data(self, *words: str) -> object:
        """Run it with --json, give what it says."""
        return json.loads(self.mdmctl(*words, "--json").stdout)


class VerbTests(CommandLine):
    """Every verb says what it did, to people and to programs."""

    def test_devices(self) -> None:
        """A line for each, and the same as data; the options stand before or after the verb."""
        lines = self.mdmctl("devices").stdout.splitlines()
        self.assertTrue(lines[0].startswith("ID "))
        self.assertIn("C02XL0THJGH5", lines[1])
        self.assertEqual([each["id"] for each in self.data("devices")], [MAC, PHONE])
        before = json.loads(self.mdmctl("--json", "devices", "--limit", "1").stdout)
        self.assertEqual(len(before), 1)

    def test_those_that_are_meant(self) -> None:
        """As a verb that sends would choose them, to be looked at before."""
        one = self.data("devices", "--where", "serial=C02XL0THJGH5")
        self.assertEqual([each["id"] for each in one], [MAC])
        both = ("devices", "--where", "enabled")
        self.assertEqual([each["id"] for each in self.data(*both)], [MAC, PHONE])
        self.assertEqual([each["id"] for each in self.data(*both, "--limit", "1")], [MAC])
        self.assertEqual([each["id"] for each in self.data(*both, "--after", MAC)], [PHONE])
        self.assertEqual(self.data("devices", "--where", "owner=nobody"), [])
        self.mdmctl("group", "add", "looked-at", PHONE)
        (phone,) = self.data("devices", "--group", "looked-at")
        self.assertEqual(phone, next(each for each in self.data("devices") if each["id"] == PHONE))
        self.mdmctl("group", "remove", "looked-at", PHONE)
        self.mdmctl("devices", "--where", "os<x", status=1)
        self.mdmctl("devices", "--group", "x", "--after", MAC, status=1)

    def test_device(self) -> None:
        """By serial number; an unknown one is an error of one line."""
        self.assertRegex(self.mdmctl("device", "C02XL0THJGH5").stdout, r"OSVersion +26\.1")
        self.assertEqual(self.data("device", MAC)["facts"]["SerialNumber"], "C02XL0THJGH5")
        wrong = self.mdmctl("device", "nobody", status=1)
        self.assertEqual(wrong.stderr, "mdmctl: no enrollment and no serial number is 'nobody'\n")

    def test_send_and_results(self) -> None:
        """Send, wait for the answer, read it again from the results."""
        done = self.mdmctl("send", MAC, "DeviceInformation", "Queries=OSVersion", "--wait")
        self.assertIn("Acknowledged", done.stdout)
        self.assertIn("OSVersion: 26.1", done.stdout)
        results = self.data("results", MAC)
        self.assertEqual(results[0]["status"], "Acknowledged")
        whole = self.data("results", MAC, results[0]["uuid"])
        self.assertEqual(whole["answer"], {"QueryResponses": {"OSVersion": "26.1"}})
        self.assertIn("DeviceInformation", self.mdmctl("results", MAC).stdout)

    def test_a_device_that_refuses(self) -> None:
        """Its error is shown, and the exit status tells it from ours."""
        done = self.mdmctl(
            "send", PHONE, "InstallProfile", "Payload=base64:AA==", "--wait", status=5
        )
        self.assertIn("no room", done.stdout)

    def test_a_target_that_is_none(self) -> None:
        """One wrong id does not fail the other, but the exit status says so."""
        done = self.mdmctl("send", f"{MAC},nobody", "SecurityInfo", status=1)
        self.assertIn(f"{MAC}  pushed", done.stdout)
        self.assertIn("nobody  no such enrollment", done.stdout)

    def test_queue(self) -> None:
        """What waits, cancelled and cleared."""
        self.mdmctl("send", MAC, "Restart", "--force", "--uuid", "C-1", "--no-push")
        self.mdmctl("send", MAC, "Restart", "--force", "--uuid", "C-2")
        self.assertEqual([each["uuid"] for each in self.data("queue", MAC)], ["C-1", "C-2"])
        self.assertIn("never sent", self.mdmctl("queue", MAC, "--cancel", "C-1").stdout)
        self.mdmctl("queue", MAC, "--cancel", "C-1", status=1)
        for act in ("--cancel", "--requeue"):  # of a script whose variable is empty
            self.mdmctl("queue", MAC, act, "", status=1)
        self.assertEqual(self.data("queue", MAC, "--clear"), {"cleared": 1, "sent": 0})

    def test_push_status_events(self) -> None:
        """The rest of what an operator looks at."""
        self.assertIn(f"{MAC}  pushed", self.mdmctl("push", MAC).stdout)
        self.assertEqual(self.data("status")["role"], "admin")
        told = self.mdmctl("status").stdout
        self.assertTrue(told.startswith("mdmd 1.2.3  up "), told)
        self.assertNotRegex(told, r"\d{7}")
        self.mdmctl("send", MAC, "SecurityInfo")
        statuses = [each["facts"].get("status") for each in self.data("events")]
        self.assertIn("Acknowledged", statuses)
        self.assertIn("mdm.Connect", self.mdmctl("events").stdout)


class TerminalTests(CommandLine):
    """On a terminal of its own."""

    def on_terminal(self, *words: str) -> tuple[int, int]:
        """Run it on a new terminal; give the process and our end."""
        pid, end = pty.fork()
        if pid == 0:
            os.chdir(ROOT)
            for each in (signal.SIGINT, signal.SIGQUIT):  # ignored by what a script has put aside
                signal.signal(each, signal.SIG_DFL)
            env = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
            os.execve(MDMCTL[0], [*MDMCTL, "--state", str(self.folder), *words], env)
        self.addCleanup(os.close, end)
        return pid, end

    def until(self, end: int, text: bytes) -> bytes:
        """Read what it shows until a text comes."""
        seen = b""
        while text not in seen:
            seen += os.read(end, 65536)
        return seen

    def test_a_new_size_is_drawn_for_at_once(self) -> None:
        """Not only at the next look."""
        _, end = self.on_terminal("top", "--interval", "60")
        self.until(end, b"mdmd 1.2.3")
        termios.tcsetwinsize(end, (24, 50))
        self.until(end, b"mdmd 1.2.3")
        os.write(end, b"q")

    def test_top_waits_for_a_daemon_that_went_away(self) -> None:
        """It says so, and goes on with the next one."""
        _, end = self.on_terminal("top", "--interval", "0.1")
        self.until(end, b"mdmd 1.2.3")
        self.end()
        try:
            self.until(end, b"the daemon went away; waiting for it")
        finally:
            self.begin()
        self.mdmctl("push", MAC)
        self.until(end, b"Idle")
        os.write(end, b"q")

    def test_watch_waits_for_a_daemon_that_went_away(self) -> None:
        """What it then shows begins where it was."""
        watch = subprocess.Popen(
            [*MDMCTL, "--state", str(self.folder), "watch", "--after", "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(watch.communicate)
        self.addCleanup(watch.kill)
        self.mdmctl("push", MAC)
        self.assertIn("Idle", watch.stdout.readline())
        self.end()
        try:
            self.assertEqual(watch.stderr.readline(), "the daemon went away; waiting for it\n")
        finally:
            self.begin()
        self.assertEqual(watch.stderr.readline(), "a daemon is there again\n")
        self.mdmctl("push", MAC)
        self.assertIn("Idle", watch.stdout.readline())

    def test_ctrl_c(self) -> None:
        """Exit status 130, nothing said, the terminal as it was before."""
        self.mdmctl("send", MAC, "DeviceInformation", "Queries=OSVersion")
        for verb, shown in (("watch", b"Acknowledged"), ("top", b"mdmd 1.2.3")):
            pid, end = self.on_terminal(verb, *(("--after", "1") if verb == "watch" else ()))
            self.until(end, shown)
            os.write(end, b"\x03")
            rest = b""
            with contextlib.suppress(OSError):
                while more := os.read(end, 65536):
                    rest += more
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 130, verb)
            self.assertNotIn(b"mdmctl:", rest)
            if verb == "top":
                self.assertTrue(rest.endswith(b"\x1b[?25h\x1b[?1049l"), rest[-40:])

    def test_ctrl_z(self) -> None:
        """The shell has its screen while top is stopped; ``fg`` draws it anew."""
        pid, end = self.on_terminal("top")
        self.until(end, b"mdmd 1.2.3")
        os.write(end, b"\x1a")
        self.until(end, b"\x1b[?25h\x1b[?1049l")
        self.assertTrue(os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1]))
        self.assertTrue(termios.tcgetattr(end)[3] & termios.ICANON)
        os.kill(pid, signal.SIGCONT)
        self.assertIn(b"\x1b[?1049h\x1b[?25l", self.until(end, b"mdmd 1.2.3"))
        os.write(end, b"q")
        with contextlib.suppress(OSError):
            while os.read(end, 65536):
                pass
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)

    def test_q_leaves_top(self) -> None:
        """As in every such program."""
        pid, end = self.on_terminal("top")
        self.until(end, b"mdmd 1.2.3")
        os.write(end, b"q")
        with contextlib.suppress(OSError):
            while os.read(end, 65536):
                pass
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)

    def test_colour_and_width(self) -> None:
        """Colour on a terminal only; a table is as wide as the terminal."""
        pid, end = self.on_terminal("devices")
        termios.tcsetwinsize(end, (24, 60))
        seen = self.until(end, b"PHON").decode()
        os.waitpid(pid, 0)
        self.assertIn("\x1b[1mID", seen)
        for line in seen.splitlines():
            self.assertLessEqual(len(show.plain(line)), 60)
        self.assertNotIn("\x1b", self.mdmctl("devices").stdout)


class OperatorVerbTests(CommandLine):
    """Who may come in."""

    def test_the_life_of_an_operator(self) -> None:
        """Added, given a password and a key, promoted, removed; the password shows nowhere."""
        self.mdmctl("operator", "add", "eve", "--role", "operator", "--uid", "4242")
        done = subprocess.run(
            [*MDMCTL, "--state", str(self.folder), "operator", "passwd", "eve", "--stdin"],
            input="correct horse\n",
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertNotIn("horse", done.stdout)
        (self.folder / "eve.pub").write_text(f"{SSH_KEY} eve@mac\n")
        self.mdmctl("operator", "key", "eve", str(self.folder / "eve.pub"))
        self.mdmctl("operator", "role", "eve", "admin")
        eve = self.data("operator", "list")[0]
        self.assertEqual(
            (eve["name"], eve["role"], eve["uid"], eve["has_password"], len(eve["ssh_keys"])),
            ("eve", "admin", 4242, True, 1),
        )
        self.mdmctl("operator", "key", "eve", "--remove", eve["ssh_keys"][0])
        self.mdmctl("operator", "remove", "eve")
        self.assertEqual([each["name"] for each in self.data("operator", "list")], ["me"])

    def test_audit(self) -> None:
        """Who did what to whom, as a line and as data."""
        self.mdmctl("push", MAC)
        last = self.data("audit")[0]
        self.assertEqual(
            (last["who"], last["what"], last["enrollments"], last["outcome"]),
            ("me", "push.send", [MAC], "ok"),
        )
        self.assertIn(f"me (unix uid {os.getuid()})  push.send", self.mdmctl("audit").stdout)

    def test_audit_in_one_order(self) -> None:
        """Newest first, as a line and as data, and the help says so."""
        for uuid in ("C-1", "C-2", "C-3"):
            self.mdmctl("queue", MAC, "--cancel", uuid, status=1)
        as_data = [each["facts"]["uuid"] for each in self.data("audit", "--limit", "3")]
        self.assertEqual(as_data, ["C-3", "C-2", "C-1"])
        lines = self.mdmctl("audit", "--limit", "3").stdout.splitlines()
        self.assertEqual([line.partition("uuid=")[2][:3] for line in lines], as_data)
        self.assertIn("newest first", self.mdmctl("audit", "--help").stdout)

    def test_mistakes(self) -> None:
        """Each is told in one line."""
        self.mdmctl("operator", "remove", "nobody", status=1)
        done = self.mdmctl("operator", "remove", "me", status=1)
        self.assertEqual(done.stderr, "mdmctl: somebody has to be admin\n")
        self.mdmctl("operator", "add", "x", "--role", "king", status=2)


class DocumentedClientTests(CommandLine):
    """What docs/pb.md promises to whoever writes a program."""

    def test_the_example_runs(self) -> None:
        """The client of the docs, as it stands there, in 20 lines at most of its own."""
        text = (ROOT / "docs" / "pb.md").read_text()
        example = text.partition("```python\n")[2].partition("```")[0]
        (self.folder / "client.py").write_text(example)
        done = subprocess.run(
            [sys.executable, str(self.folder / "client.py"), str(self.folder / "mdmd.sock")],
            capture_output=True,
            text=True,
            timeout=30,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(f"{MAC} C02XL0THJGH5", done.stdout)
        self.assertLessEqual(len([line for line in example.splitlines() if line.strip()]), 20)

    def test_every_method_is_in_the_table(self) -> None:
        """docs/pb.md names every method there is."""
        text = (ROOT / "docs" / "pb.md").read_text()
        for method in self.data("methods"):
            subject, _, name = method["name"].partition(".")
            self.assertRegex(text, rf"`(?:{subject})?\.{name}\(", method["name"])


class ViewerTests(CommandLine):
    """A viewer looks, and can't act."""

    role = "viewer"

    def test_a_viewer_may_not_send(self) -> None:
        """Refused in one line, with an exit status of its own."""
        done = self.mdmctl("send", MAC, "SecurityInfo", status=4)
        self.assertIn("needs the role operator", done.stderr)
        self.assertEqual(len(self.data("devices")), 2)


class OutputTests(CommandLine):
    """Where what it prints goes to."""

    def test_watch_ends_when_nobody_reads(self) -> None:
        """``watch | head -1`` is over with the next event; a full disk is told in a line."""
        for verb in (("watch",), ("events", "--follow")):
            for out, told in (("| head -1", ""), ("> /dev/full", "No space left on device")):
                words = [*MDMCTL, "--state", str(self.folder), *verb]
                line = f"{shlex.join(words)} --after 1 {out}"
                watch = subprocess.Popen(
                    ["bash", "-o", "pipefail", "-c", line],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
                self.addCleanup(watch.stderr.close)
                self.addCleanup(watch.wait)
                self.addCleanup(watch.kill)
                while watch.poll() is None:
                    self.mdmctl("push", MAC)
                said = watch.stderr.read()
                self.assertEqual(watch.returncode, 1, said)
                self.assertIn(told, said)
                self.assertLessEqual(said.count("\n"), 1, said)

    def test_no_standard_output(self) -> None:
        """It is said in a line; and one of another encoding gets what it can show."""
        words = shlex.join([*MDMCTL, "--state", str(self.folder), "report", "os"])
        done = subprocess.run(["bash", "-c", f"{words} >&-"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, "mdmctl: there is no standard output to write to\n")
        ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
        done = subprocess.run(["bash", "-c", words], capture_output=True, env=ascii_only)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertIn(b"?", done.stdout)


class NoDaemonTests(SynchronousTestCase):
    """Nobody is there to answer."""

    def test_no_daemon(self) -> None:
        """One line that says how to start it, exit status 3."""
        done = subprocess.run(
            [*MDMCTL, "devices", "--state", "/nonexistent"],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 3)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertIn("twistd -n mdmd --config /nonexistent/mdmd.conf", done.stderr)

    def test_version(self) -> None:
        """Said without a daemon, as every program does."""
        done = subprocess.run([*MDMCTL, "--version"], capture_output=True, text=True, check=True)
        self.assertRegex(done.stdout, r"^mdmctl \d+\.\d+\.\d+\n$")

    def test_help_is_quick(self) -> None:
        """--help answers within 0.3 s of processor time, with every verb and exit status in it."""
        before = time.process_time(), os.times()
        done = subprocess.run([*MDMCTL, "--help"], capture_output=True, text=True, check=True)
        spent = os.times().children_user - before[1].children_user
        self.assertLess(spent, 0.3)
        for word in ("devices", "send", "results", "5 a device answered"):
            self.assertIn(word, done.stdout)

    def test_every_help_helps(self) -> None:
        """Each verb says what it does, and what each of its arguments and options is."""
        for path, parser in self.parsers(make_parser(), "mdmctl"):
            self.assertTrue(parser.description, path)
            for action in parser._actions:
                self.assertTrue(action.help or action.choices, f"{path}: {action.dest}")
            parser.format_help()

    def parsers(
        self, parser: argparse.ArgumentParser, path: str
    ) -> Iterator[tuple[str, argparse.ArgumentParser]]:
        """Walk over all verbs and what is below them."""
        yield path, parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, each in action.choices.items():
                    yield from self.parsers(each, f"{path} {name}")


class TableTests(SynchronousTestCase):
    """Tables fit."""

    def test_fits(self) -> None:
        """The widest column gives way; nothing is wider than asked for."""
        rows = [["short", "x" * 200, "y" * 30], ["1", "2", "3"]]
        for most in (40, 80, 200):
            lines = show.table(("A", "B", "C"), rows, most)
            self.assertLessEqual(max(map(len, lines)), most)
        self.assertIn("…", show.table(("A", "B", "C"), rows, 80)[1])
        self.assertIn("x" * 200, show.table(("A", "B", "C"), rows)[1])

    def test_wide_characters(self) -> None:
        """Two columns each; marks and joiners none: what is behind them stays in its column."""
        names = [
            "山田太郎のiPhone",
            "Jose\u0301",
            "ｗｉｄｅ",
            "👩🏽 Anna",
            "한국어 기기 이름",
            "plain",
        ]
        lines = show.table(("NAME", "OS"), [[each, "26.1"] for each in names])
        before = [each[: each.index("26.1")] for each in lines[1:]]
        self.assertEqual({show.cells(each) for each in before}, {18})
        for most in range(14, 24):
            cut = show.table(("NAME", "OS"), [[each, "26.1"] for each in names], most)
            self.assertLessEqual(max(map(show.cells, cut)), most)
            columns = {show.cells(each[: each.index("26.1")]) for each in cut[1:]}
            self.assertEqual(len(columns), 1, cut)
        self.assertEqual(show.cut("山田太郎", 4), "山…")

    def test_nobody_writes_to_the_terminal(self) -> None:
        """A device's name with escape sequences in it does nothing."""
        lines = show.table(("A",), [["\x1b[2Jboo\n"]])
        self.assertEqual(lines[1], "�[2Jboo�")

    def test_ages(self) -> None:
        """Roughly, in the unit that fits."""
        ages = [show.age(1_000_000 - ms, now=1000.0) for ms in (0, 5_000, 180_000, 9_000_000)]
        self.assertEqual(ages, ["now", "5 s ago", "3 min ago", "2 h ago"])
        self.assertEqual(show.age(None), "never")
