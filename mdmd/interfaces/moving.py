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

    async def devices(self, after: str, limit: int) -> tuple[list[dict[str, Any]], str]:
        """Read devices with their channels in id order; "" in the answer is the end."""

    async def commands(self, uuids: Sequence[str]) -> list[dict[str, Any]]:
        """Read commands that are in queues."""

    async def push_certificates(self) -> list[dict[str, Any]]:
        """Read every push certificate with its key."""

    async def groups(self) -> list[dict[str, Any]]:
        """Read every group with its members."""

    async def put(self, record: dict[str, Any], dry_run: bool = False) -> Moved:
        """
        Write a record unless it is here already.

        :raises Conflict: it is here, but not the same; nothing was changed.
        :raises BadRequest: it is no record.
        """
