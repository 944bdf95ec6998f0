"""One device as a person wants to read it: what it is, how it is, what is on it."""

from collections.abc import Mapping
from typing import Any

from mdmd.cli import show

# What goes under which heading, in this order; what is left goes under "Also known".
_SECTIONS = {
    "Device": (
        "DeviceName", "ModelName", "Model", "ModelNumber", "ProductName", "SerialNumber", "UDID",
        "IMEI", "MEID", "DeviceCapacity", "AvailableDeviceCapacity", "BatteryLevel", "HasBattery",
        "IsAppleSilicon", "HostName", "LocalHostName", "TimeZone",
    ),
    "System": (
        "OSVersion", "SupplementalOSVersionExtra", "BuildVersion", "SupplementalBuildVersion",
        "OSUpdateSettings", "OSUpdateStatus",
    ),
    "Management": (
        "IsSupervised", "EnrolledViaDEP", "UserApprovedEnrollment", "IsUserEnrollment",
        "IsMultiUser", "IsMDMLostModeEnabled", "AwaitingConfiguration", "IsActivationLockEnabled",
        "IsActivationLockManageable", "MDMOptions", "OrganizationInfo",
    ),
    "Security": (
        "PasscodePresent", "PasscodeCompliant", "PasscodeCompliantWithProfiles",
        "HardwareEncryptionCaps", "FDE_Enabled", "FDE_HasPersonalRecoveryKey",
        "FDE_HasInstitutionalRecoveryKey", "SystemIntegrityProtectionEnabled", "FirewallSettings",
        "FirmwarePasswordStatus", "SecureBoot", "IsRecoveryLockEnabled",
    ),
    "Network": (
        "WiFiMAC", "BluetoothMAC", "EthernetMAC", "PhoneNumber", "CurrentCarrierNetwork",
        "SubscriberCarrierNetwork", "IsRoaming", "ServiceSubscriptions",
    ),
}  # fmt: skip
# Lists that are counted and named, not spelled out.
_LISTS = {
    "InstalledApplicationList": ("Apps", "Name", "ShortVersion"),
    "ManagedApplicationList": ("Managed apps", "", ""),
    "ProfileList": ("Profiles", "PayloadDisplayName", "PayloadIdentifier"),
    "ProvisioningProfileList": ("Provisioning profiles", "Name", "UUID"),
    "CertificateList": ("Certificates", "CommonName", ""),
    "AvailableOSUpdates": ("Updates", "HumanReadableName", "Version"),
    "Users": ("Users", "UserName", "FullName"),
}
_NAMED = 12  # of a list


def portrait(record: Mapping[str, Any], inventory: Mapping[str, Any]) -> list[str]:
    """Lay out a record and its inventory, a line a fact."""
    fields = {name: each["value"] for name, each in inventory["fields"].items()}
    known = {**record["facts"], **fields}
    lines = _section("Enrollment", _enrollment(record, inventory))
    for title, names in _SECTIONS.items():
        lines += _section(title, [(name, known.pop(name)) for name in names if name in known])
    lists = {name: known.pop(name) for name in _LISTS if name in known}
    lines += _section("Also known", sorted(known.items()))
    for name, value in lists.items():
        lines += _list(name, value)
    times = [each["at"] for each in inventory["fields"].values()]
    if times:
        lines.append(f"Told between {show.age(min(times))} and {show.age(max(times))}.")
    return lines


def changes(found: list[dict[str, Any]]) -> list[str]:
    """Lay out what changed."""
    rows = ((show.moment(each["at"]), each["field"], _plain(each["value"])) for each in found)
    return show.table(("SINCE", "FIELD", "VALUE"), rows, show.width())


def _enrollment(record: Mapping[str, Any], inventory: Mapping[str, Any]) -> list[tuple[str, Any]]:
    from mdmd.cli.fleet import state_of

    facts = [
        ("Id", record["id"]),
        ("Type", record["type"]),
        ("State", state_of(record)),
        *[(name.capitalize(), text) for name, text in inventory["notes"].items()],
        ("Groups", ", ".join(inventory["groups"])),
        ("Enrolled", _time(record["enrolled_at"])),
        ("Last seen", _time(record["last_seen"])),
        ("Waiting commands", record["pending"] or ""),
        ("Topic", record["topic"]),
        ("Last push", f"{_time(record['last_push'])}  {record['last_push_result']}".strip()),
        ("Unlock token", "kept" if record["has_unlock_token"] else ""),
        ("Bootstrap token", "kept" if record["has_bootstrap_token"] else ""),
    ]
    return [(name, value) for name, value in facts if value != ""]


def _time(milliseconds: int | None) -> str:
    return "" if milliseconds is None else f"{show.moment(milliseconds)} ({show.age(milliseconds)})"


def _section(title: str, facts: list[tuple[str, Any]]) -> list[str]:
    if not facts:
        return []
    width = max(show.cells(show.clean(name)) for name, _ in facts)
    lines = [show.colour(title, show.BOLD)]
    for name, value in facts:
        if isinstance(value, dict | list) and value:
            lines += [f"  {show.clean(name)}:", *show.tree(value, "    ")]
        else:
            told = "none" if value in ({}, []) else _of(name, value)
            lines.append(f"  {show.fit(show.clean(name), width)}  {told}")
    return [*lines, ""]


def _list(name: str, value: Any) -> list[str]:
    title, first, second = _LISTS[name]
    if isinstance(value, dict):
        names = [show.clean(each) for each in value]
    elif isinstance(value, list):
        names = [_element(each, first, second) for each in value]
    else:
        return _section(title, [(name, value)])
    shown = sorted(filter(None, names), key=str.casefold)
    lines = [show.colour(f"{title} ({len(names)})", show.BOLD)]
    lines += [f"  {each}" for each in shown[:_NAMED]]
    if len(shown) > _NAMED:
        lines.append(f"  and {len(shown) - _NAMED} more: --json shows all")
    return [*lines, ""]


def _element(each: Any, first: str, second: str) -> str:
    if not isinstance(each, dict):
        return show.clean(each)
    name = each.get(first) or each.get("Identifier") or each.get("ProductKey") or ""
    return " ".join(filter(None, (show.clean(name), show.clean(each.get(second) or ""))))


def _of(name: str, value: Any) -> str:
    """Spell a value in the unit in which people think of it."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and name == "BatteryLevel" and 0 <= value <= 1:
        return f"{value:.0%}"
    if number and name in ("DeviceCapacity", "AvailableDeviceCapacity"):
        return f"{value:.1f} GB"
    return _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value in ("true", "false"):
        return "yes" if value in (True, "true") else "no"
    if isinstance(value, dict):
        return ", ".join(f"{show.clean(name)}: {_plain(each)}" for name, each in value.items())
    return ", ".join(map(_plain, value)) if isinstance(value, list) else show.clean(value)
