"""Perspective Broker: who is let in, what each may call, what crosses the wire."""

import os
import plistlib
import shutil
import socket
from pathlib import Path

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.spread import banana, pb
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mdmd import errors
from mdmd.cli.client import NoDaemon, Remote
from mdmd.cli.roads import connect
from mdmd.errors import BadRequest, MdmdError, NotAllowed, NotHere, TooLarge
from mdmd.ops import broker
from mdmd.ops.blobs import Blobs, Budget
from mdmd.ops.method import Caller, Subject, Wire, method
from mdmd.ops.operators import Role
from mdmd.ops.pb import make_pb
from mdmd.ops.perspective import Perspective
from mdmd.ops.wire import ERRORS, PIECE
from mdmd.web.apps import Shelf
from tests.opshelp import MAC, PHONE, make_desk, scratch, write_operators

ME = os.getuid()
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmdRLLlgL3rIkZh2tBM3SmS6GEbwpSGdbgb5yUSKmd9 me@mac"
# Plain reads of what only admins see, and acts on nobody but oneself.
NOT_AUDITED = {"apps.append", "audit.page", "operators.show"}
AUDITED_ANYWAY = {"operators.my_password"}


class Served(TestCase):
    """A desk behind a real unix socket."""

    role = "admin"

    async def setUp(self) -> None:
        self.folder = scratch()
        self.addCleanup(shutil.rmtree, self.folder)
        write_operators(self.folder / "operators.json", me={"role": self.role, "uid": ME})
        self.desk = make_desk(self.folder / "operators.json")
        self.doors = make_pb(Perspective(self.desk), reactor)
        endpoint = UNIXServerEndpoint(reactor, str(self.folder / "mdmd.sock"), mode=0o660)
        port = await endpoint.listen(self.doors.unix)
        self.addCleanup(port.stopListening)
        self.addCleanup(self.doors.close)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.desk.refusals.close()))

    async def enter(self) -> Remote:
        """Connect as mdmctl does."""
        remote = await connect(self.folder / "mdmd.sock")
        self.addCleanup(self.leave, remote)
        return remote

    async def refused(self, coroutine, kind):
        """The exception that a coroutine ends with."""
        return await self.assertFailure(Deferred.fromCoroutine(coroutine), kind)

    def leave(self, remote: Remote) -> "Deferred[None]":
        """Close a connection and wait until both sides know."""
        gone: Deferred[None] = Deferred()
        end = remote.session.broker
        if end.disconnected:
            return None
        end.notifyOnDisconnect(lambda: reactor.callLater(0, gone.callback, None))
        end.transport.loseConnection()
        return gone


async def remotely(answer: "Deferred[object]") -> object:
    """Wait for an answer in a coroutine, where a failure is a RemoteError."""
    return await answer


class Shut(Protocol):
    """Hangs up at once."""

    def connectionMade(self) -> None:
        self.transport.loseConnection()


class DoorTests(Served):
    """On the unix socket the kernel says who calls."""

    async def test_the_kernel_says_who_calls(self) -> None:
        """No password: the peer's uid is in the operators file."""
        status = await (await self.enter()).call("status.get")
        self.assertEqual((status["operator"], status["role"]), ("me", "admin"))
        self.assertEqual(status["version"], "1.2.3")

    async def test_a_stranger_stays_outside(self) -> None:
        """A uid that no operator has is told what an admin can do about it."""
        write_operators(self.folder / "operators.json", me={"role": "admin", "uid": ME + 1})
        error = await self.refused(connect(self.folder / "mdmd.sock"), NotAllowed)
        self.assertIn(f"--uid {ME}", str(error))
        (entry,) = self.desk.audit.entries
        self.assertEqual((entry.source, entry.facts["by"]), (f"unix uid {ME}", "uid"))

    async def test_an_unusable_operators_file_lets_nobody_in(self) -> None:
        """The log says what is wrong with it, the caller only that it is."""
        (self.folder / "operators.json").write_text('{"operators": {"me": {"role": "king"}}}')
        await self.refused(connect(self.folder / "mdmd.sock"), errors.InternalError)

    async def test_the_socket_is_for_owner_and_group(self) -> None:
        """Nobody else can even connect."""
        self.assertEqual((self.folder / "mdmd.sock").stat().st_mode & 0o777, 0o660)

    async def test_a_door_that_closes(self) -> None:
        """A connection that ends before anything was said is an error, not a wait for ever."""
        endpoint = UNIXServerEndpoint(reactor, str(self.folder / "shut"))
        port = await endpoint.listen(Factory.forProtocol(Shut))
        self.addCleanup(port.stopListening)
        await self.refused(connect(self.folder / "shut"), NoDaemon)

    async def test_one_session_a_connection(self) -> None:
        """Coming in again gives the same one: nobody piles sessions up."""
        remote = await self.enter()
        door = remote.session.broker.remoteForName("root")
        again = await door.callRemote("enter", 1)
        self.assertEqual(again.luid, remote.session.luid)

    async def test_another_version_is_refused(self) -> None:
        """A client of a later interface is told which one this is."""
        factory = pb.PBClientFactory()
        client = await UNIXClientEndpoint(reactor, str(self.folder / "mdmd.sock")).connect(factory)
        self.addCleanup(client.transport.loseConnection)
        door = await factory.getRootObject()
        error = await self.refused(remotely(door.callRemote("enter", 99)), pb.RemoteError)
        self.assertEqual(error.remoteType, b"mdmd.errors.BadRequest")


