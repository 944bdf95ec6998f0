"""A desk with a small fleet on it, and the same served by a process of its own."""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor

from mdmd.apns.status import LineStatus
from mdmd.errors import NotHere
from mdmd.flow.enqueue import Enqueuer
from mdmd.flow.pins import Pins
from mdmd.flow.send import Sender
from mdmd.flow.targets import Targets
from mdmd.interfaces.audit import BEGUN, AuditEntry
from mdmd.interfaces.fleet import (
    Enqueued,
    EnrollmentRecord,
    Event,
    Named,
    Policy,
    QueuedCommand,
    Result,
)
from mdmd.interfaces.inventory import Change, Known, Pin
from mdmd.interfaces.push import Decision, PushOutcome
from mdmd.mdm import plist
from mdmd.mdm.command import Command
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.ops.desk import Desk
from mdmd.ops.operators import Operators
from mdmd.ops.refusals import Refusals
from mdmd.ops.tail import Tail

MAC, PHONE = "MAC-1", "PHONE-1"
SERIALS = {"C02XL0THJGH5": MAC, "F2LX10ABCD": PHONE}
NOW = 1_800_000_000_000


def record(id: str, **more: object) -> EnrollmentRecord:
    """An enrolled device."""
    serial = next(key for key, value in SERIALS.items() if value == id)
    return EnrollmentRecord(
        enrollment=EnrollmentID(id),
        enabled=True,
        tally=1,
        generation=1,
        topic="com.apple.mgmt.t",
        facts={"SerialNumber": serial, "DeviceName": f"{id} of somebody", "OSVersion": "26.1"},
        enrolled_at=NOW,
        last_seen=NOW,
        awaiting_configuration=False,
        pin="ab" * 32,
        pending=0,
        has_token=True,
        has_unlock_token=True,
        has_bootstrap_token=False,
        next_push=None,
        last_push=None,
        last_push_result="",
        **more,
    )


class FakeFleet:
    """Two devices that answer whatever they are sent, but the phone not at once."""

    def __init__(self) -> None:
        self.records = {id: record(id) for id in (MAC, PHONE)}
        self.queues: dict[str, list[QueuedCommand]] = {id: [] for id in self.records}
        self.answers: dict[str, list[Result]] = {id: [] for id in self.records}
        self.stream: list[Event] = []
        self.reads = 0
        self.pages = 0
        self.sent: list[tuple[Command, list[str], Policy]] = []

    def happen(self, topic: str, enrollment: str, **facts: str) -> Event:
        """Make an event."""
        event = Event(f"{NOW + len(self.stream)}-0", topic, enrollment, facts, b"<plist/>")
        self.stream.append(event)
        return event

    async def enqueue(
        self, command: Command, targets: Sequence[EnrollmentID], policy: Policy
    ) -> list[Enqueued]:
        self.sent.append((command, [str(each) for each in targets], policy))
        for one in targets if policy.instead_of else ():
            await self.cancel(one, policy.instead_of)
        return [self._enqueue(command, str(each)) for each in targets]

    def _enqueue(self, command: Command, id: str) -> Enqueued:
        if id not in self.records:
            return Enqueued.UNKNOWN
        if command.request_type == "Restart":
            line = QueuedCommand(
                command.uuid,
                command.request_type,
                4,
                len(self.queues[id]),
                "waiting",
                NOW,
                0,
                None,
                0,
                None,
                None,
                None,
                None,
            )
            self.queues[id].append(line)
            return Enqueued.QUEUED
        status = "Error" if command.request_type == "InstallProfile" else "Acknowledged"
        report = plist.dumps(
            {"UDID": id, "Status": status, "QueryResponses": {"OSVersion": "26.1"}}
        )
        answer = Result(
            command.uuid,
            command.request_type,
            status,
            "no room" if status == "Error" else "",
            NOW,
            NOW,
            1,
            report,
        )
        self.answers[id].insert(0, answer)
        self.happen("mdm.Connect", id, status=status, command_uuid=command.uuid)
        return Enqueued.QUEUED

    async def enrollment(self, enrollment: EnrollmentID) -> EnrollmentRecord | None:
        return self.records.get(str(enrollment))

    async def enrollments(self, after: str = "", limit: int = 100) -> list[EnrollmentRecord]:
        self.pages += 1
        ids = sorted(id for id in self.records if id > after)
        return [self.records[id] for id in ids[:limit]]

    async def find(self, text: str) -> EnrollmentID | None:
        id = SERIALS.get(text, text)
        return EnrollmentID(id) if id in self.records else None

    async def describe(self, ones: Sequence[EnrollmentID]) -> list[EnrollmentRecord | None]:
        return [self.records.get(str(one)) for one in ones]

    async def find_all(self, texts: Sequence[str]) -> list[EnrollmentRecord | None]:
        return [self.records.get(SERIALS.get(text, text)) for text in texts]

    async def command(self, uuid: str) -> Command | None:
        return next((command for command, _, _ in self.sent if command.uuid == uuid), None)

    async def named(self, name: str, after: str = "", limit: int = 500) -> Named:
        """A page has one enrollment, whatever the limit: whoever asks has to go on."""
        page = (await self.enrollments(after, 1))[:1]
        names = {each.enrollment: each.facts["DeviceName"] for each in page}
        found = tuple(one for one, each in names.items() if each.casefold() == name.casefold())
        last = str(page[-1].enrollment) if page else ""
        return Named(found, last, len(page))

    async def totals(self) -> tuple[int, int]:
        return len(self.records), sum(map(bool, self.queues.values()))

    async def complete(self, begun: str, limit: int = 100) -> list[str]:
        return [each for each in [*self.records, *SERIALS] if each.startswith(begun)][:limit]

    async def queue(self, enrollment: EnrollmentID) -> list[QueuedCommand]:
        return self.queues[str(enrollment)]

    async def cancel(self, enrollment: EnrollmentID, uuid: str) -> QueuedCommand:
        for each in self.queues[str(enrollment)]:
            if each.uuid == uuid:
                self.queues[str(enrollment)].remove(each)
                return each
        raise NotHere("not in the queue")

    async def clear(self, enrollment: EnrollmentID) -> int:
        count = len(self.queues[str(enrollment)])
        self.queues[str(enrollment)].clear()
        return count

    async def results(self, enrollment: EnrollmentID, limit: int = 20) -> list[Result]:
        return self.answers[str(enrollment)][:limit]

    async def events(
        self, after: str = "0", limit: int = 100, messages: bool = True
    ) -> list[Event]:
        def order(id: str) -> tuple[int, int]:
            first, _, second = id.partition("-")
            return int(first), int(second or 0)

        self.reads += 1
        found = [each for each in self.stream if order(each.id) > order(after)][:limit]
        return found if messages else [attrs.evolve(each, raw=b"") for each in found]

    async def newest_event(self) -> str:
        return self.stream[-1].id if self.stream else "0"


