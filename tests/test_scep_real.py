"""
The SCEP responder against programs that nobody here wrote: Debian's scepclient (Go) and
certmonger (C), PyScep from PyPI, and openssl.
"""

import base64
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import BadSCEP
from mdmd.pki import certificates
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.scep import ScepAnswer
from tests.scephelp import Deciding

SCEPCLIENT = shutil.which("scepclient")
OPENSSL = shutil.which("openssl")
SCEP_HELPER = Path("/usr/lib/certmonger/scep-submit")


class _Server:
    """A throw-away HTTP server around one responder."""

    def __init__(self, responder: Deciding) -> None:
        self.answers: list[ScepAnswer] = []
        self.messages: list[bytes] = []
        outer = self

        class Requests(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                operation = query["operation"][0]
                if operation == "GetCACaps":
                    self._send(responder.capabilities(), "text/plain")
                elif operation == "PKIOperation":
                    self._answer(base64.b64decode(query["message"][0]))
                else:
                    self._send(*responder.ca_certificate())

            def do_POST(self) -> None:
                self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

            def _answer(self, message: bytes) -> None:
                outer.messages.append(message)
                answer = responder.answer(message)
                outer.answers.append(answer)
                self._send(answer.body, "application/x-pki-message")

            def _send(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._http = HTTPServer(("127.0.0.1", 0), Requests)
        self.url = f"http://127.0.0.1:{self._http.server_port}/scep"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


def _check(challenge: str, _: object) -> None:
    if challenge != "s3cret":
        raise BadSCEP("wrong challenge")


class RealClient(SynchronousTestCase):
    """Whoever enrolls with a stock SCEP client gets a working certificate."""

    if SCEPCLIENT is None:
        skip = "scepclient (Debian package scep) is not installed"
    elif OPENSSL is None:
        skip = "openssl is not installed"

    rsa_ca: ClassVar[CertificateAuthority]
    ec_ca: ClassVar[CertificateAuthority]

    @classmethod
    def setUpClass(cls) -> None:
        cls.rsa_ca = CertificateAuthority.create("Real RSA CA")
        cls.ec_ca = CertificateAuthority.create("Real EC CA", kind="ec")

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="scep"))
        self.addCleanup(shutil.rmtree, self.folder)

    def enroll(
        self, responder: Deciding, challenge: str = "s3cret", *more: str
    ) -> tuple[_Server, str]:
        server = _Server(responder)
        self.addCleanup(server.close)
        ran = subprocess.run(
            [
                SCEPCLIENT or "",
                "-server-url", server.url,
                "-challenge", challenge,
                "-private-key", "device.key",
                "-certificate", "device.pem",
                "-cn", "device-7",
                "-debug",
                *more,
            ],
            cwd=self.folder,
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder)},
            capture_output=True,
            timeout=60,
            check=False,
        )  # fmt: skip
        return server, (ran.stdout + ran.stderr).decode()

    def openssl_verify(self, authority: CertificateAuthority) -> str:
        (self.folder / "ca.pem").write_bytes(certificates.certificate_pem(authority.certificate))
        return subprocess.run(
            [
                OPENSSL or "", "verify", "-x509_strict", "-purpose", "sslclient",
                "-CAfile", "ca.pem", "device.pem",
            ],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        ).stdout  # fmt: skip

    def responder(self, authority: CertificateAuthority, legacy: bool = True) -> Deciding:
        # scepclient 2.1 signs with SHA-1 whatever the server says it can do.
        return Deciding(authority, 30, legacy, check_challenge=_check)

    def test_enroll(self) -> None:
        """It gets the very certificate that was issued, for its key, and openssl agrees."""
        server, said = self.enroll(self.responder(self.rsa_ca))
        self.assertTrue((self.folder / "device.pem").exists(), said)
        got = certificates.load_certificate((self.folder / "device.pem").read_bytes())
        key = certificates.load_key((self.folder / "device.key").read_bytes())
        self.assertEqual(got, server.answers[0].issued)
        self.assertIsNone(server.answers[0].renewed)
        self.assertTrue(certificates.matches(got, key))
        self.assertIn("CN=device-7", got.subject.rfc4514_string())
        self.assertTrue(certificates.chain_ok(got, self.rsa_ca.certificate))
        self.assertIn("device.pem: OK", self.openssl_verify(self.rsa_ca))

    def test_renew(self) -> None:
        """Run again with its certificate, it renews without a challenge; the old one is told."""

        def no_second_challenge(challenge: str, _: object) -> None:
            asked.append(challenge)

        asked: list[str] = []
        responder = Deciding(self.rsa_ca, 30, True, check_challenge=no_second_challenge)
        first, said = self.enroll(responder)
        self.assertTrue((self.folder / "device.pem").exists(), said)
        second, said = self.enroll(responder)
        issued, renewed = second.answers[0].issued, second.answers[0].renewed
        self.assertEqual(renewed, first.answers[0].issued, said)
        self.assertNotEqual(issued, renewed)
        got = certificates.load_certificate((self.folder / "device.pem").read_bytes())
        self.assertEqual(got, issued)
        self.assertEqual(asked, ["s3cret"])

    def test_registration_authority(self) -> None:
        """With an EC CA it talks to the registration authority and gets a certificate of the CA."""
        pair = self.ec_ca.issue_registration(days=30)
        responder = Deciding(self.ec_ca, 30, True, registration=pair, check_challenge=_check)
        # Left alone this client encrypts to every certificate it is given, and fails on the EC one.
        mark = certificates.fingerprint(pair[0])
        _, said = self.enroll(responder, "s3cret", "-ca-fingerprint", mark)
        self.assertTrue((self.folder / "device.pem").exists(), said)
        self.assertIn("device.pem: OK", self.openssl_verify(self.ec_ca))

    def test_wrong_challenge(self) -> None:
        """It understands the refusal, and nothing is issued."""
        server, said = self.enroll(self.responder(self.rsa_ca), "guess")
        self.assertFalse((self.folder / "device.pem").exists())
        self.assertEqual(server.answers[0].fail_info, "badRequest")
        self.assertIn("badRequest", said)

    def test_legacy_is_off(self) -> None:
        """Its SHA-1 is refused as badAlg unless legacy algorithms are let in."""
        server, said = self.enroll(self.responder(self.rsa_ca, legacy=False))
        self.assertFalse((self.folder / "device.pem").exists())
        self.assertIsNone(server.answers[0].issued)
        self.assertIn("badAlg", said)


