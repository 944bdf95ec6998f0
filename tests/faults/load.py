"""
Devices and an integrator that keep books on what they were promised.

Each device has a thread of its own. It has commands queued for itself, one
number after the other, and connects for them; every session is a new TLS
connection. What is written down: what the server acknowledged. Whatever broke
in the middle is open, and is said again until it is not.
"""

import http.client
import random
import threading
import time
from collections.abc import Callable

import attrs

from tests.daemonhelp import RunningDaemon

UDID = "FA17ED00-0000-5AC1-BDB2-{:012d}"
_PAUSE = 0.05  # seconds before something is said again
_REST = 0.01  # seconds between two sessions
_NEWEST = 900  # results that are compared one by one
_PATIENCE = 60.0  # seconds until a server that does not answer counts as a loss
_URGENT = 7  # each so manyth command is of those that go first
_NOT_NOW = 0.15  # how often a device is busy

Broken = (OSError, http.client.HTTPException)


def urgent(number: int) -> bool:
    """Say whether a command goes before all that do not."""
    return number % _URGENT == 0


@attrs.define
class Books:
    """What one device knows of the server's promises."""

    queued: int = 0  # commands acknowledged: 1 to this number
    final: set[int] = attrs.field(factory=set)  # reports acknowledged
    open: set[int] = attrs.field(factory=set)  # reports whose answer was lost
    put_off: set[int] = attrs.field(factory=set)  # NotNow was reported
    put_off_heard: set[int] = attrs.field(factory=set)  # the same, and acknowledged
    sessions: int = 0
    broken: int = 0  # requests that broke or were turned away
    wrong: list[str] = attrs.field(factory=list)

    def given(self, number: int, busy: bool) -> None:
        """
        Judge a command that was handed out.

        :param busy: it is the answer to a NotNow: what was put off is not offered again yet.
        """
        if number in self.final:
            self.wrong.append(f"{number} was given again after its final report")
        if busy and number in self.put_off_heard:
            self.wrong.append(f"{number} was offered again to a busy device")
        left = [each for each in range(1, self.queued + 1) if each not in self.final]
        for each in sorted(left, key=lambda number: (not urgent(number), number)):
            if each == number:
                break
            if busy and each in self.put_off:
                continue
            if each not in self.open:
                self.wrong.append(f"{number} was given before {each}")
                break
            # One that was left out had been ended by a report whose answer was lost.
            self.final.add(each)
        self.open -= self.final

    def reported(self, number: int, status: str, acknowledged: bool) -> None:
        """Note a report on a command."""
        if status == "NotNow":
            self.put_off.add(number)
            if acknowledged:
                self.put_off_heard.add(number)
        elif acknowledged:
            self.final.add(number)
            self.open.discard(number)
        else:
            self.open.add(number)


