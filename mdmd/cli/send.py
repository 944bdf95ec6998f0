"""``mdmctl send``: tell devices what to do."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdmd.cli.client import Remote


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    send = subparsers.add_parser(
        "send",
        help="send a command to devices",
        description=(
            "Queue a command on each ID (commas part several) and push. Values: true, false and "
            'whole numbers are what they look like, "…" is always text, @FILE is a file\'s '
            "content, A.B=… is a key in a dict, A.0.B=… one in a list's first dict, Queries=A,B a "
            "list."
        ),
    )
    send.add_argument("id", metavar="ID", help="enrollment ids or serial numbers, by commas")
    send.add_argument("request_type", metavar="RequestType")
    send.add_argument("keys", metavar="key=value", nargs="*")
    send.add_argument("--plist", metavar="FILE", help="send this whole command instead of keys")
    send.add_argument("--uuid", metavar="UUID", help="the CommandUUID; makes repeats harmless")
    send.add_argument("--priority", choices=("security", "normal", "background"), default="")
    send.add_argument(
        "--expires", metavar="SECONDS", type=float, help="set it aside if not taken by then"
    )
    send.add_argument(
        "--max-attempts", metavar="N", type=int, help="set it aside after so many deliveries"
    )
    send.add_argument("--no-push", action="store_true", help="leave the devices asleep")
    send.add_argument("--wait", action="store_true", help="wait for the answers and show them")
    send.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=300.0,
        help="how long --wait waits (default 300)",
    )
    send.set_defaults(run=_send)


def ids(words: list[str]) -> list[str]:
    """Part what was typed, at commas too, into ids."""
    return [each for word in words for each in word.split(",") if each.strip()]


def _send(args: argparse.Namespace) -> int:
    from mdmd.cli.client import run
    from mdmd.cli.keys import command_keys
    from mdmd.cli.waiting import wait_for

    options: dict[str, Any] = {
        "ids": ids([args.id]),
        "priority": args.priority,
        "expires": None if args.expires is None else int((time.time() + args.expires) * 1000),
        "max_attempts": args.max_attempts,
        "push": not args.no_push,
    }
    if args.plist:
        name = "commands.send_raw"
        options["plist"] = Path(args.plist).read_bytes()
    else:
        name = "commands.send"
        options["keys"] = command_keys(args.keys)
        options |= {"request_type": args.request_type, "uuid": args.uuid}

    async def verb(remote: "Remote") -> int:
        if args.wait:
            return await wait_for(remote, name, options, args)
        return show_reply(await remote.call(name, **options), args)

    return run(args, verb)


def outcome(reply: dict[str, Any]) -> tuple[str, bool]:
    """Say in words what became of one target, and whether it went wrong."""
    if reply["command_error"]:
        return reply["command_error"], True
    if reply["push_error"]:
        return f"queued, but {reply['push_error']}".replace("queued, but queued", "queued"), False
    return ("pushed" if reply["push_result"] else "queued"), False


def show_reply(reply: dict[str, Any], args: argparse.Namespace) -> int:
    """Print what became of each target; 1 if any was refused."""
    from mdmd.cli import show
    from mdmd.cli.exits import DONE, FAILED

    told = {typed: outcome(each) for typed, each in reply["status"].items()}
    if args.json:
        show.as_json(reply)
    else:
        for typed, (text, wrong) in told.items():
            shown = show.colour(text, show.RED) if wrong else text
            show.out(f"{show.clean(typed)}  {shown}")
        if reply["command_uuid"]:
            show.out(f"{reply['request_type']} {reply['command_uuid']}")
    return FAILED if any(wrong for _, wrong in told.values()) else DONE
