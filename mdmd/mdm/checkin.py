"""Check-ins: what a device says of itself. Bytes in, values out."""

from collections.abc import Callable, Mapping

import attrs

from mdmd.errors import BadMessage
from mdmd.mdm import plist
from mdmd.mdm.enrollment import EnrollmentID, enrollment_id

FACTS = (
    "SerialNumber",
    "Model",
    "ModelName",
    "DeviceName",
    "OSVersion",
    "BuildVersion",
    "ProductName",
    "IMEI",
    "MEID",
)
_MAX_FACT = 255  # characters
_MAX_PUSH = 1024  # bytes of a token, characters of a magic; a push has 4096 bytes in all


@attrs.frozen
class Authenticate:
    """The first word of a (re-)enrollment."""

    enrollment: EnrollmentID
    topic: str
    facts: dict[str, str]  # those of FACTS that are there
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

_Message = Mapping[str, object]


def decode_checkin(body: bytes) -> CheckIn:
    """
    Read a check-in, XML or binary.

    :raises BadMessage: no plist, an unknown MessageType, no enrollment, or a
        key that this kind needs is missing or of another type.
    Source: Apple, "Check-in", and its schema (``mdm/checkin``).
    """
    message = plist.loads(body)
    kind = message.get("MessageType")
    if not isinstance(kind, str):
        raise BadMessage("no MessageType")
    decode = _DECODERS.get(kind)
    if decode is None:
        raise BadMessage(f"unknown MessageType {kind[:40]!a}")
    return decode(message, enrollment_id(message), body)


def _authenticate(message: _Message, enrollment: EnrollmentID, raw: bytes) -> Authenticate:
    facts = {
        key: value[:_MAX_FACT]
        for key in FACTS
        if isinstance(value := message.get(key), str) and value
    }
    # The topic that counts is TokenUpdate's.
    return Authenticate(enrollment, _optional_text(message, "Topic") or "", facts, raw)


def _token_update(message: _Message, enrollment: EnrollmentID, raw: bytes) -> TokenUpdate:
    token = _data(message, "Token")
    if not token:
        raise BadMessage("no Token")
    topic, magic = _text(message, "Topic"), _text(message, "PushMagic")
    limits = {"Token": (token, _MAX_PUSH), "PushMagic": (magic, _MAX_PUSH), "Topic": (topic, 255)}
    for key, (value, limit) in limits.items():
        if len(value) > limit:
            raise BadMessage(f"{key} is too long")
    # It goes into a header of the push.
    if not (topic.isascii() and topic.isprintable() and topic == topic.strip()):
        raise BadMessage("Topic is not a usable string")
    name = message.get("UserShortName") if enrollment.channel else None
    return TokenUpdate(
        enrollment,
        topic=topic,
        token=token,
        push_magic=magic,
        unlock_token=_data(message, "UnlockToken") or None,
        awaiting_configuration=message.get("AwaitingConfiguration") is True,
        user_short_name=name[:_MAX_FACT] if isinstance(name, str) else "",
        raw=raw,
    )


def _check_out(_: _Message, enrollment: EnrollmentID, raw: bytes) -> CheckOut:
    return CheckOut(enrollment, raw)


def _user_authenticate(message: _Message, enrollment: EnrollmentID, raw: bytes) -> UserAuthenticate:
    return UserAuthenticate(enrollment, _optional_text(message, "DigestResponse"), raw)


def _set_bootstrap_token(
    message: _Message, enrollment: EnrollmentID, raw: bytes
) -> SetBootstrapToken:
    return SetBootstrapToken(enrollment, _data(message, "BootstrapToken") or b"", raw)


def _get_bootstrap_token(_: _Message, enrollment: EnrollmentID, raw: bytes) -> GetBootstrapToken:
    return GetBootstrapToken(enrollment, raw)


def _get_token(message: _Message, enrollment: EnrollmentID, raw: bytes) -> GetToken:
    service_type = _text(message, "TokenServiceType")
    parameters = message.get("TokenParameters", {})
    if not isinstance(parameters, dict):
        raise BadMessage("TokenParameters is not a dict")
    if service_type == "com.apple.watch.pairing" and not parameters:
        raise BadMessage("no TokenParameters")
    return GetToken(enrollment, service_type, parameters, raw)


def _declarative_management(
    message: _Message, enrollment: EnrollmentID, raw: bytes
) -> DeclarativeManagement:
    return DeclarativeManagement(
        enrollment, _text(message, "Endpoint"), _data(message, "Data"), raw
    )


def _text(message: _Message, key: str) -> str:
    value = _optional_text(message, key)
    if value is None or not value.strip():
        raise BadMessage(f"no {key}")
    return value


def _optional_text(message: _Message, key: str) -> str | None:
    """Read a string; an empty one is as good as none."""
    value = message.get(key, "")
    if not isinstance(value, str):
        raise BadMessage(f"{key} is not a string")
    return value or None


def _data(message: _Message, key: str) -> bytes | None:
    value = message.get(key)
    if value is None or isinstance(value, bytes):
        return value
    raise BadMessage(f"{key} is not data")


_DECODERS: dict[str, Callable[[_Message, EnrollmentID, bytes], CheckIn]] = {
    "Authenticate": _authenticate,
    "TokenUpdate": _token_update,
    "CheckOut": _check_out,
    "UserAuthenticate": _user_authenticate,
    "SetBootstrapToken": _set_bootstrap_token,
    "GetBootstrapToken": _get_bootstrap_token,
    "GetToken": _get_token,
    "DeclarativeManagement": _declarative_management,
}
