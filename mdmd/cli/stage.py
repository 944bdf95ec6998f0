"""
What happens in ``mdmctl demo``: a real daemon in a process of its own, and around
it everything that is usually far away: devices, and Apple's push service.
"""

import time
from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from mdmd.errors import MdmdError

QUERIES = ["DeviceName", "OSVersion", "BuildVersion", "ModelName", "SerialNumber"]


class StepFailed(MdmdError):
    """A step of the demo did not come about in time, or ended in an error."""


class Stage:
    """Prints each step with the time since the curtain rose."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._start = time.monotonic()
        self._write = write

    def tell(self, who: str, what: str) -> None:
        """One line: seconds, who, what."""
        self._write(f"{time.monotonic() - self._start:7.2f} s  {who:<10} {what}\n")


class DaemonProcess(ProcessProtocol):
    """The daemon; its output goes to a log file and is shown if it fails."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("ab")
        self._tail = b""
        self.ready: Deferred[None] = Deferred()
        self.ended: Deferred[int] = Deferred()

    def childDataReceived(self, fd: int, data: bytes) -> None:
        """Keep the log, and wait for the line that says ready."""
        self._log.write(data)
        self._log.flush()
        self._tail = (self._tail + data)[-20_000:]
        if b"mdmd ready" in self._tail and not self.ready.called:
            self.ready.callback(None)

    def processEnded(self, reason: Failure) -> None:
        """Tell whoever waits for it to begin or to end."""
        self._log.close()
        value = reason.value
        status = value.exitCode if isinstance(value, ProcessDone | ProcessTerminated) else None
        if not self.ready.called:
            self.ready.errback(
                StepFailed(f"the daemon ended:\n{self._tail.decode(errors='replace')}")
            )
        self.ended.callback(1 if status is None else status)

    async def stop(self) -> None:
        """Ask it to end as systemd would, and wait for it."""
        if self.transport is not None and self.transport.pid is not None:
            self.transport.signalProcess("TERM")
        await self.ended
