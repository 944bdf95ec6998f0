"""
The daemon is hurt while devices work, and keeps every promise it gave.

After each fault: nothing acknowledged is lost, no command is given again after
its final report was acknowledged, every queue is in order, ``mdmctl fsck`` finds
no rule broken, and the daemon takes as much memory and as many file descriptors
as before. MDMD_FAULTS=N makes it N times as long.
"""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mdmd.doctor.fsck import Checked, check
from mdmd.doctor.redis import Client
from mdmd.store.address import read_address
from tests.daemonhelp import TOPIC, RunningDaemon
from tests.faults import apnsproc
from tests.faults.load import Load
from tests.storehelp import free_port

LONGER = int(os.environ.get("MDMD_FAULTS", "1"))
OPTIONS = {"queue": "results_kept = 100000"}
# A daemon at rest takes some 70 MB. What it keeps of ten thousand sessions, for its figures, and
# what the C library can't give back, is less than this; 5,000 connections take five times as much.
SLACK = 24 << 20  # bytes
FILES = 8  # connections that it may keep: to a webhook, to APNs
CLIENTS = 4 << 20  # bytes that the store may hold for its clients, one of them asking


@attrs.define
class Tally:
    """What was tried in all."""

    faults: int = 0
    sessions: int = 0
    commands: int = 0
    losses: int = 0


TALLY = Tally()


def memory(pid: int) -> int:
    """Bytes of a process that are in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(pid)


def files(pid: int) -> int:
    """Count a process' open file descriptors."""
    return len(os.listdir(f"/proc/{pid}/fd"))


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


def clients(daemon: RunningDaemon) -> int:
    """Bytes that the store holds for those who are connected."""
    client = Client(read_address(daemon.store_url))
    try:
        lines = client.ask("INFO", "memory").decode().splitlines()
    finally:
        client.close()
    return sum(int(line.split(":")[1]) for line in lines if line.startswith("mem_clients_"))


def tell(text: str) -> None:
    """Say something at the end of the run; tests/conftest.py hears it."""
    print(f"told: {text}", file=sys.stderr)


class FaultCase(SynchronousTestCase):
    """
    One daemon and its devices for each test.

    :ivar hurt: how many times something was done to it.
    :ivar environment: what the daemon gets besides ours.
    """

    options: ClassVar[dict[str, str]] = OPTIONS

    def setUp(self) -> None:
        self.chance = random.Random(7)
        self.hurt = 0
        self.environment: dict[str, str] = {}
        self.daemon = RunningDaemon(redis=self.redis(), options=self.options)
        self.addCleanup(self.daemon.close)
        self.prepare()
        self.daemon.start(**self.environment)
        self.files_before = files(self.pid)

    def redis(self) -> str:
        """Say which store it shall use."""
        return "embedded"

    def prepare(self) -> None:
        """Change the daemon before it starts."""

    @property
    def pid(self) -> int:
        """The daemon's process."""
        assert self.daemon.process is not None
        return self.daemon.process.pid

    def work(self, devices: int = 8, push: bool = False, waiting: int = 0) -> Load:
        """Let devices work, others wait, and note what the daemon takes meanwhile."""
        load = Load(self.daemon, devices + waiting, push=push)
        load.start(devices)
        self.addCleanup(lambda: [each.stop() for each in load.workers])
        load.until(20)
        self.memory_before = memory(self.pid)
        return load

    def judge(self, load: Load) -> None:
        """Let the devices finish; then nothing may be wrong, in the books or in the store."""
        load.finish()
        wrong = load.wrong()
        broken = sum(each.books.broken for each in load.workers)
        took = self.rest() - self.memory_before
        tell(
            f"{self._testMethodName[5:]}: {self.hurt} faults, {load.sessions} sessions, "
            f"{load.final} commands, {broken} requests turned away, {len(wrong)} losses, "
            f"{took / 1e6:+.1f} MB"
        )
        TALLY.faults += self.hurt
        TALLY.sessions += load.sessions
        TALLY.commands += load.final
        TALLY.losses += len(wrong)
        self.assertEqual(wrong, [])
        self.assertGreater(self.hurt, 0)
        found = fsck(self.daemon)
        self.assertEqual(found.findings, [])
        self.assertEqual((found.queued, found.results), (0, load.final))
        self.assertNotIn("a bug of ours", self.daemon.log.read_text())
        self.assertLess(took, SLACK)
        self.assertLessEqual(files(self.pid), self.files_before + FILES)
        self.assertLess(clients(self.daemon), CLIENTS)

    def rest(self, seconds: float = 30.0) -> int:
        """Wait until the daemon takes no more than before, but not for ever; its memory."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and (
            memory(self.pid) >= self.memory_before + SLACK
            or files(self.pid) > self.files_before + FILES
        ):
            time.sleep(0.1)
        return memory(self.pid)

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


class PushedCase(FaultCase):
    """Besides, Apple's push service in a process of its own, which the test starts and ends."""

    def prepare(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="apns-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.port = free_port()
        apnsproc.prepare(self.folder, TOPIC)
        text = self.daemon.config.read_text()
        old = next(line for line in text.splitlines() if line.startswith("host = localhost"))
        index = text.index(old)
        port = text[index:].splitlines()[1]
        trust = self.folder / "ca.pem"
        self.daemon.config.write_text(text.replace(port, f"port = {self.port}\ntrust = {trust}"))

    def start_apns(self) -> "subprocess.Popen[bytes]":
        """Start it on its port, and wait until it takes pushes."""
        said = self.folder / "said"
        with said.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.apnsproc", self.folder, str(self.port)],
                stdout=file,
                cwd=Path(__file__).parent.parent.parent,
            )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        end = time.monotonic() + 30
        while b"ready" not in said.read_bytes():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        return process

    def pushed(self) -> set[str]:
        """The tokens that were pushed since it was started last."""
        return set((self.folder / "said").read_text().split())

    def install_push_certificate(self) -> None:
        """Give the daemon what it needs to be let in."""
        done = self.daemon.mdmctl("pushcert", "install", str(self.folder / "push.pem"))
        self.assertEqual(done.returncode, 0, done)
