"""``mdmctl events`` and ``mdmctl audit``: what happened, and who did it."""

import argparse
from typing import TYPE_CHECKING, Any

from mdmd.ops.wire import LARGEST_PAGE

if TYPE_CHECKING:
    from mdmd.cli.client import Remote


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    events = subparsers.add_parser("events", help="list events, oldest first")
    events.add_argument("--after", metavar="EVENT", default="0", help="begin after this event id")
    events.add_argument("--limit", metavar="N", type=int, default=100)
    events.add_argument(
        "--device", metavar="ID", default="", help="of this device, and its users, only"
    )
    events.add_argument("--follow", action="store_true", help="and go on as they come")
    events.set_defaults(run=_events)
    audit = subparsers.add_parser("audit", help="list what operators did, newest first")
    audit.add_argument(
        "--before", metavar="ENTRY", default="+", help="those older than this entry, by its id"
    )
    audit.add_argument("--limit", metavar="N", type=int, default=100)
    audit.set_defaults(run=_audit)


def _events(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run
    from mdmd.cli.watch import follow_on, line

    def tell(event: dict[str, Any]) -> None:
        if args.json:
            show.as_json_line(event)
        else:
            show.out(line(event, show.width()))

    async def verb(remote: "Remote") -> None:
        if args.follow:
            await follow_on(remote, args, tell, args.after, id=args.device, topics=None)
        found = await _page(remote, args)
        if args.json:
            show.as_json(found)
            return
        for each in found:
            tell(each)

    return run(args, verb)


def _is_of(enrollment: str, wanted: str) -> bool:
    """Say whether it is the one, or a user channel of it; --follow has it the same."""
    return enrollment == wanted or enrollment.startswith(f"{wanted}:")


async def _page(remote: "Remote", args: argparse.Namespace) -> list[dict[str, Any]]:
    """Read as many as were asked for, of one device if that is all that is wanted."""
    if not args.device:
        page: list[dict[str, Any]] = await remote.call(
            "events.page", after=args.after, limit=args.limit
        )
        return page
    wanted = await remote.call("enrollments.find", text=args.device) or args.device
    found: list[dict[str, Any]] = []
    after, more = args.after, True
    while more and len(found) < args.limit:
        page = await remote.call("events.page", after=after, limit=LARGEST_PAGE)
        found += [each for each in page if _is_of(each["enrollment"], wanted)]
        more = len(page) == LARGEST_PAGE
        after = page[-1]["id"] if page else after
    return found[: args.limit]


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
        for each in found:
            text = audit_line(each)
            show.out(text if each["outcome"] == "ok" else show.colour(text, show.RED))

    return run(args, verb)
