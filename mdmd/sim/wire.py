"""A device's side of HTTPS: its certificate shown, the server's checked, one connection kept."""

import base64
from collections.abc import Sequence
from typing import Any

import attrs
from cryptography import x509
from OpenSSL.crypto import X509, PKey
from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IPolicyForHTTPS
from zope.interface import implementer

from mdmd.errors import MdmdError
from mdmd.pki import cms
from mdmd.pki.certificates import PrivateKey

CHECKIN_TYPE = "application/x-apple-aspen-mdm-checkin"
REPORT_TYPE = "application/xml; charset=UTF-8"
PKI_TYPE = "application/x-pki-message"


class NoServer(MdmdError):
    """The server can't be reached, is not trusted, or does not answer."""


@attrs.frozen
class Identity:
    """A device's certificate and its key."""

    certificate: x509.Certificate
    key: PrivateKey = attrs.field(repr=False)


@attrs.frozen
class Response:
    """What the server answered."""

    status: int
    body: bytes = attrs.field(repr=False)

    def text(self) -> str:
        """Say it in one line, for a person."""
        words = " ".join(self.body[:200].decode(errors="replace").split())
        return f"{self.status} {words}".strip()


class Wire:
    """
    Requests to one server, one at a time.

    :param trust: DER of the roots to trust; none: the system's.
    :param identity: None: no client certificate is shown.
    :param sign: send an Mdm-Signature with each message.
    :param timeout: seconds that a request may take.
    """

    def __init__(
        self,
        reactor: Any,
        trust: Sequence[bytes],
        identity: Identity | None = None,
        sign: bool = False,
        timeout: float = 60.0,
    ) -> None:
        self._reactor = reactor
        self._identity = identity if sign else None
        self._timeout = timeout
        self._pool = HTTPConnectionPool(reactor)  # type: ignore[no-untyped-call]
        self._pool.maxPersistentPerHost = 1
        policy: Any = _Policy(trust, identity)
        self._agent = Agent(  # type: ignore[no-untyped-call]
            reactor, policy, connectTimeout=timeout, pool=self._pool
        )

    async def get(self, url: str) -> Response:
        """
        GET.

        :raises NoServer: no answer.
        """
        return await self._ask(b"GET", url, None, {})

    async def post(self, url: str, body: bytes, content_type: str) -> Response:
        """
        POST.

        :raises NoServer: no answer.
        """
        return await self._ask(b"POST", url, body, {"Content-Type": content_type})

    async def put(self, url: str, body: bytes, content_type: str) -> Response:
        """
        PUT a message, as a device does; once more if a kept connection turns out to be dead.

        :raises NoServer: no answer.
        """
        headers = {"Content-Type": content_type}
        if self._identity is not None:
            who = self._identity
            signature = cms.sign_detached(body, who.certificate, who.key)
            headers["Mdm-Signature"] = base64.b64encode(signature).decode()
        return await self._ask(b"PUT", url, body, headers)

    async def close(self) -> None:
        """Hang up."""
        # Whoever has just read an answer is called before its connection is back in the pool.
        await deferLater(self._reactor, 0)
        closed: Any = self._pool.closeCachedConnections()  # type: ignore[no-untyped-call]
        await closed

    async def _ask(
        self, method: bytes, url: str, body: bytes | None, headers: dict[str, str]
    ) -> Response:
        try:
            return await self._once(method, url, body, headers)
        except (ResponseNeverReceived, RequestTransmissionFailed) as error:
            # Usually the server closed a connection that we had kept; all that a
            # device says may be said twice.
            if _cause(error, TLSError, VerificationError) is not None:
                raise NoServer(f"{_place(url)}: {_words(error)}") from error
        except _FAILED as error:
            raise NoServer(f"{_place(url)}: {_words(error)}") from error
        try:
            return await self._once(method, url, body, headers)
        except _FAILED as error:
            raise NoServer(f"{_place(url)}: {_words(error)}") from error

    async def _once(
        self, method: bytes, url: str, body: bytes | None, headers: dict[str, str]
    ) -> Response:
        asked = Deferred.fromCoroutine(self._request(method, url, body, headers))
        asked.addTimeout(self._timeout, self._reactor)
        return await asked

    async def _request(
        self, method: bytes, url: str, body: bytes | None, headers: dict[str, str]
    ) -> Response:
        sent = Headers({"User-Agent": ["MDM-OSX/1.0 mdmclient"]})
        for name, value in headers.items():
            sent.addRawHeader(name, value)
        producer: Any = None if body is None else _Body(body)
        try:
            response: Any = await self._agent.request(method, url.encode(), sent, producer)
        except (ResponseNeverReceived, RequestTransmissionFailed) as error:
            # Wrapped, it would look like a dead connection, and be asked again.
            if _cause(error, CancelledError) is not None:
                raise CancelledError from error
            raise
        whole = _Collect()
        response.deliverBody(whole)
        return Response(response.code, await whole.done)


