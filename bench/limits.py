"""The limits that figures are compared with: CPU time, of the same run."""

import contextlib
import socket
import time
from collections.abc import Callable, Sequence

import attrs
import hiredis
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded
from OpenSSL import SSL
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource
from twisted.web.server import Site

from mdmd.pki.authority import CertificateAuthority


def handshake(rounds: int = 300, anonymous: bool = False) -> float:
    """
    Seconds of a server for a full TLS 1.3 handshake, in memory.

    :param anonymous: the client has no certificate.
    """
    server, client = _contexts(anonymous)
    _shake(server, client, 50)
    return _shake(server, client, rounds) / rounds


def _contexts(anonymous: bool) -> tuple[SSL.Context, SSL.Context]:
    authority = CertificateAuthority.create("limit", "ec", 30)
    server = SSL.Context(SSL.TLS_SERVER_METHOD)
    certificate, key = authority.issue_server(["localhost"], 30)
    server.use_certificate(certificate)
    server.use_privatekey(key)
    server.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if not anonymous:
        certificate, key = authority.issue_server(["device"], 30)
        client.use_certificate(certificate)
        client.use_privatekey(key)
    return server, client


def _shake(server: SSL.Context, client: SSL.Context, rounds: int) -> float:
    """The server's time alone."""
    spent = 0.0
    for _ in range(rounds):
        here, there = SSL.Connection(client), SSL.Connection(server)
        here.set_connect_state()
        _step(here)
        start = time.thread_time()
        there.set_accept_state()
        _receive(there, _written(here))
        _step(there)
        answer = _written(there)
        spent += time.thread_time() - start
        _receive(here, answer)
        _step(here)
        finished = _written(here)
        start = time.thread_time()
        _receive(there, finished)
        _step(there)
        _written(there)
        spent += time.thread_time() - start
    return spent


def _step(connection: SSL.Connection) -> None:
    with contextlib.suppress(SSL.WantReadError):
        connection.do_handshake()


def _written(connection: SSL.Connection) -> bytes:
    return connection.bio_read(1 << 16)


def _receive(connection: SSL.Connection, data: bytes) -> None:
    connection.bio_write(data)


def enrollment(rounds: int = 100) -> float:
    """
    Seconds of a server for the arithmetic of an enrollment alone.

    Two handshakes; of SCEP, with an RSA-2048 CA: the envelope opened, certificate and
    answer signed, three signatures of the device verified, the answer encrypted.
    """
    own = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public, scheme, digest = own.public_key(), padding.PKCS1v15(), hashes.SHA256()
    sealed = public.encrypt(b"k" * 32, scheme)
    signature = own.sign(b"message", scheme, digest)
    start = time.thread_time()
    for _ in range(rounds):
        own.decrypt(sealed, scheme)
        for _ in range(2):
            own.sign(b"message", scheme, digest)
        for _ in range(3):
            public.verify(signature, b"message", scheme, digest)
        public.encrypt(b"k" * 32, scheme)
    scep = (time.thread_time() - start) / rounds
    return handshake() + handshake(anonymous=True) + scep


def h2_loop(rounds: int = 2000, streams: int = 100) -> float:
    """
    Seconds of a bare ``h2`` client for a request of the size of a push and its answer.

    In memory, without TLS; so many requests are open at the same time.
    """
    client = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    server = H2Connection(H2Configuration(client_side=False, header_encoding=None))
    client.initiate_connection()
    server.initiate_connection()
    server.receive_data(client.data_to_send())
    client.receive_data(server.data_to_send())
    spent = 0.0
    for _ in range(rounds // streams):
        start = time.thread_time()
        for _ in range(streams):
            stream = client.get_next_available_stream_id()
            client.send_headers(stream, _PUSH)
            client.send_data(stream, _ALERT, end_stream=True)
        asked = client.data_to_send()
        spent += time.thread_time() - start
        for event in server.receive_data(asked):
            if isinstance(event, StreamEnded):
                server.send_headers(event.stream_id, _TAKEN, end_stream=True)
            elif isinstance(event, DataReceived):
                server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        answered = server.data_to_send()
        start = time.thread_time()
        client.receive_data(answered)
        client.data_to_send()
        spent += time.thread_time() - start
    return spent / (rounds // streams * streams)


_PUSH = [
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":authority", b"api.push.apple.com"),
    (b":path", b"/3/device/" + b"0123456789abcdef" * 4),
    (b"apns-topic", b"com.apple.mgmt.External.bench"),
    (b"apns-push-type", b"mdm"),
    (b"apns-priority", b"10"),
    (b"apns-expiration", b"1700000000"),
]
_ALERT = b'{"mdm":"3C1A7E0B-5E63-4F2B-8F0C-000000000001"}'
_TAKEN = [(b":status", b"200"), (b"apns-id", b"3C1A7E0B-5E63-4F2B-8F0C-000000000001")]


@attrs.frozen
class Writes:
    """So many targets a second, and seconds that the server worked for each."""

    rate: float
    cpu: float


_UUID = b"\x01" + b"u" * 16


def bare_writes(socket_path: str, targets: Sequence[bytes], core: Callable[[], float]) -> Writes:
    """
    Write what an enqueue writes, with plain commands, a thousand targets in one piece.

    For each target a member of a sorted set of its own and one of a set that they share.

    :param core: says how many seconds the server has worked.
    """
    pieces = []
    for at in range(0, len(targets), 1000):
        words = b""
        for one in targets[at : at + 1000]:
            words += hiredis.pack_command(("ZADD", b"limit:" + one, 1, _UUID))
            words += hiredis.pack_command(("ZADD", b"limit", 1, one))
        pieces.append((words, min(1000, len(targets) - at) * 2))
    with socket.socket(socket.AF_UNIX) as road:
        road.connect(socket_path)
        before, start = core(), time.perf_counter()
        for words, answers in pieces:
            road.sendall(words)
            reader = hiredis.Reader()
            for _ in range(answers):
                while reader.gets() is False:
                    reader.feed(road.recv(1 << 16))
        took, cpu = time.perf_counter() - start, core() - before
        for at in range(0, len(targets), 1000):
            names = [b"limit:" + one for one in targets[at : at + 1000]]
            road.sendall(hiredis.pack_command(("UNLINK", b"limit", *names)))
            road.recv(1 << 16)
    return Writes(len(targets) / took, cpu / len(targets))


def empty_resource(rounds: int = 3000) -> float:
    """Seconds for a PUT to an empty resource of twisted.web, without TLS and without a socket."""

    class Empty(Resource):
        isLeaf = True

        def render_PUT(self, request: object) -> bytes:
            return b""

    site = Site(Empty(), timeout=None)  # type: ignore[no-untyped-call]
    protocol = site.buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    head = b"PUT /connect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300\r\n\r\n"
    request = head + b"x" * 300
    start = time.thread_time()
    for _ in range(rounds):
        protocol.dataReceived(request)
        transport.clear()
    return (time.thread_time() - start) / rounds
