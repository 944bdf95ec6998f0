"""Between the store's bytes and records of plain data."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mdmd.errors import BadRequest
from mdmd.pki.sealing import Sealer


def pairs(answer: Sequence[bytes]) -> dict[bytes, bytes]:
    """Make a dict of a HGETALL."""
    return dict(zip(answer[::2], answer[1::2], strict=True))


def text(value: bytes) -> str:
    """Read a text; what is none in it comes out as surrogates."""
    return value.decode("utf-8", "surrogateescape")


def to_bytes(value: str) -> bytes:
    """
    Undo :func:`text`.

    :raises AttributeError: it is none.
    """
    return value.encode("utf-8", "surrogateescape")


def maybe_text(value: bytes | None) -> str | None:
    """Read a text that may be missing."""
    return None if value is None else text(value)


def texts(answer: Sequence[bytes]) -> dict[str, str]:
    """Make a dict of texts of a HGETALL."""
    return {text(name): text(value) for name, value in pairs(answer).items()}


def of_text(record: Mapping[str, Any], name: str) -> str:
    """
    Give a text of a record.

    :raises BadRequest: it is not there, or is none.
    """
    value = record.get(name)
    if not isinstance(value, str):
        raise BadRequest(f"{name} is expected to be a text")
    return value


def of_bytes(record: Mapping[str, Any], name: str) -> bytes:
    """
    Give bytes of a record.

    :raises BadRequest: they are not there, or are none.
    """
    value = record.get(name)
    if not isinstance(value, bytes):
        raise BadRequest(f"{name} is expected to be bytes")
    return value


def read_pins(sealer: Sealer, place: bytes, entries: Sequence[bytes]) -> list[list[Any]]:
    """Open the PINs of a device; each is uuid, request type, PIN and time."""
    return [json.loads(sealer.unseal(entry.split(b"\0", 1)[1], place)) for entry in entries]


def write_pins(sealer: Sealer, place: bytes, pins: Sequence[Sequence[Any]]) -> list[bytes]:
    """Undo :func:`read_pins`."""
    return [
        str(pin[0]).encode() + b"\0" + sealer.seal(json.dumps(list(pin)).encode(), place)
        for pin in pins
    ]


def without_empty(record: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what says nothing."""
    return {name: value for name, value in record.items() if value not in (None, {}, [], "")}
