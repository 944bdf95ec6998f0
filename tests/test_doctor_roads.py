"""``mdmctl doctor`` on the roads to the site and to APNs: what is on the way, and what to do."""

import contextlib
import http.server
import io
import os
import signal
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from unittest import mock

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from twisted.trial.unittest import SynchronousTestCase

from mdmd.config import load
from mdmd.doctor.apns import check_apns
from mdmd.doctor.site import check_site
from mdmd.pki.certificates import certificate_pem, key_pem, load_certificate, new_key
from tests.daemonhelp import TOPIC, RunningDaemon
from tests.storehelp import free_port
from tests.test_doctor import nothing, told


def issue(
    subject: str, key: Any, issuer: str, issuer_key: Any, host: str = "", days: int = 90
) -> x509.Certificate:
    """Sign a certificate: a server's if it has a host, else a CA's."""
    start = datetime.now(UTC) - timedelta(days=10)
    extension: x509.ExtensionType = x509.BasicConstraints(ca=True, path_length=None)
    if host:
        extension = x509.SubjectAlternativeName([x509.DNSName(host)])
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=10 + days))
        .add_extension(extension, critical=not host)
        .sign(issuer_key, hashes.SHA256())
    )


class RoadTests(SynchronousTestCase):
    daemon: ClassVar[RunningDaemon]

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = RunningDaemon()
        cls.daemon.start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.daemon.close()

    def serve(self, *chain: x509.Certificate) -> None:
        """Let the daemon show another chain, without a restart."""
        (self.daemon.state / "tls" / "site.pem").write_bytes(b"".join(map(certificate_pem, chain)))
        assert self.daemon.process is not None
        self.daemon.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 20
        while self.shown() != chain[0]:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)

    def shown(self) -> x509.Certificate:
        """What the site shows."""
        pem = ssl.get_server_certificate(("127.0.0.1", self.daemon.port))
        return load_certificate(pem.encode())

    def test_proxy(self) -> None:
        """A proxy that is not there, or wants a password, is what is to be put right."""
        config = load(self.daemon.config)
        with socket.create_server(("127.0.0.1", 0)) as proxy:
            port = proxy.getsockname()[1]
            apns = attrs.evolve(
                config.apns, port=free_port(), proxy=f"http://eve:s3cret@127.0.0.1:{port}"
            )

            def refuse() -> None:
                way, _ = proxy.accept()
                with way:
                    way.recv(1000)
                    way.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")

            thread = threading.Thread(target=refuse)
            thread.start()
            (finding,) = check_apns(attrs.evolve(config, apns=apns))
            thread.join()
        self.assertIn(f"through the proxy 127.0.0.1:{port}", finding.text)
        self.assertIn("it wants a password", finding.remedy)
        self.assertNotIn("s3cret", finding.text + finding.remedy)
        (finding,) = check_apns(attrs.evolve(config, apns=apns))
        self.assertIn("refused", finding.text)
        self.assertIn("correct [apns] proxy", finding.remedy)

    def test_chain(self) -> None:
        """Without its intermediate, over, whole: what a device that trusts the root says."""
        root, middle, key = (new_key("ec") for _ in range(3))
        public = issue("Root", root, "Root", root)
        between = issue("Intermediate", middle, "Root", root)
        good = issue("localhost", key, "Intermediate", middle, "localhost")
        over = issue("localhost", key, "Intermediate", middle, "localhost", days=-1)
        roots = self.daemon.state / "roots.pem"
        roots.write_bytes(certificate_pem(public))
        site, its_key = (self.daemon.state / "tls" / f"site.{each}" for each in ("pem", "key"))
        for path in (site, its_key):
            self.addCleanup(path.write_bytes, path.read_bytes())
        its_key.write_bytes(key_pem(key))
        remedies = []
        for chain in ([good], [over, between], [good, between]):
            self.serve(*chain)
            with mock.patch.dict(os.environ, SSL_CERT_FILE=str(roots)):
                found = told(check_site(load(self.daemon.config), [], nothing), "site")
            remedies.append(found[0].remedy)
        self.assertIn("append the intermediate", remedies[0])
        self.assertIn("renew it", remedies[1])
        self.assertEqual(remedies[2], "")

    def test_another_server(self) -> None:
        """Something else at public_url is not taken for a missing push certificate."""
        config = load(self.daemon.config)
        handler = http.server.BaseHTTPRequestHandler  # answers every request with 501
        with http.server.HTTPServer(("127.0.0.1", 0), handler) as other:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(config.site.certificate, config.site.key)
            other.socket = tls.wrap_socket(other.socket, server_side=True)
            thread = threading.Thread(target=other.serve_forever)
            thread.start()
            url = f"https://localhost:{other.server_port}"
            elsewhere = attrs.evolve(config, mdmd=attrs.evolve(config.mdmd, public_url=url))
            with contextlib.redirect_stderr(io.StringIO()):
                found = list(check_site(elsewhere, [TOPIC], nothing))
            other.shutdown()
            thread.join()
        (scep,), (profile,) = told(found, "SCEP"), told(found, "profile")
        self.assertIn("not this mdmd", scep.remedy)
        self.assertIn("what answers at public_url", profile.remedy)
