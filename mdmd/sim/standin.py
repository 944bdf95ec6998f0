"""Apple's push service on loopback, whole: certificates, listeners, courier."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint

from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import certificate_pem, key_pem, new_key
from mdmd.sim.apns import OK, Push, PushService, Reply, server_tls
from mdmd.sim.courier import Courier

_HOST = "127.0.0.1"
_UID = x509.ObjectIdentifier("0.9.2342.19200300.100.1.1")


class StandIn:
    """
    The push service, the courier to the devices, and a push certificate that it takes.

    :ivar trust: PEM of the CA that its certificate comes from.
    :ivar push_certificate: PEM, certificate and key.
    :ivar woken: called besides the courier, with each push accepted.
    """

    def __init__(
        self,
        reactor: Any,
        authority: CertificateAuthority,
        push_certificate: bytes,
        answer: Callable[[Push], Reply],
    ) -> None:
        self.trust = certificate_pem(authority.certificate)
        self.push_certificate = push_certificate
        self.woken: Callable[[Push], object] = lambda _: None
        self.port = self.courier_port = 0
        self.courier = Courier()
        self.service = PushService(reactor, self._pushed, answer)
        self._reactor = reactor
        self._tls = server_tls(*authority.issue_server(["localhost", _HOST], days=30))
        self._listening: list[Any] = []

    @classmethod
    def make(
        cls, reactor: Any, topic: str, answer: Callable[[Push], Reply] = lambda _: OK
    ) -> "StandIn":
        """Make one with certificates of its own."""
        authority = CertificateAuthority.create("Stand-in for Apple", kind="ec")
        return cls(reactor, authority, make_push_certificate(topic), answer)

    async def listen(self, port: int = 0, courier_port: int = 0) -> None:
        """Open both ports on loopback; 0: a free one."""
        pushes: Any = SSL4ServerEndpoint(self._reactor, port, self._tls, interface=_HOST)  # type: ignore[no-untyped-call]
        courier: Any = TCP4ServerEndpoint(self._reactor, courier_port, interface=_HOST)  # type: ignore[no-untyped-call]
        for endpoint, factory in ((pushes, self.service), (courier, self.courier)):
            self._listening.append(await endpoint.listen(factory))
        self.port, self.courier_port = (each.getHost().port for each in self._listening)

    async def close(self) -> None:
        """Close the ports and cut what is connected."""
        for port in self._listening:
            await port.stopListening()
        self._listening = []
        self.service.cut()
        self.courier.cut()

    def _pushed(self, push: Push) -> None:
        self.courier.pushed(push)
        self.woken(push)


def make_push_certificate(topic: str, days: int = 365) -> bytes:
    """Make a push certificate that only the stand-in takes: PEM, certificate and key."""
    key = new_key()
    name = x509.Name(
        [x509.NameAttribute(_UID, topic), x509.NameAttribute(NameOID.COMMON_NAME, "APSP:stand-in")]
    )
    start = datetime.now(UTC) - timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate_pem(certificate) + key_pem(key)
