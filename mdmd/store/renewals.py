"""Which identities are to be renewed, and how far each renewal is."""

from itertools import count

import attrs

from mdmd.interfaces.certificates import Renewal
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.store import keys
from mdmd.store.subject import Tools

_FIELDS = (
    *("pin", "begins", "ends", "next_pin", "enabled"),
    *("renewal", "renewal_at", "renewal_tries", "renewal_uuid"),
)


@attrs.frozen
class Renewals:
    """Implements :class:`mdmd.interfaces.certificates.IRenewals`."""

    _tools: Tools
    _turn: count = attrs.field(factory=count)  # type: ignore[type-arg]

    async def claim_due(self, limit: int, lease_ms: int) -> list[Renewal]:
        """Take up to ``limit`` that are due; no shard has to wait for another."""
        now, first = self._tools.now(), next(self._turn) % len(keys.RENEWALS)
        shards = keys.RENEWALS[first:] + keys.RENEWALS[:first]
        taken = await self._tools.link.script("take_due", shards, (now, now + lease_ms, limit))
        return [await self.get(keys.read_member(member)) for member in taken]

    async def get(self, enrollment: EnrollmentID) -> Renewal:
        """Say how far it is; without a pin there is nothing to renew."""
        one = enrollment
        answer = await self._tools.link.call("HMGET", keys.record(one), *_FIELDS)
        pin, begins, ends, next_pin, enabled, state, at, tries, uuid = (
            None if each is None else each.decode() for each in answer
        )
        return Renewal(
            enrollment=one,
            state=state or "",
            at=int(at or 0),
            attempts=int(tries or 0),
            uuid=uuid or "",
            pin=pin or "",
            next_pin=next_pin or "",
            not_before=int(begins or 0),
            not_after=int(ends or 0),
            enabled=enabled == "1",
        )

    async def move(
        self,
        renewal: Renewal,
        state: str,
        next_step: int | None,
        attempts: int = 0,
        uuid: str = "",
        reason: str = "",
    ) -> bool:
        """Move it on; False if it has moved meanwhile."""
        one = renewal.enrollment
        return bool(
            await self._tools.change(
                "renewal",
                (keys.record(one), keys.renewals(one)),
                (
                    *(renewal.state, renewal.at or "", state, attempts, uuid),
                    *("" if next_step is None else next_step, str(one), keys.member(one), reason),
                ),
            )
        )