class FakeInventory:
    """Knows the battery of each, and keeps what it is given."""

    def __init__(self) -> None:
        self.notes: dict[str, dict[str, str]] = {}
        self.kept: list[Pin] = []

    async def known(
        self, ones: Sequence[EnrollmentID], fields: Sequence[str] = ()
    ) -> list[tuple[dict[str, Known], dict[str, str]]]:
        return [({"BatteryLevel": Known(0.5, NOW)}, self.notes.get(str(one), {})) for one in ones]

    async def history(self, enrollment: EnrollmentID, limit: int = 100) -> list[Change]:
        return [Change("BatteryLevel", 0.5, NOW)]

    async def note(self, enrollment: EnrollmentID, notes: Mapping[str, str]) -> None:
        self.notes.setdefault(str(enrollment), {}).update(notes)

    async def keep_pin(self, enrollment: EnrollmentID, pin: Pin) -> bool:
        self.kept.append(pin)
        return True

    async def forget_pin(self, enrollment: EnrollmentID, uuid: str) -> None:
        self.kept = [each for each in self.kept if each.uuid != uuid]

    async def pins(self, enrollment: EnrollmentID) -> list[Pin]:
        return self.kept

    async def unlock_token(self, enrollment: EnrollmentID) -> bytes | None:
        return b"token" if str(enrollment) == PHONE else None


class FakeGroups:
    """Groups in memory."""

    def __init__(self) -> None:
        self.groups: dict[str, set[str]] = {}

    async def add(self, name: str, ones: Sequence[EnrollmentID]) -> int:
        before = len(self.groups.setdefault(name, set()))
        self.groups[name] |= {str(one) for one in ones}
        return len(self.groups[name]) - before

    async def remove(self, name: str, ones: Sequence[EnrollmentID]) -> int:
        before = len(self.groups.get(name, ()))
        self.groups[name] = self.groups.get(name, set()) - {str(one) for one in ones}
        return before - len(self.groups[name])

    async def sizes(self) -> dict[str, int]:
        return {name: len(ids) for name, ids in self.groups.items()}

    async def members(
        self, name: str, cursor: int = 0, limit: int = 1000
    ) -> tuple[int, list[EnrollmentID]]:
        return 0, [EnrollmentID(id) for id in sorted(self.groups.get(name, ()))]

    async def of(self, ones: Sequence[EnrollmentID]) -> list[list[str]]:
        return [[n for n, ids in self.groups.items() if str(one) in ids] for one in ones]


class FakeWaker:
    """Reaches everybody; the Mac connects at once."""

    def __init__(self, fleet: FakeFleet) -> None:
        self._fleet = fleet

    def nudge(self) -> None:
        pass

    async def push(self, targets: Sequence[EnrollmentID]) -> list[PushOutcome]:
        if EnrollmentID(MAC) in targets:
            self._fleet.happen("mdm.Connect", MAC, status="Idle")
        return [PushOutcome(Decision.DELIVERED, 200, "", f"apns-{each}") for each in targets]