_FAILED = (
    ResponseFailed,
    RequestTransmissionFailed,
    ConnectError,
    ConnectionClosed,
    DeferredTimeout,
    PotentialDataLoss,
    TLSError,
    VerificationError,
)


def _cause(error: BaseException, *kinds: type[BaseException]) -> BaseException | None:
    """Find the first error of some kinds among those that one is made of."""
    if isinstance(error, kinds):
        return error
    inside = (_cause(each.value, *kinds) for each in getattr(error, "reasons", ()))
    return next((each for each in inside if each is not None), None)


def _words(error: BaseException) -> str:
    if _cause(error, VerificationError):
        return "the server's certificate is for another name"
    tls = _cause(error, TLSError)
    if tls is not None:
        parts = tls.args[0] if tls.args and isinstance(tls.args[0], list) else []
        return f"TLS failed: {', '.join(str(part[-1]) for part in parts) or 'no reason given'}"
    if isinstance(error, DeferredTimeout):
        return "no answer in time"
    if isinstance(error, ConnectError):
        return f"no connection: {error}"
    return "the connection broke"


def _place(url: str) -> str:
    """Leave out of a URL what may be a secret."""
    return url.partition("?")[0]


class _Collect(Protocol):
    """Takes a body to its end; cancelled, it ends the connection, which nobody would read on."""

    transport: Any

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.done: Deferred[bytes] = Deferred(lambda _: self.transport.abortConnection())

    def dataReceived(self, data: bytes) -> None:
        self._parts.append(data)

    def connectionLost(self, reason: Failure | None = None) -> None:
        if reason is None or isinstance(reason.value, ResponseDone):
            self.done.callback(b"".join(self._parts))
        else:
            self.done.errback(reason)


@implementer(IBodyProducer)
class _Body:
    """A body that is all there."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass


@implementer(IPolicyForHTTPS)
class _Policy:
    """Whom we trust, and what we show; made once for each server."""

    def __init__(self, trust: Sequence[bytes], identity: Identity | None) -> None:
        self._trust = trust
        self._identity = identity
        self._made: dict[bytes, Any] = {}

    def creatorForNetloc(self, host: bytes, _: int) -> Any:
        if host not in self._made:
            self._made[host] = self._make(host.decode())
        return self._made[host]

    def _make(self, host: str) -> Any:
        roots = [
            Certificate(X509.from_cryptography(x509.load_der_x509_certificate(each)))  # type: ignore[no-untyped-call]
            for each in self._trust
        ]
        shown = {}
        if self._identity is not None:
            shown = {
                "privateKey": PKey.from_cryptography_key(self._identity.key),
                "certificate": X509.from_cryptography(self._identity.certificate),
            }
        return optionsForClientTLS(
            host,
            trustRoot=trustRootFromCertificates(roots) if roots else None,  # type: ignore[no-untyped-call]
            extraCertificateOptions=shown or None,
        )
