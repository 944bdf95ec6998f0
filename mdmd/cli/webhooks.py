"""``mdmctl webhooks``: who is told of events, and how far they are."""

import argparse
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdmd.cli.client import Remote


_LAST = 10**18 - 1  # beyond any event of a millisecond


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    webhooks = subparsers.add_parser("webhooks", help="who is told of events")
    verbs = webhooks.add_subparsers(metavar="VERB", required=True)
    show = verbs.add_parser("list", help="how far each is")
    show.set_defaults(run=_verb(_list))
    test = _named(verbs, "test", "send a test event now")
    test.set_defaults(run=_verb(_test))
    dead = _named(verbs, "dead", "list what was never taken, oldest first")
    dead.add_argument("--after", metavar="LETTER", default="0")
    dead.add_argument("--limit", metavar="N", type=int, default=100)
    dead.set_defaults(run=_verb(_dead))
    replay = _named(verbs, "replay", "send events, or dead letters, again")
    which = replay.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--from",
        dest="after",
        metavar="EVENT",
        help="this event and all after; 0: all there are",
    )
    which.add_argument("--dead", action="store_true", help="the dead letters")
    replay.add_argument("--limit", metavar="N", type=int, default=100, help="of dead letters")
    replay.set_defaults(run=_verb(_replay))


def _named(verbs: Any, name: str, help: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=help)
    parser.add_argument("name", metavar="NAME", help="as in [webhook NAME]")
    return parser


_Act = Callable[["Remote", argparse.Namespace], Awaitable[int | None]]


def _verb(act: _Act) -> Callable[[argparse.Namespace], int]:
    def run_it(args: argparse.Namespace) -> int:
        from mdmd.cli.client import run

        return run(args, lambda remote: act(remote, args))

    return run_it


async def _list(remote: "Remote", args: argparse.Namespace) -> None:
    from mdmd.cli import show

    found = await remote.call("webhooks.show")
    if args.json:
        show.as_json(found)
        return
    headers = ("NAME", "WHERE", "TOPICS", "BEHIND", "UNSETTLED", "DEAD", "SENDER", "TROUBLE")
    rows = [
        (
            *(each["name"], each["where"], ", ".join(each["topics"])),
            "?" if each["behind"] is None else each["behind"],
            *(each["unsettled"], each["dead"], each["sender"] or "nobody", each["trouble"]),
        )
        for each in found
    ]
    show.print_table(headers, rows)


async def _test(remote: "Remote", args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.exits import DONE, FAILED

    trouble = await remote.call("webhooks.test", name=args.name)
    if args.json:
        show.as_json({"taken": not trouble, "trouble": trouble})
    else:
        show.out(f"not taken: {show.clean(trouble)}" if trouble else "taken")
    return FAILED if trouble else DONE


async def _dead(remote: "Remote", args: argparse.Namespace) -> None:
    from mdmd.cli import show

    found = await remote.call("webhooks.dead", name=args.name, after=args.after, limit=args.limit)
    if args.json:
        show.as_json(found)
        return
    headers = ("LETTER", "GIVEN UP", "TRIES", "EVENT", "TOPIC", "ENROLLMENT", "WHY")
    rows = [
        (
            *(each["id"], show.moment(each["at"]), each["attempts"], each["event"]["id"]),
            *(each["event"]["topic"], each["event"]["enrollment"], each["reason"]),
        )
        for each in found
    ]
    show.print_table(headers, rows)


def _before(event: str) -> str:
    """Give an id that no event before this one has; of what is no id, the daemon says so."""
    at, _, nth = event.partition("-")
    if not (at.isdecimal() and at.isascii()) or not int(at):
        return event
    if nth.isdecimal() and nth.isascii() and int(nth):
        return f"{at}-{int(nth) - 1}"
    return f"{int(at) - 1}-{_LAST}" if nth in ("", "0") else event


async def _replay(remote: "Remote", args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.exits import DONE, FAILED

    if not args.dead:
        await remote.call("webhooks.replay", name=args.name, after=_before(args.after))
        if not args.json:
            show.out("they are being sent")
        return DONE
    found = await remote.call("webhooks.resend", name=args.name, limit=args.limit)
    if args.json:
        show.as_json(found)
    else:
        show.out(f"{found['taken']} taken, {found['failed']} not: {show.clean(found['trouble'])}")
    return FAILED if found["failed"] else DONE
