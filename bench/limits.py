"""The limits that figures are compared with: CPU time, of the same run."""

import contextlib
import time

from OpenSSL import SSL
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource
from twisted.web.server import Site

from mdmd.pki.authority import CertificateAuthority


def handshake(rounds: int = 300) -> float:
    """Seconds of a server for a full TLS 1.3 handshake with client certificate, in memory."""
    authority = CertificateAuthority.create("limit", "ec", 30)
    server = SSL.Context(SSL.TLS_SERVER_METHOD)
    certificate, key = authority.issue_server(["localhost"], 30)
    server.use_certificate(certificate)
    server.use_privatekey(key)
    server.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    certificate, key = authority.issue_server(["device"], 30)
    client.use_certificate(certificate)
    client.use_privatekey(key)
    _shake(server, client, 50)
    return _shake(server, client, rounds) / rounds


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
