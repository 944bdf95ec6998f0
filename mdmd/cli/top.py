"""``mdmctl top``: the fleet and the daemon on one screen, alive."""

import argparse
import sys
from typing import TYPE_CHECKING

from mdmd.cli.screen import Screen

if TYPE_CHECKING:
    from mdmd.cli.client import Remote


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
        await follow(remote, screen.happened, after=await _a_while_ago(remote))
        if once:
            await pause(0.5)  # the events of the last minutes come
            await _look(remote, screen, args.json)
            return
        with FullScreen(sys.stdin, sys.stdout) as terminal:
            while not terminal.quit:
                screen.status = await remote.call("status.get")
                terminal.draw(screen.lines(*terminal.size()))
                await terminal.key_or(max(0.1, args.interval))

    return run(args, verb)


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
