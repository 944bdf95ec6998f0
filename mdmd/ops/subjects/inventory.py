"""What is known of devices, and what operators write about them."""

import re
from datetime import UTC, datetime

from mdmd.errors import BadRequest, NotHere
from mdmd.flow.targets import LOOK_AT_ONCE
from mdmd.interfaces.fleet import EnrollmentRecord
from mdmd.interfaces.inventory import Known
from mdmd.ops import records
from mdmd.ops.method import Caller, Subject, Wire, method
from mdmd.ops.operators import Role
from mdmd.ops.spelling import weigh
from mdmd.ops.subjects.enrollments import find, page_size
from mdmd.ops.wire import NOTES, PAGE

LONGEST_NOTE = 2000  # characters
MOST_VALUES = 20_000  # of a page, and one device's
_GROUP = re.compile(r"[\w.-]{1,64}")


class Inventory(Subject):
    """What devices told of themselves."""

    name = "inventory"

    @method(Role.VIEWER)
    async def get(self, caller: Caller, id: str) -> Wire:
        """Read all fields of one device, each with its time (ms), its notes and its groups."""
        one = await find(self.desk, id)
        ((fields, notes),) = await self.desk.inventory.known([one])
        (groups,) = await self.desk.groups.of([one])
        told = {name: {"value": each.value, "at": each.at} for name, each in fields.items()}
        return {"id": str(one), "fields": told, "notes": notes, "groups": groups}

    @method(Role.VIEWER)
    async def history(self, caller: Caller, id: str, limit: int = PAGE) -> Wire:
        """List what changed, newest first."""
        changes = await self.desk.inventory.history(await find(self.desk, id), page_size(limit))
        return [{"field": each.field, "value": each.value, "at": each.at} for each in changes]

    @method(Role.VIEWER)
    async def page(
        self, caller: Caller, fields: list[str], where: str = "", after: str = "", limit: int = PAGE
    ) -> Wire:
        """
        Read some fields of those that ``where`` means, a page at a time.

        ``after`` in the answer goes on from there; "" says that it was all. A
        page ends early when there is much in it.
        """
        left, weight, rows = page_size(limit), 0, list[records.Record]()
        while left > 0:
            some = min(left, LOOK_AT_ONCE)
            page = await self.desk.targets.page(where, self._now(), after, some)
            ones = [record.enrollment for record in page.records]
            known = await self.desk.inventory.known(ones, fields or ("OSVersion",))
            for record, (told, notes) in zip(page.records, known, strict=True):
                rows.append(_row(record, told, fields) | {"notes": notes})
                weight += weigh(rows[-1], MOST_VALUES)
                if weight >= MOST_VALUES:
                    last = record is page.records[-1]
                    return {"devices": rows, "after": page.after if last else rows[-1]["id"]}
            left, after = left - page.looked_at, page.after
            if not after:
                break
        return {"devices": rows, "after": after}

    @method(Role.OPERATOR, audit=("id",))
    async def note(self, caller: Caller, id: str, notes: dict[str, str]) -> Wire:
        """Set free fields of a device: name, owner, location, notes; "" takes one away."""
        for name, text in notes.items():
            if name not in NOTES:
                raise BadRequest(f"there is no field {name[:40]!a}; there are {', '.join(NOTES)}")
            if not isinstance(text, str) or len(text) > LONGEST_NOTE:
                raise BadRequest(f"{name} is expected to be a text of at most {LONGEST_NOTE}")
        await self.desk.inventory.note(await find(self.desk, id, caller), notes)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.desk.now() / 1000, UTC)


def _row(record: EnrollmentRecord, told: dict[str, Known], fields: list[str]) -> records.Record:
    facts = {name: record.facts[name] for name in fields if name in record.facts}
    return {
        "id": str(record.enrollment),
        "serial": record.facts.get("SerialNumber", ""),
        "last_seen": record.last_seen,
        "fields": facts | {name: each.value for name, each in told.items() if name in fields},
    }


class Pins(Subject):
    """PINs that devices were locked or erased with."""

    name = "pins"

    @method(Role.ADMIN, audit=("id",))
    async def show(self, caller: Caller, id: str) -> Wire:
        """Read the PINs that a device was sent, newest first."""
        pins = await self.desk.inventory.pins(await find(self.desk, id, caller))
        return [
            {"uuid": each.uuid, "request_type": each.request_type, "pin": each.pin, "at": each.at}
            for each in pins
        ]


class TargetsSubject(Subject):
    """Which enrollments are meant."""

    name = "targets"

    @method(Role.VIEWER)
    async def page(
        self,
        caller: Caller,
        where: str = "",
        group: str = "",
        after: str = "",
        limit: int = PAGE,
    ) -> Wire:
        """
        Look at up to ``limit`` enrollments, give the ids of those that are meant.

        Enabled devices, of a group if one is named, for which ``where`` holds;
        see docs/targets.md. ``after`` in the answer goes on from there.
        """
        now = datetime.fromtimestamp(self.desk.now() / 1000, UTC)
        page = await self.desk.targets.page(where, now, after, page_size(limit), group)
        ids = [str(record.enrollment) for record in page.records]
        return {"ids": ids, "after": page.after, "looked_at": page.looked_at}


class Groups(Subject):
    """Groups of enrollments."""

    name = "groups"

    @method(Role.VIEWER)
    async def show(self, caller: Caller) -> Wire:
        """Say which groups there are, and how many are in each."""
        return await self.desk.groups.sizes()

    @method(Role.VIEWER)
    async def members(self, caller: Caller, name: str, cursor: int = 0, limit: int = PAGE) -> Wire:
        """
        Read about ``limit`` members; ``cursor`` in the answer goes on, 0 says it was all.

        :raises NotHere: there is no such group.
        """
        after, ones = await self.desk.groups.members(_group(name), cursor, page_size(limit))
        if not (ones or after or cursor):
            raise NotHere(f"there is no group {name!r}")
        return {"ids": [str(one) for one in ones], "cursor": after}

    @method(Role.OPERATOR, audit=("name", "ids"))
    async def add(self, caller: Caller, name: str, ids: list[str]) -> Wire:
        """Put enrollments into a group, say how many are new in it and which are unknown."""
        return await self._change(caller, name, ids, add=True)

    @method(Role.OPERATOR, audit=("name", "ids"))
    async def remove(self, caller: Caller, name: str, ids: list[str]) -> Wire:
        """Take enrollments out of a group, say how many were in it and which are unknown."""
        return await self._change(caller, name, ids, add=False)

    async def _change(self, caller: Caller, name: str, ids: list[str], add: bool) -> Wire:
        change = self.desk.groups.add if add else self.desk.groups.remove
        records = await self.desk.fleet.find_all(ids)
        known = [record.enrollment for record in records if record is not None]
        count = await change(_group(name), known)
        unknown = [id for id, record in zip(ids, records, strict=True) if record is None]
        caller.on.extend([*map(str, known), *unknown])
        return {"changed": count, "unknown": unknown}


def _group(name: str) -> str:
    if not _GROUP.fullmatch(name):
        raise BadRequest("a group's name is 1 to 64 letters, digits, dots, hyphens, underscores")
    return name
