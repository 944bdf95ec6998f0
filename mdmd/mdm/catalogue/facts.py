"""What has to be known of an enrollment to say whether it can take a command."""

import re
from collections.abc import Mapping

import attrs

from mdmd.mdm.enrollment import EnrollmentType

Version = tuple[int, ...]

# How ProductName and Model begin, by platform.
_PRODUCTS = {
    "iOS": ("iPhone", "iPad", "iPod"),
    "macOS": ("Mac", "iMac", "VirtualMac", "Xserve"),
    "tvOS": ("AppleTV", "Apple TV"),
    "visionOS": ("RealityDevice", "Apple Vision"),
    "watchOS": ("Watch", "Apple Watch"),
}
_VERSION = re.compile(r"\d{1,5}(?:\.\d{1,5}){0,3}")
_YES = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@attrs.frozen
class Facts:
    """All of it; None (or the empty version) where it is not known yet."""

    type: EnrollmentType = EnrollmentType.DEVICE
    platform: str | None = None  # one of entry.PLATFORMS
    version: Version = ()
    supervised: bool | None = None
    automated: bool | None = None  # enrolled by automated device enrollment
    shared_ipad: bool | None = None
    access_rights: int | None = None

    @property
    def channel(self) -> str:
        """Say "device" or "user"."""
        of_user = (EnrollmentType.USER, EnrollmentType.USER_ENROLLMENT, EnrollmentType.SHARED_IPAD)
        return "user" if self.type in of_user else "device"

    @property
    def user_enrollment(self) -> bool:
        """Say whether the person owns the device and enrolled it as such."""
        return self.type in (EnrollmentType.USER_ENROLLMENT, EnrollmentType.USER_ENROLLMENT_DEVICE)


def facts_of(
    kind: EnrollmentType, fields: Mapping[str, object], access_rights: int | None = None
) -> Facts:
    """
    Gather what an enrollment's inventory fields say.

    :param fields: by Apple's names: ProductName, Model, ModelName, OSVersion,
        IsSupervised, EnrolledViaDEP, IsMultiUser; values as they came, or as text.
    """
    shared = _flag(fields.get("IsMultiUser"))
    return Facts(
        type=kind,
        platform=platform_of(fields),
        version=parse_version(str(fields.get("OSVersion") or "")),
        supervised=_flag(fields.get("IsSupervised")),
        automated=_flag(fields.get("EnrolledViaDEP")),
        shared_ipad=True if kind is EnrollmentType.SHARED_IPAD else shared,
        access_rights=access_rights,
    )


def platform_of(fields: Mapping[str, object]) -> str | None:
    """Say the platform by ProductName, ModelName or Model, None if none of them tells."""
    for field in ("ProductName", "ModelName", "Model"):
        text = str(fields.get(field) or "")
        for platform, starts in _PRODUCTS.items():
            if text.startswith(starts):
                return platform
    return None


def parse_version(text: str) -> Version:
    """Read the numbers a version begins with, () if there are none; 17.0 equals 17."""
    found = _VERSION.match(text.strip())
    numbers = [int(each) for each in found[0].split(".")] if found else []
    while len(numbers) > 1 and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _flag(value: object) -> bool | None:
    return _YES.get(str(value).casefold()) if isinstance(value, bool | int | str) else None
