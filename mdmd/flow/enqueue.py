"""
An operator asks: queue a command on some enrollments, and wake them.

The API, Perspective Broker and the manhole all come through here.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

import attrs

from mdmd.errors import BadMessage, BadRequest, Conflict
from mdmd.flow.pins import Kept, Pins, pin_of
from mdmd.interfaces.fleet import Enqueued, IFleet, Policy, Priority
from mdmd.interfaces.push import STORE_AWAY, Decision, IWaker, NoPush, PushOutcome
from mdmd.mdm.answers.decode import LIMITS, is_partial
from mdmd.mdm.catalogue.load import entry
from mdmd.mdm.command import Command, keys_of
from mdmd.mdm.enrollment import EnrollmentID

# Above this many targets nobody waits for the pushes: they are in the work set,
# and the waker sends them at its own pace, whatever becomes of the caller.
WAIT_FOR = 1000

# Ids that are read and queued at once; in between others have their turn.
AT_ONCE = 1000


class Fault(StrEnum):
    """Why a target was refused; texts for the one who typed the id."""

    BAD_ID = "not an enrollment id"
    UNKNOWN = "no such enrollment"
    DUPLICATE = "a command with this CommandUUID is in its queue already, or the last it answered"
    UNREADABLE = "its record in the store is damaged; mdmctl fsck says how"
    # Of lock and wipe, by the kind's name.
    PENDING = "a {} is pending already, so this one was not queued: mdmctl queue shows it, and \
takes it out with --cancel UUID"
    GONE = "the command whose place it was to take is not in its queue any more"
    DISABLED = "queued, but the enrollment is disabled: it is not pushed to"


@attrs.frozen
class TargetReply:
    """What became of one target; NanoMDM's three words, at most two of them set."""

    push_result: str = ""  # apns-id
    push_error: str = ""
    command_error: str = ""

    @property
    def told(self) -> bool:
        """Say whether there is anything to tell; a command that is queued without a push is not."""
        return bool(self.push_result or self.push_error or self.command_error)


@attrs.frozen
class Reply:
    """
    What became of a call. ``status`` is by id, as typed but trimmed, in order.

    :ivar push_error: why nobody at all was pushed to.
    """

    status: dict[str, TargetReply]
    no_push: bool = False
    push_error: str = ""
    command_error: str = ""
    command_uuid: str = ""
    request_type: str = ""


class Enqueuer:
    """
    The story of ``enqueue`` and ``push``.

    :param pins: keeps the PIN of a command before it is queued.
    """

    def __init__(self, fleet: IFleet, waker: IWaker, pins: Pins | None = None) -> None:
        self._fleet = fleet
        self._waker = waker
        self._pins = pins

    async def enqueue(
        self,
        command: Command | None,
        ids: Sequence[str],
        policy: Policy | None = None,
        push: bool = True,
        wait: bool = True,
    ) -> Reply:
        """
        Queue ``command`` on each of ``ids`` and push to those that took it.

        One bad id is its own error and does not fail the others. ``command``
        None pushes only; ``policy`` None is :func:`usual_policy`. Without ``push`` the first
        push to a device that does not come by itself is the first repeat. Without ``wait``
        the waker pushes at its own pace, and nobody is told what comes of it.

        :raises BadRequest: no id at all, or neither command nor push.
        :raises Conflict: the CommandUUID is known with another body.
        """
        if command is None:
            if not push:
                raise BadRequest("nothing to do: neither a command nor a push")
            return await self.push(ids)
        policy = attrs.evolve(policy or usual_policy(command), wake=push)
        status: dict[str, TargetReply] = {}
        awake: dict[str, EnrollmentID] = {}
        for part in _parts(ids):
            targets, read = _read(part)
            status |= read
            await self._queue(command, targets, policy, status, awake)
        if not push:
            # That one is disabled was to be said of the push only; few are, and there may be
            # ten thousand to look at.
            status |= {
                typed: attrs.evolve(each, push_error="")
                for typed, each in status.items()
                if each.push_error
            }
        elif wait and len(awake) <= WAIT_FOR:
            status.update(await self._push(awake))
        self._waker.nudge()
        return Reply(
            status,
            no_push=not push,
            push_error=_common(status),
            command_uuid=command.uuid,
            request_type=command.request_type,
        )

    async def _queue(
        self,
        command: Command,
        targets: dict[str, EnrollmentID],
        policy: Policy,
        status: dict[str, TargetReply],
        awake: dict[str, EnrollmentID],
    ) -> None:
        """Queue on a part of all targets; write down what became of each, and whom to push to."""
        kept = await self._keep_pin(command, list(targets.values()))
        if kept.failed:
            unkept = [typed for typed, one in targets.items() if one in kept.failed]
            status |= dict.fromkeys(unkept, _REPLIES[Enqueued.UNREADABLE])
            targets = {typed: one for typed, one in targets.items() if one not in kept.failed}
        outcomes = await self._fleet.enqueue(command, list(targets.values()), policy)
        without = set()
        for (typed, target), outcome in zip(targets.items(), outcomes, strict=True):
            status[typed] = _REPLIES[outcome]
            if outcome is Enqueued.QUEUED:
                awake[typed] = target
            elif outcome is Enqueued.PENDING:
                status[typed] = TargetReply(command_error=Fault.PENDING.format(policy.kind))
            if outcome in (Enqueued.PENDING, Enqueued.GONE, Enqueued.UNREADABLE):
                without.add(target)
        if self._pins is not None:
            await self._pins.forget(command, kept.new & without)

    async def _keep_pin(self, command: Command, targets: Sequence[EnrollmentID]) -> Kept:
        """
        Keep the PIN of a command, if there is one, for those that are to get it.

        :raises Conflict: the CommandUUID is known with another body, and perhaps another PIN.
        """
        if self._pins is None or not pin_of(command):
            return Kept()
        known = await self._fleet.command(command.uuid)
        if known is not None and known.raw != command.raw:
            raise Conflict("this CommandUUID is known with another body")
        return await self._pins.keep(command, targets)

    async def push(self, ids: Sequence[str]) -> Reply:
        """
        Push to each of ``ids`` now, whether it has work or not.

        :raises BadRequest: no id at all.
        """
        status: dict[str, TargetReply] = {}
        for part in _parts(ids):
            targets, read = _read(part)
            status |= {typed: _of_push(reply) for typed, reply in read.items()}
            status |= await self._push(targets)
        return Reply(status, push_error=_common(status))

    async def _push(self, targets: dict[str, EnrollmentID]) -> dict[str, TargetReply]:
        if not targets:
            return {}
        outcomes = await self._waker.push(list(targets.values()))
        return {typed: _pushed(outcome) for typed, outcome in zip(targets, outcomes, strict=True)}