class CallTests(Served):
    """What the methods do, seen from the other end of the wire."""

    async def test_page_through_the_fleet(self) -> None:
        """Two pages of one, then an empty one."""
        remote = await self.enter()
        first = await remote.call("enrollments.page", limit=1)
        second = await remote.call("enrollments.page", after=first[0]["id"], limit=1)
        self.assertEqual([first[0]["id"], second[0]["id"]], [MAC, PHONE])
        self.assertEqual(await remote.call("enrollments.page", after=PHONE), [])

    async def test_serial_numbers_do(self) -> None:
        """Whoever holds a Mac in their hands has only its serial number."""
        remote = await self.enter()
        self.assertEqual((await remote.call("enrollments.get", id="C02XL0THJGH5"))["id"], MAC)
        reply = await remote.call(
            "commands.send", ids=["C02XL0THJGH5", "nobody"], request_type="SecurityInfo"
        )
        self.assertEqual(reply["status"]["C02XL0THJGH5"]["id"], MAC)
        self.assertEqual(reply["status"]["C02XL0THJGH5"]["push_result"], f"apns-{MAC}")
        self.assertEqual(reply["status"]["nobody"]["command_error"], "no such enrollment")

    async def test_send_queue_cancel(self) -> None:
        """What is queued can be looked at and taken out."""
        remote = await self.enter()
        await remote.call(
            "commands.send", ids=[MAC], request_type="Restart", uuid="C-1", force=True
        )
        self.assertEqual((await remote.call("queue.show", id=MAC))[0]["uuid"], "C-1")
        gone = await remote.call("queue.cancel", id=MAC, uuid="C-1")
        self.assertEqual(gone["attempts"], 0)
        error = await self.refused(remote.call("queue.cancel", id=MAC, uuid="C-1"), NotHere)
        self.assertEqual(str(error), "not in the queue")

    async def test_a_large_profile_goes_through(self) -> None:
        """5 MB in a command, eight times what Banana takes, and back as a result's report."""
        remote = await self.enter()
        payload = os.urandom(5 * 1024 * 1024)
        await remote.call(
            "commands.send", ids=[MAC], request_type="InstallProfile", keys={"Payload": payload}
        )
        command, _, _ = self.desk.fleet.sent[0]
        self.assertEqual(plistlib.loads(command.raw)["Command"]["Payload"], payload)
        self.desk.fleet.answers[MAC][0] = errors_free(self.desk.fleet.answers[MAC][0], payload)
        uuid = self.desk.fleet.answers[MAC][0].uuid
        found = await remote.call("results.get", id=MAC, uuid=uuid)
        self.assertEqual(found["raw"], payload)

    async def test_a_client_that_calls_and_never_reads(self) -> None:
        """Its calls wait, in its own memory; when it reads, each has its answer."""
        greedy, other = await self.enter(), await self.enter()
        greedy.session.broker.transport.pauseProducing()
        calls = 3000
        answers = [greedy.session.callRemote("enrollments.page") for _ in range(calls)]
        for _ in range(200):  # others are served all the while
            await other.call("enrollments.find", text=MAC)
        self.assertLess(self.desk.fleet.pages, calls / 2)
        greedy.session.broker.transport.resumeProducing()
        for each in answers:
            self.assertEqual(len(await remotely(each)), 2)
        self.assertEqual(self.desk.fleet.pages, calls)

    async def test_every_kind_of_value_crosses(self) -> None:
        """A command's keys may be anything a plist holds."""
        import datetime

        remote = await self.enter()
        keys = {
            "Text": "grün",
            "Yes": True,
            "Number": 2**40,
            "Half": 0.5,
            "Data": b"\0\xff",
            "When": datetime.datetime(2026, 11, 24, 12, 0),
            "List": [{"a": [1, 2]}],
        }
        await remote.call(
            "commands.send", ids=[MAC], request_type="Settings", keys=keys, force=True
        )
        sent = plistlib.loads(self.desk.fleet.sent[0][0].raw)["Command"]
        self.assertEqual({key: sent[key] for key in keys}, keys)

    async def test_bad_arguments_are_named(self) -> None:
        """A caller who gets it wrong is told which argument is meant."""
        remote = await self.enter()
        for name, arguments, word in (
            ("queue.show", {}, "id"),
            ("queue.show", {"id": 5}, "id"),
            ("queue.show", {"id": MAC, "more": 1}, "more"),
            ("enrollments.page", {"limit": True}, "limit"),
            ("enrollments.page", {"limit": 0}, "limit"),
            ("groups.members", {"name": "x", "cursor": 2**80}, "cursor"),
            ("commands.send", {"ids": [1], "request_type": "x"}, "ids"),
            ("commands.send", {"ids": [MAC], "request_type": "x", "priority": "now"}, "priority"),
            ("queue.__init__", {}, "queue.__init__"),
            ("nothing.here", {}, "nothing.here"),
        ):
            error = await self.refused(remote.call(name, **arguments), BadRequest)
            self.assertIn(word, str(error))

    async def test_calls_that_make_no_sense_are_audited(self) -> None:
        """Who, from where, which method, and nothing that was given; a flood is counted."""
        remote = await self.enter()
        await self.refused(remote.call("pins.read", id="s3cr3t"), BadRequest)
        (entry,) = self.desk.audit.entries
        self.assertEqual(
            (entry.who, entry.source, entry.what, entry.outcome),
            ("me", f"unix uid {ME}", "call", "BadRequest"),
        )
        self.assertEqual(
            entry.facts, {"method": "pins.read", "reason": "no such method", "attempts": "1"}
        )
        await self.refused(remote.call("queue.cancel", id="s3cr3t", s3cr3t=1), BadRequest)
        await self.refused(remote.call("commands.send", ids={"blob": 99}), NotHere)
        await self.refused(remotely(remote.session.callRemote("blob.append", "x")), pb.RemoteError)
        await self.refused(remotely(remote.session.callRemote("push.send", {1, 2})), pb.RemoteError)
        for _ in range(500):
            await self.refused(remote.call("pins.show", id=["s3cr3t"]), BadRequest)
        self.assertEqual(len(self.desk.audit.entries), 1)
        await self.desk.refusals.close()
        (_, counted) = self.desk.audit.entries
        self.assertEqual(counted.facts["attempts"], "504")
        self.assertEqual(
            counted.facts["method"], "queue.cancel, commands.send, blob.append …", counted
        )
        self.assertNotIn("s3cr3t", repr(self.desk.audit.entries))

    async def test_every_error_keeps_its_name(self) -> None:
        """What docs/pb.md lists is there, and arrives as the same class."""
        for name in ERRORS:
            self.assertTrue(issubclass(getattr(errors, name), MdmdError), name)


