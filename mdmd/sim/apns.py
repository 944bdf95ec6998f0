"""
A stand-in for Apple's push service: real HTTP/2 over TLS, Apple's checks and answers.

A client certificate is asked for, as Apple does; anybody's will do, but it has
to name the topic. Other parts can tell it to answer anything, late, or to say
goodbye.

Source: Apple, "Sending notification requests to APNs" and "Handling
notification responses from APNs"; RFC 9113.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import attrs
from cryptography import x509
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from OpenSSL import SSL
from OpenSSL.crypto import X509, PKey
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.python.failure import Failure
from zope.interface import implementer

from mdmd.pki.certificates import PrivateKey

STREAMS = 1000  # at a time on a connection; Apple's own figure
_PAYLOAD = 4096  # bytes
_UID = x509.ObjectIdentifier("0.9.2342.19200300.100.1.1")


@attrs.frozen
class Push:
    """A notification for a device, as it came in."""

    topic: str
    token: bytes = attrs.field(repr=False)
    magic: str = attrs.field(repr=False)
    apns_id: str = ""
    expiration: int = 0  # epoch seconds


@attrs.frozen
class Reply:
    """
    What to answer.

    :ivar status: 0: no answer at all.
    :ivar reason: Apple's word; "" with 200.
    :ivar delay: seconds before the answer.
    :ivar goodbye: end the connection with GOAWAY after the answer: the word in it, which may
        be "" (Apple restarts a server) or a reason such as ``Shutdown``; None: stay.
    """

    status: int = 200
    reason: str = ""
    delay: float = 0.0
    goodbye: str | None = None


OK = Reply()


class PushService(Factory):
    """
    All connections of the stand-in.

    :param clock: for delays; the reactor.
    :param pushed: called with each push that gets a 200.
    :param answer: says what to answer to a push that Apple would accept.
    :ivar pushes: accepted so far.
    """

    noisy = False

    def __init__(
        self,
        clock: Any,
        pushed: Callable[[Push], object],
        answer: Callable[[Push], Reply] = lambda _: OK,
    ) -> None:
        self.clock = clock
        self.pushed = pushed
        self.answer = answer
        self.pushes = 0
        self.connections: set[_Connection] = set()

    def buildProtocol(self, _: object) -> "_Connection":
        """Take a connection."""
        return _Connection(self)

    def goodbye(self, reason: str = "") -> None:
        """End every connection with GOAWAY, as when Apple restarts a server."""
        for each in list(self.connections):
            each.goodbye(reason)

    def cut(self) -> None:
        """End every connection without a word, as when a cable is cut."""
        for each in list(self.connections):
            each.cut()


def server_tls(certificate: x509.Certificate, key: PrivateKey) -> CertificateOptions:
    """Make the server's side of TLS: HTTP/2 only, a client certificate required."""
    options = CertificateOptions(
        privateKey=PKey.from_cryptography_key(key),
        certificate=X509.from_cryptography(certificate),
        acceptableProtocols=[b"h2"],
    )
    # Whose certificate it is does not matter here, only that it names the topic.
    options.getContext().set_verify(
        SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True
    )
    return options


