"""``mdmctl devices`` and ``mdmctl device``: who is enrolled."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdmd.cli.client import Remote


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    devices = subparsers.add_parser("devices", help="list enrollments")
    devices.add_argument("--after", metavar="ID", default="", help="begin after this id")
    devices.add_argument(
        "--limit", metavar="N", type=int, default=1000, help="at most so many (default 1000)"
    )
    devices.set_defaults(run=_devices)
    device = subparsers.add_parser("device", help="show one enrollment")
    device.add_argument("id", metavar="ID")
    device.set_defaults(run=_device)


async def _page_through(remote: "Remote", after: str, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < limit:
        size = min(200, limit - len(found))
        page = await remote.call("enrollments.page", after=after, limit=size)
        found += page
        if len(page) < size:
            break
        after = page[-1]["id"]
    return found


def state_of(record: dict[str, Any]) -> str:
    """Say in a word how an enrollment is."""
    if not record["enabled"]:
        return "left" if record["tally"] else "new"
    return "waiting for configuration" if record["awaiting_configuration"] else "enrolled"


def _devices(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> None:
        found = await _page_through(remote, args.after, args.limit)
        if args.json:
            show.as_json(found)
            return
        headers = ("ID", "SERIAL", "NAME", "MODEL", "OS", "STATE", "SEEN", "QUEUE")
        show.print_table(headers, map(_row, found))
        if len(found) == args.limit:
            show.note(f"more may follow: --after {found[-1]['id']}")

    return run(args, verb)


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

    async def verb(remote: "Remote") -> None:
        record = await remote.call("enrollments.get", id=args.id)
        if args.json:
            show.as_json(record)
            return
        facts = record.pop("facts")
        for key in ("enrolled_at", "last_seen", "next_push", "last_push"):
            record[key] = f"{show.moment(record[key])} ({show.age(record[key])})".strip()
        for line in show.tree({**record, "facts": facts}):
            show.out(line)

    return run(args, verb)
