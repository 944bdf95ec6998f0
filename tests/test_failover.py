"""Sentinel moves the master while devices are at work, and two daemons share a port and a store."""

import contextlib
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from tests.blocking import BlockingLink, run
from tests.daemonhelp import HandDevice, RunningDaemon
from tests.storehelp import REDIS, Server, free_port

UDID = "0A1B2C3D-0000-5AC1-BDB2-{:012X}"
AWAY = 10.0  # seconds: the sentinel needs one, then the daemon finds the new master


class Sentinel:
    """A master, a replica and one who watches them, all of them Debian's."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sentinel-", dir="/tmp"))
        ports = free_port(), free_port()
        self.master = Server(
            *(REDIS, "--bind", "127.0.0.1", "--port", str(ports[0])),
            *("--repl-diskless-sync-delay", "0"),
        )
        self.replica = Server(
            *(REDIS, "--bind", "127.0.0.1", "--port", str(ports[1])),
            *("--replicaof", "127.0.0.1", str(ports[0])),
        )
        self.port = free_port()
        (self.folder / "conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor main 127.0.0.1 {ports[0]} 1\n"
            "sentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 3000\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start all, and wait until the replica has all and the sentinel knows it."""
        self.master.start()
        self.replica.start()
        link = BlockingLink(str(self.replica.socket))
        self._wait(lambda: b"master_link_status:up" in run(link.call("INFO", "replication")))
        link.close()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [REDIS, self.folder / "conf", "--sentinel"], stdout=log, stderr=log
            )
        self._wait(lambda: b"+slave slave" in (self.folder / "log").read_bytes())

    def _wait(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not done():
            assert time.monotonic() < end, (self.replica.folder / "log").read_text()
            time.sleep(0.1)

    def close(self) -> None:
        """End all."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.master.close()
        self.replica.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Worker(threading.Thread):
    """One device that is sent commands and answers them, and what was acknowledged of it."""

    def __init__(self, daemon: RunningDaemon, device: HandDevice) -> None:
        super().__init__()
        self.daemon_, self.device = daemon, device
        self.ends = threading.Event()
        self.accepted: list[str] = []
        self.taken: list[str] = []
        self.codes: set[int] = set()
        self.longest = 0.0  # seconds without a success

    def run(self) -> None:
        number, uuid, last = 0, "", time.monotonic()
        while not self.ends.is_set():
            number += 1
            with contextlib.suppress(Exception):
                if self.daemon_.enqueue(self.device.udid, f"C{number}") == 200:
                    self.accepted.append(f"C{number}")
            try:
                code, following, _ = self.device.connect("Acknowledged" if uuid else "Idle", uuid)
            except Exception:
                continue
            self.codes.add(code)
            if code != 200:
                time.sleep(0.05)
                continue
            if uuid:
                self.taken.append(uuid)
            uuid = following
            self.longest = max(self.longest, time.monotonic() - last)
            last = time.monotonic()


def lost(worker: Worker) -> tuple[set[str], set[str]]:
    """Which results and which commands were acknowledged and are not there."""
    daemon, udid = worker.daemon_, worker.device.udid
    results = {
        each["command_uuid"]
        for each in daemon.api("GET", f"/v1/results/{udid}?limit=1000")[1]["results"]
    }
    queued = {
        each["command_uuid"] for each in daemon.api("GET", f"/v1/queue/{udid}")[1]["commands"]
    }
    return set(worker.taken) - results, set(worker.accepted) - results - queued


@skipUnless(REDIS, "redis-server is not installed")
class FailOverTests(SynchronousTestCase):
    """The master dies under load."""

    def test_nothing_acknowledged_is_lost(self) -> None:
        """Devices get 503 for a few seconds at most; all that was acknowledged is there."""
        sentinel = Sentinel()
        self.addCleanup(sentinel.close)
        sentinel.start()
        daemon = RunningDaemon(
            f"sentinel://127.0.0.1:{sentinel.port}/main",
            {"queue": "results_kept = 100000", "store": "timeout = 1s"},
        )
        self.addCleanup(daemon.close)
        daemon.start()
        workers = [Worker(daemon, daemon.device(UDID.format(n))) for n in (1, 2)]
        for worker in workers:
            worker.device.enroll()
            worker.start()
        self.addCleanup(lambda: [worker.ends.set() for worker in workers])
        self.wait_for(lambda: all(len(worker.taken) > 10 for worker in workers))
        sentinel.master.kill()
        had = [len(worker.taken) for worker in workers]
        self.wait_for(
            lambda: all(
                len(worker.taken) > before + 10 for worker, before in zip(workers, had, strict=True)
            )
        )
        for worker in workers:
            worker.ends.set()
            worker.join()
            self.assertEqual(lost(worker), (set(), set()))
            self.assertLessEqual(worker.codes, {200, 503})
            self.assertLess(worker.longest, AWAY)

    def wait_for(self, done: Callable[[], bool]) -> None:
        """Wait until it is so."""
        end = time.monotonic() + 90
        while not done():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)


@skipUnless(REDIS, "redis-server is not installed")
class SharedPortTests(SynchronousTestCase):
    """Two daemons, one port, one store: a process for each core."""

    def test_one_is_killed(self) -> None:
        """Both serve; when one dies the other one serves all, and nothing is lost."""
        store = Server(REDIS)
        self.addCleanup(store.close)
        store.start()
        first = RunningDaemon(store.url, {"site": "reuse_port = yes"})
        self.addCleanup(first.close)
        first.start()
        second = RunningDaemon(store.url, {"site": "reuse_port = yes"})
        self.addCleanup(second.close)
        # The same port, CA, keys and certificates: all that daemons have in common.
        for name in ("ca", "tls"):
            shutil.copytree(first.state / name, second.state / name, dirs_exist_ok=True)
        for name in ("sealing.key", "scep.challenge"):
            shutil.copy(first.state / name, second.state / name)
        text = second.config.read_text().replace(str(second.port), str(first.port))
        second.config.write_text(text)
        second.port = first.port
        second.start()
        device = first.device(UDID.format(1))
        device.enroll()
        for _ in range(30):
            device._connection = None  # another connection goes to either of them
            self.assertEqual(device.connect()[0], 200)
        for daemon in (first, second):
            self.assertIn(b"PUT /connect 200", daemon.log.read_bytes())
        first.kill()
        self.assertEqual(second.enqueue(device.udid, "A"), 200)
        device._connection = None
        for _ in range(10):
            code, uuid, _ = device.connect()
            self.assertEqual((code, uuid), (200, "A"))
