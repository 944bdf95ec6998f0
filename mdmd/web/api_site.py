"""The API's site: who has the key, and what a wrong one costs."""

import base64
import binascii
import hmac
from collections import OrderedDict
from collections.abc import Callable, Mapping

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from mdmd.errors import MdmdError, NotHere, StoreUnavailable
from mdmd.interfaces.audit import BEGUN, AuditEntry, IAudit, IRefusals
from mdmd.web.api_call import Call, Route, matching, read_ids, read_path, told
from mdmd.web.breath import breathe
from mdmd.web.channel import peer_of
from mdmd.web.request import LimitedRequest
from mdmd.web.respond import Answer, Clock, Edge, Facts, Refusal, method_not_allowed

log = Logger()

FREE_GUESSES = 5  # wrong keys of one address that are answered at once
FORGET = 60.0  # seconds without a wrong one, until they count from anew
DELAY = 1.0  # seconds until a further wrong key is answered
WAITING = 10  # so many answers may be late at a time; then nobody's key is looked at there
_PEERS = 10_000
_AUDITED = 1000  # enrollments named in one entry
_LONGEST = 255  # characters of one of them
_LONGEST_NAME = 64  # characters of a user name


@attrs.define
class _Peer:
    wrong: int = 0
    waiting: int = 0
    last: float = float("-inf")


