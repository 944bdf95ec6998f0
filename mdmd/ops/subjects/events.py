"""Events: what happened."""

from mdmd.ops import records
from mdmd.ops.method import Caller, Subject, Wire, method
from mdmd.ops.operators import Role
from mdmd.ops.subjects.enrollments import page_size, stream_id
from mdmd.ops.wire import PAGE


class Events(Subject):
    """The event stream."""

    name = "events"

    @method(Role.VIEWER)
    async def page(self, caller: Caller, after: str = "0", limit: int = PAGE) -> Wire:
        """Read up to ``limit`` events after the event id ``after``, oldest first."""
        found = await self.desk.fleet.events(stream_id(after), page_size(limit))
        return [records.event(each, raw=False) for each in found]

    @method(Role.ADMIN, audit=("after", "limit"))
    async def raw(self, caller: Caller, after: str = "0", limit: int = PAGE) -> Wire:
        """Read events with the messages as they came; there are tokens in them."""
        found = await self.desk.fleet.events(stream_id(after), page_size(limit))
        return [records.event(each, raw=True) for each in found]