@implementer(IHandshakeListener)
class _Connection(Protocol):
    """One connection: h2 is the grammar, this is the manners."""

    transport: Any  # a TLSMemoryBIOProtocol

    def __init__(self, service: PushService) -> None:
        self._service = service
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._h2.local_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = STREAMS
        self._headers: dict[int, dict[str, str]] = {}
        self._bodies: dict[int, bytes] = {}
        self._waiting: dict[int, bytes] = {}  # error bodies that found the window closed
        self._topics: frozenset[str] = frozenset()

    def connectionMade(self) -> None:
        """Begin HTTP/2; it waits for the handshake to be over."""
        self.transport.setTcpNoDelay(True)
        self._service.connections.add(self)
        self._h2.initiate_connection()
        self._flush()

    def handshakeCompleted(self) -> None:
        """See who it is, and whether it speaks HTTP/2."""
        if self.transport.negotiatedProtocol != b"h2":
            self.cut()
            return
        shown = self.transport.getPeerCertificate()
        self._topics = topics_of(shown.to_cryptography())

    def connectionLost(self, _: Failure | None = None) -> None:
        """Forget it."""
        self._service.connections.discard(self)

    def dataReceived(self, data: bytes) -> None:
        """Hear the client."""
        try:
            events = self._h2.receive_data(data)
        except ProtocolError:
            self._flush()
            self.transport.loseConnection()
            return
        for event in events:
            self._hear(event)
        self._flush()

    def goodbye(self, reason: str) -> None:
        """Take nothing more; what was taken is still answered."""
        text = json.dumps({"reason": reason}).encode() if reason else b""
        self._h2.close_connection(ErrorCodes.NO_ERROR, text, self._h2.highest_inbound_stream_id)
        self._flush()
        self.transport.loseConnection()

    def cut(self) -> None:
        """End it without a word."""
        self.transport.abortConnection()

    def _hear(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._headers[event.stream_id] = {str(k): str(v) for k, v in event.headers}
                self._bodies[event.stream_id] = b""
            case DataReceived():
                self._take(event)
            case StreamEnded():
                self._judge(event.stream_id)
            case StreamReset():
                self._forget(event.stream_id)
            case WindowUpdated():
                self._send_waiting()
            case ConnectionTerminated():
                self.transport.loseConnection()

    def _take(self, event: DataReceived) -> None:
        self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        if event.stream_id in self._bodies:
            body = self._bodies[event.stream_id] + event.data
            self._bodies[event.stream_id] = body[: _PAYLOAD + 1]

    def _forget(self, stream: int) -> None:
        for held in (self._headers, self._bodies, self._waiting):
            held.pop(stream, None)

    def _judge(self, stream: int) -> None:
        headers, body = self._headers.pop(stream), self._bodies.pop(stream)
        apns_id = headers.get("apns-id", "").upper() or str(uuid4()).upper()
        found = read_push(headers, body, self._topics, apns_id)
        if isinstance(found, Reply):
            self._answer(stream, apns_id, found)
            return
        reply = self._service.answer(found)
        if reply.delay:
            self._service.clock.callLater(reply.delay, self._conclude, stream, found, reply)
        else:
            self._conclude(stream, found, reply)

    def _conclude(self, stream: int, push: Push, reply: Reply) -> None:
        if self not in self._service.connections:
            return
        if reply.status:
            self._answer(stream, push.apns_id, reply)
        if reply.status == 200:
            self._service.pushes += 1
            self._service.pushed(push)
        if reply.goodbye is not None:
            self.goodbye(reply.goodbye)

    def _answer(self, stream: int, apns_id: str, reply: Reply) -> None:
        body = b"" if reply.status == 200 else _error(reply, self._service.clock.seconds())
        headers = [(":status", str(reply.status)), ("apns-id", apns_id)]
        try:
            self._h2.send_headers(stream, headers, end_stream=not body)
        except ProtocolError:
            return  # the client took the stream back meanwhile
        if body:
            self._waiting[stream] = body
            self._send_waiting()
        self._flush()

    def _send_waiting(self) -> None:
        for stream, body in list(self._waiting.items()):
            if self._h2.local_flow_control_window(stream) >= len(body):
                self._h2.send_data(stream, body, end_stream=True)
                del self._waiting[stream]

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data:
            self.transport.write(data)


def topics_of(certificate: x509.Certificate) -> frozenset[str]:
    """Read the topics that a push certificate is for."""
    found = certificate.subject.get_attributes_for_oid(_UID)
    return frozenset(str(each.value) for each in found)


def read_push(
    headers: Mapping[str, str], body: bytes, topics: frozenset[str], apns_id: str
) -> Push | Reply:
    """
    Read a request as Apple does: a push, or what is wrong with it.

    :param topics: those of the client's certificate.
    """
    if headers.get(":method") != "POST":
        return Reply(405, "MethodNotAllowed")
    start, _, token = headers.get(":path", "").rpartition("/")
    if start != "/3/device":
        return Reply(404, "BadPath")
    topic = headers.get("apns-topic", "")
    if not topic:
        return Reply(400, "MissingTopic")
    if topic not in topics:
        return Reply(400, "TopicDisallowed" if topics else "BadCertificate")
    if headers.get("apns-push-type", "mdm") != "mdm":
        return Reply(400, "InvalidPushType")
    if headers.get("apns-priority", "10") not in ("5", "10"):
        return Reply(400, "BadPriority")
    raw = _hex(token)
    if not raw:
        return Reply(400, "BadDeviceToken" if token else "MissingDeviceToken")
    if len(body) > _PAYLOAD:
        return Reply(413, "PayloadTooLarge")
    magic = _magic(body)
    expiration = headers.get("apns-expiration", "0")
    if not expiration.isdigit():
        return Reply(400, "BadExpirationDate")
    return (
        Reply(400, "PayloadEmpty")
        if not magic
        else Push(topic, raw, magic, apns_id, int(expiration))
    )


def _hex(token: str) -> bytes:
    try:
        return bytes.fromhex(token)
    except ValueError:
        return b""


def _magic(body: bytes) -> str:
    try:
        payload = json.loads(body)
    except ValueError:
        return ""
    magic = payload.get("mdm") if isinstance(payload, dict) else None
    return magic if isinstance(magic, str) else ""


def _error(reply: Reply, now: float) -> bytes:
    body: dict[str, object] = {"reason": reply.reason} if reply.reason else {}
    if reply.status == 410:
        body["timestamp"] = int(now * 1000)
    return json.dumps(body).encode()
