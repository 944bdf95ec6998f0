"""Several daemons on one store share the pushes: real processes, a real Valkey, node's http2."""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from mdmd.interfaces.fleet import Policy
from mdmd.mdm.enrollment import EnrollmentID
from tests.peerhelp import NODE, Authority, NodeApns, Program, reactor
from tests.storecase import TOPIC, StoreCase, Talker, certificate, command, udid

DEVICES = 1200
LEASE = 3.0  # seconds; 20 in a daemon
MOST = 100  # pushes at once in one process


class TwoDaemons(StoreCase):
    """Two daemons, one of them killed."""

    timeout = 100
    if NODE is None:
        skip = "node is not installed"

    async def setUp(self) -> None:
        await super().setUp()
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.authority = Authority(self.folder)
        self.killed_at = 0.0

    async def enroll(self, count: int, again: bool = False) -> None:
        """Enroll devices and queue one command on all of them; ``again``: only the command."""
        talkers = [Talker(self.store, EnrollmentID(udid(n)), certificate(n)) for n in range(count)]

        async def one(number: int) -> None:
            await talkers[number].authenticate()
            await talkers[number].token_update(token=number.to_bytes(32, "big"))

        if not again:
            await gatherResults([Deferred.fromCoroutine(one(n)) for n in range(count)])
        await self.store.fleet.enqueue(
            command(f"C-{again}"), [each.enrollment for each in talkers], Policy()
        )

    def daemon(self, port: int, most: int = MOST) -> Program:
        """Start a process that does a daemon's pushes, once it is told to ``go``."""
        config = {
            "redis": self.server.url,
            "apns": port,
            "trust": str(self.folder / "ca.pem"),
            "lease": LEASE,
            "most": most,
        }
        program = Program(sys.executable, "-m", "tests.wakerproc", json.dumps(config))
        self.addCleanup(lambda: Deferred.fromCoroutine(program.kill()))
        return program

    async def go(self, *daemons: Program) -> None:
        """Let them begin together, once each of them is up."""
        await gatherResults([each.line() for each in daemons])
        for each in daemons:
            each.process.closeStdin()

    async def install(self) -> None:
        """Put a new push certificate into the store."""
        certificate, key, not_after = self.authority.push_pair(TOPIC)
        await self.store.certificates.put(TOPIC, certificate, key, not_after)

    async def apns(self, **config: Any) -> NodeApns:
        """Start node's APNs."""
        apns = await NodeApns(self.authority, **config).start(self.told)
        self.addCleanup(lambda: Deferred.fromCoroutine(apns.program.kill()))
        return apns

    async def until_pushed(self) -> None:
        """Wait until nobody is due in the next minute."""
        while (await self.store.push.next_due() or 0) < (time.time() + 60) * 1000:
            await deferLater(reactor, 0.1)

    def told(self, line: Any) -> None:
        """Kill the first daemon in the middle of its pushes."""
        if "freeze" in line:
            self.killed_at = time.monotonic()
            self.first.signal(9)

    async def test_one_is_killed(self) -> None:
        """Each due push is sent by one of them; what the dead one had claimed follows soon."""
        await self.install()
        await self.enroll(DEVICES)
        # One alone would take so long that the other has its share, however loaded the machine.
        apns = await self.apns(delay=200, plan=[{"at": DEVICES // 3, "do": "freeze"}])
        self.first, second = self.daemon(apns.port), self.daemon(apns.port)
        await self.go(self.first, second)
        await self.until_pushed()
        took = time.monotonic() - self.killed_at
        report = await apns.report()
        twice = sum(count > 1 for count in report["seen"].values())
        self.assertEqual(len(report["seen"]), DEVICES)
        self.assertEqual(report["sessions"], 2)
        self.assertTrue(self.killed_at)
        self.assertLessEqual(twice, MOST)
        self.assertLess(max(report["seen"].values()), 3)
        self.assertLess(took, LEASE + 8)
        told = (
            f"{DEVICES} devices, two daemons, one killed: all were pushed {took:.1f} s after it, "
            f"{twice} twice (sent by the dead one, which could not record it)"
        )
        print(f"told: {told}", file=sys.stderr)

    async def test_renewed_certificate(self) -> None:
        """A certificate that is put into the store is used by the next push of every daemon."""
        await self.install()
        # One daemon alone would take longer than the other waits between two looks.
        apns = await self.apns(delay=200)
        await self.go(*(self.daemon(apns.port, most=40) for _ in range(2)))
        await self.enroll(DEVICES // 2)
        await self.until_pushed()
        await self.install()
        await self.enroll(DEVICES // 2, again=True)
        await self.until_pushed()
        report = await apns.report()
        used = sorted(report["serials"].values())
        self.assertEqual(len(used), 2)
        self.assertEqual(used, [2, 2])  # two connections each, one a daemon
        self.assertEqual(set(report["seen"].values()), {2})
