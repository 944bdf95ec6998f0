"""``mdmctl push`` and ``mdmctl push-status``: wake devices up, see how that goes."""

import argparse
import time
from typing import TYPE_CHECKING, Any

from mdmd.cli.send import add_targets

if TYPE_CHECKING:
    from mdmd.cli.client import Remote

_REASON = 60  # characters


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    push = subparsers.add_parser("push", help="wake devices up")
    push.add_argument("id", metavar="ID", nargs="*")
    add_targets(push)
    push.add_argument("--wait", action="store_true", help="wait until they connect")
    push.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=300.0,
        help="how long --wait waits (default 300)",
    )
    push.set_defaults(run=_push)
    status = subparsers.add_parser(
        "push-status", help="show connections to APNs, what waits, and the last errors"
    )
    status.set_defaults(run=_status)


def _push(args: argparse.Namespace) -> int:
    from mdmd.cli.client import run
    from mdmd.cli.sending import send, show_reply, split

    async def verb(remote: "Remote") -> int:
        if args.wait:
            from mdmd.cli.waiting import wait_for_connects

            return await wait_for_connects(remote, split(args.id), args)
        reply = await send(remote, args, split(args.id), "push.send", {})
        return show_reply(reply, args, pushes=True)

    return run(args, verb)


def _status(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> None:
        found = await remote.call("push.status")
        show.as_json(found) if args.json else _print_status(found)

    return run(args, verb)


def _print_status(found: dict[str, Any]) -> None:
    from mdmd.cli import show

    next_due = show.age(found["next_due"]) if found["next_due"] else "none"
    show.out(
        f"{found['waiting']} enrollments have work, {found['due']} are due (next: {next_due}), "
        f"{found['flying']} are being pushed by this daemon"
    )
    if found["store_failures"]:
        show.out(show.colour("the store does not answer", show.RED))
    headers = ("TOPIC", "CONNECTIONS", "IN FLIGHT", "QUEUE", "DELIVERED", "REFUSED", "LAST ERROR")
    show.print_table(headers, (_row(each) for each in found["topics"]))
    for each in found["topics"]:
        if each["alarm"]:
            show.out(show.colour(f"{each['topic']}: nothing is sent: {each['alarm']}", show.RED))


def _row(line: dict[str, Any]) -> tuple[object, ...]:
    from mdmd.cli.show import age

    error = ""
    if line["last_error"]:
        error = f"{line['last_error'][:_REASON]}, {age(line['last_error_at'] * 1000, time.time())}"
    draining = f" + {line['draining']} ending" if line["draining"] else ""
    return (
        line["topic"],
        f"{line['connections']}{draining}",
        line["in_flight"],
        line["waiting"],
        line["delivered"],
        line["refused"],
        error,
    )
