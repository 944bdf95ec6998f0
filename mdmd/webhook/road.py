"""The road to a target: addresses that are allowed, and TLS that is verified."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
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
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from mdmd.errors import BadCertificate
from mdmd.webhook.target import Target

ANSWER_LIMIT = 128 * 1024  # bytes of an answer, headers and all, that are taken

# Where an IPv6 address has an IPv4 address in it that it may lead to, and how many bits come
# after that. Source: RFC 4291 (compatible, mapped), RFC 7915, RFC 6052, RFC 3056.
_CARRIERS = (
    (ip_network("::/96"), 0),
    (ip_network("::ffff:0:0/96"), 0),
    (ip_network("::ffff:0:0:0/96"), 0),
    (ip_network("64:ff9b::/96"), 0),
    (ip_network("2002::/16"), 80),
)
# Not the Internet's, though some versions of Python take them for it: site-local (RFC 3879),
# translation within a network (RFC 8215), 6to4 relays (RFC 7526), documentation (RFC 9637),
# segment routing (RFC 9602).
_NEVER = tuple(
    map(
        ip_network,
        ("fec0::/10", "64:ff9b:1::/48", "192.88.99.0/24", "3fff::/20", "5f00::/16"),
    )
)


class NotAllowedThere(Exception):
    """The target's name stands for an address that it may not have."""


def is_public(text: str) -> bool:
    """Say whether an IP address is one of the Internet's; so must be one that is within it."""
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        for network, after in _CARRIERS:
            if address in network:
                address = IPv4Address(int(address) >> after & 0xFFFFFFFF)
                break
    return (
        address.is_global
        and not address.is_multicast
        and not any(address in each for each in _NEVER)
    )


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
        road: Any = _Guarded(self._reactor, host, uri.port, self._target)
        if uri.scheme != b"http":
            road = wrapClientTLS(optionsForClientTLS(host, trustRoot=self._roots), road)
        return _Bounded(road)


class AnswerTooLong(Exception):
    """The target's answer has no end."""


class _Counted(ProtocolWrapper):
    """One connection: what comes between two requests of ours is an answer, and has a limit."""

    _size = 0
    _over = False

    def write(self, data: bytes) -> None:
        self._size = 0
        super().write(data)  # type: ignore[no-untyped-call]

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self._size = 0
        super().writeSequence(data)  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= ANSWER_LIMIT:
            super().dataReceived(data)  # type: ignore[no-untyped-call]
        elif not self._over:
            self._over = True
            self.abortConnection()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        if self._over:
            reason = Failure(AnswerTooLong("the answer has no end"))  # type: ignore[no-untyped-call]
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


class _CountedFactory(WrappingFactory):
    protocol = _Counted
    noisy = False


@implementer(IStreamClientEndpoint)
class _Bounded:
    """Limits answers: Twisted takes as many headers as a target sends."""

    def __init__(self, road: Any) -> None:
        self._road = road

    def connect(self, factory: Any) -> "Deferred[Any]":
        wrapped = _CountedFactory(factory)  # type: ignore[no-untyped-call]
        done: Deferred[Any] = self._road.connect(wrapped)
        return done.addCallback(lambda counted: counted.wrappedProtocol)


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
