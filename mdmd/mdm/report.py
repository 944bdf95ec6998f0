"""Reports: what a device answers at connect. Bytes in, values out."""

from enum import StrEnum

import attrs

from mdmd.mdm.enrollment import EnrollmentID


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
