"""
A device has enrolled: it is sent what the blueprints say, in order.

One that waits in Setup Assistant is let go by DeviceConfigured, which comes
last. Nothing may hold it back for long: a step that fails is over; one that
the device never answers is set aside after some deliveries, and all of them
when the blueprint's time is over. At that time the device is pushed once more.

Each step is queued once in a generation of the enrollment. How far it got is
noted with the step itself, so a daemon that goes on after another one died
repeats nothing, whether the device has answered meanwhile or not.
"""

from collections.abc import Callable, Sequence
from itertools import count
from uuid import NAMESPACE_OID, uuid5

import attrs

from mdmd.errors import MdmdError, StoreUnavailable
from mdmd.flow.enqueue import Enqueuer
from mdmd.flow.learn import Tells
from mdmd.interfaces.fleet import EnrollmentRecord, Event, IFleet, Policy
from mdmd.interfaces.inventory import IDue
from mdmd.mdm.catalogue.blueprint import Blueprint, Step
from mdmd.mdm.catalogue.check import check_fit
from mdmd.mdm.catalogue.facts import Facts, facts_of
from mdmd.mdm.command import build_command
from mdmd.mdm.enrollment import EnrollmentID

PATIENCE = 5  # deliveries of a step to a device that waits
LAST = 1_000_000  # DeviceConfigured's number, whatever blueprints said when the device enrolled


class Preparer:
    """
    A reaction to the first ``mdm.TokenUpdate`` of an enrollment.

    One that came from another server was prepared there, and none of its check-ins before is
    among these. A device that no blueprint is for is left to whoever else looks after it,
    even if it waits in Setup Assistant.

    :param limits: where it is noted when a device's time is over.
    :param now: ms since the epoch.
    """

    def __init__(
        self,
        blueprints: Sequence[Blueprint],
        fleet: IFleet,
        enqueuer: Enqueuer,
        limits: IDue,
        events: Tells,
        now: Callable[[], int],
        access_rights: int | None = None,
    ) -> None:
        self._blueprints = blueprints
        self._fleet = fleet
        self._enqueuer = enqueuer
        self._limits = limits
        self._events = events
        self._now = now
        self._rights = access_rights

    async def react(self, event: Event) -> None:
        """Send a device that has just enrolled what its blueprints say."""
        if event.topic != "mdm.TokenUpdate" or event.facts.get("tally") != "1":
            return
        one = EnrollmentID.parse(event.enrollment)
        if one.channel:
            return
        (record,) = await self._fleet.describe([one])
        if record is None:
            return
        facts = facts_of(record.enrollment.type, record.facts, self._rights)
        waits = record.awaiting_configuration
        meant = [each for each in self._blueprints if each.is_for(facts.platform, waits)]
        if not meant:
            return
        ends = self._now() + int(max(each.limit for each in meant) * 1000)
        policy = Policy(expires=ends, max_attempts=PATIENCE) if waits else Policy()
        numbers = count(1)
        for blueprint in meant:
            for step in blueprint.steps:
                numbered = _numbered(policy, record, next(numbers))
                await self._step(step, blueprint, record, facts, numbered)
        if waits:
            end = _numbered(Policy(), record, LAST)
            await self._send(Step("DeviceConfigured", {}), record, end)
            await self._limits.plan({one: ends})

    async def _step(
        self,
        step: Step,
        blueprint: Blueprint,
        record: EnrollmentRecord,
        facts: Facts,
        policy: Policy,
    ) -> None:
        faults = check_fit(step.request_type, step.keys, facts).faults
        if not faults:
            try:
                await self._send(step, record, policy)
            except StoreUnavailable:
                raise
            except MdmdError as error:
                # One step less is better than a device that is never let go.
                faults = (str(error),)
        if faults:
            await self._events.tell(
                "mdmd.StepLeftOut",
                record.enrollment,
                blueprint=blueprint.name,
                request_type=step.request_type,
                reason="; ".join(faults)[:500],
            )

    async def _send(self, step: Step, record: EnrollmentRecord, policy: Policy) -> None:
        name = f"mdmd blueprint {record.enrollment} {record.enrolled_at} {policy.step}"
        uuid = str(uuid5(NAMESPACE_OID, name)).upper()
        command = build_command(step.request_type, step.keys, uuid)
        await self._enqueuer.enqueue(command, [str(record.enrollment)], policy, wait=False)


def _numbered(policy: Policy, record: EnrollmentRecord, number: int) -> Policy:
    return attrs.evolve(policy, step=(record.generation, number))
