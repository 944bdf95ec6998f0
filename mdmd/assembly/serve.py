"""
The daemon, put together: every part in order, each waiting for the one before.

They end one at a time in reverse: ports close first, the store last.
"""

import gc
import os
import random
import secrets
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Any

import attrs
from twisted.logger import Logger

from mdmd.apns.escrow import EscrowKeys
from mdmd.apns.pushing import Pushing
from mdmd.assembly.clocks import WallClock, keep_steady
from mdmd.assembly.device_site import device_site, push_topic
from mdmd.assembly.enrolling import Enrolling, make_enrolling
from mdmd.assembly.following import follow_events
from mdmd.assembly.lookups import look_up_apart
from mdmd.assembly.measuring import begin_measuring, count_sites
from mdmd.assembly.memory import LOOK, Ebb, release_memory
from mdmd.assembly.operating import count_figures, serve_operators
from mdmd.assembly.parts import Parts
from mdmd.assembly.ports import open_site
from mdmd.assembly.pushing import begin_pushing
from mdmd.assembly.rounds import Rounds
from mdmd.assembly.start import begin
from mdmd.assembly.storage import open_store
from mdmd.config import Config
from mdmd.flow.enqueue import Enqueuer
from mdmd.flow.migrate import Migration
from mdmd.flow.pins import Pins
from mdmd.flow.send import Sender
from mdmd.flow.targets import Targets
from mdmd.ops.desk import Desk
from mdmd.ops.figures import Figures
from mdmd.ops.metrics import Metrics
from mdmd.ops.refusals import Refusals
from mdmd.ops.tail import Tail
from mdmd.store.feed import Feed
from mdmd.store.store import Store
from mdmd.web.api_routes import make_api
from mdmd.web.apps import Shelf
from mdmd.web.limited import LimitedSite
from mdmd.webhook.webhooks import Webhooks

log = Logger()

_RENEWALS = 60.0  # seconds between two looks at what is to be renewed
_OLD_EVENTS = 300.0  # the same, at which events are too old


async def serve(
    reactor: Any,
    stack: AsyncExitStack,
    config: Config,
    parts: Parts,
    set_level: Callable[[str, str], None],
) -> None:
    """
    Start everything in order.

    :param stack: takes the ending of each part, to be called in reverse.
    :param set_level: changes how much is logged.
    """
    keep_steady(reactor)
    look_up_apart(reactor)
    wall = WallClock()
    store = await open_store(reactor, wall, stack, config, parts)
    pushing = await begin_pushing(reactor, wall, stack, config, parts, store)
    feed = await Feed.start(reactor, store.link)
    stack.push_async_callback(feed.stop)
    webhooks = await _send_webhooks(reactor, wall, stack, parts, store, feed)
    now = store.tools.now
    enqueuer = Enqueuer(store.fleet, pushing.waker, Pins(store.inventory, now))
    topic = push_topic(config, store.certificates)
    enrolling = await make_enrolling(
        *(reactor, config, parts.authority, parts.challenge, parts.enrolling),
        *(store, pushing.waker, topic),
    )
    figures = _count(reactor, wall, stack, pushing)
    rights = config.enroll.access_rights
    sender = Sender(store.fleet, store.inventory, enqueuer, rights)
    await follow_events(
        reactor, stack, config, parts.blueprints, store, pushing.waker, enqueuer, sender
    )
    refusals = Refusals(store.audit, reactor)
    stack.push_async_callback(refusals.close)
    shelf = Shelf(config.apps.folder, config.mdmd.public_url, now)
    desk = attrs.evolve(
        _desk(reactor, wall, parts, store, pushing, enrolling, enqueuer, sender),
        tail=Tail(store.fleet, reactor, feed),
        webhooks=webhooks,
        moving=store.moving,
        set_log_level=set_level,
        figures=figures.now,
        shelf=shelf,
        refusals=refusals,
    )
    await serve_operators(reactor, stack, config, desk, figures, parts.pb_tls)
    metrics = begin_measuring(reactor, wall, stack, config, parts, store, pushing, webhooks)
    api = _api(reactor, wall, config, parts, store, enqueuer, feed, metrics, sender, refusals)
    await open_site(reactor, stack, "api", config.api.listen, api, parts.api_tls)
    stack.callback(feed.release)  # those who wait for events are answered, not waited for
    for name, seconds, work in (
        ("renewals", _RENEWALS, enrolling.renew.work),
        ("old events", _OLD_EVENTS, store.events.drop_old),
    ):
        rounds = Rounds(reactor, name, seconds, work)
        await begin(stack, rounds.start, rounds.stop)
    site = device_site(reactor, wall, config, parts, store, pushing.waker, enrolling, shelf)
    listen, shared = config.site.listen, config.site.reuse_port
    await open_site(reactor, stack, "site", listen, site, parts.site_tls, shared)
    count_sites(metrics, figures, api=api, site=site)
    ebb = Ebb(site, release_memory)
    waves = Rounds(reactor, "memory", LOOK, ebb.look)
    await begin(stack, waves.start, waves.stop)
    # What is here now stays: to look through it for garbage holds everybody up for some 20 ms.
    gc.collect()
    gc.freeze()
    log.info("mdmd ready", version=version("mdmd"), public_url=config.mdmd.public_url)