def errors_free(result, raw):
    """The same result with another report."""
    import attrs

    return attrs.evolve(result, raw=raw)


class NoReceiver(pb.RemoteReference):
    """A client's object whose connection is gone."""

    def __init__(self) -> None:
        self.broker = NoBroker()

    def callRemote(self, name: str, *args: object) -> None:
        raise pb.DeadReferenceError("gone")


class NoBroker:
    """The end of a connection that is gone."""

    disconnects: tuple[object, ...] = ()

    def notifyOnDisconnect(self, call: object) -> None:
        pass


class RoleTests(SynchronousTestCase):
    """Checked at one place, for every method there is."""

    def setUp(self) -> None:
        folder = scratch()
        self.addCleanup(shutil.rmtree, folder)
        write_operators(folder / "operators.json", me={"role": "admin"})
        self.desk = make_desk(folder / "operators.json", clock=Clock())
        self.perspective = Perspective(self.desk)

    # One call of each, with the least role that may make it.
    CALLS = (
        ("ca.get", {"certificate": "ab" * 32}, Role.VIEWER),
        ("ca.issued", {}, Role.VIEWER),
        ("ca.renew", {"id": MAC}, Role.OPERATOR),
        ("ca.revoke", {"certificate": "ab" * 32}, Role.ADMIN),
        ("ca.show", {}, Role.VIEWER),
        ("enroll.link", {}, Role.OPERATOR),
        ("enroll.profile", {}, Role.ADMIN),
        ("certificates.install", {"pem": b"junk"}, Role.ADMIN),
        ("audit.page", {}, Role.ADMIN),
        ("apps.append", {"upload": "", "piece": b"x"}, Role.OPERATOR),
        ("apps.finish", {"upload": "x"}, Role.OPERATOR),
        ("apps.remove", {"token": "x"}, Role.OPERATOR),
        ("apps.show", {}, Role.VIEWER),
        ("certificates.show", {}, Role.VIEWER),
        ("commands.catalogue", {"word": "passcode"}, Role.VIEWER),
        ("commands.describe", {"request_type": "DeviceLock"}, Role.VIEWER),
        ("commands.clear_passcode", {"ids": [MAC, PHONE]}, Role.ADMIN),
        ("commands.send", {"ids": [MAC], "request_type": "SecurityInfo"}, Role.OPERATOR),
        ("commands.send", {"ids": [MAC], "request_type": "DeleteUser"}, Role.ADMIN),
        ("commands.send", {"ids": [MAC], "request_type": "EraseDevice"}, Role.ADMIN),
        ("commands.send", {"ids": [MAC], "request_type": "DeviceLock"}, Role.ADMIN),
        ("commands.send", {"ids": [MAC], "request_type": "Unheard", "force": True}, Role.ADMIN),
        (
            "commands.send_raw",
            {
                "ids": [MAC],
                "plist": plistlib.dumps(
                    {"CommandUUID": "1", "Command": {"RequestType": "EraseDevice"}}
                ),
            },
            Role.ADMIN,
        ),
        ("enrollments.complete", {"begun": "M"}, Role.VIEWER),
        ("enrollments.find", {"text": MAC}, Role.VIEWER),
        ("enrollments.get", {"id": MAC}, Role.VIEWER),
        ("enrollments.named", {"name": "Anna's Mac"}, Role.VIEWER),
        ("enrollments.page", {}, Role.VIEWER),
        ("events.page", {}, Role.VIEWER),
        ("events.raw", {}, Role.ADMIN),
        ("events.subscribe", {"receiver": NoReceiver()}, Role.VIEWER),
        ("groups.add", {"name": "sales", "ids": [MAC]}, Role.OPERATOR),
        ("groups.members", {"name": "sales"}, Role.VIEWER),
        ("groups.remove", {"name": "sales", "ids": [MAC]}, Role.OPERATOR),
        ("groups.show", {}, Role.VIEWER),
        ("inventory.get", {"id": MAC}, Role.VIEWER),
        ("inventory.history", {"id": MAC}, Role.VIEWER),
        ("inventory.note", {"id": MAC, "notes": {"owner": "Jane"}}, Role.OPERATOR),
        ("inventory.page", {"fields": ["BatteryLevel"]}, Role.VIEWER),
        ("moving.certificates", {}, Role.ADMIN),
        ("moving.commands", {"uuids": ["C-0"]}, Role.ADMIN),
        ("moving.counts", {}, Role.ADMIN),
        ("moving.dead_letters", {"target": "t"}, Role.ADMIN),
        ("moving.devices", {}, Role.ADMIN),
        ("moving.groups", {}, Role.ADMIN),
        ("moving.loose", {}, Role.ADMIN),
        ("moving.push_certificates", {}, Role.ADMIN),
        ("moving.put", {"records": []}, Role.ADMIN),
        ("moving.results", {"id": MAC}, Role.ADMIN),
        ("moving.resume_key", {}, Role.ADMIN),
        ("moving.size", {}, Role.ADMIN),
        ("operators.add", {"name": "new", "role": "viewer"}, Role.ADMIN),
        ("operators.add_key", {"name": "me", "key": SSH_KEY}, Role.ADMIN),
        ("operators.certificate", {"name": "me", "sha256": "ab" * 32}, Role.ADMIN),
        ("operators.my_password", {"password": "short"}, Role.VIEWER),
        ("operators.passwd", {"name": "me", "password": "short"}, Role.ADMIN),
        ("operators.remove", {"name": "nobody"}, Role.ADMIN),
        ("operators.remove_key", {"name": "me", "fingerprint": "SHA256:x"}, Role.ADMIN),
        ("operators.role", {"name": "me", "role": "admin"}, Role.ADMIN),
        ("operators.show", {}, Role.ADMIN),
        ("pins.show", {"id": MAC}, Role.ADMIN),
        ("push.status", {}, Role.VIEWER),
        ("push.send", {"ids": [MAC]}, Role.OPERATOR),
        ("queue.cancel", {"id": MAC, "uuid": "C-0"}, Role.OPERATOR),
        ("queue.clear", {"id": MAC}, Role.OPERATOR),
        ("queue.requeue", {"id": MAC, "uuid": "C-0"}, Role.OPERATOR),
        ("queue.show", {"id": MAC}, Role.VIEWER),
        ("results.get", {"id": MAC, "uuid": "C-0"}, Role.VIEWER),
        ("results.secret", {"id": MAC, "uuid": "C-0"}, Role.ADMIN),
        ("results.show", {"id": MAC}, Role.VIEWER),
        ("status.get", {}, Role.VIEWER),
        ("status.methods", {}, Role.VIEWER),
        ("targets.page", {"where": "os>1"}, Role.VIEWER),
        ("webhooks.dead", {"name": "siem"}, Role.VIEWER),
        ("webhooks.replay", {"name": "siem", "after": "0"}, Role.OPERATOR),
        ("webhooks.resend", {"name": "siem"}, Role.OPERATOR),
        ("webhooks.show", {}, Role.VIEWER),
        ("webhooks.test", {"name": "siem"}, Role.OPERATOR),
    )

    def allowed(self, role: Role, name: str, arguments: dict[str, object]) -> bool:
        """Whether the call gets past the check, whatever becomes of it then."""
        caller = Caller(f"some {role}", role, "unix uid 1")
        done = Deferred.fromCoroutine(self.perspective.call(caller, name, kw=arguments))
        outcome: list[object] = []
        done.addBoth(outcome.append)
        error = getattr(outcome[0], "value", None)
        if error is not None and not isinstance(error, MdmdError):
            raise error
        return not (isinstance(error, NotAllowed) and "needs the role" in str(error))

    def test_every_method_for_every_role(self) -> None:
        """Each role may do exactly what is declared, and no method is left out of this test."""
        for name, arguments, least in self.CALLS:
            for role in Role:
                self.assertEqual(
                    self.allowed(role, name, arguments), role >= least, (name, str(role))
                )
        self.assertEqual({name for name, _, _ in self.CALLS}, set(self.perspective.methods))

    def test_what_the_disk_refuses(self) -> None:
        """A folder of apps that can't be written is told to whoever brings one; no bug of ours."""
        shelf = Shelf(Path("/dev/null/apps"), "https://mdm.example.org", lambda: 0)
        perspective = Perspective(attrs.evolve(self.desk, shelf=shelf))
        caller = Caller("me", Role.ADMIN, "unix uid 1")
        done = perspective.call(caller, "apps.append", kw={"upload": "", "piece": b"x"})
        error = self.failureResultOf(Deferred.fromCoroutine(done), errors.InternalError)
        self.assertEqual(error.getErrorMessage(), "mdmd can't write it: Not a directory")
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_the_enrollment_profile(self) -> None:
        """Whoever removes it ends the management of a device: admins only, in whichever way."""

        class Enrolls:
            identifier = "org.Example.mdm"

        self.perspective = Perspective(attrs.evolve(self.desk, enroll=Enrolls()))
        for identifier, least in (
            ("org.example.wifi", Role.OPERATOR),
            ("org.Example.mdm", Role.ADMIN),
            (" ORG.example.mdm ", Role.ADMIN),
        ):
            keys = {"Identifier": identifier}
            message = {"CommandUUID": "1", "Command": {"RequestType": "RemoveProfile", **keys}}
            for fmt in plistlib.PlistFormat:
                raw = plistlib.dumps(message, fmt=fmt)
                for role in Role:
                    self.assertEqual(
                        [
                            self.allowed(role, name, {"ids": [MAC], **arguments})
                            for name, arguments in (
                                (
                                    "commands.send",
                                    {"request_type": "RemoveProfile", "keys": keys, "force": True},
                                ),
                                ("commands.send_raw", {"plist": raw, "force": True}),
                            )
                        ],
                        [role >= least] * 2,
                        (identifier, str(role)),
                    )

    def test_what_acts_is_audited(self) -> None:
        """Everything above a plain read leaves a line, the refused call too."""
        for name, arguments, least in self.CALLS:
            before = len(self.desk.audit.entries)
            self.allowed(Role.ADMIN, name, arguments)
            self.allowed(Role.VIEWER, name, arguments)
            lines = self.desk.audit.entries[before:]
            audited = (least > Role.VIEWER and name not in NOT_AUDITED) or name in AUDITED_ANYWAY
            self.assertEqual(len(lines), 2 if audited else 0, name)
            if audited and least > Role.VIEWER:
                self.assertEqual(lines[1].outcome, "NotAllowed")
                self.assertEqual((lines[1].who, lines[1].source), ("some viewer", "unix uid 1"))

    def test_the_audit_names_enrollments(self) -> None:
        """Whatever was typed: a serial number may be another device's tomorrow."""
        self.desk.fleet.happen("mdm.Connect", MAC)
        self.desk.fleet.happen("mdm.Connect", PHONE)
        for name, arguments in (
            ("push.send", {"ids": ["C02XL0THJGH5"]}),
            ("pins.show", {"id": "C02XL0THJGH5"}),
            ("queue.clear", {"id": "C02XL0THJGH5"}),
            ("commands.send", {"ids": ["C02XL0THJGH5"], "request_type": "SecurityInfo"}),
            ("commands.clear_passcode", {"ids": ["C02XL0THJGH5"]}),
            ("groups.add", {"name": "sales", "ids": ["C02XL0THJGH5"]}),
            ("inventory.note", {"id": "C02XL0THJGH5", "notes": {"owner": "Jane"}}),
        ):
            self.assertTrue(self.allowed(Role.ADMIN, name, arguments))
            self.assertEqual(self.desk.audit.entries[-1].enrollments, (MAC,), name)
        self.allowed(Role.VIEWER, "pins.show", {"id": "C02XL0THJGH5"})
        self.assertEqual(self.desk.audit.entries[-1].enrollments, ("C02XL0THJGH5",))
        self.allowed(Role.ADMIN, "events.raw", {"limit": 1})
        entry = self.desk.audit.entries[-1]
        self.assertEqual((entry.enrollments, entry.facts["messages"]), ((MAC,), "1"))

    def test_the_audit_says_what_was_refused(self) -> None:
        """A call that did nothing is not "ok", and one that did half of it says so."""
        refused, unpushed, done = {"command_error": "no"}, {"push_error": "no"}, {"id": MAC}
        for status, uuid, outcome, told in (
            ({"A": refused}, "U", "refused", "1 of 1: A"),
            ({"A": unpushed}, "", "refused", "1 of 1: A"),
            ({"A": unpushed}, "U", "ok", None),  # it is queued all the same
            ({"A": refused, "B": done, "C": refused}, "U", "partly", "2 of 3: A, C"),
            ({"A": done}, "U", "ok", None),
        ):

            class Acts(Subject):
                name = "acts"
                answer = {"status": status, "command_uuid": uuid}  # noqa: RUF012

                @method(Role.OPERATOR, audit=())
                async def act(self, caller: Caller) -> Wire:
                    """Act."""
                    return self.answer

            acts = Perspective(self.desk, [Acts])
            caller = Caller("boss", Role.ADMIN, "unix uid 1")
            self.successResultOf(Deferred.fromCoroutine(acts.call(caller, "acts.act")))
            entry = self.desk.audit.entries[-1]
            self.assertEqual((entry.outcome, entry.facts.get("refused")), (outcome, told), status)

    def test_the_audit_has_what_did_not_end(self) -> None:
        """A call is noted before it begins: its daemon may be killed before it ends."""
        waits: Deferred[None] = Deferred()

        class Acts(Subject):
            name = "acts"

            @method(Role.OPERATOR, audit=("id",))
            async def act(self, caller: Caller, id: str) -> Wire:
                """Act."""
                caller.on.append(MAC)
                await waits

        acts = Perspective(self.desk, [Acts])
        caller = Caller("boss", Role.ADMIN, "unix uid 1")
        call = Deferred.fromCoroutine(acts.call(caller, "acts.act", kw={"id": "C02"}))
        (entry,) = self.desk.audit.entries
        self.assertEqual((entry.who, entry.enrollments, entry.outcome), ("boss", ("C02",), "begun"))
        waits.callback(None)
        self.successResultOf(call)
        (entry,) = self.desk.audit.entries
        self.assertEqual((entry.enrollments, entry.outcome), ((MAC,), "ok"))

    def test_the_audit_says_what_a_command_is_about(self) -> None:
        """Which profile was removed, sent in whichever way, and refused or not."""
        keys = {"Identifier": "org.example.wifi"}
        plist = plistlib.dumps(
            {"CommandUUID": "1", "Command": {"RequestType": "RemoveProfile", **keys}}
        )
        for name, arguments in (
            ("commands.send", {"ids": [MAC], "request_type": "RemoveProfile", "keys": keys}),
            ("commands.send_raw", {"ids": [MAC], "plist": plist}),
        ):
            for role in (Role.ADMIN, Role.VIEWER):
                self.allowed(role, name, arguments)
                facts = self.desk.audit.entries[-1].facts
                self.assertEqual(facts["request_type"], "RemoveProfile", name)
                self.assertEqual(facts["Identifier"], "org.example.wifi", name)
        self.allowed(Role.ADMIN, "commands.send_raw", {"ids": [MAC], "plist": b"junk"})
        self.assertEqual(self.desk.audit.entries[-1].outcome, "BadMessage")

    def test_the_audit_says_what_was_in_the_queue(self) -> None:
        """Of a command that is taken out, or put back."""
        arguments = {"ids": [MAC], "request_type": "Restart", "uuid": "C-1", "force": True}
        self.allowed(Role.ADMIN, "commands.send", arguments)
        self.allowed(Role.ADMIN, "queue.requeue", {"id": MAC, "uuid": "C-1"})
        self.assertEqual(self.desk.audit.entries[-1].facts["request_type"], "Restart")
        (waits,) = self.desk.fleet.queues[MAC]
        self.allowed(Role.ADMIN, "queue.cancel", {"id": MAC, "uuid": waits.uuid})
        self.assertEqual(self.desk.audit.entries[-1].facts["request_type"], "Restart")

    def test_the_audit_has_no_keys_of_commands(self) -> None:
        """A PIN in a command's keys is not in the audit."""
        arguments = {
            "ids": [MAC],
            "request_type": "DeviceLock",
            "keys": {"PIN": "s3cr3t"},
            "force": True,
        }
        self.assertTrue(self.allowed(Role.ADMIN, "commands.send", arguments))
        entry = self.desk.audit.entries[-1]
        self.assertEqual(entry.enrollments, (MAC,))
        self.assertEqual(entry.facts["request_type"], "DeviceLock")
        self.assertNotIn("s3cr3t", repr(entry))


