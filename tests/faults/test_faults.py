"""What the machine may do to the daemon while devices work: a store that stalls, a full disk, …"""

import contextlib
import os
import plistlib
import signal
import socket
import ssl
import subprocess
import time

from tests.faults.case import LONGER, FaultCase, store_pid
from tests.faults.load import UDID

STALL = 10.0  # seconds


class StoreTests(FaultCase):
    def test_stalled(self) -> None:
        """The store stands still for longer than the daemon waits; then all goes on."""
        load = self.work()
        for _ in range(LONGER):
            pid = store_pid(self.daemon)
            end = time.monotonic() + STALL
            os.kill(pid, signal.SIGSTOP)
            self.hurt += 1
            try:
                while time.monotonic() < end:
                    self.wait_for_503()
            finally:
                os.kill(pid, signal.SIGCONT)
            load.until(50)
        self.judge(load)

    def wait_for_503(self) -> None:
        """A device is turned away, and told when to come back."""
        context = ssl.create_default_context(cafile=str(self.daemon.state / "ca" / "ca.pem"))
        device = self.daemon.state / f"device-{UDID.format(1)}"
        context.load_cert_chain(device / "device.pem", device / "device.key")
        plain = socket.create_connection(("127.0.0.1", self.daemon.port), 30)
        with context.wrap_socket(plain, server_hostname="localhost") as tls:
            body = plistlib.dumps({"UDID": UDID.format(1), "Status": "Idle"})
            head = f"PUT /connect HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            tls.sendall(head.encode() + body)
            answer = tls.recv(4096)
        self.assertIn(b" 503 ", answer)
        self.assertIn(b"Retry-After: ", answer)


class DiskTests(FaultCase):
    """The store's disk is full for a while."""

    def prepare(self) -> None:
        place = self.daemon.state / "store"
        place.mkdir(mode=0o700)
        ran = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={2 + LONGER}m,mode=0700", "tmpfs", place],
            capture_output=True,
            check=False,
        )
        if ran.returncode:
            self.skipTest("only root may mount a small disk here")
        self.addCleanup(subprocess.run, ["umount", "-l", place], check=False)
        # Cleanups run last first: daemon and store have to end before their disk goes.
        self.addCleanup(self.daemon.close)

    def test_full(self) -> None:
        """Devices are turned away while nothing can be written; then nothing is missing."""
        load = self.work(4)
        ballast = self.daemon.state / "store" / "ballast"
        for _ in range(LONGER):
            with contextlib.suppress(OSError), ballast.open("wb") as file:
                while True:
                    file.write(b"\0" * 4096)
            self.hurt += 1
            broken = sum(each.books.broken for each in load.workers)
            end = time.monotonic() + 60
            while sum(each.books.broken for each in load.workers) < broken + 8:
                self.assertLess(time.monotonic(), end, "nobody was turned away")
                time.sleep(0.02)
            ballast.unlink()
            load.until(20)
        self.judge(load)


class FilesTests(FaultCase):
    def prepare(self) -> None:
        self.daemon.launcher = ["bash", "-c", 'ulimit -n 120; exec "$@"', "bash"]

    def test_no_more_files(self) -> None:
        """Out of file descriptors: those who are in are served; then all are again."""
        load = self.work(4)
        inside = self.daemon.device(UDID.format(99))
        inside.enroll()
        for _ in range(LONGER):
            self.assertEqual(inside.connect()[0], 200)
            with self.connections(200):
                end = time.monotonic() + 30
                while len(os.listdir(f"/proc/{self.pid}/fd")) < 119:
                    self.assertLess(time.monotonic(), end, "there are some left")
                self.hurt += 1
                self.assertEqual(inside.connect()[0], 200)
            load.until(60)
        inside.hang_up()
        self.judge(load)