class Guesses:
    """
    Makes guessing slow, by the address it comes from.

    A right key is taken at once, even from where wrong ones come: many callers may
    share an address. Only while ten wrong ones are waiting for their answer nobody's
    key is looked at there: ten guesses a second, whoever tries.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._peers: OrderedDict[str, _Peer] = OrderedDict()

    async def check(self, address: str, right: Callable[[], bool]) -> None:
        """
        See that the key is right.

        :raises Refusal: 401, at its time; 429 when there are too many guesses.
        """
        peer = self._peers.get(address)
        if peer is not None and peer.waiting >= WAITING:
            raise Refusal(429, "too many wrong keys", (b"Retry-After", b"1"))
        if right():
            return
        peer = self._wrong(address)
        if peer.wrong > FREE_GUESSES:
            await self._wait(peer)
        raise Refusal(401, "unauthorized", (b"WWW-Authenticate", b'Basic realm="nanomdm"'))

    def _wrong(self, address: str) -> _Peer:
        peer = self._peers.setdefault(address, _Peer())
        self._peers.move_to_end(address)
        while len(self._peers) > _PEERS:
            self._peers.popitem(last=False)
        now = self._clock.seconds()
        if now - peer.last > FORGET:
            peer.wrong = 0
        peer.wrong, peer.last = peer.wrong + 1, now
        if peer.wrong == FREE_GUESSES + 1:
            log.warn("wrong API keys come from {peer}", peer=address)
        return peer

    async def _wait(self, peer: _Peer) -> None:
        waiting: Deferred[None] = Deferred()
        self._clock.callLater(DELAY, waiting.callback, None)
        peer.waiting += 1
        await waiting
        peer.waiting -= 1


class ApiLeaf:
    """
    The whole site: finds the route, sees to the key, answers.

    :param api: what the routes' calls are methods of.
    :param key: the password of everybody; an empty one lets nobody in.
    """

    def __init__(
        self,
        routes: tuple[Route, ...],
        api: object,
        key: str,
        clock: Clock,
        edge: Edge,
        audit: IAudit | None = None,
        refusals: IRefusals | None = None,
    ) -> None:
        self._routes = routes
        self._api = api
        self._key = key.encode()
        self._clock = clock
        self._guesses = Guesses(clock)
        self._edge = edge
        self._audit = audit
        self._refusals = refusals
        # Tells the requests of one run from those of the next, and from those of devices.
        self._name = f"api-{int(edge.wall()):x}"
        self._number = 0

    def render(self, request: LimitedRequest) -> None:
        self._number += 1
        facts: Facts = {
            "request": f"{self._name}-{self._number:x}",
            "kind": "api",
            "peer": peer_of(request.client),
        }
        self._edge.answer(request, self._answer(request, facts), facts)

    async def _answer(self, request: LimitedRequest, facts: Facts) -> Answer:
        body = request.body
        facts["bytes_in"] = len(body)
        routes = matching(self._routes, request.path)
        if not any(route.open for route, _ in routes):
            await self._let_in(request)
        if not routes:
            raise NotHere("no such path")
        method = "GET" if request.method == b"HEAD" else request.method.decode("ascii")
        for route, named in routes:
            if method in route.methods:
                call = Call(method, read_path(named), request.args, body, await self._ids(named))
                answer = await self._called(route, call, request, facts)
                facts.update(answer.told)
                return answer
        raise method_not_allowed(
            tuple(each.encode() for route, _ in routes for each in route.methods)
        )

    async def _ids(self, named: Mapping[str, bytes]) -> list[str]:
        """Read the ids of a path; devices have their turn in between."""
        found: dict[str, None] = {}
        for number, some in enumerate(read_ids(named)):
            if number:
                await breathe(self._clock)
            found.update(dict.fromkeys(some))
        return list(found)

    async def _let_in(self, request: LimitedRequest) -> None:
        """
        See that the request has the key.

        :raises Refusal: it has not.
        """
        peer = peer_of(request.client)
        name, key = _credentials(request)
        try:
            await self._guesses.check(peer, lambda: self._is_key(key))
        except Refusal as refusal:
            # Who shows nothing at all has not tried to come in.
            shown = request.requestHeaders.getRawHeaders(b"Authorization", [])
            if self._refusals is not None and shown:
                self._refusals.note(f"api {peer}", "API key", str(refusal), name)
            raise

    def _is_key(self, shown: bytes | None) -> bool:
        return bool(self._key) and shown is not None and hmac.compare_digest(shown, self._key)

    async def _called(
        self, route: Route, call: Call, request: LimitedRequest, facts: Facts
    ) -> Answer:
        begun: AuditEntry | None = None
        try:
            begun = await self._begin(route, call, request)
            answer = await route.call(self._api, call)
        except (MdmdError, CancelledError) as error:
            outcome = type(error).__name__
            if route.fails is None:
                if route.act:
                    await self._write(route, call, request, outcome, {}, begun)
                raise
            status, body, content_type = route.fails.spell(error, call.besides)
            headers = self._edge.refuse(error, facts).headers  # Retry-After stays
            about = told(call.besides)
            answer = Answer(body, content_type, status, headers, about, outcome)
        except Exception as bug:  # what came of the act nobody knows
            try:
                if route.act:
                    await self._write(route, call, request, "InternalError", {}, begun)
            finally:
                raise bug  # also when the audit is away
        if route.act:
            await self._note_act(route, call, request, answer, begun)
        elif call.noted.is_secret:
            # Before the answer goes out: no secret is read without a trace.
            await self._write(route, call, request, "ok", call.noted.facts)
        return answer

    async def _begin(self, route: Route, call: Call, request: LimitedRequest) -> AuditEntry | None:
        """Note an act before it is done: the daemon may be killed before it ends."""
        if not route.act or self._audit is None:
            return None
        entry = _entry(route, call, request, BEGUN, {})
        try:
            return attrs.evolve(entry, id=await self._audit.write(entry))
        except StoreUnavailable:
            return None  # the act says so too, or the end of it

    async def _note_act(
        self,
        route: Route,
        call: Call,
        request: LimitedRequest,
        answer: Answer,
        begun: AuditEntry | None,
    ) -> None:
        try:
            await self._write(route, call, request, answer.outcome, answer.told, begun)
        except StoreUnavailable:
            if route.fails is None:
                raise
            # NanoMDM's callers get told what became of their call, which is done or is not: an
            # error in its place would have them do it again. The log has the line instead.
            entry = _entry(route, call, request, answer.outcome, answer.told)
            log.critical(
                "the store is away, and the audit lacks: {who} from {source}: {what} {facts} on "
                "{enrollments}: {outcome}",
                **attrs.asdict(entry, filter=attrs.filters.exclude("id")),
            )

    async def _write(
        self,
        route: Route,
        call: Call,
        request: LimitedRequest,
        outcome: str,
        about: Mapping[str, str],
        begun: AuditEntry | None = None,
    ) -> None:
        if self._audit is None:
            return
        entry = _entry(route, call, request, outcome, about)
        if begun is None:
            await self._audit.write(entry)
        else:
            await self._audit.end(begun, entry)


def _entry(
    route: Route, call: Call, request: LimitedRequest, outcome: str, about: Mapping[str, str]
) -> AuditEntry:
    name, _ = _credentials(request)
    ids = _named(call)
    facts = {**call.noted.facts, **about}
    if "uuid" in call.path:
        facts["uuid"] = call.path["uuid"][:_LONGEST]
    if len(ids) > _AUDITED:
        facts["enrollments"] = str(len(ids))
    return AuditEntry(
        f"API key {name}".strip(),
        f"api {peer_of(request.client)}",
        route.act or route.reads,
        tuple(each[:_LONGEST] for each in ids[:_AUDITED]),
        facts,
        outcome,
    )


def _credentials(request: LimitedRequest) -> tuple[str, bytes | None]:
    """Read user name and key; the name is anybody's to choose, so it is made safe to show."""
    given = request.requestHeaders.getRawHeaders(b"Authorization", [])
    if len(given) != 1:
        return "", None
    scheme, _, credentials = given[0].partition(b" ")
    try:
        user, colon, key = base64.b64decode(credentials.strip(), validate=True).partition(b":")
    except binascii.Error:
        return "", None
    if scheme.lower() != b"basic" or not colon:
        return "", None
    # `curl -u KEY:` puts the key where the name belongs: then nobody is named.
    name = user[: 4 * _LONGEST_NAME].decode("utf-8", "replace") if key else ""
    return "".join(each if each.isprintable() else "?" for each in name[:_LONGEST_NAME]), key


def _named(call: Call) -> list[str]:
    """Say which enrollments a call names, or else whose messages it reads."""
    named = call.ids or [call.path[key] for key in ("id",) if key in call.path]
    return named or list(call.noted.enrollments)
