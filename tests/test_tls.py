"""The device site behind real TLS, asked by real clients."""

import gc
import os
import socket
import ssl
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.python.procutils import which
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mdmd.errors import BadCertificate, MdmdError
from mdmd.interfaces.identity import Identity
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import certificate_pem, fingerprint, key_pem, new_key
from mdmd.web.channel import Channel, Limits
from mdmd.web.identity import Identities
from mdmd.web.site import make_site
from mdmd.web.tls import ServerContext, wrap
from mdmd.web.tls_wire import TLSWire
from tests.wirehelp import request

REPORT = b"report"
OPENSSL = which("openssl")
CURL = which("curl")


@cache
def authority(name: str = "Device CA") -> CertificateAuthority:
    return CertificateAuthority.create(name, kind="ec")


def write_pair(folder: Path, name: str, certificate: x509.Certificate, key: Any) -> None:
    (folder / f"{name}.pem").write_bytes(certificate_pem(certificate))
    (folder / f"{name}.key").write_bytes(key_pem(key))


def write_server(folder: Path) -> None:
    write_pair(folder, "server", *authority().issue_server(["localhost", "127.0.0.1"], days=10))
    (folder / "ca.pem").write_bytes(certificate_pem(authority().certificate))


def write_device(folder: Path, name: str, ca: CertificateAuthority) -> x509.Certificate:
    key = new_key()
    certificate = ca.issue_identity(key.public_key(), name, days=10)
    write_pair(folder, name, certificate, key)
    return certificate


class WhoAmI:
    """A story that answers with the identity it was given."""

    async def answer(self, identity: Identity, body: bytes, noted: object = None) -> bytes:
        return f"<{identity.fingerprint}>".encode()


class Collect(Protocol):
    """A plain TCP client that keeps what it gets."""

    def __init__(self) -> None:
        self.data = b""
        self.lost: Deferred[float] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost.callback(reactor.seconds())


