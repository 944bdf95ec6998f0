"""What operators' methods act on, given in as one value."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from mdmd.flow.enqueue import Enqueuer
from mdmd.interfaces import IAudit, IFleet, IPushCertificates, IWaker, IWebhooks
from mdmd.ops.operators import Operators
from mdmd.ops.tail import Tail


def _nothing() -> dict[str, object]:
    return {}


@attrs.frozen
class Desk:
    """
    All that the methods for operators need.

    A new group of methods that needs something else adds a field here, with a
    default, so that nobody who makes a desk has to know of it.

    :ivar clock: an IReactorTime.
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
    version: str = ""
    webhooks: IWebhooks | None = None
    figures: Callable[[], Mapping[str, object]] = _nothing

    def now(self) -> int:
        """Milliseconds since the epoch."""
        return int(self.clock.seconds() * 1000)
