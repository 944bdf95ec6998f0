"""A simulated device's part in declarative management: it asks for what it lacks, and reports."""

import json
from collections.abc import Awaitable
from typing import Any, Protocol

from mdmd.errors import BadMessage

_KINDS = {
    "Activations": "activation",
    "Assets": "asset",
    "Configurations": "configuration",
    "Management": "management",
}


class CheckIn(Protocol):
    """``Device.check_in``."""

    def __call__(self, message_type: str, **keys: object) -> Awaitable[bytes]:
        """Send a check-in, return what was answered."""


async def synchronize(check_in: CheckIn) -> dict[str, Any]:
    """
    Ask for the set of declarations and each one in it, then report on them.

    :return: the declarations by identifier.
    :raises BadMessage: what came is not what the protocol says.
    """
    _json(await _ask(check_in, "tokens"))
    items = _json(await _ask(check_in, "declaration-items"))
    held: dict[str, Any] = {}
    listed = items.get("Declarations", {})
    for section, kind in _KINDS.items():
        for item in listed.get(section, []):
            identifier = str(item["Identifier"])
            held[identifier] = _json(await _ask(check_in, f"declaration/{kind}/{identifier}"))
    report = json.dumps(_status(listed)).encode()
    await check_in("DeclarativeManagement", Endpoint="status", Data=report)
    return held


async def _ask(check_in: CheckIn, endpoint: str) -> bytes:
    return await check_in("DeclarativeManagement", Endpoint=endpoint)


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise BadMessage("declarative management was answered with something else than JSON")
    return value


def _status(listed: dict[str, Any]) -> dict[str, object]:
    states = {
        section.lower(): [
            {
                "active": True,
                "identifier": item["Identifier"],
                "server-token": item["ServerToken"],
                "valid": "valid",
            }
            for item in listed.get(section, [])
        ]
        for section in _KINDS
    }
    return {"Errors": [], "StatusItems": {"management": {"declarations": states}}}
