"""
Commands that ask a simulated device something, by what it answers.

Source: Apple, device-management schema, ``mdm/commands``, the response keys.
"""

from cryptography import x509

from mdmd.pki.certificates import certificate_der
from mdmd.sim.hardware import Hardware
from mdmd.sim.installed import Installed, Keys, Refused, need


def device_information(device: Installed, command: Keys) -> dict[str, object]:
    """Tell those properties that are asked for and that it has."""
    queries = need(command, "Queries", list)
    properties = {**device.hardware.properties, **device.names}
    if "IsMDMLostModeEnabled" in properties:
        properties["IsMDMLostModeEnabled"] = device.lost
    return {
        "QueryResponses": {
            query: properties[query]
            for query in queries
            if isinstance(query, str) and query in properties
        }
    }


def security_info(device: Installed, _: Keys) -> dict[str, object]:
    """Tell how it is protected."""
    info: dict[str, object] = {
        "ManagementStatus": {
            "EnrolledViaDEP": False,
            "IsUserEnrollment": False,
            "UserApprovedEnrollment": True,
        }
    }
    info |= _MAC_SECURITY if device.hardware.is_mac else _MOBILE_SECURITY
    if device.hardware.is_mac:
        info["IsRecoveryLockEnabled"] = bool(device.recovery_password)
    return {"SecurityInfo": info}


_MAC_SECURITY: dict[str, object] = {
    "AuthenticatedRootVolumeEnabled": True,
    "BootstrapTokenAllowedForAuthentication": "allowed",
    "BootstrapTokenRequiredForKernelExtensionApproval": True,
    "BootstrapTokenRequiredForSoftwareUpdate": True,
    "FDE_Enabled": True,
    "FDE_HasInstitutionalRecoveryKey": False,
    "FDE_HasPersonalRecoveryKey": True,
    "FirewallSettings": {
        "Applications": [],
        "BlockAllIncoming": False,
        "FirewallEnabled": True,
        "StealthMode": False,
    },
    "RemoteDesktopEnabled": False,
    "SecureBoot": {"ExternalBootLevel": "not supported", "SecureBootLevel": "full"},
    "SystemIntegrityProtectionEnabled": True,
}
_MOBILE_SECURITY: dict[str, object] = {
    "HardwareEncryptionCaps": 3,
    "PasscodeCompliant": True,
    "PasscodeCompliantWithProfiles": True,
    "PasscodeLockGracePeriod": 0,
    "PasscodeLockGracePeriodEnforced": 0,
    "PasscodePresent": True,
}


def profile_list(device: Installed, _: Keys) -> dict[str, object]:
    """List the installed profiles, their payloads without the content."""
    listed = []
    for profile in device.profiles.values():
        content = profile.get("PayloadContent")
        payloads = (
            [each for each in content if isinstance(each, dict)]
            if isinstance(content, list)
            else []
        )
        listed.append(
            {
                **_payload(profile),
                "HasRemovalPasscode": False,
                "IsEncrypted": False,
                "IsManaged": True,
                "PayloadContent": [_payload(each) for each in payloads],
                "PayloadRemovalDisallowed": profile.get("PayloadRemovalDisallowed") is True,
            }
        )
    return {"ProfileList": listed}


def _payload(payload: Keys) -> dict[str, object]:
    shown = (
        "PayloadDescription",
        "PayloadDisplayName",
        "PayloadIdentifier",
        "PayloadOrganization",
        "PayloadType",
        "PayloadUUID",
        "PayloadVersion",
    )
    return {key: payload[key] for key in shown if key in payload}


def certificate_list(device: Installed, _: Keys) -> dict[str, object]:
    """List its identity."""
    names = device.identity.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return {
        "CertificateList": [
            {
                "CommonName": str(names[0].value) if names else "",
                "Data": certificate_der(device.identity),
                "IsIdentity": True,
            }
        ]
    }


def installed_applications(device: Installed, command: Keys) -> dict[str, object]:
    """List the apps, all or those named."""
    wanted = command.get("Identifiers")
    listed = {**_builtin(device.hardware), **device.applications}
    return {
        "InstalledApplicationList": [
            application
            for identifier, application in listed.items()
            if not isinstance(wanted, list) or identifier in wanted
        ]
    }


def _builtin(hardware: Hardware) -> dict[str, dict[str, object]]:
    if not hardware.is_mac:
        return {}  # the system's own are not listed there
    version = hardware.model.os_version
    names = {"Safari": "18.1", "Mail": "16.0", "Notes": "4.11", "Terminal": "2.14"}
    return {
        f"com.apple.{name}": {
            "BundleSize": 1 << 20,
            "Identifier": f"com.apple.{name}",
            "Name": name,
            "ShortVersion": short,
            "Version": version,
        }
        for name, short in names.items()
    }


def managed_applications(device: Installed, _: Keys) -> dict[str, object]:
    """List the apps that the server installed."""
    return {
        "ManagedApplicationList": {
            identifier: {
                "HasConfiguration": False,
                "HasFeedback": False,
                "IsValidated": True,
                "ManagementFlags": 1,
                "Status": "Managed",
            }
            for identifier in device.applications
        }
    }


def restrictions(_: Installed, __: Keys) -> dict[str, object]:
    """Tell what is restricted: nothing."""
    return {"GlobalRestrictions": {"restrictedBool": {}, "restrictedValue": {}}}


def user_list(device: Installed, _: Keys) -> dict[str, object]:
    """List the users of a Mac."""
    if not device.hardware.is_mac:
        raise Refused(12064, "The device is not a Shared iPad.")
    user = {
        "FullName": "Sam Example",
        "HasSecureToken": True,
        "IsLoggedIn": True,
        "UID": 501,
        "UserGUID": "A1B2C3D4-0000-4000-8000-000000000501",
        "UserName": "sam",
    }
    return {"Users": [user]}


def update_scan(_: Installed, __: Keys) -> dict[str, object]:
    """Begin to look for updates."""
    return {"ScanInitiated": True}


def updates(_: Installed, __: Keys) -> dict[str, object]:
    """List the updates there are: none."""
    return {"AvailableOSUpdates": []}


def update_status(_: Installed, __: Keys) -> dict[str, object]:
    """List the updates under way: none."""
    return {"OSUpdateStatus": []}


def schedule_update(_: Installed, command: Keys) -> dict[str, object]:
    """Take up each update named."""
    updates = [each for each in need(command, "Updates", list) if isinstance(each, dict)]
    return {
        "UpdateResults": [
            {
                "InstallAction": each.get("InstallAction", "Default"),
                "ProductKey": each.get("ProductKey", ""),
                "Status": "Idle",
            }
            for each in updates
        ]
    }


def location(device: Installed, _: Keys) -> dict[str, object]:
    """Tell where it is, when it is lost."""
    if not device.lost:
        raise Refused(12067, "The device is not in Lost Mode.")
    return {
        "Altitude": 34.0,
        "Course": -1.0,
        "HorizontalAccuracy": 65.0,
        "Latitude": 52.52,
        "Longitude": 13.405,
        "Speed": -1.0,
        "Timestamp": "2026-01-01T12:00:00Z",
        "VerticalAccuracy": 10.0,
    }
