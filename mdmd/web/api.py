"""
The HTTP API for integrators: NanoMDM's, so that its tools work unchanged, and ours beside it.

Source: NanoMDM's docs/openapi.yaml and http/api, for what it has.
"""

import base64
import binascii
import hmac
import json
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol, cast
from urllib.parse import unquote_to_bytes

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import Resource

from mdmd.errors import (
    BadCertificate,
    BadRequest,
    Conflict,
    NotHere,
    StoreUnavailable,
)
from mdmd.flow.enqueue import Reply, TargetReply
from mdmd.flow.pushcert import install
from mdmd.interfaces import IFleet, IPushCertificates, Policy
from mdmd.mdm.command import Command, decode_command
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.web import api_json
from mdmd.web.channel import LimitedRequest, LimitedSite, Limits, peer_of
from mdmd.web.respond import Answer, Clock, Edge, Facts, Refusal, method_not_allowed

Ping = Callable[[], Awaitable[object]]

_PING_SECONDS = 3.0
_PAGE = 100
_LARGEST_PAGE = 1000
_ALL_RESULTS = 10_000  # more than the store keeps of one enrollment


class Enqueues(Protocol):
    """Enqueuer of :mod:`mdmd.flow.enqueue`."""

    async def enqueue(
        self,
        command: Command | None,
        ids: list[str],
        policy: Policy | None = None,
        push: bool = True,
    ) -> Reply:
        """Queue a command and push."""

    async def push(self, ids: list[str]) -> Reply:
        """Push."""


@attrs.frozen
class Call:
    """One request of an integrator."""

    method: str
    path: dict[str, str]  # by the names in the route
    query: dict[bytes, list[bytes]]
    body: bytes = attrs.field(repr=False)

    def text(self, name: str, default: str = "") -> str:
        """Give a query parameter; of several the first."""
        values = self.query.get(name.encode(), [])
        try:
            return values[0].decode() if values else default
        except UnicodeDecodeError:
            raise BadRequest(f"{name} is not UTF-8") from None

    def flag(self, name: str) -> bool:
        """Say whether a query parameter is there and means yes."""
        return self.text(name).lower() not in ("", "0", "false", "no")

    def limit(self) -> int:
        """Give the size of a page."""
        text = self.text("limit", str(_PAGE))
        if not (text.isascii() and text.isdigit()) or len(text) > 6 or int(text) < 1:
            raise BadRequest(f"limit is a number from 1 to {_LARGEST_PAGE}")
        return min(int(text), _LARGEST_PAGE)

    def ids(self) -> list[str]:
        """Give the ids of the path, trimmed, each once."""
        ids = (each.strip() for each in self.path["ids"].split(","))
        return list(dict.fromkeys(each for each in ids if each))

    def enrollment(self) -> EnrollmentID:
        """
        Give the one id of the path.

        :raises BadMessage: it is none.
        """
        return EnrollmentID.parse(self.path["id"])