class TLSTests(TestCase):
    """One server on loopback for each test."""

    async def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        write_server(self.folder)
        self.device = write_device(self.folder, "device", authority())
        self.refused: list[str] = []
        self.ahead = 0  # seconds that the identities' clock is ahead
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        await self.start()

    async def start(self, tickets: bool = True, **limits: float) -> None:
        if hasattr(self, "port"):
            await self.stop()
        trust = [authority().certificate]
        self.context = ServerContext(
            self.folder / "server.pem", self.folder / "server.key", trust, tickets=tickets
        )
        self.site = make_site(
            reactor,
            WhoAmI(),
            WhoAmI(),
            None,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            Identities(trust, lambda: reactor.seconds() + self.ahead),
            Limits(**limits),  # type: ignore[arg-type]
            self._refused,
            wall=time.time,
        )
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        self.port = await endpoint.listen(wrap(self.context, self.site))
        self.number = self.port.getHost().port

    async def stop(self) -> None:
        await self.port.stopListening()
        await self.site.drain(5)

    async def tearDown(self) -> None:
        await self.stop()

    async def _refused(self, kind: str, reason: str, _: EnrollmentID | None, __: str) -> None:
        self.refused.append(reason)

    async def run_tool(self, tool: list[str], *arguments: str, stdin: bytes = b"") -> str:
        if not tool:
            self.skipTest("the program is not installed")
        out, error, _ = await getProcessOutputAndValue(
            tool[0], arguments, env=dict(os.environ), path=str(self.folder), stdinBytes=stdin
        )
        return (error + out).decode(errors="replace")

    async def curl(self, *arguments: str) -> tuple[str, str]:
        """Send a report with curl, return (status, body)."""
        out = await self.run_tool(
            CURL,
            *("-sS", "--cacert", "ca.pem", "-w", "\n%{http_code}"),
            *("--data-binary", "report", "-X", "PUT", f"https://localhost:{self.number}/connect"),
            *arguments,
        )
        body, _, status = out.rpartition("\n")
        return status, body.strip()

    async def ask(self, name: str = "", **options: Any) -> list[tuple[bytes, bool]]:
        """Ask with Python's own TLS, in a thread: [(the answer, was the session resumed)]."""
        return await deferToThread(self._ask, name, **options)

    def _ask(self, name: str, times: int = 1, version: Any = None) -> list[tuple[bytes, bool]]:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if name:
            context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        answers: list[tuple[bytes, bool]] = []
        session = None
        for _ in range(times):
            with (
                socket_to(self.number) as plain,
                context.wrap_socket(plain, server_hostname="localhost", session=session) as secure,
            ):
                secure.sendall(request("PUT", "/connect", REPORT, Connection="close"))
                answer = b""
                while more := secure.recv(65536):
                    answer += more
                session = secure.session
                answers.append((answer, bool(secure.session_reused)))
        return answers

    def logged(self, text: str) -> list[LogEvent]:
        return [each for each in self.events if text in (each.get("log_format") or "")]

    async def test_client_certificate(self) -> None:
        """A device is known by its TLS certificate; nothing else is needed."""
        status, body = await self.curl("--cert", "device.pem", "--key", "device.key")
        self.assertEqual((status, body), ("200", f"<{fingerprint(self.device)}>"))

    async def test_no_certificate(self) -> None:
        """Without one the handshake works and the request is refused, with an event."""
        status, body = await self.curl()
        self.assertEqual((status, body), ("400", "no client certificate"))
        self.assertEqual(self.refused, ["NoIdentity: no client certificate"])

    async def test_foreign_certificate(self) -> None:
        """One of another CA gets an answer and leaves a trace."""
        write_device(self.folder, "foreign", CertificateAuthority.create("Device CA", kind="ec"))
        ((answer, _),) = await self.ask("foreign")
        self.assertIn(b"HTTP/1.1 400 ", answer)
        self.assertEqual(len(self.refused), 1)
        (line,) = self.logged("{method} {path} {status}")
        self.assertEqual(line["error"], "NoIdentity")

    async def test_expired_certificate(self) -> None:
        """So does one whose time is over."""
        self.ahead = 11 * 86400
        ((answer, _),) = await self.ask("device")
        self.assertIn(b"HTTP/1.1 400 ", answer)
        self.assertEqual(len(self.refused), 1)

    async def test_resumption(self) -> None:
        """A resumed session, 1.2 or 1.3, still shows the certificate."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            answers = await self.ask("device", times=3, version=version)
            self.assertEqual([resumed for _, resumed in answers], [False, True, True], version)
            for answer, _ in answers:
                self.assertIn(fingerprint(self.device).encode(), answer)

    async def test_resumption_of_an_unknown_certificate(self) -> None:
        """Resuming does not make a foreign certificate good."""
        write_device(self.folder, "foreign", CertificateAuthority.create("Other", kind="ec"))
        answers = await self.ask("foreign", times=2)
        self.assertEqual([resumed for _, resumed in answers], [False, True])
        for answer, _ in answers:
            self.assertIn(b"HTTP/1.1 400 ", answer)

    async def test_no_tickets(self) -> None:
        """By option there is no resumption."""
        await self.start(tickets=False)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            answers = await self.ask("device", times=2, version=version)
            self.assertEqual([resumed for _, resumed in answers], [False, False])

    async def test_openssl_client(self) -> None:
        """What a sysadmin sees: 1.3, the device CA asked for, a ticket taken back."""
        common = (
            *("s_client", "-connect", f"127.0.0.1:{self.number}", "-CAfile", "ca.pem"),
            *("-verify_return_error", "-cert", "device.pem", "-key", "device.key"),
        )
        out = await self.run_tool(OPENSSL, *common, "-reconnect", "-tls1_2")
        self.assertEqual(out.count("Reused, TLSv1.2"), 5)
        self.assertIn("CN = Device CA", out)
        out = await self.run_tool(OPENSSL, *common, "-alpn", "h2,http/1.1")
        self.assertIn("New, TLSv1.3", out)
        self.assertIn("ALPN protocol: http/1.1", out)

    async def test_old_versions(self) -> None:
        """TLS 1.1 is refused, and said so in the log."""
        await self.run_tool(
            OPENSSL,
            *("s_client", "-connect", f"127.0.0.1:{self.number}", "-tls1_1"),
            *("-cipher", "ALL:@SECLEVEL=0"),
        )
        (line,) = self.logged("TLS with {peer} failed")
        self.assertEqual((line["peer"], line["reason"]), ("127.0.0.1", "unsupported protocol"))

    async def test_renegotiation(self) -> None:
        """A client that asks for it does not get it."""
        arguments = ("s_client", "-connect", f"127.0.0.1:{self.number}", "-tls1_2")
        out = await self.run_tool(OPENSSL, *arguments, stdin=b"R\n")
        self.assertIn("RENEGOTIATING", out)
        self.assertIn("no renegotiation", out)

    async def connect_plain(self) -> Collect:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.number)
        return await connectProtocol(endpoint, Collect())

    async def test_plain_http(self) -> None:
        """Somebody who forgot the s is hung up on, with a line in the log and no traceback."""
        client = await self.connect_plain()
        client.transport.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.lost
        self.assertNotIn(b"HTTP/", client.data)
        (line,) = self.logged("TLS with {peer} failed")
        self.assertEqual((line["peer"], line["reason"]), ("127.0.0.1", "http request"))
        self.assertEqual(self.site.channels, set())

    async def test_garbage(self) -> None:
        """Bytes that are nothing at all, too."""
        for garbage in (b"\x00" * 1000, b"\x16\x03\x01\xff\xff" + b"x" * 70000, os.urandom(500)):
            client = await self.connect_plain()
            client.transport.write(garbage)
            client.transport.loseWriteConnection()
            await client.lost
        self.assertEqual(self.site.channels, set())
        self.assertEqual((await self.ask("device"))[0][0][:12], b"HTTP/1.1 200")

    async def test_nothing_is_left_of_a_connection(self) -> None:
        """What one took is free once it is gone, however it ended: no collector is waited for."""
        # The tools used here leave something to be collected themselves.
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        await self.ask("device", times=3)
        await self.ask("")
        for sent in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(500), b"\x16\x03\x01\x02"):
            client = await self.connect_plain()
            client.transport.write(sent)
            client.transport.loseWriteConnection()
            await client.lost
        while self.site.channels:
            await deferLater(reactor, 0.01)
        await deferLater(reactor, 0)  # the event loop lets go of the last
        left = [each for each in gc.get_objects() if isinstance(each, Channel | TLSWire)]
        self.assertEqual(left, [])

    async def test_slow_handshake(self) -> None:
        """Somebody who never ends the handshake is cut off."""
        await self.start(request_timeout=0.2)
        began = reactor.seconds()
        client = await self.connect_plain()
        client.transport.write(b"\x16\x03\x01\x02")
        self.assertLess(await client.lost - began, 2)

    async def test_slow_client(self) -> None:
        """Somebody who never ends the request is cut off, over TLS too."""
        await self.start(request_timeout=0.3)
        began = reactor.seconds()
        await deferToThread(self._trickle)
        self.assertLess(reactor.seconds() - began, 3)
        self.assertEqual(self.site.counts.cut, 1)

    def _trickle(self) -> None:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        with (
            socket_to(self.number) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            secure.sendall(b"PUT /connect HTTP/1.1\r\nHost: x\r\n")
            secure.settimeout(5)
            assert secure.recv(1) == b""

    async def test_refused_body_over_tls(self) -> None:
        """A client in the middle of a large body still reads why it was refused."""
        await self.start(body=1000)
        answer = await deferToThread(self._push_on)
        self.assertIn(b"HTTP/1.1 400 ", answer)
        self.assertIn(b"the body is too large\n", answer)

    def _push_on(self) -> bytes:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        with (
            socket_to(self.number) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            secure.sendall(b"PUT /connect HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n")
            secure.sendall(b"x" * 300000)
            return secure.recv(65536)

    async def test_too_many_connections(self) -> None:
        """Beyond the limit the socket is closed at once, before any TLS."""
        await self.start(connections=1)
        first = await self.connect_plain()
        second = await self.connect_plain()
        await second.lost
        self.assertEqual(self.site.counts.turned_away, 1)
        first.transport.loseConnection()
        await first.lost

    async def test_reload(self) -> None:
        """A renewed certificate is used without a restart; a broken one is not."""
        before = await deferToThread(ssl.get_server_certificate, ("127.0.0.1", self.number))
        write_server(self.folder)
        self.context.reload()
        after = await deferToThread(ssl.get_server_certificate, ("127.0.0.1", self.number))
        self.assertNotEqual(before, after)
        (self.folder / "server.pem").write_text("nothing")
        self.assertRaises(BadCertificate, self.context.reload)
        again = await deferToThread(ssl.get_server_certificate, ("127.0.0.1", self.number))
        self.assertEqual(after, again)


class FilesTests(SynchronousTestCase):
    def test_bad_files(self) -> None:
        """Each mistake names its file, once."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_server(folder)
            other = new_key()
            (folder / "other.key").write_bytes(key_pem(other))
            (folder / "bad").write_text("nothing")
            for certificate, key, names in (
                ("missing", "server.key", "missing"),
                ("bad", "server.key", "bad"),
                ("server.pem", "missing", "missing"),
                ("server.pem", "bad", "bad"),
                ("server.pem", "other.key", "other.key"),
            ):
                with self.assertRaises(MdmdError) as caught:
                    ServerContext(folder / certificate, folder / key, [])
                self.assertIn(str(folder / names), str(caught.exception))
                self.assertEqual(str(caught.exception).count(str(folder / names)), 1)


def socket_to(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)
