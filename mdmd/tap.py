"""
``twistd mdmd``: the one place where things are put together.

Services start in order, each waiting for the one before, and stop one at a
time in reverse: ports close first, the store last.
"""

import os
import random
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import attrs
from twisted.application.service import Service
from twisted.logger import Logger
from twisted.python.usage import Options as UsageOptions

from mdmd.apns.alarms import Alarms
from mdmd.apns.client import PushService
from mdmd.apns.client import Settings as ApnsSettings
from mdmd.apns.counts import PushCounts
from mdmd.apns.escrow import EscrowKeys
from mdmd.apns.expiry import ExpiryWatch
from mdmd.apns.pushing import Pushing
from mdmd.apns.waker import Waker
from mdmd.config import Config, load
from mdmd.enrolling import Enrolling, make_enrolling
from mdmd.errors import ConfigError, MdmdError
from mdmd.flow.checkin import CheckIns
from mdmd.flow.connect import Connect
from mdmd.flow.enqueue import Enqueuer
from mdmd.flow.migrate import Migration
from mdmd.flow.send import Sender
from mdmd.flow.targets import Targets
from mdmd.following import follow_events
from mdmd.interfaces import IPushCertificates
from mdmd.operating import count_figures, serve_operators
from mdmd.ops.desk import Desk
from mdmd.ops.logs import Logs
from mdmd.ops.systemd import Systemd
from mdmd.ops.tail import Tail
from mdmd.parts import Parts
from mdmd.ports import make_endpoint, open_port
from mdmd.rounds import Rounds
from mdmd.service import Daemon, ExitStatus
from mdmd.store.embedded import EmbeddedStore
from mdmd.store.feed import Feed
from mdmd.store.link import Link
from mdmd.store.store import Settings as StoreSettings
from mdmd.store.store import Store
from mdmd.web.api import make_api
from mdmd.web.channel import LimitedSite, Limits
from mdmd.web.identity import Identities
from mdmd.web.site import make_site
from mdmd.web.tls import ServerContext, wrap
from mdmd.webhook.webhooks import Webhooks

log = Logger()

USUAL_PLACES = ("/etc/mdmd/mdmd.conf", "/var/lib/mdmd/mdmd.conf")

_RENEWALS = 60.0  # seconds between two looks at what is to be renewed
_DRAIN = 10.0  # seconds for requests in flight when the daemon ends


class Options(UsageOptions):
    """Options of ``twistd mdmd``."""

    synopsis = "twistd [twistd options] mdmd [--config FILE] [--check]"
    longdesc = "An Apple MDM server. `mdmctl init` makes what it needs; `mdmctl demo` shows it."
    optParameters = [  # noqa: RUF012  (Twisted's way to declare them)
        ["config", "c", None, "the configuration; default $MDMD_CONFIG or " + USUAL_PLACES[0]],
    ]
    optFlags = [["check", None, "check the configuration and exit"]]  # noqa: RUF012


def makeService(options: Options) -> Service:
    """
    Make the daemon of a configuration file.

    :raises SystemExit: a mistake in it: one line each, exit status 1. (twistd
        would print a traceback for anything else, and exit 0 for a UsageError.)
    """
    path = _configuration(options["config"])
    try:
        config = load(path)
        parts = Parts.read(config, str(path))
        logs = _logs(config, path)
    except ConfigError as error:
        raise SystemExit(str(error)) from None
    if options["check"]:
        sys.stdout.write(f"{path}: no mistakes\n")
        raise SystemExit(0)
    # Only now: importing it installs it, and --check needs none.
    from twisted.internet import reactor

    async def start(stack: AsyncExitStack) -> None:
        systemd = Systemd.of(os.environ)
        logs.reopen_on()
        await serve(reactor, stack, config, parts, logs.set_level)
        stack.callback(systemd.stopping)
        beat = systemd.stay_alive(reactor)
        if beat is not None:
            stack.callback(beat.stop)
        running: Any = reactor
        signal.signal(
            signal.SIGHUP,
            lambda *_: running.callFromThread(_reload, path, parts, logs, systemd),
        )
        systemd.ready()

    stop: Callable[[], object] = cast(Any, reactor).stop
    return Daemon(stop, start, ExitStatus(), logs.observer)


