"""
What a device says of itself before it enrolls, and what may be demanded of it.

Source: Apple, MachineInfo and the 403 answer com.apple.softwareupdate.required.
"""

import json
from collections.abc import Iterable, Mapping

import attrs

from mdmd.errors import BadMessage
from mdmd.mdm import plist

_LIMIT = 64 << 10  # bytes
_IOS = ("iPhone", "iPad", "iPod")
_LONGEST = 255


@attrs.frozen
class MachineInfo:
    """A MachineInfo; "" is what was not said."""

    udid: str
    serial: str
    product: str
    os_version: str
    build: str
    can_update: bool  # it can be told to update before it enrolls

    @property
    def system(self) -> str:
        """Say which system it runs: iOS, macOS, or "" for another."""
        if self.product.startswith(_IOS):
            return "iOS"
        return "macOS" if "Mac" in self.product else ""


def read_machine_info(body: bytes) -> MachineInfo:
    """
    Read a MachineInfo plist, out of its signature.

    :raises BadMessage: it is none.
    """
    info = plist.loads(body, limit=_LIMIT)
    if "PRODUCT" not in info and "UDID" not in info:
        raise BadMessage("not a MachineInfo: neither PRODUCT nor UDID")
    return MachineInfo(
        udid=_text(info, "UDID"),
        serial=_text(info, "SERIAL"),
        product=_text(info, "PRODUCT"),
        os_version=_text(info, "OS_VERSION"),
        build=_text(info, "VERSION"),
        can_update=info.get("MDM_CAN_REQUEST_SOFTWARE_UPDATE") is True,
    )


def _text(info: Mapping[str, object], key: str) -> str:
    value = info.get(key, "")
    if not isinstance(value, str) or len(value) > _LONGEST or not (value.isprintable()):
        raise BadMessage(f"MachineInfo has no usable {key}")
    return value


def minimum(text: str) -> tuple[str, tuple[int, ...]]:
    """Read ``iOS 17.5`` as a system and a version."""
    system, _, version = text.partition(" ")
    return system, _version(version)


def update_demanded(info: MachineInfo, minimums: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    """
    Say to which version a device has to update before it enrolls, "" if to none.

    One that can't be told to, or does not say what it runs, is let in.
    """
    for system, version in minimums:
        known = info.can_update and info.system == system and info.os_version
        if known and _version(info.os_version) < version:
            return ".".join(map(str, version))
    return ""


def software_update_required(version: str) -> bytes:
    """Write the body of the 403 answer that makes a device update first."""
    answer = {
        "code": "com.apple.softwareupdate.required",
        "description": f"This server needs version {version} or newer.",
        "details": {"OSVersion": version},
    }
    return json.dumps(answer).encode()


def _version(text: str) -> tuple[int, ...]:
    parts = text.split(".")
    return tuple(int(each) for each in parts if each.isascii() and each.isdigit())
