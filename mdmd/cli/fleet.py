"""``mdmctl devices`` and ``mdmctl device``: who is enrolled."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mdmd.cli.send import add_chosen

if TYPE_CHECKING:
    from mdmd.cli.client import Remote

AT_ONCE = 200  # enrollments of one call


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    devices = subparsers.add_parser(
        "devices",
        help="list enrollments",
        description=(
            "List enrollments: all that ever were, or, with --where or --group, those that a "
            "verb which sends would mean."
        ),
    )
    add_chosen(devices)
    devices.add_argument("--after", metavar="ID", default="", help="begin after this id")
    devices.add_argument(
        "--limit", metavar="N", type=int, default=1000, help="at most so many (default 1000)"
    )
    devices.set_defaults(run=_devices)
    device = subparsers.add_parser("device", help="show one enrollment")
    device.add_argument("id", metavar="ID")
    device.add_argument("--history", action="store_true", help="what changed, newest first")
    device.add_argument("--limit", metavar="N", type=int, default=100, help="lines of history")
    device.set_defaults(run=_device)
    note = subparsers.add_parser("note", help="write name, owner, location, notes of a device")
    note.add_argument("id", metavar="ID")
    note.add_argument("words", metavar="field=text", nargs="+", help="such as owner='Jane Doe'")
    note.set_defaults(run=_note)


async def _chosen(remote: "Remote", args: argparse.Namespace) -> list[dict[str, Any]]:
    """List those that ``--where`` and ``--group`` mean, from ``--after`` on."""
    from twisted.internet.defer import Deferred, gatherResults

    found: list[dict[str, Any]] = []
    after, first = args.after, True
    while (first or after) and len(found) < args.limit:
        page = await remote.call(
            "targets.page", where=args.where, group=args.group, after=after, limit=AT_ONCE
        )
        first, after = False, page["after"]
        gets = [
            Deferred.fromCoroutine(remote.call("enrollments.get", id=each))
            for each in page["ids"][: args.limit - len(found)]
        ]
        found += await gatherResults(gets, consumeErrors=True)
    return found


async def _page_through(remote: "Remote", after: str, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < limit:
        size = min(AT_ONCE, limit - len(found))
        page = await remote.call("enrollments.page", after=after, limit=size)
        found += page
        if len(page) < size:
            break
        after = page[-1]["id"]
    return found


def state_of(record: Mapping[str, Any]) -> str:
    """Say in a word how an enrollment is."""
    if record.get("unreadable"):
        return "damaged in the store"
    if not record["enabled"]:
        return "left" if record["tally"] else "new"
    return "waiting for configuration" if record["awaiting_configuration"] else "enrolled"


def _devices(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run
    from mdmd.errors import BadRequest

    async def verb(remote: "Remote") -> None:
        if args.group and args.after:
            raise BadRequest("the members of a group are in no order that --after could go on in")
        chosen = bool(args.where or args.group)
        found = await (
            _chosen(remote, args) if chosen else _page_through(remote, args.after, args.limit)
        )
        if args.json:
            show.as_json(found)
            return
        headers = ("ID", "SERIAL", "NAME", "MODEL", "OS", "STATE", "SEEN", "QUEUE")
        show.print_table(headers, map(_row, found))
        if found and len(found) == args.limit:
            show.note(f"more may follow: {_further(args, found[-1]['id'])}")

    return run(args, verb)


def _further(args: argparse.Namespace, last: str) -> str:
    return f"--limit {args.limit * 10}" if args.group else f"--after {last}"


def _row(record: dict[str, Any]) -> list[object]:
    from mdmd.cli.show import age

    facts = record["facts"]
    return [
        record["id"],
        facts.get("SerialNumber", ""),
        facts.get("DeviceName", ""),
        facts.get("ModelName") or facts.get("Model") or facts.get("ProductName", ""),
        facts.get("OSVersion", ""),
        state_of(record),
        age(record["last_seen"]),
        record["pending"] or "",
    ]


def _device(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run
    from mdmd.cli.portrait import changes, portrait

    async def verb(remote: "Remote") -> None:
        if args.history:
            found = await remote.call("inventory.history", id=args.id, limit=args.limit)
            lines = [] if args.json else changes(found)
        else:
            found = await remote.call("enrollments.get", id=args.id)
            found["inventory"] = await remote.call("inventory.get", id=args.id)
            lines = [] if args.json else portrait(found, found["inventory"])
        if args.json:
            show.as_json(found)
        for line in lines:
            show.out(line)

    return run(args, verb)


def _note(args: argparse.Namespace) -> int:
    from mdmd.cli.client import run
    from mdmd.errors import BadRequest

    notes = {}
    for word in args.words:
        field, equals, text = word.partition("=")
        if not equals:
            raise BadRequest(f"{word!r} is not of the form field=text")
        notes[field] = text

    async def verb(remote: "Remote") -> None:
        from mdmd.cli import show

        await remote.call("inventory.note", id=args.id, notes=notes)
        if args.json:
            show.as_json({"id": args.id, "notes": notes})

    return run(args, verb)
