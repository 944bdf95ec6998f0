"""Other people's programs as APNs, as processes; certificates of a throw-away CA for both sides."""

import datetime
import ipaddress
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
from twisted.internet.task import deferLater

from mdmd.apns.client import PushService, Settings
from mdmd.interfaces.push import Notification, PushOutcome
from mdmd.pki import certificates
from tests.apnshelp import Certificates

reactor: Any = installed_reactor
NODE = shutil.which("node")
NGHTTPD = shutil.which("nghttpd")
OPENSSL = shutil.which("openssl")
DAY = datetime.timedelta(days=1)
HERE = Path(__file__).parent


class Authority:
    """A CA for a stand-in and for the push certificates that it takes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = certificates.new_key()
        self.certificate = self._issue(
            certificates.name("Push CA"), self.key, x509.BasicConstraints(True, None)
        )
        self.pem = certificates.certificate_pem(self.certificate)
        self.file("ca.pem", self.pem)
        self.server("localhost")

    def file(self, name: str, data: bytes) -> str:
        """Write a file, say where."""
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    def server(self, *names: str) -> tuple[str, str]:
        """Make the server's pair; (key file, certificate file)."""
        key = certificates.new_key()
        alternative = x509.SubjectAlternativeName(
            [*map(x509.DNSName, names), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        certificate = self._issue(certificates.name(names[0]), key, alternative)
        return (
            self.file(f"{names[0]}.key", certificates.key_pem(key)),
            self.file(f"{names[0]}.pem", certificates.certificate_pem(certificate)),
        )

    def push_pair(self, topic: str, days: int = 365, ago: int = 1) -> tuple[bytes, bytes, int]:
        """Make a push certificate; (certificate PEM, key PEM, not_after)."""
        key = certificates.new_key()
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.USER_ID, topic),
                x509.NameAttribute(NameOID.COMMON_NAME, f"APSP:{topic[-36:]}"),
            ]
        )
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        certificate = self._issue(subject, key, usage, days, ago)
        not_after = int(certificate.not_valid_after_utc.timestamp())
        return certificates.certificate_pem(certificate), certificates.key_pem(key), not_after

    def _issue(
        self, subject: x509.Name, key: Any, extension: Any, days: int = 365, ago: int = 1
    ) -> x509.Certificate:
        start = datetime.datetime.now(datetime.UTC) - ago * DAY
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(certificates.name("Push CA"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + days * DAY)
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .sign(self.key, hashes.SHA256())
        )


class Program(ProcessProtocol):
    """A process that tells its port, or listens on one that it was given."""

    def __init__(self, *argv: str, on_line: Callable[[Any], None] = lambda line: None) -> None:
        self.lines: list[Any] = []
        self.ended: Deferred[None] = Deferred()
        self._awaited: list[Deferred[Any]] = []
        self._on_line = on_line
        self._rest = b""
        self.errors = b""
        self.process = reactor.spawnProcess(self, argv[0], argv, env=None)

    def line(self) -> "Deferred[Any]":
        """Wait for its next line of JSON."""
        awaited: Deferred[Any] = Deferred()
        if self.lines:
            awaited.callback(self.lines.pop(0))
        else:
            self._awaited.append(awaited)
        return awaited

    def outReceived(self, data: bytes) -> None:
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            if not line.startswith(b"{"):
                continue
            told = json.loads(line)
            self._on_line(told)
            if self._awaited:
                self._awaited.pop(0).callback(told)
            else:
                self.lines.append(told)

    def errReceived(self, data: bytes) -> None:
        self.errors += data
        sys.stderr.write(data.decode(errors="replace"))  # pytest shows it with a failure

    def processEnded(self, reason: Any) -> None:
        for each in self._awaited:
            each.errback(AssertionError(f"it ended: {self.errors.decode()}"))
        self.ended.callback(None)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.signalProcess(number)

    async def kill(self) -> None:
        """End it, however it is."""
        if not self.ended.called:
            self.process.signalProcess("KILL")
        await self.ended


async def listening(port: int) -> None:
    """Wait until a program listens on a port of loopback."""
    road = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    while True:
        try:
            protocol = await road.connect(Factory.forProtocol(Protocol))
        except ConnectionRefusedError:
            await deferLater(reactor, 0.02)
        else:
            protocol.transport.abortConnection()
            return


class NodeApns:
    """``tests/apns_node.mjs``, running."""

    def __init__(self, authority: Authority, **config: Any) -> None:
        self._config = {
            "key": str(authority.folder / "localhost.key"),
            "cert": str(authority.folder / "localhost.pem"),
            "ca": str(authority.folder / "ca.pem"),
            **config,
        }
        self.port = 0

    async def start(self, on_line: Callable[[Any], None] = lambda line: None) -> "NodeApns":
        """Wait until it listens."""
        assert NODE is not None
        self.program = Program(
            NODE, str(HERE / "apns_node.mjs"), json.dumps(self._config), on_line=on_line
        )
        self.port = (await self.program.line())["port"]
        return self

    async def report(self) -> Mapping[str, Any]:
        """End it; say what it has seen."""
        self.program.process.closeStdin()
        while True:
            line = await self.program.line()
            if "seen" in line:
                await self.program.ended
                return dict(line)


def service(
    authority: Authority, port: int, *topics: str, **settings: Any
) -> tuple[PushService, Certificates]:
    """Make a push service for a stand-in on loopback, with a certificate for each topic."""
    held = Certificates()
    for topic in topics:
        certificate, key, not_after = authority.push_pair(topic)
        held.held[topic] = (1, certificate, key, not_after)
    chosen = Settings(**{"host": "localhost", "port": port, "trust": authority.pem, **settings})
    made = PushService(reactor, chosen, held, wall=time.time)  # type: ignore[arg-type]
    return made, held


def push(service: PushService, notification: Notification) -> "Deferred[PushOutcome]":
    """Begin one push."""
    return Deferred.fromCoroutine(service.push(notification))


STOP, GO = signal.SIGSTOP, signal.SIGCONT
