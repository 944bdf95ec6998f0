"""A line of the manhole is in the audit before it runs: it may end the daemon, or never end."""

import shutil
import subprocess
import time
from typing import Any
from unittest import SkipTest

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import NotAllowed, StoreUnavailable
from mdmd.interfaces.audit import BEGUN, AuditEntry
from mdmd.ops.manhole.batch import Batch
from mdmd.ops.manhole.session import ManholeSession
from mdmd.ops.method import Caller
from mdmd.ops.operators import Role
from mdmd.ops.perspective import Perspective
from tests.daemonhelp import RunningDaemon
from tests.opshelp import make_desk, scratch, write_operators
from tests.storehelp import Server


class SessionCase(SynchronousTestCase):
    """A session without SSH, on a desk without a store."""

    def setUp(self) -> None:
        folder = scratch()
        self.addCleanup(shutil.rmtree, folder)
        write_operators(folder / "operators.json", boss={"role": "admin"})
        self.desk = make_desk(folder / "operators.json", clock=Clock())
        self.removed = False
        self.told = ""
        self.session = self.make(self.tell)

    def make(self, write: Any) -> ManholeSession:
        """Begin a session."""
        return ManholeSession(Perspective(self.desk), self.caller, write, set(), write)

    def caller(self) -> Caller:
        """The admin whose session it is, as long as they are one."""
        if self.removed:
            raise NotAllowed("boss is no operator any more")
        return Caller("boss", Role.ADMIN, "ssh 192.0.2.1")

    def tell(self, text: str) -> None:
        """Print."""
        self.told += text

    def entries(self) -> list[tuple[str, str]]:
        """What was typed, how it ended."""
        return [(each.facts["line"], each.outcome) for each in self.desk.audit.entries]


class LineTests(SessionCase):
    """One entry a line, there before it runs."""

    def test_it_is_there_while_it_runs(self) -> None:
        """As begun; its end is added, and it stays one entry."""
        self.session.interpreter.namespace["seen"] = self.entries
        self.assertEqual(self.successResultOf(self.session.run("now = seen()")), "ok")
        self.assertEqual(
            self.session.interpreter.namespace["now"], [("now = seen()", BEGUN)], self.told
        )
        self.assertEqual(self.entries(), [("now = seen()", "ok")])

    def test_a_store_that_is_away(self) -> None:
        """The line runs all the same, and is in the log; in the audit if the store comes back."""

        async def away(entry: AuditEntry) -> str:
            raise StoreUnavailable("away")

        self.patch(self.desk.audit, "write", away)
        self.assertEqual(self.successResultOf(self.session.run("print(6 * 7)")), "ok")
        self.assertEqual((self.told, self.entries()), ("42\n", []))
        self.patch(self.desk.audit, "write", type(self.desk.audit).write.__get__(self.desk.audit))
        self.assertEqual(self.successResultOf(self.session.run("1 / 0")), "ZeroDivisionError")
        self.assertEqual(self.entries(), [("1 / 0", "ZeroDivisionError")])

    def test_ctrl_c_before_it_runs(self) -> None:
        """While the store takes its time the line can be taken back."""
        written: Deferred[str] = Deferred()

        async def slowly(entry: AuditEntry) -> str:
            return await written

        write = self.desk.audit.write
        self.patch(self.desk.audit, "write", slowly)
        line = self.session.run("print(6 * 7)")
        self.session.cancel()
        entry = AuditEntry("boss", "ssh", "manhole", facts={"line": "print(6 * 7)"}, outcome=BEGUN)
        written.callback(self.successResultOf(Deferred.fromCoroutine(write(entry))))
        self.assertEqual(self.successResultOf(line), "cancelled")
        self.assertEqual(self.told, "cancelled\n")
        self.assertEqual(self.entries(), [("print(6 * 7)", "cancelled")])

    def test_lines_that_are_given_up(self) -> None:
        """They never ran, but they were typed."""
        self.assertEqual(self.successResultOf(self.session.give_up("if x:\n    1")), "cancelled")
        self.assertEqual((self.told, self.entries()), ("", [("if x:\n    1", "cancelled")]))

    def test_a_removed_admin(self) -> None:
        """What they type does not run, and is there."""
        self.removed = True
        self.assertEqual(self.successResultOf(self.session.run("print(1)")), "NotAllowed")
        self.assertEqual(
            self.successResultOf(self.session.refuse("1 +", SyntaxError("no"))), "SyntaxError"
        )
        self.assertEqual(self.entries(), [("print(1)", "NotAllowed"), ("1 +", "SyntaxError")])
        self.assertEqual({each.who for each in self.desk.audit.entries}, {"boss"})


