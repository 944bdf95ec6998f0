"""``mdmctl events`` and ``mdmctl audit``: what happened, and who did it."""

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
    audit = subparsers.add_parser("audit", help="list what operators did, oldest first")
    audit.add_argument("--before", metavar="ENTRY", default="+", help="end before this entry's id")
    audit.add_argument("--limit", metavar="N", type=int, default=100)
    audit.set_defaults(run=_audit)


def _events(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run
    from mdmd.cli.watch import line

    async def verb(remote: "Remote") -> None:
        found = await remote.call("events.page", after=args.after, limit=args.limit)
        if args.json:
            show.as_json(found)
            return
        for each in found:
            show.out(line(each, show.width()))

    return run(args, verb)


def audit_line(entry: dict[str, Any]) -> str:
    """Put an entry of the audit on one readable line."""
    from mdmd.cli.show import clean, moment

    facts = " ".join(f"{key}={value}" for key, value in entry["facts"].items())
    on = entry["enrollments"]
    where = ", ".join(on[:3]) + (f" and {len(on) - 3} more" if len(on) > 3 else "")
    words = (
        moment(int(entry["id"].partition("-")[0])),
        f"{entry['who']} ({entry['source']})",
        entry["what"],
        where,
        facts,
        "" if entry["outcome"] == "ok" else entry["outcome"],
    )
    return "  ".join(clean(word) for word in words if word)


def _audit(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> None:
        found = await remote.call("audit.page", before=args.before, limit=args.limit)
        if args.json:
            show.as_json(found)
            return
        for each in reversed(found):
            text = audit_line(each)
            show.out(text if each["outcome"] == "ok" else show.colour(text, show.RED))

    return run(args, verb)
