"""The daemon starts in order, stops in reverse, and a failed start is said in one line."""

from contextlib import AsyncExitStack

from twisted.application.service import Application, IServiceCollection
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from mdmd.assembly.daemon import Daemon, ExitStatus
from mdmd.errors import StoreUnavailable


class DaemonTests(SynchronousTestCase):
    """A daemon of parts that only say what happens to them."""

    def setUp(self) -> None:
        self.told: list[str] = []
        self.waits: dict[str, Deferred[None]] = {}
        self.status = ExitStatus()
        self.addCleanup(setattr, self.status, "value", 0)
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    async def part(self, stack: AsyncExitStack, name: str) -> None:
        """Start one part; it waits, starting and stopping, for what ``waits`` has of it."""

        async def stop() -> None:
            if f"-{name}" in self.waits:
                await self.waits[f"-{name}"]
            self.told.append(f"-{name}")

        stack.push_async_callback(stop)
        if name in self.waits:
            await self.waits[name]
        self.told.append(name)

    def daemon(self, error: Exception | None = None) -> Daemon:
        async def serve(stack: AsyncExitStack) -> None:
            await self.part(stack, "store")
            await self.part(stack, "site")
            if error is not None:
                raise error

        return Daemon(lambda: self.told.append("reactor stopped"), serve, self.status)

    def test_order(self) -> None:
        """Each waits for the one before, in both directions."""
        self.waits = {"store": Deferred(), "-site": Deferred()}
        daemon = self.daemon()
        daemon.startService()
        self.assertEqual(self.told, [])
        self.waits["store"].callback(None)
        self.assertEqual(self.told, ["store", "site"])
        ended = daemon.stopService()
        self.assertNoResult(ended)
        self.waits["-site"].callback(None)
        self.successResultOf(ended)
        self.assertEqual(self.told[2:], ["-site", "-store"])
        self.assertEqual(self.status.value, 0)

    def test_stopped_while_starting(self) -> None:
        """Ctrl-C does not wait for a store that never answers, and leaves nothing behind."""
        self.waits = {"site": Deferred()}
        daemon = self.daemon()
        daemon.startService()
        self.successResultOf(daemon.stopService())
        self.assertEqual(self.told, ["store", "-site", "-store"])
        self.assertEqual(self.status.value, 0)

    def test_failed_start(self) -> None:
        """What a sysadmin can mend is one line, and the process ends with status 1."""
        for error, text in (
            (StoreUnavailable("no answer"), "no answer"),
            (CannotListenError("", 443, OSError(98, "Address already in use")), "443"),
        ):
            self.events.clear()
            self.status.value = 0
            self.told.clear()
            daemon = self.daemon(error)
            daemon.startService()
            self.assertEqual(self.told[-1], "reactor stopped")
            self.successResultOf(daemon.stopService())
            self.assertEqual(self.told[-2:], ["-site", "-store"])
            self.assertEqual(self.status.value, 1)
            (line,) = [each for each in self.events if each["log_level"] is LogLevel.critical]
            self.assertIn(text, line["reason"])
            self.assertNotIn("log_failure", line)

    def test_our_bug(self) -> None:
        """Anything else is a bug of ours, with its traceback."""
        self.daemon(ZeroDivisionError()).startService()
        self.assertEqual(self.status.value, 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_observer(self) -> None:
        """twistd logs to where the configuration says."""

        def observer(event: LogEvent) -> None:
            pass

        directlyProvides(observer, ILogObserver)
        application = Application("mdmd")
        daemon = Daemon(lambda: None, self.daemon()._serve, self.status, observer)
        daemon.setServiceParent(application)
        self.assertIs(application.getComponent(ILogObserver), observer)
        self.assertEqual(list(IServiceCollection(application)), [daemon])
