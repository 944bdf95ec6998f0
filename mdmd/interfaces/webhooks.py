"""Events on their way to webhooks."""

from collections.abc import Sequence
from typing import Protocol

import attrs

from mdmd.interfaces.fleet import Event

# Why an event goes nowhere whose message is damaged.
UNREADABLE = "its message in the store can't be read"


@attrs.frozen
class DeadLetter:
    """An event that a webhook's target never took."""

    id: str  # its place among the dead letters of its target
    event: Event
    reason: str
    attempts: int
    at: int  # when it was given up


@attrs.frozen
class DeliveryState:
    """How far a target is."""

    target: str
    reached: str  # the newest event that was read for it
    unsettled: int  # read, not yet taken by the target
    behind: int | None  # events that are still to be read; None: the store can't say
    dead: int
    sender: str  # the daemon that sends to it; "" for none right now
    oldest: int | None = None  # ms, of the oldest event that it has not got; None: it has all


class IFeed(Protocol):
    """Tells when something new is in the event stream."""

    async def wait(self, after: str, seconds: float) -> bool:
        """Wait for an event after ``after``; False if none came in time."""


class IDeliveries(Protocol):
    """What each webhook's target still has to get; one daemon at a time sends to a target."""

    async def claim(self, target: str, daemon: str, lease_ms: int, anew: str = "") -> float | None:
        """
        Become, or stay, the one that sends; the claim ends by itself after the lease.

        Return how long the target has asked to be left alone yet (s); None if another one sends.

        :param anew: the id after which a target begins whose place is gone; "" if it is there.
        """

    async def postpone(self, target: str, seconds: float) -> None:
        """Note, for whichever daemon sends, that the target asked to be left alone so long."""

    async def release(self, target: str, daemon: str) -> None:
        """Let another daemon send."""

    async def unsettled(self, target: str, after: str, limit: int) -> list[Event]:
        """Read what was read before and is not settled, after the event id ``after``."""

    async def more(self, target: str, limit: int) -> list[Event]:
        """
        Read on in the stream; what comes is unsettled until it is settled or buried.

        :raises NotHere: the target's place in the stream is gone.
        """

    async def lost(self, target: str, events: int) -> None:
        """Tell that so many were dropped before the target took them."""

    async def again(self, id: str) -> Event | None:
        """Read one event once more; None if the stream has lost it."""

    async def settle(self, target: str, ids: Sequence[str]) -> None:
        """Note that these need not be sent (any more)."""

    async def bury(self, target: str, id: str, reason: str, attempts: int) -> None:
        """Make one a dead letter, with an event."""

    async def dead(self, target: str, after: str = "0", limit: int = 100) -> list[DeadLetter]:
        """Read dead letters after the dead letter ``after``, oldest first."""

    async def exhume(self, target: str, id: str) -> None:
        """Forget a dead letter, because the target has it now."""

    async def rewind(self, target: str, to: str) -> None:
        """Make the target get everything after the event ``to`` (once more), now."""

    async def state(self, target: str) -> DeliveryState:
        """Say how far a target is."""


@attrs.frozen
class WebhookStanding:
    """One webhook as an operator sees it."""

    name: str
    where: str  # scheme and host of the target; the rest of a URL may be a secret
    topics: tuple[str, ...]
    state: DeliveryState
    trouble: str  # what the target said to this daemon when it did not take the last event


@attrs.frozen
class Resent:
    """What became of dead letters that were sent again."""

    taken: int
    failed: int
    trouble: str


class IWebhooks(Protocol):
    """What operators ask of webhooks; a name that is in no configuration raises NotHere."""

    async def standings(self) -> list[WebhookStanding]:
        """Say how far each target is."""

    async def test(self, name: str) -> str:
        """Send an event that says it is a test, now; "" if it was taken, else why not."""

    async def dead(self, name: str, after: str, limit: int) -> list[DeadLetter]:
        """Read dead letters after the dead letter ``after``, oldest first."""

    async def resend(self, name: str, limit: int) -> Resent:
        """Send the oldest dead letters again; those taken are dead no more."""

    async def replay(self, name: str, after: str) -> None:
        """
        Send everything after the event ``after`` once more.

        :raises BadRequest: ``after`` is no event id.
        """
