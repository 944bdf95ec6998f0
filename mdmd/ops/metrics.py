"""
What Prometheus reads: ``GET /metrics``.

Names and labels are docs/metrics.md's. Labels have few values: a kind of
request, a status, a RequestType of the catalogue, a topic. Never an enrollment.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

import attrs
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, Logger, LogLevel
from zope.interface import implementer

from mdmd.errors import StoreUnavailable
from mdmd.mdm.catalogue.load import names

log = Logger()

_REQUEST = "mdmd.web.respond"  # where the one line of each request is logged
_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_MOST_TOPICS = 100
_TROUBLE = (LogLevel.warn, LogLevel.error, LogLevel.critical)
_LAG_EVERY = 1.0  # seconds
_STORE_EVERY = 5.0


@attrs.frozen
class Seen:
    """
    What is read from the store when somebody looks.

    :ivar ended: commands by RequestType and status.
    :ivar enrolled: enabled enrollments by topic.
    :ivar certificates: (kind, name) to the end of its validity, epoch seconds.
    :ivar webhooks: name to (waiting, dead).
    :ivar webhook_lags: name to the age of the oldest event that waits, seconds.
    """

    ended: Mapping[tuple[str, str], int] = attrs.Factory(dict)
    with_work: int = 0
    enrolled: Mapping[str, int] = attrs.Factory(dict)
    certificates: Mapping[tuple[str, str], float] = attrs.Factory(dict)
    webhooks: Mapping[str, tuple[int, int]] = attrs.Factory(dict)
    webhook_lags: Mapping[str, float] = attrs.Factory(dict)


@implementer(ILogObserver)
class Metrics:
    """
    Counters of this daemon, and a look into the store they share.

    :param look: reads the store; raises StoreUnavailable.
    :ivar connections: counts of open ones, by what they are for.
    :ivar sites: counts of what a site cut or turned away, by site and word.
    :ivar pushes: (topic, decision, reason) to count.
    :ivar deliveries: (webhook, outcome) to count.
    """

    def __init__(self, version: str, look: Callable[[], Awaitable[Seen]]) -> None:
        self.connections: dict[str, Callable[[], int]] = {}
        self.sites: dict[str, Callable[[], Mapping[str, int]]] = {}
        self.pushes: Callable[[], Mapping[tuple[str, str, str], int]] = dict
        self.deliveries: Callable[[], Mapping[tuple[str, str], int]] = dict
        self._look = look
        self._seen: Seen | None = None
        self._registry = CollectorRegistry()
        _Process(registry=self._registry)
        self._registry.register(_Asked(self._families))
        about = Gauge("mdmd_info", "Which version runs.", ["version"], registry=self._registry)
        about.labels(version).set(1)
        self._requests = self._counter("mdmd_requests", "Requests answered.", "kind", "status")
        self._seconds = Histogram(
            *("mdmd_request_seconds", "How long a request took, from its last byte.", ["kind"]),
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._log = self._counter("mdmd_log_events", "Lines of the log that tell trouble.", "level")
        for level in _TROUBLE:  # from 0 on: a count that begins is no increase to Prometheus
            self._log.labels(level.name)
        self._lag = self._histogram("mdmd_loop_lag_seconds", "How late the event loop is.")
        self._store = self._histogram("mdmd_store_seconds", "A round trip to the store.")
        self._store_up = Gauge(
            "mdmd_store_up", "Whether the store answers.", registry=self._registry
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, registry=self._registry, buckets=_BUCKETS)

    # -- what is counted as it happens -------------------------------------------------

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take one event of the log; Twisted calls this."""
        level = event.get("log_level")
        if level in _TROUBLE:
            self._log.labels(level.name).inc()
        if event.get("log_namespace") == _REQUEST and "ms" in event:
            kind = str(event.get("kind", "other"))
            self._requests.labels(kind, str(event["status"])).inc()
            self._seconds.labels(kind).observe(float(event["ms"]) / 1000)

    def watch(self, reactor: Any, ping: Callable[[], Awaitable[None]]) -> list[LoopingCall]:
        """Measure the event loop and the store from now on; the answer is to be stopped."""
        last = [reactor.seconds()]

        def lag() -> None:
            now = reactor.seconds()
            self._lag.observe(max(0.0, now - last[0] - _LAG_EVERY))
            last[0] = now

        async def store() -> None:
            began = time.perf_counter()
            try:
                await ping()
            except StoreUnavailable:
                self._store_up.set(0)
            except Exception:  # or nobody would look any more
                self._store_up.set(0)
                log.failure("the store answered what nobody thought of")
            else:
                self._store_up.set(1)
                self._store.observe(time.perf_counter() - began)

        calls = []
        for every, act in ((_LAG_EVERY, lag), (_STORE_EVERY, store)):
            call = LoopingCall(_as_deferred(act))
            call.clock = reactor
            call.start(every, now=act is store)
            calls.append(call)
        return calls

    # -- what is asked for when somebody looks ---------------------------------------------

    async def text(self) -> bytes:
        """Give everything in Prometheus' text format; of a store that is away, nothing."""
        try:
            self._seen = await self._look()
        except StoreUnavailable:
            self._seen = None
            self._store_up.set(0)
        return bytes(generate_latest(self._registry))

    def _families(self) -> Iterator[Metric]:
        yield _gauge(
            *("mdmd_connections", "Open connections.", ["door"]),
            {(name,): count() for name, count in self.connections.items()},
        )
        counts = {door: dict(ask()) for door, ask in self.sites.items()}
        yield _count(
            *("mdmd_connections_opened", "Connections opened: handshakes, with TLS.", ["door"]),
            {(door,): each.pop("opened", 0) for door, each in counts.items()},
        )
        yield _count(
            *("mdmd_connections_refused", "Connections cut or turned away.", ["door", "why"]),
            {(door, why): n for door, each in counts.items() for why, n in each.items()},
        )
        yield _count(
            *("mdmd_pushes", "Pushes by what APNs said.", ["topic", "decision", "reason"]),
            self.pushes(),
        )
        yield _count(
            *("mdmd_webhook_deliveries", "Deliveries to webhooks.", ["name", "outcome"]),
            self.deliveries(),
        )
        if self._seen is not None:
            yield from _of_store(self._seen)


