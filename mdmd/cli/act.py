"""What people send daily, under a name of its own: lock, wipe, restart, install-profile…"""

import argparse
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdmd.cli.send import add_how, add_targets, dispatch, how

if TYPE_CHECKING:
    from mdmd.cli.client import Remote

# What `info` asks for: it says what a device is, and how it is.
_INFO = (
    "DeviceName", "OSVersion", "BuildVersion", "ModelName", "Model", "ProductName", "SerialNumber",
    "UDID", "DeviceCapacity", "AvailableDeviceCapacity", "BatteryLevel", "IsSupervised",
    "IsMultiUser", "WiFiMAC", "BluetoothMAC", "PhoneNumber", "IMEI", "TimeZone",
    "AwaitingConfiguration", "HostName", "LocalHostName",
)  # fmt: skip

_SIGNED = b"\x30"  # a profile in a CMS message begins so: it is DER

Keys = Callable[[argparse.Namespace], tuple[str, dict[str, Any]]]


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    lock = _verb(subparsers, "lock", "lock devices now", _lock)
    lock.add_argument("--pin", metavar="PIN", help="six digits, for Macs (default: made up)")
    lock.add_argument("--message", metavar="TEXT", help="shown on the lock screen")
    lock.add_argument("--phone", metavar="NUMBER", help="shown on the lock screen")
    wipe = _verb(subparsers, "wipe", "erase devices, for good", _wipe)
    wipe.add_argument("--pin", metavar="PIN", help="six digits, for older Macs (default: made up)")
    wipe.add_argument("--yes", action="store_true", help="don't ask for the serial number")
    wipe.add_argument("--keep-plan", action="store_true", help="keep the mobile plan")
    restart = _verb(subparsers, "restart", "restart devices", _restart)
    restart.add_argument("--ask", action="store_true", help="a Mac asks its user first")
    _verb(subparsers, "shutdown", "switch devices off", lambda _: ("ShutDownDevice", {}))
    _verb(subparsers, "info", "ask devices what they are, and how", _info)
    install = _verb(subparsers, "install-profile", "install a profile", _install_profile, ids=False)
    install.add_argument("file", metavar="FILE", help="a .mobileconfig, signed or not")
    install.add_argument("id", metavar="ID", nargs="*")
    remove = _verb(subparsers, "remove-profile", "remove a profile", _remove_profile, ids=False)
    remove.add_argument("identifier", metavar="IDENTIFIER|FILE")
    remove.add_argument("id", metavar="ID", nargs="*")
    app = _verb(subparsers, "install-app", "install an app", _install_app, ids=False)
    app.add_argument("app", metavar="NUMBER|IDENTIFIER|URL", help="App Store number, or manifest")
    app.add_argument("id", metavar="ID", nargs="*")
    app.add_argument("--removable", action="store_true", help="goes when the management goes")
    app.add_argument("--mac-package", action="store_true", help="URL is of a package for Macs")
    update = _verb(subparsers, "update-os", "update the system of devices", _update_os)
    update.add_argument("--version", metavar="VERSION", help="such as 18.1")
    update.add_argument("--product-key", metavar="KEY", help="as AvailableOSUpdates says")
    update.add_argument(
        "--action",
        default="InstallASAP",
        choices=(
            "Default", "DownloadOnly", "InstallASAP", "NotifyOnly", "InstallLater",
            "InstallForceRestart",
        ),
    )  # fmt: skip
    lost = _verb(subparsers, "lost-mode", "lost mode on, off, locate, sound", _lost, ids=False)
    lost.add_argument("what", choices=("on", "off", "locate", "sound"))
    lost.add_argument("id", metavar="ID", nargs="*")
    lost.add_argument("--message", metavar="TEXT", help="shown on the screen")
    lost.add_argument("--phone", metavar="NUMBER", help="shown on the screen")
    clear = subparsers.add_parser("clear-passcode", help="take the passcode off devices")
    clear.add_argument("id", metavar="ID", nargs="+")
    clear.set_defaults(run=_clear_passcode, all=False, where="", group="")


def _verb(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    keys: Keys,
    ids: bool = True,
) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(name, help=text)
    if ids:
        parser.add_argument("id", metavar="ID", nargs="*")
    add_targets(parser)
    add_how(parser)
    parser.set_defaults(run=_send, makes=keys)
    return parser


def _send(args: argparse.Namespace) -> int:
    from mdmd.errors import BadRequest
    from mdmd.mdm.catalogue.check import check_form

    request_type, made = args.makes(args)
    given = {key: value for key, value in made.items() if value is not None}
    faults = () if args.force else check_form(request_type, given).faults
    if faults:
        raise BadRequest("\n".join(faults))
    options = {"request_type": request_type, "keys": given, "uuid": None, **how(args)}
    ask = _confirm if request_type == "EraseDevice" and not args.yes else None
    # What a device can't take, such as a PIN, is left out for it.
    options["prune"] = not args.force
    made_up = "PIN" in given and not args.pin
    sent = _tell_pin(given["PIN"]) if made_up else lambda reply: None
    return dispatch(args, args.id, "commands.send", options, ask, sent)


