"""Others that the daemon talks to are away, or take a connection and say nothing."""

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.daemonhelp import TOPIC
from tests.faults import apnsproc
from tests.faults.case import LONGER, FaultCase
from tests.faults.load import Load
from tests.storehelp import free_port

AWAY = 2.0 * LONGER  # seconds; minutes for `make faults`
BACK = 60.0 if LONGER == 1 else 180.0  # seconds until those who failed once, or often, are pushed


class PushTests(FaultCase):
    """APNs hangs, is gone, and is back."""

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

    def go_on_for(self, load: Load, seconds: float) -> None:
        """Let devices work for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            load.until(5)

    def test_gone(self) -> None:
        """Devices that come get what is theirs; when it is back, all that wait are pushed."""
        apns = self.start_apns()
        done = self.daemon.mdmctl("pushcert", "install", str(self.folder / "push.pem"))
        self.assertEqual(done.returncode, 0, done)
        load = self.work(4, push=True, waiting=3)
        if LONGER > 1:  # who queues a command hears of its push 15 seconds later
            apns.send_signal(signal.SIGSTOP)
            self.hurt += 1
            self.go_on_for(load, AWAY)
        apns.kill()
        apns.wait()
        self.hurt += 1
        self.go_on_for(load, AWAY)
        for each in load.workers[-3:]:
            each.queue_one()
        self.go_on_for(load, AWAY)
        load.pause()
        self.start_apns()
        tokens = {each.device.token.hex() for each in load.workers[-3:]}
        end = time.monotonic() + BACK
        while not tokens <= self.pushed():
            self.assertLess(time.monotonic(), end, "not all were pushed that wait")
            time.sleep(0.1)
        self.judge(load)


class HookTests(FaultCase):
    """A webhook's target takes the connection and says nothing."""

    def prepare(self) -> None:
        self.hung = socket.create_server(("127.0.0.1", 0), backlog=50)
        self.addCleanup(self.hung.close)
        port = self.hung.getsockname()[1]
        text = self.daemon.config.read_text()
        self.daemon.config.write_text(
            f"{text}[webhook hung]\nurl = http://127.0.0.1:{port}/hook\nprivate = yes\n"
        )

    def test_hung(self) -> None:
        """Devices are served as if nothing were."""
        load = self.work(4)
        self.hurt += 1
        load.until(100 * LONGER)
        self.judge(load)
        # It was really asked, and hung.
        self.hung.settimeout(10)
        asked, _ = self.hung.accept()
        with asked:
            self.assertIn(b"POST /hook", asked.recv(100))
