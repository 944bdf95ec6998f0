"""The way through a whole server that an export takes, in steps from which it can go on."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import attrs

from mdmd.cli.lines import Record
from mdmd.ops.wire import MOVED_AT_ONCE

Step = tuple[list[Record], str | None]  # where to go on after it; None: not from here


class Calls(Protocol):
    """A daemon, as the operator's program sees it."""

    async def call(self, name: str, /, **arguments: Any) -> Any:
        """Make one call."""


@attrs.define
class Place:
    """
    How far an export is.

    :ivar stage: how many stages are done.
    :ivar after: where to go on in the one that is not.
    :ivar told: commands that are written; others may wait for them too.
    :ivar targets: webhooks that have dead letters.
    :ivar whole: everything up to here is written; one can go on from here.
    """

    stage: int = 0
    after: str = ""
    counts: dict[str, int] = attrs.field(factory=dict)
    told: set[str] = attrs.field(factory=set)
    targets: list[str] = attrs.field(factory=list)
    whole: bool = attrs.field(default=True, eq=False)

    def to_json(self) -> dict[str, Any]:
        """Write it as plain data."""
        found = attrs.asdict(self)
        found.pop("whole")
        return {**found, "told": sorted(self.told)}

    @classmethod
    def of_json(cls, found: dict[str, Any]) -> "Place":
        """Undo :meth:`to_json`."""
        return cls(**{**found, "told": set(found["told"])})


async def walk(remote: Calls, place: Place) -> AsyncIterator[list[Record]]:
    """Give everything that is left, some records at a time; ``place`` is kept up to date."""
    for number, stage in enumerate(_STAGES):
        if number < place.stage:
            continue
        async for records, after in stage(remote, place):
            for each in records:
                place.counts[each["kind"]] = place.counts.get(each["kind"], 0) + 1
            place.whole = after is not None
            if after:
                place.after = after
            yield records
        place.stage, place.after, place.whole = number + 1, "", True
        yield []


async def _pages(remote: Calls, after: str, name: str, **more: Any) -> AsyncIterator[Step]:
    while True:
        page = await remote.call(name, after=after, limit=MOVED_AT_ONCE, **more)
        after = page["next"]
        yield page["records"], after
        if not after:
            return


async def _push_certificates(remote: Calls, place: Place) -> AsyncIterator[Step]:
    yield await remote.call("moving.push_certificates"), ""


def _certificates(remote: Calls, place: Place) -> AsyncIterator[Step]:
    return _pages(remote, place.after, "moving.certificates")


async def _loose(remote: Calls, place: Place) -> AsyncIterator[Step]:
    """Pins, challenges and links: few, and in no order of their own, so at once."""
    found: dict[tuple[str, ...], Record] = {}
    targets: set[str] = set()
    cursor = "0"
    while cursor:
        page = await remote.call("moving.loose", cursor=cursor)
        cursor = page["next"]
        for each in page["records"]:
            if each["kind"] == "dead_letters":
                targets.add(each["target"])
            else:
                found[each["kind"], each.get("fingerprint", ""), each.get("digest", "")] = each
    place.targets = sorted(targets)
    yield [found[name] for name in sorted(found)], ""


async def _devices(remote: Calls, place: Place) -> AsyncIterator[Step]:
    """Devices, before each the commands that wait for it, and behind it its results."""
    async for devices, after in _pages(remote, place.after, "moving.devices"):
        for device in devices:
            new = [uuid for uuid in _waiting(device) if uuid not in place.told]
            for at in range(0, len(new), MOVED_AT_ONCE):
                some = new[at : at + MOVED_AT_ONCE]
                commands = await remote.call("moving.commands", uuids=some)
                place.told.update(each["uuid"] for each in commands)
                yield commands, None
            _forget_ended(device, place.told)
        with_results = [id for device in devices for id in _take_results(device)]
        yield devices, None
        async for step in _results(remote, with_results):
            yield step
        yield [], after


def _take_results(device: Record) -> list[str]:
    """Name the enrollments of a device that have results; their number is for us only."""
    return [
        f"{device['id']}:{channel}" if channel else device["id"]
        for channel, parts in device["channels"].items()
        if parts.pop("results", 0)
    ]


async def _results(remote: Calls, ids: list[str]) -> AsyncIterator[Step]:
    for id in ids:
        start, more = 0, True
        while more:
            page = await remote.call("moving.results", id=id, start=start)
            start = page["next"]
            more = bool(start)
            yield page["records"], None


def _waiting(device: Record) -> list[str]:
    queues = [
        each.get(name, []) for each in device["channels"].values() for name in ("queue", "ended")
    ]
    return list(dict.fromkeys(line[0] for queue in queues for line in queue))


def _forget_ended(device: Record, told: set[str]) -> None:
    """Take out what ended between the reading of the device and that of its commands."""
    for each in device["channels"].values():
        for name in ("queue", "ended"):
            if name in each:
                each[name] = [line for line in each[name] if line[0] in told]


async def _groups(remote: Calls, place: Place) -> AsyncIterator[Step]:
    yield await remote.call("moving.groups"), ""


async def _letters(remote: Calls, place: Place) -> AsyncIterator[Step]:
    for target in place.targets:
        async for records, _ in _pages(remote, "", "moving.dead_letters", target=target):
            yield records, None


async def _counts(remote: Calls, place: Place) -> AsyncIterator[Step]:
    yield [await remote.call("moving.counts")], ""


_STAGES: tuple[Callable[[Calls, Place], AsyncIterator[Step]], ...] = (
    *(_push_certificates, _certificates, _loose, _devices, _groups, _letters, _counts),
)
