"""The stories, told against small stand-ins for store and waker."""

import datetime
import json
import plistlib
from collections.abc import Sequence

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import BadMessage, BadRequest, Conflict, Gone, NotHere
from mdmd.flow.checkin import CheckIns
from mdmd.flow.connect import Connect
from mdmd.flow.enqueue import AT_ONCE, WAIT_FOR, Enqueuer, Fault
from mdmd.flow.pushcert import install
from mdmd.interfaces.fleet import Enqueued, Policy
from mdmd.interfaces.identity import Identity
from mdmd.interfaces.push import STORE_AWAY, Decision, NoPush, PushOutcome
from mdmd.interfaces.queue import Turn
from mdmd.mdm.command import Command, build_command
from mdmd.mdm.enrollment import EnrollmentID

ME = Identity("ab" * 32)
UDID = "0A1B2C3D-0000-5AC1-BDB2-000000000001"


def message(**keys: object) -> bytes:
    """One plist as a device sends it."""
    return plistlib.dumps({"UDID": UDID, **keys})


class FakeEnrollments:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.bootstrap: bytes | None = None

    async def authenticate(self, message, identity):
        self.told.append(("authenticate", str(message.enrollment), identity))

    async def token_update(self, message, identity):
        self.told.append(("token_update", message.token, message.push_magic))
        return 1

    async def check_out(self, enrollment, identity, raw):
        self.told.append(("check_out", str(enrollment)))

    async def set_bootstrap_token(self, message, identity):
        self.bootstrap = message.bootstrap_token or None

    async def get_bootstrap_token(self, enrollment, identity, raw):
        return self.bootstrap

    async def other_checkin(self, enrollment, identity, topic, raw):
        self.told.append((topic, str(enrollment)))


class FakeWaker:
    """Delivers everything, except to those it knows are asleep for good."""

    def __init__(self) -> None:
        self.nudges = 0
        self.pushed: list[EnrollmentID] = []

    def nudge(self) -> None:
        self.nudges += 1

    async def push(self, targets: Sequence[EnrollmentID]) -> list[PushOutcome | NoPush]:
        self.pushed += targets
        return [
            NoPush(each, "disabled")
            if each.device == "OFF"
            else PushOutcome(Decision.DROP_TOKEN, 410, "Unregistered")
            if each.device == "LOST"
            else STORE_AWAY
            if each.device.startswith("AWAY")
            else PushOutcome(Decision.DELIVERED, 200, "", f"apns-{each.device}")
            for each in targets
        ]


class Stories(SynchronousTestCase):
    """Helps to run a coroutine that never has to wait."""

    def told(self, coroutine):
        """Its result, or its exception."""
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def refused(self, coroutine, kind):
        """The exception it ends with."""
        return self.failureResultOf(Deferred.fromCoroutine(coroutine), kind).value


