"""
An operator sends a command that the catalogue knows: check it, then queue it.

The form is checked once. Whether a device can take it is looked at by what is
known of each; devices of which the same is known are judged once.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from uuid import NAMESPACE_OID, uuid5

import attrs

from mdmd.errors import BadRequest
from mdmd.flow.enqueue import Enqueuer, Fault, Reply, TargetReply
from mdmd.interfaces.fleet import EnrollmentRecord, IFleet, Policy, Priority
from mdmd.interfaces.inventory import IInventory
from mdmd.mdm import plist
from mdmd.mdm.answers.decode import is_partial
from mdmd.mdm.catalogue.check import Verdict, check_fit, check_form, fitting
from mdmd.mdm.catalogue.entry import Entry
from mdmd.mdm.catalogue.facts import Facts, facts_of
from mdmd.mdm.catalogue.load import entry
from mdmd.mdm.command import Command, build_command, keys_of
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
    prune: bool = False  # leave out for each device what it can't take
    instead_of: str = ""  # the CommandUUID of one that is taken out for it
    kind: str = ""  # not queued beside one of this kind that is pending
    wait: bool = True  # for what becomes of the pushes


@attrs.frozen
class Sent:
    """What became of it, by what was typed; CommandUUIDs and keys left out where they differ."""

    reply: Reply
    warnings: dict[str, tuple[str, ...]]
    uuids: dict[str, str] = attrs.field(factory=dict)
    ids: dict[str, str] = attrs.field(factory=dict)  # enrollment ids by what was typed
    left_out: dict[str, tuple[str, ...]] = attrs.field(factory=dict)


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

    async def send(self, command: Command, typed: Sequence[str], how: How) -> Sent:
        """
        Queue ``command`` on each enrollment id or serial number of ``typed``.

        One that can't take it is its own error and does not fail the others.

        :raises BadRequest: the command is not of its form (a line for each
            fault), or nobody is named.
        :raises Conflict: the CommandUUID is known with another body.
        """
        keys = keys_of(command)
        if how.max_attempts is not None and how.max_attempts < 1:
            raise BadRequest("max_attempts is at least 1: with none it would never be sent")
        if how.expires is not None and how.not_before is not None and how.expires <= how.not_before:
            raise BadRequest("it expires before its time comes, so it would never be sent")
        if not how.force:
            form = check_form(command.request_type, keys)
            if form.faults:
                raise BadRequest("\n".join(form.faults))
        names = [name for name in dict.fromkeys(each.strip() for each in typed) if name]
        if not names:
            raise BadRequest("name at least one enrollment id or serial number")
        records = dict(zip(names, await self._fleet.find_all(names), strict=True))
        facts = {} if how.force else await self._facts(records)
        status: dict[str, TargetReply] = {}
        warnings: dict[str, tuple[str, ...]] = {}
        uuids: dict[str, str] = {}
        left_out: dict[str, tuple[str, ...]] = {}
        reply = Reply({}, not how.push, "", "", command.uuid, command.request_type)
        for each, some in _versions(command, keys, names, facts, how.prune):
            verdicts = self._verdicts(each, some, facts)
            refused = {name: verdicts[name].faults for name in some if verdicts[name].faults}
            refused |= {name: (Fault.UNREADABLE,) for name in some if _damaged(records[name])}
            status |= {
                name: TargetReply(command_error="; ".join(faults))
                for name, faults in refused.items()
            }
            warnings |= {name: verdicts[name].warnings for name in some}
            going = {name: _id(name, records[name]) for name in some if name not in refused}
            if going:
                status |= await self._go(each, going, how)
            if each.uuid != command.uuid:
                uuids |= dict.fromkeys(some, each.uuid)
                left_out |= dict.fromkeys(some, tuple(keys.keys() - keys_of(each).keys()))
        ordered = {name: status[name] for name in names if name in status}
        warned = {name: lines for name, lines in warnings.items() if lines}
        ids = {name: _id(name, record) for name, record in records.items()}
        return Sent(attrs.evolve(reply, status=ordered), warned, uuids, ids, left_out)

    async def _go(
        self,
        command: Command,
        going: Mapping[str, str],
        how: How,
    ) -> dict[str, TargetReply]:
        policy = policy_of(entry(command.request_type), keys_of(command), how)
        reply = await self._enqueuer.enqueue(
            command, list(going.values()), policy, how.push, how.wait
        )
        # An enrollment that was named twice, by its id and its serial number, has one answer.
        return {name: reply.status[id] for name, id in going.items() if id in reply.status}

    async def _facts(self, records: Mapping[str, EnrollmentRecord | None]) -> dict[str, Facts]:
        """Say what is known of each that exists."""
        known = {name: record for name, record in records.items() if record is not None}
        # What a user's channel can take depends on the device around it.
        devices = [EnrollmentID(record.enrollment.device) for record in known.values()]
        told = await self._inventory.known(devices, _TELLING)
        users = [
            one
            for one, each in zip(devices, known.values(), strict=True)
            if each.enrollment.channel
        ]
        around = dict(zip(users, await self._fleet.describe(users), strict=True))
        facts = {}
        for (name, record), (inventory, _), one in zip(known.items(), told, devices, strict=True):
            device = around.get(one, record)
            fields: dict[str, object] = {} if device is None else dict(device.facts)
            fields.update({field: each.value for field, each in inventory.items()})
            facts[name] = facts_of(record.enrollment.type, fields, self._rights)
        return facts

    def _verdicts(
        self, command: Command, names: Sequence[str], facts: Mapping[str, Facts]
    ) -> dict[str, Verdict]:
        keys = keys_of(command)
        judged: dict[Facts | None, Verdict] = {None: Verdict()}
        for name in names:
            one = facts.get(name)
            if one is not None and one not in judged:
                judged[one] = check_fit(command.request_type, keys, one)
        return {name: judged[facts.get(name)] for name in names}


def _versions(
    command: Command,
    keys: Mapping[str, object],
    names: Sequence[str],
    facts: Mapping[str, Facts],
    prune: bool,
) -> list[tuple[Command, list[str]]]:
    """Make a command for each set of keys that devices can take, and say who gets which."""
    if not prune:
        return [(command, list(names))]
    found: list[tuple[dict[str, object], list[str]]] = []
    left: dict[Facts | None, dict[str, object]] = {None: dict(keys)}
    for name in names:
        one = facts.get(name)
        if one is not None and one not in left:
            left[one] = fitting(command.request_type, keys, one)
        for some, who in found:
            if some == left[one]:
                who.append(name)
                break
        else:
            found.append((left[one], [name]))
    return [(command if some == keys else _version(command, some), who) for some, who in found]


def _version(command: Command, keys: dict[str, object]) -> Command:
    """Make another version of a command; its CommandUUID depends on nothing but both."""
    raw = plist.dumps(keys)
    uuid = str(uuid5(NAMESPACE_OID, f"{command.uuid} {sha256(raw).hexdigest()}")).upper()
    return build_command(command.request_type, keys, uuid)


def policy_of(found: Entry | None, keys: Mapping[str, object], how: How) -> Policy:
    """Say how a command is queued: what the catalogue says, unless ``how`` says otherwise."""
    urgent = found is not None and found.priority == "security"
    usual = Priority.SECURITY if urgent else Priority.NORMAL
    kind, replaces = "", False
    if found is not None and found.single:
        kind = found.single
    elif how.kind:
        kind = how.kind
    elif found is not None and found.dedupe and not how.keep:
        kind, replaces = found.name, True
    return Policy(
        priority=usual if how.priority is None else how.priority,
        expires=how.expires,
        max_attempts=how.max_attempts,
        not_before=how.not_before,
        kind=kind,
        replaces=replaces,
        partial=is_partial(keys),
        instead_of=how.instead_of,
    )


def _damaged(record: EnrollmentRecord | None) -> bool:
    return record is not None and record.unreadable


def _id(name: str, record: EnrollmentRecord | None) -> str:
    return name if record is None else str(record.enrollment)
