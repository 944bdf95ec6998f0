"""
How verbs send: to whom, in parts, with progress, and what is shown of it.

Loaded when a verb runs. A fleet is sent to in parts of the same CommandUUID:
the store keeps the body once, and a part that is repeated does no harm.
"""

import argparse
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import attrs

from mdmd.cli import show
from mdmd.cli.client import Remote
from mdmd.cli.exits import DONE, FAILED
from mdmd.cli.progress import Progress
from mdmd.errors import BadRequest, MdmdError

PART = 500  # enrollments of one call
_FEW = 40  # targets that are shown one by one


@attrs.frozen
class Part:
    """Some of those that are meant, and how many were looked at to find them."""

    ids: list[str]
    looked_at: int


async def parts_of(remote: Remote, args: argparse.Namespace, ids: list[str]) -> AsyncIterator[Part]:
    """Give those that are meant, in parts: the ids typed, then --group, --where or --all."""
    for at in range(0, len(ids), PART):
        part = ids[at : at + PART]
        yield Part(part, len(part))
    if not (args.all or args.where or args.group):
        return
    after, first = "", True
    while first or after:
        page = await remote.call(
            "targets.page", where=args.where, group=args.group, after=after, limit=PART
        )
        first, after = False, page["after"]
        yield Part(page["ids"], page["looked_at"])


async def send(
    remote: Remote,
    args: argparse.Namespace,
    ids: list[str],
    name: str,
    options: dict[str, Any],
) -> dict[str, Any]:
    """
    Send to all that are meant, give the answers as one.

    What takes more than a part shows how far it is. If it is cut short, the
    same CommandUUID goes on without giving it to anybody twice: it is told.
    """
    if name == "commands.send" and not options.get("uuid"):
        options = {**options, "uuid": str(uuid4()).upper()}
    whole: dict[str, Any] = {"status": {}, "warnings": {}, "command_uuid": "", "request_type": ""}
    looked_at, progress = 0, None
    told: dict[str, dict[str, Any]] = {}  # by enrollment id: who is meant twice gets it once
    try:
        async for part in parts_of(remote, args, ids):
            looked_at += part.looked_at
            if left := [each for each in part.ids if each not in told]:
                _add(whole, await remote.call(name, ids=left, **options), told)
            progress = progress or Progress(await _total(remote, args, ids, part))
            progress.tell(looked_at, _so_far(whole))
    except MdmdError:
        if whole["status"] and name == "commands.send":
            show.note(f"{len(whole['status'])} had it before this; to go on, without giving it to "
                      f"anybody twice: mdmctl send --uuid {options['uuid']} …")  # fmt: skip
        raise
    finally:
        if progress is not None:
            progress.end()
    if not whole["status"]:
        raise BadRequest("nobody is meant by this")
    return whole


def _add(whole: dict[str, Any], reply: dict[str, Any], told: dict[str, dict[str, Any]]) -> None:
    status = reply.pop("status")
    whole["status"].update(
        {typed: told.setdefault(each["id"], each) for typed, each in status.items()}
    )
    for line, who in reply.pop("warnings", {}).items():
        whole["warnings"].setdefault(line, []).extend(who)
    whole.update({key: value for key, value in reply.items() if value or key not in whole})


async def _total(remote: Remote, args: argparse.Namespace, ids: list[str], first: Part) -> int:
    """Say how many will be looked at; not asked for what is done with the first part."""
    if first.looked_at < PART:
        return 0
    more = 0
    if args.group:
        more = (await remote.call("groups.show")).get(args.group, 0)
    elif args.all or args.where:
        more = (await remote.call("status.get"))["fleet"]["enrollments"]
    return len(ids) + more


def _so_far(whole: dict[str, Any]) -> str:
    refused = sum(1 for each in whole["status"].values() if "command_error" in each)
    return f", {len(whole['status']) - refused:,} sent to" + (
        f", {refused:,} refused" if refused else ""
    )


def show_reply(reply: dict[str, Any], args: argparse.Namespace, pushes: bool = False) -> int:
    """
    Print what became of each target, of many only what went wrong; 1 if any was refused.

    :param pushes: nothing was queued, it is about pushes only.
    """
    of = push_outcome if pushes else outcome
    told = {typed: of(each) for typed, each in reply["status"].items()}
    wrong = [typed for typed, (_, failed) in told.items() if failed]
    if args.json:
        show.as_json(reply)
        return FAILED if wrong else DONE
    many = len(told) > _FEW
    for typed, (text, failed) in told.items():
        if failed or not many:
            # One line a fault.
            for line in text.split("; ") if failed else [text]:
                shown = show.colour(line, show.RED) if failed else line
                show.out(f"{show.clean(typed)}  {shown}")
    _show_warnings(reply.get("warnings", {}))
    if many:
        words = ("pushed", "not pushed") if pushes else ("queued", "refused")
        show.out(f"{len(told) - len(wrong)} {words[0]}, {len(wrong)} {words[1]}")
    for uuid in uuids_of(reply):
        show.out(f"{reply['request_type']} {uuid}")
    return FAILED if wrong else DONE


def uuids_of(reply: dict[str, Any]) -> list[str]:
    """Name the commands that were queued: what a device can't take is left out of its own."""
    uuids = (
        each.get("command_uuid", reply["command_uuid"])
        for each in reply["status"].values()
        if "command_error" not in each
    )
    return list(dict.fromkeys(filter(None, uuids)))


def _show_warnings(warnings: dict[str, list[str]]) -> None:
    for line, who in warnings.items():
        names = ", ".join(who) if len(who) < 4 else f"{len(who)} devices"
        show.note(f"{show.colour('warning', show.YELLOW)}: {show.clean(names)}: {line}")


def outcome(reply: dict[str, Any]) -> tuple[str, bool]:
    """Say in words what became of one target, and whether it went wrong."""
    if "command_error" in reply:
        return reply["command_error"], True
    if "push_error" in reply:
        return f"queued, but {reply['push_error']}".replace("queued, but queued", "queued"), False
    return ("pushed" if "push_result" in reply else "queued"), False


def push_outcome(reply: dict[str, Any]) -> tuple[str, bool]:
    """Say in words what became of a push, and whether it went wrong."""
    error = reply.get("command_error") or reply.get("push_error")
    return (
        (f"not pushed: {error.removeprefix('not pushed: ')}", True) if error else ("pushed", False)
    )


def from_now(seconds: float | None) -> int | None:
    """Give the time so many seconds from now, in milliseconds."""
    return None if seconds is None else int((time.time() + seconds) * 1000)


def split(words: list[str]) -> list[str]:
    """Take ids apart that were typed with commas."""
    return [each for word in words for each in word.split(",") if each.strip()]
