"""The names of one session, the greeting that says what is here, and help."""

import inspect
import pydoc
from collections.abc import Callable
from typing import Any

from mdmd.ops.desk import Desk
from mdmd.ops.manhole.happenings import Events, Log
from mdmd.ops.manhole.interpreter import Answer
from mdmd.ops.manhole.look import Tree
from mdmd.ops.manhole.names import Call, DeviceAnswer, Devices, said_of_push

_OVERVIEW = """\
devices                    the fleet; devices.page(after, limit), async for d in devices
d = device("C02…")         one device, by serial number, enrollment id or name
d, d.queue, d.results      what it is, what waits for it, what it answered
await d.send("DeviceInformation", Queries=["OSVersion"])      and then: await _.answer
push("C02…", "C03…")       wake devices up
events, events.tail()      what happened, what happens (Ctrl-C ends it)
stats()                    the daemon's own figures
log.level("apns", "debug") log more of one part
store, apns                the insides, for those who know them
help(d), dir(d), Tab       say more; Ctrl-D leaves; every line is in the audit
"""


class Help:
    """``help`` alone says what is here, ``help(thing)`` what a thing is and can do."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def __repr__(self) -> str:
        return _OVERVIEW.rstrip()

    def __call__(self, thing: Any = None) -> None:
        """Say what a thing is and can do."""
        if thing is None:
            self._write(_OVERVIEW)
        else:
            self._write("\n".join(_about(thing)) + "\n")


def _about(thing: Any) -> list[str]:
    kind = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    if inspect.isroutine(kind):
        return [f"{kind.__name__}{inspect.signature(kind)}", "", inspect.getdoc(kind) or ""]
    if not kind.__module__.startswith("mdmd.ops.manhole"):
        return [pydoc.plain(pydoc.render_doc(thing))]
    lines = [inspect.getdoc(kind) or "", ""]
    for name, member in inspect.getmembers(kind):
        text = (inspect.getdoc(member) or "").partition("\n")[0]
        if name.startswith("_") or not text:
            continue
        if isinstance(member, property):
            lines.append(f"  .{name:<24} {text}")
        elif inspect.isroutine(member):
            parameters = list(inspect.signature(member).parameters.values())[1:]
            lines.append(f"  .{name}({', '.join(map(str, parameters))})  {text}")
    return lines


def greeting(version: str, name: str) -> str:
    """Say hello, and what is here."""
    return f"mdmd {version}: you are in the living server, {name}.\n\n{_OVERVIEW}\n"


def make_namespace(
    desk: Desk, call: Call, write: Callable[[str], None], progress: Callable[[str], None]
) -> dict[str, Any]:
    """
    Make the names of a session.

    :param call: makes a call of :class:`mdmd.ops.perspective.Perspective` as this operator.
    :param write: prints to the session.
    :param progress: shows a line for a while; "" takes it away.
    """
    devices = Devices(desk, call, progress)

    def device(text: str) -> DeviceAnswer:
        """Find one device by serial number, enrollment id or name."""
        return devices.one(text)

    def push(*ids: str) -> Answer:
        """Wake devices up, say what became of each."""
        return Answer(lambda: _push(call, ids), "pushes")

    def stats() -> Answer:
        """Say what the daemon knows of itself."""
        return Answer(lambda: _stats(call), "figures")

    return {
        "__name__": "manhole",
        "__builtins__": __builtins__,
        "devices": devices,
        "device": device,
        "push": push,
        "events": Events(desk, call, write),
        "stats": stats,
        "log": Log(desk.set_log_level),
        "help": Help(write),
        **desk.inside,
    }


async def _stats(call: Call) -> Tree:
    return Tree(await call("status.get"))


async def _push(call: Call, ids: tuple[str, ...]) -> dict[str, str]:
    reply = await call("push.send", ids=list(ids))
    return {typed: said_of_push(each) for typed, each in reply["status"].items()}
