"""Events: what happened."""

from twisted.spread import pb

from mdmd.errors import Conflict
from mdmd.ops import records
from mdmd.ops.desk import Desk
from mdmd.ops.method import Caller, Subject, Wire, method
from mdmd.ops.operators import Role
from mdmd.ops.subjects.enrollments import find, page_size, stream_id
from mdmd.ops.subscription import Filter, Subscription
from mdmd.ops.tail import order
from mdmd.ops.wire import PAGE

MOST_SUBSCRIPTIONS = 200  # of all operators together


class Events(Subject):
    """The event stream."""

    name = "events"

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.subscriptions: set[Subscription] = set()

    @method(Role.VIEWER)
    async def page(self, caller: Caller, after: str = "0", limit: int = PAGE) -> Wire:
        """Read up to ``limit`` events after the event id ``after``, oldest first."""
        found = await self.desk.fleet.events(stream_id(after), page_size(limit))
        return [records.event(each, raw=False) for each in found]

    @method(Role.ADMIN, audit=("after", "limit"))
    async def raw(self, caller: Caller, after: str = "0", limit: int = PAGE) -> Wire:
        """Read events with the messages as they came; there are tokens in them."""
        found = await self.desk.fleet.events(stream_id(after), page_size(limit))
        told = [each for each in found if each.raw]
        if told:
            page = {"messages": str(len(told)), "first": told[0].id, "last": told[-1].id}
            caller.note_page((each.enrollment for each in told), **page)
        return [records.event(each, raw=True) for each in found]

    @method(Role.VIEWER)
    async def subscribe(
        self,
        caller: Caller,
        receiver: pb.RemoteReference,
        id: str = "",
        topics: list[str] | None = None,
        after: str = "",
    ) -> Wire:
        """
        Send events to ``receiver`` as they come, by its method ``events(list)``.

        The next batch comes when the last was answered; who does not answer
        for a minute is dropped. The answer is an object with ``cancel()``.

        :param id: of this enrollment or serial number only.
        :param topics: of these only, such as ``mdm.Connect`` or ``mdm.*``.
        :param after: begin after this event id; "" begins now.
        """
        if len(self.subscriptions) >= MOST_SUBSCRIPTIONS:
            raise Conflict(f"there are {MOST_SUBSCRIPTIONS} subscriptions already")
        wanted = Filter(str(await find(self.desk, id)) if id else "", tuple(topics or ()))
        newest = await self.desk.fleet.newest_event()
        # Not from the future: everybody's place in the stream is one that was there.
        begin = min(stream_id(after), newest, key=order) if after else newest
        subscription = Subscription(
            self.desk.tail,
            self.desk.clock,
            receiver,
            wanted,
            begin,
            lambda: caller.name in self.desk.operators.all(),
            self.subscriptions.discard,
        )
        self.subscriptions.add(subscription)
        return subscription
