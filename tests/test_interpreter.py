"""Lines of the manhole, without a terminal: what is told of one that holds the reactor."""

import threading
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mdmd.ops.manhole.interpreter import Interpreter
from mdmd.ops.manhole.outlet import AT_ONCE, Outlet


class BlockingTests(SynchronousTestCase):
    """The server has one thread; who holds it is told."""

    def setUp(self) -> None:
        self.told: list[Mapping[str, Any]] = []
        self.warned = threading.Event()
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)
        self.shown = ""
        names = {"wait": lambda: self.warned.wait(60)}
        self.interpreter = Interpreter(names, self.write, "anna", alarm=0.01)

    def observe(self, event: Mapping[str, Any]) -> None:
        """Take a line of the log, from whatever thread."""
        if "what" in event:
            self.told.append(event)
            self.warned.set()

    def write(self, text: str) -> None:
        """Take what the session is shown."""
        self.shown += text

    def run_line(self, source: str) -> str:
        """Run a line that never waits for the reactor."""
        return self.successResultOf(Deferred.fromCoroutine(self.interpreter.run(source)))

    def test_who_blocks_is_told_while_they_do(self) -> None:
        """From a thread, for the reactor can't: this line goes on only once it was told."""
        self.assertEqual((self.run_line("wait()"), self.shown), ("ok", "True\n"))
        (event,) = self.told
        self.assertEqual((event["who"], event["what"]), ("anna", "is blocking"))
        self.assertEqual(event["log_level"].name, "warn")

    def test_each_step_of_what_is_awaited_counts(self) -> None:
        """Not only what runs before the first await."""
        self.run_line("from twisted.internet.defer import succeed\nawait succeed(1)\nwait()")
        self.assertEqual([event["what"] for event in self.told], ["is blocking"])

    def test_a_line_that_is_quick(self) -> None:
        """Nothing is told, and no alarm is left behind."""
        quick = Interpreter({}, self.write, "anna", alarm=600)
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(quick.run("1 + 1"))), "ok")
        self.assertEqual(self.told, [])
        for alarm in threading.enumerate():
            if isinstance(alarm, threading.Timer) and alarm.interval == 600:
                alarm.join(60)  # it was cancelled, and ends when it has its turn
                self.assertFalse(alarm.is_alive())


class TracebackTests(SynchronousTestCase):
    """A mistake is told with the line that made it, but for its secrets."""

    def test_no_secret_in_a_traceback(self) -> None:
        """It may end up in the log."""
        shown: list[str] = []
        interpreter = Interpreter({}, shown.append, "anna")
        coroutine = interpreter.run('nothing.send("DeviceLock", PIN="123456")')
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(coroutine)), "NameError")
        told = "".join(shown)
        self.assertIn('nothing.send("DeviceLock", PIN=…)', told)
        self.assertNotIn("123456", told)

    def test_marks_are_below_what_failed(self) -> None:
        """As in any traceback."""
        shown: list[str] = []
        interpreter = Interpreter({}, shown.append, "anna")
        self.successResultOf(Deferred.fromCoroutine(interpreter.run("1/0")))
        self.assertIn("    1/0\n    ~^~\n", "".join(shown))


class EndsTests(SynchronousTestCase):
    """Whatever a line does, it ends, and how is known."""

    def test_exceptions_that_are_no_errors(self) -> None:
        """Those that usually end a program end the line, and are its outcome."""
        for name in ("KeyboardInterrupt", "GeneratorExit", "BaseException"):
            shown: list[str] = []
            interpreter = Interpreter({}, shown.append, "anna")
            for source in (f"raise {name}", f"async def f(): raise {name}\nawait f()"):
                coroutine = interpreter.run(source)
                self.assertEqual(self.successResultOf(Deferred.fromCoroutine(coroutine)), name)
            self.assertIn(name, shown[-1])

    def test_exit(self) -> None:
        """No traceback; the status is as Python has it, a text is told."""
        for source, status, told in (
            ("exit()", 0, ""),
            ("exit(3)", 3, ""),
            ("exit(True)", 1, ""),
            ("import sys; sys.exit('no device')", 1, "no device\n"),
            ("async def f(): raise SystemExit(-1)\nawait f()", 255, ""),
        ):
            shown: list[str] = []
            interpreter = Interpreter({}, shown.append, "anna")
            coroutine = interpreter.run(source)
            self.assertEqual(self.successResultOf(Deferred.fromCoroutine(coroutine)), "SystemExit")
            self.assertEqual((interpreter.exit_status, "".join(shown)), (status, told), source)


class PrintingTests(SynchronousTestCase):
    """What is printed fits into memory, however much it is."""

    def setUp(self) -> None:
        self.shown: list[str] = []
        self.clock = Clock()
        self.unread = 0
        outlet = Outlet(self.shown.append, lambda: self.unread, self.clock)
        names = {"clock": self.clock, "deferLater": deferLater}
        self.interpreter = Interpreter(names, self.shown.append, "anna", outlet=outlet)

    def run_source(self, source: str) -> "Deferred[str]":
        return Deferred.fromCoroutine(self.interpreter.run(source))

    def test_a_loop_that_never_lets_go(self) -> None:
        """It is ended; nothing of it could have gone out, and the daemon would stand still."""
        outcome = self.run_source("while True: print('x' * 1000)")
        self.assertEqual(self.successResultOf(outcome), "RuntimeError")
        self.assertLessEqual(sum(map(len, self.shown)), AT_ONCE + 1000)
        self.assertIn("await something in between", self.shown[-1])

    def test_a_terminal_that_does_not_read(self) -> None:
        """What awaits goes on when it has read; Ctrl-C ends the wait."""
        source = "for n in range(3):\n    print(n)\n    await deferLater(clock, 0)"
        self.unread = 1 << 30
        running = self.run_source(source)
        self.clock.pump([1] * 60)
        self.assertEqual(self.shown, ["0\n"])
        self.unread = 0
        self.clock.pump([1] * 3)
        self.assertEqual(self.successResultOf(running), "ok")
        self.assertEqual(self.shown, ["0\n", "1\n", "2\n"])
        self.unread = 1 << 30
        running = self.run_source(source)
        self.clock.pump([1] * 3)
        running.cancel()
        self.assertEqual(self.successResultOf(running), "cancelled")
