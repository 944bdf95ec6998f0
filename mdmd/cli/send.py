"""``mdmctl send``: tell devices what to do."""

import argparse
from collections.abc import Awaitable, Callable
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdmd.cli.client import Remote


_CENTURY = 100 * 366 * 86_400.0


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    send = subparsers.add_parser(
        "send",
        help="send a command to devices",
        usage="mdmctl send [options] [ID[,ID…]] RequestType [key=value …]",
        description=(
            "Queue a command on each ID (commas part several) and push. `mdmctl command "
            "RequestType` describes its keys. Values: yes and no, dates such as "
            "2026-11-24T20:00:00Z, @FILE is a file's content; Settings.0.Item=… is a key in a "
            "list's first dict, Queries=A,B a list. What a device can't take is refused."
        ),
    )
    send.add_argument("words", metavar="word", nargs="*", help="IDs, RequestType, key=value")
    send.add_argument("--plist", metavar="FILE", help="send this whole command instead of keys")
    send.add_argument("--uuid", metavar="UUID", help="the CommandUUID; makes repeats harmless")
    add_targets(send)
    add_how(send)
    send.set_defaults(run=_send)


def add_targets(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say who is meant."""
    parser.add_argument("--all", action="store_true", help="every enabled device")
    add_chosen(parser)


def add_chosen(parser: argparse.ArgumentParser) -> None:
    """Declare the options that choose some of the fleet."""
    parser.add_argument(
        "--where", metavar="EXPR", default="", help='such as "os<18 and model~iPad" (targets.md)'
    )
    parser.add_argument("--group", metavar="NAME", default="", help="the members of a group")


def add_how(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say how it is sent."""
    add = parser.add_argument
    add("--priority", choices=("security", "normal", "background"), default="")
    add("--expires", metavar="SECONDS", type=lifetime, help="set it aside if not taken by then")
    add("--max-attempts", metavar="N", type=int, help="set it aside after so many deliveries")
    add("--not-before", metavar="SECONDS", type=seconds, help="offer it only after so long")
    add(
        "--no-push",
        action="store_true",
        help="wake nobody; who does not come by itself is pushed after the first [push] repeat",
    )
    add("--force", action="store_true", help="send whatever the catalogue says against it")
    add("--keep", action="store_true", help="leave one of the same kind that waits in its place")
    add("--wait", action="store_true", help="wait for the answers and show them")
    add(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=300.0,
        help="how long --wait waits (default 300)",
    )


def seconds(text: str) -> float:
    """Read an option that is a time from now on."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= _CENTURY:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return found


def lifetime(text: str) -> float:
    """Read how long a command is good for."""
    found = seconds(text)
    if found < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is too short: it would never be sent")
    return found


def how(args: argparse.Namespace) -> dict[str, Any]:
    """Give the options of :func:`add_how` as arguments of a call."""
    from mdmd.cli.sending import from_now

    return {
        "priority": args.priority,
        "expires": from_now(args.expires),
        "max_attempts": args.max_attempts,
        "not_before": from_now(args.not_before),
        "push": not args.no_push,
        "force": args.force,
        "keep": args.keep,
    }


def typed_keys(request_type: str, words: list[str], force: bool = False) -> dict[str, Any]:
    """
    Read ``key=value`` words by the catalogue, and check the form before anybody is asked.

    :raises BadRequest: a line for each word or key that is wrong.
    """
    from mdmd.errors import BadRequest
    from mdmd.mdm.catalogue.build import build_keys
    from mdmd.mdm.catalogue.check import check_form
    from mdmd.mdm.catalogue.load import entry

    found = entry(request_type)
    if found is None and not force:
        raise BadRequest("\n".join(check_form(request_type, {}).faults))
    keys = build_keys(found, words, _read)
    faults = () if force else check_form(request_type, keys).faults
    if faults:
        raise BadRequest("\n".join(faults))
    return keys


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


def _ids_first(args: argparse.Namespace) -> bool:
    """Say whether the words begin with ids: they may be left out if others are chosen."""
    if not (args.all or args.where or args.group):
        return bool(args.words)
    names = list(takewhile(lambda word: "=" not in word, args.words))
    return len(names) > (0 if args.plist else 1)


def _send(args: argparse.Namespace) -> int:
    from mdmd.errors import BadRequest

    words = list(args.words)
    ids = [words.pop(0)] if _ids_first(args) else []
    if args.plist:
        if args.uuid:
            raise BadRequest("--plist is the whole command, its CommandUUID too: leave --uuid out")
        if words:
            raise BadRequest(f"--plist is the whole command; what is {words[0]!r}?")
        return dispatch(args, ids, "commands.send_raw", {"plist": _read(args.plist), **how(args)})
    if not words:
        raise BadRequest("say which command: mdmctl send ID RequestType [key=value …]")
    request_type, *rest = words
    keys = typed_keys(request_type, rest, args.force)
    options = {"request_type": request_type, "keys": keys, "uuid": args.uuid, **how(args)}
    return dispatch(args, ids, "commands.send", options)


def dispatch(
    args: argparse.Namespace,
    ids: list[str],
    name: str,
    options: dict[str, Any],
    ask: "Callable[[Remote, argparse.Namespace], Awaitable[None]] | None" = None,
    sent: Callable[[dict[str, Any]], None] = lambda reply: None,
) -> int:
    """
    Send to those that are meant, and wait for the answers if asked to.

    :param ask: is called before; raises if it shall not be.
    :param sent: is called with what became of each, before it is waited for.
    """
    from mdmd.cli import sending
    from mdmd.cli.client import run
    from mdmd.cli.waiting import wait_for

    async def verb(remote: "Remote") -> int:
        if ask is not None:
            await ask(remote, args)

        async def send() -> dict[str, Any]:
            reply = await sending.send(remote, args, sending.split(ids), name, options)
            sent(reply)
            return reply

        if args.wait:
            return await wait_for(remote, send, args)
        return sending.show_reply(await send(), args)

    return run(args, verb)
