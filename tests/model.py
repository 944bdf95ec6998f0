"""
The rules on state in plain Python, for the property test only.

Small and slow on purpose: lists are sorted whenever somebody asks, nothing is
kept twice, and there is no encoding. docs/store.md says the same in words.
"""

import attrs

from mdmd.errors import BadMessage, Conflict, NotEnrolled, NotHere, WrongIdentity
from mdmd.interfaces.fleet import Enqueued
from mdmd.store import keys

FINAL = {"Acknowledged", "Error", "CommandFormatError", "Malformed"}


@attrs.define
class Line:
    """A command in a queue."""

    uuid: str
    priority: int
    sequence: int
    expires: int | None
    max_attempts: int | None
    state: str = "waiting"
    attempts: int = 0
    last_sent: int | None = None
    not_now: int = 0
    first_not_now: int | None = None
    last_not_now: int | None = None
    put_off: bool = False  # NotNow'd, and no other report ended that
    not_before: int | None = None
    later: bool = False  # until then

    @property
    def parked(self) -> bool:
        return self.state in ("expired", "stuck")

    @property
    def place(self) -> tuple[int, int]:
        return self.priority, self.sequence


@attrs.define
class Enrollment:
    """One enrollment."""

    type: str
    enabled: bool = False
    tally: int = 0
    generation: int = 1
    has_token: bool = False
    dropped: bool = False
    seen: int | None = None
    pushes: int = 0
    first_push: int = 0
    next_push: int | None = None
    last: str | None = None  # the command that ended last
    step: int = 0  # the last one that this generation was sent
    kinds: dict[str, str] = attrs.field(factory=dict)  # the newest command of each
    lines: list[Line] = attrs.field(factory=list)
    results: list[tuple[str, str, int]] = attrs.field(factory=list)  # uuid, status, attempts
    heard: list[tuple[str, bytes] | None] = attrs.field(factory=list)  # beside results

    def ordered(self) -> list[Line]:
        return sorted(self.lines, key=lambda line: (line.parked, line.place))


