"""Enrollments: find, read, page through."""

import re

from mdmd.errors import BadRequest, NotHere
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.ops import records
from mdmd.ops.desk import Desk
from mdmd.ops.method import Caller, Subject, Wire, method
from mdmd.ops.operators import Role
from mdmd.ops.wire import LARGEST_PAGE, LARGEST_RECORDS, NAMES, PAGE

_STREAM_ID = re.compile(r"[0-9]{1,19}(?:-[0-9]{1,19})?", re.ASCII)


async def find(desk: Desk, text: str, caller: Caller | None = None) -> EnrollmentID:
    """
    Find an enrollment by its id or its device's serial number.

    :param caller: whose call is about it, for the audit.
    :raises NotHere: there is none.
    """
    found = await desk.fleet.find(text.strip())
    if found is None:
        raise NotHere(f"no enrollment and no serial number is {text.strip()[:80]!r}")
    if caller is not None:
        caller.on.append(str(found))
    return found


def page_size(limit: int, most: int = LARGEST_PAGE) -> int:
    """
    Check how much a caller wants at once.

    :raises BadRequest: none, or too much.
    """
    if not 1 <= limit <= most:
        raise BadRequest(f"limit is expected to be 1 to {most}")
    return limit


def stream_id(text: str) -> str:
    """
    Check an id of a stream, ``ms-n`` or ``ms``.

    :raises BadRequest: it is none.
    """
    if not _STREAM_ID.fullmatch(text):
        raise BadRequest("expected an id such as 1764016000000-0")
    return text


class Enrollments(Subject):
    """Who is enrolled."""

    name = "enrollments"

    @method(Role.VIEWER)
    async def page(self, caller: Caller, after: str = "", limit: int = PAGE) -> Wire:
        """
        Read up to ``limit`` records in id order, beginning after the id ``after``.

        The last page is the one shorter than ``limit``.
        """
        found = await self.desk.fleet.enrollments(after, page_size(limit, LARGEST_RECORDS))
        return [records.enrollment(each) for each in found]

    @method(Role.VIEWER)
    async def get(self, caller: Caller, id: str) -> Wire:
        """Read one record, by enrollment id or serial number."""
        record = await self.desk.fleet.enrollment(await find(self.desk, id))
        if record is None:
            raise NotHere(f"no enrollment and no serial number is {id[:80]!r}")
        return records.enrollment(record)

    @method(Role.VIEWER)
    async def find(self, caller: Caller, text: str) -> Wire:
        """Say the enrollment id of an id or serial number, None if there is none."""
        found = await self.desk.fleet.find(text.strip())
        return None if found is None else str(found)

    @method(Role.VIEWER)
    async def named(self, caller: Caller, name: str, after: str = "", limit: int = NAMES) -> Wire:
        """
        Look at up to ``limit`` enrollments, give the ids of those that have this name.

        Their own, or one from ``inventory.note``; capitals don't matter. ``after`` in
        the answer goes on from there, "" says that it was all.
        """
        page = await self.desk.fleet.named(name, after, page_size(limit))
        ids = [str(each) for each in page.enrollments]
        return {"ids": ids, "after": page.after, "looked_at": page.looked_at}

    @method(Role.VIEWER)
    async def complete(self, caller: Caller, begun: str, limit: int = PAGE) -> Wire:
        """List ids and serial numbers that begin like this, for who types one."""
        return await self.desk.fleet.complete(begun, page_size(limit))
