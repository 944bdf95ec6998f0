"""Enrollments out and in, with all their secrets: what ``mdmctl export`` and ``import`` use."""

from itertools import groupby
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults

from mdmd.errors import BadRequest, MdmdError, NotHere, StoreUnavailable
from mdmd.interfaces.moving import IMoving
from mdmd.ops.method import Caller, Subject, Wire, method
from mdmd.ops.operators import Role
from mdmd.ops.wire import MOVED_AT_ONCE


class Moving(Subject):
    """Whole records, secrets opened; docs/moving.md says what is in them."""

    name = "moving"

    def _it(self) -> IMoving:
        if self.desk.moving is None:
            raise NotHere("this daemon moves nothing")
        return self.desk.moving

    @method(Role.ADMIN, audit=("after", "limit"))
    async def devices(self, caller: Caller, after: str = "", limit: int = MOVED_AT_ONCE) -> Wire:
        """Read device records after an id; ``next`` is "" at the end."""
        if not 1 <= limit <= MOVED_AT_ONCE:
            raise BadRequest(f"limit is expected to be 1 to {MOVED_AT_ONCE}")
        records, following = await self._it().devices(after, limit)
        ids = [str(each["id"]) for each in records]
        if ids:
            caller.note_page(ids, first=ids[0], last=ids[-1])
        return {"records": records, "next": following}

    @method(Role.ADMIN, audit=("uuids",))
    async def commands(self, caller: Caller, uuids: list[str]) -> Wire:
        """Read commands that are in queues."""
        return await self._it().commands(uuids[:MOVED_AT_ONCE])

    @method(Role.ADMIN, audit=())
    async def push_certificates(self, caller: Caller) -> Wire:
        """Read every push certificate with its key."""
        return await self._it().push_certificates()

    @method(Role.ADMIN, audit=())
    async def groups(self, caller: Caller) -> Wire:
        """Read every group with its members."""
        return await self._it().groups()

    @method(Role.ADMIN, audit=("dry_run",))
    async def put(
        self, caller: Caller, records: list[dict[str, Any]], dry_run: bool = False
    ) -> Wire:
        """Write records; for each ``new``, ``same``, or the name of an error and its text."""
        outcomes: list[Wire] = []
        caller.note_page(str(each.get("id", "")) for each in records[:MOVED_AT_ONCE])
        # One kind after the other, for devices need their commands; devices at the same time, for
        # each waits for the store's disk.
        for _, some in groupby(records[:MOVED_AT_ONCE], key=lambda each: each.get("kind")):
            putting = [Deferred.fromCoroutine(self._put(each, dry_run)) for each in some]
            try:
                outcomes += await gatherResults(putting, consumeErrors=True)
            except FirstError as error:
                error.subFailure.raiseException()
        return outcomes

    async def _put(self, record: dict[str, Any], dry_run: bool) -> Wire:
        try:
            return [str(await self._it().put(record, dry_run)), ""]
        except StoreUnavailable:
            raise
        except MdmdError as error:
            return [type(error).__name__, str(error)]
