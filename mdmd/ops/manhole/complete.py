"""What Tab gives: names, attributes, device ids, RequestTypes."""

import keyword
import re
from typing import Any

from mdmd.mdm.catalogue import load
from mdmd.ops.manhole.names import Call, Device

_DOTTED = re.compile(r"((?:[A-Za-z_]\w*\.)*)([A-Za-z_]\w*)?$")
_DEVICE = re.compile(r"""\b(?:device|push|tail|one)\((?:.*,\s*)?["']([^"']*)$""")
_OF_DEVICE = re.compile(r"""\bdevice\((?:"[^"]*"|'[^']*')\)\.(\w*)$""")
_SEND = re.compile(r"""\.send\(["'](\w*)$""")
_MOST = 200


async def complete(before: str, namespace: dict[str, Any], call: Call) -> tuple[int, list[str]]:
    """
    Say what may come at the end of a line.

    :return: how many characters at the end they replace, and the candidates, sorted.
    """
    sources = ((_SEND, _request_types), (_DEVICE, _ids), (_OF_DEVICE, _of_a_device))
    for pattern, source in sources:
        match = pattern.search(before)
        if match:
            return len(match[1]), await source(match[1], call)
    dotted = _DOTTED.search(before)
    if dotted is None or _in_text(before) or before[: dotted.start()].endswith("."):
        return 0, []  # nothing that is known: what a call gives, say
    path, begun = dotted[1].rstrip("."), dotted[2] or ""
    names = _attributes(path, namespace) if path else _names(namespace)
    fitting = {each for each in names if each.startswith(begun)}
    return len(begun), sorted(each for each in fitting if begun or not each.startswith("_"))


def _in_text(before: str) -> bool:
    return before.count('"') % 2 == 1 or before.count("'") % 2 == 1


def _names(namespace: dict[str, Any]) -> list[str]:
    builtins = namespace["__builtins__"]
    known = builtins if isinstance(builtins, dict) else vars(builtins)
    return [*namespace, *known, *keyword.kwlist]


def _attributes(path: str, namespace: dict[str, Any]) -> list[str]:
    first, *rest = path.split(".")
    thing = namespace.get(first)
    for name in rest:
        # A property of somebody's class may do anything: only what is there is followed.
        thing = getattr(thing, "__dict__", {}).get(name)
    return [] if thing is None else dir(thing)


async def _request_types(begun: str, call: Call) -> list[str]:
    return [each for each in load.names() if each.startswith(begun)][:_MOST]


async def _of_a_device(begun: str, call: Call) -> list[str]:
    shown = [each for each in dir(Device) if begun or not each.startswith("_")]
    return sorted(each for each in shown if each.startswith(begun))


async def _ids(begun: str, call: Call) -> list[str]:
    found = await call("enrollments.complete", begun=begun, limit=_MOST)
    return sorted(found)