_REPLIES = {
    Enqueued.QUEUED: TargetReply(),
    Enqueued.LATER: TargetReply(),
    Enqueued.UNKNOWN: TargetReply(command_error=Fault.UNKNOWN.value),
    Enqueued.DUPLICATE: TargetReply(command_error=Fault.DUPLICATE.value),
    Enqueued.UNREADABLE: TargetReply(command_error=Fault.UNREADABLE.value),
    Enqueued.PENDING: TargetReply(command_error=Fault.PENDING.value),  # its kind is filled in
    Enqueued.GONE: TargetReply(command_error=Fault.GONE.value),
    Enqueued.DISABLED: TargetReply(push_error=Fault.DISABLED.value),
}


def usual_policy(command: Command) -> Policy:
    """
    Say how a command is queued of which nobody said how.

    Lock, wipe and lost mode go first, and of lock and wipe one is pending.
    """
    found = entry(command.request_type)
    if found is None:
        return Policy()
    urgent = found.priority == "security"
    partial = not LIMITS.isdisjoint(found.keys) and is_partial(keys_of(command))
    priority = Priority.SECURITY if urgent else Priority.NORMAL
    return Policy(priority, kind=found.single, partial=partial)


def _parts(ids: Sequence[str]) -> Iterator[list[str]]:
    """Trim and deduplicate, and cut into parts; at least one id is in there."""
    each = list(dict.fromkeys(stripped for one in ids if (stripped := one.strip())))
    if not each:
        raise BadRequest("name at least one enrollment id")
    for at in range(0, len(each), AT_ONCE):
        yield each[at : at + AT_ONCE]


def _read(ids: Sequence[str]) -> tuple[dict[str, EnrollmentID], dict[str, TargetReply]]:
    """Give what can be read, and a place for every answer in order."""
    targets: dict[str, EnrollmentID] = {}
    status: dict[str, TargetReply] = {}
    for typed in ids:
        try:
            targets[typed] = EnrollmentID.parse(typed)
            status[typed] = _NOTHING_YET
        except BadMessage:
            status[typed] = _BAD_ID
    return targets, status


_NOTHING_YET = TargetReply()
_BAD_ID = TargetReply(command_error=Fault.BAD_ID.value)


def _of_push(reply: TargetReply) -> TargetReply:
    """Spell what was wrong with an id as the answer to a push."""
    return TargetReply(push_error=reply.command_error) if reply.command_error else reply


def _common(status: Mapping[str, TargetReply]) -> str:
    """Say what keeps everybody from being pushed to: the store, not each one's own trouble."""
    errors = {each.push_error for each in status.values()}
    return STORE_AWAY.reason if errors == {STORE_AWAY.reason} else ""


def _pushed(outcome: PushOutcome | NoPush) -> TargetReply:
    if isinstance(outcome, NoPush):
        return TargetReply(push_error=f"not pushed: {outcome.reason}")
    if outcome.decision is Decision.DELIVERED:
        return TargetReply(push_result=outcome.apns_id)
    status = f"push HTTP status: {outcome.status}: " if outcome.status else ""
    return TargetReply(push_error=f"{status}{outcome.reason}")