def _configuration(given: str | None) -> Path:
    named = given or os.environ.get("MDMD_CONFIG")
    if named:
        return Path(named)
    for place in USUAL_PLACES:
        if Path(place).exists():
            return Path(place)
    raise SystemExit(
        f"no configuration: neither --config, nor $MDMD_CONFIG, nor {' or '.join(USUAL_PLACES)}; "
        "`mdmctl init --hostname NAME` makes one"
    )


def _logs(config: Config, path: Path) -> Logs:
    mdmd = config.mdmd
    try:
        return Logs(mdmd.log_file, mdmd.log_format == "json", mdmd.log_level)
    except OSError as error:
        raise ConfigError(
            [f"{path}: [mdmd] log_file: {error.filename}: {error.strerror}"]
        ) from None


def _reload(path: Path, parts: Parts, logs: Logs, systemd: Systemd) -> None:
    """
    Read again what may change while the daemon runs: TLS certificates, the log's level and file.

    The operators file needs no word: it is read whenever it has changed. A mistake
    is logged, and what was in use stays.
    """
    systemd.reloading()
    try:
        config = load(path)
        for context in filter(None, (parts.site_tls, parts.api_tls)):
            context.reload()
        logs.set_level("", config.mdmd.log_level)
        logs.reopen()
    except (MdmdError, OSError) as error:
        log.error("not reloaded: {reason}", reason=str(error))
    else:
        log.info("reloaded: certificates and log", log_level=config.mdmd.log_level)
    systemd.ready()


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
    store = await _open_store(reactor, stack, config, parts)
    pushing = await _begin_pushing(reactor, stack, config, parts, store)
    waker = pushing.waker
    feed = await Feed.start(reactor, store.link)
    stack.push_async_callback(feed.stop)
    webhooks = _webhooks(reactor, parts, store, feed)
    stack.push_async_callback(webhooks.stop)
    webhooks.start()
    enqueuer = Enqueuer(store.fleet, waker)
    enrolling = await make_enrolling(
        reactor,
        config,
        parts.authority,
        parts.challenge,
        parts.enrolling,
        store,
        waker,
        _topic(config, store.certificates),
    )
    figures = count_figures(reactor, stack)
    figures.sources["push"] = lambda: {
        "lines": [attrs.asdict(each) for each in pushing.service.status()],
        **attrs.asdict(waker.status()),
    }
    sender = Sender(store.fleet, store.inventory, enqueuer, config.enroll.access_rights)
    await follow_events(reactor, stack, config, parts.blueprints, store, waker, enqueuer, sender)
    desk = Desk(
        fleet=store.fleet,
        waker=waker,
        enqueuer=enqueuer,
        certificates=store.certificates,
        operators=parts.operators,
        audit=store.audit,
        tail=Tail(store.fleet, reactor),
        clock=reactor,
        version=version("mdmd"),
        webhooks=webhooks,
        identities=store.identities,
        enroll=enrolling.enroll,
        renew=enrolling.renew,
        set_log_level=set_level,
        figures=figures.now,
        inside={"store": store, "apns": pushing.service, "waker": waker},
        push_status=pushing.status,
        sender=sender,
        targets=Targets(store.fleet, store.inventory, store.groups),
        inventory=store.inventory,
        groups=store.groups,
    )
    await serve_operators(reactor, stack, config, desk, figures)
    api = make_api(
        parts.api_key,
        store.fleet,
        enqueuer,
        store.certificates,
        store.link.ping,
        version("mdmd"),
        reactor,
        Migration(store.enrollments),
        EscrowKeys(reactor, store.certificates, config.apns.escrow_url, parts.apns_trust).unlock,
        feed,
        store.audit,
    )
    api_factory = _secured(parts.api_tls, api, reactor)
    await _listen(reactor, stack, "api", config.api.listen, api, api_factory)
    stack.callback(feed.release)  # those who wait for events are answered, not waited for
    rounds = Rounds(reactor, "renewals", _RENEWALS, enrolling.renew.work)
    await _begin(stack, rounds.start, rounds.stop)
    site = _device_site(reactor, config, parts, store, waker, enrolling)
    site_factory = _secured(parts.site_tls, site, reactor)
    await _listen(reactor, stack, "site", config.site.listen, site, site_factory)
    figures.connections["api"] = lambda: len(api.channels)
    figures.connections["site"] = lambda: len(site.channels)
    log.info("mdmd ready", version=version("mdmd"), public_url=config.mdmd.public_url)