class BlobTests(SynchronousTestCase):
    """Large values, in pieces, bounded."""

    def test_there_and_back(self) -> None:
        """What is appended can be used once."""
        blobs = Blobs()
        number = blobs.append(0, b"a")
        blobs.append(number, b"b")
        self.assertEqual(blobs.fill_in({"x": [{"blob": number}]}), {"x": [b"ab"]})
        self.assertRaises(NotHere, blobs.fill_in, {"blob": number})

    def test_bounded(self) -> None:
        """A client can't fill the daemon's memory: too much drops what there is."""
        blobs = Blobs()
        number = blobs.append(0, bytes(PIECE))
        with self.assertRaises(TooLarge):
            for _ in range(200):
                blobs.append(number, bytes(PIECE))
        self.assertRaises(NotHere, blobs.read, number, 0)

    def test_all_connections_together_are_bounded(self) -> None:
        """Many connections can't do what one may not; one that ends gives back what it held."""
        budget = Budget(3 * PIECE)
        one, two = Blobs(budget), Blobs(budget)
        one.append(0, bytes(PIECE))
        two.append(0, bytes(PIECE))
        one.append(1, bytes(PIECE))
        self.assertRaises(TooLarge, two.append, 1, bytes(PIECE))
        one.close()
        self.assertEqual(budget.left, 3 * PIECE)

    def test_answers_that_nobody_fetches_are_forgotten(self) -> None:
        """Only the newest are kept."""
        blobs = Blobs()
        taken = [blobs.take_out(bytes(PIECE + 1)) for _ in range(70)]
        self.assertRaises(NotHere, blobs.read, taken[0]["blob"], 0)
        self.assertEqual(len(blobs.read(taken[-1]["blob"], PIECE)), 1)