class CheckInTests(Stories):
    """Every kind of check-in ends where the contract says."""

    def setUp(self) -> None:
        self.enrollments = FakeEnrollments()
        self.waker = FakeWaker()
        self.story = CheckIns(self.enrollments, self.waker)

    def answer(self, **keys: object) -> bytes:
        return self.told(self.story.answer(ME, message(**keys)))

    def test_enrollment(self) -> None:
        """Authenticate, then TokenUpdate, which makes the waker look at once."""
        self.assertEqual(self.answer(MessageType="Authenticate", Topic="com.apple.mgmt.t"), b"")
        self.assertEqual(
            self.answer(
                MessageType="TokenUpdate", Topic="com.apple.mgmt.t", Token=b"tok", PushMagic="m"
            ),
            b"",
        )
        self.assertEqual(
            self.enrollments.told,
            [("authenticate", UDID, ME), ("token_update", b"tok", "m")],
        )
        self.assertEqual(self.waker.nudges, 1)

    def test_check_out(self) -> None:
        """The device leaves with an empty answer."""
        self.assertEqual(self.answer(MessageType="CheckOut"), b"")
        self.assertEqual(self.enrollments.told, [("check_out", UDID)])

    def test_bootstrap_token(self) -> None:
        """None gives an empty 200; one that was set comes back whole."""
        self.assertEqual(self.answer(MessageType="GetBootstrapToken"), b"")
        self.answer(MessageType="SetBootstrapToken", BootstrapToken=b"secret")
        back = plistlib.loads(self.answer(MessageType="GetBootstrapToken"))
        self.assertEqual(back, {"BootstrapToken": b"secret"})

    def test_user_authenticate_is_declined(self) -> None:
        """By default 410, and the event tells of it."""
        body = message(MessageType="UserAuthenticate", UserID="U")
        self.refused(self.story.answer(ME, body), Gone)
        self.assertEqual(self.enrollments.told, [("mdm.UserAuthenticate", f"{UDID}:U")])

    def test_user_authenticate_is_accepted(self) -> None:
        """By option an empty challenge, then an empty answer."""
        self.story = CheckIns(self.enrollments, self.waker, accept_users=True)
        first = self.answer(MessageType="UserAuthenticate", UserID="U")
        self.assertEqual(plistlib.loads(first), {"DigestChallenge": ""})
        self.assertEqual(
            self.answer(MessageType="UserAuthenticate", UserID="U", DigestResponse="x"), b""
        )

    def test_get_token(self) -> None:
        """A source answers for its service; any other service is a clean error."""

        async def maid(asked):
            return b"jwt for " + asked.service_type.encode()

        self.story = CheckIns(self.enrollments, self.waker, token_sources={"com.apple.maid": maid})
        answer = self.answer(MessageType="GetToken", TokenServiceType="com.apple.maid")
        self.assertEqual(plistlib.loads(answer), {"TokenData": b"jwt for com.apple.maid"})
        body = message(MessageType="GetToken", TokenServiceType="com.example.other")
        self.refused(self.story.answer(ME, body), BadMessage)

    def test_declarations(self) -> None:
        """The empty set, truthfully; a declaration that isn't there is a 404's cause."""
        tokens = json.loads(self.answer(MessageType="DeclarativeManagement", Endpoint="tokens"))
        items = json.loads(
            self.answer(MessageType="DeclarativeManagement", Endpoint="declaration-items")
        )
        self.assertEqual(tokens["SyncTokens"]["DeclarationsToken"], items["DeclarationsToken"])
        self.assertEqual(set(map(len, items["Declarations"].values())), {0})
        self.assertEqual(
            self.answer(MessageType="DeclarativeManagement", Endpoint="status", Data=b"{}"), b""
        )
        for endpoint, data, error in [
            ("declaration/configuration/a.b", None, NotHere),
            ("status", b"[", BadMessage),
            ("status", b"[" * 100_000, BadMessage),
            ("elsewhere", None, BadMessage),
        ]:
            keys = {} if data is None else {"Data": data}
            body = message(MessageType="DeclarativeManagement", Endpoint=endpoint, **keys)
            self.refused(self.story.answer(ME, body), error)

    def test_garbage_changes_nothing(self) -> None:
        """What can't be read is told to nobody."""
        for body in (b"", b"garbage", message(), message(MessageType="Nonsense")):
            self.refused(self.story.answer(ME, body), BadMessage)
        self.assertEqual(self.enrollments.told, [])


class ConnectTests(Stories):
    """Report in, next command out."""

    def test_next_command_or_nothing(self) -> None:
        """The command's plist goes out as it was stored; nothing is an empty body."""
        command: Command | None = Command("C1", "DeviceInformation", b"<plist/>")

        class Queue:
            async def report_and_next(self, report, identity):
                return Turn("the.topic", command)

        story = Connect(Queue())
        body = message(Status="Idle")
        noted: dict[str, object] = {}
        self.assertEqual(self.told(story.answer(ME, body, noted)), b"<plist/>")
        self.assertEqual((noted["topic"], noted["given"]), ("the.topic", "DeviceInformation"))
        command = None
        self.assertEqual(self.told(story.answer(ME, body)), b"")


class FakeFleet:
    """Queues on everything but a few names; ``parts`` are the calls' sizes."""

    def __init__(self) -> None:
        self.parts: list[int] = []

    async def enqueue(self, command, targets, policy):
        self.parts.append(len(targets))
        return [
            {
                "NOBODY": Enqueued.UNKNOWN,
                "OFF": Enqueued.DISABLED,
                "TWICE": Enqueued.DUPLICATE,
                "LATER": Enqueued.LATER,
            }.get(each.device, Enqueued.QUEUED)
            for each in targets
        ]


