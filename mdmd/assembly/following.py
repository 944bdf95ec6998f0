"""What follows from events and from the clock, put together: inventory, blueprints, refresh."""

import os
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from mdmd.assembly.rounds import Rounds
from mdmd.config import Config
from mdmd.flow.enqueue import Enqueuer
from mdmd.flow.follow import Follower, Reaction
from mdmd.flow.learn import Learner
from mdmd.flow.prepare import Preparer
from mdmd.flow.refresh import Limits, Refresher
from mdmd.flow.send import Sender
from mdmd.interfaces.fleet import Event
from mdmd.interfaces.push import IWaker
from mdmd.mdm.answers.decode import Answer
from mdmd.mdm.catalogue.blueprint import Blueprint
from mdmd.store.store import Store

log = Logger()

_EVENTS_EVERY = 0.5  # seconds between two looks
_DUE_EVERY = 2.0


async def follow_events(
    reactor: Any,
    stack: AsyncExitStack,
    config: Config,
    blueprints: Sequence[Blueprint],
    store: Store,
    waker: IWaker,
    enqueuer: Enqueuer,
    sender: Sender,
) -> None:
    """Let follow from the events, and from the clock, what has to."""

    async def offload(work: Callable[[], Answer]) -> Answer:
        return await deferToThreadPool(reactor, reactor.getThreadPool(), work)

    now = store.tools.now
    reactions: list[Reaction] = [Learner(store.inventory, store.events, offload).react]
    if blueprints:
        rights = config.enroll.access_rights
        preparer = Preparer(
            *(blueprints, store.fleet, enqueuer, store.limits, store.events, now, rights)
        )
        reactions.append(preparer.react)
    if config.inventory.refresh is not None:
        refresher = Refresher(
            *(config.inventory.refresh, config.inventory.commands, store.refresh, store.fleet),
            *(store.inventory, sender, random.random, now),
        )
        reactions.append(refresher.react)
        await _every(reactor, stack, "refresh", _DUE_EVERY, refresher.round)
    await _every(reactor, stack, "limits", _DUE_EVERY, Limits(store.limits, waker).round)
    who = f"{os.getpid()}-{secrets.token_hex(8)}"
    follower = Follower("inventory", who, store.following, reactions, passed_over, Learner.wants)
    await _every(reactor, stack, "inventory", _EVENTS_EVERY, follower.step)


async def _every(
    reactor: Any,
    stack: AsyncExitStack,
    name: str,
    seconds: float,
    work: Callable[[], Awaitable[int]],
) -> None:
    rounds = Rounds(reactor, name, seconds, work)
    stack.push_async_callback(rounds.stop)
    await rounds.start()


def passed_over(event: Event, error: Exception) -> None:
    """
    Say that a reaction failed.

    :raises CancelledError: it was only cut short, and comes again.
    """
    if isinstance(error, CancelledError):
        raise error
    log.failure("nothing could follow from {event}", event=event.id, topic=event.topic)
