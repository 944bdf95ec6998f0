"""The road to APNs, put together: client, waker, the watch over the certificates."""

from contextlib import AsyncExitStack
from typing import Any

from mdmd.apns.alarms import Alarms
from mdmd.apns.client import PushService, Settings
from mdmd.apns.counts import PushCounts
from mdmd.apns.expiry import ExpiryWatch
from mdmd.apns.pushing import Pushing
from mdmd.apns.waker import Waker
from mdmd.assembly.clocks import WallClock
from mdmd.assembly.parts import Parts
from mdmd.assembly.start import begin
from mdmd.config import Config
from mdmd.store.store import Store


async def begin_pushing(
    reactor: Any, wall: WallClock, stack: AsyncExitStack, config: Config, parts: Parts, store: Store
) -> Pushing:
    """Start the road to APNs, the waker on it, and the watch over the certificates' ends."""
    alarms, counts = Alarms(store.events), PushCounts()
    service = PushService(
        *(reactor, _settings(config, parts), store.certificates, alarms), wall=wall.seconds
    )
    await begin(stack, service.start, service.stop)
    waker = Waker(
        *(reactor, store.push, service, config.push.repeat),
        recorded=counts.add,
        wall=wall.seconds,
    )
    await begin(stack, waker.start, waker.stop)
    watch = ExpiryWatch(reactor, store.certificates, wall.seconds)
    await begin(stack, watch.start, watch.stop)
    return Pushing(service, waker, watch, store.push, counts)


def _settings(config: Config, parts: Parts) -> Settings:
    apns = config.apns
    return Settings(
        host=apns.host,
        port=apns.port,
        trust=parts.apns_trust,
        expiration=apns.expiration,
        ping=apns.ping,
        connect_timeout=apns.connect_timeout,
        proxy=apns.proxy,
    )
