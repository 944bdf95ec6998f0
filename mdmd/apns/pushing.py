"""All that pushes in this daemon, together, and how it is, as plain values for operators."""

from collections.abc import Mapping

import attrs

from mdmd.apns.client import PushService
from mdmd.apns.counts import PushCounts
from mdmd.apns.expiry import ExpiryWatch
from mdmd.apns.waker import Waker
from mdmd.interfaces.push import IPushWork


@attrs.frozen
class Pushing:
    """The road to APNs, who is woken by it, and what is known of both."""

    service: PushService
    waker: Waker
    watch: ExpiryWatch
    work: IPushWork
    counts: PushCounts

    async def status(self) -> Mapping[str, object]:
        """
        Say how it is.

        ``waiting`` and ``due`` count enrollments in the work set of all daemons;
        ``topics`` are the lines, ``outcomes`` what pushes came to since the start.
        """
        waiting, due = await self.work.waiting()
        return {
            "waiting": waiting,
            "due": due,
            "next_due": await self.work.next_due(),
            **attrs.asdict(self.waker.status()),
            "topics": [attrs.asdict(each) for each in self.service.status()],
            "outcomes": [
                {"topic": topic, "decision": decision, "reason": reason, "count": count}
                for (topic, decision, reason), count in sorted(self.counts.outcomes.items())
            ],
            "days_left": dict(self.watch.days_left),
        }
