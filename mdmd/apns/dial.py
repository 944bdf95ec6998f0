"""How a connection to APNs comes up: directly, or through an HTTP proxy."""

import base64
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mdmd.apns.connection import Connection, NotConnected
from mdmd.apns.tls import client_tls, explain
from mdmd.errors import BadCertificate
from mdmd.interfaces.push import Decision, PushOutcome
from mdmd.pki.pushcert import PushCertificate

MAX_PROXY_ANSWER = 8192  # bytes up to the end of its headers


class Dialer:
    """
    Bring a :class:`Connection` up.

    :param host: APNs' name or address; its certificate must be for it.
    :param trust: PEM of the roots to trust instead of the system's.
    :param timeout: seconds for the TCP connection.
    :param proxy: ``http://[user:password@]host:port`` to go through, None for none.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        trust: bytes | None,
        timeout: float,
        proxy: str | None,
    ) -> None:
        self._host = host
        self._port = port
        self._trust = trust
        if proxy is None:
            self._road: Any = HostnameEndpoint(reactor, host, port, timeout)
        else:
            self._road = ProxyEndpoint(reactor, proxy, host, port, timeout)

    async def __call__(self, certificate: PushCertificate, connection: Connection) -> None:
        """
        Connect, and wait until HTTP/2 is up.

        :raises NotConnected: with the reason; the connection is of no use then.
        """
        try:
            endpoint: Any = wrapClientTLS(
                client_tls(self._host, certificate, self._trust), self._road
            )
            await endpoint.connect(Factory.forProtocol(lambda: connection))
        except ConnectingCancelledError:
            raise CancelledError() from None
        except (CancelledError, NotConnected):
            raise
        except BadCertificate as error:
            raise NotConnected(PushOutcome(Decision.ALARM, reason=str(error))) from error
        except Exception as error:  # the network's, TLS's and the resolver's, of many classes
            raise NotConnected(explain(error, self._host)) from error
        await connection.ready


@implementer(IStreamClientEndpoint)
class ProxyEndpoint:
    """
    A road through an HTTP proxy, by CONNECT.

    Source: RFC 9110, section 9.3.6; RFC 7617 for the credentials.
    """

    def __init__(self, reactor: Any, proxy: str, host: str, port: int, timeout: float) -> None:
        parts = urlsplit(proxy)
        assert parts.hostname is not None, "the configuration has checked it"
        self._proxy: Any = HostnameEndpoint(reactor, parts.hostname, parts.port or 80, timeout)
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if parts.username is not None:
            both = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(both.encode()).decode()}")
        self._ask = "\r\n".join([*lines, "", ""]).encode()

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[Any]":
        """Connect to the proxy, then through it; fires with the protocol of the far end."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, inner: IProtocolFactory) -> Any:
        done: Deferred[Any] = Deferred()
        tunnel = _Tunnel(self._ask, cast(Any, inner).buildProtocol, done)
        try:
            await self._proxy.connect(Factory.forProtocol(lambda: tunnel))
        except (CancelledError, ConnectingCancelledError):
            raise
        except Exception as error:
            reason = f"no connection to the proxy: {error}"
            raise NotConnected(PushOutcome(Decision.RETRY, reason=reason)) from error
        try:
            return await done
        except CancelledError:
            tunnel.transport.abortConnection()
            raise


class _Tunnel(Protocol):
    """Ask the proxy, then carry the bytes of the protocol inside."""

    transport: Any

    def __init__(
        self,
        ask: bytes,
        build: Callable[[Any], Any],
        done: "Deferred[Any]",
    ) -> None:
        self._ask = ask
        self._build = build
        self._done = done
        self._answer = b""
        self._inner: Any = None

    def connectionMade(self) -> None:
        self.transport.write(self._ask)

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        self._answer += data
        head, end, rest = self._answer.partition(b"\r\n\r\n")
        if not end and len(head) <= MAX_PROXY_ANSWER:
            return
        version, _, words = head.split(b"\r\n", 1)[0].partition(b" ")
        if not end or not version.startswith(b"HTTP/1.") or not words[:3].isdigit():
            self._fail(Decision.RETRY, "the proxy does not speak HTTP")
        elif not words.startswith(b"2"):
            said = words[:100].decode("ascii", "replace")
            refused = words[:3] in (b"401", b"403", b"405", b"407")
            self._fail(Decision.ALARM if refused else Decision.RETRY, f"the proxy refused: {said}")
        else:
            self._begin(rest)

    def connectionLost(self, reason: Failure | None = None) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self._done.called:
            self._fail(Decision.RETRY, "the proxy closed the connection")

    def _begin(self, rest: bytes) -> None:
        self._answer = b""
        self._inner = self._build(self.transport.getPeer())
        self._inner.makeConnection(self.transport)
        self._done.callback(self._inner)
        if rest:
            self._inner.dataReceived(rest)

    def _fail(self, decision: Decision, reason: str) -> None:
        self.transport.abortConnection()
        if not self._done.called:
            self._done.errback(NotConnected(PushOutcome(decision, reason=reason)))
