"""What is known of devices, groups of them, and what has to follow from events."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import attrs

from mdmd.interfaces.fleet import Event
from mdmd.mdm.enrollment import EnrollmentID


@attrs.frozen
class Known:
    """One field of an inventory: a value as JSON has it, and when the device told it."""

    value: object
    at: int


@attrs.frozen
class Change:
    """One line of an inventory's history: from ``at`` on the field had this value."""

    field: str
    value: object
    at: int


@attrs.frozen
class Pin:
    """A PIN that a device was sent, to unlock it with."""

    uuid: str
    request_type: str
    pin: str = attrs.field(repr=False)
    at: int


class IInventory(Protocol):
    """What is known of devices besides their enrollment."""

    async def learn(
        self, enrollment: EnrollmentID, fields: Mapping[str, object], at: int
    ) -> list[str]:
        """Take in what a device told at a time, unless newer is there; say what changed."""

    async def known(
        self, enrollments: Sequence[EnrollmentID], fields: Sequence[str] = ()
    ) -> list[tuple[dict[str, Known], dict[str, str]]]:
        """Read inventories (only these fields, or all) and free fields, in the order asked."""

    async def history(self, enrollment: EnrollmentID, limit: int = 100) -> list[Change]:
        """Read what changed, newest first."""

    async def note(self, enrollment: EnrollmentID, notes: Mapping[str, str]) -> None:
        """
        Set free fields; an empty text takes one away.

        :raises NotEnrolled: there is no such enrollment.
        """

    async def keep_pin(self, enrollment: EnrollmentID, pin: Pin) -> bool:
        """
        Keep a PIN sealed, before its command is queued; False: it is, or nobody is there.

        :raises StoreCorrupt: it can't be kept.
        """

    async def forget_pin(self, enrollment: EnrollmentID, uuid: str) -> None:
        """Forget the PIN of a command that was not queued after all."""

    async def pins(self, enrollment: EnrollmentID) -> list[Pin]:
        """Read the PINs that were sent, newest first."""

    async def unlock_token(self, enrollment: EnrollmentID) -> bytes | None:
        """Read the device's unlock token, None if it never gave one."""


class IGroups(Protocol):
    """Named sets of enrollments."""

    async def add(self, name: str, enrollments: Sequence[EnrollmentID]) -> int:
        """Put enrollments into a group, say how many are new in it."""

    async def remove(self, name: str, enrollments: Sequence[EnrollmentID]) -> int:
        """Take enrollments out of a group, say how many were in it."""

    async def sizes(self) -> dict[str, int]:
        """Say which groups there are, and how many are in each."""

    async def members(
        self, name: str, cursor: int = 0, limit: int = 1000
    ) -> tuple[int, list[EnrollmentID]]:
        """Read about ``limit`` members and the cursor to go on with; 0: that was all."""

    async def of(self, enrollments: Sequence[EnrollmentID]) -> list[list[str]]:
        """Say of each enrollment in which groups it is."""


class IFollowing(Protocol):
    """A place in the event stream that outlives the daemon, held by one daemon at a time."""

    async def follow(self, name: str, who: str, lease_ms: int, done: str = "") -> str | None:
        """Hold the lease and move the place on to ``done``; None while another one holds it."""

    async def events(
        self,
        after: str,
        limit: int,
        wants: Callable[[str, Mapping[str, str]], bool] | None = None,
    ) -> list["Event"]:
        """
        Read events after the given stream id, oldest first.

        :param wants: says by topic and facts whose message is read; None: all.
        """


class IDue(Protocol):
    """When something is to be done about each enrollment."""

    async def plan(self, due: Mapping[EnrollmentID, int | None], sooner: bool = False) -> None:
        """
        Say when (ms since the epoch), None: not any more.

        :param sooner: only for who is not planned yet, or for a later time.
        """

    async def take(self, limit: int, lease_ms: int) -> list[EnrollmentID]:
        """Take those that are due; they come again after the lease unless planned anew."""
