"""``mdmctl send --wait``: who has answered, live."""

import argparse
import time
from typing import Any

from mdmd.cli import show
from mdmd.cli.client import Remote, reactor
from mdmd.cli.exits import DEVICE, DONE, FAILED
from mdmd.cli.queue import answer
from mdmd.cli.send import outcome

_PAUSE = 0.3  # seconds between two looks


async def wait_for(
    remote: Remote, name: str, options: dict[str, Any], args: argparse.Namespace
) -> int:
    """Send, then show each answer as it comes; the exit status says whether all is well."""
    begun = time.monotonic()
    json = args.json
    reply = await remote.call(name, **options)
    waiting, refused = {}, 0
    for typed, each in reply["status"].items():
        if each["command_error"]:
            refused += 1
            show.note(f"{typed}  {show.colour(outcome(each)[0], show.RED)}")
        else:
            waiting[typed] = each["id"]
    answers: list[dict[str, Any]] = []
    while waiting and time.monotonic() - begun < args.timeout:
        for typed, id in list(waiting.items()):
            found = await _look(remote, id, reply["command_uuid"])
            if found is not None:
                del waiting[typed]
                answers.append({"id": id, **found})
                if not json:
                    _print(typed, found, time.monotonic() - begun, len(waiting))
        if waiting:
            await _sleep(_PAUSE)
    return _end(answers, waiting, refused, json)


async def _look(remote: Remote, id: str, uuid: str) -> dict[str, Any] | None:
    for each in await remote.call("results.show", id=id, limit=20):
        if each["uuid"] == uuid:
            if not each["size"]:
                return {**each, "answer": {}}
            full = await remote.call("results.get", id=id, uuid=uuid)
            return {**each, "answer": answer(full["raw"])}
    return None


def _print(typed: str, found: dict[str, Any], seconds: float, left: int) -> None:
    well = found["status"] == "Acknowledged"
    status = show.colour(found["status"], show.GREEN if well else show.RED)
    rest = f", {left} to come" if left else ""
    show.out(
        f"{show.clean(typed)}  {status} after {seconds:.1f} s{rest}  {found['error']}".rstrip()
    )
    for line in show.tree(found["answer"], "  "):
        show.out(line)


def _end(answers: list[dict[str, Any]], waiting: dict[str, str], refused: int, json: bool) -> int:
    if json:
        show.as_json({"answers": answers, "waiting": list(waiting)})
    for typed in waiting:
        show.note(f"{typed}  {show.colour('no answer yet; the command stays queued', show.YELLOW)}")
    if waiting or any(each["status"] != "Acknowledged" for each in answers):
        return DEVICE
    return FAILED if refused else DONE


async def _sleep(seconds: float) -> None:
    from twisted.internet.task import deferLater

    await deferLater(reactor, seconds)
