"""What clients may do to the daemon while devices work: thousands that rest, slow ones, garbage."""

import contextlib
import shutil
import ssl
import subprocess
import time
from typing import ClassVar

from tests.faults.case import LONGER, OPTIONS, FaultCase, memory

IDLE = 5000
WITH_TLS = min(IDLE, 500 * LONGER)  # of them; a handshake costs this process as much as the daemon
DEAREST = 60_000  # bytes that a connection may take


class IdleTests(FaultCase):
    # Long enough for all of them to be there at once, and short enough to see them go.
    options: ClassVar[dict[str, str]] = {
        **OPTIONS,
        "site": "request_timeout = 60s\nidle_timeout = 60s",
    }

    def test_idle_connections(self) -> None:
        """Thousands of idle connections: devices are served, and the memory comes back."""
        load = self.work(4)
        context = ssl.create_default_context(cafile=str(self.daemon.trust))
        for _ in range(2):  # what the first wave took serves the second
            with contextlib.ExitStack() as stack:
                made = stack.enter_context(self.connections(IDLE))
                for each in made[:WITH_TLS]:
                    secure = context.wrap_socket(each, server_hostname="localhost")
                    stack.callback(secure.close)
                self.until_there()
                self.hurt += 1
                load.until(40)
                self.assertLess((memory(self.pid) - self.memory_before) / IDLE, DEAREST)
        load.until(40)
        self.judge(load)

    def until_there(self) -> None:
        """Wait until the daemon has taken all of them."""
        end = time.monotonic() + 60
        while self.open_connections() < IDLE:
            self.assertLess(time.monotonic(), end, "not all of them were taken")
            time.sleep(0.1)

    def open_connections(self) -> int:
        """Ask the daemon how many there are."""
        (line,) = (
            each
            for each in self.daemon.text("/metrics").splitlines()
            if each.startswith('mdmd_connections{door="site"}')
        )
        return int(float(line.split()[1]))


class NetworkTests(FaultCase):
    options: ClassVar[dict[str, str]] = {
        **OPTIONS,
        "site": "request_timeout = 2s\nidle_timeout = 30s",
    }

    def test_garbage(self) -> None:
        """Plain HTTP, garbage, half a handshake: cut, and nobody else notices."""
        load = self.work(4)
        for _ in range(LONGER):
            with self.connections(60) as many:
                for number, each in enumerate(many):
                    with contextlib.suppress(OSError):
                        each.sendall([b"\x16", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 500][number % 3])
                self.hurt += 1
                load.until(60)
                for each in many:
                    each.settimeout(20)
                    with contextlib.suppress(OSError):  # reset is an end, too
                        while each.recv(4096):
                            pass
        self.judge(load)

    def test_slow_loris(self) -> None:
        """Those who send a request byte by byte are cut, however busy they seem."""
        load = self.work(4)
        context = ssl.create_default_context(cafile=str(self.daemon.trust))
        for _ in range(LONGER):
            with self.connections(40) as many, contextlib.ExitStack() as stack:
                slow = [context.wrap_socket(each, server_hostname="localhost") for each in many]
                for each in slow:
                    stack.callback(each.close)
                self.hurt += 1
                self.drip(slow)
            load.until(20)
        self.judge(load)

    def drip(self, slow: list[ssl.SSLSocket]) -> None:
        """Send a byte of a header each quarter of a second, until none is left to send it to."""
        left, began = list(slow), time.monotonic()
        for each in left:
            each.sendall(b"PUT /connect HTTP/1.1\r\nX-Slow: ")
        while left:
            self.assertLess(time.monotonic() - began, 20, f"{len(left)} are still there")
            time.sleep(0.25)
            for each in list(left):
                try:
                    each.sendall(b"x")
                except OSError:
                    left.remove(each)
        # Not before: 2 seconds were theirs.
        self.assertGreater(time.monotonic() - began, 1.5)

    def test_renegotiation(self) -> None:
        """A client that asks for a new handshake again and again gets none."""
        openssl = shutil.which("openssl")
        if openssl is None:
            self.skipTest("openssl is not installed")
        load = self.work(4)
        for _ in range(LONGER):
            self.hurt += 1
            asked = subprocess.run(
                [openssl, "s_client", "-connect", f"127.0.0.1:{self.daemon.port}", "-tls1_2"],
                input=b"R\n" * 20,
                capture_output=True,
                check=False,
                timeout=30,
            )
            self.assertIn(b"RENEGOTIATING", asked.stdout + asked.stderr)
            self.assertNotIn(b"RENEGOTIATING\ndepth", asked.stdout + asked.stderr)
            load.until(20)
        self.judge(load)
