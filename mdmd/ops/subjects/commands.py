"""Commands: send them."""

from typing import Any

from mdmd.errors import BadRequest
from mdmd.flow.enqueue import Reply
from mdmd.interfaces import Policy, Priority
from mdmd.mdm.command import Command, build_command, decode_command
from mdmd.ops import records
from mdmd.ops.desk import Desk
from mdmd.ops.method import Arguments, Caller, Subject, Wire, method
from mdmd.ops.operators import Role

# What destroys data, locks people out or opens what was locked: an admin's to send.
DESTRUCTIVE = frozenset(
    {
        "ClearPasscode",
        "ClearRestrictionsPassword",
        "DeleteUser",
        "DeviceLock",
        "EraseDevice",
        "RemoveApplication",
        "RotateFileVaultKey",
        "SetAutoAdminPassword",
        "SetFirmwarePassword",
        "SetRecoveryLock",
    }
)
_PRIORITIES = {each.name.lower(): each for each in Priority}


def role_to_send(request_type: str) -> Role:
    """Say who may send commands of a RequestType."""
    return Role.ADMIN if request_type in DESTRUCTIVE else Role.OPERATOR


def _typed(arguments: Arguments) -> Role:
    return role_to_send(arguments["request_type"])


def _raw(arguments: Arguments) -> Role:
    return role_to_send(decode_command(arguments["plist"]).request_type)


async def targets(desk: Desk, typed: list[str]) -> dict[str, str]:
    """Give the enrollment id of each id or serial number; what is unknown stands for itself."""
    found = {}
    for text in dict.fromkeys(each.strip() for each in typed):
        enrollment = await desk.fleet.find(text) if text else None
        found[text] = text if enrollment is None else str(enrollment)
    return found


class Commands(Subject):
    """What devices are told to do."""

    name = "commands"

    @method(_typed, audit=("ids", "priority"))
    async def send(
        self,
        caller: Caller,
        ids: list[str],
        request_type: str,
        keys: dict[str, Any] | None = None,
        uuid: str | None = None,
        priority: str = "",
        expires: int | None = None,
        max_attempts: int | None = None,
        push: bool = True,
    ) -> Wire:
        """
        Queue a command on each of ``ids`` (or serial numbers) and push.

        :param keys: the command's own, such as ``{"Queries": ["OSVersion"]}``.
        :param uuid: makes a repeat of this call harmless; None makes a random one.
        :param priority: ``security``, ``normal`` or ``background``.
        :param expires: ms since the epoch; then it is set aside.
        """
        command = build_command(request_type, keys or {}, uuid)
        policy = _policy(priority, request_type, expires, max_attempts)
        return await self._enqueue(caller, command, ids, policy, push)

    @method(_raw, audit=("ids", "priority"))
    async def send_raw(
        self,
        caller: Caller,
        ids: list[str],
        plist: bytes,
        priority: str = "",
        expires: int | None = None,
        max_attempts: int | None = None,
        push: bool = True,
    ) -> Wire:
        """Queue a whole command, an XML or binary plist, on each of ``ids`` and push."""
        command = decode_command(plist)
        policy = _policy(priority, command.request_type, expires, max_attempts)
        return await self._enqueue(caller, command, ids, policy, push)

    async def _enqueue(
        self, caller: Caller, command: Command, typed: list[str], policy: Policy, push: bool
    ) -> Wire:
        caller.noted["request_type"] = command.request_type
        caller.noted["command_uuid"] = command.uuid
        ids = await targets(self.desk, typed)
        reply = await self.desk.enqueuer.enqueue(command, list(ids.values()), policy, push)
        return as_typed(reply, ids)


def as_typed(reply: Reply, ids: dict[str, str]) -> records.Record:
    """Give an answer by what was typed; ``id`` says which enrollment that is."""
    fields = records.reply(reply)
    fields["status"] = {
        typed: {"id": id, **fields["status"][id]}
        for typed, id in ids.items()
        if id in fields["status"]
    }
    return fields


def _policy(
    priority: str, request_type: str, expires: int | None, max_attempts: int | None
) -> Policy:
    if priority and priority not in _PRIORITIES:
        raise BadRequest(f"priority is expected to be one of {', '.join(_PRIORITIES)}")
    urgent = request_type in {"EraseDevice", "DeviceLock", "EnableLostMode"}
    usual = Priority.SECURITY if urgent else Priority.NORMAL
    return Policy(_PRIORITIES.get(priority, usual), expires, max_attempts)