class GarbageTests(Served):
    """Whatever a stranger sends, the connection ends and the daemon goes on."""

    async def ends(self, data: bytes) -> bytes:
        """Send bytes, give what came until the connection was closed."""
        done: Deferred[bytes] = Deferred()

        class Raw(Protocol):
            got = b""

            def connectionMade(self) -> None:
                self.transport.write(data)

            def dataReceived(self, more: bytes) -> None:
                self.got += more

            def connectionLost(self, reason: object = None) -> None:
                done.callback(self.got)

        path = str(self.folder / "mdmd.sock")
        await UNIXClientEndpoint(reactor, path).connect(Factory.forProtocol(Raw))
        return await done

    async def test_garbage(self) -> None:
        """Not Banana, an endless prefix, HTTP, a list of a million, ten thousand deep."""
        for data in (
            b"\xff" * 100,
            b"\x01" * 1000,
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 50,
            b"\x00\x00\x40\x80",
            b"\x01\x80" * 5000,
            banana.encode([b"a" * 1000] * 100),
            banana.encode(b"pb") + banana.encode(b"no list"),
            banana.encode(b"pb") + banana.encode([b"message", 1]),
            banana.encode(b"unknown dialect"),
        ):
            await self.ends(data)
        self.assertEqual((await (await self.enter()).call("status.get"))["operator"], "me")

    async def test_forbidden_objects(self) -> None:
        """Jelly that asks for a class or a module is refused as bad arguments."""
        remote = await self.enter()
        for bad in ([b"module", b"os"], [b"class", b"os.system"], [b"persistent", 1], [b"cache"]):
            answer: Deferred[object] = Deferred()
            end = remote.session.broker
            request = end.newRequestID()
            end.waitingForAnswers[request] = answer
            end.sendCall(
                b"message",
                request,
                remote.session.luid,
                b"status.get",
                1,
                [b"tuple", bad],
                [b"dictionary"],
            )
            error = await self.refused(remotely(answer), pb.RemoteError)
            self.assertEqual(error.remoteType, b"mdmd.errors.BadRequest")

    async def test_an_expression_is_bounded_after_the_door_too(self) -> None:
        """Many strings that each are small enough don't add up without end."""
        remote = await self.enter()
        sent = remote.session.callRemote("queue.show", id=["x" * 600_000] * 3)
        await self.assertFailure(sent, pb.PBConnectionLost)
        self.assertGreater(broker.LARGEST, PIECE)


class PeerTests(SynchronousTestCase):
    """SO_PEERCRED."""

    def test_peer_uid(self) -> None:
        """The kernel's word on who is at the other end."""
        from mdmd.ops.recognize import peer_uid

        here, there = socket.socketpair()
        self.addCleanup(here.close)
        self.addCleanup(there.close)
        self.assertEqual(peer_uid(here), ME)
