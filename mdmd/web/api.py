"""
The HTTP API for integrators: NanoMDM's, so that its tools work unchanged, and ours beside it.

Source: NanoMDM's docs/openapi.yaml and http/api, for what it has.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from mdmd.errors import (
    BadCertificate,
    BadRequest,
    Conflict,
    NotHere,
    StoreUnavailable,
)
from mdmd.flow.enqueue import Reply
from mdmd.flow.migrate import Migration
from mdmd.flow.pushcert import install
from mdmd.flow.send import How, Sent
from mdmd.interfaces.audit import on_refused
from mdmd.interfaces.fleet import Event, IFleet, Policy
from mdmd.interfaces.push import IPushCertificates
from mdmd.interfaces.webhooks import IFeed
from mdmd.mdm import plist
from mdmd.mdm.catalogue.check import check_form
from mdmd.mdm.catalogue.detail import detail_of
from mdmd.mdm.command import Command, decode_command
from mdmd.web import api_json
from mdmd.web.api_call import LARGEST_PAGE, Call, json_answer
from mdmd.web.api_reply import spell_reply
from mdmd.web.respond import Answer, Clock, Wall

Ping = Callable[[], Awaitable[object]]
Measures = Callable[[], Awaitable[bytes]]
Unlock = Callable[[Mapping[str, str]], Awaitable[tuple[int, str, bytes]]]

_PING_SECONDS = 3.0
_ALL_RESULTS = 10_000  # more than the store keeps of one enrollment
_LONGEST_WAIT = 60.0  # seconds
_PAGES = 10  # looked through for a filter before the answer says how far it came
_NOTHING = "nothing to do: neither a command nor a push"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"


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


class Sends(Protocol):
    """Sender of :mod:`mdmd.flow.send`."""

    async def send(self, command: Command, typed: Sequence[str], how: How) -> Sent:
        """Check a command for each target by itself, and queue it."""


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
        wall: Wall,
        migration: Migration,
        unlock: Unlock,
        feed: IFeed,
        metrics: Measures,
        sender: Sends | None = None,
    ) -> None:
        self._sender = sender
        self._fleet = fleet
        self._enqueuer = enqueuer
        self._certificates = certificates
        self._ping = ping
        self._version = version
        self._clock = clock
        self._wall = wall
        self._migration = migration
        self._unlock = unlock
        self._feed = feed
        self._metrics = metrics

    async def metrics(self, call: Call) -> Answer:
        """Say everything that is counted, as Prometheus reads it."""
        return Answer(await self._metrics(), _METRICS)

    async def version(self, call: Call) -> Answer:
        """Say which version this is."""
        return json_answer({"version": self._version})

    async def health(self, call: Call) -> Answer:
        """Say whether the store answers."""
        # A store that is away may answer late, and a health check must not hang.
        asked = Deferred.fromCoroutine(_ask(self._ping))
        asked.addTimeout(
            _PING_SECONDS, cast(IReactorTime, self._clock), onTimeoutCancel=lambda _, __: False
        )
        well = await asked
        return json_answer({"status": "ok"}) if well else json_answer({"status": "no store"}, 503)

    async def enqueue(self, call: Call) -> Answer:
        """Queue the plist in the body, and push unless told not to."""
        push = not call.flag("nopush")
        if not push:
            call.besides["no_push"] = True
        _check_ids(call)
        command = decode_command(call.body) if call.body.strip() else None
        if command is None and not push:
            raise BadRequest(_NOTHING)
        if command is not None:
            call.besides.update(command_uuid=command.uuid, request_type=command.request_type)
            call.noted.facts.update(detail_of(command))
            if call.flag("strict"):
                return await self._strictly(command, call.ids, push)
        return await self._told(self._enqueuer.enqueue(command, call.ids, push=push))

    async def _told(self, reply: Awaitable[Reply]) -> Answer:
        replied = await reply
        answer = await spell_reply(replied, self._clock)
        # Queued is queued, whatever became of the push.
        refused = [
            id
            for id, each in replied.status.items()
            if each.command_error or (each.push_error and not replied.command_uuid)
        ]
        outcome, told = on_refused(refused, len(replied.status))
        return attrs.evolve(answer, outcome=outcome, told={**answer.told, **told})

    async def _strictly(self, command: Command, ids: list[str], push: bool) -> Answer:
        """Queue what the catalogue has nothing against, for each id by itself."""
        try:
            if self._sender is None:
                _check(command)
                return await self._told(self._enqueuer.enqueue(command, ids, push=push))
            return await self._told(self._sent(self._sender, command, ids, push))
        except BadRequest as error:  # nothing of NanoMDM's, so this is said in our way
            answer = json_answer({"error": "; ".join(str(error).splitlines())}, 400)
            return attrs.evolve(answer, outcome=type(error).__name__)

    async def _sent(self, sender: Sends, command: Command, ids: list[str], push: bool) -> Reply:
        return (await sender.send(command, ids, How(push=push))).reply

    async def push(self, call: Call) -> Answer:
        """Push only."""
        _check_ids(call)
        return await self._told(self._enqueuer.push(call.ids))

    async def put_push_certificate(self, call: Call) -> Answer:
        """Install a push certificate and its key."""
        now = datetime.fromtimestamp(self._wall(), UTC)
        try:
            topic, not_after = await install(
                self._certificates, call.body, now, force=call.flag("force")
            )
        except (BadCertificate, Conflict) as error:
            raise BadRequest(str(error)) from error
        return json_answer({"not_after": api_json.seconds(not_after), "topic": topic})

    async def push_certificate(self, call: Call) -> Answer:
        """Say until when a topic's push certificate is good."""
        topic = call.text("topic")
        if not topic:
            raise BadRequest("topic is missing")
        versions = await self._certificates.versions()
        if topic not in versions:
            raise BadRequest("no push certificate of this topic")
        _, not_after = versions[topic]
        return json_answer({"not_after": api_json.seconds(not_after), "topic": topic})

    async def enrollments(self, call: Call) -> Answer:
        """Page through the enrollments; ``next`` is what ``after`` is next, absent at the end."""
        limit = call.limit()
        records = await self._fleet.enrollments(call.text("after"), limit)
        page: dict[str, object] = {"enrollments": [api_json.enrollment(each) for each in records]}
        if len(records) == limit:
            page["next"] = str(records[-1].enrollment)
        return json_answer(page)

    async def enrollment(self, call: Call) -> Answer:
        """Tell all of one enrollment but its secrets."""
        record = await self._fleet.enrollment(call.enrollment())
        if record is None:
            raise NotHere("no such enrollment")
        return json_answer(api_json.enrollment(record))

    async def queue(self, call: Call) -> Answer:
        """List what is pending or parked, in delivery order."""
        commands = await self._fleet.queue(call.enrollment())
        return json_answer({"commands": [api_json.queued(each) for each in commands]})

    async def clear_queue(self, call: Call) -> Answer:
        """Take everything out of a queue."""
        return json_answer({"cleared": await self._fleet.clear(call.enrollment())})

    async def cancel(self, call: Call) -> Answer:
        """Take one command out; ``sent`` warns that the device may act on it all the same."""
        command = await self._fleet.cancel(call.enrollment(), call.path["uuid"])
        return json_answer({**api_json.queued(command), "sent": command.attempts > 0})

    async def results(self, call: Call) -> Answer:
        """List the newest results."""
        results = await self._fleet.results(call.enrollment(), call.limit())
        if any(each.raw for each in results):
            call.note_secret([str(call.enrollment())], results=str(len(results)))
        return json_answer({"results": [api_json.result(each) for each in results]})

    async def result(self, call: Call) -> Answer:
        """Tell the newest result of one command."""
        results = await self._fleet.results(call.enrollment(), _ALL_RESULTS)
        for each in results:
            if each.uuid == call.path["uuid"]:
                call.note_secret([str(call.enrollment())], request_type=each.request_type)
                return json_answer(api_json.result(each))
        raise NotHere("no result of this command")

    async def events(self, call: Call) -> Answer:
        """
        Read on in the events; ``next`` is what ``after`` is next time.

        With ``wait`` the answer comes as soon as there is an event, or empty after
        so many seconds.
        """
        after, limit, wait = (
            call.event_id("after"),
            call.limit(),
            call.seconds("wait", _LONGEST_WAIT),
        )
        until = self._clock.seconds() + wait
        while True:
            events, reached = await self._wanted(call, after, limit)
            left = until - self._clock.seconds()
            if events or left <= 0 or not await self._feed.wait(reached, left):
                break
            after = reached
        raw = call.flag("raw")
        if raw:
            _note_messages(call, events)
        told = [api_json.event(each, raw=raw) for each in events]
        return json_answer({"events": told, "next": reached})

    async def _wanted(self, call: Call, after: str, limit: int) -> tuple[list[Event], str]:
        """Read events that fit the filters; the id that was read up to comes too."""
        topics = [each for each in call.text("topic").split(",") if each]
        enrollment = call.text("enrollment")
        if not topics and not enrollment:
            events = await self._fleet.events(after, limit, call.flag("raw"))
            return events, events[-1].id if events else after
        for _ in range(_PAGES):
            page = await self._fleet.events(after, LARGEST_PAGE, call.flag("raw"))
            found = [
                each
                for each in page
                if (not topics or _wants(topics, each.topic))
                and (not enrollment or each.enrollment == enrollment)
            ][:limit]
            if len(found) == limit:
                return found, found[-1].id
            after = page[-1].id if page else after
            if found or len(page) < LARGEST_PAGE:
                return found, after
        return [], after

    async def migrate(self, call: Call) -> Answer:
        """Take a check-in as another server had it; the reply is empty, as NanoMDM's."""
        await self._migration.take(call.body)
        return Answer()

    async def escrow_key_unlock(self, call: Call) -> Answer:
        """Have Apple unlock an Activation Lock; the answer is Apple's."""
        status, content_type, body = await self._unlock(call.form())
        return Answer(body, content_type, status)


def _check_ids(call: Call) -> None:
    if not call.ids:
        raise BadRequest("name at least one enrollment id")


def _wants(topics: Sequence[str], topic: str) -> bool:
    """Say whether a topic is among those asked for; ``mdm.*`` is all that begin so."""
    return any(
        topic == each or (each.endswith("*") and topic.startswith(each[:-1])) for each in topics
    )


def _note_messages(call: Call, events: list[Event]) -> None:
    """Note which events' messages go out; some have none, such as Idle."""
    told = [each for each in events if each.raw]
    if told:
        page = {"messages": str(len(told)), "first": told[0].id, "last": told[-1].id}
        call.note_secret((each.enrollment for each in told), **page)


def _check(command: Command) -> None:
    """
    Hold a command against the catalogue.

    :raises BadRequest: it is not as Apple documents it.
    """
    keys = cast(Mapping[str, object], plist.loads(command.raw)["Command"])
    verdict = check_form(command.request_type, keys)
    if verdict.faults:
        raise BadRequest("; ".join(verdict.faults))


async def _ask(ping: Ping) -> bool:
    try:
        await ping()
    except StoreUnavailable:
        return False
    return True