def certmonger_session(folder: Path, *lines: str) -> str:
    """Run lines of shell with a certmonger of their own, that keeps what it knows in ``folder``."""
    script = folder / "session.sh"
    script.write_text("".join(f"{line}\n" for line in lines))
    # It asks the user's database, and not $HOME, where to keep things.
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "CERTMONGER_CONFIG_DIR": str(folder),
        "CERTMONGER_REQUESTS_DIR": str(folder / "requests"),
        "CERTMONGER_CAS_DIR": str(folder / "cas"),
        "CERTMONGER_LOCAL_CA_DIR": str(folder / "local"),
    }
    for name in ("requests", "cas", "local"):
        (folder / name).mkdir()
    ran = subprocess.run(
        ["dbus-run-session", "--", "sh", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return (ran.stdout + ran.stderr).decode(errors="replace")


class Certmonger(SynchronousTestCase):
    """Debian's certmonger, with a bus and a folder of its own."""

    if not SCEP_HELPER.exists() or not shutil.which("dbus-run-session"):
        skip = "certmonger or dbus-run-session is not installed"

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="certmonger", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder)

    def run_session(self, authority: CertificateAuthority, *lines: str) -> str:
        (self.folder / "ca.pem").write_bytes(certificates.certificate_pem(authority.certificate))
        return certmonger_session(self.folder, *lines)

    def test_enroll_and_renew(self) -> None:
        """
        It enrolls by GET with the challenge, and renews without.

        Its renewal is the one from before RFC 8894: a PKCSReq signed with the old certificate.
        """
        challenges: list[str] = []
        authority = CertificateAuthority.create("Certmonger CA")
        responder = Deciding(
            authority, 30, check_challenge=lambda given, _: challenges.append(given)
        )
        server = _Server(responder)
        self.addCleanup(server.close)
        place = f"-f {self.folder}/device.pem -k {self.folder}/device.key"
        said = self.run_session(
            authority,
            f"getcert add-scep-ca -s -c T -u {server.url} -N {self.folder}/ca.pem",
            f"getcert request -s -c T {place} -N CN=device-9 -L s3cret -I one -w",
            f"cp {self.folder}/device.pem {self.folder}/first.pem",
            "getcert resubmit -s -i one -w",
            "getcert list -s",
        )
        self.assertIn("status: MONITORING", said)
        first, second = (
            certificates.load_certificate((self.folder / name).read_bytes())
            for name in ("first.pem", "device.pem")
        )
        self.assertEqual([each.issued for each in server.answers], [first, second], said)
        self.assertEqual([each.renewed for each in server.answers], [None, first])
        self.assertEqual(challenges, ["s3cret"])
        key = certificates.load_key((self.folder / "device.key").read_bytes())
        self.assertTrue(certificates.matches(second, key))


class PyScep(SynchronousTestCase):
    """PyScep from PyPI, in a process of its own."""

    if importlib.util.find_spec("scep") is None or importlib.util.find_spec("oscrypto") is None:
        skip = "PyScep is not installed (tests/interop.lock)"

    def enroll(self, challenge: str) -> tuple[_Server, str]:
        responder = Deciding(CertificateAuthority.create("PyScep CA"), 30, check_challenge=_check)
        server = _Server(responder)
        self.addCleanup(server.close)
        program = Path(__file__).with_name("pyscep_client.py")
        ran = subprocess.run(
            [sys.executable, "-W", "ignore", program, server.url, challenge, "device-3"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return server, ran.stdout + ran.stderr

    def test_enroll(self) -> None:
        """It gets the certificate that was issued, with the strongest algorithms of both."""
        server, said = self.enroll("s3cret")
        self.assertIn("SUCCESS", said)
        (answer,) = server.answers
        self.assertIsNotNone(answer.issued, said)
        found = [
            certificates.load_certificate(pem.encode())
            for pem in re.findall("-----BEGIN CERT.*?END CERTIFICATE-----", said, re.DOTALL)
        ]
        self.assertIn(answer.issued, found)

    def test_wrong_challenge(self) -> None:
        """It understands why it is refused."""
        server, said = self.enroll("guess")
        self.assertEqual([each.issued for each in server.answers], [None])
        self.assertIn("FAILURE 2", said)  # badRequest
