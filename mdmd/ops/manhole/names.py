"""What an operator finds in the manhole: the fleet and the daemon, as things with names."""

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from twisted.internet.task import deferLater

from mdmd.errors import BadMessage, BadRequest, Conflict, NotHere
from mdmd.mdm import plist
from mdmd.ops.columns import clean
from mdmd.ops.desk import Desk
from mdmd.ops.manhole.interpreter import Answer
from mdmd.ops.manhole.look import Rows, Tree, age, moment

Call = Callable[..., Coroutine[Any, Any, Any]]

_PAGE = 200
_NAMESAKES = 5  # of those that share a name, so many are told
_TELL_AFTER = 1.0  # seconds; what takes longer says how far it is
_PROTOCOL = {"UDID", "EnrollmentID", "CommandUUID", "Status", "UserID", "EnrollmentUserID"}


def said_of_push(told: dict[str, str]) -> str:
    """Say what became of a push: its apns-id, or why there is none."""
    names = ("push_result", "push_error", "command_error")
    return next((told[name] for name in names if name in told), "not pushed")


class Sent:
    """
    A command that was sent to one device. ``await _.answer`` waits for what it says.

    :ivar uuid: the CommandUUID.
    """

    def __init__(self, device: "Device", reply: dict[str, Any]) -> None:
        self._device = device
        self.uuid: str = reply["command_uuid"]
        self.request_type: str = reply["request_type"]
        (told,) = reply["status"].values()
        if "command_error" in told:
            raise BadRequest(told["command_error"])
        self.push = told.get("push_result") or told.get("push_error") or "not pushed"

    @property
    def answer(self) -> Answer:
        """Wait until the device has answered; Ctrl-C ends the waiting, not the command."""
        return Answer(self._wait, "the answer")

    async def _wait(self) -> "Result":
        while True:
            for each in await self._device.results:
                if each.uuid == self.uuid:
                    found: Result = each
                    return found
            await deferLater(self._device.desk.clock, 0.5)

    def __repr__(self) -> str:
        return f"<{self.request_type} {self.uuid}: {clean(self.push)}; _.answer waits for it>"


class Result:
    """
    What a device answered to one command. ``_.answer`` is the whole of it.

    :ivar status: Acknowledged, Error, …
    :ivar error: the device's words.
    """

    def __init__(self, device: "Device", record: dict[str, Any]) -> None:
        self._device = device
        self.uuid: str = record["uuid"]
        self.request_type: str = record["request_type"]
        self.status: str = record["status"]
        self.error: str = record["error"]
        self.received_at: int = record["received_at"]
        self._secret = record["secret"]

    @property
    def answer(self) -> Answer:
        """Read the report; if a secret can be in it, this is in the audit."""
        return Answer(self._read, "the report")

    async def _read(self) -> Tree:
        name = "results.secret" if self._secret else "results.get"
        found = await self._device.call(name, id=self._device.id, uuid=self.uuid)
        raw = found["raw"]  # it was taken once, however large
        report = plist.loads(raw, limit=len(raw)) if raw else {}
        return Tree({key: value for key, value in report.items() if key not in _PROTOCOL})

    def __repr__(self) -> str:
        words = [self.request_type or "orphan", self.status, clean(self.error)]
        return f"<{' '.join(filter(None, words))}, {age(self.received_at)}; _.answer has it all>"


