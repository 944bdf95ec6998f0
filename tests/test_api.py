"""The API speaks NanoMDM's language, so that its tools work unchanged."""

import base64
import json
import plistlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import (
    BadRequest,
    Conflict,
    NotEnrolled,
    NotHere,
    StoreCorrupt,
    StoreUnavailable,
    Unreachable,
)
from mdmd.flow.enqueue import Reply as EnqueueReply
from mdmd.flow.enqueue import TargetReply
from mdmd.flow.migrate import Migration
from mdmd.interfaces.audit import AuditEntry
from mdmd.interfaces.fleet import EnrollmentRecord, Event, Policy, QueuedCommand, Result
from mdmd.interfaces.identity import Identity
from mdmd.mdm.command import Command
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.web.api_routes import ROUTES, make_api
from mdmd.web.api_site import DELAY, FORGET, FREE_GUESSES, WAITING
from tests.certhelp import push_pair
from tests.wirehelp import Reply, Wire, request

KEY = "s3cret"
NOW = 1_790_000_000.0
YESTERDAY = datetime.fromtimestamp(NOW - 86400, UTC)
COMMAND = plistlib.dumps(
    {"CommandUUID": "C-1", "Command": {"RequestType": "DeviceInformation", "Queries": ["UDID"]}}
)
RECORD = EnrollmentRecord(
    enrollment=EnrollmentID("U-1"),
    enabled=True,
    tally=1,
    generation=1,
    topic="com.apple.mgmt.External.x",
    facts={"SerialNumber": "S"},
    enrolled_at=1_790_000_000_123,
    last_seen=None,
    awaiting_configuration=False,
    pin="ab",
    pending=2,
    has_token=True,
    has_unlock_token=False,
    has_bootstrap_token=False,
    next_push=None,
    last_push=None,
    last_push_result="",
)
QUEUED = QueuedCommand("C-1", "DeviceLock", 0, 7, "sent", 5, 1, 6, 0, None, None, None, None)
RESULT = Result("C-1", "DeviceLock", "Acknowledged", "", 9, 5, 1, b"<plist/>")


def event(n: int, topic: str = "mdm.Connect", enrollment: str = "U-1") -> Event:
    return Event(f"{n}-0", topic, enrollment, {"status": "Idle"}, b"<x/>")


class Turns(Clock):
    """A clock that counts how often somebody lets others have a turn."""

    turns = 0

    def callLater(self, when: float, what: Any, *args: Any, **keys: Any) -> Any:
        self.turns += when == 0
        return super().callLater(when, what, *args, **keys)


@attrs.define
class FakeEnqueuer:
    gives: Any = attrs.field(factory=lambda: EnqueueReply({}))
    asked: list[Any] = attrs.field(factory=list)
    waits: Deferred[None] | None = None

    async def enqueue(
        self,
        command: Command | None,
        ids: Sequence[str],
        policy: Policy | None = None,
        push: bool = True,
    ) -> EnqueueReply:
        self.asked.append((command and command.uuid, list(ids), push))
        if self.waits is not None:
            await self.waits
        return self._give()

    async def push(self, ids: Sequence[str]) -> EnqueueReply:
        self.asked.append(("push", list(ids)))
        return self._give()

    def _give(self) -> EnqueueReply:
        if isinstance(self.gives, Exception):
            raise self.gives
        assert isinstance(self.gives, EnqueueReply)
        return self.gives


class FakeFleet:
    """One enrollment, U-1, with one command, one result and two events."""

    def __init__(self) -> None:
        self.stream = [event(1), event(2)]

    async def enrollment(self, enrollment: EnrollmentID) -> EnrollmentRecord | None:
        return RECORD if enrollment == RECORD.enrollment else None

    async def enrollments(self, after: str = "", limit: int = 100) -> list[EnrollmentRecord]:
        user = attrs.evolve(RECORD, enrollment=EnrollmentID.parse("U-1:bob"))
        return [each for each in (RECORD, user) if str(each.enrollment) > after][:limit]

    async def queue(self, enrollment: EnrollmentID) -> list[QueuedCommand]:
        return [QUEUED]

    async def cancel(self, enrollment: EnrollmentID, uuid: str) -> QueuedCommand:
        if uuid != QUEUED.uuid:
            raise NotHere("not in the queue")
        return QUEUED

    async def clear(self, enrollment: EnrollmentID) -> int:
        return 1

    async def results(self, enrollment: EnrollmentID, limit: int = 20) -> list[Result]:
        return [RESULT]

    async def events(
        self, after: str = "0", limit: int = 100, messages: bool = True
    ) -> list[Event]:
        found = [each for each in self.stream if each.id > after][:limit]
        return found if messages else [attrs.evolve(each, raw=b"") for each in found]


class FakeCertificates:
    fails: Exception | None = None

    def __init__(self) -> None:
        self.kept: dict[str, tuple[int, int]] = {"com.apple.mgmt.old": (1, 1_800_000_000)}
        self.devices: dict[str, int] = {}

    async def put(self, topic: str, certificate: bytes, key: bytes, not_after: int) -> int:
        if self.fails:
            raise self.fails
        self.kept[topic] = (1, not_after)
        return 1

    async def versions(self) -> dict[str, tuple[int, int]]:
        if self.fails:
            raise self.fails
        return self.kept

    async def enrolled(self) -> dict[str, int]:
        return self.devices


class FakeEnrollments:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.fails: Exception | None = None

    async def authenticate(self, message: Any, identity: Identity) -> None:
        if self.fails:
            raise self.fails
        self.told.append(("Authenticate", str(message.enrollment), identity.fingerprint))

    async def token_update(self, message: Any, identity: Identity) -> int:
        self.told.append(("TokenUpdate", str(message.enrollment), identity.fingerprint))
        return 1

    async def set_bootstrap_token(self, message: Any, identity: Identity) -> None:
        self.told.append(("SetBootstrapToken", str(message.enrollment), identity.fingerprint))

    async def check_out(self, enrollment: Any, identity: Identity, raw: bytes) -> None:
        self.told.append(("CheckOut", str(enrollment), identity.fingerprint))


