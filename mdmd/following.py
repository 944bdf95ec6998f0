"""What follows from events and from the clock, put together: inventory, blueprints, refresh."""

import os
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from mdmd.flow.follow import Follower
from mdmd.flow.learn import Learner
from mdmd.interfaces import Event
from mdmd.mdm.answers.decode import Answer
from mdmd.rounds import Rounds
from mdmd.store.store import Store

log = Logger()

_EVERY = 0.5  # seconds between two looks at the events


async def follow_events(reactor: Any, stack: AsyncExitStack, store: Store) -> None:
    """Let follow from the events what has to: the inventory is learnt from answers."""

    async def offload(work: Callable[[], Answer]) -> Answer:
        return await deferToThreadPool(reactor, reactor.getThreadPool(), work)

    learner = Learner(store.inventory, store.events, offload)
    who = f"{os.getpid()}-{secrets.token_hex(8)}"
    follower = Follower("inventory", who, store.following, [learner.react], _failed)
    rounds = Rounds(reactor, "inventory", _EVERY, follower.step)
    stack.push_async_callback(rounds.stop)
    await rounds.start()


def _failed(event: Event, _: Exception) -> None:
    log.failure("nothing could follow from {event}", event=event.id, topic=event.topic)
