"""Wake devices up."""

from mdmd.ops.method import Caller, Subject, Wire, method
from mdmd.ops.operators import Role
from mdmd.ops.subjects.commands import as_typed, targets


class Push(Subject):
    """Pushes, whether there is work or not."""

    name = "push"

    @method(Role.OPERATOR, audit=("ids",))
    async def send(self, caller: Caller, ids: list[str]) -> Wire:
        """Push to each of ``ids`` (or serial numbers) now, say what became of each."""
        found = await targets(self.desk, ids)
        caller.on.extend(found.values())
        return as_typed(await self.desk.enqueuer.push(list(found.values())), found)

    @method(Role.VIEWER)
    async def status(self, caller: Caller) -> Wire:
        """
        Say how this daemon's pushes are: the work set, what is in flight, each topic's line.

        ``topics`` has connections, streams in flight, the queue, and the last error of each.
        """
        return dict(await self.desk.push_status())
