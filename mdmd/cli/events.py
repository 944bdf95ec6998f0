"""``mdmctl events`` and ``mdmctl watch``: what happened, and what happens."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdmd.cli.client import Remote


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    events = subparsers.add_parser("events", help="list events, oldest first")
    events.add_argument("--after", metavar="EVENT", default="0", help="begin after this event id")
    events.add_argument("--limit", metavar="N", type=int, default=100)
    events.set_defaults(run=_events)


def line(event: dict[str, Any]) -> str:
    """Put an event on one readable line."""
    from mdmd.cli.show import clean, moment

    when = moment(int(event["id"].partition("-")[0]))
    facts = " ".join(f"{key}={clean(value)}" for key, value in event["facts"].items() if value)
    return f"{when}  {event['topic']:<22} {event['enrollment'] or '-'}  {facts}".rstrip()


def _events(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> None:
        found = await remote.call("events.page", after=args.after, limit=args.limit)
        if args.json:
            show.as_json(found)
            return
        for each in found:
            show.out(line(each))

    return run(args, verb)
