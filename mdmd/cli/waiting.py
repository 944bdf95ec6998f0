"""``mdmctl send --wait``: who has answered, live."""

import argparse
import time
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred

from mdmd.cli import sending, show
from mdmd.cli.client import Remote, follow, reactor
from mdmd.cli.exits import DEVICE, DONE, FAILED
from mdmd.cli.queue import answer
from mdmd.cli.sending import outcome

_LOOK = 5.0  # seconds; then the results are looked at whether an event came or not


async def wait_for(
    remote: Remote, send: Callable[[], Awaitable[dict[str, Any]]], args: argparse.Namespace
) -> int:
    """Send, then show each answer as it comes; the exit status says whether all is well."""
    alarm = _Alarm()
    await follow(remote, lambda _: alarm.ring(), topics=["mdm.*", "mdmd.*"])
    wait = _Wait(remote, args.json, await send())
    end = time.monotonic() + args.timeout
    while wait.waiting and time.monotonic() < end:
        await wait.look()
        if wait.waiting:
            await alarm.wait(min(_LOOK, max(0.0, end - time.monotonic())))
    return wait.end()


async def wait_for_connects(remote: Remote, ids: list[str], args: argparse.Namespace) -> int:
    """Push, then show each device as it connects; the exit status says whether all did."""
    alarm = _Alarm()
    connected: dict[str, float] = {}

    def tell(event: dict[str, Any]) -> None:
        connected.setdefault(event["enrollment"], time.monotonic())
        alarm.ring()

    await follow(remote, tell, topics=["mdm.Connect"])
    begun = time.monotonic()
    reply = await sending.send(remote, args, ids, "push.send", {})
    waiting = {typed: each["id"] for typed, each in reply["status"].items() if each["push_result"]}
    failed = len(reply["status"]) - len(waiting)
    for typed, each in reply["status"].items():
        if typed not in waiting:
            show.note(f"{show.clean(typed)}  {each['push_error'] or each['command_error']}")
    took: dict[str, float] = {}
    while waiting and time.monotonic() < begun + args.timeout:
        for typed, id in list(waiting.items()):
            if id in connected:
                del waiting[typed]
                took[typed] = connected[id] - begun
                if not args.json:
                    show.out(f"{show.clean(typed)}  connected after {took[typed]:.1f} s")
        if waiting:
            await alarm.wait(max(0.0, begun + args.timeout - time.monotonic()))
    for typed in waiting:
        show.note(f"{show.clean(typed)}  pushed, but it did not connect in {args.timeout:.0f} s")
    if args.json:
        show.as_json({**reply, "connected_after": took})
    return DEVICE if waiting else FAILED if failed else DONE


class _Alarm:
    """Wakes whoever waits, when something happened."""

    def __init__(self) -> None:
        self._rung = False
        self._waiting: Deferred[None] | None = None

    def ring(self) -> None:
        self._rung = True
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(None)

    async def wait(self, seconds: float) -> None:
        """Wait until it rings, or so long."""
        if not self._rung:
            self._waiting = Deferred()
            call = reactor.callLater(seconds, self.ring)
            await self._waiting
            if call.active():
                call.cancel()
        self._rung = False


class _Wait:
    """Who has answered, and who has not."""

    def __init__(self, remote: Remote, json: bool, reply: dict[str, Any]) -> None:
        self._remote = remote
        self._json = json
        self._begun = time.monotonic()
        self._answers: list[dict[str, Any]] = []
        self._refused = 0
        self.waiting: dict[str, tuple[str, str]] = {}  # enrollment id and CommandUUID
        for typed, each in reply["status"].items():
            if each["command_error"]:
                self._refused += 1
                show.note(f"{typed}  {show.colour(outcome(each)[0], show.RED)}")
            else:
                self.waiting[typed] = each["id"], each.get("command_uuid", reply["command_uuid"])
        self._all = len(self.waiting)
        self._progress()

    async def look(self) -> None:
        """Ask for the results of those who have not answered."""
        for typed, (id, uuid) in list(self.waiting.items()):
            found = await self._result(id, uuid)
            if found is not None:
                del self.waiting[typed]
                self._answers.append({"id": id, **found})
                self._tell(typed, found)

    async def _result(self, id: str, uuid: str) -> dict[str, Any] | None:
        for each in await self._remote.call("results.show", id=id, limit=20):
            if each["uuid"] == uuid:
                return {**each, "answer": await self._answer(id, each)}
        return None

    async def _answer(self, id: str, result: dict[str, Any]) -> dict[str, Any]:
        if not result["size"] or result["secret"]:
            return {}
        full = await self._remote.call("results.get", id=id, uuid=result["uuid"])
        return answer(full["raw"])

    def _tell(self, typed: str, found: dict[str, Any]) -> None:
        if self._json:
            return
        self._progress(done=True)
        well = found["status"] == "Acknowledged"
        status = show.colour(found["status"], show.GREEN if well else show.RED)
        after = time.monotonic() - self._begun
        show.out(f"{show.clean(typed)}  {status} after {after:.1f} s  {found['error']}".rstrip())
        for line in show.tree(found["answer"], "  "):
            show.out(line)
        if found["secret"]:
            show.out("  there is a secret in the answer: mdmctl results ID UUID --secret")
        self._progress()

    def _progress(self, done: bool = False) -> None:
        # One line that is written over, and only where somebody looks at it.
        if self._json or not show.on_terminal():
            return
        clear = "\r\x1b[K"
        if done or not self.waiting:
            show.raw(clear)
        else:
            show.raw(f"{clear}{self._all - len(self.waiting)} of {self._all} have answered …")

    def end(self) -> int:
        """Say who has not answered; give the exit status."""
        self._progress(done=True)
        if self._json:
            show.as_json({"answers": self._answers, "waiting": list(self.waiting)})
        for typed in self.waiting:
            late = show.colour("no answer yet; the command stays queued", show.YELLOW)
            show.note(f"{typed}  {late}")
        if self.waiting or any(each["status"] != "Acknowledged" for each in self._answers):
            return DEVICE
        return FAILED if self._refused else DONE
