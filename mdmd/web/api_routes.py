"""
The API's paths: which method of :class:`mdmd.web.api.Api` answers, and how it says that it failed.

Source: NanoMDM's http/api, for those that it has.
"""

import random
from collections.abc import Callable

from mdmd.errors import BadMessage, BadRequest, TooLarge
from mdmd.flow.migrate import Migration
from mdmd.interfaces.audit import IAudit, IRefusals
from mdmd.interfaces.fleet import IFleet
from mdmd.interfaces.push import IPushCertificates
from mdmd.interfaces.webhooks import IFeed
from mdmd.web.api import Api, Enqueues, Measures, Ping, Sends, Unlock
from mdmd.web.api_call import Fails, Route, matching, spell_error
from mdmd.web.api_site import ApiLeaf
from mdmd.web.channel import Limits
from mdmd.web.limited import LimitedSite
from mdmd.web.respond import Clock, Edge, Wall

_LINE = 1 << 20  # bytes; many ids are in one path


ROUTES = (
    Route(("GET",), "/version", Api.version, open=True),
    Route(("GET",), "/healthz", Api.health, open=True),
    Route(("GET",), "/metrics", Api.metrics),
    Route(
        *(("PUT", "POST"), "/v1/enqueue/{ids}", Api.enqueue),
        act="api.enqueue",
        fails=Fails("command_error"),
    ),
    Route(
        *(("GET", "PUT", "POST"), "/v1/push/{ids}", Api.push),
        act="api.push",
        fails=Fails("push_error"),
    ),
    Route(
        *(("PUT",), "/v1/pushcert", Api.put_push_certificate),
        act="api.pushcert",
        fails=Fails(faults=(BadRequest,)),
    ),
    Route(("GET",), "/v1/pushcert", Api.push_certificate, fails=Fails(faults=(BadRequest,))),
    Route(("GET",), "/v1/enrollments", Api.enrollments),
    Route(("GET",), "/v1/enrollments/{id}", Api.enrollment),
    Route(("GET",), "/v1/queue/{id}", Api.queue),
    Route(("DELETE",), "/v1/queue/{id}", Api.clear_queue, act="api.clear_queue"),
    Route(("DELETE",), "/v1/queue/{id}/{uuid}", Api.cancel, act="api.cancel"),
    Route(("GET",), "/v1/results/{id}", Api.results, reads="api.results"),
    Route(("GET",), "/v1/results/{id}/{uuid}", Api.result, reads="api.result"),
    Route(("GET",), "/v1/events", Api.events, reads="api.events"),
    Route(
        *(("POST",), "/v1/escrowkeyunlock", Api.escrow_key_unlock),
        act="api.escrowkeyunlock",
        fails=Fails(faults=(BadRequest, BadMessage)),
    ),
    Route(
        *(("PUT", "POST"), "/migration", Api.migrate),
        act="api.migrate",
        fails=Fails(faults=(BadMessage,)),
    ),
)


async def _no_metrics() -> bytes:
    return b""


def make_api(
    api_key: str,
    fleet: IFleet,
    enqueuer: Enqueues,
    certificates: IPushCertificates,
    ping: Ping,
    version: str,
    clock: Clock,
    wall: Wall,
    migration: Migration,
    unlock: Unlock,
    feed: IFeed,
    audit: IAudit | None = None,
    metrics: Measures = _no_metrics,
    limits: Limits | None = None,
    jitter: Callable[[], float] = random.random,
    sender: Sends | None = None,
    refusals: IRefusals | None = None,
) -> LimitedSite:
    """
    Make the API's site.

    :param api_key: the password of everybody; an empty one lets nobody in.
    :param ping: raises StoreUnavailable when the store does not answer.
    :param clock: the reactor.
    :param wall: the time of day.
    :param audit: is told of each act and each read of a secret, None: nobody is.
    :param refusals: is told of each wrong key.
    :param metrics: gives everything counted in Prometheus' text format.
    :param sender: holds a strict command against what is known of each device;
        None: only against what Apple says of the command.
    :param unlock: a form's fields to Apple's status, content type and body.
    """
    api = Api(
        *(fleet, enqueuer, certificates, ping, version, clock, wall, migration, unlock, feed),
        *(metrics, sender),
    )
    edge = Edge(clock, wall, jitter, spell_error)
    leaf = ApiLeaf(ROUTES, api, api_key, clock, edge, audit, refusals)
    return LimitedSite(leaf, clock, limits or Limits(body=16 << 20, line=_LINE), unread=_unread)


def _unread(text: str, path: bytes) -> tuple[int, bytes, str]:
    """Spell why a request was not read, as its path spells what is not to be done."""
    for route, _ in matching(ROUTES, path):
        if route.fails is not None:
            return route.fails.spell(TooLarge(text))
    return 400, *spell_error(text)