class Device:
    """
    One enrollment: a device, or a user channel on it.

    ``d.queue``, ``d.results``, ``d.inventory``, ``d.record``; ``await d.send("DeviceInformation",
    Queries=["OSVersion"])``, ``await d.push()``, ``await d.cancel(uuid)``,
    ``await d.clear()``. What is known of it is in ``d.facts`` and as attributes:
    ``d.serial``, ``d.name``, ``d.os``, ``d.enabled``, ``d.last_seen``…
    """

    def __init__(self, desk: Desk, call: Call, record: dict[str, Any]) -> None:
        self.desk = desk
        self.call = call
        self._record = record
        self.id: str = record["id"]
        self.facts: dict[str, str] = record["facts"]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_record"][name]
        except KeyError:
            raise AttributeError(f"a device has no {name!r}; dir() lists what it has") from None

    def __dir__(self) -> list[str]:
        own = [each for each in super().__dir__() if each not in ("call", "desk")]
        return [*own, *self._record]

    @property
    def serial(self) -> str:
        """The serial number."""
        return self.facts.get("SerialNumber", "")

    @property
    def name(self) -> str:
        """What its user calls it."""
        return self.facts.get("DeviceName", "")

    @property
    def os(self) -> str:
        """The version of its system."""
        return self.facts.get("OSVersion", "")

    @property
    def queue(self) -> Answer:
        """What waits for it, in delivery order."""
        return Answer(self._queue, "the queue")

    @property
    def results(self) -> Answer:
        """What it answered last, newest first."""
        return Answer(self._results, "the results")

    @property
    def inventory(self) -> Answer:
        """What it told of itself, each field with its time."""
        return Answer(self._inventory, "the inventory")

    @property
    def record(self) -> Answer:
        """All that is known of it, read anew."""
        return Answer(self._read, "the record")

    def send(self, request_type: str, /, **keys: Any) -> Answer:
        """Queue a command and push: ``await d.send("RestartDevice")``."""
        return Answer(lambda: self._send(request_type, keys), f"sends {request_type}")

    def push(self) -> Answer:
        """Wake it up."""
        return Answer(self._push, "a push")

    def cancel(self, uuid: str) -> Answer:
        """Take one command out of its queue."""
        return Answer(lambda: self.call("queue.cancel", id=self.id, uuid=uuid), "a cancellation")

    def clear(self) -> Answer:
        """Take all commands out of its queue, say how many."""
        return Answer(lambda: self.call("queue.clear", id=self.id), "clears the queue")

    async def _queue(self) -> Rows:
        found = await self.call("queue.show", id=self.id)
        return Rows(found, _QUEUE, "nothing waits for it")

    async def _results(self) -> Rows:
        found = await self.call("results.show", id=self.id)
        return Rows([Result(self, each) for each in found], _RESULTS, "no answer yet")

    async def _inventory(self) -> Rows:
        told = await self.call("inventory.get", id=self.id)
        found = [{"field": name, **told["fields"][name]} for name in sorted(told["fields"])]
        return Rows(found, _INVENTORY, "it told nothing yet; d.send(...) asks")

    async def _read(self) -> Tree:
        self._record = await self.call("enrollments.get", id=self.id)
        self.facts = self._record["facts"]
        return Tree(self._record)

    async def _send(self, request_type: str, keys: dict[str, Any]) -> Sent:
        reply = await self.call(
            "commands.send", ids=[self.id], request_type=request_type, keys=keys
        )
        return Sent(self, reply)

    async def _push(self) -> str:
        reply = await self.call("push.send", ids=[self.id])
        told = reply["status"][self.id]
        return clean(said_of_push(told))

    def _state(self) -> str:
        if self._record["enabled"]:
            return "enrolled"
        return "left" if self._record["tally"] else "not enrolled yet"

    def __repr__(self) -> str:
        words = [
            self.id,
            self.serial,
            f'"{self.name}"' if self.name else "",
            self.facts.get("ModelName") or self.facts.get("Model", ""),
            self.os,
        ]
        waits = f", {self._record['pending']} waiting" if self._record["pending"] else ""
        seen = age(self._record["last_seen"])
        return f"<{clean('  '.join(filter(None, words)))}: {self._state()}, seen {seen}{waits}>"


_DEVICES: dict[str, Callable[[Any], object]] = {
    "ID": lambda d: d.id,
    "SERIAL": lambda d: d.serial,
    "NAME": lambda d: d.name,
    "MODEL": lambda d: d.facts.get("ModelName") or d.facts.get("Model", ""),
    "OS": lambda d: d.os,
    "STATE": lambda d: d._state(),
    "SEEN": lambda d: age(d.last_seen),
    "QUEUE": lambda d: d.pending or "",
}
_QUEUE: dict[str, Callable[[Any], object]] = {
    "UUID": lambda c: c["uuid"],
    "REQUESTTYPE": lambda c: c["request_type"],
    "STATE": lambda c: c["state"],
    "QUEUED": lambda c: age(c["queued_at"]),
    "SENT": lambda c: age(c["last_sent"]),
    "TIMES": lambda c: c["attempts"],
}
_INVENTORY: dict[str, Callable[[Any], object]] = {
    "FIELD": lambda each: each["field"],
    "VALUE": lambda each: each["value"],
    "TOLD": lambda each: age(each["at"]),
}
_RESULTS: dict[str, Callable[[Any], object]] = {
    "RECEIVED": lambda r: moment(r.received_at),
    "REQUESTTYPE": lambda r: r.request_type or "orphan",
    "STATUS": lambda r: r.status,
    "ERROR": lambda r: r.error,
    "UUID": lambda r: r.uuid,
}


