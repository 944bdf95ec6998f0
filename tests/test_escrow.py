"""An escrow key goes to Apple's service, played here by a real TLS server."""

import contextlib
import ssl
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mdmd.apns.escrow import ANSWER_LIMIT, EscrowKeys
from mdmd.errors import BadRequest, NotHere, Unreachable
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import certificate_pem, key_pem
from mdmd.pki.pushcert import read_push_certificate
from tests.certhelp import push_pair

FORM = {
    "topic": "com.apple.mgmt.t",
    "serial": "C02 X",
    "productType": "Mac14,2",
    "escrowKey": "s3cret-key",
    "orgName": "Example",
    "guid": "G-1",
    "imei": "35",
}


class Apple:
    """A TLS server that wants a client certificate, in a thread."""

    def __init__(self, trusted: bytes) -> None:
        self.asked: list[tuple[str, dict[str, list[str]], dict[str, list[str]]]] = []
        ca = CertificateAuthority.create("Apple", kind="ec")
        self.ca = certificate_pem(ca.certificate)
        certificate, key = ca.issue_server(["localhost"], days=3)
        folder = Path(tempfile.mkdtemp())
        (folder / "pair.pem").write_bytes(certificate_pem(certificate) + key_pem(key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "pair.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=trusted.decode())
        self.answer, self.times = b"code 33", 1
        self.written = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                parts = urlsplit(self.path)
                found = parse_qs(parts.query), parse_qs(body.decode())
                outer.asked.append((parts.path, *found))
                self.send_response(409)
                self.send_header("Content-Type", "text/plain")
                self.end_headers()
                with contextlib.suppress(OSError):
                    for _ in range(outer.times):
                        self.wfile.write(outer.answer)
                        outer.written += len(outer.answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server.server_port}/escrowKeyUnlock"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Certificates:
    """One push certificate."""

    def __init__(self, pem: bytes) -> None:
        self.pair = read_push_certificate(pem)

    async def get(self, topic: str) -> Any:
        if topic != self.pair.topic:
            return None
        return 1, self.pair.certificate_pem, self.pair.key_pem


class EscrowTests(TestCase):
    """What goes to Apple, and what comes back."""

    timeout = 30

    def setUp(self) -> None:
        _, pem = push_pair("com.apple.mgmt.t")
        certificates = Certificates(pem)
        self.apple = Apple(certificates.pair.certificate_pem)
        self.addCleanup(self.apple.close)
        self.keys = EscrowKeys(
            reactor,
            certificates,  # type: ignore[arg-type]
            self.apple.url,
            self.apple.ca,
        )

    async def test_passed_on(self) -> None:
        """The device's names in the query, the key in the body, the push certificate as ours."""
        answer = await self.keys.unlock(FORM)
        self.assertEqual(answer, (409, "text/plain", b"code 33"))
        ((path, query, body),) = self.apple.asked
        self.assertEqual(path, "/escrowKeyUnlock")
        self.assertEqual(query, {"serial": ["C02 X"], "productType": ["Mac14,2"], "imei": ["35"]})
        self.assertEqual(
            body, {"escrowKey": ["s3cret-key"], "orgName": ["Example"], "guid": ["G-1"]}
        )

    async def test_refused_here(self) -> None:
        """What is missing is named; a topic without a certificate is an error."""
        for name in ("topic", "serial", "productType", "escrowKey", "orgName", "guid"):
            with self.assertRaises(BadRequest) as caught:
                await self.keys.unlock({**FORM, name: ""})
            self.assertIn(name, str(caught.exception))
        with self.assertRaises(NotHere):
            await self.keys.unlock({**FORM, "topic": "com.apple.mgmt.other"})
        self.assertEqual(self.apple.asked, [])

    async def test_an_endless_answer(self) -> None:
        """The connection is cut when it is longer than any answer of Apple's."""
        self.apple.answer, self.apple.times = b"x" * 65536, 1600
        _, _, body = await self.keys.unlock(FORM)
        self.assertEqual(len(body), ANSWER_LIMIT)
        self.assertLess(self.apple.written, 50 << 20)

    async def test_apple_is_away(self) -> None:
        """No answer is an error that tells nothing of the key or the device."""
        self.apple.close()
        asked = Deferred.fromCoroutine(self.keys.unlock(FORM))
        error = await self.assertFailure(asked, Unreachable)
        self.assertEqual(str(error), "Apple's service did not answer")
        self.flushLoggedErrors()