class Api:
    """The calls, one method each; ``ROUTES`` says which is which."""

    def __init__(
        self,
        fleet: IFleet,
        enqueuer: Enqueues,
        certificates: IPushCertificates,
        ping: Ping,
        version: str,
        clock: Clock,
    ) -> None:
        self._fleet = fleet
        self._enqueuer = enqueuer
        self._certificates = certificates
        self._ping = ping
        self._version = version
        self._clock = clock

    async def version(self, call: Call) -> Answer:
        """Say which version this is."""
        return _json({"version": self._version})

    async def health(self, call: Call) -> Answer:
        """Say whether the store answers."""
        # A store that is away may answer late, and a health check must not hang.
        asked = Deferred.fromCoroutine(_ask(self._ping))
        asked.addTimeout(
            _PING_SECONDS, cast(IReactorTime, self._clock), onTimeoutCancel=lambda _, __: False
        )
        well = await asked
        return _json({"status": "ok"}) if well else _json({"status": "no store"}, 503)

    async def enqueue(self, call: Call) -> Answer:
        """Queue the plist in the body, and push unless told not to."""
        command = decode_command(call.body) if call.body.strip() else None
        reply = await self._enqueuer.enqueue(command, call.ids(), push=not call.flag("nopush"))
        return _reply(reply)

    async def push(self, call: Call) -> Answer:
        """Push only."""
        return _reply(await self._enqueuer.push(call.ids()))

    async def put_push_certificate(self, call: Call) -> Answer:
        """Install a push certificate and its key."""
        now = datetime.fromtimestamp(self._clock.seconds(), UTC)
        try:
            topic, not_after = await install(
                self._certificates, call.body, now, force=call.flag("force")
            )
        except (BadCertificate, Conflict) as error:
            raise BadRequest(str(error)) from error
        return _json({"not_after": api_json.seconds(not_after), "topic": topic})

    async def push_certificate(self, call: Call) -> Answer:
        """Say until when a topic's push certificate is good."""
        topic = call.text("topic")
        if not topic:
            raise BadRequest("topic is missing")
        versions = await self._certificates.versions()
        if topic not in versions:
            raise BadRequest("no push certificate of this topic")
        _, not_after = versions[topic]
        return _json({"not_after": api_json.seconds(not_after), "topic": topic})

    async def enrollments(self, call: Call) -> Answer:
        """Page through the enrollments; ``next`` is what ``after`` is next, absent at the end."""
        limit = call.limit()
        records = await self._fleet.enrollments(call.text("after"), limit)
        page: dict[str, object] = {"enrollments": [api_json.enrollment(each) for each in records]}
        if len(records) == limit:
            page["next"] = str(records[-1].enrollment)
        return _json(page)

    async def enrollment(self, call: Call) -> Answer:
        """Tell all of one enrollment but its secrets."""
        record = await self._fleet.enrollment(call.enrollment())
        if record is None:
            raise NotHere("no such enrollment")
        return _json(api_json.enrollment(record))

    async def queue(self, call: Call) -> Answer:
        """List what is pending or parked, in delivery order."""
        commands = await self._fleet.queue(call.enrollment())
        return _json({"commands": [api_json.queued(each) for each in commands]})

    async def clear_queue(self, call: Call) -> Answer:
        """Take everything out of a queue."""
        return _json({"cleared": await self._fleet.clear(call.enrollment())})

    async def cancel(self, call: Call) -> Answer:
        """Take one command out; ``sent`` warns that the device may act on it all the same."""
        command = await self._fleet.cancel(call.enrollment(), call.path["uuid"])
        return _json({**api_json.queued(command), "sent": command.attempts > 0})

    async def results(self, call: Call) -> Answer:
        """List the newest results."""
        results = await self._fleet.results(call.enrollment(), call.limit())
        return _json({"results": [api_json.result(each) for each in results]})

    async def result(self, call: Call) -> Answer:
        """Tell the newest result of one command."""
        results = await self._fleet.results(call.enrollment(), _ALL_RESULTS)
        for each in results:
            if each.uuid == call.path["uuid"]:
                return _json(api_json.result(each))
        raise NotHere("no result of this command")

    async def events(self, call: Call) -> Answer:
        """Read on in the events; ``next`` is what ``after`` is next time."""
        after = call.text("after", "0")
        events = await self._fleet.events(after, call.limit())
        return _json(
            {
                "events": [api_json.event(each, raw=call.flag("raw")) for each in events],
                "next": events[-1].id if events else after,
            }
        )


@attrs.frozen
class Route:
    """Methods and a path, ``{name}`` for a part that varies."""

    methods: tuple[str, ...]
    path: str
    call: Callable[[Api, Call], Awaitable[Answer]]
    open: bool = False  # without the key

    def match(self, parts: list[str]) -> dict[str, str] | None:
        """Give the parts that vary by name, None if this is not the path."""
        template = self.path.split("/")[1:]
        if len(template) != len(parts):
            return None
        named = {}
        for wanted, part in zip(template, parts, strict=True):
            if wanted.startswith("{"):
                named[wanted[1:-1]] = part
            elif wanted != part:
                return None
        return named


ROUTES = (
    Route(("GET",), "/version", Api.version, open=True),
    Route(("GET",), "/healthz", Api.health, open=True),
    Route(("PUT", "POST"), "/v1/enqueue/{ids}", Api.enqueue),
    Route(("GET", "PUT", "POST"), "/v1/push/{ids}", Api.push),
    Route(("PUT",), "/v1/pushcert", Api.put_push_certificate),
    Route(("GET",), "/v1/pushcert", Api.push_certificate),
    Route(("GET",), "/v1/enrollments", Api.enrollments),
    Route(("GET",), "/v1/enrollments/{id}", Api.enrollment),
    Route(("GET",), "/v1/queue/{id}", Api.queue),
    Route(("DELETE",), "/v1/queue/{id}", Api.clear_queue),
    Route(("DELETE",), "/v1/queue/{id}/{uuid}", Api.cancel),
    Route(("GET",), "/v1/results/{id}", Api.results),
    Route(("GET",), "/v1/results/{id}/{uuid}", Api.result),
    Route(("GET",), "/v1/events", Api.events),
)


