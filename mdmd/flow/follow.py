"""
What follows from what happened: reactions to the event stream.

A reply to a device never waits for this. The place up to which events have
been dealt with is in the store: after a crash the next daemon goes on from
there, so each event is dealt with at least once, and each reaction has to be
harmless when it is repeated. One daemon at a time follows; when it dies, its
lease ends within seconds and another one takes over.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from mdmd.errors import StoreUnavailable
from mdmd.interfaces.fleet import Event
from mdmd.interfaces.inventory import IFollowing

Wants = Callable[[str, Mapping[str, str]], bool]
Reaction = Callable[[Event], Awaitable[None]]

BATCH = 100  # events read at once
STRIDE = 10  # events between two renewals of the lease


class Follower:
    """
    Let reactions see each event, in order.

    :param name: of the place in the store.
    :param who: tells this daemon from the others.
    :param failed: is told of a reaction that raised; the event is passed over,
        or it would stop all that come after it. If it raises, it is not.
    :param wants: says by topic and facts of which events a reaction reads the
        message; the others come without it. None: of all.
    """

    def __init__(
        self,
        name: str,
        who: str,
        following: IFollowing,
        reactions: Sequence[Reaction],
        failed: Callable[[Event, Exception], None],
        wants: Wants | None = None,
        lease_ms: int = 30_000,
    ) -> None:
        self._name = name
        self._who = who
        self._following = following
        self._reactions = reactions
        self._failed = failed
        self._wants = wants
        self._lease = lease_ms

    async def step(self) -> int:
        """
        Deal with the next events; say how many if more wait.

        0 means a rest, so that under load events are dealt with by the batch.

        :raises StoreUnavailable: it will go on from the last renewal.
        """
        place = await self._hold("")
        if place is None:
            return 0
        events = await self._following.events(place, BATCH, self._wants)
        for number, event in enumerate(events, 1):
            await self._react(event)
            done = number % STRIDE == 0 or number == len(events)
            if done and await self._hold(event.id) is None:
                return 0
        return len(events) if len(events) == BATCH else 0

    async def _hold(self, done: str) -> str | None:
        return await self._following.follow(self._name, self._who, self._lease, done)

    async def _react(self, event: Event) -> None:
        for reaction in self._reactions:
            try:
                await reaction(event)
            except StoreUnavailable:
                raise
            except Exception as error:
                self._failed(event, error)
