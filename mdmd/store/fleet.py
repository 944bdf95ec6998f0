"""What operators read and do."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, FirstError, gatherResults

from mdmd.errors import BadMessage
from mdmd.interfaces.fleet import (
    Enqueued,
    EnrollmentRecord,
    Event,
    Named,
    Policy,
    QueuedCommand,
    Result,
)
from mdmd.mdm.command import Command
from mdmd.mdm.enrollment import EnrollmentID, EnrollmentType
from mdmd.store import keys
from mdmd.store.events import Events
from mdmd.store.link import ScriptError
from mdmd.store.subject import Tools, Word

ENQUEUE_AT_ONCE = 200  # targets in one script call: some 1 ms of the store's time
IN_FLIGHT = 4  # such calls at the same time
LIST_AT_ONCE = 500
READ_AT_ONCE = 200
CANCEL_AT_ONCE = 100
_LARGE_BODY = 16_384  # bytes; smaller ones go to every device uncompressed

_ANSWERS = {
    ord("q"): Enqueued.QUEUED,
    ord("l"): Enqueued.LATER,
    ord("D"): Enqueued.DISABLED,
    ord("d"): Enqueued.DUPLICATE,
    ord("u"): Enqueued.UNKNOWN,
    ord("p"): Enqueued.PENDING,
    ord("x"): Enqueued.UNREADABLE,
    ord("g"): Enqueued.GONE,
}


@attrs.frozen
class Fleet:
    """Implements :class:`mdmd.interfaces.fleet.IFleet`."""

    _tools: Tools
    _events: Events

    # -- enqueue ------------------------------------------------------------------

    async def enqueue(
        self, command: Command, targets: Sequence[EnrollmentID], policy: Policy
    ) -> list[Enqueued]:
        """
        Queue one command on many enrollments; the body is stored once.

        Safe to repeat: an enrollment that has it, or has just answered it, says
        DUPLICATE.

        :raises Conflict: the CommandUUID is known with another body.
        """
        frame = self._frame(command, policy, targets)
        batches = [
            targets[at : at + ENQUEUE_AT_ONCE] for at in range(0, len(targets), ENQUEUE_AT_ONCE)
        ]
        if not batches:
            return []
        body = self._tools.payloads.seal(command.raw, keys.command(command.uuid), _LARGE_BODY)
        # The first goes alone: after it the body is there, or refused.
        answers = [await self._enqueue(frame, batches[0], body, body)]
        answers += [[] for _ in batches[1:]]
        left = iter(range(1, len(batches)))

        async def one_after_the_other() -> None:
            for at in left:
                answers[at] = await self._enqueue(frame, batches[at], b"", body)

        together = [Deferred.fromCoroutine(one_after_the_other()) for _ in range(IN_FLIGHT)]
        try:
            await gatherResults(together, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        return [outcome for batch in answers for outcome in batch]

    def _frame(
        self, command: Command, policy: Policy, targets: Sequence[EnrollmentID]
    ) -> tuple[tuple[Word, ...], tuple[Word, ...]]:
        """Make the arguments before and after the body."""
        settings = self._tools.settings
        expires = policy.expires
        if expires is None and settings.expires is not None:
            expires = self._tools.now() + int(settings.expires * 1000)
        attempts = policy.max_attempts or settings.max_attempts
        delay = "" if policy.wake else int(settings.repeat[0] * 1000)
        return (
            keys.pack(command.uuid),
            command.uuid,
            command.request_type,
            self._tools.payloads.digest(command.raw),
        ), (
            policy.priority * keys.PRIORITY_STEP,
            "" if expires is None else expires,
            attempts or "",
            delay,
            str(targets[0]) if len(targets) == 1 else "",
            "" if policy.not_before is None else min(policy.not_before, keys.LAST_MOMENT),
            policy.kind,
            int(policy.replaces),
            int(policy.partial),
            *(policy.step or ("", "")),
            keys.pack(policy.instead_of),
        )

    async def _enqueue(
        self,
        frame: tuple[tuple[Word, ...], tuple[Word, ...]],
        batch: Sequence[EnrollmentID],
        body: bytes,
        whole_body: bytes,
    ) -> list[Enqueued]:
        before, after = frame
        kind, *_, instead = after[-6:]
        names: list[Word] = [
            keys.COMMANDS + bytes(before[0]),  # type: ignore[arg-type]
            keys.SEQUENCE,
        ]
        members = []
        for one in batch:
            names += keys.of_target(one)
            if kind or instead:
                names += (keys.sent(one), keys.results(one), keys.kinds(one))
            members.append(keys.member(one))
        try:
            answer = await self._tools.change("enqueue", names, (*before, body, *after, *members))
        except ScriptError as error:
            if error.code != "NOBODY":
                raise
            # All who had it have answered it meanwhile.
            return await self._enqueue(frame, batch, whole_body, whole_body)
        return [_ANSWERS[letter] for letter in answer]

    # -- reads ----------------------------------------------------------------------

    async def enrollment(self, enrollment: EnrollmentID) -> EnrollmentRecord | None:
        """Read one record; the type in the answer is the stored one."""
        return (await self._describe([enrollment]))[0]

    async def enrollments(self, after: str = "", limit: int = 100) -> list[EnrollmentRecord]:
        """Page through all enrollments in id order, ``after`` an id, devices and channels."""
        start = f"({after}" if after else "-"
        found = await self._tools.link.call("ZRANGEBYLEX", keys.IDS, start, "+", "LIMIT", 0, limit)
        ones = [EnrollmentID.parse(each.decode()) for each in found]
        records = await self._describe(ones)
        # One without a record is damaged; left out, it would make a page look like the last.
        return [record or _unreadable(one) for one, record in zip(ones, records, strict=True)]

    async def describe(self, enrollments: Sequence[EnrollmentID]) -> list[EnrollmentRecord | None]:
        """Read records in the order asked, None for each that does not exist."""
        found: list[EnrollmentRecord | None] = []
        for at in range(0, len(enrollments), READ_AT_ONCE):
            found += await self._describe(enrollments[at : at + READ_AT_ONCE])
        return found

    async def find_all(self, texts: Sequence[str]) -> list[EnrollmentRecord | None]:
        """Find each by enrollment id or by serial number, None for each that is unknown."""
        if not texts:
            return []
        devices = await self._tools.link.call("MGET", *map(keys.serial, texts))
        ones: dict[int, EnrollmentID] = {}
        for at, (text, device) in enumerate(zip(texts, devices, strict=True)):
            # What is no id is not found, that is all.
            with contextlib.suppress(BadMessage, UnicodeDecodeError):
                ones[at] = EnrollmentID.parse(device.decode() if device else text)
        known = dict(zip(ones, await self.describe(list(ones.values())), strict=True))
        return [known.get(at) for at in range(len(texts))]

    async def find(self, text: str) -> EnrollmentID | None:
        """Find by enrollment id or by serial number."""
        device = await self._tools.link.call("GET", keys.serial(text.strip()))
        record = await self.enrollment(EnrollmentID.parse(device.decode() if device else text))
        return None if record is None else record.enrollment

    async def totals(self) -> tuple[int, int]:
        """Count all enrollments ever seen, and those in the push work set."""
        ids, work = await self._tools.link.script("totals", (keys.IDS, *keys.WORK))
        return int(ids), int(work)

    async def complete(self, begun: str, limit: int = 100) -> list[str]:
        """List enrollment ids and serial numbers that begin like this, so many of each."""
        least, most = b"[" + begun.encode(), b"(" + begun.encode() + b"\xff"
        found: list[bytes] = []
        for key in (keys.IDS, keys.SERIAL_ORDER):
            found += await self._tools.link.call("ZRANGEBYLEX", key, least, most, "LIMIT", 0, limit)
        return [each.decode("utf-8", "replace") for each in found]

    async def named(self, name: str, after: str = "", limit: int = 500) -> Named:
        """Look at some enrollments for those that have a name; see IFleet."""
        start = f"({after}" if after else "-"
        found = await self._tools.link.call("ZRANGEBYLEX", keys.IDS, start, "+", "LIMIT", 0, limit)
        ids = [each.decode() for each in found]
        go_on = ids[-1] if len(ids) == limit else ""
        # Only devices tell names: user channels are passed over.
        ones = [one for one in map(EnrollmentID.parse, ids) if not one.channel]
        names = [key for one in ones for key in (keys.facts(one), keys.notes(one))]
        told = await self._tools.link.script("names", names) if names else []
        same = name.strip().casefold().encode()
        pairs = zip(ones, told[::2], told[1::2], strict=True)
        meant = tuple(one for one, *each in pairs if same and same in map(_folded, each))
        return Named(meant, go_on, len(ids))

    async def _describe(self, ones: Sequence[EnrollmentID]) -> list[EnrollmentRecord | None]:
        if not ones:
            return []
        names: list[bytes] = []
        for one in ones:
            names += (keys.record(one), keys.facts(one), keys.queue(one), keys.push(one))
            names += (keys.unlock(one), keys.bootstrap(one))
            names += (keys.work(one), keys.device_record(one))
        args: tuple[Word, ...] = (f"({keys.PARKED}", *[keys.member(one) for one in ones])
        answers = await self._tools.link.script("describe", names, args)
        return [_describe(one, answer) for one, answer in zip(ones, answers, strict=True)]

    async def queue(self, enrollment: EnrollmentID) -> list[QueuedCommand]:
        """List pending and parked commands in delivery order."""
        names = (keys.queue(enrollment), keys.sent(enrollment))
        found: list[QueuedCommand] = []
        part: list[QueuedCommand] | None = None
        while part is None or len(part) == LIST_AT_ONCE:
            args = (keys.COMMANDS, len(found), len(found) + LIST_AT_ONCE - 1)
            part = [
                _queued(*line) for line in await self._tools.link.script("list_queue", names, args)
            ]
            found += part
        return sorted(found, key=_delivery_order)

    async def command(self, uuid: str) -> Command | None:
        """Read a command that is in some queue, None if it is in none."""
        name = keys.command(uuid)
        kind, body = await self._tools.link.call("HMGET", name, "type", "body")
        if kind is None or body is None:
            return None
        return Command(uuid, kind.decode(), self._tools.payloads.unseal(body, name))

    async def results(self, enrollment: EnrollmentID, limit: int = 20) -> list[Result]:
        """Read the newest results, newest first."""
        entries = await self._tools.link.call("LRANGE", keys.results(enrollment), 0, limit - 1)
        oldest = self._tools.now() - int(self._tools.settings.results_age * 1000)
        found = [self._result(enrollment, entry) for entry in entries]
        return [result for result in found if result.received_at > oldest]

    def _result(self, one: EnrollmentID, entry: bytes) -> Result:
        uuid, _, kind, status, why, at, queued, attempts, raw = entry.split(b"\0", 8)
        return Result(
            uuid.decode(),
            kind.decode(),
            status.decode(),
            why.decode(),
            int(at),
            int(queued) if queued else None,
            int(attempts),
            self._tools.payloads.unseal(raw, keys.payload_place(one)),
        )

    async def events(
        self, after: str = "0", limit: int = 100, messages: bool = True
    ) -> list[Event]:
        """
        Read events after the given stream id, oldest first.

        :param messages: with what devices sent; one that can't be read is told as damaged.
        """
        return await self._events.read(after, limit, None if messages else _nothing)

    # -- cancel ---------------------------------------------------------------------

    async def newest_event(self) -> str:
        """Say the id of the newest event, "0" if there is none."""
        return await self._events.newest()

    async def cancel(self, enrollment: EnrollmentID, uuid: str) -> QueuedCommand:
        """
        Take one command out; the answer says whether it was ever sent.

        :raises NotHere: it is not in the queue.
        """
        _, taken = await self._cancel(enrollment, keys.pack(uuid))
        return _queued(*taken[0])

    async def clear(self, enrollment: EnrollmentID) -> int:
        """Take all commands out, return how many."""
        count, left = 0, 1
        while left:
            left, taken = await self._cancel(enrollment, b"")
            count += len(taken)
        return count

    async def _cancel(self, one: EnrollmentID, packed: bytes) -> Any:
        names = (keys.queue(one), keys.sent(one), keys.results(one), keys.work(one))
        args = (str(one), keys.member(one), packed, CANCEL_AT_ONCE)
        return await self._tools.change("cancel", names, args)


def _describe(one: EnrollmentID, answer: list[Any] | None) -> EnrollmentRecord | None:
    """Read a record; one that is damaged is a damaged record, and no error of all the others."""
    try:
        return _record(one, *(answer or ()))
    except (ValueError, KeyError, TypeError):
        fields = _pairs(answer[0]) if answer else {}
        return _unreadable(one, fields.get("enabled", "0"))


def _unreadable(one: EnrollmentID, enabled: str = "0") -> EnrollmentRecord:
    known = ("type", one.type.value, "enabled", enabled)
    empty: tuple[Any, ...] = ([], 0, 0, 0, 0, None, None)
    record = _record(one, [word.encode() for word in known], *empty)
    assert record is not None  # it says whether it is enabled
    return attrs.evolve(record, unreadable=True)


def _record(
    one: EnrollmentID,
    fields: list[bytes],
    facts: list[bytes],
    pending: int,
    has_token: int,
    has_unlock: int,
    has_bootstrap: int,
    next_push: bytes | None,
    pin: bytes | None,
) -> EnrollmentRecord | None:
    it = _pairs(fields)
    if "enabled" not in it:
        return None
    return EnrollmentRecord(
        enrollment=attrs.evolve(one, type=EnrollmentType(it["type"])),
        enabled=it["enabled"] == "1",
        tally=int(it.get("tally", 0)),
        generation=int(it.get("generation", 0)),
        topic=it.get("topic", ""),
        facts=_pairs(facts) | ({"UserShortName": it["user"]} if it.get("user") else {}),
        enrolled_at=_int(it.get("enrolled")),
        last_seen=_int(it.get("seen")),
        awaiting_configuration=it.get("awaiting") == "1",
        pin=pin.decode() if pin else "",
        pending=pending,
        has_token=bool(has_token),
        has_unlock_token=bool(has_unlock) and not one.channel,
        has_bootstrap_token=bool(has_bootstrap) and not one.channel,
        next_push=None if next_push is None else int(float(next_push)),
        last_push=_int(it.get("pushed")),
        last_push_result=it.get("push_result", ""),
    )


def _folded(name: bytes) -> bytes:
    return name.decode(errors="replace").strip().casefold().encode()


def _pairs(flat: list[bytes]) -> dict[str, str]:
    return {
        name.decode(): value.decode("utf-8", "replace")
        for name, value in zip(flat[::2], flat[1::2], strict=True)
    }


def _int(text: str | bytes | None) -> int | None:
    return int(text) if text and text not in ("-", b"-") else None


def _queued(
    packed: bytes, score: bytes, sent: bytes | None, about: list[bytes | None]
) -> QueuedCommand:
    attempts, last, count, first, latest, state = (sent or b"0 - 0 - - waiting").split(b" ")
    _, kind, queued, expires, most, not_before, kept = about
    place = keys.place_in_queue(float(score), _int(not_before), _int(kept))
    return QueuedCommand(
        uuid=keys.unpack(packed),
        request_type=(kind or b"").decode(),
        priority=place // keys.PRIORITY_STEP,
        sequence=place % keys.PRIORITY_STEP,
        state=state.decode(),
        queued_at=int(queued or 0),
        attempts=int(attempts),
        last_sent=_int(last),
        not_now_count=int(count),
        first_not_now=_int(first),
        last_not_now=_int(latest),
        expires=_int(expires),
        max_attempts=_int(most),
        not_before=_int(not_before),
    )


def _delivery_order(line: QueuedCommand) -> tuple[bool, int, int]:
    return line.state in ("expired", "stuck"), line.priority, line.sequence


def _nothing(topic: str, facts: Mapping[str, str]) -> bool:
    return False
