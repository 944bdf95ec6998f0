"""
Who sends a request: a certificate of our device CA, and how it was shown.

Three ways, strongest first, each switched on by configuration: the TLS client
certificate, ``Mdm-Signature`` over the body, a header of a trusted proxy. The
first one that is *there* decides: if it does not hold, the request is refused,
whatever the others say.
"""

import base64
import binascii
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Protocol
from urllib.parse import unquote_to_bytes

import attrs
from cryptography import x509

from mdmd.errors import BadCertificate, BadSignature, NoIdentity
from mdmd.interfaces.identity import Identity
from mdmd.pki import signed_data
from mdmd.pki.certificates import certificate_der, chain_ok, load_certificate
from mdmd.pki.cms import verify_detached

_REMEMBERED = 16384  # certificates; some 10 MB when full


class Source(StrEnum):
    """The ways to show an identity, spelled as in the configuration."""

    TLS = "tls"
    SIGNATURE = "mdm-signature"
    HEADER = "header"


class HasHeaders(Protocol):
    """The headers of a request."""

    def getRawHeaders(self, name: bytes, default: Sequence[bytes]) -> Sequence[bytes]:
        """Give the values of a header in order."""


class Shows(Protocol):
    """What is asked of a request."""

    @property
    def requestHeaders(self) -> HasHeaders:
        """All headers."""

    def peer_certificate(self) -> bytes | None:
        """Give the TLS client certificate, DER, unchecked; None if none was shown."""

    def getClientAddress(self) -> object:
        """Give the address of the other end of the connection."""


@attrs.frozen
class _Known:
    identity: Identity
    begins: float  # epoch seconds; its own and its issuer's
    ends: float


