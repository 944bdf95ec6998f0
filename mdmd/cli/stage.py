"""
What ``mdmctl demo`` needs around its play: lines with the time, a table, and a
real daemon in a process of its own.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure

from mdmd.errors import MdmdError

WIDTH = 80
_READY = b"mdmd ready"
_GRACE = 15.0  # seconds for the daemon to end by itself
# In a session of its own: Ctrl-C on the terminal is for us, and we end the rest in order. Given
# the folder, spawnProcess would fork, and a signal before the exec would be lost.
_APART = "import os, sys; os.setsid(); os.chdir('/'); os.execv(sys.argv[1], sys.argv[1:])"


class StepFailed(MdmdError):
    """A step of the demo did not come about in time, or ended in an error."""


class Stage:
    """Prints each step with the time since the curtain rose."""

    def __init__(
        self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._start = clock()
        self._write = write

    def tell(self, who: str, what: str) -> None:
        """One line: seconds, who, what."""
        self._write(f"{self._clock() - self._start:6.2f} s  {who:<9} {what}\n")

    def show(self, text: str) -> None:
        """Print text as it is."""
        self._write(text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int = WIDTH) -> str:
    """
    Lay a table out in columns, none wider than its text, all of it within ``width``.

    What does not fit is cut, the rightmost columns first.
    """
    lines = [list(head), *map(list, rows)]
    wide = [max(len(line[column]) for line in lines) for column in range(len(head))]
    while sum(wide) + 2 * len(wide) > width:
        wide[wide.index(max(wide))] -= 1
    rule = ["─" * each for each in wide]

    def spell(line: Sequence[str]) -> str:
        cells = [_cut(text, room).ljust(room) for text, room in zip(line, wide, strict=True)]
        return "  ".join(["", *cells]).rstrip()

    return "\n".join(map(spell, [rule, lines[0], rule, *lines[1:], rule])) + "\n"


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"


def fold(words: Sequence[str], width: int = WIDTH) -> str:
    """Spell a command to be copied, in lines that fit; a comment has an empty line before it."""
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) + 5 > width:
            lines.append("  ")
        lines[-1] += f" {word}" if lines[-1].strip() else word
    gap = "\n" if words[0].startswith("#") else ""
    return gap + "  " + " \\\n  ".join(lines) + "\n"


def shown(value: Any) -> str:
    """Spell one value of an answer for the table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def program(name: str) -> str:
    """
    Find a program that was installed with this one.

    :raises StepFailed: it is not there.
    """
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise StepFailed(f"{name} is not installed beside {sys.executable}")
    return found


class DaemonProcess(ProcessProtocol):
    """
    ``twistd mdmd``, its output in a file.

    :ivar ready: fires with None when it serves; fails if it ends before.
    """

    transport: Any

    def __init__(self, reactor: Any, log: Path) -> None:
        self._reactor = reactor
        self._log = log.open("ab")
        self._tail = b""
        self.ready: Deferred[None] = Deferred()
        self._status: int | None = None  # None: it runs
        self._waiting: list[Deferred[int]] = []

    def start(self, config: Path) -> None:
        """Start it."""
        twistd = program("twistd")
        words = [twistd, "-n", "--pidfile=", "mdmd", "--config", str(config)]
        self._reactor.spawnProcess(
            self, sys.executable, [sys.executable, "-c", _APART, *words], env=None
        )

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Keep the log, and look for the line that says ready."""
        self._log.write(data)
        self._log.flush()
        self._tail = (self._tail + data)[-20_000:]
        if _READY in self._tail and not self.ready.called:
            self.ready.callback(None)

    def processEnded(self, reason: Failure) -> None:
        """Tell whoever waits for it to begin or to end."""
        status = getattr(reason.value, "exitCode", None)
        self._status = 1 if status is None else status
        self._log.close()
        if not self.ready.called:
            self.ready.errback(StepFailed(f"the daemon ended:\n{self.tail()}"))
        for each in self._waiting:
            if not each.called:
                each.callback(self._status)

    def ended(self) -> "Deferred[int]":
        """Wait for its end; fires with its exit status. Each caller gets one of its own."""
        waited: Deferred[int] = Deferred()
        if self._status is None:
            self._waiting.append(waited)
        else:
            waited.callback(self._status)
        return waited

    def tail(self, lines: int = 15) -> str:
        """Say the last it said."""
        return "\n".join(self._tail.decode(errors="replace").splitlines()[-lines:])

    async def stop(self) -> None:
        """Ask it to end as systemd would, and make sure of it."""
        if self._status is not None or self.transport is None:
            return
        self._signal("TERM")
        last = self._reactor.callLater(_GRACE, self._signal, "KILL")
        await self.ended()
        if last.active():
            last.cancel()

    def _signal(self, name: str) -> None:
        with contextlib.suppress(ProcessExitedAlready):
            self.transport.signalProcess(name)


async def end_orphan(reactor: Any, folder: Path) -> None:
    """End the store of a daemon that was killed, if it left one in its folder for stores."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        orphan = _orphan(folder)
        if orphan is not None:
            os.kill(orphan, number)
        end = reactor.seconds() + _GRACE / 3
        while _orphan(folder) is not None and reactor.seconds() < end:
            await deferLater(reactor, 0.05)


def _orphan(folder: Path) -> int | None:
    """Say which process is still the store in a folder; its number may be another one's by now."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((folder / "server.lock").read_text())
        if Path(f"/proc/{pid}/cwd").samefile(folder):
            return pid
    return None


async def run_program(*words: str) -> bytes:
    """
    Run a program to its end, return what it printed.

    :raises StepFailed: its exit status is not 0; the text is what it complained of.
    """
    ran: Any = getProcessOutputAndValue(words[0], words[1:], env=os.environ)
    out, error, status = await ran
    if status:
        said = (error or out).decode(errors="replace").strip()
        raise StepFailed(f"{Path(words[0]).name} {' '.join(words[1:])}: {said or status}")
    return bytes(out)
