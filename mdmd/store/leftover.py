"""Find and end the embedded store of a daemon that was killed: never two on one file."""

import fcntl
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater
from twisted.logger import Logger

from mdmd.errors import StoreUnavailable
from mdmd.store.address import Address
from mdmd.store.dial import reach

log = Logger()

PATIENCE = 15.0  # seconds for each way to end it


class Lock:
    """
    A file that one process at a time holds, and those it hands it to.

    The system lets go of it when the last of them is gone, however it ended.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: int | None = None

    def take(self) -> bool:
        """Take it unless another process holds it."""
        if self._held is None:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            self._held = descriptor
        return True

    def fileno(self) -> int:
        """The descriptor, to hand it to a child."""
        assert self._held is not None
        return self._held

    def write(self, text: str) -> None:
        """Note something in the file."""
        os.ftruncate(self.fileno(), 0)
        os.pwrite(self.fileno(), text.encode(), 0)

    def read(self) -> str:
        """Read what its holder noted."""
        return self._path.read_text()

    def release(self) -> None:
        """Let go of it."""
        if self._held is not None:
            os.close(self._held)
            self._held = None


async def end_leftover(reactor: Any, socket: Path, lock: Lock, patience: float = PATIENCE) -> None:
    """
    End the server that holds ``lock``, with its data on disk, and take the lock.

    First it is asked over its socket, then by signal.

    :param patience: seconds for each way.
    :raises StoreUnavailable: it stays.
    """
    folder = socket.parent
    log.warn("the store of an earlier daemon still runs in {folder}; it is ended", folder=folder)
    # Each gives what is left to be done when it has had its time.
    ways: list[Callable[[], Awaitable[Callable[[], object]]]] = [
        lambda: _ask(reactor, socket, patience),
        lambda: _send(lock, folder, signal.SIGTERM),
        lambda: _send(lock, folder, signal.SIGKILL),
    ]
    for way in ways:
        try:
            gone = await way()
        except (StoreUnavailable, OSError, ValueError) as error:
            log.warn("the earlier store can't be ended that way: {why}", why=str(error))
            continue
        try:
            if await _until(reactor, lock.take, patience):
                return
        finally:
            gone()
    raise StoreUnavailable(f"a server of an earlier daemon holds {folder} and does not end")


async def _until(reactor: Any, done: Callable[[], bool], patience: float) -> bool:
    end = reactor.seconds() + patience
    while not done():
        if reactor.seconds() > end:
            return False
        await deferLater(reactor, 0.05)
    return True


async def _ask(reactor: Any, socket: Path, patience: float) -> Callable[[], object]:
    wire = await reach(reactor, Address("unix", path=str(socket)), patience)
    wire.tell("SHUTDOWN")
    return lambda: wire.abort("it was asked to end")


async def _send(lock: Lock, folder: Path, number: signal.Signals) -> Callable[[], object]:
    os.kill(_holder(lock, folder), number)
    return lambda: None


def _holder(lock: Lock, folder: Path) -> int:
    pid = int(lock.read())
    # Its number may be another process' by now; only /proc can tell.
    if not Path(f"/proc/{pid}/cwd").samefile(folder):
        raise StoreUnavailable(f"process {pid} is not it")
    return pid
