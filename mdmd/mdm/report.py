"""Reports: what a device answers at connect. Bytes in, values out."""

from enum import StrEnum

import attrs

from mdmd.errors import BadMessage, TooLarge
from mdmd.mdm import plist
from mdmd.mdm.answers import chain
from mdmd.mdm.command import is_command_uuid
from mdmd.mdm.enrollment import EnrollmentID, enrollment_id


class Status(StrEnum):
    """The words of Apple's protocol, and one of ours for everything else."""

    IDLE = "Idle"
    ACKNOWLEDGED = "Acknowledged"
    ERROR = "Error"
    COMMAND_FORMAT_ERROR = "CommandFormatError"
    NOT_NOW = "NotNow"
    MALFORMED = "Malformed"  # a CommandUUID, but no status we know: final, kept raw


@attrs.frozen
class Report:
    """One report. ``command_uuid`` is None exactly when the status is Idle."""

    enrollment: EnrollmentID
    status: Status
    command_uuid: str | None
    error: str  # the ErrorChain in one readable line, "" if there is none
    raw: bytes = attrs.field(repr=False)


LARGEST = 64 << 20  # bytes

_KEYS = frozenset(
    {
        "Status",
        "CommandUUID",
        "UDID",
        "UserID",
        "UserShortName",
        "EnrollmentID",
        "EnrollmentUserID",
    }
)
_CHAIN = frozenset({"ErrorChain"})
_STATUSES = {status.value: status for status in Status if status is not Status.MALFORMED}


def decode_report(body: bytes, limit: int = LARGEST) -> Report:
    """
    Read what a device sends to connect.

    Only what decides is read. What the device answers (``QueryResponses`` and
    the like) has to be a plist in form, no more: a value in there that we can't
    read must not make a device repeat itself for ever.

    A CommandUUID with a missing or unknown Status is :attr:`Status.MALFORMED`.

    :param limit: bytes; what the site takes is less.
    :raises BadMessage: no plist, no enrollment, or a report that names neither
        Idle nor a command.
    Source: Apple, MDM protocol reference, result payloads.
    """
    message = _pick(body, _KEYS, limit)
    enrollment = enrollment_id(message)
    word, uuid = message.get("Status"), message.get("CommandUUID")
    status = _STATUSES.get(word) if isinstance(word, str) else None
    if status is Status.IDLE:
        return Report(enrollment, status, None, "", body)
    if not isinstance(uuid, str) or not is_command_uuid(uuid):
        if status is not None:
            raise BadMessage(f"a report of {status} without a usable CommandUUID")
        raise BadMessage("a report with neither a known Status nor a CommandUUID")
    return Report(enrollment, status or Status.MALFORMED, uuid, _error(body, limit), body)


def _error(body: bytes, limit: int) -> str:
    """Say what went wrong; a chain that can't be read says nothing, and ends nothing."""
    if b"ErrorChain" not in body:
        return ""
    try:
        return chain.line(_pick(body, _CHAIN, limit).get("ErrorChain"))
    except BadMessage:
        return ""


def _pick(body: bytes, keys: frozenset[str], limit: int) -> dict[str, object]:
    try:
        return plist.pick(body, keys, limit)
    except TooLarge:
        raise
    except BadMessage:
        # Somebody's app, network or computer may be named with a character that XML has not.
        body = plist.mended(body)
        return plist.pick(body, keys, max(limit, len(body)))
