"""The life of enrollments: what the stories of check-ins ask of the store."""

from typing import Protocol

from mdmd.interfaces.identity import Identity
from mdmd.mdm.checkin import Authenticate, SetBootstrapToken, TokenUpdate
from mdmd.mdm.enrollment import EnrollmentID


class IEnrollments(Protocol):
    """The life of enrollments. All of these refuse a wrong pin by raising."""

    async def authenticate(self, message: Authenticate, identity: Identity) -> None:
        """
        Begin a new generation of the enrollment and pin ``identity`` to the device.

        Disabled until TokenUpdate; pending commands of it and of its user
        channels end as ``superseded``; tally back to 0.

        :raises WrongIdentity: the certificate is pinned to another device.
        """

    async def token_update(self, message: TokenUpdate, identity: Identity) -> int:
        """
        Store where to push to, enable, and return the new tally (1: just enrolled).

        :raises WrongIdentity: another certificate is pinned.
        :raises NotEnrolled: none is pinned.
        """

    async def check_out(self, enrollment: EnrollmentID, identity: Identity, raw: bytes) -> None:
        """Disable it, and its user channels if it is a device; keep queue and history."""

    async def set_bootstrap_token(self, message: SetBootstrapToken, identity: Identity) -> None:
        """Store the token sealed; an empty one forgets it."""

    async def get_bootstrap_token(
        self, enrollment: EnrollmentID, identity: Identity, raw: bytes
    ) -> bytes | None:
        """Give the token back, None if there is none."""

    async def other_checkin(
        self, enrollment: EnrollmentID, identity: Identity, topic: str, raw: bytes
    ) -> None:
        """Check the pin and write the event ``topic`` (such as ``mdm.GetToken``)."""

    async def refused(
        self, kind: str, reason: str, enrollment: EnrollmentID | None, fingerprint: str
    ) -> None:
        """Write an event for a request that was turned away (``mdmd.Refused``)."""