def _of_store(seen: Seen) -> Iterator[Metric]:
    ended: dict[tuple[str, ...], float] = {}
    for (request_type, status), count in seen.ended.items():
        # Anybody may send commands that nobody has heard of.
        labels = (request_type if request_type in names() else "other", status)
        ended[labels] = ended.get(labels, 0) + count
    yield _count(
        *("mdmd_commands", "Commands that ended, in the store.", ["request_type", "status"]), ended
    )
    yield _gauge("mdmd_work", "Enrollments with commands to fetch.", [], {(): seen.with_work})
    yield _gauge(
        *("mdmd_enrollments", "Enabled enrollments.", ["topic"]), _most_enrolled(seen.enrolled)
    )
    yield _gauge(
        *("mdmd_certificate_end_seconds", "When a certificate ends (epoch).", ["kind", "name"]),
        seen.certificates,
    )
    yield _gauge(
        *("mdmd_webhook_waiting", "Events that a webhook has not got yet.", ["name"]),
        {(name,): waiting for name, (waiting, _) in seen.webhooks.items()},
    )
    yield _gauge(
        *("mdmd_webhook_lag_seconds", "Age of the oldest event that waits.", ["name"]),
        {(name,): lag for name, lag in seen.webhook_lags.items()},
    )
    yield _gauge(
        *("mdmd_webhook_dead", "Events that a webhook never took.", ["name"]),
        {(name,): dead for name, (_, dead) in seen.webhooks.items()},
    )


def _most_enrolled(enrolled: Mapping[str, int]) -> "Values":
    """Tell the topics with most enrollments apart; devices name theirs, and may name any."""
    by_number = sorted(enrolled.items(), key=lambda each: -each[1])
    values: dict[tuple[str], float] = {(topic,): count for topic, count in by_number[:_MOST_TOPICS]}
    rest = sum(count for _, count in by_number[_MOST_TOPICS:])
    return {**values, ("other",): rest} if rest else values


Values = Mapping[Any, float]


def _gauge(name: str, text: str, labels: list[str], values: Values) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    return _fill(family, values)


def _count(name: str, text: str, labels: list[str], values: Values) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    return _fill(family, values)


def _fill(family: Any, values: Values) -> Metric:
    for each, value in values.items():
        family.add_metric(list(each), value)
    filled: Metric = family
    return filled


class _Process(ProcessCollector):
    """Tell of this process without /proc/stat, which ProcSubset=pid in the unit hides."""

    def _boot_time(self) -> float:
        clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        return time.time() - time.clock_gettime(clock)


class _Asked(Collector):
    """What is not kept here, but asked for."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._ask = families

    def collect(self) -> Iterable[Metric]:
        """Give the families; Prometheus' library calls this."""
        return self._ask()

    def describe(self) -> Iterable[Metric]:
        """Say nothing beforehand: that would be asking."""
        return []


def _as_deferred(act: Callable[[], Any]) -> Callable[[], Any]:
    from inspect import iscoroutinefunction

    from twisted.internet.defer import ensureDeferred

    return (lambda: ensureDeferred(act())) if iscoroutinefunction(act) else act
