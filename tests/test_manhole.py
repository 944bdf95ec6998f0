"""The manhole, driven by OpenSSH's own ssh: as people use it, and as they should not."""

import contextlib
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.opshelp import MAC, scratch

ROOT = Path(__file__).parent.parent
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Terminal:
    """A session of ssh with a terminal at the other end."""

    def __init__(self, words: list[str]) -> None:
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.seen = ""

    def type(self, text: str) -> None:
        """Press keys."""
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def expect(self, text: str, seconds: float = 15.0) -> str:
        """Read until a text comes; what came with it and before is given and forgotten."""
        end = time.monotonic() + seconds
        while text not in ESCAPES.sub("", self.seen):
            left = end - time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, left))
            more = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not more:
                raise AssertionError(f"no {text!r} in {ESCAPES.sub('', self.seen)!r}")
            self.seen += more.decode()
        plain = ESCAPES.sub("", self.seen)
        self.seen = plain[plain.index(text) + len(text) :]
        return plain

    def line(self, text: str) -> str:
        """Type a line; give all that is printed until the next prompt."""
        self.type(text + "\r")
        self.expect(text)
        return self.expect("mdmd> ")

    def close(self) -> None:
        """Hang up."""
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class ManholeCase(SynchronousTestCase):
    """One server for all tests of a class; three people with keys, one of them an admin."""

    @classmethod
    def setUpClass(cls) -> None:
        if not shutil.which("ssh") or not shutil.which("ssh-keygen"):
            raise SkipTest("needs OpenSSH's ssh and ssh-keygen")
        cls.folder = scratch()
        keys = {name: cls.new_key(name) for name in ("host_key", "boss", "eve", "ann", "nobody")}
        roles = {
            "boss": {"role": "admin", "uid": os.getuid(), "ssh_keys": [keys["boss"]]},
            "eve": {"role": "viewer", "ssh_keys": [keys["eve"]]},
        }
        (cls.folder / "operators.json").write_text(json.dumps({"operators": roles}))
        (cls.folder / "authorized_keys").write_text(f"# admins\n{keys['ann']} ann@mac\n")
        cls.server = subprocess.Popen(
            [sys.executable, "-m", "tests.opshelp", cls.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        cls.mdmctl = [sys.executable, "-m", "mdmd.cli.main", "--state", str(cls.folder)]
        word, cls.port = cls.server.stdout.readline().decode().split()
        assert word == "ready"

    @classmethod
    def tearDownClass(cls) -> None:
        cls.server.stdin.close()
        cls.server.wait(10)
        cls.server.stdout.close()
        log = (cls.folder / "log").read_text()
        shutil.rmtree(cls.folder)
        # Whatever the tests did, nothing was a bug of ours.
        assert "Traceback" not in log, log[-5000:]

    @classmethod
    def new_key(cls, name: str) -> str:
        """Make a key pair; give the public one."""
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", cls.folder / name]
        subprocess.run(words, check=True)
        return " ".join((cls.folder / f"{name}.pub").read_text().split()[:2])

    def words(self, who: str, *more: str) -> list[str]:
        """A command line of ssh."""
        options = {
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": str(self.folder / "known_hosts"),
            "StrictHostKeyChecking": "accept-new",
            "LogLevel": "ERROR",
            "BatchMode": "yes",
        }
        return [
            *("ssh", "-F", "none", "-p", self.port, "-i", str(self.folder / who)),
            *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
            *more[:-1],
            f"{who}@127.0.0.1",
            *more[-1:],
        ]

    def ssh(self, who: str, *more: str, script: str = "") -> "subprocess.CompletedProcess[str]":
        """Run ssh to its end."""
        return subprocess.run(
            self.words(who, *more), input=script, capture_output=True, encoding="utf-8", timeout=30
        )

    def terminal(self, who: str = "boss") -> Terminal:
        """Come in with a terminal."""
        # -tt: ssh's own standard input is a pipe here.
        terminal = Terminal(self.words(who, "-tt", "")[:-1])
        self.addCleanup(terminal.close)
        return terminal

    def inside(self, who: str = "boss") -> Terminal:
        """Come in and wait for the first prompt."""
        terminal = self.terminal(who)
        terminal.expect("mdmd> ")
        return terminal

    def log_has(self, text: str) -> None:
        """Wait until the server's log has a text."""
        end = time.monotonic() + 10
        while text not in (self.folder / "log").read_text():
            if time.monotonic() > end:
                raise AssertionError((self.folder / "log").read_text()[-3000:])
            time.sleep(0.02)

    def audit(self) -> list[dict[str, Any]]:
        """What the audit has, newest first."""
        done = subprocess.run(
            [sys.executable, "-m", "mdmd.cli.main", "--state", self.folder, "--json", "audit"],
            capture_output=True,
            text=True,
        )
        return json.loads(done.stdout)


class AdmissionTests(ManholeCase):
    """Public keys only, admins only."""

    def test_an_admin_s_key(self) -> None:
        """Of the operators file, and of authorized_keys."""
        for who in ("boss", "ann"):
            done = self.ssh(who, "1 + 1")
            self.assertEqual((done.returncode, done.stdout), (0, "2\n"), done)
        self.log_has("audit: ann@mac from ssh 127.0.0.1: manhole 1 + 1: ok")

    def test_a_refused_key(self) -> None:
        """Nobody's key gets nothing, and the log says so."""
        done = self.ssh("nobody", "1 + 1")
        self.assertEqual(done.returncode, 255)
        self.assertIn("Permission denied (publickey)", done.stderr)
        self.log_has("nobody has this SSH key")

    def test_a_refused_viewer(self) -> None:
        """A viewer has no manhole, with a good key of their own."""
        done = self.ssh("eve", "1 + 1")
        self.assertEqual(done.returncode, 255)
        self.assertIn("Permission denied (publickey)", done.stderr)
        self.log_has("the manhole is for admins; eve is viewer")
        logins = [each for each in self.audit() if each["what"] == "login"]
        self.assertEqual(logins[-1]["source"], "ssh 127.0.0.1")
        self.assertIn(logins[-1]["facts"]["by"], ("SSH key", "SSH, no key"))

    def test_no_passwords(self) -> None:
        """Only public keys are offered."""
        words = self.words("nobody", "-v", "-o", "PreferredAuthentications=password", "1")
        done = subprocess.run(words, capture_output=True, text=True, timeout=30)
        self.assertIn(
            "Authentications that can continue: publickey\n", done.stderr.replace("\r", "")
        )

    def test_nothing_but_sessions(self) -> None:
        """No forwarding, no files."""
        done = self.ssh("boss", "-W", "127.0.0.1:1", "-v")
        self.assertNotEqual(done.returncode, 0)
        words = self.words("boss", "-s", "sftp")
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, input="")
        self.assertNotEqual(done.returncode, 0)

    def test_the_host_key_is_kept(self) -> None:
        """ssh sees the key that init made."""
        self.ssh("boss", "1")
        known = (self.folder / "known_hosts").read_text()
        self.assertIn((self.folder / "host_key.pub").read_text().split()[1], known)


class CommandTests(ManholeCase):
    """``ssh host COMMAND`` for scripts."""

    def test_an_expression(self) -> None:
        """It is awaited if it has to be, and printed; the exit status is 0."""
        done = self.ssh("boss", "devices")
        self.assertEqual(done.returncode, 0)
        self.assertIn("C02XL0THJGH5", done.stdout)
        done = self.ssh("boss", 'd = device("C02XL0THJGH5"); (await d.record)["id"]')
        self.assertEqual(done.stdout, f"'{MAC}'\n")

    def test_with_a_terminal(self) -> None:
        """``ssh -t host COMMAND`` prints lines that begin at the left."""
        words = self.words("boss", "-tt", "print('one\\ntwo')")
        done = subprocess.run(words, capture_output=True, timeout=30, stdin=subprocess.DEVNULL)
        self.assertEqual(done.stdout, b"one\r\ntwo\r\n")

    def test_errors(self) -> None:
        """A refusal is a line, a mistake a traceback of what was typed; the exit status is 1."""
        done = self.ssh("boss", 'device("nobody")')
        self.assertEqual(done.returncode, 1)
        self.assertEqual(
            done.stdout, "NotHere: no enrollment id, serial number or name is 'nobody'\n"
        )
        done = self.ssh("boss", "1 / 0")
        self.assertEqual(done.returncode, 1)
        self.assertIn("ZeroDivisionError", done.stdout)
        self.assertNotIn("interpreter.py", done.stdout)
        self.assertEqual(self.ssh("boss", "1 +").returncode, 1)

    def test_a_script_from_standard_input(self) -> None:
        """Statement by statement, each shown, until one fails."""
        done = self.ssh(
            "boss", "-T", "", script="x = 20\nx + 1\nif x:\n    print('yes')\n\nx.y\n9\n"
        )
        self.assertEqual(done.returncode, 1)
        self.assertTrue(done.stdout.startswith("21\nyes\n"), done.stdout)
        self.assertNotIn("9\n", done.stdout)

    def test_a_script_that_ends_itself(self) -> None:
        """``exit()`` is its end, with the status that it says; nothing behind it runs."""
        for word, status in (("exit()", 0), ("exit(3)", 3), ("import sys\nsys.exit('no')", 1)):
            done = self.ssh("boss", "-T", "", script=f"6 * 7\n{word}\nprint('behind')\n")
            told = "42\n" if "no" not in word else "42\nno\n"
            self.assertEqual((done.returncode, done.stdout), (status, told))
        self.assertEqual(self.ssh("boss", "exit(4)").returncode, 4)

    def test_a_script_that_is_too_long(self) -> None:
        """Nothing of it runs: half of it might do something else."""
        done = self.ssh("boss", "-T", "", script="print('run')\n" + "# more\n" * 200_000)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(
            done.stdout,
            "ValueError: a script has 1,048,576 bytes at most; nothing of it was run\n",
        )
        self.log_has("manhole print('run')")
        self.log_has(": ValueError")

    def test_a_control_character_in_a_script(self) -> None:
        """It is no key that somebody pressed: all of the script runs."""
        done = self.ssh("boss", "-T", "", script="a = 'x\x03y'\nlen(a)\n")
        self.assertEqual((done.returncode, done.stdout), (0, "3\n"))

    def test_a_client_that_goes_away(self) -> None:
        """What it waited for is cancelled; the server goes on."""
        process = subprocess.Popen(self.words("boss", "events.tail()"), stdout=subprocess.PIPE)
        process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()
        self.log_has("manhole events.tail(): cancelled")


class TerminalTests(ManholeCase):
    """As somebody sits there and types."""

    def test_the_greeting_says_what_is_here(self) -> None:
        """Not a bare prompt."""
        terminal = self.terminal()
        greeting = terminal.expect("mdmd> ")
        for word in ("you are in the living server, boss", 'device("C02…")', "events.tail()"):
            self.assertIn(word, greeting)

    def test_a_look_at_a_device(self) -> None:
        """Found by serial number, by name; shown well; asked; its answer awaited."""
        terminal = self.inside()
        terminal.line('d = device("C02XL0THJGH5")')
        self.assertIn(f"<{MAC}  C02XL0THJGH5", terminal.line("d"))
        self.assertIn(MAC, terminal.line('device("mac-1 OF somebody")'))
        self.assertIn("NotHere", terminal.line('device("{no such}")'))
        sent = terminal.line('await d.send("DeviceInformation", Queries=["OSVersion"])')
        self.assertIn("apns-MAC-1", sent)
        self.assertIn("Acknowledged", terminal.line("await _.answer"))
        self.assertIn("OSVersion", terminal.line("await _.answer"))
        self.assertIn("Acknowledged", terminal.line("d.results"))
        self.assertIn("Acknowledged, ", terminal.line("d.results[0]"))
        self.assertIn("not iterable", terminal.line("list(d.results)"))
        self.assertIn("BatteryLevel  0.5", terminal.line("d.inventory"))
        self.assertIn("nothing waits", terminal.line("d.queue"))
        self.assertIn("nothing waits", terminal.line('device("C02XL0THJGH5").queue'))
        self.assertIn("apns-MAC-1", terminal.line('device("C02XL0THJGH5").send("RestartDevice")'))

    def test_a_deferred(self) -> None:
        """Its result is printed when it comes; the prompt is free meanwhile."""
        terminal = self.inside()
        terminal.line("from twisted.internet import reactor, task")
        shown = terminal.line("task.deferLater(reactor, 0.3, lambda: 'here it is')")
        self.assertIn("<Deferred #1", shown)
        terminal.line("1 + 1")
        terminal.expect("Deferred #1: 'here it is'")

    def test_ctrl_c_cancels_the_await(self) -> None:
        """Not the session, and not the daemon; what was defined is still there."""
        terminal = self.inside()
        terminal.line("x = 42")
        terminal.type("from twisted.internet.defer import Deferred; await Deferred()\r")
        terminal.expect("await Deferred()")
        terminal.type("\x03")
        terminal.expect("cancelled")
        terminal.expect("mdmd> ")
        self.assertIn("42", terminal.line("x"))
        terminal.type("half a line\x03")
        terminal.expect("mdmd> ")
        self.assertIn("43", terminal.line("x + 1"))

    def test_completion(self) -> None:
        """Names, attributes, serial numbers, RequestTypes; several are listed."""
        terminal = self.inside()
        terminal.type("devi\t\t")
        listed = terminal.expect("devices")
        self.assertIn("device", listed)
        terminal.type("\x15")
        terminal.type('d = device("C02\t")\r')
        terminal.expect('device("C02XL0THJGH5")')
        terminal.expect("mdmd> ")
        terminal.type("d.resu\t\r")
        terminal.expect("d.results")
        terminal.expect("mdmd> ")
        terminal.type('d.send("ProfileL\t")\r')
        terminal.expect('d.send("ProfileList")')
        terminal.expect("apns-MAC-1")
        # Before it is looked up, too; what a call gives is not guessed at.
        terminal.type('device("C02XL0THJGH5").que\t\r')
        terminal.expect('device("C02XL0THJGH5").queue')
        terminal.expect("mdmd> ")
        terminal.type('stats().qui\t"')
        terminal.expect('stats().qui\x07"')

    def test_history_is_kept_for_the_next_session(self) -> None:
        """Per operator; a line with a secret in it is not in there."""
        terminal = self.inside()
        terminal.line("first_of_all = 'remember me'")
        terminal.line("pin = '123456'")
        terminal.type("\x04")
        terminal.process.wait(10)
        again = self.inside()
        again.type("\x1b[A")
        again.expect("remember me")
        again.type("\x15first\x1b[A\r")
        again.expect("first_of_all = 'remember me'")
        again.expect("mdmd> ")
        history = (self.folder / "history" / "boss").read_text()
        self.assertNotIn("123456", history)
        self.assertEqual((self.folder / "history" / "boss").stat().st_mode & 0o777, 0o600)
        other = self.inside("ann")
        other.type("\x1b[A")
        with contextlib.suppress(AssertionError):
            other.expect("remember me", 0.5)
            raise ValueError("ann sees boss's lines")

    def test_several_sessions(self) -> None:
        """Each has names of its own; one that waits does not hold up the other."""
        one, two = self.inside(), self.inside("ann")
        one.line("mine = 1")
        one.type("events.tail()\r")
        one.expect("Ctrl-C ends it")
        self.assertIn("NameError", two.line("mine"))
        two.line(f'await (device("{MAC}"))')
        two.line('(await device("C02XL0THJGH5")).send("ProfileList")')
        one.expect("mdm.Connect")
        one.type("\x03")
        one.expect("cancelled")

    def test_lines_that_go_on(self) -> None:
        """A block ends with an empty line; what is wrong is said at once."""
        terminal = self.inside()
        terminal.type("async def serials():\r")
        terminal.expect("  ... ")
        terminal.type("    return [d.serial async for d in devices]\r\r")
        terminal.expect("mdmd> ")
        self.assertIn("'C02XL0THJGH5', 'F2LX10ABCD'", terminal.line("await serials()"))
        self.assertIn("SyntaxError", terminal.line("a b"))

    def test_help_for_every_object(self) -> None:
        """Each thing in the namespace says what it is and can do."""
        terminal = self.inside()
        terminal.line('d = device("C02XL0THJGH5")')
        for name, word in (
            ("d", ".send("),
            ("device", "serial number"),
            ("devices", ".page("),
            ("events", ".tail("),
            ("log", ".level("),
            ("push", "Wake"),
            ("stats", "daemon"),
        ):
            self.assertIn(word, terminal.line(f"help({name})"), name)
        self.assertIn("await d.send", terminal.line("help"))

    def test_text_in_any_language(self) -> None:
        """Letters beyond ASCII can be typed, edited and printed."""
        terminal = self.inside()
        terminal.type("'grüüße'" + 4 * "\x1b[D" + "\x7f\x05\r")
        terminal.expect("\n'grüße'")

    def test_leaving(self) -> None:
        """Ctrl-D and exit() end the session; the next one still works."""
        for word in ("\x04", "exit()\r", "quit\r"):
            terminal = self.inside()
            terminal.type(word)
            self.assertEqual(terminal.process.wait(10), 0, word)


class AuditTests(ManholeCase):
    """One line for each line typed."""

    def test_each_line(self) -> None:
        """Who, from where, what, how it went; what it did through a method is there too."""
        terminal = self.inside()
        terminal.line('d = device("C02XL0THJGH5")')
        terminal.line('await d.send("DeviceLock", PIN="123456", Message="hello")')
        terminal.line("1 / 0")
        terminal.line('await d.send("DeviceLock", {"PIN": "123456"})')
        terminal.line('d.send("DeviceLock" PIN="123456")')
        terminal.type('d.send("DeviceLock", PIN=\r')
        terminal.expect("  ... ")
        terminal.line('"123456")')
        entries = self.audit()
        lines = [
            (each["facts"]["line"], each["outcome"]) for each in entries if "line" in each["facts"]
        ]
        self.assertEqual(
            lines[:6],
            [
                ('d.send("DeviceLock", PIN=\n…)', "ok"),
                ("d.send(… …", "SyntaxError"),
                ('await d.send("DeviceLock", {"PIN": …})', "TypeError"),
                ("1 / 0", "ZeroDivisionError"),
                ('await d.send("DeviceLock", PIN=…, Message="hello")', "ok"),
                ('d = device("C02XL0THJGH5")', "ok"),
            ],
        )
        self.assertEqual((entries[0]["who"], entries[0]["source"]), ("boss", "ssh 127.0.0.1"))
        self.assertIn(("commands.send", [MAC]), [(e["what"], e["enrollments"]) for e in entries])
        self.assertNotIn("123456", json.dumps(entries))
        self.assertNotIn("123456", (self.folder / "log").read_text())
        self.assertNotIn("123456", (self.folder / "history" / "boss").read_text())

    def test_a_line_that_blocks_everything(self) -> None:
        """The log says who did it, and so does the session."""
        terminal = self.inside()
        terminal.line("import time")
        shown = terminal.line("time.sleep(1.2)")
        self.assertRegex(shown, r"blocked the whole server for [1-9][.][0-9] s")
        self.log_has("a line of boss in the manhole blocked the whole server for ")

    def test_a_removed_admin(self) -> None:
        """An open session can do nothing once its key is gone."""
        terminal = self.inside("ann")
        terminal.line("1")
        keys = (self.folder / "authorized_keys").read_text()
        (self.folder / "authorized_keys").write_text("")
        terminal.type("devices\r")
        terminal.expect("NotAllowed")
        (self.folder / "authorized_keys").write_text(keys)

    def test_what_a_removed_admin_has_running(self) -> None:
        """It ends within a second, and so does the session: not one event more is told."""
        terminal = self.inside("ann")
        terminal.type("events.tail()\r")
        terminal.expect("Ctrl-C ends it")
        keys = (self.folder / "authorized_keys").read_text()
        (self.folder / "authorized_keys").write_text("")
        self.addCleanup((self.folder / "authorized_keys").write_text, keys)
        told = terminal.expect("NotAllowed")
        self.assertNotIn("mdm.", told)
        self.assertEqual(terminal.process.wait(10), 1)
        for _ in range(100):
            lines = [each["facts"].get("line") for each in self.audit()]
            if "events.tail()" in lines:
                break
        self.assertIn("events.tail()", lines)
