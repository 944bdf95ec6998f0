"""Check-ins: what a device says of itself. Bytes in, values out."""

import attrs

from mdmd.mdm.enrollment import EnrollmentID


@attrs.frozen
class Authenticate:
    """The first word of a (re-)enrollment."""

    enrollment: EnrollmentID
    topic: str
    facts: dict[str, str]  # SerialNumber, Model, ModelName, DeviceName, OSVersion, BuildVersion, ProductName, IMEI, MEID: those present
    raw: bytes = attrs.field(repr=False)


@attrs.frozen
class TokenUpdate:
    """Where to push to. A new one replaces the last."""

    enrollment: EnrollmentID
    topic: str
    token: bytes = attrs.field(repr=False)  # raw bytes; APNs wants hex
    push_magic: str = attrs.field(repr=False)
    unlock_token: bytes | None = attrs.field(repr=False)  # None: keep the stored one
    awaiting_configuration: bool
    user_short_name: str  # "" on the device channel
    raw: bytes = attrs.field(repr=False)


@attrs.frozen
class CheckOut:
    """The device says good-bye."""

    enrollment: EnrollmentID
    raw: bytes = attrs.field(repr=False)


@attrs.frozen
class UserAuthenticate:
    """A network user wants a channel; ``digest_response`` only in the second of two."""

    enrollment: EnrollmentID
    digest_response: str | None = attrs.field(repr=False)
    raw: bytes = attrs.field(repr=False)


@attrs.frozen
class SetBootstrapToken:
    """Escrow a Mac's bootstrap token; empty: forget it."""

    enrollment: EnrollmentID
    bootstrap_token: bytes = attrs.field(repr=False)
    raw: bytes = attrs.field(repr=False)


@attrs.frozen
class GetBootstrapToken:
    """Ask for the escrowed token back."""

    enrollment: EnrollmentID
    raw: bytes = attrs.field(repr=False)


@attrs.frozen
class GetToken:
    """Ask for a token of a service, such as ``com.apple.maid``."""

    enrollment: EnrollmentID
    service_type: str
    parameters: dict[str, object] = attrs.field(repr=False)
    raw: bytes = attrs.field(repr=False)


@attrs.frozen
class DeclarativeManagement:
    """One exchange of declarative management; ``endpoint`` as in Apple's protocol."""

    enrollment: EnrollmentID
    endpoint: str  # tokens | declaration-items | declaration/<type>/<id> | status
    data: bytes | None = attrs.field(repr=False)
    raw: bytes = attrs.field(repr=False)


CheckIn = (
    Authenticate
    | TokenUpdate
    | CheckOut
    | UserAuthenticate
    | SetBootstrapToken
    | GetBootstrapToken
    | GetToken
    | DeclarativeManagement
)
