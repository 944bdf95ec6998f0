"""``mdmctl queue`` and ``mdmctl results``: what waits, and what was answered."""

import argparse
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdmd.cli.client import Remote


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    queue = subparsers.add_parser("queue", help="show, cancel or clear what waits for a device")
    queue.add_argument("id", metavar="ID")
    act = queue.add_mutually_exclusive_group()
    act.add_argument("--cancel", metavar="UUID", help="take this command out")
    act.add_argument("--requeue", metavar="UUID", help="put this command at the end again")
    act.add_argument("--clear", action="store_true", help="take all commands out")
    queue.set_defaults(run=_queue)
    results = subparsers.add_parser("results", help="show what a device answered")
    results.add_argument("id", metavar="ID")
    results.add_argument("uuid", metavar="UUID", nargs="?", help="the whole answer to this command")
    results.add_argument("--limit", metavar="N", type=int, default=20, help="how many (default 20)")
    results.add_argument(
        "--secret", action="store_true", help="read it although a secret is in it (admins)"
    )
    results.set_defaults(run=_results)


def _queue(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    json = args.json

    async def verb(remote: "Remote") -> None:
        if args.cancel is not None:
            gone = await remote.call("queue.cancel", id=args.id, uuid=args.cancel)
            sent = "it had been sent to the device" if gone["attempts"] else "it was never sent"
            show.as_json(gone) if json else show.out(f"cancelled {gone['request_type']}; {sent}")
        elif args.requeue is not None:
            new = await remote.call("queue.requeue", id=args.id, uuid=args.requeue)
            sent = "; the device may have done it already" if new["attempts"] else ""
            text = f"{new['request_type']} is now {new['uuid']}{sent}"
            show.as_json(new) if json else show.out(text)
        elif args.clear:
            waiting = await remote.call("queue.show", id=args.id)
            had = sum(1 for each in waiting if each["attempts"])
            count = await remote.call("queue.clear", id=args.id)
            sent = f"; the device may have {had} of them already" if had else ""
            told = {"cleared": count, "sent": had}
            show.as_json(told) if json else show.out(f"{count} taken out{sent}")
        else:
            found = await remote.call("queue.show", id=args.id)
            show.as_json(found) if json else _print_queue(found)

    return run(args, verb)


def _print_queue(found: list[dict[str, Any]]) -> None:
    from mdmd.cli.show import age, print_table

    print_table(
        ("UUID", "REQUESTTYPE", "STATE", "QUEUED", "SENT", "TIMES", "NOTNOW"),
        (
            (
                each["uuid"],
                each["request_type"],
                _state(each, time.time()),
                age(each["queued_at"]),
                age(each["last_sent"]),
                each["attempts"],
                each["not_now_count"] or "",
            )
            for each in found
        ),
    )


def _state(line: dict[str, Any], now: float) -> str:
    """Say how a command is, and when its time comes if it has not."""
    from mdmd.cli.show import age

    later = line["not_before"] is not None and line["not_before"] > now * 1000
    return f"{line['state']}, {age(line['not_before'], now)}" if later else str(line["state"])


def _results(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> None:
        if args.uuid:
            await _one_result(remote, args)
            return
        found = await remote.call("results.show", id=args.id, limit=args.limit)
        if args.json:
            show.as_json(found)
        else:
            _print_results(found)

    return run(args, verb)


async def _one_result(remote: "Remote", args: argparse.Namespace) -> None:
    from mdmd.cli import show

    name = "results.secret" if args.secret else "results.get"
    found = await remote.call(name, id=args.id, uuid=args.uuid)
    raw = found.pop("raw")
    if args.json:
        show.as_json({**found, "answer": answer(raw), "raw": raw})
        return
    show.out(f"{found['request_type'] or 'orphan'}  {found['status']}  {found['error']}".rstrip())
    for line in show.tree(answer(raw), "  "):
        show.out(line)


def answer(raw: bytes) -> dict[str, Any]:
    """Take out of a report what the device answered, without what only the protocol needs."""
    from mdmd.errors import BadMessage
    from mdmd.mdm import plist

    if not raw:
        return {}
    try:
        report = plist.loads(raw, limit=len(raw))
    except BadMessage as error:
        return {"unreadable": str(error)}
    protocol = {"UDID", "EnrollmentID", "CommandUUID", "Status", "UserID", "EnrollmentUserID"}
    return {key: _readable(key, each) for key, each in report.items() if key not in protocol}


def _readable(key: str, value: Any) -> Any:
    """Spell each ErrorChain, at whatever depth, as lines for people."""
    from mdmd.mdm.answers.chain import read_chain

    if key == "ErrorChain" and (lines := [str(each) for each in read_chain(value)]):
        return lines
    if isinstance(value, dict):
        return {name: _readable(name, each) for name, each in value.items()}
    return [_readable("", each) for each in value] if isinstance(value, list) else value


def _print_results(found: list[dict[str, Any]]) -> None:
    from mdmd.cli.show import moment, print_table

    print_table(
        ("RECEIVED", "REQUESTTYPE", "STATUS", "ERROR", "UUID"),
        (
            (
                moment(each["received_at"]),
                each["request_type"],
                each["status"],
                each["error"],
                each["uuid"],
            )
            for each in found
        ),
    )
