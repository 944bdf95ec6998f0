"""``mdmctl watch``: events as they come, one readable line each."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdmd.cli.client import Remote

_TOPICS = {"mdm.Authenticate": "36", "mdm.TokenUpdate": "36", "mdm.CheckOut": "33"}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    watch = subparsers.add_parser(
        "watch", help="show events as they come", description="Ctrl-C ends it."
    )
    watch.add_argument("id", metavar="ID", nargs="?", default="", help="of this device only")
    watch.add_argument(
        "--topic",
        metavar="TOPIC",
        action="append",
        help="these only, such as mdm.Connect or 'mdm.*'; may be repeated",
    )
    watch.add_argument("--after", metavar="EVENT", default="", help="begin after this event id")
    watch.set_defaults(run=_watch)


def line(event: dict[str, Any], width: int | None = None) -> str:
    """Put an event on one line, cut to the terminal's width; colour says how it went."""
    from mdmd.cli import show

    stamp = show.moment(int(event["id"].partition("-")[0]))
    if width is not None and width < 110:
        stamp = stamp[11:]
    words = (
        f"{stamp}  {event['topic']:<17}  {show.short(event['enrollment'], width)}  {told(event)}"
    )
    text = show.clean(words.rstrip())
    if width is not None and len(text) > width:
        text = text[: width - 1] + "…"
    return show.colour(text, _colour(event))


def told(event: dict[str, Any]) -> str:
    """Say what an event says: the known words first, then the rest with their names."""
    facts = {key: value for key, value in event["facts"].items() if value and key != "type"}
    if facts.get("status") == "0":
        del facts["status"]
    words = [facts.pop(key, "") for key in ("status", "request_type", "error", "reason")]
    if "command_uuid" in facts:
        facts["command_uuid"] = facts.pop("command_uuid")  # long, and the least of it: last
    return " ".join([*filter(None, words), *(f"{key}={value}" for key, value in facts.items())])


def _colour(event: dict[str, Any]) -> str:
    from mdmd.cli import show

    status = event["facts"].get("status", "")
    if status in ("Error", "CommandFormatError", "Malformed") or event["topic"] == "mdmd.Refused":
        return show.RED
    if status == "Acknowledged":
        return show.GREEN
    return show.DIM if status == "Idle" else _TOPICS.get(event["topic"], "0")


def _watch(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import follow, run

    def tell(event: dict[str, Any]) -> None:
        if args.json:
            show.as_json_line(event)
        else:
            show.out(line(event, show.width()))

    async def verb(remote: "Remote") -> None:
        await follow(remote, tell, id=args.id, topics=args.topic, after=args.after)
        await remote.gone()

    return run(args, verb)