class Identities:
    """
    Tell identities by certificates.

    :param trust: the device CAs; an identity is issued by one of them directly.
    :param sources: what counts, in any order.
    :param proxies: whose header counts: addresses, networks (``10.0.0.0/8``), or
        ``unix`` for whoever reaches us over a unix socket.
    :param header: the name of that header: RFC 9440 (``:base64:``) or URL-escaped PEM.
    :param clock: seconds since the epoch.
    :param expired: let expired certificates in, marked as such.
    :param sha1: take an Mdm-Signature over SHA-1, too.
    :raises ValueError: a source or proxy that is none.
    """

    def __init__(
        self,
        trust: Sequence[x509.Certificate],
        clock: Callable[[], float],
        sources: Collection[str] = (Source.TLS,),
        proxies: Collection[str] = (),
        header: str = "Client-Cert",
        remembered: int = _REMEMBERED,
        expired: bool = False,
        sha1: bool = False,
    ) -> None:
        self._trust = tuple(trust)
        self._clock = clock
        self._sources = frozenset(Source(each) for each in sources)
        self._unix = "unix" in proxies
        self._networks = tuple(ip_network(each) for each in proxies if each != "unix")
        self._header = header
        self._remembered = remembered
        self._expired = expired
        self._sha1 = sha1
        # Checking a chain costs as much as all the rest of a request: once per certificate.
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def identify(self, request: Shows, body: bytes) -> Identity:
        """
        Say whose request this is.

        :raises NoIdentity: it shows no certificate, or none of ours that is valid today.
        :raises BadSignature: its Mdm-Signature is not one over ``body``.
        :raises BadCertificate: what the proxy passed on is no certificate.
        """
        if Source.TLS in self._sources:
            shown = request.peer_certificate()
            if shown is not None:
                return self._check(shown)
        if Source.SIGNATURE in self._sources:
            signature = _only(request.requestHeaders, "Mdm-Signature")
            if signature is not None:
                return self._check(certificate_der(self._signer(signature, body)))
        if Source.HEADER in self._sources and self._is_proxy(request.getClientAddress()):
            passed_on = _only(request.requestHeaders, self._header)
            if passed_on:
                return self._check(certificate_der(read_header(passed_on)))
        raise NoIdentity("no client certificate")

    def _signer(self, signature: bytes, body: bytes) -> x509.Certificate:
        return verify_detached(_unbase64(signature), body, legacy=self._sha1)

    def knows(self, request: Shows) -> bool:
        """
        Say whether a certificate of ours comes with a request whose body is still to come.

        A signature can't be checked before the body is there: this opens no door,
        it only says how large the body may be.
        """
        try:
            return any(map(self._check, self._shown(request)))
        except (NoIdentity, BadCertificate):
            return False

    def _shown(self, request: Shows) -> Iterator[bytes]:
        """Give the certificates that come with a request, DER, the one that decides first."""
        if Source.TLS in self._sources:
            shown = request.peer_certificate()
            if shown is not None:
                yield shown
        if Source.SIGNATURE in self._sources:
            signature = _only(request.requestHeaders, "Mdm-Signature")
            if signature is not None:
                yield from signed_data.read(_unbase64(signature)).certificates
        if Source.HEADER in self._sources and self._is_proxy(request.getClientAddress()):
            passed_on = _only(request.requestHeaders, self._header)
            if passed_on:
                yield certificate_der(read_header(passed_on))

    def _check(self, der: bytes) -> Identity:
        # Known by its bytes, so that most requests parse no certificate at all.
        mark = sha256(der).hexdigest()
        now = self._clock()
        known = self._known.get(mark)
        if known is None:
            moment = datetime.fromtimestamp(now, UTC)
            known = self._known[mark] = self._verify(load_certificate(der), mark, moment)
            if len(self._known) > self._remembered:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(mark)
        if known.begins <= now <= known.ends:
            return known.identity
        if self._expired and known.identity.not_before <= now:
            return attrs.evolve(known.identity, expired=True)
        raise NoIdentity("the client certificate has expired")

    def _verify(self, certificate: x509.Certificate, mark: str, now: datetime) -> _Known:
        # An expired one is known by how it was on its last day.
        moment = min(now, certificate.not_valid_after_utc) if self._expired else now
        for issuer in self._trust:
            if chain_ok(certificate, issuer, moment):
                identity = Identity(
                    fingerprint=mark,
                    serial=f"{certificate.serial_number:x}",
                    not_after=int(certificate.not_valid_after_utc.timestamp()),
                    not_before=int(certificate.not_valid_before_utc.timestamp()),
                )
                return _Known(
                    identity,
                    max(identity.not_before, issuer.not_valid_before_utc.timestamp()),
                    min(identity.not_after, issuer.not_valid_after_utc.timestamp()),
                )
        raise NoIdentity("the client certificate is not a valid one of this server's device CA")

    def _is_proxy(self, address: object) -> bool:
        host = getattr(address, "host", None)
        if host is None:
            return self._unix
        try:
            # A zone (fe80::1%eth0) is no part of what an administrator lists.
            ip = ip_address(str(host).partition("%")[0])
        except ValueError:
            return False
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        return any(ip in network for network in self._networks)


def read_header(value: bytes) -> x509.Certificate:
    """
    Read the certificate that a proxy passes on.

    Source: RFC 9440, section 2.1 (a Structured Field byte sequence, DER); or what
    nginx calls ``$ssl_client_escaped_cert``: PEM, percent-encoded.

    :raises BadCertificate: it is neither.
    """
    if value.startswith(b":"):
        if len(value) < 2 or not value.endswith(b":"):
            raise BadCertificate("the certificate header is not a byte sequence")
        try:
            return load_certificate(base64.b64decode(value[1:-1], validate=True))
        except binascii.Error:
            raise BadCertificate("the certificate header is not base64") from None
    return load_certificate(unquote_to_bytes(value))


def _only(headers: HasHeaders, name: str) -> bytes | None:
    """Give a header's value, None if it is not there; two of them would be somebody's trick."""
    values = headers.getRawHeaders(name.encode("ascii"), [])
    if len(values) > 1:
        raise NoIdentity(f"more than one {name} header")
    return values[0] if values else None


def _unbase64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise BadSignature("Mdm-Signature is not base64") from None
