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

from mdmd.cli import show
from mdmd.cli.client import Remote
from mdmd.cli.exits import DONE, FAILED
from mdmd.errors import BadRequest

PART = 500  # enrollments of one call
_FEW = 40  # targets that are shown one by one


async def parts_of(
    remote: Remote, args: argparse.Namespace, ids: list[str]
) -> AsyncIterator[list[str]]:
    """Give those that are meant, in parts: the ids typed, then --group, --where or --all."""
    for at in range(0, len(ids), PART):
        yield ids[at : at + PART]
    if not (args.all or args.where or args.group):
        return
    after, first = "", True
    while first or after:
        page = await remote.call(
            "targets.page", where=args.where, group=args.group, after=after, limit=PART
        )
        first, after = False, page["after"]
        if page["ids"]:
            yield page["ids"]


async def send(
    remote: Remote,
    args: argparse.Namespace,
    ids: list[str],
    name: str,
    options: dict[str, Any],
    progress: bool = True,
) -> dict[str, Any]:
    """Send to all that are meant, give the answers as one."""
    if name == "commands.send" and not options.get("uuid"):
        options = {**options, "uuid": str(uuid4()).upper()}
    whole: dict[str, Any] = {"status": {}, "warnings": {}, "command_uuid": "", "request_type": ""}
    async for part in parts_of(remote, args, ids):
        reply = await remote.call(name, ids=part, **options)
        whole["status"].update(reply.pop("status"))
        for line, who in reply.pop("warnings", {}).items():
            whole["warnings"].setdefault(line, []).extend(who)
        whole.update({key: value for key, value in reply.items() if value or key not in whole})
        if progress and len(whole["status"]) >= PART and show.on_terminal():
            show.note(f"{len(whole['status'])} so far")
    if not whole["status"]:
        raise BadRequest("nobody is meant by this")
    return whole


def show_reply(reply: dict[str, Any], args: argparse.Namespace) -> int:
    """Print what became of each target, of many only what went wrong; 1 if any was refused."""
    told = {typed: outcome(each) for typed, each in reply["status"].items()}
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
        show.out(f"{len(told) - len(wrong)} queued, {len(wrong)} refused")
    if reply["command_uuid"]:
        show.out(f"{reply['request_type']} {reply['command_uuid']}")
    return FAILED if wrong else DONE


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


def from_now(seconds: float | None) -> int | None:
    """Give the time so many seconds from now, in milliseconds."""
    return None if seconds is None else int((time.time() + seconds) * 1000)


def split(words: list[str]) -> list[str]:
    """Take ids apart that were typed with commas."""
    return [each for word in words for each in word.split(",") if each.strip()]
