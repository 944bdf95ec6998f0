"""The site that devices reach, put together."""

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.threads import deferToThreadPool

from mdmd.assembly.clocks import WallClock
from mdmd.assembly.enrolling import Enrolling
from mdmd.assembly.parts import Parts
from mdmd.config import Config
from mdmd.flow.checkin import CheckIns
from mdmd.flow.connect import Connect
from mdmd.interfaces.push import IPushCertificates, IWaker
from mdmd.mdm.report import Report
from mdmd.store.store import Store
from mdmd.web.apps import Shelf
from mdmd.web.channel import Limits
from mdmd.web.identity import Identities
from mdmd.web.limited import LimitedSite
from mdmd.web.site import make_site


def device_site(
    reactor: Any,
    wall: WallClock,
    config: Config,
    parts: Parts,
    store: Store,
    waker: IWaker,
    enrolling: Enrolling,
    shelf: Shelf,
) -> LimitedSite:
    async def offload(work: Callable[[], Report]) -> Report:
        return await deferToThreadPool(reactor, reactor.getThreadPool(), work)

    return make_site(
        reactor,
        CheckIns(store.enrollments, waker, accept_users=config.site.user_authenticate == "accept"),
        Connect(store.queue, offload),
        enrolling.scep,
        enrolling.door,
        Identities(
            [parts.authority.certificate, *parts.enrolling.trusted],
            wall.seconds,
            config.site.identity,
            config.site.proxies,
            config.site.header,
            expired=config.scep.renew_expired,
            sha1=config.site.signature_sha1,
        ),
        Limits(
            config.site.body_limit,
            config.site.request_timeout,
            config.site.idle_timeout,
            config.site.max_connections,
            report=config.site.report_limit,
        ),
        store.enrollments.refused,
        shelf=shelf,
        wall=wall.seconds,
    )


def push_topic(config: Config, certificates: IPushCertificates) -> Callable[[], Awaitable[str]]:
    async def topic() -> str:
        """Say which topic to enroll for: the configured one, or the one that lasts longest."""
        if config.enroll.topic:
            return config.enroll.topic
        versions = await certificates.versions()
        return max(versions, key=lambda each: versions[each][1], default="")

    return topic
