"""What is on a simulated device, and how it says no."""

from collections.abc import Mapping
from typing import TypeVar

import attrs
from cryptography import x509

from mdmd.errors import MdmdError
from mdmd.sim.hardware import Hardware

Keys = Mapping[str, object]
Value = TypeVar("Value")
Chain = tuple[dict[str, object], ...]


class Refused(MdmdError):
    """The device answers Error, with this ErrorChain."""

    def __init__(self, code: int, text: str, domain: str = "MCMDMErrorDomain") -> None:
        super().__init__(text)
        self.chain: Chain = (
            {
                "ErrorCode": code,
                "ErrorDomain": domain,
                "LocalizedDescription": text,
                "USEnglishDescription": text,
            },
        )


class Malformed(MdmdError):
    """The device answers CommandFormatError: a key is missing, or of another type."""


@attrs.define
class Installed:
    """What is on a device and may change."""

    hardware: Hardware
    identity: x509.Certificate
    profiles: dict[str, dict[str, object]] = attrs.field(factory=dict)  # by PayloadIdentifier
    applications: dict[str, dict[str, object]] = attrs.field(factory=dict)  # by bundle id
    names: dict[str, str] = attrs.field(factory=dict)  # set by Settings
    lost: bool = False
    unlock_token: bytes = attrs.field(default=b"", repr=False)
    recovery_password: str = attrs.field(default="", repr=False)

    def installs(self, profile: Keys) -> None:
        """Put a profile on it; one of the same identifier is replaced."""
        identifier = profile.get("PayloadIdentifier")
        if not isinstance(identifier, str) or profile.get("PayloadType") != "Configuration":
            raise Refused(1000, "The profile is not valid.", "MCProfileErrorDomain")
        self.profiles[identifier] = dict(profile)


def need(command: Keys, key: str, kind: type[Value]) -> Value:
    """
    Read a key that a command must have.

    :raises Malformed: it is missing, or of another type.
    """
    value = command.get(key)
    if type(value) is not kind:
        raise Malformed(f"no usable {key}")
    return value
