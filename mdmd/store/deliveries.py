"""What webhooks' targets still have to get: a consumer group of the event stream for each."""

from collections.abc import Sequence
from typing import Any

import attrs
from twisted.logger import Logger

from mdmd.errors import BadRequest, NotHere
from mdmd.interfaces.fleet import Event
from mdmd.interfaces.webhooks import UNREADABLE, DeadLetter, DeliveryState
from mdmd.store import keys
from mdmd.store.events import Events
from mdmd.store.feed import read_id
from mdmd.store.link import ScriptError
from mdmd.store.subject import Tools

log = Logger()

DEAD_KEPT = 10_000  # dead letters of a target
_READER = "mdmd"  # the one consumer of a group, whichever daemon it is


@attrs.frozen
class Deliveries:
    """Implements :class:`mdmd.interfaces.webhooks.IDeliveries`."""

    _tools: Tools
    _events: Events

    async def claim(self, target: str, daemon: str, lease_ms: int, anew: str = "") -> float | None:
        """
        Become, or stay, the one daemon that sends; a new target begins with what comes now.

        Return how long the target has asked to be left alone yet (s); None if another one sends.

        :param anew: the id after which a target begins whose place is gone; "" if it is there.
        """
        names = (keys.EVENTS, keys.sender(target), keys.asked_wait(target))
        wait = await self._tools.link.script(
            "claim_target", names, (target, daemon, lease_ms, anew)
        )
        return None if wait < 0 else wait / 1000

    async def postpone(self, target: str, seconds: float) -> None:
        """Note, for whichever daemon sends, that the target asked to be left alone so long."""
        await self._tools.link.script(
            "postpone", (keys.asked_wait(target),), (max(int(seconds * 1000), 1),)
        )

    async def release(self, target: str, daemon: str) -> None:
        """Let another daemon send."""
        await self._tools.link.script("release_target", (keys.sender(target),), (daemon,))

    async def unsettled(self, target: str, after: str, limit: int) -> list[Event]:
        """
        Read what was read before and is not settled, after ``after``.

        What the stream has lost meanwhile is settled, with an event that says so.
        """
        while True:
            entries = await self._read(target, after, limit)
            gone = [at.decode() for at, fields in entries if not fields]
            if gone:
                await self.settle(target, gone)
                await self.lost(target, len(gone))
            found = await self._readable(target, [each for each in entries if each[1]])
            if found or not entries:
                return found
            # Nothing to send in this part, but there may be more behind it.
            after = entries[-1][0].decode()

    async def more(self, target: str, limit: int) -> list[Event]:
        """
        Read on in the stream.

        What was dropped before it was read is told in an event, in the same step.

        :raises NotHere: the target's place in the stream is gone.
        """
        while True:
            dropped, entries = await self._read_on(target, limit)
            if dropped:
                _log_lost(target, dropped if dropped > 0 else "some, perhaps,")
            found = await self._readable(target, entries)
            if found or not entries:
                return found

    async def _read_on(self, target: str, limit: int) -> tuple[int, Any]:
        try:
            dropped, entries = await self._tools.change("read_on", (), (target, _READER, limit))
        except ScriptError as error:
            raise _gone(target, error) from None
        return int(dropped), entries

    async def _read(self, target: str, after: str, limit: int) -> Any:
        group = ("GROUP", target, _READER, "COUNT", limit)
        try:
            found = await self._tools.link.call("XREADGROUP", *group, "STREAMS", keys.EVENTS, after)
        except ScriptError as error:
            raise _gone(target, error) from None
        return found[0][1] if found else []

    async def _readable(self, target: str, entries: Any) -> list[Event]:
        """Read entries; one whose message is damaged will never be sent, and holds nobody up."""
        found = []
        for event in (self._events.event(at, fields) for at, fields in entries):
            if event.damaged:
                await self.bury(target, event.id, UNREADABLE, 0)
            else:
                found.append(event)
        return found

    async def lost(self, target: str, events: int) -> None:
        """Tell that so many were dropped before the target took them."""
        _log_lost(target, events)
        await self._events.tell("mdmd.WebhookLost", None, target=target, events=str(events))

    async def again(self, id: str) -> Event | None:
        """Read one event once more; None if the stream has lost it."""
        entries = await self._tools.link.call("XRANGE", keys.EVENTS, id, id)
        return self._events.event(*entries[0]) if entries else None

    async def settle(self, target: str, ids: Sequence[str]) -> None:
        """Note that these need not be sent (any more)."""
        await self._tools.link.call("XACK", keys.EVENTS, target, *ids)

    async def bury(self, target: str, id: str, reason: str, attempts: int) -> None:
        """Make one a dead letter, with an event; the letter has the message too."""
        args = (target, id, reason, attempts, DEAD_KEPT)
        await self._tools.change("bury", (keys.dead_letters(target),), args)

    async def dead(self, target: str, after: str = "0", limit: int = 100) -> list[DeadLetter]:
        """Read dead letters after ``after``, oldest first."""
        entries = await self._tools.link.call(
            "XRANGE", keys.dead_letters(target), f"({after}", "+", "COUNT", limit
        )
        return [self._letter(at, fields) for at, fields in entries]

    def _letter(self, at: bytes, fields: list[bytes]) -> DeadLetter:
        id, reason, attempts, when = fields[1:8:2]  # bury.lua puts them before the event's own
        words = reason.decode("utf-8", "replace"), int(attempts), int(when)
        return DeadLetter(at.decode(), self._events.event(id, fields[8:]), *words)

    async def exhume(self, target: str, id: str) -> None:
        """Forget a dead letter, because the target has it now."""
        await self._tools.link.call("XDEL", keys.dead_letters(target), id)

    async def rewind(self, target: str, to: str) -> None:
        """
        Make the target get everything after ``to`` (once more), now.

        :raises BadRequest: ``to`` is no event id, is of no event so far, or there never was such a
            target.
        """
        newest = await self._events.newest()
        if read_id(to) > read_id(newest):
            # Else nothing would be sent until that time has come.
            raise BadRequest(f"no event has come after {newest} so far")
        try:
            await self._tools.link.call("XGROUP", "SETID", keys.EVENTS, target, to)
        except ScriptError as error:
            raise BadRequest(f"can't go back to {to[:40]!r}: {error.text}") from None
        await self._tools.link.call("UNLINK", keys.asked_wait(target))

    async def state(self, target: str) -> DeliveryState:
        """Say how far a target is."""
        groups, dead, sender, oldest = await self._tools.link.script(
            "target_state",
            (keys.EVENTS, keys.dead_letters(target), keys.sender(target)),
            (target,),
        )
        it = dict(zip(groups[::2], groups[1::2], strict=True)) if groups else {}
        behind = it.get(b"lag")
        return DeliveryState(
            target,
            it.get(b"last-delivered-id", b"").decode(),
            int(it.get(b"pending", 0)),
            None if behind is None else int(behind),
            int(dead),
            (sender or b"").decode(),
            int(oldest.partition(b"-")[0]) if oldest else None,
        )


def _gone(target: str, error: ScriptError) -> Exception:
    if error.code == "NOGROUP":
        return NotHere(f"the place of the webhook {target} in the events is gone")
    return error


def _log_lost(target: str, events: int | str) -> None:
    log.error(
        "webhook {name}: {events} events were dropped before it took them",
        name=target,
        events=events,
    )