async def _send_webhooks(
    reactor: Any, wall: WallClock, stack: AsyncExitStack, parts: Parts, store: Store, feed: Feed
) -> Webhooks:
    # Unlike any other daemon with the same store, and any earlier one on this machine.
    daemon = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    webhooks = Webhooks(
        *(reactor, parts.webhooks, store.deliveries, feed, daemon, version("mdmd")),
        *(random.random, wall.seconds),
    )
    stack.push_async_callback(webhooks.stop)
    await webhooks.start()
    return webhooks


def _count(reactor: Any, wall: WallClock, stack: AsyncExitStack, pushing: Pushing) -> Figures:
    figures = count_figures(reactor, wall, stack)
    figures.sources["push"] = lambda: {
        "lines": [attrs.asdict(each) for each in pushing.service.status()],
        **attrs.asdict(pushing.waker.status()),
    }
    return figures


def _desk(
    reactor: Any,
    wall: WallClock,
    parts: Parts,
    store: Store,
    pushing: Pushing,
    enrolling: Enrolling,
    enqueuer: Enqueuer,
    sender: Sender,
) -> Desk:
    """Lay out what operators' methods act on, as far as it needs nothing but these."""
    return Desk(
        fleet=store.fleet,
        waker=pushing.waker,
        enqueuer=enqueuer,
        sender=sender,
        certificates=store.certificates,
        operators=parts.operators,
        audit=store.audit,
        tail=Tail(store.fleet, reactor),
        clock=reactor,
        wall=wall.seconds,
        version=version("mdmd"),
        identities=store.identities,
        enroll=enrolling.enroll,
        renew=enrolling.renew,
        inside={"store": store, "apns": pushing.service, "waker": pushing.waker},
        push_status=pushing.status,
        targets=Targets(store.fleet, store.inventory, store.groups),
        inventory=store.inventory,
        groups=store.groups,
    )


def _api(
    reactor: Any,
    wall: WallClock,
    config: Config,
    parts: Parts,
    store: Store,
    enqueuer: Enqueuer,
    feed: Feed,
    metrics: Metrics,
    sender: Sender,
    refusals: Refusals,
) -> LimitedSite:
    return make_api(
        parts.api_key,
        store.fleet,
        enqueuer,
        store.certificates,
        store.link.ping,
        version("mdmd"),
        reactor,
        wall.seconds,
        Migration(store.enrollments),
        EscrowKeys(reactor, store.certificates, config.apns.escrow_url, parts.apns_trust).unlock,
        feed,
        store.audit,
        metrics.text,
        sender=sender,
        refusals=refusals,
    )
