"""Webhooks: how far each is, and what an operator does about one."""

import attrs

from mdmd.errors import NotHere
from mdmd.interfaces.webhooks import IWebhooks
from mdmd.ops import records
from mdmd.ops.method import Caller, Subject, Wire, method
from mdmd.ops.operators import Role
from mdmd.ops.subjects.enrollments import page_size, stream_id
from mdmd.ops.wire import PAGE


class Webhooks(Subject):
    """Who is told of events."""

    name = "webhooks"

    def _all(self) -> IWebhooks:
        if self.desk.webhooks is None:
            raise NotHere("this daemon has no webhooks")
        return self.desk.webhooks

    @method(Role.VIEWER)
    async def show(self, caller: Caller) -> Wire:
        """List each webhook with how far it is, its dead letters and its last trouble."""
        return [
            {
                "name": each.name,
                "where": each.where,
                "topics": list(each.topics),
                "trouble": each.trouble,
                **attrs.asdict(each.state),
            }
            for each in await self._all().standings()
        ]

    @method(Role.OPERATOR, audit=("name",))
    async def test(self, caller: Caller, name: str) -> Wire:
        """Send a test event now; "" if it was taken, else why not."""
        return await self._all().test(name)

    @method(Role.VIEWER)
    async def dead(self, caller: Caller, name: str, after: str = "0", limit: int = PAGE) -> Wire:
        """Read dead letters, oldest first, without the messages."""
        found = await self._all().dead(name, stream_id(after), page_size(limit))
        return [
            {
                "id": each.id,
                "reason": each.reason,
                "attempts": each.attempts,
                "at": each.at,
                "event": records.event(each.event, raw=False),
            }
            for each in found
        ]

    @method(Role.OPERATOR, audit=("name", "limit"))
    async def resend(self, caller: Caller, name: str, limit: int = PAGE) -> Wire:
        """Send the oldest dead letters again; those that are taken are dead no more."""
        return attrs.asdict(await self._all().resend(name, page_size(limit)))

    @method(Role.OPERATOR, audit=("name", "after"))
    async def replay(self, caller: Caller, name: str, after: str) -> Wire:
        """Send everything after the event ``after`` once more; "0" is all that is kept."""
        await self._all().replay(name, stream_id(after))
        return None
