"""
Which enrollments an operator means: by ``--where``, by group, or all.

Fleets are large, so targets come in pages: whoever sends goes on from where the
last page ended, and nothing is ever held for the whole fleet.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

import attrs

from mdmd.errors import BadRequest, NotHere
from mdmd.flow.where import Condition, Field, Fields, parse
from mdmd.interfaces.fleet import EnrollmentRecord, IFleet
from mdmd.interfaces.inventory import IGroups, IInventory, Known
from mdmd.mdm.catalogue.facts import platform_of

# The inventory's field behind each of ours; those of the record need none.
_BEHIND = {
    "os": "OSVersion",
    "build": "BuildVersion",
    "name": "DeviceName",
    "supervised": "IsSupervised",
    "app": "InstalledApplicationList",
    "profile": "ProfileList",
}
_NOTES = ("owner", "location", "notes")
_OURS = frozenset(
    {
        "id", "type", "platform", "os", "build", "model", "serial", "name", "group", "enabled",
        "supervised", "awaiting", "enrolled", "last_seen", "pending", "topic", *_NOTES,
    }
)  # fmt: skip
LOOK_AT_ONCE = 25  # enrollments; then devices have their turn
_CURSOR = re.compile("[0-9]{1,20}", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@attrs.frozen
class Page:
    """Some of the targets. ``after`` goes on from here; "" when that was all."""

    records: tuple[EnrollmentRecord, ...]
    after: str
    looked_at: int


class Targets:
    """Find enrollments by what is known of them."""

    def __init__(self, fleet: IFleet, inventory: IInventory, groups: IGroups) -> None:
        self._fleet = fleet
        self._inventory = inventory
        self._groups = groups

    async def page(
        self, where: str, now: datetime, after: str = "", limit: int = 500, group: str = ""
    ) -> Page:
        """
        Look at up to ``limit`` enrollments and give those that are meant.

        Devices that are enabled, unless the expression asks for ``type``, ``id``
        or ``enabled`` itself; of a group its user channels too. ``where`` ""
        means all of them.

        :param after: a place that the last page gave.
        :raises BadRequest: the expression has a mistake, or no page gave this place.
        :raises NotHere: nobody is in such a group.
        """
        condition = parse(where) if where else None
        if group:
            cursor, ones = await self._groups.members(group, _cursor(after), limit)
            if not (ones or cursor or after):
                raise NotHere(f"there is no group {group[:80]!r}, or nobody is in it")
            found = [record for record in await self._fleet.describe(ones) if record is not None]
            go_on = str(cursor) if cursor else ""
        else:
            found = await self._fleet.enrollments(after, limit)
            go_on = str(found[-1].enrollment) if len(found) == limit else ""
        meant = [record for record in found if _is_usual(record, condition, bool(group))]
        if condition is not None:
            meant = await self._matching(meant, condition, now)
        return Page(tuple(meant), go_on, len(found))

    async def _matching(
        self, records: list[EnrollmentRecord], condition: Condition, now: datetime
    ) -> list[EnrollmentRecord]:
        ones, names = [record.enrollment for record in records], condition.names()
        wanted = sorted({_BEHIND.get(name, name) for name in names} - _OURS) or ["OSVersion"]
        groups = await self._groups.of(ones) if "group" in names else [[]] * len(ones)
        found = []
        for at in range(0, len(ones), LOOK_AT_ONCE):
            some = slice(at, at + LOOK_AT_ONCE)
            known = await self._inventory.known(ones[some], wanted)
            for record, inside, each in zip(records[some], groups[some], known, strict=True):
                if condition.matches(fields_of(record, *each, inside), now):
                    found.append(record)
        return found


def _cursor(place: str) -> int:
    """Read a place in a group, "" for its beginning; the store counts with 64 bits."""
    if not _CURSOR.fullmatch(place or "0") or int(place or "0") >> 64:
        raise BadRequest("after is no place in this group")
    return int(place or "0")


def _is_usual(record: EnrollmentRecord, condition: Condition | None, named: bool) -> bool:
    """Leave out who left, and user channels unless they are named by a group or an expression."""
    asked = set() if condition is None else condition.names()
    if record.enrollment.channel and not named and not asked & {"type", "id"}:
        return False
    return record.enabled or "enabled" in asked


def fields_of(
    record: EnrollmentRecord,
    inventory: Mapping[str, Known],
    notes: Mapping[str, str],
    groups: list[str],
) -> Fields:
    """Put all that is known of an enrollment under the names that expressions use."""
    fields: dict[str, Field] = dict(record.facts)
    fields.update({name: _field(known.value) for name, known in inventory.items()})
    facts = record.facts
    own_name = notes.get("name") or fields.get("DeviceName")
    supervised = fields.get("IsSupervised")
    fields.update(
        id=str(record.enrollment),
        type=record.enrollment.type.value,
        platform=platform_of(facts),
        os=_one(fields.get("OSVersion")),
        build=_one(fields.get("BuildVersion")),
        model=[facts[each] for each in ("ModelName", "Model", "ProductName") if each in facts],
        serial=facts.get("SerialNumber"),
        name=_one(own_name),
        group=groups,
        enabled=record.enabled,
        supervised={"true": True, "false": False}.get(str(supervised).casefold()),
        awaiting=record.awaiting_configuration,
        enrolled=_moment(record.enrolled_at),
        last_seen=_moment(record.last_seen),
        pending=record.pending,
        topic=record.topic,
        app=fields.get("InstalledApplicationList"),
        profile=fields.get("ProfileList"),
        **{name: notes.get(name) for name in _NOTES},
    )
    return fields


def _field(value: object) -> Field:
    """Make a value of the inventory comparable; what has no order is not known."""
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            return value
    if isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    if isinstance(value, dict):
        return [str(name) for name in value]
    return None


def _texts(element: object) -> list[str]:
    """Say by which texts an element of a list is known: an app by identifier and name."""
    if isinstance(element, dict):
        names = ("Identifier", "Name", "PayloadIdentifier", "PayloadDisplayName", "UserName",
                 "CommonName", "ProductKey", "Version", "UUID")  # fmt: skip
        return [str(element[name]) for name in names if isinstance(element.get(name), str)]
    return [str(element)] if isinstance(element, str | int | float) else []


def _one(value: Field) -> Field:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _moment(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)