class FakeFeed:
    """Wakes when the test says so."""

    def __init__(self) -> None:
        self.waits: list[tuple[str, float, Deferred[bool]]] = []

    async def wait(self, after: str, seconds: float) -> bool:
        waiting: Deferred[bool] = Deferred()
        self.waits.append((after, seconds, waiting))
        return await waiting


class FakeAudit:
    """Keeps entries."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.fails = False

    async def write(self, entry: AuditEntry) -> str:
        if self.fails:
            raise StoreUnavailable("away")
        self.entries.append(entry)
        return f"{len(self.entries)}-0"

    async def end(self, begun: AuditEntry, ended: AuditEntry) -> None:
        if self.fails:
            raise StoreUnavailable("away")
        self.entries[int(begun.id.partition("-")[0]) - 1] = ended

    async def read(self, before: str = "+", limit: int = 100) -> list[AuditEntry]:
        return self.entries


class FakeRefusals:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, str, str, str]] = []

    def note(self, source: str, by: str, reason: str, name: str = "") -> None:
        self.noted.append((source, by, reason, name))


class APITests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Turns()
        self.clock.advance(NOW)
        self.enqueuer = FakeEnqueuer()
        self.fleet = FakeFleet()
        self.certificates = FakeCertificates()
        self.ping_gives: Any = None
        self.enrollments = FakeEnrollments()
        self.unlocked: list[dict[str, str]] = []
        self.unlock_gives: Exception | None = None
        self.unlock_type = "text/plain"
        self.feed = FakeFeed()
        self.audit = FakeAudit()
        self.refusals = FakeRefusals()
        self.site = self.make(KEY)

    def make(self, key: str) -> Any:
        return make_api(
            key,
            self.fleet,  # type: ignore[arg-type]
            self.enqueuer,
            self.certificates,  # type: ignore[arg-type]
            self._ping,
            "1.2.3",
            self.clock,
            self.clock.seconds,
            Migration(self.enrollments),  # type: ignore[arg-type]
            self._unlock,
            self.feed,
            self.audit,
            refusals=self.refusals,
        )

    async def _unlock(self, form: Mapping[str, str]) -> tuple[int, str, bytes]:
        self.unlocked.append(dict(form))
        if self.unlock_gives:
            raise self.unlock_gives
        if "serial" not in form:
            raise BadRequest("missing: serial")
        return 418, self.unlock_type, b"no"

    async def _ping(self) -> None:
        if isinstance(self.ping_gives, Exception):
            raise self.ping_gives
        if isinstance(self.ping_gives, Deferred):
            await self.ping_gives

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        auth: tuple[str, str] | None = ("nanomdm", KEY),
    ) -> tuple[int, Any]:
        """Ask with the key, return status and decoded JSON."""
        credentials = "" if auth is None else base64.b64encode(":".join(auth).encode()).decode()
        headers = {"Authorization": f"Basic {credentials}"} if auth is not None else {}
        wire = Wire(self.site)
        reply = wire.ask(method, path, body, **headers)
        wire.lose()
        self.assertEqual(reply.headers["content-type"], "application/json; charset=utf-8")
        return reply.status, json.loads(reply.body)


class KeyTests(APITests):
    def test_any_user_name(self) -> None:
        """The key is all that counts."""
        for user in ("nanomdm", "", "micromdm"):
            self.assertEqual(self.ask("GET", "/v1/queue/U-1", auth=(user, KEY))[0], 200)

    def test_wrong_key(self) -> None:
        """401 asks for it, here where no device comes; nothing was done."""
        for auth in (None, ("nanomdm", "wrong"), ("nanomdm", ""), (KEY, "")):
            status, body = self.ask("PUT", "/v1/enqueue/U-1", COMMAND, auth=auth)
            self.assertEqual((status, body), (401, {"error": "unauthorized"}))
        self.assertEqual(self.enqueuer.asked, [])
        reply = Wire(self.site).ask("GET", "/v1/queue/U-1")
        self.assertEqual(reply.headers["www-authenticate"], 'Basic realm="nanomdm"')

    def test_guessing_is_slow(self) -> None:
        """After some wrong keys each further one waits; ten waiting close the door for a moment."""
        wire = Wire(self.site)
        for _ in range(FREE_GUESSES):
            self.assertEqual(wire.ask("GET", "/v1/queue/U-1").status, 401)
        late = [Wire(self.site) for _ in range(WAITING)]
        for each in late:
            each.send(b"GET /v1/queue/U-1 HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(each.replies(), [])
        right = {"Authorization": "Basic " + base64.b64encode(f"n:{KEY}".encode()).decode()}
        closed = Wire(self.site).ask("GET", "/v1/queue/U-1", **right)
        self.assertEqual((closed.status, closed.headers["retry-after"]), (429, "1"))
        self.assertEqual(Wire(self.site).ask("GET", "/version").status, 200)
        self.clock.advance(DELAY)
        self.assertEqual([each.replies()[0].status for each in late], [401] * WAITING)
        self.assertEqual(Wire(self.site).ask("GET", "/v1/queue/U-1", **right).status, 200)

    def test_a_right_key_never_waits(self) -> None:
        """Somebody else's wrong keys from the same address cost nothing."""
        for _ in range(FREE_GUESSES):
            self.ask("GET", "/v1/queue/U-1", auth=("", "wrong"))
        waiting = Wire(self.site)
        waiting.send(b"GET /v1/queue/U-1 HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(self.ask("GET", "/v1/queue/U-1")[0], 200)
        self.clock.advance(DELAY)
        self.assertEqual(waiting.replies()[0].status, 401)
        self.clock.advance(FORGET + 1)
        self.assertEqual(self.ask("GET", "/v1/queue/U-1", auth=None)[0], 401)

    def test_bad_header(self) -> None:
        """What is no Basic header is no key."""
        right = base64.b64encode(f"nanomdm:{KEY}".encode()).decode()
        for value in ("", "Basic", "Basic %%%", f"Bearer {right}", f"Basic {right[:-4]}"):
            reply = Wire(self.site).ask("GET", "/v1/queue/U-1", Authorization=value)
            self.assertEqual(reply.status, 401, value)
        reply = Wire(self.site).ask("GET", "/v1/queue/U-1", Authorization=f"basic {right}")
        self.assertEqual(reply.status, 200)

    def test_empty_key(self) -> None:
        """A server without a key lets nobody in."""
        self.site = self.make("")
        self.assertEqual(self.ask("GET", "/v1/queue/U-1", auth=("nanomdm", ""))[0], 401)

    def test_open_paths(self) -> None:
        """Only version and health are open; a stranger can't even tell what else there is."""
        self.assertEqual(self.ask("GET", "/version", auth=None), (200, {"version": "1.2.3"}))
        self.assertEqual(self.ask("GET", "/healthz", auth=None)[0], 200)
        for path in ("/", "/v1", "/nothing", "/v1/events", "/version/"):
            self.assertEqual(self.ask("GET", path, auth=None)[0], 401, path)
        self.assertEqual([each.path for each in ROUTES if each.open], ["/version", "/healthz"])

    def test_unknown_path_and_method(self) -> None:
        """With the key: 404 and 405."""
        for path in ("/", "/nothing", "/v1/queue/a/b/c", "/v1/queue/%ff"):
            self.assertEqual(self.ask("GET", path)[0], 404, path)
        self.assertEqual(self.ask("DELETE", "/v1/pushcert"), (405, {"error": "method not allowed"}))


class HealthTests(APITests):
    def test_health(self) -> None:
        """It is the store's."""
        self.assertEqual(self.ask("GET", "/healthz"), (200, {"status": "ok"}))
        self.ping_gives = StoreUnavailable("redis://secret")
        self.assertEqual(self.ask("GET", "/healthz"), (503, {"status": "no store"}))

    def test_store_that_hangs(self) -> None:
        """The answer comes all the same."""
        self.ping_gives = Deferred()
        wire = Wire(self.site)
        wire.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(wire.replies(), [])
        self.clock.advance(5)
        self.assertEqual(wire.replies()[0].status, 503)


class EnqueueTests(APITests):
    def test_enqueue(self) -> None:
        """The reply is NanoMDM's."""
        self.enqueuer.gives = EnqueueReply(
            {"U-1": TargetReply(push_result="apns-1")},
            command_uuid="C-1",
            request_type="DeviceInformation",
        )
        for method in ("PUT", "POST"):
            self.assertEqual(
                self.ask(method, "/v1/enqueue/U-1", COMMAND),
                (
                    200,
                    {
                        "status": {"U-1": {"push_result": "apns-1"}},
                        "command_uuid": "C-1",
                        "request_type": "DeviceInformation",
                    },
                ),
            )
        self.assertEqual(self.enqueuer.asked, [("C-1", ["U-1"], True)] * 2)

    def test_looks_like_nanomdm(self) -> None:
        """Indented with tabs, for those who compare."""
        wire = Wire(self.site)
        wire.send(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(wire.replies()[0].body, b'{\n\t"version": "1.2.3"\n}\n')

    def test_ids(self) -> None:
        """Decoded, trimmed, each once; an escaped comma separates too, as in NanoMDM."""
        self.ask("PUT", "/v1/enqueue/U-1,%20U-2%20,U-1,,U-3:a%40b%2CU-4", COMMAND)
        self.assertEqual(self.enqueuer.asked[0][1], ["U-1", "U-2", "U-3:a@b", "U-4"])

    def test_no_push(self) -> None:
        """Without a push and without an error there is nothing to say of an id."""
        self.enqueuer.gives = EnqueueReply({"U-1": TargetReply()}, no_push=True, command_uuid="C-1")
        self.assertEqual(
            self.ask("PUT", "/v1/enqueue/U-1?nopush=1", COMMAND),
            (200, {"no_push": True, "command_uuid": "C-1"}),
        )
        self.ask("PUT", "/v1/enqueue/U-1?nopush=0", COMMAND)
        self.assertEqual([push for _, _, push in self.enqueuer.asked], [False, True])

    def test_nothing_to_do(self) -> None:
        """Neither a command nor a push: 500 and a command_error, as NanoMDM answers."""
        status, told = self.ask("PUT", "/v1/enqueue/U-1?nopush=1")
        self.assertEqual((status, sorted(told)), (500, ["command_error", "no_push"]))
        self.assertEqual(self.enqueuer.asked, [])

    def test_too_large(self) -> None:
        """What is refused before it is read is refused in JSON, as its path spells refusals."""
        large = b" HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"
        broken = b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnone\r\n"
        for asked, status, field in (
            (b"PUT /v1/enqueue/a" + large, 500, "command_error"),
            (b"PUT /v1/enqueue/a?nopush=1" + broken, 500, "command_error"),
            (b"POST /v1/push/a" + large, 500, "push_error"),
            (b"PUT /v1/pushcert" + large, 500, "error"),
            (b"PUT /migration" + large, 400, "error"),
            (b"DELETE /v1/queue/a" + large, 400, "error"),
            (b"GET /" + b"x" * (1 << 20) + b" HTTP/1.1\r\n\r\n", 400, "error"),
            (b"PUT /v1/enqueue/a HTTP/1.1\r\n\r\n", 400, "error"),  # without Host
            (b"what?\r\n\r\n", 400, "error"),
        ):
            wire = Wire(self.site)
            wire.send(asked)
            (reply,) = wire.replies()
            wire.lose()
            self.assertEqual(reply.status, status, asked[:40])
            self.assertEqual(reply.headers["content-type"], "application/json; charset=utf-8")
            self.assertEqual(list(json.loads(reply.body)), [field])

    def test_empty_body_pushes(self) -> None:
        """NanoMDM's way to push."""
        self.ask("PUT", "/v1/enqueue/U-1")
        self.assertEqual(self.enqueuer.asked, [(None, ["U-1"], True)])

    def test_status(self) -> None:
        """200 no error, 207 some ids failed, 500 all failed or the whole call."""
        good, bad = TargetReply(push_result="x"), TargetReply(push_error="y")
        worse = TargetReply(command_error="z")
        for status, reply in (
            (200, EnqueueReply({"a": good, "b": good})),
            (200, EnqueueReply({"a": TargetReply()})),
            (207, EnqueueReply({"a": good, "b": bad})),
            (207, EnqueueReply({"a": TargetReply(), "b": worse})),
            (500, EnqueueReply({"a": worse, "b": bad})),
            (500, EnqueueReply({"a": bad})),
            (500, EnqueueReply({"a": good}, push_error="no connection")),
            (500, EnqueueReply({}, command_error="no store")),
        ):
            self.enqueuer.gives = reply
            self.assertEqual(self.ask("PUT", "/v1/push/a,b")[0], status, reply)

    def test_no_command(self) -> None:
        """What is no command is refused before anything is queued, in NanoMDM's way."""
        for body in (b"garbage", plistlib.dumps({"x": 1}), COMMAND[:-30]):
            status, told = self.ask("PUT", "/v1/enqueue/U-1", body)
            self.assertEqual((status, list(told)), (500, ["command_error"]))
        self.assertEqual(self.enqueuer.asked, [])

    def test_push(self) -> None:
        """Any of three methods."""
        for method in ("GET", "PUT", "POST"):
            self.ask(method, "/v1/push/U-1,U-2")
        self.assertEqual(self.enqueuer.asked, [("push", ["U-1", "U-2"])] * 3)


ABOUT = {"command_uuid": "C-1", "request_type": "DeviceInformation"}


class FailureTests(APITests):
    """Each way in which NanoMDM's calls can fail, with its status and its fields."""

    def failed(self, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, Any], bool]:
        """Say what came: status, fields, and whether it is to be tried again later."""
        key = {"Authorization": "Basic " + base64.b64encode(f"n:{KEY}".encode()).decode()}
        wire = Wire(self.site)
        reply = wire.ask(method, path, body, **key)
        wire.lose()
        return reply.status, json.loads(reply.body), "retry-after" in reply.headers

    def test_enqueue(self) -> None:
        """500 with command_error, whoever's fault it is, and what is known of the command."""
        away, both = StoreUnavailable("inside"), Conflict("known with another body")
        ok, no = EnqueueReply({"a": TargetReply()}), TargetReply(command_error="no such enrollment")
        for path, body, gives, told, later in (
            # no ids
            ("", COMMAND, ok, {"command_error": "name at least one enrollment id"}, False),
            ("%20,,", COMMAND, ok, {"command_error": "name at least one enrollment id"}, False),
            # the command can't be decoded
            ("a", b"junk", ok, {"command_error": "not a property list"}, False),
            (
                *("a?nopush=1", b"junk", ok),
                *({"command_error": "not a property list", "no_push": True}, False),
            ),
            # neither command nor push
            (
                *("a?nopush=1", b"", ok),
                {
                    "command_error": "nothing to do: neither a command nor a push",
                    "no_push": True,
                },
                False,
            ),
            # the storage fails
            ("a", COMMAND, away, {"command_error": "try again later", **ABOUT}, True),
            (
                *("a?nopush=1", COMMAND, away),
                *({"command_error": "try again later", "no_push": True, **ABOUT}, True),
            ),
            ("a", COMMAND, StoreCorrupt("x"), {"command_error": "internal error", **ABOUT}, False),
            ("a", COMMAND, both, {"command_error": str(both), **ABOUT}, False),
            ("a", COMMAND, BadRequest("odd"), {"command_error": "odd", **ABOUT}, False),
            ("a", b"", away, {"command_error": "try again later"}, True),
            # the command is queued, and the storage fails when it comes to the push
            (
                *("a", COMMAND, EnqueueReply({}, push_error="store", **ABOUT)),
                *({"push_error": "store", **ABOUT}, False),
            ),
            # all ids fail
            (
                *("a", COMMAND, EnqueueReply({"a": no}, **ABOUT)),
                *({"status": {"a": {"command_error": "no such enrollment"}}, **ABOUT}, False),
            ),
        ):
            self.enqueuer.gives = gives
            got = self.failed("PUT", f"/v1/enqueue/{path}", body)
            self.assertEqual(got, (500, told, later), path)
        self.assertEqual(len(self.flushLoggedErrors(StoreCorrupt)), 1)

    def test_push(self) -> None:
        """500 with push_error."""
        none, some = TargetReply(push_error="no token"), TargetReply(push_result="x")
        for path, gives, told, later in (
            ("", EnqueueReply({}), {"push_error": "name at least one enrollment id"}, False),
            ("a", StoreUnavailable("x"), {"push_error": "try again later"}, True),
            ("a", StoreCorrupt("x"), {"push_error": "internal error"}, False),
            ("a", EnqueueReply({"a": none}), {"status": {"a": {"push_error": "no token"}}}, False),
            (
                *("a,b", EnqueueReply({"a": some}, push_error="store")),
                *({"status": {"a": {"push_result": "x"}}, "push_error": "store"}, False),
            ),
        ):
            self.enqueuer.gives = gives
            self.assertEqual(self.failed("GET", f"/v1/push/{path}"), (500, told, later), path)
        self.assertEqual(len(self.flushLoggedErrors(StoreCorrupt)), 1)

    def test_others(self) -> None:
        """400 for what the caller got wrong, 500 for what the storage or Apple did."""
        _, pem = push_pair("com.apple.mgmt.External.new", YESTERDAY)
        checkin = plistlib.dumps({"MessageType": "Authenticate", "UDID": "U", "Topic": "t"})
        get, put = ("GET", "/v1/pushcert?topic=com.apple.mgmt.old"), ("PUT", "/v1/pushcert")
        escrow, migration = ("POST", "/v1/escrowkeyunlock"), ("PUT", "/migration")
        away, later = StoreUnavailable("x"), "try again later"
        for call, body, gives, status, text in (
            (get, b"", away, 500, later),
            (get, b"", StoreCorrupt("x"), 500, "internal error"),
            (("GET", "/v1/pushcert"), b"", None, 400, "topic is missing"),
            (put, pem, away, 500, later),
            (put, b"junk", None, 400, None),
            (escrow, b"serial=A", away, 500, later),
            (escrow, b"serial=A", NotHere("no push certificate"), 500, "no push certificate"),
            (escrow, b"serial=A", Unreachable("Apple did not"), 500, "Apple did not"),
            (escrow, b"", None, 400, "missing: serial"),
            (migration, checkin, away, 500, later),
            (migration, checkin, NotEnrolled("no Authenticate yet"), 500, "no Authenticate yet"),
            (migration, b"junk", None, 400, None),
        ):
            self.certificates.fails = self.unlock_gives = self.enrollments.fails = gives
            got, told, retry = self.failed(*call, body)
            self.assertEqual((got, list(told), retry), (status, ["error"], gives is away), call)
            if text is not None:
                self.assertEqual(told["error"], text)
        self.assertEqual(len(self.flushLoggedErrors(StoreCorrupt)), 1)

    def test_what_was_done_is_told_though_the_audit_is_away(self) -> None:
        """Else the caller would do it again; the log has the line."""
        self.audit.fails = True
        seen: list[Any] = []
        globalLogPublisher.addObserver(seen.append)
        self.addCleanup(globalLogPublisher.removeObserver, seen.append)
        self.enqueuer.gives = EnqueueReply({"U-1": TargetReply()}, **ABOUT)
        self.assertEqual(self.failed("PUT", "/v1/enqueue/U-1", COMMAND), (200, ABOUT, False))
        (line,) = [each for each in seen if each["log_level"] is LogLevel.critical]
        self.assertEqual(
            (line["what"], line["enrollments"], line["outcome"], line["facts"]),
            ("api.enqueue", ("U-1",), "ok", ABOUT),
        )
        self.enqueuer.gives = StoreUnavailable("x")
        status, told, later = self.failed("PUT", "/v1/enqueue/U-1", COMMAND)
        self.assertEqual((status, told["command_error"], later), (500, "try again later", True))

    def test_calls_of_our_own(self) -> None:
        """NanoMDM has none of these: 503, for what was done too."""
        self.audit.fails = True
        for method, path in (("DELETE", "/v1/queue/U-1"), ("GET", "/v1/results/U-1")):
            self.assertEqual(
                self.failed(method, path), (503, {"error": "try again later"}, True), path
            )


class PushCertificateTests(APITests):
    def test_put_and_get(self) -> None:
        """The topic comes from the certificate, and both calls answer alike."""
        topic, pem = push_pair("com.apple.mgmt.External.new", YESTERDAY, days=100)
        status, body = self.ask("PUT", "/v1/pushcert", pem)
        self.assertEqual((status, body["topic"]), (200, topic))
        self.assertEqual(self.ask("GET", f"/v1/pushcert?topic={topic}"), (200, body))

    def test_time(self) -> None:
        """As Go writes it."""
        self.assertEqual(
            self.ask("GET", "/v1/pushcert?topic=com.apple.mgmt.old"),
            (200, {"topic": "com.apple.mgmt.old", "not_after": "2027-01-15T08:00:00Z"}),
        )

    def test_errors(self) -> None:
        """All are 400 with a reason."""
        for method, path, body in (
            ("PUT", "/v1/pushcert", b"nothing"),
            ("PUT", "/v1/pushcert", b""),
            ("GET", "/v1/pushcert", b""),
            ("GET", "/v1/pushcert?topic=unknown", b""),
        ):
            status, answer = self.ask(method, path, body)
            self.assertEqual((status, list(answer)), (400, ["error"]))
            if method == "PUT":
                self.assertEqual(answer["error"], "no PEM certificate found")

    def test_other_topic(self) -> None:
        """A certificate that reaches no enrolled device is refused, unless forced."""
        topic, pem = push_pair("com.apple.mgmt.External.new", YESTERDAY)
        self.certificates.devices = {"com.apple.mgmt.old": 3}
        self.assertEqual(self.ask("PUT", "/v1/pushcert", pem)[0], 400)
        self.assertNotIn(topic, self.certificates.kept)
        self.assertEqual(self.ask("PUT", "/v1/pushcert?force=1", pem)[0], 200)
        self.assertIn(topic, self.certificates.kept)


class FleetTests(APITests):
    def test_enrollments(self) -> None:
        """Page by page, with all but the secrets."""
        status, body = self.ask("GET", "/v1/enrollments?limit=1")
        self.assertEqual((status, body["next"]), (200, "U-1"))
        (one,) = body["enrollments"]
        self.assertEqual((one["id"], one["type"]), ("U-1", "Device"))
        self.assertEqual(one["enrolled_at"], "2026-09-21T14:13:20.123Z")
        self.assertIsNone(one["last_seen"])
        _, body = self.ask("GET", "/v1/enrollments?after=U-1")
        self.assertNotIn("next", body)
        (user,) = body["enrollments"]
        self.assertEqual((user["id"], user["parent_id"]), ("U-1:bob", "U-1"))

    def test_enrollment(self) -> None:
        """One, or 404."""
        self.assertEqual(self.ask("GET", "/v1/enrollments/U-1")[1]["certificate_sha256"], "ab")
        self.assertEqual(
            self.ask("GET", "/v1/enrollments/U-2"), (404, {"error": "no such enrollment"})
        )
        self.assertEqual(self.ask("GET", "/v1/enrollments/%00")[0], 400)

    def test_queue(self) -> None:
        """See it, take one out, take all out."""
        _, body = self.ask("GET", "/v1/queue/U-1")
        self.assertEqual([each["command_uuid"] for each in body["commands"]], ["C-1"])
        status, body = self.ask("DELETE", "/v1/queue/U-1/C-1")
        self.assertEqual((status, body["sent"]), (200, True))
        self.assertEqual(self.ask("DELETE", "/v1/queue/U-1/C-2")[0], 404)
        self.assertEqual(self.ask("DELETE", "/v1/queue/U-1"), (200, {"cleared": 1}))

    def test_results(self) -> None:
        """All, or that of one command."""
        _, body = self.ask("GET", "/v1/results/U-1")
        self.assertEqual(base64.b64decode(body["results"][0]["raw_payload"]), b"<plist/>")
        self.assertEqual(self.ask("GET", "/v1/results/U-1/C-1")[1], body["results"][0])
        self.assertEqual(self.ask("GET", "/v1/results/U-1/C-2")[0], 404)

    def test_events(self) -> None:
        """Read on from where one was; messages only if asked for."""
        _, body = self.ask("GET", "/v1/events?limit=1")
        self.assertEqual(
            ([each["event_id"] for each in body["events"]], body["next"]), (["1-0"], "1-0")
        )
        self.assertNotIn("raw_payload", body["events"][0])
        _, body = self.ask("GET", "/v1/events?after=2-0")
        self.assertEqual(body, {"events": [], "next": "2-0"})
        _, body = self.ask("GET", "/v1/events?raw=1")
        self.assertEqual(base64.b64decode(body["events"][0]["raw_payload"]), b"<x/>")

    def test_bad_limit(self) -> None:
        """A number, or 400."""
        for limit in ("0", "1001", "-1", "x", "1e9", "9" * 5000, "%C2%B2", "%ff"):
            self.assertEqual(self.ask("GET", f"/v1/events?limit={limit}")[0], 400, limit)

    def test_bad_id(self) -> None:
        """An id that can't be one is the asker's fault."""
        self.assertEqual(self.ask("GET", "/v1/queue/%0a")[0], 400)


class ManyIdsTests(APITests):
    def test_ten_thousand_in_one_path(self) -> None:
        """One call may name ten thousand enrollments."""
        ids = [f"{n:08X}-0000-4000-8000-000000000000" for n in range(10_000)]
        self.enqueuer.gives = EnqueueReply(
            {each: TargetReply() for each in ids}, command_uuid="C-1"
        )
        self.assertEqual(self.over_the_wire(f"/v1/enqueue/{','.join(ids)}", COMMAND), 200)
        self.assertEqual(len(self.enqueuer.asked[0][1]), 10_000)

    def test_a_million_commas(self) -> None:
        """They name nobody; a path beyond all measure is refused."""
        self.assertEqual(self.over_the_wire(f"/v1/push/{',' * 1_000_000}", b""), 500)
        self.assertEqual(self.enqueuer.asked, [])
        self.assertEqual(self.over_the_wire(f"/v1/push/{',' * 2_000_000}", b""), 400)

    def over_the_wire(self, path: str, body: bytes) -> int:
        """The status of a PUT through our own HTTP channel, whose limits count."""
        return self.asked(path, body).status

    def asked(self, path: str, body: bytes) -> Reply:
        """The answer to a PUT, however many turns of the reactor it takes."""
        right = {"Authorization": "Basic " + base64.b64encode(f"n:{KEY}".encode()).decode()}
        wire = Wire(self.site)
        wire.send(request("PUT", path, body, **right))
        turns = self.clock.turns
        self.clock.advance(0)
        self.turns = self.clock.turns - turns
        (reply,) = wire.replies("PUT")
        wire.lose()
        return reply

    def test_others_have_their_turn(self) -> None:
        """Reading ten thousand ids, and telling of them, is work in pieces; none is lost."""
        ids = [f"{n:08X}-0000-4000-8000-000000000000" for n in range(10_000)]
        told = {each: TargetReply(push_result=each) for each in ids}
        self.enqueuer.gives = EnqueueReply(told, command_uuid="C-1")
        for comma in (",", "%2C", ", ".replace(" ", "%20"), ",,"):
            reply = self.asked(f"/v1/enqueue/{comma.join(ids)}", COMMAND)
            self.assertGreater(self.turns, 15)
            self.assertEqual(self.enqueuer.asked[-1][1], ids)
            found = json.loads(reply.body)["status"]
            self.assertEqual(list(found), ids)
            self.assertEqual(found[ids[7]], {"push_result": ids[7]})

    def test_spelled_as_before(self) -> None:
        """An answer with something of everything, byte for byte as json's own encoder has it."""
        odd = 'a"\\\u2603\x07'
        status = {odd: TargetReply("x", odd), "b": TargetReply(), "c": TargetReply("", "", "z")}
        self.enqueuer.gives = EnqueueReply(status, True, "p", odd, "U", "T")
        expected = {
            "status": {odd: {"push_result": "x", "push_error": odd}, "c": {"command_error": "z"}},
            "no_push": True,
            "push_error": "p",
            "command_error": odd,
            "command_uuid": "U",
            "request_type": "T",
        }
        text = json.dumps(expected, indent="\t", ensure_ascii=False) + "\n"
        self.assertEqual(self.asked("/v1/push/a", b"").body, text.encode())
        self.enqueuer.gives = EnqueueReply({"b": TargetReply()})
        self.assertEqual(self.asked("/v1/push/b", b"").body, b"{}\n")

    def test_odd_ids(self) -> None:
        """Slashes, percent signs, blanks and other letters arrive as they were meant."""
        self.ask("PUT", "/v1/push/a%2Fb,100%25,x%20y,%E2%98%83,%2e%2e")
        self.assertEqual(
            self.enqueuer.asked, [("push", ["a/b", "100%", "x y", "\N{SNOWMAN}", ".."])]
        )

    def test_a_bad_one_fails_no_other(self) -> None:
        """What is no UTF-8, and a slash that was not escaped, are each in an id of their own."""
        self.ask("PUT", "/v1/push/U-1,%ff%E2%98,a/b/,U-2")
        self.assertEqual(self.enqueuer.asked, [("push", ["U-1", "%FF%E2%98", "a/b/", "U-2"])])


class StrictTests(APITests):
    def test_strict(self) -> None:
        """?strict=1 holds a command against Apple's catalogue; without it all pass."""
        wrong = plistlib.dumps(
            {"CommandUUID": "C", "Command": {"RequestType": "DeviceInformation", "Queriez": []}}
        )
        unknown = plistlib.dumps({"CommandUUID": "C", "Command": {"RequestType": "Nonsense"}})
        for body in (wrong, unknown):
            status, answer = self.ask("PUT", "/v1/enqueue/U-1?strict=1", body)
            self.assertEqual((status, list(answer)), (400, ["error"]))
            self.assertEqual(self.enqueuer.asked, [])
        self.assertEqual(self.ask("PUT", "/v1/enqueue/U-1?strict=1", COMMAND)[0], 200)
        for body in (wrong, unknown):
            self.assertEqual(self.ask("PUT", "/v1/enqueue/U-1", body)[0], 200)


class MigrationTests(APITests):
    def migrate(self, method: str = "PUT", **keys: Any) -> int:
        body = plistlib.dumps({"UDID": "U-1", "Topic": "com.apple.mgmt.x", **keys})
        right = {"Authorization": "Basic " + base64.b64encode(f"n:{KEY}".encode()).decode()}
        reply = Wire(self.site).ask(method, "/migration", body, **right)
        if reply.status == 200:
            self.assertEqual(reply.body, b"")
        return reply.status

    def test_what_nano2nano_sends(self) -> None:
        """Authenticate, the device's TokenUpdate, then its users'; nobody shows a certificate."""
        token = {"Token": b"t" * 32, "PushMagic": "m"}
        self.assertEqual(self.migrate(MessageType="Authenticate"), 200)
        self.assertEqual(self.migrate(MessageType="TokenUpdate", **token), 200)
        self.assertEqual(self.migrate(MessageType="TokenUpdate", UserID="V", **token), 200)
        self.assertEqual(
            self.migrate("POST", MessageType="SetBootstrapToken", BootstrapToken=b"b"), 200
        )
        self.assertEqual(
            self.enrollments.told,
            [
                ("Authenticate", "U-1", ""),
                ("TokenUpdate", "U-1", ""),
                ("TokenUpdate", "U-1:V", ""),
                ("SetBootstrapToken", "U-1", ""),
            ],
        )

    def test_nothing_else(self) -> None:
        """What makes no enrollment is refused, and so is whoever has no key."""
        for kind in ("GetBootstrapToken", "DeclarativeManagement", "Nonsense"):
            self.assertEqual(self.migrate(MessageType=kind, Endpoint="tokens"), 400)
        self.assertEqual(self.ask("PUT", "/migration", b"garbage")[0], 400)
        self.assertEqual(self.ask("PUT", "/migration", b"x", auth=None)[0], 401)
        self.assertEqual(self.enrollments.told, [])


class EscrowTests(APITests):
    def unlock(self, body: bytes) -> tuple[int, bytes]:
        right = {"Authorization": "Basic " + base64.b64encode(f"n:{KEY}".encode()).decode()}
        reply = Wire(self.site).ask("POST", "/v1/escrowkeyunlock", body, **right)
        return reply.status, reply.body

    def test_passed_through(self) -> None:
        """Apple's status and body come back as they are."""
        self.assertEqual(self.unlock(b"serial=A+1&topic=t&serial=B"), (418, b"no"))
        self.assertEqual(self.unlocked, [{"serial": "A 1", "topic": "t"}])

    def test_a_strange_content_type(self) -> None:
        """It does not leave the caller without an answer."""
        self.unlock_type = "text/plain; name=\u00e9"
        self.assertEqual(self.unlock(b"serial=A"), (418, b"no"))

    def test_no_form(self) -> None:
        """A missing field, or a body that is none: 400."""
        for body in (b"", b"topic=t", b"\xff\xfe=1", b"&".join(b"a%d=1" % n for n in range(200))):
            self.assertEqual(self.unlock(body)[0], 400)


class WaitingTests(APITests):
    def begin(self, path: str) -> Wire:
        """Send a request whose answer may take its time."""
        wire = Wire(self.site)
        right = base64.b64encode(f"n:{KEY}".encode())
        head = b"GET %b HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %b\r\n\r\n"
        wire.send(head % (path.encode(), right))
        return wire

    def told(self, wire: Wire) -> tuple[list[str], str]:
        """The ids of the events in the answer, and where to go on."""
        (reply,) = wire.replies()
        body = json.loads(reply.body)
        return [each["event_id"] for each in body["events"]], body["next"]

    def test_there_already(self) -> None:
        """What is there is answered at once."""
        self.assertEqual(self.told(self.begin("/v1/events?after=1-0&wait=30")), (["2-0"], "2-0"))

    def test_wakes(self) -> None:
        """Who waits is answered when something comes."""
        wire = self.begin("/v1/events?after=2-0&wait=30")
        self.assertEqual(wire.replies(), [])
        ((after, seconds, waiting),) = self.feed.waits
        self.assertEqual((after, seconds), ("2-0", 30))
        self.fleet.stream.append(event(3))
        waiting.callback(True)
        self.assertEqual(self.told(wire), (["3-0"], "3-0"))

    def test_nothing_came(self) -> None:
        """After the time asked for the answer is empty."""
        wire = self.begin("/v1/events?after=2-0&wait=60")
        ((_, seconds, waiting),) = self.feed.waits
        self.assertEqual(seconds, 60)
        waiting.callback(False)
        self.assertEqual(self.told(wire), ([], "2-0"))

    def test_filters(self) -> None:
        """By topic and enrollment; what does not fit is passed over while waiting too."""
        self.fleet.stream += [event(3, "mdm.CheckOut"), event(4, "mdm.Connect", "U-2")]
        wire = self.begin("/v1/events?topic=mdm.CheckOut,mdm.TokenUpdate")
        self.assertEqual(self.told(wire), (["3-0"], "4-0"))
        wire = self.begin("/v1/events?topic=mdm.Check*")
        self.assertEqual(self.told(wire), (["3-0"], "4-0"))
        self.assertEqual(self.told(self.begin("/v1/events?enrollment=U-2")), (["4-0"], "4-0"))
        wire = self.begin("/v1/events?topic=mdm.CheckOut&after=3-0&wait=5")
        self.fleet.stream.append(event(5))
        self.feed.waits[-1][2].callback(True)
        self.assertEqual(wire.replies(), [])
        self.assertEqual(self.feed.waits[-1][0], "5-0")
        self.fleet.stream.append(event(6, "mdm.CheckOut"))
        self.feed.waits[-1][2].callback(True)
        self.assertEqual(self.told(wire), (["6-0"], "6-0"))

    def test_bad_words(self) -> None:
        """An id or a time that is none: 400."""
        for query in (
            "after=yesterday",
            "after=-",
            "after=1-",
            "wait=x",
            "wait=-1",
            "wait=1e9",
            "wait=61",
        ):
            self.assertEqual(self.ask("GET", f"/v1/events?{query}")[0], 400, query)


class AuditTests(APITests):
    """What an integrator does leaves a line, as what an operator does."""

    def test_acts_are_audited(self) -> None:
        """On which enrollments, which command, how it ended; reads leave none."""
        self.ask("GET", "/v1/queue/U-1")
        self.assertEqual(self.audit.entries, [])
        self.enqueuer.gives = EnqueueReply({"U-1": TargetReply()}, command_uuid="C-1")
        self.ask("PUT", "/v1/enqueue/U-1,U-2", COMMAND)
        entry = self.audit.entries[-1]
        self.assertEqual((entry.what, entry.enrollments), ("api.enqueue", ("U-1", "U-2")))
        self.assertTrue(entry.source.startswith("api "))
        self.assertEqual((entry.facts["command_uuid"], entry.outcome), ("C-1", "ok"))

    def test_an_act_is_noted_before_it_is_done(self) -> None:
        """Whatever becomes of the daemon meanwhile, its begin is there; a read's is not."""
        self.enqueuer.waits = Deferred()
        self.enqueuer.gives = EnqueueReply({"U-1": TargetReply()}, command_uuid="C-1")
        right = {"Authorization": "Basic " + base64.b64encode(f"n:{KEY}".encode()).decode()}
        wire = Wire(self.site)
        wire.send(request("PUT", "/v1/enqueue/U-1", COMMAND, **right))
        entry = self.audit.entries[-1]
        self.assertEqual(
            (entry.what, entry.enrollments, entry.outcome), ("api.enqueue", ("U-1",), "begun")
        )
        self.enqueuer.waits.callback(None)
        (entry,) = self.audit.entries
        self.assertEqual((entry.facts["command_uuid"], entry.outcome), ("C-1", "ok"))

    def test_what_a_command_is_about(self) -> None:
        """Which profile was removed, and no payload."""
        self.enqueuer.gives = EnqueueReply({"U-1": TargetReply()}, command_uuid="C-1")
        command = {"RequestType": "RemoveProfile", "Identifier": "org.example.wifi"}
        self.ask(
            *("PUT", "/v1/enqueue/U-1"),
            plistlib.dumps({"CommandUUID": "C-1", "Command": command}),
        )
        self.assertEqual(self.audit.entries[-1].facts["Identifier"], "org.example.wifi")

    def test_what_was_refused_is_not_ok(self) -> None:
        """Nor what was refused for some; a queued command whose push failed is queued."""
        no, unpushed = TargetReply(command_error="no"), TargetReply(push_error="no")
        for status, uuid, outcome, refused in (
            ({"U-1": no}, "C-1", "refused", "1 of 1: U-1"),
            ({"U-1": TargetReply(), "U-2": no}, "C-1", "partly", "1 of 2: U-2"),
            ({"U-1": unpushed}, "C-1", "ok", None),
            ({"U-1": unpushed}, "", "refused", "1 of 1: U-1"),
        ):
            self.enqueuer.gives = EnqueueReply(status, command_uuid=uuid)
            self.ask("PUT", "/v1/enqueue/U-1,U-2", COMMAND)
            entry = self.audit.entries[-1]
            self.assertEqual((entry.outcome, entry.facts.get("refused")), (outcome, refused), uuid)

    def test_reads_of_messages_are_audited(self) -> None:
        """Reports and check-ins as they came may have secrets in them; one entry a request."""
        self.ask("GET", "/v1/results/U-1")
        self.ask("GET", "/v1/results/U-1/C-1")
        self.fleet.stream.append(attrs.evolve(event(3), raw=b"", enrollment="U-2"))
        self.ask("GET", "/v1/events?raw=1&wait=1")
        self.assertEqual(
            [(each.who, each.what, each.enrollments, each.facts) for each in self.audit.entries],
            [
                ("API key nanomdm", "api.results", ("U-1",), {"results": "1"}),
                (
                    *("API key nanomdm", "api.result", ("U-1",)),
                    {"uuid": "C-1", "request_type": "DeviceLock"},
                ),
                (
                    *("API key nanomdm", "api.events", ("U-1",)),
                    {"messages": "2", "first": "1-0", "last": "2-0"},
                ),
            ],
        )

    def test_pages_without_messages_leave_no_entry(self) -> None:
        """Neither plain events, nor a wait that brings nothing, nor what is not there."""
        self.ask("GET", "/v1/events")
        self.ask("GET", "/v1/events?raw=1&after=9")
        self.assertEqual(self.ask("GET", "/v1/results/U-1/C-2")[0], 404)
        self.assertEqual(self.audit.entries, [])

    def test_a_page_of_many_is_a_small_entry(self) -> None:
        """A few are named, the others counted; the ids of the events say which."""
        self.fleet.stream = [event(n, enrollment=f"U-{n}") for n in range(1, 9)] * 10
        self.fleet.stream += [event(9, enrollment=f"V-{n}") for n in range(40)]
        self.ask("GET", "/v1/events?raw=1&limit=1000")
        (entry,) = self.audit.entries
        self.assertEqual((len(entry.enrollments), entry.facts["enrollments"]), (20, "48"))

    def test_no_secret_without_a_trace(self) -> None:
        """If the audit can't be written, the messages don't go out."""
        self.audit.fails = True
        status, body = self.ask("GET", "/v1/events?raw=1")
        self.assertEqual((status, body), (503, {"error": "try again later"}))

    def test_wrong_keys_are_noted(self) -> None:
        """Who they say they are and from where; never what was shown, wherever it stood."""
        self.ask("GET", "/v1/queue/U-1", auth=("anna\n", "gue55"))
        self.ask("GET", "/v1/queue/U-1", auth=(KEY, ""))
        self.ask("GET", "/v1/queue/U-1", auth=None)
        self.assertEqual(len(self.refusals.noted), 2)
        source, by, reason, name = self.refusals.noted[0]
        self.assertTrue(source.startswith("api "))
        self.assertEqual((by, reason, name), ("API key", "unauthorized", "anna?"))
        self.assertNotIn("gue55", repr(self.refusals.noted))
        self.assertNotIn(KEY, repr(self.refusals.noted))

    def test_acts_that_fail_by_a_bug_are_audited(self) -> None:
        """Nobody knows what became of them, but who began them."""
        self.enqueuer.gives = ZeroDivisionError("a bug")
        self.assertEqual(self.ask("PUT", "/v1/enqueue/U-1", COMMAND)[0], 500)
        entry = self.audit.entries[-1]
        self.assertEqual((entry.what, entry.outcome), ("api.enqueue", "InternalError"))
        self.assertEqual(entry.enrollments, ("U-1",))
        self.audit.fails = True
        self.assertEqual(self.ask("PUT", "/v1/enqueue/U-1", COMMAND)[0], 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_refused_acts_are_audited(self) -> None:
        """With the name of the error."""
        self.ask("PUT", "/v1/enqueue/U-1", b"<plist>junk")
        self.assertEqual(self.audit.entries[-1].outcome, "BadMessage")
