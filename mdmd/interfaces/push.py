"""Pushes: the road to APNs, the work set, push certificates."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import attrs

from mdmd.mdm.enrollment import EnrollmentID


class Decision(StrEnum):
    """What to do after APNs answered; decided by the table in :mod:`mdmd.apns.reasons`."""

    DELIVERED = "delivered"
    DROP_TOKEN = "drop-token"  # noqa: S105  (no secret): no push to this token until the next TokenUpdate
    RETRY = "retry"  # with back-off, on a fresh stream
    ALARM = "alarm"  # something is wrong with the topic or its certificate
    GIVE_UP = "give-up"  # this notification can't be sent; our bug


@attrs.frozen
class Notification:
    """One push, ready to be sent."""

    topic: str
    token: bytes = attrs.field(repr=False)
    push_magic: str = attrs.field(repr=False)
    expiration: int = 0  # epoch seconds; 0: as the push service is set


@attrs.frozen
class PushOutcome:
    """What became of one push."""

    decision: Decision
    status: int = 0  # HTTP status, 0 if none came
    reason: str = ""  # APNs' word, or ours in words when there was no answer
    apns_id: str = ""
    maybe_twice: bool = False  # a first sending got no answer: APNs may have both


# Nobody knows whom to push to, nor with what.
STORE_AWAY = PushOutcome(
    Decision.RETRY, reason="the store does not answer; it is tried again later"
)


class IPushService(Protocol):
    """The road to APNs."""

    async def push(self, notification: Notification) -> PushOutcome:
        """Send one notification; never raises for what APNs or the network does."""


@attrs.frozen
class DuePush:
    """One enrollment claimed for a push; the claim ends by itself after the lease."""

    enrollment: EnrollmentID
    notification: Notification
    attempt: int  # delivered pushes since the enrollment last connected
    failures: int = 0  # pushes since the last delivered one
    claim: object = attrs.field(default=None, repr=False)  # the store's, for ``pushed``


@attrs.frozen
class NoPush:
    """Why an enrollment asked for by name can't be pushed."""

    enrollment: EnrollmentID
    reason: str  # "unknown" | "disabled" | "no token" | "token dropped: REASON"


class IPushWork(Protocol):
    """The work set: enrollments with work, by the time of their next push."""

    async def claim_due(self, limit: int, lease_ms: int) -> list[DuePush]:
        """Take up to ``limit`` due enrollments; those without work leave the set."""

    async def claim(self, targets: Sequence[EnrollmentID], lease_ms: int) -> list[DuePush | NoPush]:
        """Take the named enrollments now, due or not; answers in order."""

    async def pushed(self, due: DuePush, outcome: PushOutcome, next_push: int | None) -> None:
        """
        Record the outcome and when to push next if the device does not connect.

        ``next_push`` None: no more until something new happens. DROP_TOKEN marks
        the token dead, unless a TokenUpdate replaced it meanwhile.
        """

    async def next_due(self) -> int | None:
        """Say when the earliest entry is due, None if there is none."""

    async def waiting(self) -> tuple[int, int]:
        """Count the enrollments in the set, and those of them that are due."""


class IPushCertificates(Protocol):
    """Push certificates, one a topic, sealed; shared by every daemon of the store."""

    async def put(self, topic: str, certificate: bytes, key: bytes, not_after: int) -> int:
        """Store a PEM pair, return its new version (counts up per topic)."""

    async def get(self, topic: str) -> tuple[int, bytes, bytes] | None:
        """Read (version, certificate PEM, key PEM)."""

    async def versions(self) -> Mapping[str, tuple[int, int]]:
        """Say the version and not_after (epoch seconds) of each topic in one cheap step."""

    async def enrolled(self) -> Mapping[str, int]:
        """Count enabled enrollments by topic."""


class IEventWriter(Protocol):
    """Events that go with no change of the store."""

    async def tell(self, topic: str, enrollment: EnrollmentID | None, **facts: str) -> None:
        """Write one; no secrets in it."""


class IExpiryWarnings(Protocol):
    """What is known of push certificates' ends, and who has been warned."""

    async def versions(self) -> Mapping[str, tuple[int, int]]:
        """Say the version and not_after (epoch seconds) of each topic in one cheap step."""

    async def warn_expiry(self, topic: str, version: int, days: int, not_after: int) -> bool:
        """Write the event of a warning, once for all daemons; say whether it was written."""


class IWaker(Protocol):
    """Pushes on behalf of flow."""

    async def push(self, targets: Sequence[EnrollmentID]) -> list[PushOutcome | NoPush]:
        """Push now and wait for the outcomes, in the order of ``targets``."""

    def nudge(self) -> None:
        """Say that the work set has something new."""
