"""Who a message comes from: enrollment ids and their kinds."""

import re
from collections.abc import Mapping
from enum import StrEnum

import attrs

from mdmd.errors import BadMessage

SHARED_IPAD_USER = "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"

MAX_ID = 255  # characters; Apple's are 36 or 40, short names may be an e-mail address

# Nearly every id is one of Apple's, and ten thousand may come in one call.
_UDID = re.compile(r"[0-9A-Fa-f-]{25,40}", re.ASCII)


class EnrollmentType(StrEnum):
    """The five kinds, spelled as NanoMDM's events and API spell them."""

    DEVICE = "Device"
    USER = "User"
    USER_ENROLLMENT_DEVICE = "User Enrollment (Device)"
    USER_ENROLLMENT = "User Enrollment"
    SHARED_IPAD = "Shared iPad"


@attrs.frozen
class EnrollmentID:
    """One enrollment: a device's own, or a user channel on it."""

    device: str  # UDID, or EnrollmentID for User Enrollment
    channel: str = ""  # "" for the device's own; UserID, UserShortName or EnrollmentUserID else
    type: EnrollmentType = EnrollmentType.DEVICE

    def __str__(self) -> str:
        """Spell it as people and tools do: ``UDID`` or ``UDID:user``."""
        return f"{self.device}:{self.channel}" if self.channel else self.device

    @property
    def parent(self) -> str | None:
        """Name the device whose user channel this is; None for a device."""
        return self.device if self.channel else None

    @classmethod
    def parse(cls, text: str) -> "EnrollmentID":
        """
        Read what a person or program typed, ``UDID`` or ``UDID:user``.

        The type is not in the text: it comes out as Device or User, and only
        the store knows better.

        :raises BadMessage: empty, overlong, with control characters or braces,
            or a colon with nothing after it.
        """
        if _UDID.fullmatch(text):
            return cls(text)
        device, colon, channel = text.strip().partition(":")
        if not (_sound(device) and (_sound(channel) or not colon)):
            raise BadMessage("not an enrollment id")
        kind = EnrollmentType.USER if channel else EnrollmentType.DEVICE
        return cls(device, channel, kind)


def _sound(text: str) -> bool:
    """
    Say whether this can be (half of) an id, so that people can type it back.

    Braces would move a device's keys to another slot of a Redis cluster.
    """
    return (
        0 < len(text) <= MAX_ID
        and text.isprintable()
        and "{" not in text
        and "}" not in text
        and text[0] != " "
        and text[-1] != " "
    )


def _text(message: Mapping[str, object], key: str) -> str:
    value = message.get(key, "")
    if value == "":
        return ""
    if not isinstance(value, str) or not _sound(value):
        raise BadMessage(f"{key} is not a usable string")
    return value


def enrollment_id(message: Mapping[str, object]) -> EnrollmentID:
    """
    Say which enrollment a message comes from.

    UDID wins over EnrollmentID; case is kept.

    :raises BadMessage: neither is there, or one is not a usable string.
    Source: Apple, "Check-in"; the user channel's rules as in NanoMDM.
    """
    udid, enrollment = _text(message, "UDID"), _text(message, "EnrollmentID")
    if ":" in udid or ":" in enrollment:
        raise BadMessage("an id with a colon in it")
    if udid:
        user = _text(message, "UserID")
        if user == SHARED_IPAD_USER:
            short_name = _text(message, "UserShortName")
            if not short_name:
                raise BadMessage("a Shared iPad user without UserShortName")
            return EnrollmentID(udid, short_name, EnrollmentType.SHARED_IPAD)
        if user:
            return EnrollmentID(udid, user, EnrollmentType.USER)
        return EnrollmentID(udid)
    if enrollment:
        user = _text(message, "EnrollmentUserID")
        if user:
            return EnrollmentID(enrollment, user, EnrollmentType.USER_ENROLLMENT)
        return EnrollmentID(enrollment, "", EnrollmentType.USER_ENROLLMENT_DEVICE)
    raise BadMessage("neither UDID nor EnrollmentID")
