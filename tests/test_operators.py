"""The operators file, passwords, and the door for those who come over TLS."""

import json
import shutil
import stat
from pathlib import Path

from twisted.internet import reactor, ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, SSL4ServerEndpoint, wrapClientTLS
from twisted.internet.task import Clock
from twisted.spread import pb
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mdmd.errors import BadRequest, ConfigError, Conflict, NotAllowed, NotHere
from mdmd.ops.operators import Operator, Operators, Role, fingerprint, operator_name, ssh_key
from mdmd.ops.passwords import ATTEMPTS, WAIT, Attempts, new_hash
from mdmd.ops.pb import make_pb
from mdmd.ops.perspective import Perspective
from mdmd.ops.tls import OperatorsTLS
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import certificate_pem, key_pem
from tests.opshelp import make_desk, scratch, write_operators

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmdRLLlgL3rIkZh2tBM3SmS6GEbwpSGdbgb5yUSKmd9"


class OperatorsFileTests(SynchronousTestCase):
    """One file, written whole, never without an admin."""

    def setUp(self) -> None:
        self.folder = scratch()
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = self.folder / "operators.json"
        write_operators(self.path, boss={"role": "admin", "uid": 0})
        self.path.chmod(0o600)
        self.operators = Operators(self.path)

    def test_what_is_written_is_read_again(self) -> None:
        """Every field survives, the file keeps its mode, nothing is left beside it."""
        eve = Operator("eve", Role.VIEWER, 7, "$2b$…", (KEY,), ("ab" * 32,))
        self.operators.add(eve)
        self.assertEqual(Operators(self.path).get("eve"), eve)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual([each.name for each in self.folder.iterdir()], ["operators.json"])

    def test_a_change_by_hand_is_seen(self) -> None:
        """Nobody has to restart the daemon."""
        self.assertEqual(self.operators.by_uid(0).name, "boss")
        write_operators(self.path, other={"role": "admin", "uid": 0})
        self.assertEqual(self.operators.by_uid(0).name, "other")

    def test_somebody_stays_admin(self) -> None:
        """The last admin can be neither removed nor demoted."""
        self.assertRaises(Conflict, self.operators.remove, "boss")
        self.assertRaises(Conflict, self.operators.change, "boss", role=Role.VIEWER)
        self.assertIs(self.operators.get("boss").role, Role.ADMIN)

    def test_a_proof_is_one_person_s(self) -> None:
        """Nobody can be two operators: the audit would not know which."""
        self.assertRaises(Conflict, self.operators.add, Operator("eve", Role.VIEWER, 0))
        self.operators.change("boss", ssh_keys=(KEY,))
        self.assertRaises(
            Conflict, self.operators.add, Operator("eve", Role.VIEWER, ssh_keys=(KEY,))
        )
        self.assertRaises(Conflict, self.operators.add, Operator("boss", Role.VIEWER))
        self.assertRaises(NotHere, self.operators.change, "nobody", uid=1)

    def test_mistakes_in_the_file(self) -> None:
        """Each is one line that names the file and what is expected; then nobody gets in."""
        for text in (
            "",
            "[]",
            '{"operators": []}',
            '{"operators": {"a": 1}}',
            '{"operators": {"a": {"role": "king"}}}',
            '{"operators": {"a": {"role": "admin", "uid": -1}}}',
            '{"operators": {"a": {"role": "admin", "uid": true}}}',
            '{"operators": {"a": {"role": "admin", "pasword": "x"}}}',
            '{"operators": {"a": {"role": "admin", "ssh_keys": ["x"]}}}',
            '{"operators": {"a": {"role": "admin", "ssh_keys": "x"}}}',
        ):
            self.path.write_text(text)
            error = self.assertRaises(ConfigError, self.operators.all)
            self.assertTrue(str(error).startswith(f"{self.path}: "), error)
            self.assertEqual(len(str(error).splitlines()), 1)
        self.path.unlink()
        self.assertRaises(ConfigError, self.operators.by_uid, 0)

    def test_what_people_paste(self) -> None:
        """A line of a .pub file, a fingerprint with colons; a private key is refused."""
        self.assertEqual(ssh_key(f"{KEY} me@mac\n"), KEY)
        self.assertEqual(fingerprint(":".join(["AB"] * 32)), "ab" * 32)
        for wrong in ("", "-----BEGIN OPENSSH PRIVATE KEY-----", "ssh-ed25519", "hello world"):
            self.assertRaises(BadRequest, ssh_key, wrong)
        self.assertRaises(BadRequest, fingerprint, "ab")
        for wrong in ("", "a b", "-x", "x" * 65, "ü"):
            self.assertRaises(BadRequest, operator_name, wrong)

    def test_no_hash_in_a_repr(self) -> None:
        """Logs and tracebacks show reprs."""
        self.assertNotIn("$2b$", repr(Operator("eve", Role.VIEWER, password="$2b$12$x")))


