"""``mdmctl group``, ``report`` and ``pins``: what is known of devices, added up."""

import argparse
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdmd.cli.client import Remote

_BAR = 30  # characters
_LEAST = 10  # of a bar, and of a name
_FIELDS = {
    "os": ["OSVersion", "ProductName", "ModelName", "Model"],
    "models": ["ModelName", "ProductName", "Model"],
    "apps": ["InstalledApplicationList"],
    "updates": ["AvailableOSUpdates"],
}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    group = subparsers.add_parser("group", help="groups of devices")
    act = group.add_subparsers(metavar="add|remove|list", required=True)
    for word, text in (("add", "put devices into a group"), ("remove", "take devices out")):
        one = act.add_parser(word, help=text)
        one.add_argument("name", metavar="NAME")
        one.add_argument("id", metavar="ID", nargs="+")
        one.set_defaults(run=_change, change=word)
    listing = act.add_parser("list", help="list groups, or the members of one")
    listing.add_argument("name", metavar="NAME", nargs="?")
    listing.set_defaults(run=_list)
    report = subparsers.add_parser("report", help="count devices by system, model, app, update")
    report.add_argument("what", choices=tuple(_FIELDS))
    report.add_argument("--where", metavar="EXPR", default="", help="only those (targets.md)")
    report.add_argument("--limit", metavar="N", type=int, default=50, help="lines (default 50)")
    report.set_defaults(run=_report)
    pins = subparsers.add_parser("pins", help="show the PINs a device was locked with (admins)")
    pins.add_argument("id", metavar="ID")
    pins.set_defaults(run=_pins)


def _change(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run
    from mdmd.cli.exits import DONE, FAILED
    from mdmd.cli.sending import split

    async def verb(remote: "Remote") -> int:
        told = await remote.call(f"groups.{args.change}", name=args.name, ids=split(args.id))
        if args.json:
            show.as_json(told)
        else:
            show.out(
                f"{told['changed']} {'new in' if args.change == 'add' else 'out of'} {args.name}"
            )
            for each in told["unknown"]:
                show.note(f"{show.clean(each)}: no such enrollment")
        return FAILED if told["unknown"] else DONE

    return run(args, verb)


def _list(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> None:
        if args.name is None:
            sizes = await remote.call("groups.show")
            if args.json:
                show.as_json(sizes)
            else:
                show.print_table(("GROUP", "MEMBERS"), sorted(sizes.items()))
            return
        ids: list[str] = []
        cursor, first = 0, True
        while cursor or first:
            page = await remote.call("groups.members", name=args.name, cursor=cursor, limit=1000)
            cursor, first = page["cursor"], False
            ids += page["ids"]
        if args.json:
            show.as_json(sorted(set(ids)))
        else:
            for each in sorted(set(ids)):
                show.out(show.clean(each))

    return run(args, verb)


def _pins(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> None:
        found = await remote.call("pins.show", id=args.id)
        if args.json:
            show.as_json(found)
            return
        rows = ((show.moment(e["at"]), e["request_type"], e["pin"], e["uuid"]) for e in found)
        show.print_table(("SENT", "REQUESTTYPE", "PIN", "UUID"), rows)

    return run(args, verb)


def _report(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> None:
        counts: Counter[str] = Counter()
        devices, after, first = 0, "", True
        while after or first:
            page = await remote.call(
                "inventory.page",
                fields=_FIELDS[args.what],
                where=args.where,
                after=after,
                limit=500,
            )
            after, first = page["after"], False
            for each in page["devices"]:
                devices += 1
                counts.update(lines_of(args.what, each["fields"]))
        told = counts.most_common()
        if args.json:
            show.as_json({"devices": devices, "counts": dict(told)})
            return
        for line in bars(told[: args.limit], devices, show.width()):
            show.out(line)
        if len(told) > args.limit:
            show.note(f"{len(told) - args.limit} more: --limit {len(told)}")
        show.out(f"{devices} device{'' if devices == 1 else 's'}")

    return run(args, verb)


def lines_of(what: str, fields: dict[str, Any]) -> set[str]:
    """
    Say in which lines of a report a device counts, in one at least.

    That is "unknown" if it was never asked, "none" if it has nothing.
    """
    model = fields.get("ModelName") or fields.get("ProductName") or fields.get("Model")
    if what == "os":
        return {_system(fields, str(fields.get("OSVersion") or ""))}
    if what == "models":
        return {str(model or "unknown")}
    listed = fields.get(_FIELDS[what][0])
    if not isinstance(listed, list):
        return {"unknown"}
    lines = {_app(each) if what == "apps" else _update(each) for each in listed} - {""}
    return lines or {"none"}


def _system(fields: dict[str, Any], version: str) -> str:
    from mdmd.mdm.catalogue.facts import platform_of

    platform = platform_of(fields)
    return f"{platform or ''} {version}".strip() if version else "unknown"


def _app(element: Any) -> str:
    if not isinstance(element, dict) or not isinstance(element.get("Identifier"), str):
        return ""
    version = element.get("ShortVersion") or element.get("Version") or ""
    return f"{element['Identifier']} {version}".strip()


def _update(element: Any) -> str:
    if not isinstance(element, dict):
        return ""
    name = element.get("HumanReadableName") or element.get("ProductName") or ""
    return f"{name} {element.get('Version') or ''}".strip()


def bars(counts: list[tuple[str, int]], devices: int, most: int | None = None) -> list[str]:
    """
    Lay out counts with a bar for each, as long as its share of the devices.

    :param most: columns of a line, of which long names and then bars take less; None: any.
    """
    from mdmd.cli.show import cells, clean, fit

    width = max((cells(clean(name)) for name, _ in counts), default=0)
    digits = max((len(str(count)) for _, count in counts), default=1)
    bar = _BAR
    if most is not None:
        bar = max(_LEAST, min(bar, most - width - digits - 4))
        width = max(_LEAST, min(width, most - bar - digits - 4))
    return [
        f"{fit(clean(name), width)}  {count:{digits}}  {'█' * max(1, round(bar * count / devices))}"
        for name, count in counts
    ]