@attrs.define
class Model:
    """All of it."""

    first_delay: int
    repeat: list[int]
    results_kept: int
    now: int = 0
    sequence: int = 0
    one: dict[str, Enrollment] = attrs.field(factory=dict)  # by id
    pins: dict[str, str] = attrs.field(factory=dict)  # device to fingerprint
    owners: dict[str, str] = attrs.field(factory=dict)  # fingerprint to device
    migrated: set[str] = attrs.field(factory=set)
    bootstrap: dict[str, bytes] = attrs.field(factory=dict)
    bodies: dict[str, bytes] = attrs.field(factory=dict)
    places: dict[str, tuple[int, int]] = attrs.field(factory=dict)  # of commands for later
    events: list[tuple[str, str, str]] = attrs.field(factory=list)  # topic, id, status

    # -- who is it ---------------------------------------------------------------

    def _device(self, who: str) -> str:
        return who.partition(":")[0]

    def _check(self, who: str, fingerprint: str) -> None:
        device = self._device(who)
        pinned = self.pins.get(device)
        if not fingerprint or pinned == fingerprint:
            return
        if pinned is not None:
            raise WrongIdentity
        if device not in self.migrated:
            raise NotEnrolled
        if self.owners.get(fingerprint, device) != device:
            raise WrongIdentity
        self._pin(device, fingerprint)

    def _pin(self, device: str, fingerprint: str) -> None:
        self.pins[device], self.owners[fingerprint] = fingerprint, device
        self.migrated.discard(device)

    def _family(self, device: str) -> list[str]:
        channels = sorted(who for who in self.one if who.startswith(f"{device}:"))
        return ([device] if device in self.one else []) + channels

    def _said(self, topic: str, who: str, fingerprint: str) -> None:
        self.events.append((topic if fingerprint else "mdmd.Migrated", who, ""))

    def _touch(self, who: str) -> None:
        device = self._device(who)
        if device in self.one:
            self.one[device].seen = self.now

    # -- check-ins ----------------------------------------------------------------

    def authenticate(self, who: str, fingerprint: str, kind: str) -> None:
        if ":" in who:
            raise BadMessage
        if fingerprint and self.owners.get(fingerprint, who) != who:
            raise WrongIdentity
        if not fingerprint or self.pins.get(who) != fingerprint:
            self.bootstrap.pop(who, None)
        new = who not in self.one
        device = self.one.setdefault(who, Enrollment(kind, generation=0))
        generation = device.generation + 1
        self._said("mdm.Authenticate", who, fingerprint)
        for each in self._family(who):
            it = self.one[each]
            it.enabled, it.tally, it.generation = False, 0, generation
            it.dropped, it.first_push, it.next_push, it.step = False, 0, None, 0
            it.has_token = False
            for line in sorted(it.lines, key=self._score):
                self._end(it, line, "superseded")
            if it.lines:
                self.events.append(("mdmd.Superseded", each, ""))
            it.lines = []
        device.type, device.seen = kind, self.now
        if new:
            assert device.generation == 1
        if fingerprint:
            self._pin(who, fingerprint)
        else:
            self.migrated.add(who)
            self.pins.pop(who, None)

    def _score(self, line: Line) -> tuple[int, int, int, bytes]:
        """The order in the store: that of places, but of those for later that of their times."""
        if line.later:
            return 3, line.not_before or 0, 0, keys.pack(line.uuid)
        return 2 if line.parked else 1 if line.put_off else 0, *line.place, b""

    def token_update(self, who: str, fingerprint: str, kind: str) -> int:
        self._check(who, fingerprint)
        device = self._device(who)
        if not fingerprint and device not in self.pins:
            self.migrated.add(device)
        if ":" in who:
            generation = self.one[device].generation if device in self.one else 1
            it = self.one.setdefault(who, Enrollment(kind))
            it.generation = generation
        else:
            it = self.one.setdefault(who, Enrollment(kind))
        it.type, it.enabled, it.seen = kind, True, self.now
        it.has_token, it.dropped, it.pushes = True, False, 0
        it.tally += 1
        due = self.now + self.first_delay
        if it.tally == 1:
            it.first_push = due
        if self._pending(it):
            it.next_push = due
        self._said("mdm.TokenUpdate", who, fingerprint)
        return it.tally

    def check_out(self, who: str, fingerprint: str) -> None:
        self._check(who, fingerprint)
        for each in [who] if ":" in who else self._family(who):
            if each in self.one and self.one[each].enabled:
                self.one[each].enabled, self.one[each].next_push = False, None
        if who in self.one:
            self.one[who].seen = self.now
        self._said("mdm.CheckOut", who, fingerprint)

    def set_bootstrap(self, who: str, fingerprint: str, token: bytes) -> None:
        self._check(who, fingerprint)
        self.bootstrap.pop(self._device(who), None)
        if token:
            self.bootstrap[self._device(who)] = token
        self._touch(who)
        self._said("mdm.SetBootstrapToken", who, fingerprint)

    def get_bootstrap(self, who: str, fingerprint: str) -> bytes | None:
        self._check(who, fingerprint)
        self._touch(who)
        self._said("mdm.GetBootstrapToken", who, fingerprint)
        return self.bootstrap.get(self._device(who))

    # -- connect ------------------------------------------------------------------

    def connect(
        self, who: str, fingerprint: str, status: str, uuid: str | None, raw: bytes
    ) -> str | None:
        self._check(who, fingerprint)
        if who not in self.one:
            raise NotEnrolled
        it, nth = self.one[who], 1
        line = next((line for line in it.lines if line.uuid == uuid), None)
        if status == "Idle":
            self._connected(who, status)
        elif line and status == "NotNow":
            if line.state != "notnow":
                line.not_now += 1
                line.first_not_now = line.first_not_now or self.now
                line.last_not_now = self.now
                if not (line.parked or line.later):
                    line.state, line.put_off = "notnow", True
                self._connected(who, status)
            nth = line.not_now
        elif line:
            it.lines.remove(line)
            self._end(it, line, status, (line.uuid, raw))
            it.last = line.uuid
            self._connected(who, status)
        elif (uuid, raw) not in it.heard:
            self._remember(it, uuid or "", "orphan", 0, (uuid or "", raw))
            self._connected(who, status)
        it.seen, it.pushes = self.now, 0
        soonest = self._ripen(it)
        command = self._offer(who, it, skip=status == "NotNow")
        it.next_push = None
        if it.enabled and (command or any(not (e.parked or e.later) for e in it.lines)):
            delay = self.repeat[min(1 if command else nth, len(self.repeat)) - 1]
            it.next_push = min(self.now + delay, soonest or self.now + delay)
        elif it.enabled:
            it.next_push = soonest
        return command

    def _ripen(self, it: Enrollment) -> int | None:
        """Let in what is due; say when the next one is."""
        for line in it.lines:
            line.later = line.later and (line.not_before or 0) > self.now
        return min((line.not_before or 0 for line in it.lines if line.later), default=None)

    def _connected(self, who: str, status: str) -> None:
        self.events.append(("mdm.Connect", who, status))

    def _offer(self, who: str, it: Enrollment, skip: bool) -> str | None:
        while True:
            able = [
                line
                for line in it.lines
                if not (line.parked or line.later) and not (skip and line.put_off)
            ]
            if not able:
                return None
            line = min(able, key=lambda line: line.place)
            if line.expires is not None and line.expires <= self.now:
                self._park(who, it, line, "expired")
            elif line.max_attempts and line.attempts - line.not_now >= line.max_attempts:
                self._park(who, it, line, "stuck")
            else:
                line.attempts, line.last_sent, line.state = line.attempts + 1, self.now, "sent"
                return line.uuid

    def _park(self, who: str, it: Enrollment, line: Line, state: str) -> None:
        line.state = state
        self.events.append(("mdmd.Parked", who, state))
        parked = sorted((line for line in it.lines if line.parked), key=lambda line: line.place)
        if len(parked) > self.results_kept:
            it.lines.remove(parked[0])
            self._end(it, parked[0], parked[0].state)

    def _end(
        self, it: Enrollment, line: Line, status: str, heard: tuple[str, bytes] | None = None
    ) -> None:
        self._remember(it, line.uuid, status, line.attempts, heard)

    def _remember(
        self,
        it: Enrollment,
        uuid: str,
        status: str,
        attempts: int,
        heard: tuple[str, bytes] | None,
    ) -> None:
        it.results = [(uuid, status, attempts), *it.results][: self.results_kept]
        it.heard = [heard, *it.heard][: self.results_kept]

    def _pending(self, it: Enrollment) -> bool:
        return any(not line.parked for line in it.lines)

    # -- operators ------------------------------------------------------------------

    def live(self) -> set[str]:
        """The commands whose body has to be there."""
        return {line.uuid for it in self.one.values() for line in it.lines}

    def enqueue(
        self,
        uuid: str,
        body: bytes,
        targets: list[str],
        priority: int,
        expires: int | None,
        max_attempts: int | None,
        wake: bool,
        not_before: int | None = None,
        kind: str = "",
        replaces: bool = False,
        step: tuple[int, int] | None = None,
    ) -> list[Enqueued]:
        if uuid in self.live() and self.bodies[uuid] != body:
            raise Conflict
        # What the first enqueue of a command said of its end holds for all.
        known = next(
            (line for it in self.one.values() for line in it.lines if line.uuid == uuid), None
        )
        if known:
            expires, max_attempts = known.expires, known.max_attempts
            not_before = known.not_before
        self.bodies[uuid] = body
        self.sequence += 1
        place, later = (int(priority), self.sequence), (not_before or 0) > self.now
        if later:
            # All who wait for its time have the place of the first.
            place = self.places[uuid] = self.places[uuid] if known else place
        outcomes = [
            self._enqueue(
                Line(*(uuid, *place, expires, max_attempts), not_before=not_before, later=later),
                *(who, wake, kind, replaces, step),
            )
            for who in targets
        ]
        queued = (Enqueued.QUEUED, Enqueued.LATER, Enqueued.DISABLED)
        if any(each in queued for each in outcomes):
            self.events.append(("mdmd.Enqueued", targets[0] if len(targets) == 1 else "", ""))
        return outcomes

    def _enqueue(
        self,
        line: Line,
        who: str,
        wake: bool,
        kind: str,
        replaces: bool,
        step: tuple[int, int] | None,
    ) -> Enqueued:
        it = self.one.get(who)
        if it is None:
            return Enqueued.UNKNOWN
        if it.last == line.uuid or any(each.uuid == line.uuid for each in it.lines):
            return Enqueued.DUPLICATE
        if step and (it.generation != step[0] or it.step >= step[1]):
            return Enqueued.DUPLICATE
        if kind and not self._make_way(it, kind, replaces):
            return Enqueued.PENDING
        it.lines.append(line)
        it.step = step[1] if step else it.step
        if kind:
            it.kinds[kind] = line.uuid
        if not it.enabled:
            return Enqueued.DISABLED
        if line.later:
            assert line.not_before is not None
            it.next_push = min(line.not_before, it.next_push or line.not_before)
            return Enqueued.LATER
        if wake:
            it.next_push = max(self.now, it.first_push)
        elif it.next_push is None:
            it.next_push = self.now + self.repeat[0]
        return Enqueued.QUEUED

    def _make_way(self, it: Enrollment, kind: str, replaces: bool) -> bool:
        old = next((each for each in it.lines if each.uuid == it.kinds.get(kind)), None)
        if old is None or old.parked:
            return True
        if replaces and old.state != "sent":
            it.lines.remove(old)
            self._end(it, old, "superseded")
        return replaces

    def cancel(self, who: str, uuid: str) -> None:
        it = self.one.get(who)
        line = next((line for line in it.lines if line.uuid == uuid), None) if it else None
        if it is None or line is None:
            raise NotHere
        self._take(who, it, line)

    def clear(self, who: str) -> int:
        it = self.one.get(who)
        lines = sorted(it.lines, key=self._score) if it else []
        for line in lines:
            assert it is not None
            self._take(who, it, line)
        return len(lines)

    def _take(self, who: str, it: Enrollment, line: Line) -> None:
        it.lines.remove(line)
        self._end(it, line, "cancelled")
        if not self._pending(it):
            it.next_push = None
        self.events.append(("mdmd.Cancelled", who, ""))

    # -- push -----------------------------------------------------------------------

    def due(self, until: int) -> list[tuple[str, int]]:
        """Claim whatever is due; each with the number of its pushes."""
        claimed = []
        for who, it in self.one.items():
            if it.next_push is None or it.next_push > self.now:
                continue
            reachable = it.enabled and it.has_token and not it.dropped
            if reachable:
                self._set_aside(who, it)
            if reachable and self._pending(it):
                it.next_push = until
                claimed.append((who, it.pushes))
            else:
                it.next_push = None
        return sorted(claimed)

    def _set_aside(self, who: str, it: Enrollment) -> None:
        """What has expired before the device came for it is no work."""
        while able := [line for line in it.lines if not (line.parked or line.later)]:
            line = min(able, key=lambda line: line.place)
            if line.expires is None or line.expires > self.now:
                return
            self._park(who, it, line, "expired")

    def pushed(
        self, who: str, until: int, next_push: int | None, delivered: bool, drop: bool, same: bool
    ) -> None:
        it = self.one[who]
        if it.next_push == until:
            it.pushes += delivered
            early = next_push is not None and it.first_push > self.now
            it.next_push = min(next_push, it.first_push) if early else next_push
        if drop and same:
            it.dropped, it.next_push = True, None
