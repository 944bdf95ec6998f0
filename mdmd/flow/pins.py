"""PINs are kept before the command that carries one is queued, so that nobody is locked out."""

from collections.abc import Callable, Sequence

from mdmd.interfaces.inventory import IInventory, Pin
from mdmd.mdm.catalogue.load import entry
from mdmd.mdm.command import Command, keys_of
from mdmd.mdm.enrollment import EnrollmentID


class Pins:
    """
    Keep them, sealed; reading one is for admins, and audited.

    :param now: ms since the epoch.
    """

    def __init__(self, inventory: IInventory, now: Callable[[], int]) -> None:
        self._inventory = inventory
        self._now = now

    async def keep(self, command: Command, targets: Sequence[EnrollmentID]) -> None:
        """Keep the PIN of a command for each device that is to get it, if there is one."""
        found = entry(command.request_type)
        if found is None or "PIN" not in found.secrets:
            return
        pin = keys_of(command).get("PIN")
        if isinstance(pin, str) and pin:
            kept = Pin(command.uuid, command.request_type, pin, self._now())
            for one in targets:
                await self._inventory.keep_pin(one, kept)
