"""Identities and profiles from the running daemon, to software of others where there is some."""

import base64
import http.client
import json
import os
import plistlib
import random
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from unittest import SkipTest

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mdmd.errors import BadSCEP
from mdmd.mdm.profile import read_enrollment_profile
from mdmd.pki import certificates, cms, scep_client
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.sealing import CA_KEY, Sealer
from mdmd.sim.device import Device
from mdmd.sim.fleet import KeyRing
from mdmd.sim.hardware import make_hardware
from tests.certhelp import push_pair
from tests.daemonhelp import CHECKIN, TOPIC, HandDevice, RunningDaemon, wait_for_port
from tests.plaindoor import PlainDoor
from tests.storehelp import free_port
from tests.test_scep_real import SCEP_HELPER, SCEPCLIENT, certmonger_session

FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
UDID = "0A1B2C3D-2222-5AC1-BDB2-00000000000{}"
APPLE = CertificateAuthority.create("Root of a fruit", kind="ec")
FACTORY = certificates.new_key()
FACTORY_CERTIFICATE = APPLE.issue_identity(FACTORY.public_key(), "factory identity", 30)
SIGNER = certificates.new_key()
SIGNER_CERTIFICATE = APPLE.issue_identity(SIGNER.public_key(), "Profile signer", 30)


def factory_signed(body: bytes) -> bytes:
    """Sign as a device fresh from the factory does."""
    return cms.sign_attached(body, FACTORY_CERTIFICATE, FACTORY)


class DaemonCase(SynchronousTestCase):
    """One daemon for all tests of a class."""

    daemon: ClassVar[RunningDaemon]
    options: ClassVar[dict[str, str]] = {}

    @classmethod
    def prepare(cls, daemon: RunningDaemon) -> None:
        """Put files into the state folder."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = RunningDaemon(options=cls.options)
        try:
            cls.prepare(cls.daemon)
            cls.daemon.start()
        except BaseException:
            cls.daemon.close()
            raise

    @classmethod
    def tearDownClass(cls) -> None:
        cls.daemon.close()

    def ask(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """One request without a client certificate."""
        connection = http.client.HTTPSConnection(
            "localhost", self.daemon.port, context=HandDevice.trusting(self.daemon), timeout=20
        )
        try:
            connection.request(
                method, path, body or None, {k.replace("_", "-"): v for k, v in headers.items()}
            )
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def enroll_by(self, profile: bytes, name: str = "") -> Any:
        """Get an identity with a profile's challenge; the certificate, or BadSCEP."""
        scep = read_enrollment_profile(profile).scep
        _, ca = self.ask("GET", "/scep?operation=GetCACert")
        key = certificates.new_key("rsa")
        name = name or dict(scep.subject).get("CN", "x")
        request, pending = scep_client.enrolment_request(
            scep_client.read_ca(ca), certificates.new_csr(key, name, scep.challenge), key
        )
        _, reply = self.ask("POST", "/scep?operation=PKIOperation", request)
        return scep_client.read_reply(pending, reply)

    def events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            after = found[-1]["event_id"] if found else "0"
            _, told = self.daemon.api("GET", f"/v1/events?after={after}")
            if not told["events"]:
                return found
            found += told["events"]

    def topics(self) -> list[str]:
        return [each["topic"] for each in self.events()]

    def issued(self) -> list[dict[str, Any]]:
        return self.daemon.ask("ca", "issued")