def _tell_pin(pin: str) -> Callable[[dict[str, Any]], None]:
    """Tell a PIN that was made up once a device is to get it, and not otherwise."""

    def tell(reply: dict[str, Any]) -> None:
        from mdmd.cli import show

        gets = (
            "command_error" not in each and "PIN" not in each.get("left_out", ())
            for each in reply["status"].values()
        )
        if any(gets):
            show.note(f"PIN for Macs: {pin} (`mdmctl pins ID` shows it again)")

    return tell


# -- what each sends ----------------------------------------------------------------


def _pin(args: argparse.Namespace) -> str:
    """Take the PIN as typed, or make six digits up."""
    return str(args.pin or f"{secrets.randbelow(1_000_000):06}")


def _lock(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    keys = {"Message": args.message, "PhoneNumber": args.phone, "PIN": _pin(args)}
    return "DeviceLock", keys


def _restart(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    return "RestartDevice", {"NotifyUser": True if args.ask else None}


def _info(_: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    return "DeviceInformation", {"Queries": list(_INFO)}


def _install_profile(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    content = Path(args.file).read_bytes()
    if not args.force:
        _read_profile(args.file, content, "; --force sends it anyway")
    return "InstallProfile", {"Payload": content}


def _remove_profile(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    return "RemoveProfile", {"Identifier": _identifier(args.identifier)}


def _identifier(typed: str) -> str:
    """Take the identifier as typed, or out of the profile whose file was named."""
    path = Path(typed)
    if not path.is_file():
        return typed
    return _read_profile(typed, path.read_bytes(), "")


def _read_profile(name: str, content: bytes, remedy: str) -> str:
    """
    Say the identifier of a configuration profile, signed or not.

    :raises BadRequest: it is none; the message ends with ``remedy``.
    """
    from mdmd.errors import BadMessage, BadRequest
    from mdmd.mdm import command, plist

    if content[:1] == _SIGNED:
        from mdmd.cli.judge import content_of

        content = content_of(content)
    try:
        profile = plist.loads(content, command.LIMIT)
    except BadMessage as error:
        raise BadRequest(f"{name}: no configuration profile: {error}{remedy}") from None
    found = profile.get("PayloadIdentifier")
    if not isinstance(found, str) or profile.get("PayloadType") not in (None, "Configuration"):
        why = "it needs a PayloadIdentifier, and Configuration as its PayloadType"
        raise BadRequest(f"{name}: no configuration profile: {why}{remedy}")
    return found


def _install_app(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    from mdmd.errors import BadRequest

    flags = 1 if args.removable else None
    url = args.app.startswith("https://")
    if not url and ("://" in args.app or args.mac_package):
        raise BadRequest(f"{args.app}: the URL of a manifest begins with https://")
    if args.app.isdecimal():
        return "InstallApplication", {"iTunesStoreID": int(args.app), "ManagementFlags": flags}
    if url:
        if args.mac_package:
            return "InstallEnterpriseApplication", {"ManifestURL": args.app}
        return "InstallApplication", {"ManifestURL": args.app, "ManagementFlags": flags}
    return "InstallApplication", {"Identifier": args.app, "ManagementFlags": flags}


def _update_os(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    update = {
        "InstallAction": args.action,
        "ProductVersion": args.version,
        "ProductKey": args.product_key,
    }
    return "ScheduleOSUpdate", {"Updates": [{k: v for k, v in update.items() if v is not None}]}


def _lost(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    if args.what == "on":
        return "EnableLostMode", {"Message": args.message, "PhoneNumber": args.phone}
    return {"off": "DisableLostMode", "locate": "DeviceLocation", "sound": "PlayLostModeSound"}[
        args.what
    ], {}


def _wipe(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    return "EraseDevice", {"PIN": _pin(args), "PreserveDataPlan": args.keep_plan or None}


async def _confirm(remote: "Remote", args: argparse.Namespace) -> None:
    """
    Let the person type the serial number of each device that is to be erased.

    :raises BadRequest: it is another one, or a whole fleet is meant.
    """
    from mdmd.cli import show
    from mdmd.cli.sending import split
    from mdmd.errors import BadRequest

    if args.all or args.where or args.group:
        raise BadRequest("name the devices to erase one by one, or say --yes")
    for typed in split(args.id):
        facts = (record := await remote.call("enrollments.get", id=typed))["facts"]
        what = facts.get("DeviceName") or facts.get("ModelName") or record["id"]
        show.note(f"{show.clean(what)} ({show.clean(typed)}) will be erased, for good.")
        sys.stderr.write("Its serial number, to confirm: ")
        sys.stderr.flush()
        if sys.stdin.readline().strip() != facts.get("SerialNumber", record["id"]):
            raise BadRequest("that is not its serial number; nothing was erased")


def _clear_passcode(args: argparse.Namespace) -> int:
    from mdmd.cli import sending
    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> int:
        ids = sending.split(args.id)
        reply = await sending.send(remote, args, ids, "commands.clear_passcode", {})
        return sending.show_reply(reply, args)

    return run(args, verb)