class AttemptsTests(SynchronousTestCase):
    """Guessing gets nowhere."""

    def test_wrong_attempts_cost_time(self) -> None:
        """After a few, the next has to wait; time heals; another name is not held up."""
        clock = Clock()
        attempts = Attempts(clock.seconds)
        for _ in range(ATTEMPTS):
            attempts.check("name eve")
            attempts.wrong("name eve")
        self.assertRaises(NotAllowed, attempts.check, "name eve")
        attempts.check("name bob")
        clock.advance(WAIT)
        attempts.check("name eve")

    def test_memory_is_bounded(self) -> None:
        """A million names are not remembered."""
        attempts = Attempts(Clock().seconds)
        for number in range(20_000):
            attempts.wrong(f"name {number}")
        self.assertLessEqual(len(attempts._until), 10_000)


class TLSTests(TestCase):
    """Over TLS: a password or a client certificate, nothing else."""

    async def setUp(self) -> None:
        self.folder = scratch()
        self.addCleanup(shutil.rmtree, self.folder)
        write_operators(
            self.folder / "operators.json",
            boss={"role": "admin", "uid": 0},
            eve={"role": "viewer", "password": await new_hash("correct horse")},
        )
        desk = make_desk(self.folder / "operators.json")
        self.desk = desk
        self.authority = CertificateAuthority.create("test CA", "ec", 10)
        pair = self.authority.issue_server(["localhost"], 10)
        certificate, key = (
            self.file("tls.pem", certificate_pem(pair[0])),
            self.file("tls.key", key_pem(pair[1])),
        )
        self.doors = make_pb(Perspective(desk), reactor)
        endpoint = SSL4ServerEndpoint(
            reactor, 0, OperatorsTLS(certificate, key), interface="127.0.0.1"
        )
        port = await endpoint.listen(self.doors.tls)
        self.addCleanup(port.stopListening)
        self.addCleanup(self.doors.close)
        self.addCleanup(lambda: Deferred.fromCoroutine(desk.refusals.close()))
        self.port = port.getHost().port

    def file(self, name: str, content: bytes) -> Path:
        """Write a file, say where."""
        path = self.folder / name
        path.write_bytes(content)
        return path

    async def door(self, client: ssl.PrivateCertificate | None = None) -> pb.RemoteReference:
        """Connect over TLS."""
        trust = ssl.Certificate.loadPEM(certificate_pem(self.authority.certificate))
        options = ssl.optionsForClientTLS("localhost", trust, clientCertificate=client)
        factory = pb.PBClientFactory()
        endpoint = wrapClientTLS(options, HostnameEndpoint(reactor, b"127.0.0.1", self.port))
        connection = await endpoint.connect(factory)
        gone: Deferred[None] = Deferred()
        connection.notifyOnDisconnect(lambda: reactor.callLater(0, gone.callback, None))

        def leave() -> "Deferred[None]":
            if not connection.disconnected:
                connection.transport.abortConnection()
            return gone

        self.addCleanup(leave)
        return await factory.getRootObject()

    async def refused(self, answer: "Deferred[object]") -> str:
        """Why a call was refused."""
        try:
            await answer
        except pb.RemoteError as error:
            return f"{error.remoteType.decode()}: {error}"
        raise AssertionError("it was not refused")

    async def test_password(self) -> None:
        """The right one gives a session with the operator's role."""
        session = await (await self.door()).callRemote("login", 1, "eve", "correct horse")
        status = await session.callRemote("status.get")
        self.assertEqual((status["operator"], status["role"]), ("eve", "viewer"))

    async def test_wrong_password(self) -> None:
        """Wrong password, no such name, no password at all: one and the same answer."""
        door = await self.door()
        said = {
            await self.refused(door.callRemote("login", 1, name, password))
            for name, password in (
                ("eve", "wrong"),
                ("nobody", "x"),
                ("boss", ""),
                ("eve", "ü" * 99),
            )
        }
        self.assertEqual(said, {"mdmd.errors.NotAllowed: wrong name or password"})
        (entry,) = self.desk.audit.entries  # the others are counted
        self.assertEqual((entry.source, entry.what), ("tls 127.0.0.1", "login"))
        self.assertEqual((entry.facts["by"], entry.facts["name"]), ("password", "eve"))
        self.assertNotIn("'wrong'", repr(entry))

    async def test_attempts_are_limited(self) -> None:
        """After five wrong ones even the right one has to wait, on a new connection too."""
        for _ in range(ATTEMPTS):
            await self.refused((await self.door()).callRemote("login", 1, "eve", "wrong"))
        said = await self.refused(
            (await self.door()).callRemote("login", 1, "eve", "correct horse")
        )
        self.assertIn("too many wrong attempts", said)

    async def test_client_certificate(self) -> None:
        """The one whose fingerprint an operator has; another is nobody's, none needs a password."""
        certificate, key = self.authority.issue_server(["eve"], 10)
        pair = ssl.PrivateCertificate.loadPEM(certificate_pem(certificate) + key_pem(key))
        said = await self.refused((await self.door(pair)).callRemote("enter", 1))
        self.assertIn("no operator has this client certificate", said)
        self.assertEqual(self.desk.audit.entries[-1].facts["by"], "certificate")
        digest = fingerprint(pair.digest("sha256").decode())
        self.desk.operators.change("eve", certificates=(digest,))
        session = await (await self.door(pair)).callRemote("enter", 1)
        self.assertEqual((await session.callRemote("status.get"))["operator"], "eve")
        said = await self.refused((await self.door()).callRemote("enter", 1))
        self.assertIn("login(version, name, password)", said)

    async def test_a_changed_role_holds_at_once(self) -> None:
        """An open session reaches as far as the file says now, and ends with its operator."""
        session = await (await self.door()).callRemote("login", 1, "eve", "correct horse")
        self.assertIn(
            "needs the role admin", await self.refused(session.callRemote("operators.show"))
        )
        self.desk.operators.change("eve", role=Role.ADMIN)
        people = await session.callRemote("operators.show")
        self.assertEqual([each["name"] for each in people], ["boss", "eve"])
        self.assertNotIn("$2b$", json.dumps(people))
        self.desk.operators.remove("eve")
        self.assertIn("no operator any more", await self.refused(session.callRemote("status.get")))
        last = self.desk.audit.entries[-1]
        self.assertEqual(
            (last.who, last.source, last.what, last.facts["method"], last.outcome),
            ("eve", "tls 127.0.0.1", "call", "status.get", "NotAllowed"),
        )
        self.assertIn("no operator any more", last.facts["reason"])

    async def test_a_proof_that_is_taken_away_ends_its_sessions(self) -> None:
        """A password that is known to others is changed: whoever came in by it has to go."""
        certificate, key = self.authority.issue_server(["eve"], 10)
        pair = ssl.PrivateCertificate.loadPEM(certificate_pem(certificate) + key_pem(key))
        digest = fingerprint(pair.digest("sha256").decode())
        self.desk.operators.change("eve", certificates=(digest,))
        by_password = await (await self.door()).callRemote("login", 1, "eve", "correct horse")
        by_certificate = await (await self.door(pair)).callRemote("enter", 1)
        self.desk.operators.change("eve", password="$2b$04$another")
        said = await self.refused(by_password.callRemote("status.get"))
        self.assertIn("the password that let eve in is not theirs any more", said)
        await by_certificate.callRemote("status.get")
        self.desk.operators.change("eve", certificates=("ab" * 32, digest))
        await by_certificate.callRemote("status.get")
        gone: Deferred[None] = Deferred()
        by_certificate.broker.notifyOnDisconnect(lambda: gone.callback(None))
        self.desk.operators.change("eve", certificates=("ab" * 32,))
        said = await self.refused(by_certificate.callRemote("status.get"))
        self.assertIn("the certificate that let eve in is not theirs any more", said)
        await gone
