"""
Have Apple turn off Activation Lock with an escrow key, as the holder of a push certificate.

Source: Apple, "Creating and Using Bypass Codes"; the parameters as NanoMDM takes them.
"""

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlencode

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IAgent, IPolicyForHTTPS
from zope.interface import implementer

from mdmd.apns.tls import read_roots
from mdmd.errors import BadRequest, NotHere, Unreachable
from mdmd.interfaces.push import IPushCertificates
from mdmd.pki.pushcert import PushCertificate, read_push_certificate

log = Logger()

REQUIRED = ("topic", "serial", "productType", "escrowKey", "orgName", "guid")
IN_QUERY = ("serial", "productType", "imei", "imei2", "meid")
IN_BODY = ("escrowKey", "orgName", "guid")
TIMEOUT = 20.0  # seconds
ANSWER_LIMIT = 1 << 20  # bytes


class EscrowKeys:
    """
    The way to Apple's service.

    :param url: of the service.
    :param trust: PEM of the roots to trust instead of the system's.
    """

    def __init__(
        self,
        reactor: Any,
        certificates: IPushCertificates,
        url: str,
        trust: bytes | None = None,
    ) -> None:
        self._reactor = reactor
        self._certificates = certificates
        self._url = url
        self._trust = trust

    async def unlock(self, form: Mapping[str, str]) -> tuple[int, str, bytes]:
        """
        Pass a request on; return Apple's status, content type and body.

        :raises BadRequest: a field is missing.
        :raises NotHere: there is no push certificate of the topic.
        :raises Unreachable: Apple does not answer.
        """
        missing = [name for name in REQUIRED if not form.get(name)]
        if missing:
            raise BadRequest(f"missing: {', '.join(missing)}")
        stored = await self._certificates.get(form["topic"])
        if stored is None:
            raise NotHere("no push certificate of this topic")
        _, certificate, key = stored
        asked = Deferred.fromCoroutine(
            self._ask(form, read_push_certificate(certificate + b"\n" + key, now=None))
        )
        asked.addTimeout(TIMEOUT, self._reactor)
        try:
            return await asked
        except CancelledError:
            raise
        except Exception as error:  # whatever a network may come up with
            # Not the error's own text: the URL in it has the device's serial number.
            log.warn("escrow key unlock failed: {kind}", kind=type(error).__name__)
            raise Unreachable("Apple's service did not answer") from None

    async def _ask(
        self, form: Mapping[str, str], certificate: PushCertificate
    ) -> tuple[int, str, bytes]:
        policy = _WithCertificate(certificate, self._trust)
        client = HTTPClient(cast(IAgent, Agent(self._reactor, policy)))  # type: ignore[no-untyped-call]
        query = urlencode({name: form[name] for name in IN_QUERY if form.get(name)})
        headers: dict[bytes | str, bytes | str] = {
            "Content-Type": "application/x-www-form-urlencoded"
        }
        response = await client.post(
            f"{self._url}?{query}",
            data=urlencode({name: form[name] for name in IN_BODY}).encode(),
            headers=headers,
            allow_redirects=False,
            unbuffered=True,
        )
        body = _Body()
        response.deliverBody(body)
        kind = response.headers.getRawHeaders("Content-Type", ["application/octet-stream"])[0]
        return response.code, kind, await body.whole


class _Body(Protocol):
    """
    The body of an answer, as much of it as is taken.

    :ivar whole: fires with it.
    """

    transport: Any

    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred(lambda _: self._cut())
        self._taken = b""

    def dataReceived(self, data: bytes) -> None:
        self._taken += data[: ANSWER_LIMIT - len(self._taken)]
        if len(self._taken) == ANSWER_LIMIT and not self.whole.called:
            self.whole.callback(self._taken)
            self._cut()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.whole.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):  # type: ignore[no-untyped-call]
            self.whole.callback(self._taken)
        else:
            self.whole.errback(reason)

    def _cut(self) -> None:
        # Not loseConnection: TLS would wait for a goodbye from somebody who goes on sending.
        if self.transport is not None:
            self.transport.stopProducing()


@implementer(IPolicyForHTTPS)
class _WithCertificate:
    """TLS to whom the URL names, with the push certificate as ours."""

    def __init__(self, certificate: PushCertificate, trust: bytes | None) -> None:
        self._certificate = certificate
        self._trust = trust

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        certificate = self._certificate
        return optionsForClientTLS(
            hostname.decode("ascii"),
            trustRoot=None if self._trust is None else read_roots(self._trust),
            extraCertificateOptions={
                "privateKey": certificate.key,
                "certificate": certificate.certificate,
            },
        )
