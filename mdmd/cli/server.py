"""``mdmctl status`` and ``mdmctl methods``: the daemon itself, and what it can be asked."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mdmd.cli.client import Remote


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    status = subparsers.add_parser("status", help="say what the daemon knows of itself")
    status.set_defaults(run=_status)
    methods = subparsers.add_parser("methods", help="list what programs can call, see docs/pb.md")
    methods.set_defaults(run=_methods)


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


def _methods(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> None:
        found = await remote.call("status.methods")
        if args.json:
            show.as_json(found)
            return
        rows = ((f"{each['name']}({', '.join(each['arguments'])})", each["text"]) for each in found)
        show.print_table(("METHOD", "WHAT IT DOES"), rows)

    return run(args, verb)
