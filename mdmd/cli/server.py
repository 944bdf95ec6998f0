"""``mdmctl status`` and ``mdmctl methods``: the daemon itself, and what it can be asked."""

import argparse
from typing import TYPE_CHECKING, Any

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
        for text in status_lines(found, show.width() or 100):
            show.out(text)

    return run(args, verb)


def status_lines(status: dict[str, Any], width: int) -> list[str]:
    """Lay out what the daemon knows of itself, for people: times and sizes as they say them."""
    from mdmd.cli.screen import head_lines, wrap
    from mdmd.cli.show import age, clean, moment

    lines = head_lines(status, width)
    if "started" in status:
        lines.append(f"started {moment(status['started'])}")
    for each in status.get("push", {}).get("lines", []):
        words = [f"certificate of {clean(each['topic'])}"]
        words.append(f"until {moment(1000 * each['not_after'])}")
        if each["last_error"]:
            when = age(1000 * each["last_error_at"])
            words.append(f"last error {clean(each['last_error'])}, {when}")
        lines += wrap(words, width)
    return lines


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
