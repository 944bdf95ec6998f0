"""``mdmctl send --wait`` and ``push --wait``: who has answered, live, of one device or a fleet."""

import argparse
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from mdmd.cli import sending, show
from mdmd.cli.client import Remote, follow, reactor
from mdmd.cli.exits import DEVICE, DONE, FAILED
from mdmd.cli.queue import answer
from mdmd.cli.sending import outcome

FEW = 40  # devices whose answers are shown; of more only who did not acknowledge
LOOK = 5.0  # seconds; so often some of those still waiting are looked at, should an event be lost
SLICE = 50  # devices of one such look
_REDRAW = 0.1  # seconds
_TELL = 10.0  # seconds between two lines of progress where nobody looks
_TOPICS = ["mdm.Connect", "mdmd.Parked", "mdmd.Cancelled"]

Key = tuple[str, str]  # enrollment id and CommandUUID


class Calls(Protocol):
    """What is needed of :class:`~mdmd.cli.client.Remote`."""

    async def call(self, name: str, /, **arguments: Any) -> Any:
        """Call a method of the daemon."""


async def wait_for(
    remote: Remote, send: Callable[[], Awaitable[dict[str, Any]]], args: argparse.Namespace
) -> int:
    """Send, then show each answer as it comes; the exit status says whether all is well."""
    alarm = _Alarm()
    wait = Wait(remote, args.json, time.monotonic)

    def tell(event: dict[str, Any]) -> None:
        if wait.hear(event):
            alarm.ring()

    await follow(remote, tell, topics=_TOPICS)
    wait.expect(await send())
    end = time.monotonic() + args.timeout
    while wait.waiting and time.monotonic() < end:
        await wait.look()
        if wait.waiting:
            await alarm.wait(min(LOOK, max(0.0, end - time.monotonic())))
    return wait.end()


async def wait_for_connects(remote: Remote, ids: list[str], args: argparse.Namespace) -> int:
    """Push, then show each device as it connects; the exit status says whether all did."""
    alarm = _Alarm()
    connected: dict[str, float] = {}
    fresh: deque[str] = deque()

    def tell(event: dict[str, Any]) -> None:
        if event["enrollment"] not in connected:
            connected[event["enrollment"]] = time.monotonic()
            fresh.append(event["enrollment"])
        alarm.ring()

    await follow(remote, tell, topics=["mdm.Connect"])
    begun = time.monotonic()
    reply = await sending.send(remote, args, ids, "push.send", {})
    waiting: dict[str, list[str]] = {}
    for typed, each in reply["status"].items():
        if "push_result" in each:
            waiting.setdefault(each["id"], []).append(typed)
        else:
            show.note(f"{show.clean(typed)}  {sending.push_outcome(each)[0]}")
    failed = any("push_result" not in each for each in reply["status"].values())
    took: dict[str, float] = {}
    while waiting and time.monotonic() < begun + args.timeout:
        while fresh:
            id = fresh.popleft()
            for typed in waiting.pop(id, ()):
                took[typed] = connected[id] - begun
                if not args.json:
                    show.out(f"{show.clean(typed)}  connected after {took[typed]:.1f} s")
        if waiting:
            await alarm.wait(max(0.0, begun + args.timeout - time.monotonic()))
    for typed in (each for some in waiting.values() for each in some):
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