class Worker:
    """One device, in its thread."""

    def __init__(
        self, daemon: RunningDaemon, number: int, chance: random.Random, push: bool
    ) -> None:
        self.books = Books()
        self.device = daemon.device(UDID.format(number), SerialNumber=f"FAULT{number:05d}")
        self.device.enroll()
        self._daemon = daemon
        self._chance = chance
        self._push = push
        self._busy = _NOT_NOW
        self._end = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def stop(self) -> None:
        """Begin no more."""
        self._end.set()

    def _work(self) -> None:
        while not self._end.is_set():
            for _ in range(self._chance.randint(0, 3)):
                if not self._end.is_set():
                    self.queue_one()
            self._session()
            self._end.wait(_REST)

    def _insist(self, what: str, act: Callable[[], bool]) -> bool:
        """Say something until it is heard; say whether it was."""
        until = time.monotonic() + _PATIENCE
        while not self._try(act):
            self.books.broken += 1
            if time.monotonic() > until:
                self.books.wrong.append(f"{what}: no answer in {_PATIENCE:.0f} s")
                self._end.set()
                return False
            self._end.wait(_PAUSE)
        return True

    def _try(self, act: Callable[[], bool]) -> bool:
        try:
            return act()
        except Broken:
            return False

    def queue_one(self) -> None:
        """Queue its next command."""
        number = self.books.queued + 1

        def act() -> bool:
            # A number that is there already is answered with 500 and "already": that is heard, too.
            kind = "DeviceLocation" if urgent(number) else "DeviceInformation"
            status = self._daemon.enqueue(self.device.udid, f"{number:08d}", kind, push=self._push)
            return status == 200 or (status == 500 and self._is_queued(number))

        if self._insist(f"enqueue {number}", act):
            self.books.queued = number

    def _is_queued(self, number: int) -> bool:
        status, answer = self._daemon.api("GET", f"/v1/queue/{self.device.udid}")
        if status != 200:
            return False
        return any(each["command_uuid"] == f"{number:08d}" for each in answer["commands"])

    def _session(self) -> None:
        try:
            status = "Idle"
            uuid = self._say(status, "")
            while uuid:
                self.books.given(int(uuid), busy=status == "NotNow")
                status = "NotNow" if self._chance.random() < self._busy else "Acknowledged"
                uuid = self._say(status, uuid)
            self.books.sessions += 1
        except Broken:
            self.books.broken += 1
            self._end.wait(_PAUSE)
        finally:
            self.device.hang_up()

    def _say(self, status: str, uuid: str) -> str:
        acknowledged = False
        try:
            code, following, _ = self.device.connect(status, uuid)
            acknowledged = code == 200
        finally:
            if uuid:
                self.books.reported(int(uuid), status, acknowledged)
        if not acknowledged:
            raise http.client.HTTPException(str(code))
        return following

    def drain(self) -> None:
        """Connect until nothing is left, then see that nothing is missing."""
        self._end.clear()
        self._busy = 0.0
        self._insist("the last session", self._last_session)
        # Nothing is left to give: what was reported without an answer was heard, or it is lost;
        # the results will tell.
        self.books.final |= self.books.open
        missing = set(range(1, self.books.queued + 1)) - self.books.final
        if missing:
            self.books.wrong.append(f"queued and acknowledged, and never given: {sorted(missing)}")
        self._insist("results", self._results)
        self.device.hang_up()

    def _last_session(self) -> bool:
        self._session()
        # Only an empty answer to Idle says that there is no more.
        code, uuid, _ = self.device.connect()
        return code == 200 and not uuid

    def _results(self) -> bool:
        status, answer = self._daemon.api("GET", f"/v1/results/{self.device.udid}?limit=1000")
        if status != 200:
            return False
        kept = [each["command_uuid"] for each in answer["results"]]
        newest = set(sorted(self.books.final)[-_NEWEST:])
        lost = newest - set(map(int, kept))
        if lost:
            self.books.wrong.append(f"reports acknowledged, and no result: {sorted(lost)[:5]}")
        if len(kept) != len(set(kept)):
            self.books.wrong.append("a result is there twice")
        return True


class Load:
    """
    So many devices at work.

    :param seed: of the chance that decides how much each queues.
    :param push: whether the daemon is to push for each command.
    """

    def __init__(
        self, daemon: RunningDaemon, devices: int = 8, seed: int = 1, push: bool = False
    ) -> None:
        self.workers = [
            Worker(daemon, number, random.Random(seed * 1000 + number), push)
            for number in range(1, devices + 1)
        ]

    def start(self, devices: int | None = None) -> None:
        """Let them work, or so many of them; the others only wait for the end."""
        for each in self.workers[:devices]:
            each.thread.start()

    @property
    def sessions(self) -> int:
        """How many sessions went to their end so far."""
        return sum(each.books.sessions for each in self.workers)

    @property
    def final(self) -> int:
        """How many commands ended so far."""
        return sum(len(each.books.final) for each in self.workers)

    def until(self, sessions: int, seconds: float = 60.0) -> None:
        """Wait for so many more sessions."""
        wanted, end = self.sessions + sessions, time.monotonic() + seconds
        while self.sessions < wanted:
            if time.monotonic() > end or self.wrong():
                raise AssertionError(self.wrong() or f"{self.sessions} of {wanted} sessions")
            time.sleep(0.01)

    def pause(self) -> None:
        """Let all come to an end; what is queued stays."""
        for each in self.workers:
            each.stop()
        for each in self.workers:
            if each.thread.ident is not None:
                each.thread.join(90)

    def finish(self) -> None:
        """Let all come to an end, and judge."""
        self.pause()
        for each in self.workers:
            each.drain()

    def wrong(self) -> list[str]:
        """Everything that must not be."""
        return [f"{each.device.udid}: {text}" for each in self.workers for text in each.books.wrong]
