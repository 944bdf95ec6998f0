"""Commands: what we ask of a device. Keys in, a plist out, and back."""

from collections.abc import Mapping
from uuid import uuid4

import attrs

from mdmd.errors import BadMessage
from mdmd.mdm import plist

LIMIT = 32 << 20  # bytes; profiles with pictures or fonts in them are large
MAX_UUID = 255  # characters; Apple allows any string, most are UUIDs


@attrs.frozen
class Command:
    """A command as the device will get it."""

    uuid: str
    request_type: str
    raw: bytes = attrs.field(repr=False)  # the plist, XML or binary as it came


def is_command_uuid(value: object) -> bool:
    """Say whether this names a command: 1 to 255 printable characters, not blank."""
    return (
        isinstance(value, str)
        and len(value) <= MAX_UUID
        and value.isprintable()
        and bool(value.strip())
    )


def decode_command(raw: bytes) -> Command:
    """
    Read a whole command as an integrator sends it, XML or binary.

    :raises BadMessage: it is no plist, or lacks something; the text says what.
    """
    message = plist.loads(raw, LIMIT)
    uuid, inner = message.get("CommandUUID"), message.get("Command")
    if not isinstance(inner, dict):
        raise BadMessage("the command has no Command dict")
    request_type = inner.get("RequestType")
    if not isinstance(request_type, str) or not is_command_uuid(request_type):
        raise BadMessage("the command has no usable RequestType in its Command dict")
    if not isinstance(uuid, str) or not is_command_uuid(uuid):
        raise BadMessage("the command has no usable CommandUUID: 1 to 255 printable characters")
    return Command(uuid, request_type, raw)


def build_command(
    request_type: str, keys: Mapping[str, object], uuid: str | None = None
) -> Command:
    """
    Make a command from its keys.

    :param keys: str, int, bool, float, bytes, datetime, and lists and dicts of them.
    :param uuid: None makes a random one. The same arguments with a ``uuid`` make
        the same bytes.
    :raises BadMessage: a value that a plist can't hold, a RequestType among the
        keys that is another one, or an unusable ``uuid``.
    """
    if keys.get("RequestType", request_type) != request_type:
        raise BadMessage("the keys name another RequestType")
    raw = plist.dumps(
        {
            "CommandUUID": str(uuid4()).upper() if uuid is None else uuid,
            "Command": {**keys, "RequestType": request_type},
        }
    )
    return decode_command(raw)


def keys_of(command: Command) -> dict[str, object]:
    """Read the keys of a command, RequestType not among them."""
    inner = plist.loads(command.raw, limit=len(command.raw)).get("Command")
    if not isinstance(inner, dict):
        raise BadMessage("the command has no Command dict")
    return {key: value for key, value in inner.items() if key != "RequestType"}


def renamed(command: Command) -> Command:
    """Make the same command under a new random CommandUUID."""
    return build_command(command.request_type, keys_of(command))
