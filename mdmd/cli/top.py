"""``mdmctl top``: the fleet and the daemon on one screen, alive."""

import argparse
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mdmd.cli.screen import Screen

if TYPE_CHECKING:
    from mdmd.cli.client import Remote

_SILENT = 3.0  # seconds without an answer that are told
_HANGS = "the daemon does not answer"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    top = subparsers.add_parser(
        "top",
        help="look at the fleet and the daemon on one screen, alive",
        description="q or Ctrl-C ends it. Without a terminal, or with --once, one look is printed.",
    )
    top.add_argument("--once", action="store_true", help="print one look and end")
    top.add_argument(
        "--interval", metavar="SECONDS", type=float, default=1.0, help="between looks (default 1)"
    )
    top.set_defaults(run=_top)


def _top(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import follow, pause, run
    from mdmd.cli.terminal import FullScreen

    once = args.once or args.json or not show.on_terminal()
    screen = Screen()

    async def verb(remote: "Remote") -> None:
        if once:
            await follow(remote, screen.happened, after=await _a_while_ago(remote))
            await pause(0.5)  # the events of the last minutes come
            await _look(remote, screen, args.json)
            return
        interval = max(0.1, args.interval)
        watching = _Watching(remote, args, screen, interval)
        with FullScreen(sys.stdin, sys.stdout) as terminal:
            watching.start(terminal.wake)
            try:
                while not terminal.quit and not watching.failure:
                    watching.tell_silence()
                    terminal.draw(screen.lines(*terminal.size()))
                    await terminal.key_or(interval)
            finally:
                watching.stop()
        if watching.failure:
            watching.failure[0].raiseException()

    return run(args, verb)


class _Watching:
    """
    Keeps a screen up to date: by this daemon, and if it goes away by the next.

    The terminal does not wait for it: a daemon may be slow to answer, or hang.
    """

    def __init__(
        self, remote: "Remote", args: argparse.Namespace, screen: Screen, interval: float
    ) -> None:
        self._remote = remote
        self._args = args
        self._screen = screen
        self._interval = interval
        self._heard = time.monotonic()
        self._running: Any = None
        self._wake: Callable[[], None] = lambda: None
        self.failure: list[Any] = []  # what ended it, if something did

    def start(self, wake: Callable[[], None]) -> None:
        """Begin; ``wake`` is called when something is to be seen at once."""
        from twisted.internet.defer import CancelledError, Deferred

        self._wake = wake
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(lambda each: each.trap(CancelledError))
        self._running.addErrback(self._failed)

    def _failed(self, failure: Any) -> None:
        self.failure.append(failure)
        self._wake()

    def stop(self) -> None:
        """End."""
        self._running.cancel()

    def tell_silence(self) -> None:
        """Say so if nothing was heard for long."""
        silent = time.monotonic() - self._heard
        if silent > _SILENT and self._screen.trouble in ("", _HANGS):
            self._screen.trouble = _HANGS

    async def _run(self) -> None:
        from mdmd.cli.client import NoDaemon
        from mdmd.cli.roads import reach_again

        while True:
            try:
                await self._ask()
            except NoDaemon:
                self._screen.trouble = "the daemon went away; waiting for it"
                self._wake()
            self._remote = await reach_again(self._args)

    async def _ask(self) -> None:
        """Ask again and again; raise NoDaemon when it goes away."""
        from mdmd.cli.client import follow, pause

        after = self._screen.last or await _a_while_ago(self._remote)
        await follow(self._remote, self._screen.happened, after=after)
        while True:
            seen, trouble = bool(self._screen.status), self._screen.trouble
            await self._look()
            if not seen or trouble != self._screen.trouble:
                self._wake()
            await pause(self._interval)

    async def _look(self) -> None:
        from mdmd.errors import StoreUnavailable

        try:
            self._screen.status = await self._remote.call("status.get")
            self._screen.trouble = ""
        except StoreUnavailable as error:
            self._screen.trouble = f"the daemon's store: {error}"
        self._heard = time.monotonic()


async def _a_while_ago(remote: "Remote") -> str:
    status = await remote.call("status.get")
    return f"{max(0, status['time'] - 300_000)}-0"


async def _look(remote: "Remote", screen: Screen, json: bool) -> None:
    from mdmd.cli import show

    screen.status = await remote.call("status.get")
    if json:
        show.as_json({**screen.status, **screen.data()})
        return
    for line in screen.lines(show.width() or 120, 50):
        show.out(line)
