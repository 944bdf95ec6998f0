"""The road to a target: addresses that are allowed, and TLS that is verified."""

from ipaddress import IPv6Address, ip_address
from typing import Any

from cryptography import x509
from OpenSSL.crypto import X509
from twisted.internet.address import IPv4Address as TwistedIPv4
from twisted.internet.address import IPv6Address as TwistedIPv6
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IResolutionReceiver, IStreamClientEndpoint
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from mdmd.errors import BadCertificate
from mdmd.webhook.target import Target


class NotAllowedThere(Exception):
    """The target's name stands for an address that it may not have."""


def is_public(text: str) -> bool:
    """Say whether an IP address is one of the Internet's."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_global and not address.is_multicast


def make_agent(reactor: Any, target: Target) -> tuple[Agent, HTTPConnectionPool]:
    """
    Make what sends requests to a target, and the pool of the connections that it keeps.

    :raises BadCertificate: the target's CA can't be read.
    """
    pool = HTTPConnectionPool(reactor, persistent=True)  # type: ignore[no-untyped-call]
    pool.maxPersistentPerHost = target.at_once
    pool.cachedConnectionTimeout = 60
    pool.retryAutomatically = False
    roots = None if target.roots is None else read_roots(target.roots)
    endpoints = _Endpoints(reactor, target, roots)
    return Agent.usingEndpointFactory(reactor, endpoints, pool), pool  # type: ignore[no-untyped-call]


def read_roots(pem: bytes) -> Any:  # an IOpenSSLTrustRoot; Twisted has no public name for it
    """
    Read the CAs to trust.

    :raises BadCertificate: there is none in it.
    """
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise BadCertificate("the CA of a webhook can't be read") from error
    held = [Certificate(X509.from_cryptography(each)) for each in found]  # type: ignore[no-untyped-call]
    return trustRootFromCertificates(held)  # type: ignore[no-untyped-call]


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """For Twisted's Agent."""

    def __init__(self, reactor: Any, target: Target, roots: Any) -> None:
        self._reactor = reactor
        self._target = target
        self._roots = roots

    def endpointForURI(self, uri: Any) -> Any:
        host = uri.host.decode("ascii")
        plain: Any = _Guarded(self._reactor, host, uri.port, self._target)
        if uri.scheme == b"http":
            return plain
        return wrapClientTLS(optionsForClientTLS(host, trustRoot=self._roots), plain)


@implementer(IStreamClientEndpoint)
class _Guarded:
    """
    Connects to the addresses of a name that are allowed, in their order.

    The addresses are checked that are then connected to: a name that changes its
    mind in between gains nothing.
    """

    def __init__(self, reactor: Any, host: str, port: int, target: Target) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._private = target.private
        self._timeout = target.timeout

    def connect(self, factory: Any) -> "Deferred[Any]":
        return Deferred.fromCoroutine(self._connect(factory))

    async def _connect(self, factory: Any) -> Any:
        addresses = await _resolve(self._reactor, self._host, self._port)
        allowed = [each for each in addresses if self._private or is_public(each.host)]
        if addresses and not allowed:
            raise NotAllowedThere(
                f"{self._host} is at a loopback or private address, which `private = yes` allows"
            )
        trouble: Exception = DNSLookupError(f"no address found for {self._host}")
        for each in allowed:
            kind = TCP6ClientEndpoint if isinstance(each, TwistedIPv6) else TCP4ClientEndpoint
            endpoint: Any = kind(self._reactor, each.host, self._port, self._timeout)
            try:
                return await endpoint.connect(factory)
            except ConnectError as error:
                trouble = error
        raise trouble


async def _resolve(reactor: Any, host: str, port: int) -> list[TwistedIPv4 | TwistedIPv6]:
    done: Deferred[None] = Deferred()
    found: list[TwistedIPv4 | TwistedIPv6] = []

    @implementer(IResolutionReceiver)
    class Receiver:
        """Twisted tells addresses one by one."""

        def resolutionBegan(self, _: object) -> None:
            pass

        def addressResolved(self, address: Any) -> None:
            found.append(address)

        def resolutionComplete(self) -> None:
            done.callback(None)

    reactor.nameResolver.resolveHostName(Receiver(), host, port)
    await done
    return found
