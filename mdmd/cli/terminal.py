"""A whole terminal for a while: drawn over and over, put back as it was at the end."""

import os
import shutil
import signal
import termios
import tty
from types import TracebackType
from typing import IO, Any

from twisted.internet.defer import Deferred

from mdmd.cli.client import reactor


class FullScreen:
    """
    The terminal's other screen, and its keys one by one.

    :ivar quit: somebody typed q.
    """

    def __init__(self, keys: IO[str], out: IO[str]) -> None:
        self._in = keys.fileno()
        self._out = out
        self._was: Any = None
        self._waiting: Deferred[None] | None = None
        self.quit = False

    def __enter__(self) -> "FullScreen":
        if os.isatty(self._in):
            self._was = termios.tcgetattr(self._in)
            reactor.addReader(self)
        # A new size is drawn for at once; the reactor is woken up from the handler.
        signal.signal(signal.SIGWINCH, lambda *_: reactor.callFromThread(self.wake))
        signal.signal(signal.SIGTSTP, lambda *_: reactor.callFromThread(self._suspend))
        self._take()
        return self

    def _take(self) -> None:
        if self._was is not None:
            tty.setcbreak(self._in)
        self._out.write("\x1b[?1049h\x1b[?25l")

    def _give_back(self) -> None:
        if self._was is not None:
            termios.tcsetattr(self._in, termios.TCSADRAIN, self._was)
        self._out.write("\x1b[?25h\x1b[?1049l")
        self._out.flush()

    def _suspend(self) -> None:
        """Give the terminal to the shell for as long as Ctrl-Z stops this."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self.wake()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Put the terminal back as it was."""
        for each in (signal.SIGWINCH, signal.SIGTSTP):
            signal.signal(each, signal.SIG_DFL)
        if self._was is not None:
            reactor.removeReader(self)
        self._give_back()
        self._was = None

    def size(self) -> tuple[int, int]:
        """Say how many columns and lines there are."""
        size = shutil.get_terminal_size()
        return size.columns, size.lines

    def draw(self, lines: list[str]) -> None:
        """Draw over what was there, without a flicker."""
        whole = "".join(f"{line}\x1b[K\r\n" for line in lines[:-1]) + "".join(lines[-1:])
        self._out.write(f"\x1b[H{whole}\x1b[K\x1b[J")
        self._out.flush()

    async def key_or(self, seconds: float) -> None:
        """Wait for a key, or so long."""
        self._waiting = Deferred()
        call = reactor.callLater(seconds, self.wake)
        await self._waiting
        if call.active():
            call.cancel()

    def wake(self) -> None:
        """End the waiting of :meth:`key_or`."""
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(None)

    # -- IReadDescriptor, for the reactor

    def fileno(self) -> int:
        """Give the file descriptor of the keys."""
        return self._in

    def doRead(self) -> None:
        """Take a key."""
        if os.read(self._in, 100)[:1] in (b"q", b"Q", b""):
            self.quit = True
        self.wake()

    def connectionLost(self, reason: object) -> None:
        """The terminal went away."""
        self.quit = True
        self.wake()

    def logPrefix(self) -> str:
        """Name this for the log."""
        return "terminal"
