"""Certificates of devices: issued, revoked, renewed; challenges and links."""

from typing import Protocol

import attrs

from mdmd.mdm.enrollment import EnrollmentID


@attrs.frozen
class IssuedCertificate:
    """A certificate of the device CA, as it is recorded."""

    fingerprint: str  # lower-case hex SHA-256
    serial: str  # lower-case hex
    subject: str  # RFC 4514
    not_before: int  # epoch seconds
    not_after: int
    via: str  # "static" | "one-time" | "none" | "renewal" | "pkcs12"
    label: str = ""  # of the challenge
    enrollment: str = ""  # whose it is; "" until it enrolls
    renews: str = ""  # fingerprint
    issued_at: int = 0  # milliseconds, as all that follow
    revoked_at: int | None = None
    reason: str = ""


@attrs.frozen
class Challenge:
    """A one-time challenge: lets one request have one certificate."""

    secret: str = attrs.field(repr=False)
    expires: int  # milliseconds
    name: str = ""  # the common name that the request has to have; "" any
    enrollment: str = ""  # whose renewal it is for
    label: str = ""  # for people


@attrs.frozen
class Link:
    """A one-time link to the enrollment profile."""

    secret: str = attrs.field(repr=False)
    expires: int  # milliseconds
    name: str = ""  # the common name of the identity; "" one is made up
    label: str = ""


class IIdentities(Protocol):
    """What the device CA did."""

    async def issued(
        self, certificate: IssuedCertificate, request: str, name: str = "", challenge: str = ""
    ) -> None:
        """
        Record a certificate before it is given away, and use up its challenge, in one step.

        If it belongs to an enrolled device it becomes its next pin.

        :param request: names this request; repeated with it, it is applied once.
        :param name: the common name asked for.
        :param challenge: the secret, if ``via`` is ``one-time``.
        :raises BadSCEP: the challenge is not good for it, or what it renews is revoked.
        """

    async def revoke(self, fingerprint: str, reason: str) -> bool:
        """Revoke a certificate, at once and for every daemon; False if it was already."""

    async def find(self, text: str) -> IssuedCertificate:
        """
        Read one by fingerprint or serial number.

        :raises NotHere: none is known by it.
        """

    async def page(self, after: str = "", limit: int = 100) -> list[IssuedCertificate]:
        """Read them by their end, those that end first; ``after`` a fingerprint."""

    async def put_challenge(self, challenge: Challenge) -> None:
        """Store a one-time challenge."""

    async def put_link(self, link: Link) -> None:
        """Store a one-time link."""

    async def take_link(self, secret: str, request: str) -> Link:
        """
        Use up a one-time link.

        :raises NotHere: it is not known, used, or expired.
        """


@attrs.frozen
class Renewal:
    """How far the renewal of a device's identity is; docs/identities.md has the states."""

    enrollment: EnrollmentID
    state: str  # "" | "sent" | "failed" | "renewed"
    at: int  # milliseconds, when it got there
    attempts: int
    uuid: str  # of the InstallProfile
    pin: str  # fingerprint
    next_pin: str  # fingerprint of the new certificate, once it is issued
    not_before: int  # epoch seconds, of the pinned certificate
    not_after: int
    enabled: bool


class IRenewals(Protocol):
    """The work of renewing identities."""

    async def claim_due(self, limit: int, lease_ms: int) -> list[Renewal]:
        """Take up to ``limit`` that are due; they are due again when the lease ends."""

    async def get(self, enrollment: EnrollmentID) -> Renewal:
        """Say how far one is; without a pin there is nothing to renew."""

    async def move(
        self,
        renewal: Renewal,
        state: str,
        next_step: int | None,
        attempts: int = 0,
        uuid: str = "",
        reason: str = "",
    ) -> bool:
        """
        Move it on, and say when to look at it again (ms; None: never).

        False if it has moved meanwhile, and then nothing is changed.
        """
