"""``mdmctl status``: the daemon itself."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mdmd.cli.client import Remote


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    status = subparsers.add_parser("status", help="say what the daemon knows of itself")
    status.set_defaults(run=_status)


def _status(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> None:
        found = await remote.call("status.get")
        if args.json:
            show.as_json(found)
            return
        for text in show.tree(found):
            show.out(text)

    return run(args, verb)
