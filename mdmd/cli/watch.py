"""``mdmctl watch``: events as they come, one readable line each."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdmd.cli.client import Remote

_TOPICS = {"mdm.Authenticate": "36", "mdm.TokenUpdate": "36", "mdm.CheckOut": "33"}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    watch = subparsers.add_parser(
        "watch",
        help="show events as they come",
        description="Ctrl-C ends it. If the daemon goes away, it is waited for.",
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
    narrow = width is not None and width < 110
    stamp = stamp[11:] if narrow else stamp
    topics, ids = (17, 13) if narrow else (22, 36)
    who = show.short(event["enrollment"], width)
    head = f"{stamp}  {event['topic']:<{topics}}  {who:<{ids}}  "
    room = None if width is None else width - show.cells(head)
    text = show.clean(f"{head}{told(event, room)}".rstrip())
    if width is not None:
        text = show.cut(text, width)
    return show.colour(text, _colour(event))


def told(event: dict[str, Any], room: int | None = None) -> str:
    """
    Say what an event says: the known words first, then the rest with their names.

    :param room: columns there are. What can only be used whole, such as a CommandUUID,
        is left out where it does not fit; a text may still be longer.
    """
    from mdmd.cli import show

    facts = {key: value for key, value in event["facts"].items() if value and key != "type"}
    if facts.get("status") == "0":
        del facts["status"]
    words = [facts.pop(key, "") for key in ("status", "request_type", "error", "reason")]
    if "command_uuid" in facts:
        facts["command_uuid"] = facts.pop("command_uuid")  # long, and the least of it: last
    text = " ".join(filter(None, words))
    for key, value in facts.items():
        longer = f"{text} {key}={value}".lstrip()
        if room is None or show.cells(longer) <= room or " " in value:
            text = longer
    return text


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
    from mdmd.cli.client import run

    def tell(event: dict[str, Any]) -> None:
        if args.json:
            show.as_json_line(event)
        else:
            show.out(line(event, show.width()))

    async def verb(remote: "Remote") -> None:
        await follow_on(remote, args, tell, args.after, id=args.id, topics=args.topic)

    return run(args, verb)


async def follow_on(
    remote: "Remote",
    args: argparse.Namespace,
    tell: Callable[[dict[str, Any]], None],
    after: str,
    **wanted: Any,
) -> None:
    """
    Let ``tell`` be called with events for ever, whatever becomes of the daemon.

    When it goes away, the next one goes on where this one was: no event is left out.

    What ``tell`` raises ends it: nobody reads any more, or the disk is full.

    :param after: an event id; "" begins now.
    :param wanted: as ``events.subscribe`` takes it.
    """
    from mdmd.cli import show
    from mdmd.cli.client import NoDaemon, follow
    from mdmd.cli.roads import reach_again

    unwritten: list[Exception] = []
    last = after or f"{(await remote.call('status.get'))['time']}-0"

    def take(event: dict[str, Any]) -> None:
        nonlocal last
        if unwritten:
            return
        last = event["id"]
        try:
            tell(event)
        except Exception as error:  # the connection must not swallow it
            unwritten.append(error)
            remote.leave()

    while True:
        try:
            await follow(remote, take, after=last, **wanted)
            await remote.gone()
        except NoDaemon:
            if unwritten:
                raise unwritten[0] from None
            show.note("the daemon went away; waiting for it")
        remote = await reach_again(args)
        show.note("a daemon is there again")
