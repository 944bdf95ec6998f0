"""Floods at the operators' doors: garbage, half-open connections, a thousand of them at once."""

import os
import random
import socket
import subprocess
import time

from tests.test_manhole import ManholeCase

MB = 1024 * 1024


class FloodTests(ManholeCase):
    """Memory stays bounded, and operators come in all the while."""

    def memory(self) -> int:
        """The server's resident memory, in bytes."""
        with open(f"/proc/{self.server.pid}/status") as status:
            (line,) = [each for each in status if each.startswith("VmRSS")]
        return int(line.split()[1]) * 1024

    def connect(self, ssh: bool) -> socket.socket:
        """Open a connection; it is closed at the end."""
        if ssh:
            made = socket.create_connection(("127.0.0.1", int(self.port)), timeout=10)
        else:
            made = socket.socket(socket.AF_UNIX)
            made.connect(str(self.folder / "mdmd.sock"))  # waits while the backlog is full
            made.settimeout(10)
        self.addCleanup(made.close)
        return made

    def comes_in(self) -> None:
        """Both doors still let an admin in."""
        self.assertEqual(self.ssh("boss", "1 + 1").stdout, "2\n")
        self.assertEqual(self.audit()[0]["outcome"], "ok")

    def is_closed(self, connection: socket.socket) -> bool:
        """Read until the server closes; False if it does not within some seconds."""
        try:
            while connection.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def test_garbage(self) -> None:
        """Whatever is sent, the connection ends at once with one line in the log."""
        chance = random.Random(6)
        for ssh in (False, True):
            for size in (10, 1000, 100_000):
                connection = self.connect(ssh)
                head = b"SSH-2.0-x\r\n" if ssh else b""
                try:
                    connection.sendall(head + b"\xff" + chance.randbytes(size))
                except OSError:
                    continue
                if size > 10:
                    self.assertTrue(self.is_closed(connection), (ssh, size))
        self.assertNotIn("Traceback", (self.folder / "log").read_text())
        self.comes_in()

    def test_a_thousand_connections(self) -> None:
        """Each says a little and then nothing; the oldest strangers have to leave for new ones."""
        self.comes_in()
        before = self.memory()
        for number in range(1000):
            connection = self.connect(ssh=False)
            connection.sendall(b"\x01\x80" * (number % 40))  # lists that never end
        for _ in range(200):
            self.connect(ssh=True).sendall(b"SSH-2.0-")
        self.comes_in()
        grown = self.memory() - before
        print(f"1,000 connections and 200 of SSH: {grown / MB:.1f} MB more")
        self.assertLess(grown, 40 * MB)
        self.assertLess(len(os.listdir(f"/proc/{self.server.pid}/fd")), 700)

    def test_a_client_that_vanishes_in_the_middle_of_a_page(self) -> None:
        """Killed while it reads large answers, again and again: nothing stays behind."""
        before = self.memory()
        words = ["devices", "--limit", "1000", "--json"]
        for _ in range(5):
            process = subprocess.Popen(
                [*self.mdmctl, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            time.sleep(0.15)
            process.kill()
            process.wait()
            process.stdout.close()
        self.comes_in()
        self.assertLess(self.memory() - before, 40 * MB)
