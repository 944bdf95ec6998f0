"""What waits for a device, and what it answered."""

from functools import partial

from mdmd.errors import Conflict, NotAllowed, NotHere
from mdmd.flow.enqueue import Fault
from mdmd.flow.send import How
from mdmd.interfaces.fleet import Priority, QueuedCommand, Result
from mdmd.mdm.catalogue.detail import detail_of
from mdmd.mdm.catalogue.load import entry
from mdmd.mdm.command import keys_of, renamed
from mdmd.ops import records
from mdmd.ops.method import Caller, Subject, Wire, method
from mdmd.ops.operators import Role
from mdmd.ops.subjects.commands import role_to_send
from mdmd.ops.subjects.enrollments import find, page_size

_MOST_RESULTS = 1000  # looked through for one of them


class Queue(Subject):
    """Commands that wait, or were set aside."""

    name = "queue"

    @method(Role.VIEWER)
    async def show(self, caller: Caller, id: str) -> Wire:
        """List an enrollment's queue in delivery order."""
        found = await self.desk.fleet.queue(await find(self.desk, id))
        return [records.queued(each) for each in found]

    @method(Role.OPERATOR, audit=("id", "uuid"))
    async def cancel(self, caller: Caller, id: str, uuid: str) -> Wire:
        """Take one command out; ``attempts`` in the answer says whether it was ever sent."""
        gone = await self.desk.fleet.cancel(await find(self.desk, id, caller), uuid)
        caller.noted["request_type"] = gone.request_type
        return records.queued(gone)

    @method(Role.OPERATOR, audit=("id",))
    async def clear(self, caller: Caller, id: str) -> Wire:
        """Take all commands out, say how many."""
        return await self.desk.fleet.clear(await find(self.desk, id, caller))

    @method(Role.OPERATOR, audit=("id", "uuid"))
    async def requeue(self, caller: Caller, id: str, uuid: str) -> Wire:
        """
        Put a command that waits, or was set aside, at the end of its class again.

        It gets a new CommandUUID, and no limits of time and attempts; the old
        one ends as ``cancelled``. ``attempts`` in the answer are those of the
        old one: if it was sent, the device may have done it already. Refused while
        another lock (or wipe) than this one is pending; what is refused stays
        where it was.
        """
        one = await find(self.desk, id, caller)
        old = await self.desk.fleet.command(uuid)
        lines = await self.desk.fleet.queue(one)
        line = next((each for each in lines if each.uuid == uuid), None)
        if old is None or line is None:
            raise NotHere("no such command in this queue; of what has ended nothing is kept")
        caller.noted.update({"request_type": old.request_type, **detail_of(old)})
        role = role_to_send(self.desk, old.request_type, partial(keys_of, old))
        if caller.role < role:
            raise NotAllowed(f"{old.request_type} needs the role {role}")
        _check_single(line, lines)
        new = renamed(old)
        how = How(priority=Priority(line.priority), force=True, instead_of=uuid)
        sent = await self.desk.sender.send(new, [str(one)], how)
        if error := sent.reply.status[str(one)].command_error:
            raise Conflict(f"{old.request_type} was not put back: {error}")
        return {"uuid": new.uuid, "request_type": new.request_type, "attempts": line.attempts}


def _check_single(line: QueuedCommand, lines: list[QueuedCommand]) -> None:
    """
    See that another of the same kind is not in the way of putting a command back.

    :raises Conflict: of locks and wipes only one is pending.
    """
    found = entry(line.request_type)
    if found is None or not found.single:
        return
    for each in lines:
        other = entry(each.request_type)
        same = other is not None and other.single == found.single and each.uuid != line.uuid
        if same and each.state not in ("expired", "stuck"):
            raise Conflict(Fault.PENDING.format(found.single))


class Results(Subject):
    """What devices answered."""

    name = "results"

    @method(Role.VIEWER)
    async def show(self, caller: Caller, id: str, limit: int = 20) -> Wire:
        """List the newest results, newest first, without the reports themselves."""
        found = await self.desk.fleet.results(await find(self.desk, id), page_size(limit))
        return [records.result(each, raw=False) for each in found]

    @method(Role.VIEWER)
    async def get(self, caller: Caller, id: str, uuid: str) -> Wire:
        """Read the newest result of one command with the report, if no secret can be in it."""
        found = await self._one(caller, id, uuid)
        if records.is_secret(found):
            raise NotAllowed("there is a secret in this report: results.secret reads it")
        return records.result(found, raw=True)

    @method(Role.ADMIN, audit=("id", "uuid"))
    async def secret(self, caller: Caller, id: str, uuid: str) -> Wire:
        """Read the newest result of one command with the report, whatever is in it."""
        found = await self._one(caller, id, uuid)
        caller.noted["request_type"] = found.request_type
        return records.result(found, raw=True)

    async def _one(self, caller: Caller, id: str, uuid: str) -> Result:
        one = await find(self.desk, id, caller)
        for each in await self.desk.fleet.results(one, _MOST_RESULTS):
            if each.uuid == uuid:
                return each
        raise NotHere("no result of this command is kept")
