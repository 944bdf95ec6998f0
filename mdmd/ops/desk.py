"""What operators' methods act on, given in as one value."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs

from mdmd.flow.enqueue import Enqueuer
from mdmd.flow.enroll import Enroll
from mdmd.flow.renew import Renew
from mdmd.flow.send import Sender
from mdmd.flow.targets import Targets
from mdmd.interfaces.apps import IShelf
from mdmd.interfaces.audit import IAudit, IRefusals
from mdmd.interfaces.certificates import IIdentities
from mdmd.interfaces.fleet import IFleet
from mdmd.interfaces.inventory import IGroups, IInventory
from mdmd.interfaces.moving import IMoving
from mdmd.interfaces.push import IPushCertificates, IWaker
from mdmd.interfaces.webhooks import IWebhooks
from mdmd.ops.operators import Operators
from mdmd.ops.tail import Tail


def _nothing() -> dict[str, object]:
    return {}


def _no_levels(room: str, level: str) -> None:
    raise ValueError("log levels can't be changed here")


async def _no_status() -> dict[str, object]:
    return {}


@attrs.frozen
class Desk:
    """
    All that the methods for operators need.

    A new group of methods that needs something else adds a field here, with a
    default, so that nobody who makes a desk has to know of it.

    :ivar clock: an IReactorTime, to wait by.
    :ivar wall: seconds since the epoch, for what is told.
    :ivar set_log_level: takes a room of the house ("" for all) and a level;
        raises ValueError for what it does not know.
    :ivar inside: what else the manhole knows by name.
    :ivar push_status: how this daemon's pushes are, for ``push.status``.
    :ivar refusals: is told of each failed log-in.
    :ivar figures: what the daemon knows of itself right now, for ``status.get``.
    """

    fleet: IFleet
    waker: IWaker
    enqueuer: Enqueuer
    certificates: IPushCertificates
    operators: Operators
    audit: IAudit
    tail: Tail
    clock: Any
    wall: Callable[[], float]
    sender: Sender
    targets: Targets
    inventory: IInventory
    groups: IGroups
    shelf: IShelf | None = None
    version: str = ""
    webhooks: IWebhooks | None = None
    moving: IMoving | None = None
    set_log_level: Callable[[str, str], None] = _no_levels
    inside: Mapping[str, object] = attrs.field(factory=dict, repr=False)
    identities: IIdentities | None = None
    enroll: Enroll | None = None
    renew: Renew | None = None
    figures: Callable[[], Mapping[str, object]] = _nothing
    push_status: Callable[[], Awaitable[Mapping[str, object]]] = _no_status
    refusals: IRefusals | None = None

    def now(self) -> int:
        """Milliseconds since the epoch."""
        return int(self.wall() * 1000)