class EnqueueTests(Stories):
    """Many targets, each with its own answer."""

    def setUp(self) -> None:
        self.waker = FakeWaker()
        self.fleet = FakeFleet()
        self.story = Enqueuer(self.fleet, self.waker)
        self.command = build_command("DeviceInformation", {}, uuid="U1")

    def test_each_target_for_itself(self) -> None:
        """Bad ids fail alone; only those that took the command are pushed to."""
        reply = self.told(
            self.story.enqueue(
                self.command, [" A ", "A", "", "NOBODY", "OFF", "TWICE", "{x}", "LOST"]
            )
        )
        self.assertEqual(list(reply.status), ["A", "NOBODY", "OFF", "TWICE", "{x}", "LOST"])
        self.assertEqual(reply.status["A"].push_result, "apns-A")
        self.assertIn("no such enrollment", reply.status["NOBODY"].command_error)
        self.assertIn("disabled", reply.status["OFF"].push_error)
        self.assertEqual(reply.status["OFF"].command_error, "")
        self.assertIn("already", reply.status["TWICE"].command_error)
        self.assertIn("not an enrollment id", reply.status["{x}"].command_error)
        self.assertEqual(reply.status["LOST"].push_error, "push HTTP status: 410: Unregistered")
        self.assertEqual([each.device for each in self.waker.pushed], ["A", "LOST"])
        self.assertEqual((reply.command_uuid, reply.request_type), ("U1", "DeviceInformation"))

    def test_nobody_is_woken_before_the_time(self) -> None:
        """A command for later is queued, and the push is made when its time comes."""
        reply = self.told(self.story.enqueue(self.command, ["LATER", "A"]))
        self.assertEqual([each.device for each in self.waker.pushed], ["A"])
        self.assertFalse(reply.status["LATER"].told)

    def test_the_store_goes_before_the_push(self) -> None:
        """That is an error of the push as a whole; of some only, it is theirs."""
        for asked in (
            self.story.enqueue(self.command, ["AWAY1", "AWAY2"]),
            self.story.push(["AWAY1", "AWAY2"]),
        ):
            reply = self.told(asked)
            self.assertEqual(reply.push_error, STORE_AWAY.reason)
            self.assertEqual(reply.status["AWAY2"].push_error, STORE_AWAY.reason)
        reply = self.told(self.story.push(["AWAY1", "A"]))
        self.assertEqual((reply.push_error, reply.status["A"].push_result), ("", "apns-A"))

    def test_no_push(self) -> None:
        """Queued, and left for whoever connects by itself; to be disabled is no error then."""
        off = self.told(self.story.enqueue(self.command, ["OFF", "NOBODY"], push=False))
        self.assertFalse(off.status["OFF"].told)
        self.assertIn("no such enrollment", off.status["NOBODY"].command_error)
        reply = self.told(self.story.enqueue(self.command, ["A"], push=False))
        self.assertTrue(reply.no_push)
        self.assertEqual(self.waker.pushed, [])

    def test_push_only(self) -> None:
        """No command means a push; a target that can't be pushed to says why."""
        reply = self.told(self.story.enqueue(None, ["A", "OFF", "{x}"]))
        self.assertEqual(reply.status["A"].push_result, "apns-A")
        self.assertEqual(reply.status["OFF"].push_error, "not pushed: disabled")
        self.assertIn("not an enrollment id", reply.status["{x}"].push_error)

    def test_nothing_to_do(self) -> None:
        """Neither command nor push, or nobody to do it to, is the caller's mistake."""
        self.refused(self.story.enqueue(None, ["A"], push=False), BadRequest)
        self.refused(self.story.enqueue(self.command, [" ", ""]), BadRequest)
        self.refused(self.story.push([]), BadRequest)

    def test_nobody_waits_for_a_large_fleet(self) -> None:
        """Above the limit the waker is nudged and the call returns."""
        ids = [f"D{number}" for number in range(WAIT_FOR + 1)]
        reply = self.told(self.story.enqueue(self.command, ids, Policy()))
        self.assertEqual(len(reply.status), WAIT_FOR + 1)
        self.assertEqual(self.waker.pushed, [])
        self.assertEqual(self.waker.nudges, 1)

    def test_many_ids_are_taken_in_parts(self) -> None:
        """Ten thousand ids hold nobody up, and each is answered in its place, bad ones too."""
        ids = [f"D{number}" for number in range(10 * AT_ONCE)]
        ids[AT_ONCE : AT_ONCE + 1] = ["{x}", "NOBODY", "D0"]
        reply = self.told(self.story.enqueue(self.command, ids, push=False))
        self.assertLessEqual(max(self.fleet.parts), AT_ONCE)
        self.assertEqual(sum(self.fleet.parts), 10 * AT_ONCE)
        self.assertEqual(list(reply.status), list(dict.fromkeys(ids)))
        failed = {id_: each.command_error for id_, each in reply.status.items() if each.told}
        self.assertEqual(failed, {"{x}": Fault.BAD_ID, "NOBODY": Fault.UNKNOWN})


@attrs.define
class FakeCertificates:
    """Push certificates of a fleet whose topics are given."""

    topics: dict[str, int] = attrs.field(factory=dict)
    kept: list[str] = attrs.field(factory=list)

    async def put(self, topic, certificate, key, not_after):
        self.kept.append(topic)
        return 1

    async def enrolled(self):
        return self.topics


class PushCertificateTests(Stories):
    """No certificate that would make the fleet deaf gets in unasked."""

    def test_topic_must_reach_the_enrolled(self) -> None:
        """Refused with the count of devices, taken by force."""
        from tests.certhelp import push_pair

        now = datetime.datetime.now(datetime.UTC)
        topic, pem = push_pair("com.apple.mgmt.External.new")
        deaf = FakeCertificates({"com.apple.mgmt.External.old": 7})
        error = self.refused(install(deaf, pem, now), Conflict)
        self.assertIn("7 enrolled devices", str(error))
        self.assertEqual(deaf.kept, [])
        self.told(install(deaf, pem, now, force=True))
        fresh = FakeCertificates()
        self.assertEqual(self.told(install(fresh, pem, now))[0], topic)
        both = FakeCertificates({"com.apple.mgmt.External.old": 7, topic: 1})
        self.told(install(both, pem, now))
        self.assertEqual((deaf.kept, fresh.kept, both.kept), ([topic], [topic], [topic]))
