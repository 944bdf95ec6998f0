"""
A device has answered: what it says of itself becomes its inventory.

The report went into the results and into the event stream as it came, in the
one round trip of connect; it is decoded here, after the reply went out, from
the event. Large ones are decoded off the reactor's thread.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from mdmd.errors import BadMessage
from mdmd.interfaces.fleet import Event
from mdmd.interfaces.inventory import IInventory
from mdmd.mdm.answers.decode import Answer, decode_answer, tells_fields
from mdmd.mdm.checkin import Authenticate, decode_checkin
from mdmd.mdm.enrollment import EnrollmentID

LARGE = 32 << 10  # bytes; from here on decoding takes more than a millisecond

MAX_TEXT = 1000  # characters of a fact

Offload = Callable[[Callable[[], Answer]], Awaitable[Answer]]


class Tells(Protocol):
    """Writes events of ours."""

    async def tell(self, topic: str, enrollment: EnrollmentID | None, **facts: str) -> None:
        """Write an event; no secrets in it."""


class Learner:
    """
    A reaction to ``mdm.Authenticate`` and ``mdm.Connect``.

    :param offload: runs a function elsewhere and gives what it returns.
    """

    def __init__(self, inventory: IInventory, events: Tells, offload: Offload) -> None:
        self._inventory = inventory
        self._events = events
        self._offload = offload

    @staticmethod
    def wants(topic: str, facts: Mapping[str, str]) -> bool:
        """Say whether the message of an event has to be read at all."""
        answers = topic == "mdm.Connect" and facts.get("status") == "Acknowledged"
        return topic == "mdm.Authenticate" or (
            answers and tells_fields(facts.get("request_type", ""))
        )

    async def react(self, event: Event) -> None:
        """Learn from one message; what is odd about it becomes an event, and no more."""
        if not self.wants(event.topic, event.facts) or not event.raw:
            return
        one, at = EnrollmentID.parse(event.enrollment), int(event.id.partition("-")[0])
        if event.topic == "mdm.Authenticate":
            # A device that enrolls again may have another system than it told before.
            await self._inventory.learn(one, _facts(event.raw), at)
            return
        request_type = event.facts["request_type"]
        answer = await self._decode(request_type, event)
        await self._inventory.learn(one, answer.fields, at)
        about = {
            "request_type": request_type,
            "command_uuid": event.facts.get("command_uuid", ""),
        }
        if answer.oddities:
            oddities = "; ".join(answer.oddities)[:MAX_TEXT]
            await self._events.tell("mdmd.OddAnswer", one, **about, oddities=oddities)
        failed = "; ".join(str(part) for part in answer.parts if part.failed)[:MAX_TEXT]
        if failed:
            await self._events.tell("mdmd.PartFailed", one, **about, parts=failed)

    async def _decode(self, request_type: str, event: Event) -> Answer:
        partial = event.facts.get("partial") == "1"

        def decode() -> Answer:
            return decode_answer(request_type, event.raw, partial=partial)

        return await self._offload(decode) if len(event.raw) > LARGE else decode()


def _facts(authenticate: bytes) -> dict[str, str]:
    """Read what a device says of itself; one that could not be read was never let in."""
    try:
        message = decode_checkin(authenticate)
    except BadMessage:
        return {}
    return message.facts if isinstance(message, Authenticate) else {}
