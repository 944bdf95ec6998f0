"""
What a simulated device answers to a command, by RequestType.

What a platform does not know it refuses, as the real one does.
"""

from collections.abc import Callable, Mapping

from mdmd.sim import deeds, questions
from mdmd.sim.installed import Installed, Keys, Refused

_ALL = frozenset({"macOS", "iOS", "iPadOS", "tvOS"})
_MAC = frozenset({"macOS"})
_MOBILE = frozenset({"iOS", "iPadOS"})
_TOUCH = _MOBILE | {"macOS"}
_NOT_MAC = _ALL - _MAC

Answer = Callable[[Installed, Keys], dict[str, object]]


def answer(device: Installed, command: Keys) -> dict[str, object]:
    """
    Do what a command says, and return the keys of the answer.

    :param command: the Command dict.
    :raises Refused: it can't, or does not know the RequestType.
    :raises Malformed: it can't make sense of it.
    """
    request_type = command.get("RequestType")
    known = _ANSWERS.get(request_type) if isinstance(request_type, str) else None
    if known is None or device.hardware.model.platform not in known[0]:
        raise Refused(12021, f"“{request_type}” is not a valid request type.")
    return known[1](device, command)


def _nothing(_: Installed, __: Keys) -> dict[str, object]:
    return {}


_ANSWERS: Mapping[str, tuple[frozenset[str], Answer]] = {
    "AvailableOSUpdates": (_ALL, questions.updates),
    "CertificateList": (_ALL, questions.certificate_list),
    "ClearPasscode": (_MOBILE, deeds.clear_passcode),
    "DeclarativeManagement": (_ALL, _nothing),
    "DeviceConfigured": (_ALL, _nothing),
    "DeviceInformation": (_ALL, questions.device_information),
    "DeviceLocation": (_MOBILE, questions.location),
    "DeviceLock": (_TOUCH, deeds.lock),
    "DisableLostMode": (_MOBILE, deeds.find),
    "DisableRemoteDesktop": (_MAC, _nothing),
    "EnableLostMode": (_MOBILE, deeds.lose),
    "EnableRemoteDesktop": (_MAC, _nothing),
    "EraseDevice": (_ALL, _nothing),
    "InstallApplication": (_ALL, deeds.install_application),
    "InstallEnterpriseApplication": (_MAC, _nothing),
    "InstalledApplicationList": (_ALL, questions.installed_applications),
    "InstallProfile": (_ALL, deeds.install_profile),
    "ManagedApplicationList": (_ALL, questions.managed_applications),
    "OSUpdateStatus": (_ALL, questions.update_status),
    "PlayLostModeSound": (_MOBILE, deeds.play_sound),
    "ProfileList": (_ALL, questions.profile_list),
    "RemoveApplication": (_ALL, deeds.remove_application),
    "RemoveProfile": (_ALL, deeds.remove_profile),
    "RestartDevice": (_ALL, _nothing),
    "Restrictions": (_NOT_MAC, questions.restrictions),
    "ScheduleOSUpdate": (_ALL, questions.schedule_update),
    "ScheduleOSUpdateScan": (_MAC, questions.update_scan),
    "SecurityInfo": (_ALL, questions.security_info),
    "SetRecoveryLock": (_MAC, deeds.set_recovery_lock),
    "Settings": (_ALL, deeds.settings),
    "ShutDownDevice": (_TOUCH, _nothing),
    "UserList": (_TOUCH, questions.user_list),
    "VerifyRecoveryLock": (_MAC, deeds.verify_recovery_lock),
}