async def _begin(
    stack: AsyncExitStack,
    start: Callable[[], Awaitable[object]],
    stop: Callable[[], Awaitable[object]],
) -> None:
    # First its ending: a start that is cut short has something to end, too.
    stack.push_async_callback(stop)
    await start()


async def _begin_pushing(
    reactor: Any, stack: AsyncExitStack, config: Config, parts: Parts, store: Store
) -> Pushing:
    """Start the road to APNs, the waker on it, and the watch over the certificates' ends."""
    alarms, counts = Alarms(store.events), PushCounts()
    service = PushService(reactor, _apns_settings(config, parts), store.certificates, alarms)
    await _begin(stack, service.start, service.stop)
    waker = Waker(reactor, store.push, service, config.push.repeat, recorded=counts.add)
    await _begin(stack, waker.start, waker.stop)
    watch = ExpiryWatch(reactor, store.certificates)
    await _begin(stack, watch.start, watch.stop)
    return Pushing(service, waker, watch, store.push, counts)


async def _open_store(reactor: Any, stack: AsyncExitStack, config: Config, parts: Parts) -> Store:
    """Start the embedded store if there is to be one, and wait until the store answers."""
    url = config.store.redis
    if url == "embedded":
        embedded = EmbeddedStore(
            reactor, config.state / "store", fsync=config.store.fsync, binary=config.store.binary
        )
        stack.push_async_callback(embedded.stop)
        url = await embedded.start()
    link = await Link.open(reactor, url, timeout=config.store.timeout, ca=config.store.ca)
    stack.push_async_callback(link.close)
    return Store(link, parts.sealer, reactor, _store_settings(config))


def _store_settings(config: Config) -> StoreSettings:
    return StoreSettings(
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


def _apns_settings(config: Config, parts: Parts) -> ApnsSettings:
    apns = config.apns
    return ApnsSettings(
        host=apns.host,
        port=apns.port,
        trust=parts.apns_trust,
        expiration=apns.expiration,
        ping=apns.ping,
        connect_timeout=apns.connect_timeout,
        proxy=apns.proxy,
    )


def _webhooks(reactor: Any, parts: Parts, store: Store, feed: Feed) -> Webhooks:
    # Unlike any other daemon with the same store, and any earlier one on this machine.
    daemon = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    return Webhooks(
        *(reactor, parts.webhooks, store.deliveries, feed, daemon, version("mdmd"), random.random)
    )


def _device_site(
    reactor: Any, config: Config, parts: Parts, store: Store, waker: Waker, enrolling: Enrolling
) -> LimitedSite:
    return make_site(
        reactor,
        CheckIns(store.enrollments, waker, accept_users=config.site.user_authenticate == "accept"),
        Connect(store.queue),
        enrolling.scep,
        enrolling.door,
        Identities(
            [parts.authority.certificate, *parts.enrolling.trusted],
            reactor.seconds,
            config.site.identity,
            config.site.proxies,
            config.site.header,
            expired=config.scep.renew_expired,
        ),
        Limits(
            config.site.body_limit,
            config.site.request_timeout,
            config.site.idle_timeout,
            config.site.max_connections,
        ),
        store.enrollments.refused,
    )


def _topic(config: Config, certificates: IPushCertificates) -> Callable[[], Awaitable[str]]:
    async def topic() -> str:
        """Say which topic to enroll for: the configured one, or the one that lasts longest."""
        if config.enroll.topic:
            return config.enroll.topic
        versions = await certificates.versions()
        return max(versions, key=lambda each: versions[each][1], default="")

    return topic


def _secured(context: ServerContext | None, site: Any, reactor: Any) -> Any:
    """Put TLS in front of a site, if there is any; it is an IProtocolFactory, as is the answer."""
    return site if context is None else wrap(context, site, reactor)


async def _listen(
    reactor: Any,
    stack: AsyncExitStack,
    name: str,
    endpoints: Sequence[str],
    site: LimitedSite,
    factory: Any,
) -> None:
    """
    Open the ports of a site; closed again, it ends what is in flight first.

    :raises CannotListenError: a port can't be opened.
    """
    if not endpoints:
        return
    stack.push_async_callback(site.drain, _DRAIN)
    for each in endpoints:
        await open_port(stack, name, make_endpoint(reactor, each), factory)
