"""The metrics, put together: what counts as it happens, and what is asked for."""

import contextlib
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Any, cast

import attrs
from twisted.logger import ILogObserver, globalLogPublisher

from mdmd.apns.pushing import Pushing
from mdmd.assembly.clocks import WallClock
from mdmd.assembly.parts import Parts
from mdmd.config import Config
from mdmd.errors import BadCertificate
from mdmd.interfaces.webhooks import WebhookStanding
from mdmd.ops.figures import Figures
from mdmd.ops.metrics import Metrics, Seen
from mdmd.pki.certificates import load_certificate
from mdmd.store.store import Store
from mdmd.web.limited import LimitedSite
from mdmd.webhook.webhooks import Webhooks


def begin_measuring(
    reactor: Any,
    wall: WallClock,
    stack: AsyncExitStack,
    config: Config,
    parts: Parts,
    store: Store,
    pushing: Pushing,
    webhooks: Webhooks,
) -> Metrics:
    """Begin to count; what is in the store is read when somebody looks."""

    async def look() -> Seen:
        versions = await store.certificates.versions()
        ends = {("push", topic): float(not_after) for topic, (_, not_after) in versions.items()}
        standings = await webhooks.standings()
        with_work, _ = await store.push.waiting()
        return Seen(
            ended=await store.totals.ended(),
            with_work=with_work,
            enrolled=await store.certificates.enrolled(),
            certificates=ends | _own_certificates(config, parts),
            webhooks={
                each.name: (each.state.unsettled + (each.state.behind or 0), each.state.dead)
                for each in standings
            },
            webhook_lags={each.name: _lag(each, wall.seconds()) for each in standings},
        )

    metrics = Metrics(version("mdmd"), look)
    metrics.pushes = lambda: pushing.counts.outcomes
    metrics.deliveries = webhooks.counts
    observer = cast(ILogObserver, metrics)
    globalLogPublisher.addObserver(observer)
    stack.callback(globalLogPublisher.removeObserver, observer)
    for call in metrics.watch(reactor, store.link.ping):
        stack.callback(call.stop)
    return metrics


def count_sites(metrics: Metrics, figures: Figures, **sites: LimitedSite) -> None:
    """Count connections, by the doors that they came through."""
    for name, site in sites.items():
        figures.connections[name] = lambda site=site: len(site.channels)  # type: ignore[misc]
        metrics.sites[name] = lambda site=site: attrs.asdict(site.counts)  # type: ignore[misc]
    metrics.connections = figures.connections


def _lag(standing: WebhookStanding, now: float) -> float:
    oldest = standing.state.oldest
    return 0.0 if oldest is None else max(0.0, now - oldest / 1000)


def _own_certificates(config: Config, parts: Parts) -> dict[tuple[str, str], float]:
    held = {("ca", "device CA"): parts.authority.certificate}
    with contextlib.suppress(OSError, BadCertificate):  # it may be replaced just now
        held["site", "site"] = load_certificate(config.site.certificate.read_bytes())
    return {name: each.not_valid_after_utc.timestamp() for name, each in held.items()}
