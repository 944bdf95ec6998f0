"""The store, put together: the embedded one if there is to be one, the link, the subjects."""

from contextlib import AsyncExitStack
from typing import Any

from mdmd.assembly.clocks import WallClock
from mdmd.assembly.parts import Parts
from mdmd.config import Config
from mdmd.errors import StoreUnavailable
from mdmd.store.embedded import EmbeddedStore
from mdmd.store.link import Link
from mdmd.store.store import Settings, Store


async def open_store(
    reactor: Any, wall: WallClock, stack: AsyncExitStack, config: Config, parts: Parts
) -> Store:
    """
    Start the embedded store if there is to be one, and wait until the store answers.

    :raises StoreUnavailable: it does not, or its secrets were sealed with another key.
    """
    url = config.store.redis
    if url == "embedded":
        embedded = EmbeddedStore(
            reactor, config.state / "store", fsync=config.store.fsync, binary=config.store.binary
        )
        stack.push_async_callback(embedded.stop)
        url = await embedded.start()
    link = await Link.open(reactor, url, timeout=config.store.timeout, ca=config.store.ca)
    stack.push_async_callback(link.close)
    store = Store(link, parts.sealer, wall, _settings(config))
    if not await store.fits(parts.sealer):
        raise StoreUnavailable(
            f"{config.store.sealing_key} is not the key that the secrets in the store were sealed "
            "with; all daemons of one store need the same file"
        )
    return store


def _settings(config: Config) -> Settings:
    return Settings(
        results_kept=config.queue.results_kept,
        results_age=config.queue.results_age,
        events_kept=config.events.kept,
        events_age=config.events.age,
        first_delay=config.push.first_delay,
        repeat=config.push.repeat,
        expires=config.queue.expires,
        max_attempts=config.queue.max_attempts,
        refuse_unknown=config.ca.unknown == "refuse",
        renew_share=config.scep.renew_after / 100,
    )
