"""Make a connection to the store: TCP, TLS, a unix socket, or the master that sentinels name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from OpenSSL.crypto import X509
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.logger import Logger

from mdmd.errors import StoreUnavailable
from mdmd.store.address import Address
from mdmd.store.wire import Wire, explain, greet

log = Logger()


class _Wires(Factory):
    protocol = Wire
    noisy = False


async def dial(reactor: Any, address: Address, timeout: float, ca: Path | None) -> Wire:
    """
    Connect and log in.

    :param timeout: seconds for all of it.
    :raises StoreUnavailable: the text says why, without a password.
    """
    attempt = Deferred.fromCoroutine(_dial(reactor, address, timeout, ca))
    attempt.addTimeout(timeout, reactor)
    try:
        return await attempt
    except DeferredTimeout:
        raise StoreUnavailable("no answer in time") from None


async def reach(reactor: Any, address: Address, timeout: float) -> Wire:
    """
    Connect to a socket without logging in or looking at the server.

    :raises StoreUnavailable: nobody listens there.
    """
    return await _connect(_endpoint(reactor, address, timeout, None), _nothing)


async def _nothing(wire: Wire) -> None:
    pass


async def _dial(reactor: Any, address: Address, timeout: float, ca: Path | None) -> Wire:
    if address.kind == "sentinel":
        host, port = await _ask_sentinels(reactor, address, timeout)
        endpoint: Any = HostnameEndpoint(reactor, host, port, timeout)
    else:
        endpoint = _endpoint(reactor, address, timeout, ca)
    return await _connect(
        endpoint, lambda wire: greet(wire, address.user, address.password, address.db)
    )


def _endpoint(reactor: Any, address: Address, timeout: float, ca: Path | None) -> Any:
    if address.kind == "unix":
        return UNIXClientEndpoint(reactor, address.path, timeout)  # type: ignore[no-untyped-call]
    ((host, port),) = address.hosts
    plain = _plain(reactor, host, port, timeout)
    if address.kind == "tcp":
        return plain
    return wrapClientTLS(optionsForClientTLS(host, trustRoot=_roots(ca)), plain)


def _plain(reactor: Any, host: str, port: int, timeout: float) -> Any:
    # What is an address already need not wait for a thread that resolves names.
    if isIPAddress(host):
        return TCP4ClientEndpoint(reactor, host, port, timeout)
    if isIPv6Address(host):
        return TCP6ClientEndpoint(reactor, host, port, timeout)  # type: ignore[no-untyped-call]
    return HostnameEndpoint(reactor, host, port, timeout)


def _roots(ca: Path | None) -> Any:  # an IOpenSSLTrustRoot, None for the system's
    if ca is None:
        return None
    try:
        roots = x509.load_pem_x509_certificates(ca.read_bytes())
    except (OSError, ValueError) as error:
        raise StoreUnavailable(f"the trusted certificates {ca} can't be read: {error}") from None
    held = [Certificate(X509.from_cryptography(each)) for each in roots]  # type: ignore[no-untyped-call]
    return trustRootFromCertificates(held)  # type: ignore[no-untyped-call]


async def _connect(endpoint: Any, prepare: Callable[[Wire], Any]) -> Wire:
    try:
        wire: Wire = await endpoint.connect(_Wires())
    except CancelledError:
        raise
    except Exception as error:  # whatever an endpoint may meet: DNS, the system, TLS
        raise StoreUnavailable(explain(error)) from None
    try:
        await prepare(wire)
    except BaseException:
        wire.abort("it was not wanted")
        raise
    return wire


# -- sentinels ------------------------------------------------------------------------------


async def _ask_sentinels(reactor: Any, address: Address, timeout: float) -> tuple[str, int]:
    """
    Ask one sentinel after the other where the master is.

    :raises StoreUnavailable: none knows.
    """
    share = timeout / (len(address.hosts) + 1)
    reasons = []
    for host, port in address.hosts:
        attempt = Deferred.fromCoroutine(_ask_sentinel(reactor, address, host, port))
        attempt.addTimeout(share, reactor)
        try:
            return await attempt
        except DeferredTimeout:
            reasons.append(f"{host}:{port} did not answer in time")
        except StoreUnavailable as error:
            reasons.append(f"{host}:{port}: {error}")
    raise StoreUnavailable("no sentinel knows the master; " + "; ".join(reasons))


async def _ask_sentinel(reactor: Any, address: Address, host: str, port: int) -> tuple[str, int]:
    found: list[Any] = []

    async def ask(wire: Wire) -> None:
        found.extend(await wire.ask(*_login(address), _where(address)))

    wire = await _connect(HostnameEndpoint(reactor, host, port), ask)
    wire.transport.loseConnection()
    where = found[-1]
    if isinstance(where, Exception):
        raise StoreUnavailable(f"it refuses: {where}")
    if where is None:
        raise StoreUnavailable(f"it knows no master named {address.master}")
    return where[0].decode(), int(where[1])


def _where(address: Address) -> tuple[str, ...]:
    return ("SENTINEL", "get-master-addr-by-name", address.master)


def _login(address: Address) -> list[tuple[str, ...]]:
    # A sentinel may want the password, or know of none: its answer to AUTH does not matter,
    # only that to the question.
    if address.password is None:
        return []
    return [
        ("AUTH", address.user, address.password) if address.user else ("AUTH", address.password)
    ]