class ScriptTests(SessionCase):
    """Each statement an entry, and nothing of a script is lost."""

    def script(self, text: str) -> list[str]:
        """Run one; give what the audit has of it."""

        class Nowhere:
            def write(self, data: bytes) -> None:
                pass

        ended: list[object] = []
        batch = Batch(self.make, text, ended.append)
        batch.makeConnection(Nowhere())
        self.assertEqual(len(ended), 1)
        return [line for line, _ in self.entries()]

    def test_comments(self) -> None:
        """They were typed: alone they are an entry, else they are with what follows."""
        self.assertEqual(self.script("  # ticket fifteen\n"), ["# ticket fifteen"])
        self.assertEqual(
            self.script("a = 'grün'; b = 2;  # two\nc = 'ü'\n# the end\n")[1:],
            ["a = 'grün'", "b = 2", "# two\nc = 'ü'\n# the end"],
        )

    def test_a_client_that_goes_between_two(self) -> None:
        """While the end of one is written: the next does not run."""
        ended: Deferred[None] = Deferred()

        async def slowly(*_: object) -> None:
            await ended

        self.patch(self.desk.audit, "end", slowly)
        batch = Batch(self.make, "a = 1\nb = 2", lambda _: None)
        batch.makeConnection(None)
        batch.connectionLost()
        ended.callback(None)
        self.assertEqual(self.entries(), [("a = 1", BEGUN)])

    def test_nothing(self) -> None:
        """Blank lines were no lines."""
        self.assertEqual(self.script(" \n\n"), [])

    def test_decorators(self) -> None:
        """They are part of what they decorate."""
        self.assertEqual(
            self.script("def twice(f):\n    return 2\n@twice\ndef two(): ...\nassert two == 2\n"),
            ["def twice(f):\n    return 2", "@twice\ndef two(): ...", "assert two == 2"],
        )
        self.assertEqual(self.entries()[-1][1], "ok")


class DaemonTests(SynchronousTestCase):
    """OpenSSH, a real daemon, and a store that outlives it."""

    def setUp(self) -> None:
        if not shutil.which("ssh"):
            raise SkipTest("needs OpenSSH's ssh")
        self.store = Server()
        self.addCleanup(self.store.close)
        self.store.start()
        self.daemon = RunningDaemon(redis=self.store.url)
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        self.key = self.daemon.state / "kim"
        words = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key)
        subprocess.run(words, check=True)
        for verb in (
            ("operator", "add", "kim", "--role", "admin"),
            ("operator", "key", "kim", f"{self.key}.pub"),
        ):
            self.assertEqual(self.daemon.mdmctl(*verb).returncode, 0)

    def ssh(self, command: str) -> "subprocess.Popen[bytes]":
        """Begin to run a command."""
        options = ("-F", "none", "-i", self.key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes")
        hosts = ("-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no")
        port = ("-p", str(self.daemon.ssh_port))
        process = subprocess.Popen(
            ["ssh", *options, *hosts, *port, "kim@127.0.0.1", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def lines(self) -> list[tuple[str, str, str]]:
        """Who typed what, how it ended; newest first."""
        entries: Any = self.daemon.ask("audit")
        return [
            (each["who"], each["facts"]["line"], each["outcome"])
            for each in entries
            if each["what"] == "manhole"
        ]

    def log_has(self, text: str) -> None:
        """Wait until the daemon's log has a text."""
        end = time.monotonic() + 30
        while text not in self.daemon.log.read_text():
            self.assertLess(time.monotonic(), end, self.daemon.log.read_text()[-3000:])
            time.sleep(0.05)

    def test_lines_that_do_not_end(self) -> None:
        """One ends the daemon, one blocks it for ever, one only waits: all three are there."""
        assert self.daemon.process is not None
        self.ssh("import os; os._exit(3)")
        self.assertEqual(self.daemon.process.wait(30), 3)
        self.daemon.start()
        ended = [("kim", "os._exit(3)", BEGUN), ("kim", "import os", "ok")]
        self.assertEqual(self.lines(), ended)
        self.ssh("while True: pass")
        self.log_has("manhole while True: pass: begun")
        self.log_has("a line of kim in the manhole is blocking the whole server")
        self.daemon.kill()
        self.daemon.start()
        self.assertEqual(self.lines(), [("kim", "while True: pass", BEGUN), *ended])
        waiting = self.ssh("events.tail()")
        self.log_has("manhole events.tail(): begun")
        self.assertEqual(self.lines()[0], ("kim", "events.tail()", BEGUN))
        waiting.kill()
        self.log_has("manhole events.tail(): cancelled")
        end = time.monotonic() + 30
        while self.lines()[0] != ("kim", "events.tail()", "cancelled"):
            self.assertLess(time.monotonic(), end, self.lines())
        self.assertEqual(len(self.lines()), 4)
        self.assertIn("begun", self.daemon.mdmctl("audit").stdout)