class Wait:
    """
    Who has answered, and who has not.

    Events tell who has. The daemon is asked for the answers of a few devices,
    but not for those of a fleet: what the event says has to do.

    :param seconds: a clock that only goes forward.
    :ivar waiting: those who have not, with the name that was typed for each.
    """

    def __init__(self, remote: Calls, json: bool, seconds: Callable[[], float]) -> None:
        self._remote = remote
        self._json = json
        self._seconds = seconds
        self._begun = self._told = seconds()
        self._looked = float("-inf")
        self._drawn = 0.0
        self._ended: dict[Key, tuple[str, str]] = {}  # to status and error
        self._answers: list[dict[str, Any]] = []
        self._refused = self._all = 0
        self._expects = False
        self.waiting: dict[Key, str] = {}

    def hear(self, event: dict[str, Any]) -> bool:
        """Take an event, which may come before :meth:`expect` knows what for; True if it tells."""
        facts = event["facts"]
        key = event["enrollment"], facts.get("command_uuid", "")
        status = "cancelled" if event["topic"] == "mdmd.Cancelled" else facts.get("status", "")
        if not key[1] or status == "NotNow" or (self._expects and key not in self.waiting):
            return False
        self._ended[key] = status, facts.get("error", "")
        return True

    def expect(self, reply: dict[str, Any]) -> None:
        """Take what the daemon said of the sending, and show who was refused."""
        for typed, each in reply["status"].items():
            if "command_error" in each:
                self._refused += 1
                show.note(f"{typed}  {show.colour(outcome(each)[0], show.RED)}")
            else:
                uuid = each.get("command_uuid", reply["command_uuid"])
                self.waiting.setdefault((each["id"], uuid), typed)
        self._all, self._expects = len(self.waiting), True
        self._ended = {key: told for key, told in self._ended.items() if key in self.waiting}
        self._progress()

    async def look(self) -> None:
        """Show who has answered by now."""
        ended, self._ended = self._ended, {}
        for key, (status, error) in ended.items():
            if key in self.waiting:
                found = await self._result(key) if self._few else None
                self._take(key, found or {"status": status, "error": error})
        if self._seconds() >= self._looked + LOOK:
            await self._look_at_some()
        self._progress()

    @property
    def _few(self) -> bool:
        return self._all <= FEW

    async def _look_at_some(self) -> None:
        self._looked = self._seconds()
        for key in list(islice(self.waiting, SLICE)):
            found = await self._result(key)
            if found is not None:
                self._take(key, found)
            elif key in self.waiting:
                self.waiting[key] = self.waiting.pop(key)  # to the end: the next look is at others

    async def _result(self, key: Key) -> dict[str, Any] | None:
        id, uuid = key
        for each in await self._remote.call("results.show", id=id, limit=20):
            if each["uuid"] == uuid:
                return {**each, "answer": await self._answer(id, each)} if self._few else each
        return None

    async def _answer(self, id: str, result: dict[str, Any]) -> dict[str, Any]:
        if not result["size"] or result["secret"]:
            return {}
        full = await self._remote.call("results.get", id=id, uuid=result["uuid"])
        return answer(full["raw"])

    # -- what is shown ------------------------------------------------------------------

    def _take(self, key: Key, found: dict[str, Any]) -> None:
        typed = self.waiting.pop(key)
        self._answers.append({"id": key[0], "uuid": key[1], **found})
        well = found["status"] == "Acknowledged"
        if self._json or (well and not self._few):
            return
        self._clear()
        status = show.colour(found["status"], show.GREEN if well else show.RED)
        after = self._seconds() - self._begun
        show.out(f"{show.clean(typed)}  {status} after {after:.1f} s  {found['error']}".rstrip())
        for line in show.tree(found.get("answer", {}), "  "):
            show.out(line)
        if found.get("secret") and self._few:
            show.out("  there is a secret in the answer: mdmctl results ID UUID --secret")
        self._drawn = 0.0

    def _progress(self) -> None:
        if self._json or not self.waiting:
            return
        now = self._seconds()
        text = f"{self._all - len(self.waiting)} of {self._all} have answered"
        if show.on_terminal() and now >= self._drawn + _REDRAW:
            # One line that is written over.
            self._drawn = now
            show.raw(f"\r\x1b[K{text} …")
        elif not show.on_terminal() and not self._few and now >= self._told + _TELL:
            self._told = now
            show.note(text)

    def _clear(self) -> None:
        if show.on_terminal() and not self._json:
            show.raw("\r\x1b[K")

    def end(self) -> int:
        """Say who has not answered; give the exit status."""
        self._clear()
        if self._json:
            waiting = list(self.waiting.values())
            show.as_json({"answers": self._answers, "waiting": waiting})
        elif not self._few:
            counts = Counter(each["status"] for each in self._answers).most_common()
            show.out(", ".join(f"{count} {status}" for status, count in counts) or "no answer")
        for typed in islice(self.waiting.values(), FEW):
            late = show.colour("no answer yet; the command stays queued", show.YELLOW)
            show.note(f"{show.clean(typed)}  {late}")
        if len(self.waiting) > FEW:
            show.note(f"and {len(self.waiting) - FEW} more, {len(self.waiting)} in all")
        if self.waiting or any(each["status"] != "Acknowledged" for each in self._answers):
            return DEVICE
        return FAILED if self._refused else DONE
