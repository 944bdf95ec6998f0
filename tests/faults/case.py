"""
The daemon is hurt while devices work, and keeps every promise it gave.

After each fault: nothing acknowledged is lost, no command is given again after
its final report was acknowledged, every queue is in order, and ``mdmctl fsck``
finds no rule broken. MDMD_FAULTS=N makes it N times as long.
"""

import contextlib
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from mdmd.doctor.fsck import Checked, check
from mdmd.doctor.redis import Client
from mdmd.store.address import read_address
from tests.daemonhelp import RunningDaemon
from tests.faults.load import Load

LONGER = int(os.environ.get("MDMD_FAULTS", "1"))
OPTIONS = {"queue": "results_kept = 100000"}


def memory(pid: int) -> int:
    """Bytes of a process that are in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(pid)


def store_pid(daemon: RunningDaemon) -> int:
    """The embedded store's process."""
    assert daemon.process is not None
    children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children")
    for pid in children.read_text().split():
        name = Path(f"/proc/{pid}/comm").read_text()
        if "redis" in name or "valkey" in name:
            return int(pid)
    raise AssertionError("the daemon has no store")


def fsck(daemon: RunningDaemon) -> Checked:
    """Check the store at a moment when nothing changes: pushes go on by themselves."""
    client = Client(read_address(daemon.store_url))
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            found = check(client)
            if not any(each.subject == "sums" for each in found.findings):
                return found
        raise AssertionError("the store never came to rest")
    finally:
        client.close()


class FaultCase(SynchronousTestCase):
    """One daemon and its devices for each test."""

    sessions: ClassVar[int] = 0
    faults: ClassVar[int] = 0
    options = OPTIONS

    def setUp(self) -> None:
        self.chance = random.Random(7)
        self.daemon = RunningDaemon(redis=self.redis(), options=self.options)
        self.addCleanup(self.daemon.close)
        self.prepare()
        self.daemon.start()

    def redis(self) -> str:
        """Say which store it shall use."""
        return "embedded"

    def prepare(self) -> None:
        """Change the daemon before it starts."""

    def work(self, devices: int = 8) -> Load:
        load = Load(self.daemon, devices)
        load.start()
        self.addCleanup(lambda: [each.stop() for each in load.workers])
        load.until(20)
        return load

    def judge(self, load: Load) -> None:
        """Let the devices finish; then nothing may be wrong, in the books or in the store."""
        load.finish()
        broken = sum(each.books.broken for each in load.workers)
        said = f"{load.sessions} sessions, {load.final} commands, {broken} requests turned away"
        print(f"{self._testMethodName}: {said}, {len(load.wrong())} promises broken")
        self.assertEqual(load.wrong(), [])
        found = fsck(self.daemon)
        self.assertEqual(found.findings, [])
        self.assertEqual((found.queued, found.results), (0, load.final))
        self.assertNotIn("a bug of ours", self.daemon.log.read_text())

    @contextlib.contextmanager
    def connections(self, number: int) -> Iterator[list[socket.socket]]:
        """So many idle TCP connections to the site."""
        made = []
        try:
            for _ in range(number):
                made.append(socket.create_connection(("127.0.0.1", self.daemon.port), 10))
            yield made
        finally:
            for each in made:
                each.close()