class FakeCertificates:
    """One topic, and what is installed."""

    def __init__(self) -> None:
        self.held = {"com.apple.mgmt.t": (3, NOW // 1000)}

    async def put(self, topic: str, certificate: bytes, key: bytes, not_after: int) -> int:
        version = self.held.get(topic, (0, 0))[0] + 1
        self.held[topic] = (version, not_after)
        return version

    async def versions(self) -> dict[str, tuple[int, int]]:
        return self.held

    async def enrolled(self) -> dict[str, int]:
        return {"com.apple.mgmt.t": 2}


class FakeAudit:
    """Keeps entries in memory."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    async def write(self, entry: AuditEntry) -> str:
        self.entries.append(attrs.evolve(entry, id=f"{NOW}-{len(self.entries)}"))
        return self.entries[-1].id

    async def end(self, begun: AuditEntry, ended: AuditEntry) -> None:
        at = [each.id for each in self.entries].index(begun.id)
        assert self.entries[at].outcome == BEGUN
        self.entries[at] = attrs.evolve(ended, id=begun.id)

    async def read(self, before: str = "+", limit: int = 100) -> list[AuditEntry]:
        older = [each for each in self.entries if before == "+" or each.id < before]
        return list(reversed(older))[:limit]


def make_desk(operators: Path, fleet: FakeFleet | None = None, clock: Any = reactor) -> Desk:
    """A desk over a fleet that needs no store."""
    fleet = fleet or FakeFleet()
    waker = FakeWaker(fleet)
    inventory, groups = FakeInventory(), FakeGroups()
    audit = FakeAudit()
    enqueuer = Enqueuer(fleet, waker, Pins(inventory, lambda: NOW))
    return Desk(
        fleet=fleet,
        waker=waker,
        enqueuer=enqueuer,
        certificates=FakeCertificates(),
        operators=Operators(operators),
        audit=audit,
        tail=Tail(fleet, clock),
        clock=clock,
        wall=clock.seconds,
        sender=Sender(fleet, inventory, enqueuer),
        targets=Targets(fleet, inventory, groups),
        inventory=inventory,
        groups=groups,
        version="1.2.3",
        push_status=push_status,
        refusals=Refusals(audit, clock),
    )


async def push_status() -> dict[str, object]:
    """How pushes are: one topic in trouble."""
    line = LineStatus(
        topic="com.apple.mgmt.t",
        version=3,
        not_after=NOW // 1000,
        connections=1,
        draining=1,
        in_flight=5,
        waiting=7,
        delivered=100,
        refused=2,
        reconnects=1,
        last_error="TooManyRequests",
        last_error_at=NOW // 1000,
        alarm="BadCertificate",
    )
    work = {"waiting": 12, "due": 3, "next_due": NOW, "outcomes": []}
    waker = {"flying": 5, "claimed": 100, "store_failures": 0}
    return {**work, **waker, "topics": [attrs.asdict(line)]}


def write_operators(path: Path, **roles: dict[str, object]) -> None:
    """Make an operators file."""
    path.write_text(json.dumps({"operators": roles}))


def serve(folder: Path) -> None:
    """Serve a desk on a folder's socket until stdin closes; say when it is ready."""
    from twisted.internet import stdio
    from twisted.internet.endpoints import UNIXServerEndpoint
    from twisted.internet.protocol import Protocol
    from twisted.logger import globalLogBeginner, textFileLogObserver

    from mdmd.ops.manhole.admission import Admission
    from mdmd.ops.manhole.ssh import make_manhole
    from mdmd.ops.pb import make_pb
    from mdmd.ops.perspective import Perspective

    desk = make_desk(folder / "operators.json")
    perspective = Perspective(desk)
    doors = make_pb(perspective, reactor)
    UNIXServerEndpoint(reactor, str(folder / "mdmd.sock"), mode=0o660).listen(doors.unix)
    ssh_port = 0
    if (folder / "host_key").exists():
        admission = Admission(desk.operators, folder / "authorized_keys")
        manhole = make_manhole(
            perspective, admission, folder / "host_key", folder / "history", reactor
        )
        ssh_port = reactor.listenTCP(0, manhole, interface="127.0.0.1").getHost().port
    logs = (folder / "log").open("w")
    globalLogBeginner.beginLoggingTo([textFileLogObserver(logs)], redirectStandardIO=False)

    class UntilClosed(Protocol):
        def connectionLost(self, reason: object = None) -> None:
            reactor.stop()

    stdio.StandardIO(UntilClosed())
    reactor.callWhenRunning(lambda: print(f"ready {ssh_port}", flush=True))
    reactor.run()


def scratch() -> Path:
    """A short folder: a unix socket's path may have 107 characters at most."""
    return Path(tempfile.mkdtemp(prefix="mdmd-", dir="/tmp"))


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