class DeviceAnswer(Answer):
    """A device that has to be looked up first; its attributes are answers, too."""

    def __getattr__(self, name: str) -> "Later":
        if name.startswith("_"):
            raise AttributeError(name)
        return Later(self, name)

    def __dir__(self) -> list[str]:
        return [name for name in dir(Device) if not name.startswith("_")]


class Later(Answer):
    """An attribute, or a call, of a device that has to be looked up first."""

    def __init__(self, device: Answer, name: str) -> None:
        super().__init__(self._get, name)
        self._device = device
        self._name = name

    def __call__(self, *args: Any, **keys: Any) -> Answer:
        """Call the device's method once it is there."""

        async def call() -> Any:
            return await getattr(await self._device, self._name)(*args, **keys)

        return Answer(call, self._name)

    async def _get(self) -> Any:
        value = getattr(await self._device, self._name)
        return await value if isinstance(value, Answer) else value


class Devices(Answer):
    """
    The fleet. ``devices`` alone lists the first ones; ``devices.page(after, limit)`` goes on.

    ``async for d in devices: …`` goes through all of them, a page at a time.
    """

    def __init__(self, desk: Desk, call: Call, progress: Callable[[str], None]) -> None:
        super().__init__(lambda: self._page("", 100), "devices")
        self._progress = progress
        self._desk = desk
        self._call = call

    def page(self, after: str = "", limit: int = 100) -> Answer:
        """List those after an id."""
        return Answer(lambda: self._page(after, limit), "devices")

    async def _page(self, after: str, limit: int) -> Rows:
        found = await self._call("enrollments.page", after=after, limit=limit)
        return Rows([self._device(each) for each in found], _DEVICES, "nobody is enrolled")

    def _device(self, record: dict[str, Any]) -> Device:
        return Device(self._desk, self._call, record)

    async def __aiter__(self) -> AsyncIterator[Device]:
        after = ""
        while True:
            found = await self._page(after, _PAGE)
            for each in found:
                yield each
            if len(found) < _PAGE:
                return
            after = found[-1].id

    def one(self, text: str) -> DeviceAnswer:
        """Find one by serial number, enrollment id or name."""
        return DeviceAnswer(lambda: self._one(text), f"the device {text}")

    async def _one(self, text: str) -> Device:
        with contextlib.suppress(BadMessage):  # a name may be no id
            id = await self._call("enrollments.find", text=text)
            if id is not None:
                return self._device(await self._call("enrollments.get", id=id))
        ids = await self._named(text)
        if not ids:
            raise NotHere(f"no enrollment id, serial number or name is {text[:80]!r}")
        if len(ids) > 1:
            more = "" if len(ids) <= _NAMESAKES else " …"
            raise Conflict(
                f"several have this name, which one? {', '.join(ids[:_NAMESAKES])}{more}"
            )
        return self._device(await self._call("enrollments.get", id=ids[0]))

    async def _named(self, name: str) -> list[str]:
        """
        Look through the whole fleet: a name may be anybody's, and several may have it.

        A page at a time, so that others have their turn.
        """
        found: list[str] = []
        after, looked_at, more = "", 0, True
        said = self._desk.clock.seconds()
        try:
            while more and len(found) <= _NAMESAKES:
                page = await self._call("enrollments.named", name=name, after=after)
                after, more = page["after"], bool(page["after"])
                found += page["ids"]
                looked_at += page["looked_at"]
                if self._desk.clock.seconds() - said >= _TELL_AFTER:
                    said = self._desk.clock.seconds()
                    self._progress(f"looking for the name, at {looked_at:,} enrollments …")
        finally:
            self._progress("")
        return found
