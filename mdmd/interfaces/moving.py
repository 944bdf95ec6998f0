"""Enrollments on their way out of one store and into another."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Protocol


class Moved(StrEnum):
    """What became of a record that was put."""

    NEW = "new"
    SAME = "same"  # it was here already, just so


class IMoving(Protocol):
    """Everything of enrollments out of one store and into another; docs/moving.md."""

    async def resume_key(self) -> bytes:
        """Make the key for what tells where an export or import is; 32 bytes."""

    async def size(self) -> int:
        """Count the enrollments."""

    async def devices(self, after: str, limit: int) -> tuple[list[dict[str, Any]], str]:
        """
        Read devices with their channels, after an enrollment id, in id order.

        What to go on after comes too, "" at the end. ``results`` of a channel says how
        many there are; they are read by themselves.
        """

    async def results(self, id: str, start: int) -> tuple[list[dict[str, Any]], int]:
        """Read results of an enrollment, newest first; where to go on comes too, 0 at the end."""

    async def commands(self, uuids: Sequence[str]) -> list[dict[str, Any]]:
        """Read commands that are in queues."""

    async def certificates(self, after: str, limit: int) -> tuple[list[dict[str, Any]], str]:
        """Read certificates that were issued, after a fingerprint; "" in the answer is the end."""

    async def loose(self, cursor: str) -> tuple[list[dict[str, Any]], str]:
        """
        Read some of what no index names; begin with "0", "" in the answer is the end.

        These are pins, challenges, links, and ``dead_letters`` with the name of a
        webhook that has some. One may come twice.
        """

    async def dead_letters(
        self, target: str, after: str, limit: int
    ) -> tuple[list[dict[str, Any]], str]:
        """Read dead letters of a webhook, oldest first; "" in the answer is the end."""

    async def push_certificates(self) -> list[dict[str, Any]]:
        """Read every push certificate with its key."""

    async def groups(self) -> list[dict[str, Any]]:
        """Read every group with its members."""

    async def counts(self) -> dict[str, Any]:
        """Read what counts up for ever."""

    async def put(self, record: dict[str, Any], dry_run: bool = False) -> Moved:
        """
        Write a record unless it is here already.

        :raises Conflict: it is here, but not the same; nothing was changed.
        :raises BadRequest: it is no record.
        """
