"""
What simulated devices are made of: the models, and what one device says of itself.

A device is made from a seed and a number, so that the same fleet can be made
again; no two of a fleet share an id, a serial number or an address.
"""

import hashlib
from collections.abc import Mapping
from uuid import UUID

import attrs

_LETTERS = "0123456789CDFGHJKLMNPQRTVWXY"  # those of Apple's serial numbers


@attrs.frozen
class Model:
    """One kind of hardware with the system on it."""

    platform: str  # macOS, iOS, iPadOS or tvOS
    name: str  # ModelName
    product: str  # ProductName
    model: str  # Model, the order number
    os_version: str
    build: str
    capacity: float  # GB; 0: it does not say
    cellular: bool = False


MODELS: Mapping[str, Model] = {
    "mac": Model("macOS", "MacBook Pro", "Mac15,6", "MRX33LL/A", "15.1", "24B83", 494.4),
    "iphone": Model("iOS", "iPhone", "iPhone16,1", "MTU93LL/A", "18.1", "22B83", 256.0, True),
    "ipad": Model("iPadOS", "iPad", "iPad14,3", "MNXF3LL/A", "18.1", "22B83", 256.0),
    "appletv": Model("tvOS", "Apple TV", "AppleTV14,1", "MN873LL/A", "18.1", "22J580", 0.0),
}


@attrs.frozen
class Hardware:
    """
    One device.

    :ivar facts: what Authenticate says of it.
    :ivar properties: what DeviceInformation can ask of it, by query.
    """

    model: Model
    udid: str
    serial: str
    name: str
    facts: dict[str, str]
    properties: dict[str, object] = attrs.field(repr=False)

    @property
    def is_mac(self) -> bool:
        """Say whether it is a Mac, which has users."""
        return self.model.platform == "macOS"


def make_hardware(kind: str, seed: str, number: int) -> Hardware:
    """
    Make device ``number`` of a fleet.

    :param kind: a key of :data:`MODELS`.
    """
    model = MODELS[kind]
    noise = hashlib.sha256(f"{seed} {kind} {number}".encode()).digest()
    serial = "".join(_LETTERS[byte % len(_LETTERS)] for byte in noise[:10])
    udid = _udid(model, noise)
    name = _name(model, number)
    facts = {
        "BuildVersion": model.build,
        "DeviceName": name,
        "Model": model.model,
        "ModelName": model.name,
        "OSVersion": model.os_version,
        "ProductName": model.product,
        "SerialNumber": serial,
    }
    if model.cellular:
        facts["IMEI"] = _imei(noise)
    properties = _common(facts, noise, udid) | _OWN[model.platform](model, noise, facts)
    return Hardware(model, udid, serial, name, facts, properties)


def _name(model: Model, number: int) -> str:
    return f"{model.name} {number}"


def _udid(model: Model, noise: bytes) -> str:
    if model.platform == "macOS":
        return str(UUID(bytes=noise[:16], version=5)).upper()
    # Chip, a hyphen, and the chip's own number: what all have had since the iPhone XS.
    return f"00008130-{noise[:8].hex().upper()}"


def _imei(noise: bytes) -> str:
    digits = "35" + str(int.from_bytes(noise[10:16], "big"))[:12].rjust(12, "0")
    doubled = [int(d) * (1 + index % 2) for index, d in enumerate(digits)]
    check = -sum(value - 9 * (value > 9) for value in doubled) % 10
    text = digits + str(check)
    return f"{text[:2]} {text[2:8]} {text[8:14]} {text[14]}"


def _address(noise: bytes, number: int) -> str:
    last = (noise[20] + number) % 256
    return ":".join(f"{byte:02x}" for byte in (0xF0, 0x18, 0x98, noise[18], noise[19], last))


def _common(facts: Mapping[str, str], noise: bytes, udid: str) -> dict[str, object]:
    return {
        **{key: value for key, value in facts.items() if key != "IMEI"},
        "UDID": udid,
        "ModelNumber": facts["Model"],
        "SupplementalBuildVersion": facts["BuildVersion"],
        "IsSupervised": True,
        "AwaitingConfiguration": False,
        "iTunesStoreAccountIsActive": False,
        "WiFiMAC": _address(noise, 0),
        "BluetoothMAC": _address(noise, 1),
        "OrganizationInfo": {},
        "MDMOptions": {},
    }


def _mac(model: Model, noise: bytes, facts: Mapping[str, str]) -> dict[str, object]:
    host = facts["DeviceName"].replace(" ", "-")
    return {
        "ActiveManagedUsers": [],
        "AutoSetupAdminAccounts": [],
        "AvailableDeviceCapacity": _available(model, noise),
        "BatteryLevel": _battery(noise),
        "DeviceCapacity": model.capacity,
        "EthernetMAC": _address(noise, 2),
        "HasBattery": True,
        "HostName": f"{host}.local",
        "IsActivationLockEnabled": False,
        "IsActivationLockSupported": True,
        "IsAppleSilicon": True,
        "LocalHostName": host,
        "OSUpdateSettings": {"AutoCheckEnabled": True, "AutomaticSecurityUpdatesEnabled": True},
        "PINRequiredForDeviceLock": False,
        "PINRequiredForEraseDevice": False,
        "ProvisioningUDID": f"00006030-{noise[:8].hex().upper()}",
        "SoftwareUpdateDeviceID": "J514sAP",
        "SupportsLOMDevice": False,
        "SupportsiOSAppInstalls": True,
        "SystemIntegrityProtectionEnabled": True,
    }


def _mobile(model: Model, noise: bytes, facts: Mapping[str, str]) -> dict[str, object]:
    cellular: dict[str, object] = {
        "CellularTechnology": 3,
        "DataRoamingEnabled": False,
        "IMEI": facts.get("IMEI", ""),
        "ICCID": f"8914800000{int.from_bytes(noise[16:20], 'big'):010d}",
        "IsRoaming": False,
        "ModemFirmwareVersion": "2.20.03",
        "SubscriberCarrierNetwork": "Simulated",
    }
    return {
        "AppAnalyticsEnabled": False,
        "AvailableDeviceCapacity": _available(model, noise),
        "BatteryLevel": _battery(noise),
        "DeviceCapacity": model.capacity,
        "DiagnosticSubmissionEnabled": False,
        "EASDeviceIdentifier": noise[:16].hex().upper(),
        "IsActivationLockEnabled": False,
        "IsCloudBackupEnabled": False,
        "IsDeviceLocatorServiceEnabled": False,
        "IsDoNotDisturbInEffect": False,
        "IsMDMLostModeEnabled": False,
        "IsMultiUser": False,
        "IsNetworkTethered": False,
        "PersonalHotspotEnabled": False,
        "TimeZone": "Europe/Berlin",
        **(cellular if model.cellular else {"CellularTechnology": 0}),
    }


def _tv(_: Model, noise: bytes, __: Mapping[str, str]) -> dict[str, object]:
    return {"DeviceID": _address(noise, 0).upper(), "TimeZone": "Europe/Berlin"}


def _available(model: Model, noise: bytes) -> float:
    return round(model.capacity * (0.2 + noise[21] / 400), 1)


def _battery(noise: bytes) -> float:
    return round(0.3 + noise[22] % 70 / 100, 2)


_OWN = {"macOS": _mac, "iOS": _mobile, "iPadOS": _mobile, "tvOS": _tv}
