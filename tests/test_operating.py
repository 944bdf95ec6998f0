"""Operators and a real daemon: every door open, a real device, the real store's audit."""

import base64
import json
import os
import plistlib
import pwd
import shutil
import socket
import subprocess
import time
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from mdmd.pki.certificates import certificate_pem, key_pem, load_certificate
from tests.daemonhelp import BIN, RunningDaemon
from tests.storehelp import free_port

UDID = "0A1B2C3D-0000-5AC1-BDB2-0000000000F1"
SERIAL = "C02OPERATE1"
ADMIN = pwd.getpwuid(os.getuid()).pw_name  # whom mdmctl init lets in


class OperatingTests(SynchronousTestCase):
    """One daemon for all."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.tls_port = free_port()
        tls = f"ssl:{cls.tls_port}:privateKey=STATE/tls/site.key:certKey=STATE/tls/site.pem"
        doors = f"listen = unix:STATE/mdmd.sock\n  {tls}:interface=127.0.0.1"
        cls.daemon = RunningDaemon(options={"pb": doors})
        cls.daemon.start()
        cls.device = cls.daemon.device(UDID, SerialNumber=SERIAL, DeviceName="Anna's Mac")
        cls.device.enroll()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.daemon.stop()
        log = cls.daemon.log.read_text()
        cls.daemon.close()
        assert "Traceback" not in log, log[-5000:]

    def mdmctl(
        self, *words: object, status: int = 0, stdin: str = "", password: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        """Run it against the daemon."""
        done = subprocess.run(
            [BIN / "mdmctl", "--state", self.daemon.state, *map(str, words)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "MDMD_PASSWORD": password},
        )
        self.assertEqual(done.returncode, status, done)
        return done

    def remote(self, *words: object) -> tuple[object, ...]:
        """The options that lead over TLS."""
        ca = self.daemon.state / "ca" / "ca.pem"
        return ("--server", f"localhost:{self.tls_port}", "--ca", ca, *words)

    def test_over_tls_with_a_password(self) -> None:
        """From another machine: the password decides, and the role of its operator."""
        self.mdmctl("operator", "add", "pat")
        self.mdmctl("operator", "passwd", "pat", "--stdin", stdin="correct horse\n")
        over = self.remote("--user", "pat")
        seen = self.mdmctl(*over, "--json", "devices", password="correct horse")
        self.assertIn(UDID, [each["id"] for each in json.loads(seen.stdout)])
        self.mdmctl(*over, "push", UDID, status=4, password="correct horse")
        wrong = self.mdmctl(*over, "devices", status=4, password="wrong")
        self.assertEqual(wrong.stderr, "mdmctl: wrong name or password\n")

    def test_who_may_remove_which_profile(self) -> None:
        """The enrollment profile ends the management of a device: that takes an admin."""
        profile = plistlib.loads(self.mdmctl("profile", "enroll").stdout.encode())
        told = json.loads(self.mdmctl("--json", "profile", "enroll").stdout)
        read = plistlib.loads(base64.b64decode(told["profile"]))
        self.assertEqual(read["PayloadIdentifier"], profile["PayloadIdentifier"])
        own, other = profile["PayloadIdentifier"], "org.example.wifi"
        self.mdmctl("operator", "add", "olga", "--role", "operator")
        self.mdmctl("operator", "passwd", "olga", "--stdin", stdin="battery staple\n")
        olga = self.remote("--user", "olga")
        self.mdmctl(*olga, "remove-profile", other, UDID, password="battery staple")
        refused = self.mdmctl(
            *olga, "remove-profile", own, UDID, status=4, password="battery staple"
        )
        self.assertIn("needs the role admin; olga is operator", refused.stderr)
        sent = json.loads(self.mdmctl("--json", "remove-profile", own, UDID).stdout)
        uuid = sent["command_uuid"]
        again = ("queue", UDID, "--requeue", uuid)
        self.mdmctl(*olga, *again, status=4, password="battery staple")
        self.mdmctl(*olga, "queue", UDID, "--cancel", uuid, password="battery staple")
        self.assertEqual(
            [
                (each["who"], each["facts"].get("Identifier"), each["outcome"])
                for each in self.daemon.ask("audit")
                if each["facts"].get("request_type") == "RemoveProfile"
            ],
            [
                ("olga", None, "ok"),  # taken out
                ("olga", own, "NotAllowed"),  # put back
                (ADMIN, own, "ok"),
                ("olga", own, "NotAllowed"),
                ("olga", other, "ok"),
            ],
        )

    def test_over_tls_with_a_certificate(self) -> None:
        """A client certificate whose fingerprint an operator has."""
        from mdmd.pki.authority import CertificateAuthority

        certificate, key = CertificateAuthority.create("other", "ec", 5).issue_server(["sam"], 5)
        identity = self.daemon.state / "sam.pem"
        identity.write_bytes(certificate_pem(certificate) + key_pem(key))
        over = self.remote("--identity", identity)
        self.mdmctl(*over, "status", status=4)
        done = subprocess.run(
            ["openssl", "x509", "-in", identity, "-noout", "-fingerprint", "-sha256"],
            capture_output=True,
            text=True,
            check=True,
        )
        self.mdmctl("operator", "add", "sam", "--role", "operator")
        self.mdmctl("operator", "certificate", "sam", done.stdout.strip().partition("=")[2])
        told = json.loads(self.mdmctl(*over, "--json", "status").stdout)
        self.assertEqual((told["operator"], told["role"]), ("sam", "operator"))
        self.assertTrue(load_certificate(certificate_pem(certificate)))

    def test_a_server_that_is_not_the_right_one(self) -> None:
        """Without its CA nothing is said to it, above all no password."""
        done = self.mdmctl(
            *("--server", f"localhost:{self.tls_port}", "--user", "pat", "devices"),
            status=3,
            password="correct horse",
        )
        self.assertIn("--ca", done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1)

    def test_wait_shows_the_answer_live(self) -> None:
        """A device that answers while mdmctl waits; the answer is printed, exit status 0."""
        waiting = subprocess.Popen(
            [BIN / "mdmctl", "--state", self.daemon.state, "send", SERIAL, "ProfileList", "--wait"],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(waiting.stdout.close)
        uuid = ""
        while not uuid:
            time.sleep(0.05)
            _, uuid, _ = self.device.connect("Idle")
        self.device.connect("Acknowledged", uuid, ProfileList=[])
        said, _ = waiting.communicate(timeout=20)
        self.assertEqual(waiting.returncode, 0, said)
        self.assertIn(f"{SERIAL}  Acknowledged after", said)

    def test_the_manhole(self) -> None:
        """With a key that mdmctl let in; its lines are in the audit of the real store."""
        if not shutil.which("ssh"):
            raise SkipTest("needs OpenSSH's ssh")
        key = self.daemon.state / "kim"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        self.mdmctl("operator", "add", "kim", "--role", "admin")
        self.mdmctl("operator", "key", "kim", f"{key}.pub")
        options = ("-F", "none", "-i", key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes")
        hosts = ("-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no")
        done = subprocess.run(
            ["ssh", *options, *hosts, "-p", str(self.daemon.ssh_port), "kim@127.0.0.1"],
            input='device("anna\'s mac").id\nlog.level("apns", "debug")\nstore\nstats()\n',
            capture_output=True,
            text=True,
            timeout=30,
        )
        self.assertEqual(done.returncode, 0, done)
        self.assertIn(UDID, done.stdout)
        self.assertIn("<Store over <Link", done.stdout)
        self.assertIn("connections:\n  manhole: 1", done.stdout)
        lines = [each for each in self.daemon.ask("audit") if each["what"] == "manhole"]
        self.assertEqual((lines[0]["who"], lines[0]["facts"]["line"]), ("kim", "stats()"))

    def test_a_flood_at_the_operators_doors(self) -> None:
        """Hundreds of silent connections at each: devices and operators are served all the same."""
        flood = []
        for _ in range(600):
            flood.append(socket.socket(socket.AF_UNIX))
            flood[-1].connect(str(self.daemon.state / "mdmd.sock"))
        for port in (self.tls_port, self.daemon.ssh_port):
            flood += [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
        try:
            begun = time.monotonic()
            self.assertEqual(self.device.connect("Idle")[0], 200)
            self.assertLess(time.monotonic() - begun, 5)
            self.assertEqual(len(self.daemon.ask("devices", "--limit", "1")), 1)
        finally:
            for each in flood:
                each.close()

    def test_completion_knows_serial_numbers(self) -> None:
        """As the store has them in order."""
        done = self.mdmctl("complete", "--", "device", "C02OP")
        self.assertEqual(done.stdout, f"{SERIAL}\n")
        again = self.daemon.device(UDID[:-1] + "2", SerialNumber="C02OPERATE2")
        again.enroll()
        done = self.mdmctl("complete", "--", "device", "C02OP")
        self.assertEqual(done.stdout, f"{SERIAL}\nC02OPERATE2\n")
