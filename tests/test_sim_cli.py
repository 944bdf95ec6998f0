"""``mdmctl sim`` as a process: ready in one line of JSON, ended by a signal, told at the end."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure
from twisted.python.procutils import which
from twisted.trial.unittest import TestCase

from tests.simhelp import TOPIC, RunningSite, ScriptedServer

MDMCTL = str(Path(sys.executable).parent / "mdmctl")
TOKEN = "ab" * 32


class Simulated(ProcessProtocol):
    """One process; its lines of JSON as they come."""

    transport: Any

    def __init__(self, *words: str) -> None:
        self.lines: list[dict[str, Any]] = []
        self.errors = b""
        self.ready: Deferred[dict[str, Any]] = Deferred()
        self.ended: Deferred[int] = Deferred()
        self._rest = b""
        reactor.spawnProcess(self, MDMCTL, [MDMCTL, "--json", "sim", *words], env=None)

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.lines += map(json.loads, lines)
        if self.lines and not self.ready.called:
            self.ready.callback(self.lines[0])

    def errReceived(self, data: bytes) -> None:
        self.errors += data

    def processEnded(self, reason: Failure) -> None:
        if not self.ready.called:
            self.ready.errback(AssertionError(self.errors.decode()))
        self.ended.callback(getattr(reason.value, "exitCode", 0))

    async def end(self) -> int:
        """Ask it to end; its exit status."""
        if not self.ended.called:
            self.transport.signalProcess("TERM")
        return await self.ended


class ProcessTests(TestCase):
    def start(self, *words: str) -> Simulated:
        process = Simulated(*words)
        self.addCleanup(lambda: Deferred.fromCoroutine(process.end()))
        return process

    async def test_apns_and_devices(self) -> None:
        """Pushed through the one process, devices in the other connect, and each says so."""
        curl = which("curl")
        if not curl:
            self.skipTest("curl is not installed")
        server = ScriptedServer()
        site = RunningSite(server)
        await site.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(site.stop()))
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        apns = self.start("apns", "--dir", folder.name, "--topic", TOPIC)
        facts = await apns.ready
        devices = self.start(
            *("devices", "--url", site.url, "--ca", str(site.ca), "--count", "2"),
            *("--platform", "mac", "--courier", f"localhost:{facts['courier']}"),
        )
        ready = await devices.ready
        self.assertEqual((ready["enrolled"], ready["failed"]), (2, 0))
        update = next(each for each in server.checkins if each["MessageType"] == "TokenUpdate")
        token, magic = update["Token"], update["PushMagic"]
        assert isinstance(token, bytes)
        server.queue("SecurityInfo")
        arguments = [
            *("-sS", "--http2", "--cacert", facts["trust"], "--cert", facts["push_certificate"]),
            *("-H", f"apns-topic: {TOPIC}", "-d", json.dumps({"mdm": magic})),
            f"https://localhost:{facts['port']}/3/device/{token.hex()}",
        ]
        out, error, status = await getProcessOutputAndValue(curl[0], arguments)
        self.assertEqual((out, error, status), (b"", b"", 0))
        while len(server.reports) < 2:
            await self.pause()
        self.assertEqual(server.reports[1]["Status"], "Acknowledged")
        self.assertEqual((await devices.end(), await apns.end()), (0, 0))
        self.assertEqual(apns.lines[-1], {"pushes": 1})
        counts = devices.lines[-1]["counts"]
        self.assertEqual((counts["enrolled"], counts["report Acknowledged"]), (2, 1))
        self.assertEqual(devices.lines[-1]["troubles"], {})

    async def test_no_server(self) -> None:
        """Nobody there is one line and exit status 1."""
        process = Simulated("devices", "--url", "https://localhost:1", "--once")
        process.ready.addErrback(lambda _: None)
        self.assertEqual(await process.ended, 1)
        self.assertEqual(len(process.errors.splitlines()), 1)
        self.assertIn(b"https://localhost:1/enroll: no connection", process.errors)

    async def pause(self) -> None:
        from twisted.internet.task import deferLater

        await deferLater(reactor, 0.01)
