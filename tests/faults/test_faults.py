"""Everything else that may happen to the daemon while devices work."""

import contextlib
import os
import plistlib
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path
from typing import ClassVar

from mdmd.sim.standin import make_push_certificate
from tests.daemonhelp import TOPIC, redis_server
from tests.faults.case import OPTIONS, FaultCase, memory, store_pid
from tests.faults.load import UDID


class StoreTests(FaultCase):
    def test_stalled(self) -> None:
        """The store stands still for longer than the daemon waits; then all goes on."""
        load = self.work()
        pid = store_pid(self.daemon)
        os.kill(pid, signal.SIGSTOP)
        try:
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
            ["mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs", place],
            capture_output=True,
            check=False,
        )
        if ran.returncode:
            self.skipTest("only root may mount a small disk here")
        self.addCleanup(subprocess.run, ["umount", "-l", place], check=False)
        # Cleanups run last first: the daemon has to end before its disk goes.
        self.addCleanup(lambda: self.daemon.process and self.daemon.kill())

    def test_full(self) -> None:
        """Devices are turned away while nothing can be written; then nothing is missing."""
        load = self.work(4)
        ballast = self.daemon.state / "store" / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(b"\0" * 4096)
        broken = sum(each.books.broken for each in load.workers)
        end = time.monotonic() + 60
        while sum(each.books.broken for each in load.workers) < broken + 8:
            self.assertLess(time.monotonic(), end, "nobody was turned away")
            time.sleep(0.02)
        ballast.unlink()
        load.until(20)
        self.judge(load)


class NetworkTests(FaultCase):
    options: ClassVar[dict[str, str]] = {
        **OPTIONS,
        "site": "request_timeout = 2s\nidle_timeout = 30s",
    }

    def test_idle_connections(self) -> None:
        """Thousands of idle connections: devices are served, and the memory comes back."""
        number = 5000
        load = self.work(4)
        assert self.daemon.process is not None
        before = memory(self.daemon.process.pid)
        with self.connections(number):
            load.until(40)
            during = memory(self.daemon.process.pid)
        load.until(40)
        load.finish()
        self.judge(load)
        each = (during - before) / number
        self.assertLess(each, 60_000)
        with self.connections(number):
            pass
        self.assertLess(memory(self.daemon.process.pid), before + number * 60_000)

    def test_slow_and_garbage(self) -> None:
        """A byte a second, plain HTTP, garbage, half a handshake: cut, and nobody else notices."""
        load = self.work(4)
        with self.connections(60) as many:
            for number, each in enumerate(many):
                with contextlib.suppress(OSError):
                    each.sendall([b"\x16", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 500][number % 3])
            load.until(60)
            for each in many:
                each.settimeout(20)
                with contextlib.suppress(OSError):  # reset is an end, too
                    while each.recv(4096):
                        pass
        self.judge(load)

    def test_renegotiation(self) -> None:
        """A client that asks for a new handshake again and again gets none."""
        openssl = shutil.which("openssl")
        if openssl is None:
            self.skipTest("openssl is not installed")
        load = self.work(4)
        asked = subprocess.run(
            [openssl, "s_client", "-connect", f"127.0.0.1:{self.daemon.port}", "-tls1_2"],
            input=b"R\n" * 20,
            capture_output=True,
            check=False,
            timeout=30,
        )
        self.assertNotIn(b"RENEGOTIATING\ndepth", asked.stdout + asked.stderr)
        load.until(20)
        self.judge(load)


class FilesTests(FaultCase):
    def prepare(self) -> None:
        self.daemon.launcher = ["bash", "-c", 'ulimit -n 120; exec "$@"', "bash"]

    def test_no_more_files(self) -> None:
        """Out of file descriptors: those who are in are served; then all are again."""
        load = self.work(4)
        with self.connections(200):
            load_is_alive = load.sessions
        load.until(60)
        self.assertGreater(load.sessions, load_is_alive)
        self.judge(load)


class PushTests(FaultCase):
    """APNs is away for a while."""

    def prepare(self) -> None:
        folder = tempfile.mkdtemp(prefix="apns-", dir="/tmp")
        self.addCleanup(shutil.rmtree, folder)
        self.folder = Path(folder)
        (self.folder / "push.pem").write_bytes(make_push_certificate(TOPIC))

    def test_gone(self) -> None:
        """Pushes that nobody takes: commands are kept, and devices that come get them."""
        pem = str(self.folder / "push.pem")
        done = self.daemon.mdmctl("pushcert", "install", pem)
        self.assertEqual(done.returncode, 0, done)
        load = self.work(4)
        udid = load.workers[0].device.udid
        for _ in range(20):
            status, _ = self.daemon.api("GET", f"/v1/push/{udid}")
            self.assertIn(status, (200, 500))
        load.until(40)
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
        load.until(100)
        self.judge(load)


class ClockTests(FaultCase):
    """The machine's clock jumps; the store is on another."""

    def redis(self) -> str:
        binary = shutil.which("redis-server") or shutil.which("valkey-server")
        found = [*Path("/usr/lib").glob("*/faketime/libfaketime.so.1")]
        if not found or binary is None:
            self.skipTest("libfaketime (Debian package faketime) or redis-server is not installed")
        self.library = str(found[0])
        server = redis_server(binary)
        url = server.__enter__()
        self.addCleanup(server.__exit__, None, None, None)
        return url

    def setUp(self) -> None:
        super().setUp()
        self.daemon.kill()
        self.clock = self.daemon.state / "clock"
        self.clock.write_text("+0")
        self.daemon.start(
            LD_PRELOAD=self.library,
            FAKETIME_TIMESTAMP_FILE=str(self.clock),
            FAKETIME_NO_CACHE="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
        )

    def test_jumps(self) -> None:
        """Forward by days and weeks, back by minutes: order is kept, nothing is lost."""
        load = self.work(4)
        for jump in ("+3d", "-20m", "+40d", "+0"):
            self.clock.write_text(jump)
            load.until(30)
        self.judge(load)
