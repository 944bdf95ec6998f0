"""
An operator sends a command that the catalogue knows: check it, then queue it.

The form is checked once. Whether a device can take it is looked at by what is
known of each; devices of which the same is known are judged once.
"""

from collections.abc import Mapping, Sequence

import attrs

from mdmd.errors import BadRequest
from mdmd.flow.enqueue import Enqueuer, Reply, TargetReply
from mdmd.interfaces import EnrollmentRecord, IFleet, IInventory, Pin, Policy, Priority
from mdmd.mdm import plist
from mdmd.mdm.answers.decode import is_partial
from mdmd.mdm.catalogue.check import Verdict, check_fit, check_form
from mdmd.mdm.catalogue.entry import Entry
from mdmd.mdm.catalogue.facts import Facts, facts_of
from mdmd.mdm.catalogue.load import entry
from mdmd.mdm.command import Command
from mdmd.mdm.enrollment import EnrollmentID

_TELLING = ("ProductName", "ModelName", "Model", "OSVersion", "IsSupervised", "EnrolledViaDEP",
            "IsMultiUser")  # fmt: skip


@attrs.frozen
class How:
    """How a command is to be sent; ``priority`` None: as the catalogue says."""

    priority: Priority | None = None
    expires: int | None = None  # ms since the epoch
    max_attempts: int | None = None
    not_before: int | None = None  # ms since the epoch
    push: bool = True
    force: bool = False  # whatever the catalogue says against it
    keep: bool = False  # beside one of the same kind that waits


@attrs.frozen
class Sent:
    """What became of it; ``warnings`` are by what was typed."""

    reply: Reply
    warnings: dict[str, tuple[str, ...]]


class Sender:
    """
    The story of ``mdmctl send``.

    :param access_rights: of the enrollment profile, None if devices have others.
    """

    def __init__(
        self,
        fleet: IFleet,
        inventory: IInventory,
        enqueuer: Enqueuer,
        access_rights: int | None = None,
    ) -> None:
        self._fleet = fleet
        self._inventory = inventory
        self._enqueuer = enqueuer
        self._rights = access_rights

    async def send(self, command: Command, typed: Sequence[str], how: How, now: int) -> Sent:
        """
        Queue ``command`` on each enrollment id or serial number of ``typed``.

        One that can't take it is its own error and does not fail the others.

        :param now: ms since the epoch.
        :raises BadRequest: the command is not of its form (a line for each
            fault), or nobody is named.
        :raises Conflict: the CommandUUID is known with another body.
        """
        keys = _keys(command)
        if not how.force:
            form = check_form(command.request_type, keys)
            if form.faults:
                raise BadRequest("\n".join(form.faults))
        names = [name for name in dict.fromkeys(each.strip() for each in typed) if name]
        if not names:
            raise BadRequest("name at least one enrollment id or serial number")
        records = dict(zip(names, await self._fleet.find_all(names), strict=True))
        verdicts = await self._verdicts(command.request_type, keys, records, how.force)
        status = {
            name: TargetReply(command_error="; ".join(verdict.faults))
            for name, verdict in verdicts.items()
            if verdict.faults
        }
        going = {name: _id(name, record) for name, record in records.items() if name not in status}
        await self._keep_pins(command, keys, [r for n, r in records.items() if n in going], now)
        reply = await self._enqueue(command, keys, going, how)
        # An enrollment that was named twice, by its id and its serial number, has one answer.
        status |= {name: reply.status[id] for name, id in going.items() if id in reply.status}
        ordered = {name: status[name] for name in names if name in status}
        warned = {name: each.warnings for name, each in verdicts.items() if each.warnings}
        return Sent(attrs.evolve(reply, status=ordered), warned)

    async def _enqueue(
        self, command: Command, keys: Mapping[str, object], going: Mapping[str, str], how: How
    ) -> Reply:
        if not going:
            return Reply({}, not how.push, "", "", command.uuid, command.request_type)
        policy = policy_of(entry(command.request_type), keys, how)
        return await self._enqueuer.enqueue(command, list(going.values()), policy, how.push)

    async def _verdicts(
        self,
        request_type: str,
        keys: Mapping[str, object],
        records: Mapping[str, EnrollmentRecord | None],
        force: bool,
    ) -> dict[str, Verdict]:
        if force:
            return {}
        known = {name: record for name, record in records.items() if record is not None}
        # What a user's channel can take depends on the device around it.
        devices = [EnrollmentID(record.enrollment.device) for record in known.values()]
        told = await self._inventory.known(devices, _TELLING)
        around = await self._fleet.records(devices)
        judged: dict[Facts, Verdict] = {}
        verdicts = {}
        for (name, record), (inventory, _), device in zip(known.items(), told, around, strict=True):
            fields: dict[str, object] = {} if device is None else dict(device.facts)
            fields.update({field: each.value for field, each in inventory.items()})
            facts = facts_of(record.enrollment.type, fields, self._rights)
            if facts not in judged:
                judged[facts] = check_fit(request_type, keys, facts)
            verdicts[name] = judged[facts]
        return verdicts

    async def _keep_pins(
        self,
        command: Command,
        keys: Mapping[str, object],
        records: Sequence[EnrollmentRecord | None],
        now: int,
    ) -> None:
        """Keep the PIN before anybody can be locked out by it."""
        pin = keys.get("PIN")
        if not isinstance(pin, str) or not pin:
            return
        for record in records:
            if record is not None:
                kept = Pin(command.uuid, command.request_type, pin, now)
                await self._inventory.keep_pin(record.enrollment, kept)


def policy_of(found: Entry | None, keys: Mapping[str, object], how: How) -> Policy:
    """Say how a command is queued: what the catalogue says, unless ``how`` says otherwise."""
    urgent = found is not None and found.priority == "security"
    usual = Priority.SECURITY if urgent else Priority.NORMAL
    kind, replaces = "", False
    if found is not None and not how.keep:
        if found.single:
            kind = found.single
        elif found.dedupe:
            kind, replaces = found.name, True
    return Policy(
        priority=usual if how.priority is None else how.priority,
        expires=how.expires,
        max_attempts=how.max_attempts,
        not_before=how.not_before,
        kind=kind,
        replaces=replaces,
        partial=is_partial(keys),
    )


def _keys(command: Command) -> dict[str, object]:
    inner = plist.loads(command.raw, limit=len(command.raw))["Command"]
    assert isinstance(inner, dict)  # it is a Command
    return {key: value for key, value in inner.items() if key != "RequestType"}


def _id(name: str, record: EnrollmentRecord | None) -> str:
    return name if record is None else str(record.enrollment)