class _Leaf(Resource):
    isLeaf = True

    def __init__(self, api: Api, api_key: str, edge: Edge) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._api = api
        self._api_key = api_key.encode()
        self._edge = edge

    def render(self, request: LimitedRequest) -> int:
        facts: Facts = {
            "kind": "api",
            "peer": peer_of(request.client),
        }
        return self._edge.answer(request, self._answer(request, facts), facts)

    async def _answer(self, request: LimitedRequest, facts: Facts) -> Answer:
        body = request.content.read()
        facts["bytes_in"] = len(body)
        routes = _matching(request.path)
        if not any(route.open for route, _ in routes) and not self._has_key(request):
            raise Refusal(401, "unauthorized", (b"WWW-Authenticate", b'Basic realm="nanomdm"'))
        if not routes:
            raise NotHere("no such path")
        method = "GET" if request.method == b"HEAD" else request.method.decode("ascii")
        for route, named in routes:
            if method in route.methods:
                return await route.call(self._api, Call(method, named, request.args, body))
        raise method_not_allowed(
            tuple(each.encode() for route, _ in routes for each in route.methods)
        )

    def _has_key(self, request: LimitedRequest) -> bool:
        given = request.requestHeaders.getRawHeaders(b"Authorization", [])
        if len(given) != 1 or not self._api_key:
            return False
        scheme, _, credentials = given[0].partition(b" ")
        try:
            _, _, key = base64.b64decode(credentials.strip(), validate=True).partition(b":")
        except binascii.Error:
            return False
        return scheme.lower() == b"basic" and hmac.compare_digest(key, self._api_key)


def make_api(
    api_key: str,
    fleet: IFleet,
    enqueuer: Enqueues,
    certificates: IPushCertificates,
    ping: Ping,
    version: str,
    clock: Clock,
    limits: Limits | None = None,
    jitter: Callable[[], float] = random.random,
) -> LimitedSite:
    """
    Make the API's site.

    :param api_key: the password of everybody; an empty one lets nobody in.
    :param ping: raises StoreUnavailable when the store does not answer.
    :param clock: the reactor; its seconds are those since the epoch.
    """
    api = Api(fleet, enqueuer, certificates, ping, version, clock)
    leaf = _Leaf(api, api_key, Edge(clock, jitter, _error))
    return LimitedSite(leaf, clock, limits or Limits(body=16 << 20))


def _matching(path: bytes) -> list[tuple[Route, dict[str, str]]]:
    try:
        parts = [unquote_to_bytes(part).decode() for part in path.split(b"/")[1:]]
    except UnicodeDecodeError:
        return []
    matches = ((route, route.match(parts)) for route in ROUTES)
    return [(route, named) for route, named in matches if named is not None]


async def _ask(ping: Ping) -> bool:
    try:
        await ping()
    except StoreUnavailable:
        return False
    return True


def _reply(reply: Reply) -> Answer:
    """Spell a reply as NanoMDM does: 200 no error, 207 some failed, 500 all or the whole call."""
    failed = [each for each in reply.status.values() if each.push_error or each.command_error]
    status = 200
    if reply.push_error or reply.command_error or (failed and len(failed) == len(reply.status)):
        status = 500
    elif failed:
        status = 207
    told = {id_: _target(each) for id_, each in reply.status.items()}
    body: dict[str, object] = {
        "status": {id_: words for id_, words in told.items() if words},
        "no_push": reply.no_push,
        "push_error": reply.push_error,
        "command_error": reply.command_error,
        "command_uuid": reply.command_uuid,
        "request_type": reply.request_type,
    }
    return _json({name: value for name, value in body.items() if value}, status)


def _target(target: TargetReply) -> dict[str, str]:
    return {name: text for name, text in attrs.asdict(target).items() if text}


def _json(value: object, status: int = 200) -> Answer:
    return Answer(*_spell(value), status)


def _error(text: str) -> tuple[bytes, str]:
    return _spell({"error": text})


def _spell(value: object) -> tuple[bytes, str]:
    text = json.dumps(value, indent="\t", ensure_ascii=False) + "\n"
    return text.encode("utf-8", "replace"), "application/json; charset=utf-8"
