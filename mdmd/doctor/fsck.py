"""
Read the whole store and see whether it holds together: ``mdmctl fsck``.

The rules are docs/store.md's. Each enrollment is read in one atomic step, so a
working daemon does not disturb; sums over many keys (references, counts by
topic) are only judged when nothing changed meanwhile.

Nothing is changed.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from mdmd.doctor.finding import Finding, Grade
from mdmd.doctor.kinds import OF_DEVICE, wrong_kinds
from mdmd.doctor.redis import Client
from mdmd.doctor.snapshot import Snapshot, snapshots
from mdmd.doctor.ties import broken_ties
from mdmd.errors import BadMessage, StoreCorrupt
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.pki.sealing import Sealer
from mdmd.store import keys
from mdmd.store.payload import Payloads

_BATCH = 500  # keys in one question

Progress = Callable[[int, int], object]  # how many enrollments of how many


@attrs.define
class Checked:
    """What was read, and what is wrong."""

    enrollments: int = 0
    enabled: int = 0
    commands: int = 0  # bodies
    queued: int = 0  # places in queues
    results: int = 0
    keys: int = 0
    findings: list[Finding] = attrs.field(factory=list)

    @property
    def broken(self) -> list[Finding]:
        """What breaks a rule."""
        return [each for each in self.findings if each.grade is Grade.FAILED]

    def fail(self, subject: str, text: str) -> None:
        """Note that a rule is broken."""
        self.findings.append(Finding(Grade.FAILED, subject, text))

    def warn(self, subject: str, text: str) -> None:
        """Note what is odd, but breaks no rule."""
        self.findings.append(Finding(Grade.WARNING, subject, text))


def check(
    client: Client, progress: Progress = lambda *_: None, sealer: Sealer | None = None
) -> Checked:
    """
    Read everything once, bounded in memory by the number of enrollments and commands.

    :param sealer: opens what is sealed; None: whether it opens is not looked at.
    :raises StoreUnavailable: the store does not answer.
    """
    return _Check(client, progress, sealer).run()


class _Check:
    """One run."""

    def __init__(self, client: Client, progress: Progress, sealer: Sealer | None) -> None:
        self._client = client
        self._progress = progress
        self._sealer = sealer
        self._found = Checked()
        self._refs: Counter[bytes] = Counter()  # by packed CommandUUID
        self._topics: Counter[bytes] = Counter()
        self._ids: set[str] = set()
        self._sequence = 0

    def run(self) -> Checked:
        for key, kind, right in wrong_kinds(self._client):
            name = _name(key)
            self._found.fail(name, f"is a {kind.decode()}, and has to be a {right.decode()}")
        if self._found.broken:
            self._found.warn("the rest", "was not looked at: keys of a wrong type come first")
            return self._found
        before = self._state()
        self._sequence = self._last_given()
        if self._sequence < 0:
            self._found.fail("mdmd:sequence", "is no number")
        self._ids = set(self._readable(self._all_ids()))
        for one in snapshots(self._client, sorted(self._ids)):
            self._enrollment(one)
            self._found.enrollments += 1
            if self._found.enrollments % _BATCH == 0:
                self._progress(self._found.enrollments, len(self._ids))
        self._ties()
        self._work_sets()
        self._all_keys()
        if self._state() == before:
            self._sums()
        else:
            self._found.warn("sums", "the store is at work: references and counts were not judged")
        return self._found

    def _state(self) -> object:
        """Say something that no change leaves as it is: the newest event and the sequence."""
        newest = self._client.ask("XREVRANGE", keys.EVENTS, "+", "-", "COUNT", 1)
        return newest and newest[0][0], self._client.ask("GET", keys.SEQUENCE)

    def _all_ids(self) -> Iterator[bytes]:
        start = 0
        while part := self._client.ask("ZRANGE", keys.IDS, start, start + 5000 - 1):
            yield from part
            start += len(part)

    def _last_given(self) -> int:
        return _number(self._client.ask("GET", keys.SEQUENCE))

    def _readable(self, ids: Iterator[bytes]) -> Iterator[str]:
        for each in ids:
            try:
                yield str(EnrollmentID.parse(each.decode()))
            except (BadMessage, UnicodeDecodeError):
                name = each.decode(errors="replace")
                self._found.fail(name, "is in mdmd:ids, and can't be an enrollment's id")

    def _ties(self) -> None:
        """What one key says of another's."""
        ids = sorted(self._ids)
        for start in range(0, len(ids), _BATCH):
            part = ids[start : start + _BATCH]
            for tie in broken_ties(self._client, part, self._sealer):
                (self._found.warn if tie.odd else self._found.fail)(tie.subject, tie.text)

    # -- one enrollment ------------------------------------------------------------------

    def _enrollment(self, one: Snapshot) -> None:
        name = str(one.enrollment)
        if not one.record:
            self._found.fail(name, "is in mdmd:ids, but has no record")
            return
        self._found.queued += len(one.queue)
        self._found.results += one.results
        if one.bad_results:
            self._found.fail(name, f"{one.bad_results} results can't be read")
        if one.enabled:
            self._found.enabled += 1
            self._topics[one.record.get(b"topic", b"")] += 1
            if not one.has_push:
                self._found.fail(name, "is enabled, but there is no push token")
        if one.enrollment.channel and str(EnrollmentID(one.enrollment.device)) not in self._ids:
            self._found.fail(name, "is a channel of a device that does not exist")
        if one.enrollment.channel and not one.is_channel:
            self._found.fail(name, "is not among its device's channels")
        self._queue(name, one)
        self._sent(name, one)

    def _queue(self, name: str, one: Snapshot) -> None:
        for packed, _ in one.queue:
            self._refs[packed] += 1
        self._refs.update(one.ended)
        if one.ended:
            self._found.warn(
                name, f"{len(one.ended)} commands of a past generation are not yet results"
            )
        for place, number in Counter(self._places(name, one)).items():
            if number > 1:
                self._found.fail(name, f"{number} commands have the same place {place}")
        last = one.record.get(b"last")
        if last and any(packed == last for packed, _ in one.queue):
            self._found.fail(name, f"{keys.unpack(last)} is queued although its report was final")

    def _places(self, name: str, one: Snapshot) -> Iterator[int]:
        """Give the places in a queue; those of commands for later are kept with the command."""
        later = [packed for packed, score in one.queue if score >= keys.LATER]
        asked = [("HMGET", keys.COMMANDS + packed, "not_before", "place") for packed in later]
        kept = dict(zip(later, self._client.ask_all(asked) if asked else (), strict=True))
        for packed, score in one.queue:
            told = [_number(each) for each in kept.get(packed, (None, None))]
            place = keys.place_in_queue(score, told[0] or None, told[1] or None)
            if not (0 < score < 2 * keys.LATER and place and self._was_given(place)):
                self._found.fail(name, f"a command has the impossible place {score:.0f}")
            yield place

    def _was_given(self, place: int) -> bool:
        """Say whether a place's sequence number has been given out, by now."""
        number = place % keys.PRIORITY_STEP
        if number > self._sequence:
            self._sequence = self._last_given()
        return number <= self._sequence

    def _sent(self, name: str, one: Snapshot) -> None:
        queued = {packed for packed, _ in one.queue}
        for packed, text in one.sent.items():
            fields = text.split()
            if packed not in queued:
                self._found.fail(name, f"deliveries of {keys.unpack(packed)}, which is not queued")
            if len(fields) != 6 or not fields[0].isdigit() or not fields[2].isdigit():
                self._found.fail(name, f"the deliveries of {keys.unpack(packed)} can't be read")

    # -- the work sets -------------------------------------------------------------------

    def _work_sets(self) -> None:
        """Whoever has work is in its shard; whoever is there exists."""
        due: set[str] = set()
        for number, shard in enumerate(keys.WORK):
            for member in self._client.ask("ZRANGE", shard, 0, -1):
                try:
                    whose = keys.read_member(member)
                except UnicodeDecodeError:
                    text = f"work shard {number} has a member that can't be read"
                    self._found.fail(member.decode(errors="replace"), text)
                    continue
                due.add(str(whose))
                if not self._exists(str(whose)):
                    self._found.fail(str(whose), "has work, but does not exist")
                if keys.work(whose) != shard:
                    self._found.fail(str(whose), f"is in work shard {number}, which is not its own")
        idle = [each for each in sorted(self._ids) if each not in due]
        # Read again: what was queued since the first look is in the work set by now.
        for one in snapshots(self._client, idle):
            if one.enabled and one.has_push and one.has_work and not one.in_work_set:
                self._not_due(one)

    def _not_due(self, one: Snapshot) -> None:
        name, result = str(one.enrollment), one.record.get(b"push_result", b"").decode()
        if one.record.get(b"dropped"):
            self._found.warn(name, f"has commands, but its token is dead: {result}")
        elif result and not _is_apns_id(result):
            self._found.warn(name, f"has commands, but pushing was given up: {result}")
        else:
            self._found.fail(name, "has commands, but is not in the work set: nobody would wake it")

    # -- every key -----------------------------------------------------------------------

    def _all_keys(self) -> None:
        cursor: Any = b"0"
        while True:
            cursor, part = self._client.ask("SCAN", cursor, "MATCH", "mdmd:*", "COUNT", _BATCH)
            self._found.keys += len(part)
            self._keys(part)
            if cursor == b"0":
                return

    def _keys(self, part: Sequence[bytes]) -> None:
        pins = [each for each in part if each.startswith(_PIN)]
        serials = [each for each in part if each.startswith(keys.SERIALS)]
        self._owners(pins, "a certificate is pinned to")
        self._owners(serials, "a serial number belongs to")
        for each in part:
            if each.startswith(_DEVICE):
                self._device_key(each)
        self._channels([each for each in part if each.endswith(_CHANNELS)])

    def _channels(self, found: Sequence[bytes]) -> None:
        for key, channels in zip(
            found, self._client.ask_all([("HKEYS", each) for each in found]), strict=True
        ):
            device = key[len(_DEVICE) : -len(_CHANNELS)].decode(errors="replace")
            for channel in channels:
                name = channel.decode(errors="replace")
                if not self._exists(f"{device}:{name}"):
                    self._found.fail(device, f"has a channel {name}, which does not exist")

    def _device_key(self, key: bytes) -> None:
        device, _, rest = key[len(_DEVICE) :].decode(errors="replace").partition("}:")
        kind, _, channel = rest.partition(":")
        if kind not in OF_DEVICE:
            self._found.warn(device, f"has a key of an unknown kind: {kind[:40]}")
        name = f"{device}:{channel}" if channel else device
        if kind == "e" and not self._exists(name):
            self._found.fail(name, "has a record, but is not in mdmd:ids")

    def _owners(self, found: Sequence[bytes], what: str) -> None:
        owners = self._client.ask("MGET", *found) if found else []
        for owner in filter(None, owners):
            name = owner.decode(errors="replace")
            if not self._exists(name):
                self._found.fail(name, f"{what} it, but it does not exist")

    def _exists(self, name: str) -> bool:
        """Say whether there is such an enrollment, by now."""
        if name not in self._ids and self._client.ask("ZSCORE", keys.IDS, name) is not None:
            self._ids.add(name)
        return name in self._ids

    # -- sums ------------------------------------------------------------------------------

    def _sums(self) -> None:
        self._bodies()
        counted = dict(_pairs(self._client.ask("HGETALL", keys.TOPICS)))
        for topic in {*counted, *self._topics}:
            stored, seen = _number(counted.get(topic)), self._topics[topic]
            if stored != seen:
                text = f"{seen} enrollments are enabled, {stored} are counted"
                self._found.fail(topic.decode(errors="replace") or "no topic", text)

    def _bodies(self) -> None:
        """Every queued command has a body, and is counted as often as it is queued."""
        waiting = list(self._refs)
        for start in range(0, len(waiting), _BATCH):
            part = waiting[start : start + _BATCH]
            asked = [("HMGET", keys.COMMANDS + packed, "refs", "body") for packed in part]
            for packed, (refs, body) in zip(part, self._client.ask_all(asked), strict=True):
                self._body(packed, refs, body)
        cursor: Any = b"0"
        while True:
            cursor, part = self._client.ask(
                "SCAN", cursor, "MATCH", keys.COMMANDS + b"*", "COUNT", _BATCH
            )
            self._found.commands += len(part)
            for key in part:
                packed = key[len(keys.COMMANDS) :]
                if packed not in self._refs:
                    self._found.fail(keys.unpack(packed), "is kept, but no queue has it")
            if cursor == b"0":
                return

    def _body(self, packed: bytes, refs: bytes | None, body: bytes | None) -> None:
        name, queued = keys.unpack(packed), self._refs[packed]
        if body is None:
            self._found.fail(name, f"is queued {queued} times, but its body is gone")
        elif _number(refs) != queued:
            self._found.fail(name, f"is queued {queued} times, and counted {_number(refs)} times")
        if body is not None and self._sealer is not None:
            try:
                Payloads(self._sealer).unseal(body, keys.COMMANDS + packed)
            except StoreCorrupt as error:
                self._found.fail(name, f"its body can't be read: {error}")


_DEVICE = b"mdmd:{"
_PIN = b"mdmd:pin:"
_CHANNELS = b"}:channels"


def _is_apns_id(text: str) -> bool:
    return len(text) == 36 and text.count("-") == 4


def _name(key: bytes) -> str:
    if key.startswith(keys.COMMANDS):
        return f"mdmd:command:{keys.unpack(key[len(keys.COMMANDS) :])}"
    return key.decode(errors="replace")


def _number(text: bytes | None) -> int:
    """Read a number; nothing is 0, and what is no number -1."""
    return int(text) if text and text.removeprefix(b"-").isdigit() else -1 if text else 0


def _pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)
