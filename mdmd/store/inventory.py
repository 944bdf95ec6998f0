"""What devices told of themselves, and what operators wrote about them."""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import attrs

from mdmd.errors import StoreCorrupt
from mdmd.interfaces.inventory import Change, Known, Pin
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.store import keys
from mdmd.store.subject import Tools, Word

CHANGES_KEPT = 200  # for each enrollment
CHANGE_SIZE = 300  # bytes; larger values have no history
PINS_KEPT = 50
READ_AT_ONCE = 25  # enrollments: a list of apps takes a third of a ms to read, and more
_SMALL = 1024  # bytes; below, compressing costs more than it saves

# What an enrollment's record tells of the device, besides what Authenticate said.
FACTS = frozenset(
    {
        "DeviceName", "OSVersion", "BuildVersion", "SupplementalBuildVersion",
        "SupplementalOSVersionExtra", "ModelName", "ModelNumber", "Model", "ProductName",
        "SerialNumber", "IsSupervised", "IsMultiUser", "EnrolledViaDEP",
    }
)  # fmt: skip


@attrs.frozen
class Inventory:
    """Implements :class:`mdmd.interfaces.inventory.IInventory`."""

    _tools: Tools

    async def learn(
        self, enrollment: EnrollmentID, fields: Mapping[str, object], at: int
    ) -> list[str]:
        """Take in what a device told at a time, unless newer is there; say what changed."""
        if not fields:
            return []
        one = enrollment
        names = (keys.record(one), keys.inventory(one), keys.history(one), keys.facts(one))
        args: list[Word] = [str(one), at, CHANGES_KEPT, CHANGE_SIZE]
        for field, value in fields.items():
            args += (field, encode(value), _fact(field, value))
        changed = await self._tools.change("learn", names, args)
        return [field.decode() for field in changed]

    async def known(
        self, enrollments: Sequence[EnrollmentID], fields: Sequence[str] = ()
    ) -> list[tuple[dict[str, Known], dict[str, str]]]:
        """Read inventories (only these fields, or all) and free fields, in the order asked."""
        found: list[tuple[dict[str, Known], dict[str, str]]] = []
        for at in range(0, len(enrollments), READ_AT_ONCE):
            names: list[bytes] = []
            for one in enrollments[at : at + READ_AT_ONCE]:
                names += (keys.inventory(one), keys.notes(one))
            for answer in await self._tools.link.script("known", names, tuple(fields)):
                told, notes = answer or ((), ())  # nothing is known of what is damaged
                pairs = zip(fields, told, strict=False) if fields else _pairs(told)
                found.append((_readable(pairs), {k: v.decode() for k, v in _pairs(notes)}))
        return found

    async def history(self, enrollment: EnrollmentID, limit: int = 100) -> list[Change]:
        """Read what changed, newest first; a line that is damaged is left out."""
        lines = await self._tools.link.call("LRANGE", keys.history(enrollment), 0, limit - 1)
        changes = []
        for line in lines:
            with suppress(ValueError, zlib.error):
                at, field, value = line.split(b"\0", 2)
                changes.append(Change(field.decode(), decode(value), int(at)))
        return changes

    async def note(self, enrollment: EnrollmentID, notes: Mapping[str, str]) -> None:
        """
        Set free fields; an empty text takes one away.

        :raises NotEnrolled: there is no such enrollment.
        """
        args: list[Word] = [str(enrollment)]
        for name, text in notes.items():
            args += (name, text)
        names = (keys.record(enrollment), keys.notes(enrollment))
        await self._tools.change("note", names, args)

    async def keep_pin(self, enrollment: EnrollmentID, pin: Pin) -> bool:
        """Keep a PIN sealed, before its command is queued; False: it is, or nobody is there."""
        name = keys.pins(enrollment)
        told = json.dumps([pin.uuid, pin.request_type, pin.pin, pin.at]).encode()
        sealed = self._tools.sealer.seal(told, name)
        names = (name, keys.device_record(enrollment))
        kept = int(await self._tools.change("keep_pin", names, (pin.uuid, sealed, PINS_KEPT)))
        if kept < 0:
            raise StoreCorrupt("the PINs of a device are damaged in the store")
        return bool(kept)

    async def forget_pin(self, enrollment: EnrollmentID, uuid: str) -> None:
        """Forget the PIN of a command that was not queued after all."""
        await self._tools.link.script("forget_pin", (keys.pins(enrollment),), (uuid,))

    async def pins(self, enrollment: EnrollmentID) -> list[Pin]:
        """Read the PINs that were sent, newest first."""
        name = keys.pins(enrollment)
        found = []
        for entry in await self._tools.link.call("LRANGE", name, 0, -1):
            sealed = entry.split(b"\0", 1)[1]
            found.append(Pin(*json.loads(self._tools.sealer.unseal(sealed, name))))
        return found

    async def unlock_token(self, enrollment: EnrollmentID) -> bytes | None:
        """Read the device's unlock token, None if it never gave one."""
        name = keys.unlock(enrollment)
        sealed = await self._tools.link.call("GET", name)
        return None if sealed is None else self._tools.sealer.unseal(sealed, name)


def encode(value: object) -> bytes:
    """Write a value: ``j`` and JSON, or ``z`` and the same compressed."""
    plain = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return b"j" + plain if len(plain) < _SMALL else b"z" + zlib.compress(plain, 1)


def decode(stored: bytes) -> object:
    """Undo :func:`encode`."""
    plain = stored[1:] if stored[:1] == b"j" else zlib.decompress(stored[1:])
    return json.loads(plain)


def _readable(pairs: Iterable[tuple[str, bytes | None]]) -> dict[str, Known]:
    """Read what is known; a field that is damaged is not."""
    found = {}
    for field, value in pairs:
        with suppress(ValueError, zlib.error):
            if value is not None:
                found[field] = _known(value)
    return found


def _known(stored: bytes) -> Known:
    at, _, value = stored.partition(b" ")
    return Known(decode(value), int(at))


def _fact(field: str, value: object) -> str:
    if field not in FACTS or not isinstance(value, str | bool | int | float):
        return ""
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
    return text[:255]


def _pairs(flat: Sequence[bytes]) -> list[tuple[str, bytes]]:
    return [
        (name.decode("utf-8", "replace"), value)
        for name, value in zip(flat[::2], flat[1::2], strict=True)
    ]
