"""Commands: send them."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mdmd.errors import BadMessage, BadRequest, StoreCorrupt
from mdmd.flow.enqueue import Reply
from mdmd.flow.send import How
from mdmd.interfaces.fleet import Priority
from mdmd.mdm.catalogue.describe import describe
from mdmd.mdm.catalogue.detail import detail, detail_of
from mdmd.mdm.catalogue.load import entry, need, search
from mdmd.mdm.command import Command, build_command, decode_command, keys_of
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.ops import records
from mdmd.ops.desk import Desk
from mdmd.ops.method import Arguments, Caller, Subject, Wire, method
from mdmd.ops.operators import Role

# Besides what the catalogue marks as destructive: what locks people out, or opens what was locked.
_GRAVE = frozenset(
    {
        "ClearPasscode",
        "ClearRestrictionsPassword",
        "DeviceLock",
        "RotateFileVaultKey",
        "SetAutoAdminPassword",
        "SetFirmwarePassword",
        "SetRecoveryLock",
    }
)
_PRIORITIES = {each.name.lower(): each for each in Priority}


def role_to_send(desk: Desk, request_type: str, keys: Callable[[], Mapping[str, object]]) -> Role:
    """
    Say who may send a command; of an unknown RequestType nobody knows what it does.

    :param keys: reads the command's keys, where they count: a device whose enrollment
        profile is removed is not managed any more, and with it goes all that it was given.
    """
    found = entry(request_type)
    harmless = found is not None and not found.destructive and request_type not in _GRAVE
    if request_type == "RemoveProfile" and _is_enrollment_profile(desk, keys().get("Identifier")):
        harmless = False
    return Role.OPERATOR if harmless else Role.ADMIN


def _is_enrollment_profile(desk: Desk, identifier: object) -> bool:
    if desk.enroll is None or not isinstance(identifier, str):
        return False
    # Whatever a device makes of case and blanks, it is not left to it.
    return identifier.strip().casefold() == desk.enroll.identifier.casefold()


def _typed(desk: Desk, arguments: Arguments) -> Role:
    return role_to_send(desk, arguments["request_type"], lambda: arguments.get("keys") or {})


def _raw(desk: Desk, arguments: Arguments) -> Role:
    command = decode_command(arguments["plist"])
    return role_to_send(desk, command.request_type, partial(keys_of, command))


def _keys_typed(arguments: Arguments) -> Mapping[str, str]:
    return detail(arguments["request_type"], arguments.get("keys") or {})


def _keys_raw(arguments: Arguments) -> Mapping[str, str]:
    try:
        command = decode_command(arguments["plist"])
        return {"request_type": command.request_type, **detail_of(command)}
    except BadMessage:
        return {}


async def targets(desk: Desk, typed: list[str]) -> dict[str, str]:
    """Give the enrollment id of each id or serial number; what is unknown stands for itself."""
    texts = [text for text in dict.fromkeys(each.strip() for each in typed) if text]
    found = await desk.fleet.find_all(texts)
    return {
        text: text if record is None else str(record.enrollment)
        for text, record in zip(texts, found, strict=True)
    }


class Commands(Subject):
    """What devices are told to do."""

    name = "commands"

    @method(_typed, audit=("ids", "request_type", "priority", "force"), facts=_keys_typed)
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
        not_before: int | None = None,
        force: bool = False,
        keep: bool = False,
        prune: bool = False,
    ) -> Wire:
        """
        Queue a command on each of ``ids`` (or serial numbers) and push.

        What the catalogue says can't be is refused: of the command as a whole,
        or of one target. ``warnings`` in the answer are of what is not known,
        each with those it is about.

        :param keys: the command's own, such as ``{"Queries": ["OSVersion"]}``.
        :param uuid: makes a repeat of this call harmless; None makes a random one.
        :param priority: ``security``, ``normal`` or ``background``; "": as the
            catalogue says.
        :param expires: ms since the epoch; then it is set aside.
        :param not_before: ms since the epoch; until then it is not offered.
        :param force: send whatever the catalogue says against it.
        :param keep: beside one of the same kind that waits, not in its place.
        :param prune: leave out for each device what it can't take; ``command_uuid``
            of a target says if that made it another command, ``left_out`` which
            keys it lacks.
        """
        command = build_command(request_type, keys or {}, uuid)
        how = How(_priority(priority), expires, max_attempts, not_before, push, force, keep, prune)
        return await self._send(caller, command, ids, how)

    @method(_raw, audit=("ids", "priority", "force"), facts=_keys_raw)
    async def send_raw(
        self,
        caller: Caller,
        ids: list[str],
        plist: bytes,
        priority: str = "",
        expires: int | None = None,
        max_attempts: int | None = None,
        push: bool = True,
        not_before: int | None = None,
        force: bool = False,
        keep: bool = False,
    ) -> Wire:
        """Queue a whole command, an XML or binary plist, on each of ``ids`` and push."""
        command = decode_command(plist)
        how = How(_priority(priority), expires, max_attempts, not_before, push, force, keep)
        return await self._send(caller, command, ids, how)

    @method(Role.VIEWER)
    async def catalogue(self, caller: Caller, word: str = "", platform: str = "") -> Wire:
        """List the commands that ``platform`` knows and in whose texts or keys ``word`` is."""
        return [
            {"request_type": each.name, "does": each.does, "destructive": each.destructive}
            for each in search(word, platform)
        ]

    @method(Role.VIEWER)
    async def describe(self, caller: Caller, request_type: str) -> Wire:
        """Describe a command and its keys, in words."""
        return describe(need(request_type))

    @method(Role.ADMIN, audit=("ids",))
    async def clear_passcode(self, caller: Caller, ids: list[str]) -> Wire:
        """Take the passcode off each of ``ids``, with the unlock token that it once gave."""
        status: dict[str, records.Record] = {}
        for typed in dict.fromkeys(each.strip() for each in ids):
            one = await self.desk.fleet.find(typed)
            token, why = await self._unlock_token(one)
            if one is None or token is None:
                caller.on.append(typed if one is None else str(one))
                status[typed] = {"id": typed, "command_error": why}
                continue
            command = build_command("ClearPasscode", {"UnlockToken": token})
            told = await self._send(caller, command, [typed], How())
            status[typed] = {**told["status"][typed], "command_uuid": command.uuid}
        return {"status": status, "command_uuid": "", "request_type": "ClearPasscode"}

    async def _unlock_token(self, one: EnrollmentID | None) -> tuple[bytes | None, str]:
        """Read a token, or say why there is none."""
        if one is None:
            return None, "no such enrollment"
        try:
            return await self.desk.inventory.unlock_token(one), "it never gave an unlock token"
        except StoreCorrupt:
            return None, "its unlock token is damaged in the store"

    async def _send(self, caller: Caller, command: Command, typed: list[str], how: How) -> Any:
        caller.noted["request_type"] = command.request_type
        caller.noted["command_uuid"] = command.uuid
        sent = await self.desk.sender.send(command, typed, how)
        caller.on.extend(sent.ids.get(each, each) for each in sent.reply.status)
        warnings: dict[str, list[str]] = {}
        for name, lines in sent.warnings.items():
            for line in lines:
                warnings.setdefault(line, []).append(name)
        told = {**_by_typed(sent.reply, sent.ids), "warnings": warnings}
        for name, uuid in sent.uuids.items():
            told["status"][name]["command_uuid"] = uuid
        # Those that the devices have, by which their answers are found.
        queued = dict.fromkeys(sent.uuids.get(name, command.uuid) for name in told["status"])
        caller.noted["command_uuid"] = " ".join(queued) or command.uuid
        for name, missing in sent.left_out.items():
            told["status"][name]["left_out"] = sorted(missing)
        return told


def _by_typed(reply: Reply, ids: dict[str, str]) -> records.Record:
    fields = records.reply(reply)
    fields["status"] = {
        typed: {"id": ids.get(typed, typed), **each} for typed, each in fields["status"].items()
    }
    return fields


def as_typed(reply: Reply, ids: dict[str, str]) -> records.Record:
    """Give an answer by what was typed; ``id`` says which enrollment that is."""
    fields = records.reply(reply)
    fields["status"] = {
        typed: {"id": id, **fields["status"][id]}
        for typed, id in ids.items()
        if id in fields["status"]
    }
    return fields


def _priority(word: str) -> Priority | None:
    if word and word not in _PRIORITIES:
        raise BadRequest(f"priority is expected to be one of {', '.join(_PRIORITIES)}")
    return _PRIORITIES.get(word)
