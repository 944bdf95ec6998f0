"""What operators read and do: commands, queues, results, records, events."""

from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import Protocol

import attrs

from mdmd.mdm.command import Command
from mdmd.mdm.enrollment import EnrollmentID


class Priority(IntEnum):
    """Priority classes; the lower goes first."""

    SECURITY = 0  # lock, wipe, lost mode
    NORMAL = 4
    BACKGROUND = 6  # inventory on a schedule


@attrs.frozen
class Policy:
    """How long and how often a command is offered."""

    priority: Priority = Priority.NORMAL
    expires: int | None = None  # ms since the epoch; then it is parked as ``expired``
    max_attempts: int | None = None  # deliveries without an answer; then parked as ``stuck``
    wake: bool = True  # False: no push at once, the first repeat is the first one
    not_before: int | None = None  # ms since the epoch; until then it is not offered
    # Of one kind, such as "lock" or a RequestType, only one is pending in a queue: a new one
    # is refused, or takes the place of one that the device has not been sent.
    kind: str = ""
    replaces: bool = False
    partial: bool = False  # its answer is not the whole: it asks for some apps only
    # (generation, number): a step of those that a generation of an enrollment gets in the order of
    # their numbers, each once; one that it has had, or a generation that is over, says DUPLICATE.
    step: tuple[int, int] | None = None
    # The CommandUUID of one in the queue that is taken out in the moment that this one is queued.
    instead_of: str = ""


class Enqueued(StrEnum):
    """What became of one target of an enqueue."""

    QUEUED = "queued"
    LATER = "later"  # queued, but its time has not come: there is nothing to push for yet
    UNKNOWN = "unknown"  # no such enrollment
    DISABLED = "disabled"  # queued, but the enrollment is disabled: nothing will be pushed
    DUPLICATE = "duplicate"  # this CommandUUID is in its queue, or was the last it answered
    UNREADABLE = "unreadable"  # what the store has of it is damaged; nothing was queued
    PENDING = "pending"  # refused: one of the policy's kind is in its queue already
    GONE = "gone"  # refused: the one whose place it was to take is not in the queue


@attrs.frozen
class QueuedCommand:
    """One line of a queue, as an operator sees it, in delivery order."""

    uuid: str
    request_type: str
    priority: int
    sequence: int
    state: str  # "waiting" | "sent" | "notnow" | "expired" | "stuck"
    queued_at: int
    attempts: int  # deliveries so far
    last_sent: int | None
    not_now_count: int
    first_not_now: int | None
    last_not_now: int | None
    expires: int | None
    max_attempts: int | None
    not_before: int | None = None


@attrs.frozen
class Result:
    """One final report (or an orphan), newest first in listings."""

    uuid: str
    request_type: str  # "" for an orphan of a command that nobody knows
    # Acknowledged | Error | CommandFormatError | Malformed | superseded | cancelled | orphan
    status: str
    error: str
    received_at: int
    queued_at: int | None
    attempts: int
    raw: bytes = attrs.field(repr=False)  # the whole report plist; b"" if none came


@attrs.frozen
class EnrollmentRecord:
    """All that is known of an enrollment but its secrets."""

    enrollment: EnrollmentID
    enabled: bool
    tally: int
    generation: int
    topic: str
    facts: dict[str, str]  # of Authenticate, plus those learnt from answers
    enrolled_at: int | None
    last_seen: int | None
    awaiting_configuration: bool
    pin: str  # fingerprint
    pending: int  # commands in the queue
    has_token: bool
    has_unlock_token: bool
    has_bootstrap_token: bool
    next_push: int | None  # None: nothing to push for
    last_push: int | None
    last_push_result: str  # "" | apns-id | reason
    unreadable: bool = False  # it is damaged in the store; what is here is what could be read


@attrs.frozen
class Named:
    """Those of a page that have a name. ``after`` goes on from here; "" when that was all."""

    enrollments: tuple[EnrollmentID, ...]
    after: str
    looked_at: int


class IFleet(Protocol):
    """Reads and acts for operators."""

    async def enqueue(
        self, command: Command, targets: Sequence[EnrollmentID], policy: Policy
    ) -> list[Enqueued]:
        """
        Queue one command on many enrollments; the body is stored once.

        The answer is in the order of ``targets``. Large lists are cut into
        batches that let device requests pass in between.

        :raises Conflict: the CommandUUID is known with another body.
        """

    async def enrollment(self, enrollment: EnrollmentID) -> EnrollmentRecord | None:
        """Read one record; the type in the answer is the stored one."""

    async def enrollments(self, after: str = "", limit: int = 100) -> list[EnrollmentRecord]:
        """Page through all enrollments in id order, ``after`` an id, devices and channels."""

    async def describe(self, enrollments: Sequence[EnrollmentID]) -> list[EnrollmentRecord | None]:
        """Read records in the order asked, None for each that does not exist."""

    async def find(self, text: str) -> EnrollmentID | None:
        """Find by enrollment id or by serial number."""

    async def find_all(self, texts: Sequence[str]) -> list[EnrollmentRecord | None]:
        """Find each by enrollment id or by serial number, None for each that is unknown."""

    async def totals(self) -> tuple[int, int]:
        """Count all enrollments ever seen, and those in the push work set."""

    async def complete(self, begun: str, limit: int = 100) -> list[str]:
        """List enrollment ids and serial numbers that begin like this, so many of each."""

    async def named(self, name: str, after: str = "", limit: int = 500) -> Named:
        """
        Look at up to ``limit`` enrollments in id order for those that have a name.

        Either counts, the device's own and the one that an operator gave it, and
        small letters are as good as capitals.
        """

    async def queue(self, enrollment: EnrollmentID) -> list[QueuedCommand]:
        """List pending and parked commands in delivery order."""

    async def command(self, uuid: str) -> Command | None:
        """Read a command that is in some queue, None if it is in none."""

    async def cancel(self, enrollment: EnrollmentID, uuid: str) -> QueuedCommand:
        """
        Take one command out; the answer says whether it was ever sent.

        :raises NotHere: it is not in the queue.
        """

    async def clear(self, enrollment: EnrollmentID) -> int:
        """Take all commands out, return how many."""

    async def results(self, enrollment: EnrollmentID, limit: int = 20) -> list[Result]:
        """Read the newest results, newest first."""

    async def events(
        self, after: str = "0", limit: int = 100, messages: bool = True
    ) -> list["Event"]:
        """
        Read events after the given stream id, oldest first.

        :param messages: with what devices sent; one that can't be read is told as damaged.
        """

    async def newest_event(self) -> str:
        """Say the id of the newest event, "0" if there is none."""


@attrs.frozen
class Event:
    """Something that happened. ``topic`` is NanoMDM's (``mdm.*``) or ours (``mdmd.*``)."""

    id: str  # the stream's id, "ms-n": ordered, replayable from
    topic: str
    enrollment: str  # "" when it is about none
    facts: dict[str, str]  # clear text: status, command_uuid, tally, reason...
    raw: bytes = attrs.field(repr=False)  # the message's plist, unsealed; may be b""
    damaged: bool = False  # it has a message, which can't be read
