"""PINs are kept before the command that carries one is queued, so that nobody is locked out."""

from collections.abc import Callable, Iterable, Sequence

import attrs

from mdmd.errors import StoreCorrupt
from mdmd.interfaces.inventory import IInventory, Pin
from mdmd.mdm.catalogue.load import entry
from mdmd.mdm.command import Command, keys_of
from mdmd.mdm.enrollment import EnrollmentID


@attrs.frozen
class Kept:
    """For whom a PIN was not kept before, and for whom it can't be: those must not be locked."""

    new: frozenset[EnrollmentID] = frozenset()
    failed: frozenset[EnrollmentID] = frozenset()


class Pins:
    """
    Keep them, sealed; reading one is for admins, and audited.

    :param now: ms since the epoch.
    """

    def __init__(self, inventory: IInventory, now: Callable[[], int]) -> None:
        self._inventory = inventory
        self._now = now

    async def keep(self, command: Command, targets: Sequence[EnrollmentID]) -> Kept:
        """Keep the PIN of a command for each device that is to get it, if there is one."""
        pin = pin_of(command)
        if not pin:
            return Kept()
        kept = Pin(command.uuid, command.request_type, pin, self._now())
        new, failed = [], []
        for one in targets:
            try:
                if await self._inventory.keep_pin(one, kept):
                    new.append(one)
            except StoreCorrupt:
                failed.append(one)
        return Kept(frozenset(new), frozenset(failed))

    async def forget(self, command: Command, targets: Iterable[EnrollmentID]) -> None:
        """Forget it for those that did not get the command: it would be the wrong one."""
        for one in targets:
            await self._inventory.forget_pin(one, command.uuid)


def pin_of(command: Command) -> str:
    """Read the PIN that a command carries, "" if it carries none."""
    found = entry(command.request_type)
    if found is None or "PIN" not in found.secrets:
        return ""
    pin = keys_of(command).get("PIN")
    return pin if isinstance(pin, str) else ""