class OpenTests(DaemonCase):
    """An RSA CA, profiles for everybody, signatures instead of TLS certificates besides."""

    options: ClassVar = {
        "scep": "scep_legacy = yes",
        "site": "identity = tls, mdm-signature",
        "enroll": (
            "sign_message = yes\nsigning_certificate = signer.pem\nsigning_key = signer.key\n"
            "apple_roots = apple.pem\nminimum_os = iOS 17.5"
        ),
    }

    @classmethod
    def prepare(cls, daemon: RunningDaemon) -> None:
        chain = (SIGNER_CERTIFICATE, APPLE.certificate)
        (daemon.state / "signer.pem").write_bytes(
            b"".join(map(certificates.certificate_pem, chain))
        )
        (daemon.state / "signer.key").write_bytes(certificates.key_pem(SIGNER))
        (daemon.state / "apple.pem").write_bytes(certificates.certificate_pem(APPLE.certificate))

    def setUp(self) -> None:
        self.door = PlainDoor(self.daemon.port, self.daemon.state / "ca" / "ca.pem")
        self.addCleanup(self.door.close)
        self.challenge = (self.daemon.state / "scep.challenge").read_text().strip()

    # -- SCEP clients of others ------------------------------------------------

    def test_certmonger(self) -> None:
        """Debian's certmonger (C) enrolls by GET and renews with its certificate."""
        if not SCEP_HELPER.exists() or not shutil.which("dbus-run-session"):
            raise SkipTest("certmonger or dbus-run-session is not installed")
        folder = self.daemon.state / "certmonger"
        folder.mkdir()
        said = certmonger_session(
            folder,
            f"getcert add-scep-ca -s -c T -u {self.door.url}/scep -N {folder}/../ca/ca.pem",
            f"getcert request -s -c T -f {folder}/d.pem -k {folder}/d.key -N CN=certmonger"
            f" -L {self.challenge} -I one -w",
            f"cp {folder}/d.pem {folder}/first.pem",
            "getcert resubmit -s -i one -w",
            "getcert list -s",
        )
        self.assertIn("status: MONITORING", said)
        marks = [
            certificates.fingerprint(certificates.load_certificate((folder / name).read_bytes()))
            for name in ("first.pem", "d.pem")
        ]
        mine = [each for each in self.issued() if each["subject"] == "CN=certmonger"]
        by_mark = {each["fingerprint"]: each for each in mine}
        self.assertEqual(set(by_mark), set(marks))
        self.assertEqual(by_mark[marks[0]]["via"], "static")
        self.assertEqual(by_mark[marks[1]]["via"], "renewal")
        self.assertEqual(by_mark[marks[1]]["renews"], marks[0])

    def test_scepclient(self) -> None:
        """Debian's scepclient (Go) enrolls and renews, old algorithms being let in."""
        if SCEPCLIENT is None:
            raise SkipTest("scepclient (Debian package scep) is not installed")
        folder = self.daemon.state / "scepclient"
        folder.mkdir()
        for _ in range(2):
            ran = subprocess.run(
                [
                    *(SCEPCLIENT, "-server-url", f"{self.door.url}/scep", "-cn", "scepclient"),
                    *("-challenge", self.challenge, "-private-key", "d.key"),
                    *("-certificate", "d.pem"),
                ],
                cwd=folder,
                env={"PATH": os.environ["PATH"], "HOME": str(folder)},
                capture_output=True,
                timeout=60,
                check=False,
            )
            self.assertEqual(ran.returncode, 0, ran.stderr)
        vias = [each["via"] for each in self.issued() if "CN=scepclient" in each["subject"]]
        self.assertEqual(sorted(vias), ["renewal", "static"])

    def test_pyscep(self) -> None:
        """PyScep from PyPI enrolls, and understands a refusal."""
        program = Path(__file__).with_name("pyscep_client.py")
        for challenge, answer in ((self.challenge, "SUCCESS"), ("guess", "FAILURE 2")):
            words = (f"{self.door.url}/scep", challenge, "pyscep")
            ran = subprocess.run(
                [sys.executable, "-W", "ignore", program, *words],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            if "No module named" in ran.stderr:
                raise SkipTest("PyScep is not installed (tests/interop.lock)")
            self.assertIn(answer, ran.stdout, ran.stderr)
        self.assertIn("mdmd.Refused", self.topics())

    # -- the profile -------------------------------------------------------------

    def test_profile(self) -> None:
        """It is signed, brings the CA that the site needs, and passes mdmctl profile check."""
        response, signed = self.ask("GET", "/enroll")
        self.assertEqual(response.getheader("Content-Type"), "application/x-apple-aspen-config")
        content, signer = cms.verify_attached(signed)
        self.assertEqual(signer, SIGNER_CERTIFICATE)
        profile = read_enrollment_profile(content)
        ca = certificates.load_certificate((self.daemon.state / "ca" / "ca.pem").read_bytes())
        self.assertEqual(profile.trust, (certificates.certificate_der(ca),))
        self.assertEqual((profile.topic, profile.sign_message), (TOPIC, True))
        path = self.daemon.state / "enroll.mobileconfig"
        path.write_bytes(signed)
        checked = self.daemon.mdmctl("profile", "check", "--topic", TOPIC, str(path))
        self.assertEqual((checked.returncode, checked.stdout.count("error")), (0, 0), checked)
        made = self.daemon.mdmctl("profile", "enroll", "-o", str(path))
        self.assertEqual(made.returncode, 0, made)
        again, _ = cms.verify_attached(path.read_bytes())
        self.assertEqual(again, content)

    def test_check_against_the_daemon(self) -> None:
        """The topic is held against the push certificate that is installed."""
        topic, pem = push_pair(TOPIC)
        push = self.daemon.state / "push.pem"
        push.write_bytes(pem)
        self.assertEqual(self.daemon.api("PUT", "/v1/pushcert", pem)[0], 200)
        path = self.daemon.state / "checked.mobileconfig"
        for name, status in ((topic, 0), ("com.apple.mgmt.External.other", 1)):
            _, signed = self.ask("GET", "/enroll")
            profile, _ = cms.verify_attached(signed)
            path.write_bytes(profile.replace(TOPIC.encode(), name.encode()))
            checked = self.daemon.mdmctl("profile", "check", str(path))
            self.assertEqual(checked.returncode, status, checked)
            self.assertEqual("no push would arrive" in checked.stdout, bool(status))

    def test_one_time(self) -> None:
        """A profile for one name: its challenge is good once, and for that name only."""
        path = self.daemon.state / "one.mobileconfig"
        made = self.daemon.mdmctl("profile", "enroll", "--name", "C02ONE", "-o", str(path))
        self.assertEqual(made.returncode, 0, made)
        profile, _ = cms.verify_attached(path.read_bytes())
        error = self.assertRaises(BadSCEP, self.enroll_by, profile, "C02OTHER")
        self.assertEqual(error.fail_info, "badRequest")
        certificate = self.enroll_by(profile)
        self.assertIn("CN=C02ONE", certificate.subject.rfc4514_string())
        self.assertEqual(
            self.assertRaises(BadSCEP, self.enroll_by, profile).fail_info, "badRequest"
        )
        mine = [each for each in self.issued() if "C02ONE" in each["subject"]]
        self.assertEqual(
            [(each["via"], each["label"][:10]) for each in mine], [("one-time", "profile by")]
        )

    # -- automated and account-driven --------------------------------------------

    def machine_info(self, **changes: object) -> bytes:
        return plistlib.dumps(
            {
                "UDID": UDID.format(8),
                "SERIAL": "C02MACHINE",
                "PRODUCT": "iPhone14,2",
                "VERSION": "21F79",
                "OS_VERSION": "17.5",
                "MDM_CAN_REQUEST_SOFTWARE_UPDATE": True,
                **changes,
            }
        )

    def test_machine_info(self) -> None:
        """A device with a factory identity gets the profile for it, once; the event tells of it."""
        body = factory_signed(self.machine_info())
        response, signed = self.ask("POST", "/enroll", body)
        self.assertEqual(response.status, 200, signed)
        profile, _ = cms.verify_attached(signed)
        self.assertEqual(dict(read_enrollment_profile(profile).scep.subject)["CN"], UDID.format(8))
        self.enroll_by(profile)
        self.assertRaises(BadSCEP, self.enroll_by, profile)
        told = [each for each in self.events() if each["topic"] == "mdmd.MachineInfo"]
        self.assertIn("C02MACHINE", json.dumps(told))

    def test_update_first(self) -> None:
        """An older system is told to update first; one that can't be told is let in."""
        old = self.machine_info(OS_VERSION="17.4.1")
        response, body = self.ask("POST", "/enroll", factory_signed(old))
        self.assertEqual(response.status, 403)
        self.assertEqual(response.getheader("Content-Type"), "application/json")
        said = json.loads(body)
        self.assertEqual(
            (said["code"], said["details"]),
            ("com.apple.softwareupdate.required", {"OSVersion": "17.5"}),
        )
        silent = self.machine_info(OS_VERSION="17.4.1", MDM_CAN_REQUEST_SOFTWARE_UPDATE=False)
        response, _ = self.ask("POST", "/enroll", factory_signed(silent))
        self.assertEqual(response.status, 200)

    def test_not_apples(self) -> None:
        """A stranger's signature, a changed body, no signature: 400 and an event, never a 401."""
        stranger = CertificateAuthority.create("Root of a fruit", kind="ec")
        certificate = stranger.issue_identity(FACTORY.public_key(), "factory identity", 30)
        good = factory_signed(self.machine_info())
        for body in (
            cms.sign_attached(self.machine_info(), certificate, FACTORY, [stranger.certificate]),
            good.replace(b"C02MACHINE", b"C02MACHINF"),
            good[:-1],
            self.machine_info(),
            b"x",
            factory_signed(b"no plist"),
        ):
            response, _ = self.ask("POST", "/enroll", body)
            self.assertEqual(response.status, 400)
        self.assertIn("mdmd.Refused", self.topics())

    def test_well_known(self) -> None:
        """Account-driven enrollment finds its way from the domain."""
        response, body = self.ask("GET", "/.well-known/com.apple.remotemanagement")
        self.assertEqual(response.getheader("Content-Type"), "application/json")
        base = f"https://localhost:{self.daemon.port}/enroll"
        self.assertEqual(
            json.loads(body)["Servers"],
            [
                {"Version": "mdm-byod", "BaseURL": base},
                {"Version": "mdm-adde", "BaseURL": base},
            ],
        )

    def test_fuzz(self) -> None:
        """Mutated messages get an answer each, nobody a certificate, and the daemon serves on."""
        chance = random.Random(20261124)
        key = certificates.new_key("rsa")
        _, ca = self.ask("GET", "/scep?operation=GetCACert")
        request, _ = scep_client.enrolment_request(
            scep_client.read_ca(ca), certificates.new_csr(key, "fuzz", "guess"), key
        )
        genuine = {
            "/scep?operation=PKIOperation": request,
            "/enroll": factory_signed(self.machine_info()),
        }
        before = len(self.issued())
        for path, message in genuine.items():
            for _ in range(60):
                body = bytearray(message)
                for _ in range(chance.randint(1, 4)):
                    at = chance.randrange(len(body))
                    body[at : at + chance.randint(0, 9)] = chance.randbytes(chance.randint(0, 9))
                response, said = self.ask("POST", path, bytes(body))
                self.assertIn(response.status, (200, 400))
                self.assertNotIn(b"Traceback", said)
                if path == "/enroll" and response.status == 200:
                    self.assertTrue(said.startswith(b"\x30"))
        self.assertEqual(len(self.issued()), before)
        self.assertNotIn("a bug of ours", self.daemon.log.read_text())
        self.assertEqual(self.ask("GET", "/scep?operation=GetCACaps")[0].status, 200)

    # -- who a device is -----------------------------------------------------------

    def signed_put(self, device: HandDevice, signed: bytes, sent: bytes, kind: str = "") -> int:
        certificate = certificates.load_certificate(device.certificate.read_bytes())
        key = certificates.load_key(device.key.read_bytes())
        signature = base64.b64encode(cms.sign_detached(signed, certificate, key)).decode()
        response, _ = self.ask(
            "PUT", "/connect", sent, Mdm_Signature=signature, Content_Type=kind or "application/xml"
        )
        return response.status

    def test_mdm_signature(self) -> None:
        """A message signed by the device counts; the same signature over another body does not."""
        device = self.daemon.device(UDID.format(1))

        def check_in(**keys: object) -> bytes:
            return plistlib.dumps({"UDID": device.udid, "Topic": TOPIC, **keys})

        for body in (
            check_in(MessageType="Authenticate"),
            check_in(MessageType="TokenUpdate", Token=b"t" * 32, PushMagic="magic"),
        ):
            self.assertEqual(self.signed_put(device, body, body, CHECKIN), 200)
        self.daemon.enqueue(device.udid, "A")
        idle = plistlib.dumps({"UDID": device.udid, "Status": "Idle"})
        self.assertEqual(self.signed_put(device, idle, idle), 200)
        answer = {"UDID": device.udid, "Status": "Acknowledged", "CommandUUID": "A"}
        genuine = plistlib.dumps(answer)
        for tampered in (
            plistlib.dumps(answer | {"QueryResponses": {"OSVersion": "99"}}),
            genuine.replace(b"Acknowledged", b"acknowledged"),
            genuine + b"\n",
            b"",
        ):
            self.assertEqual(self.signed_put(device, genuine, tampered), 400)
        status, told = self.daemon.api("GET", f"/v1/results/{device.udid}")
        self.assertEqual((status, told["results"]), (200, []))
        self.assertEqual(self.signed_put(device, genuine, genuine), 200)
        _, told = self.daemon.api("GET", f"/v1/results/{device.udid}")
        self.assertEqual([each["status"] for each in told["results"]], ["Acknowledged"])

    def test_large_report_signed(self) -> None:
        """A list of apps beyond what strangers may send is taken from whoever signs it."""
        device = self.daemon.device(UDID.format(21))
        for message in (
            {"MessageType": "Authenticate"},
            {"MessageType": "TokenUpdate", "Token": b"t" * 32, "PushMagic": "magic"},
        ):
            body = plistlib.dumps({"UDID": device.udid, "Topic": TOPIC, **message})
            self.assertEqual(self.signed_put(device, body, body, CHECKIN), 200)
        apps = [{"Name": "x" * 1000}] * 6000
        report = {"UDID": device.udid, "Status": "Acknowledged", "CommandUUID": "A"}
        large = plistlib.dumps(report | {"InstalledApplicationList": apps})
        self.assertEqual(self.signed_put(device, large, large), 200)

    def twin(self) -> RunningDaemon:
        """Another daemon on the same store, with the same CA."""
        twin = RunningDaemon(redis=self.daemon.store_url)
        self.addCleanup(twin.close)
        for name in ("ca", "tls", "sealing.key", "scep.challenge"):
            source, target = self.daemon.state / name, twin.state / name
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copy(source, target)
        twin.start()
        return twin

    def test_revoked(self) -> None:
        """From the moment that mdmctl says so the device is refused, by every daemon."""
        device = self.daemon.device(UDID.format(2))
        device.enroll()
        self.assertEqual(device.connect(), (200, "", ""))
        twin = self.twin()
        there = HandDevice.with_identity(
            twin,
            device.udid,
            certificates.load_certificate(device.certificate.read_bytes()),
            certificates.load_key(device.key.read_bytes()),
        )
        self.assertEqual(there.connect(), (200, "", ""))
        said = self.daemon.mdmctl("ca", "revoke", device.udid, "--reason", "stolen")
        self.assertEqual((said.returncode, said.stdout), (0, "revoked\n"), said)
        self.assertEqual((device.connect()[0], there.connect()[0]), (403, 403))
        self.assertEqual(device.check_in(MessageType="Authenticate", Topic=TOPIC)[0], 403)
        shown = self.daemon.ask("ca", "issued", self.serial(device))
        self.assertEqual((shown["enrollment"], shown["reason"]), (device.udid, "stolen"))
        self.assertIn("mdmd.CertificateRevoked", self.topics())
        ca, key = scep_client.Ca, certificates.load_key(device.key.read_bytes())
        own = certificates.load_certificate((self.daemon.state / "ca" / "ca.pem").read_bytes())
        old = certificates.load_certificate(device.certificate.read_bytes())
        request, pending = scep_client.renewal_request(
            ca(own, own), certificates.new_csr(key, device.udid), old, key
        )
        _, reply = self.ask("POST", "/scep?operation=PKIOperation", request)
        error = self.assertRaises(BadSCEP, scep_client.read_reply, pending, reply)
        self.assertEqual(error.fail_info, "badCertId")

    def serial(self, device: HandDevice) -> str:
        certificate = certificates.load_certificate(device.certificate.read_bytes())
        return f"{certificate.serial_number:x}"

    def test_unknown(self) -> None:
        """A certificate that the CA's key signed elsewhere is refused."""
        device = self.daemon.device(UDID.format(3))
        sealer = Sealer((self.daemon.state / "sealing.key").read_bytes())
        files = self.daemon.state / "ca"
        key = sealer.unseal_file((files / "ca.key").read_bytes(), CA_KEY)
        authority = CertificateAuthority.load((files / "ca.pem").read_bytes(), key)
        own = certificates.load_key(device.key.read_bytes())
        stray = authority.issue_identity(own.public_key(), device.udid, 30)
        device.certificate.write_bytes(certificates.certificate_pem(stray))
        self.assertEqual(device.check_in(MessageType="Authenticate", Topic=TOPIC)[0], 403)

    def test_ca_show(self) -> None:
        """Operators see what the CA is."""
        shown = self.daemon.ask("ca", "show")
        self.assertEqual((shown["key"], shown["challenge"]), ("RSA 2048", "static"))
        _, der = self.ask("GET", "/ca")
        self.assertEqual(
            shown["fingerprint"], certificates.fingerprint(certificates.load_certificate(der))
        )


class GuardedTests(DaemonCase):
    """A CA with an EC key brought along, PKCS#12 identities, a password or a link."""

    options: ClassVar = {
        "scep": "challenge = one-time",
        "enroll": "access = basic\npassword_file = enroll.password\nidentity = pkcs12",
    }

    @classmethod
    def prepare(cls, daemon: RunningDaemon) -> None:
        (daemon.state / "enroll.password").write_text("open sesame\n")
        own = CertificateAuthority.create("Brought along", kind="ec")
        for name, content in (
            ("own.pem", certificates.certificate_pem(own.certificate)),
            ("own.key", certificates.key_pem(own.key)),
        ):
            (daemon.state / name).write_bytes(content)
        done = daemon.mdmctl(
            *("ca", "import", "--certificate", str(daemon.state / "own.pem")),
            *("--key", str(daemon.state / "own.key")),
        )
        assert done.returncode == 0, done
        assert b"PRIVATE KEY" not in (daemon.state / "ca" / "ca.key").read_bytes()
        # The site's certificate is still of the CA that init made.
        (old,) = daemon.state.glob("ca.2*")
        daemon.trust = old / "ca.pem"
        with daemon.config.open("a") as config:
            config.write(f"[ca]\ntrust = {daemon.trust}\n")

    def test_password(self) -> None:
        """People are asked for the password; devices and wrong ones get nothing."""
        response, _ = self.ask("GET", "/enroll")
        self.assertEqual(response.status, 401)
        self.assertIn("Basic", response.getheader("WWW-Authenticate"))
        for password, status in (("wrong", 401), ("open sesame", 200)):
            token = base64.b64encode(f"anybody:{password}".encode()).decode()
            response, _ = self.ask("GET", "/enroll", Authorization=f"Basic {token}")
            self.assertEqual(response.status, status)
        response, _ = self.ask("POST", "/enroll", b"x")
        self.assertEqual(response.status, 404)

    def test_link(self) -> None:
        """A link gives the profile once; a device enrolls with the identity in it."""
        made = self.daemon.ask("enroll-link", "--name", "C02LINK", "--label", "for Ada")
        path = made["url"].removeprefix(f"https://localhost:{self.daemon.port}")
        response, profile = self.ask("GET", path)
        self.assertEqual(response.status, 200)
        for again in (path, "/enroll?link=guess"):
            self.assertEqual(self.ask("GET", again)[0].status, 404)
        identity = read_enrollment_profile(profile).pkcs12
        key, certificate, _ = certificates.load_pkcs12(identity.data, identity.password.encode())
        self.assertEqual(certificate.subject.rfc4514_string(), "CN=C02LINK")
        device = HandDevice.with_identity(self.daemon, UDID.format(4), certificate, key)
        device.enroll()
        self.assertEqual(device.connect(), (200, "", ""))
        (record,) = [each for each in self.issued() if each["subject"] == "CN=C02LINK"]
        self.assertEqual(
            (record["via"], record["label"], record["enrollment"]),
            ("pkcs12", "for Ada", device.udid),
        )

    def test_registration_authority(self) -> None:
        """SCEP of an EC CA goes through a registration authority, the same after a restart."""
        _, before = self.ask("GET", "/scep?operation=GetCACert")
        self.daemon.stop()
        self.daemon.start()
        _, after = self.ask("GET", "/scep?operation=GetCACert")
        self.assertEqual(before, after)
        ca = scep_client.read_ca(after)
        self.assertEqual(ca.certificate.subject.rfc4514_string(), "CN=Brought along")

    def test_no_static_challenge(self) -> None:
        """With one-time challenges the old static one is good for nothing."""
        _, body = self.ask("GET", "/scep?operation=GetCACert")
        key = certificates.new_key("rsa")
        challenge = (self.daemon.state / "scep.challenge").read_text().strip()
        request, pending = scep_client.enrolment_request(
            scep_client.read_ca(body), certificates.new_csr(key, "x", challenge), key
        )
        _, reply = self.ask("POST", "/scep?operation=PKIOperation", request)
        self.assertRaises(BadSCEP, scep_client.read_reply, pending, reply)


_NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {state}/tls/site.pem; ssl_certificate_key {state}/tls/site.key;
        ssl_verify_client optional_no_ca;
        location / {{
            proxy_pass https://127.0.0.1:{behind};
            proxy_set_header Host localhost;
            proxy_set_header Client-Cert $ssl_client_escaped_cert;
        }}
    }}
}}
"""


_APACHE = """
ServerRoot {folder}
ServerName localhost
PidFile {folder}/pid
ErrorLog {folder}/error.log
DefaultRuntimeDir {folder}
Listen 127.0.0.1:{port}
{modules}
SSLSessionCache none
SSLEngine on
SSLCertificateFile {state}/tls/site.pem
SSLCertificateKeyFile {state}/tls/site.key
SSLVerifyClient optional_no_ca
SSLProxyEngine on
SSLProxyVerify none
SSLProxyCheckPeerName off
RequestHeader unset Client-Cert
RequestHeader set Client-Cert "expr=%{{escape:%{{SSL_CLIENT_CERT}}}}" "expr=-n %{{SSL_CLIENT_CERT}}"
ProxyPass / https://127.0.0.1:{behind}/
"""
_MODULES = "mpm_event authz_core ssl socache_shmcb proxy proxy_http headers"


class TimeTests(SynchronousTestCase):
    """A machine whose clock is years off."""

    def test_told(self) -> None:
        """A device CA that is not valid now is told at the start: else devices would tell it."""
        daemon = RunningDaemon()
        self.addCleanup(daemon.close)
        passed = CertificateAuthority.create("ended", "rsa", 30, datetime(2020, 1, 1, tzinfo=UTC))
        (daemon.state / "ca" / "ca.pem").write_bytes(
            certificates.certificate_pem(passed.certificate)
        )
        (daemon.state / "ca" / "ca.key").write_bytes(certificates.key_pem(passed.key))
        daemon.start()
        told = [each for each in daemon.log.read_text().splitlines() if " warn " in each]
        self.assertEqual(len(told), 1, told)
        self.assertIn("2019-12-31 23:00 to 2020-01-31 00:00", told[0])


class ProxyTests(DaemonCase):
    """Behind a proxy, which passes the certificate on."""

    options: ClassVar = {"site": "identity = header\nproxies = 127.0.0.1"}

    def through(self, program: str, words: list[str], text: str, number: int, **more: str) -> None:
        """A device enrolls and connects through it; without its certificate nothing goes."""
        found = shutil.which(program, path="/usr/sbin:" + os.environ["PATH"])
        if found is None:
            raise SkipTest(f"{program} is not installed")
        folder, port = self.daemon.state / program, free_port()
        folder.mkdir()
        device = self.daemon.device(UDID.format(number))
        (folder / "conf").write_text(
            text.format(
                folder=folder, port=port, state=self.daemon.state, behind=self.daemon.port, **more
            )
        )
        words = [each.format(folder=folder) for each in words]
        process = subprocess.Popen([found, *words], stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        direct, self.daemon.port = self.daemon.port, port
        self.addCleanup(setattr, self.daemon, "port", direct)
        wait_for_port(port)
        device.enroll()
        self.daemon.enqueue(device.udid, "A")
        self.assertEqual(device.connect(), (200, "A", "DeviceInformation"))
        idle = plistlib.dumps({"UDID": device.udid, "Status": "Idle"})
        self.assertEqual(self.ask("PUT", "/connect", idle)[0].status, 400)

    def test_nginx(self) -> None:
        """As nginx escapes it."""
        words = ["-c", "{folder}/conf", "-e", "{folder}/error.log"]
        self.through("nginx", words, _NGINX, 5)

    def test_apache(self) -> None:
        """As Apache escapes it."""
        folder = Path("/usr/lib/apache2/modules")
        if not folder.exists():
            raise SkipTest("apache2 is not installed")
        modules = "".join(
            f"LoadModule {name}_module {folder}/mod_{name}.so\n" for name in _MODULES.split()
        )
        self.through("apache2", ["-f", "{folder}/conf", "-X"], _APACHE, 6, modules=modules)


class RenewalTests(TestCase):
    """A simulated device renews its identity with the running daemon."""

    timeout = 115

    async def test_renewal(self) -> None:
        """
        An identity whose time has come is renewed by the daemon, nobody has to ask.

        The profile comes as InstallProfile; the new certificate counts, the tokens are kept.
        An operator may have it done before its time, too.
        """
        # A certificate's life begins an hour before it is made, so this one is due at once.
        self.daemon = RunningDaemon(options={"scep": "validity = 1d\nrenew_after = 1"})
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        device = await self.enrolled()
        first, udid = device.identity.certificate, device.hardware.udid
        await device.close()  # its connection; else the daemon waits for it
        self.daemon.stop()
        self.daemon.start()  # it looks at what is due as it starts
        for _ in range(50):
            if await device.session():
                break
        second = device.identity.certificate
        self.assertNotEqual(second, first)
        self.assertEqual(second.subject, first.subject)
        record = self.daemon.ask("ca", "issued", udid)
        self.assertEqual(record["fingerprint"], certificates.fingerprint(second))
        self.assertEqual((record["enrollment"], record["via"]), (udid, "renewal"))
        self.assertIn(b"BootstrapToken", await device.check_in("GetBootstrapToken"))
        _, told = self.daemon.api("GET", "/v1/events?after=0")
        topics = [each["topic"] for each in told["events"]]
        self.assertIn("mdmd.IdentityRenewed", topics)
        self.assertIn("mdmd.Renewal", topics)
        _, results = self.daemon.api("GET", f"/v1/results/{udid}")
        self.assertIn("InstallProfile", [each["request_type"] for each in results["results"]])
        told = self.daemon.ask("ca", "renew", udid)
        self.assertRegex(told["command_uuid"], re.compile("^renew-identity-"))
        self.assertEqual(await device.session(), 1)
        self.assertNotEqual(device.identity.certificate, second)

    async def test_expired(self) -> None:
        """By option a device that slept too long gets its renewal, and then everything again."""
        if not FAKETIME:
            raise SkipTest("faketime is not installed")
        options = "validity = 30d\nrenew_expired = yes"
        self.daemon = RunningDaemon(options={"scep": options})
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        device = await self.enrolled()
        first, udid = device.identity.certificate, device.hardware.udid
        await device.close()  # its connection; else the daemon waits for it
        self.daemon.stop()
        # Not by faketime's own program: it stays in between, and no signal gets past it.
        self.daemon.launcher = ["env", f"LD_PRELOAD={FAKETIME[0]}", "FAKETIME=+40d"]
        self.daemon.start()
        for _ in range(50):
            if await device.session():
                break
        self.assertNotEqual(device.identity.certificate, first)
        self.assertEqual(self.daemon.enqueue(udid, "A"), 200)
        self.assertEqual(await device.session(), 1)
        _, results = self.daemon.api("GET", f"/v1/results/{udid}")
        self.assertIn("A", [each["command_uuid"] for each in results["results"]])

    async def enrolled(self) -> Device:
        path = self.daemon.state / "e.mobileconfig"
        made = self.daemon.mdmctl("profile", "enroll", "-o", str(path))
        self.assertEqual(made.returncode, 0, made)
        device = Device(
            reactor, make_hardware("mac", "t", 1), path.read_bytes(), new_key=KeyRing(1).new_key
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(device.close()))
        await device.enroll()
        return device
