"""
Blueprints: what devices are sent when they enroll, as one file says it.

.. code-block:: toml

    [[blueprint]]
    name = "ipads"
    platforms = ["iOS"]        # left out: all
    enrolled = "automated"     # automated, manual or any
    limit = "15m"              # how long a device may wait in Setup Assistant

    [[blueprint.step]]
    command = "InstallProfile"
    words = ["Payload=@wifi.mobileconfig"]

The words of a step are those of ``mdmctl send``; files count from the folder
that the blueprints' file is in.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import attrs

from mdmd.errors import BadRequest
from mdmd.mdm.catalogue.build import build_keys
from mdmd.mdm.catalogue.check import check_form
from mdmd.mdm.catalogue.entry import PLATFORMS
from mdmd.mdm.catalogue.load import entry, names, nearest

ENROLLED = ("automated", "manual", "any")
_LIMIT = re.compile(r"(\d{1,6})([smh])")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@attrs.frozen
class Step:
    """One command of a blueprint."""

    request_type: str
    keys: dict[str, object] = attrs.field(repr=False, hash=False)


@attrs.frozen
class Blueprint:
    """What the devices that it is for are sent at enrollment, in order."""

    name: str
    steps: tuple[Step, ...]
    platforms: tuple[str, ...] = PLATFORMS
    enrolled: str = "any"
    limit: float = 900.0  # seconds

    def is_for(self, platform: str | None, automated: bool) -> bool:
        """Say whether a device of this kind gets it; one of no known platform only if all do."""
        kind = "automated" if automated else "manual"
        return self.enrolled in ("any", kind) and (
            platform in self.platforms or (platform is None and self.platforms == PLATFORMS)
        )


def read_blueprints(path: Path) -> tuple[Blueprint, ...]:
    """
    Read a file of blueprints, and the files that it names.

    :raises ValueError: one line for each mistake in it.
    :raises OSError: it can't be read.
    """
    try:
        raw = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    mistakes: list[str] = []
    _known(raw, {"blueprint"}, "the file", mistakes)
    found = [
        _blueprint(each, number, path.parent, mistakes)
        for number, each in _tables(raw, "blueprint", mistakes)
    ]
    if mistakes:
        raise ValueError("; ".join(f"{path}: {mistake}" for mistake in mistakes))
    return tuple(found)


def _blueprint(raw: dict[str, Any], number: int, folder: Path, mistakes: list[str]) -> Blueprint:
    name = str(raw.get("name") or number)
    where = f"blueprint {name}"
    _known(raw, {"name", "platforms", "enrolled", "limit", "step"}, where, mistakes)
    platforms = raw.get("platforms", list(PLATFORMS))
    if not isinstance(platforms, list) or not set(map(str, platforms)) <= set(PLATFORMS):
        mistakes.append(f"{where}: platforms is a list of {', '.join(PLATFORMS)}")
        platforms = []
    enrolled = raw.get("enrolled", "any")
    if enrolled not in ENROLLED:
        mistakes.append(f"{where}: enrolled is one of {', '.join(ENROLLED)}")
    limit = _LIMIT.fullmatch(str(raw.get("limit", "15m")))
    if limit is None or not int(limit[1]):
        mistakes.append(f"{where}: limit is a time such as 90s, 15m or 1h")
    steps = [
        _step(each, f"{where}, step {at}", folder, mistakes)
        for at, each in _tables(raw, "step", mistakes)
    ]
    seconds = int(limit[1]) * _SECONDS[limit[2]] if limit else 0
    return Blueprint(name, tuple(steps), tuple(platforms), str(enrolled), float(seconds))


def _step(raw: dict[str, Any], where: str, folder: Path, mistakes: list[str]) -> Step:
    _known(raw, {"command", "words"}, where, mistakes)
    request_type, words = str(raw.get("command", "")), raw.get("words", [])
    found = entry(request_type)
    if found is None:
        hint = nearest(request_type, names())
        mistakes.append(f"{where}: no command {request_type[:60]!a}{hint}")
        return Step(request_type, {})
    if request_type == "DeviceConfigured":
        mistakes.append(f"{where}: DeviceConfigured is sent by itself, after all steps")
    if not isinstance(words, list) or not all(isinstance(each, str) for each in words):
        mistakes.append(f"{where}: words is a list of key=value")
        return Step(request_type, {})
    try:
        keys = build_keys(found, words, lambda name: (folder / name).read_bytes())
    except BadRequest as error:
        mistakes += [f"{where}: {line}" for line in str(error).splitlines()]
        return Step(request_type, {})
    mistakes += [f"{where}: {fault}" for fault in check_form(request_type, keys).faults]
    return Step(request_type, keys)


def _tables(
    raw: dict[str, Any], name: str, mistakes: list[str]
) -> list[tuple[int, dict[str, Any]]]:
    found = raw.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        mistakes.append(f"[[{name}]] is expected, with two brackets")
        return []
    return list(enumerate(found, 1))


def _known(raw: dict[str, Any], keys: set[str], where: str, mistakes: list[str]) -> None:
    for key in sorted(set(raw) - keys):
        mistakes.append(f"{where}: unknown key {key[:40]!a}{nearest(key, sorted(keys))}")
