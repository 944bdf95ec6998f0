"""
Commands that change a simulated device.

Source: Apple, device-management schema, ``mdm/commands``.
"""

from mdmd.errors import MdmdError
from mdmd.mdm import plist
from mdmd.pki import signed_data
from mdmd.sim.installed import Installed, Keys, Malformed, Refused, need

LARGEST = 32 << 20  # bytes of a command, as much as the server takes from who sends one
_SIGNED = b"\x30"  # a profile in a CMS message begins so: it is DER


def install_profile(device: Installed, command: Keys) -> dict[str, object]:
    """Install a profile; one of the same identifier is replaced."""
    device.installs(read_payload(command))
    return {}


def read_payload(command: Keys) -> dict[str, object]:
    """
    Read the profile in an InstallProfile command, signed (by whomever) or not.

    :raises Malformed: there is none.
    :raises Refused: it is no property list.
    """
    profile = need(command, "Payload", bytes)
    try:
        if profile[:1] == _SIGNED:
            profile = signed_data.read(profile, LARGEST).content or b""
        return plist.loads(profile, LARGEST)
    except Malformed:
        raise
    except MdmdError:
        raise Refused(1000, "The profile is not valid.", "MCProfileErrorDomain") from None


def remove_profile(device: Installed, command: Keys) -> dict[str, object]:
    """Remove a profile by its identifier."""
    identifier = need(command, "Identifier", str)
    if identifier not in device.profiles:
        raise Refused(12075, f"There is no profile with the identifier “{identifier}”.")
    del device.profiles[identifier]
    return {}


def install_application(device: Installed, command: Keys) -> dict[str, object]:
    """Install an app."""
    identifier = command.get("Identifier")
    if not isinstance(identifier, str):
        numbered = command.get("iTunesStoreID")
        if not isinstance(numbered, int) and not isinstance(command.get("ManifestURL"), str):
            raise Malformed("neither Identifier, nor iTunesStoreID, nor ManifestURL")
        identifier = f"com.example.app{numbered or ''}"
    device.applications[identifier] = {
        "BundleSize": 1 << 20,
        "Identifier": identifier,
        "Name": identifier.rpartition(".")[2],
        "ShortVersion": "1.0",
        "Version": "1",
    }
    return {"Identifier": identifier, "State": "Prompting"}


def remove_application(device: Installed, command: Keys) -> dict[str, object]:
    """Remove an app that the server installed."""
    identifier = need(command, "Identifier", str)
    if device.applications.pop(identifier, None) is None:
        raise Refused(12026, f"“{identifier}” is not a managed app.")
    return {}


def settings(device: Installed, command: Keys) -> dict[str, object]:
    """Change settings; each has its own status."""
    done = []
    for setting in need(command, "Settings", list):
        if not isinstance(setting, dict) or not isinstance(setting.get("Item"), str):
            raise Malformed("a setting without Item")
        name = setting.get(setting["Item"])
        if setting["Item"] in ("DeviceName", "HostName") and isinstance(name, str):
            device.names[setting["Item"]] = name
        done.append({"Item": setting["Item"], "Status": "Acknowledged"})
    return {"Settings": done}


def lock(_: Installed, __: Keys) -> dict[str, object]:
    """Lock the screen."""
    return {"MessageResult": "Success"}


def clear_passcode(device: Installed, command: Keys) -> dict[str, object]:
    """Forget the passcode, for who has the unlock token."""
    if need(command, "UnlockToken", bytes) != device.unlock_token:
        raise Refused(5013, "The unlock token is not valid.", "MCPasscodeErrorDomain")
    return {}


def lose(device: Installed, command: Keys) -> dict[str, object]:
    """Begin lost mode."""
    if not any(isinstance(command.get(key), str) for key in ("Message", "PhoneNumber")):
        raise Malformed("neither Message nor PhoneNumber")
    device.lost = True
    return {}


def find(device: Installed, _: Keys) -> dict[str, object]:
    """End lost mode."""
    if not device.lost:
        raise Refused(12067, "The device is not in Lost Mode.")
    device.lost = False
    return {}


def play_sound(device: Installed, _: Keys) -> dict[str, object]:
    """Make a noise, when it is lost."""
    if not device.lost:
        raise Refused(12067, "The device is not in Lost Mode.")
    return {}


def set_recovery_lock(device: Installed, command: Keys) -> dict[str, object]:
    """Set the recovery lock's password; the current one has to be given."""
    current = command.get("CurrentPassword", "")
    if device.recovery_password and current != device.recovery_password:
        raise Refused(12071, "The current password is wrong.")
    device.recovery_password = str(command.get("NewPassword", ""))
    return {}


def verify_recovery_lock(device: Installed, command: Keys) -> dict[str, object]:
    """Say whether a password is that of the recovery lock."""
    password = need(command, "Password", str)
    return {"PasswordVerified": bool(password) and password == device.recovery_password}
