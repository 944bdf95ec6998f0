"""Enrollments out and in, with all their secrets: what ``mdmctl export`` and ``import`` use."""

from itertools import groupby
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults

from mdmd.errors import BadRequest, MdmdError, NotHere, StoreUnavailable
from mdmd.interfaces.moving import IMoving
from mdmd.ops.method import Caller, Subject, Wire, method
from mdmd.ops.operators import Role
from mdmd.ops.subjects.enrollments import stream_id
from mdmd.ops.wire import MOVED_AT_ONCE


class Moving(Subject):
    """Whole records, secrets opened; docs/moving.md says what is in them."""

    name = "moving"

    def _it(self) -> IMoving:
        if self.desk.moving is None:
            raise NotHere("this daemon moves nothing")
        return self.desk.moving

    @method(Role.ADMIN, audit=())
    async def resume_key(self, caller: Caller) -> Wire:
        """Give the key for what tells where an export or import is, sealed beside its file."""
        return await self._it().resume_key()

    @method(Role.ADMIN, audit=())
    async def size(self, caller: Caller) -> Wire:
        """Count the enrollments."""
        return await self._it().size()

    @method(Role.ADMIN, audit=("after", "limit"))
    async def devices(self, caller: Caller, after: str = "", limit: int = MOVED_AT_ONCE) -> Wire:
        """Read device records after an id; ``next`` is "" at the end."""
        records, following = await self._it().devices(after, _at_once(limit))
        ids = [str(each["id"]) for each in records]
        if ids:
            caller.note_page(ids, first=ids[0], last=ids[-1])
        return _page((records, following))

    @method(Role.ADMIN, audit=("id", "start"))
    async def results(self, caller: Caller, id: str, start: int = 0) -> Wire:
        """Read results of an enrollment from the newest on; ``next`` is 0 at the end."""
        return _page(await self._it().results(id, max(0, start)))

    @method(Role.ADMIN, audit=("uuids",))
    async def commands(self, caller: Caller, uuids: list[str]) -> Wire:
        """Read commands that are in queues."""
        return await self._it().commands(uuids[:MOVED_AT_ONCE])

    @method(Role.ADMIN, audit=("after", "limit"))
    async def certificates(
        self, caller: Caller, after: str = "", limit: int = MOVED_AT_ONCE
    ) -> Wire:
        """Read certificates that were issued, after a fingerprint; ``next`` is "" at the end."""
        return _page(await self._it().certificates(after, _at_once(limit)))

    @method(Role.ADMIN, audit=("cursor",))
    async def loose(self, caller: Caller, cursor: str = "0") -> Wire:
        """Read pins, challenges and links that no index names; ``next`` is "" at the end."""
        if not cursor.isdecimal():
            raise BadRequest("cursor is expected to be the one of the answer before")
        return _page(await self._it().loose(cursor))

    @method(Role.ADMIN, audit=("target", "after", "limit"))
    async def dead_letters(
        self, caller: Caller, target: str, after: str = "", limit: int = MOVED_AT_ONCE
    ) -> Wire:
        """Read a webhook's dead letters with their messages; ``next`` is "" at the end."""
        return _page(
            await self._it().dead_letters(
                target, stream_id(after) if after else after, _at_once(limit)
            )
        )

    @method(Role.ADMIN, audit=())
    async def push_certificates(self, caller: Caller) -> Wire:
        """Read every push certificate with its key."""
        return await self._it().push_certificates()

    @method(Role.ADMIN, audit=())
    async def groups(self, caller: Caller) -> Wire:
        """Read every group with its members."""
        return await self._it().groups()

    @method(Role.ADMIN, audit=())
    async def counts(self, caller: Caller) -> Wire:
        """Read the sequence of enqueues, and how many commands ended."""
        return await self._it().counts()

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


def _page(answer: tuple[list[dict[str, Any]], Any]) -> Wire:
    records, following = answer
    return {"records": records, "next": following}


def _at_once(limit: int) -> int:
    if not 1 <= limit <= MOVED_AT_ONCE:
        raise BadRequest(f"limit is expected to be 1 to {MOVED_AT_ONCE}")
    return limit
