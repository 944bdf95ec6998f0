"""``mdmctl doctor`` finds what is wrong, says it in one line, and knows what to do about it."""

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mdmd.cli.places import forbidden
from mdmd.config import load
from mdmd.doctor.apns import check_apns, check_push_certificates
from mdmd.doctor.files import check_files
from mdmd.doctor.finding import Finding, Grade
from mdmd.doctor.redis import Client
from mdmd.doctor.site import check_site, check_site_file
from mdmd.doctor.store import check_store
from mdmd.doctor.system import check_daemon, check_limits, is_running
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import certificate_pem, key_pem
from mdmd.sim.standin import make_push_certificate
from mdmd.store.address import Address
from tests.daemonhelp import BIN, RunningDaemon, redis_server
from tests.storehelp import free_port

TOPIC = "com.apple.mgmt.External.7faed215-0000-4618-a210-000000000000"
NOW = datetime.now(UTC)


def told(findings: Any, subject: str) -> list[Finding]:
    return [each for each in findings if each.subject == subject]


def nothing(*_: object) -> Any:
    """A profile check that finds nothing."""
    return "", []


class ApnsProcess:
    """The stand-in for APNs as a process."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="apns-", dir="/tmp")
        self.process = subprocess.Popen(
            [BIN / "mdmctl", "--json", "sim", "apns", "--dir", self.folder, "--topic", TOPIC],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = json.loads(self.process.stdout.readline())["port"]

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate()
        shutil.rmtree(self.folder)


class RunningTests(SynchronousTestCase):
    """A server that runs, with something wrong with it."""

    daemon: ClassVar[RunningDaemon]
    apns: ClassVar[ApnsProcess]

    @classmethod
    def setUpClass(cls) -> None:
        cls.apns = ApnsProcess()
        place = f"port = {cls.apns.port}\ntrust = {cls.apns.folder}/ca.pem"
        cls.daemon = RunningDaemon()
        text = cls.daemon.config.read_text()
        section = text.partition("[apns]\n")[2].partition("\n\n")[0]
        cls.daemon.config.write_text(text.replace(section, f"host = localhost\n{place}"))
        cls.daemon.start()
        pem = cls.daemon.state / "push.pem"
        pem.write_bytes(make_push_certificate(TOPIC))
        done = cls.daemon.mdmctl("pushcert", "install", str(pem))
        assert done.returncode == 0, done

    @classmethod
    def tearDownClass(cls) -> None:
        cls.daemon.close()
        cls.apns.close()

    def doctor(self, *words: str) -> tuple[int, list[dict[str, str]]]:
        ran = subprocess.run(
            [BIN / "mdmctl", "--json", "--config", self.daemon.config, "doctor", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        self.assertEqual(ran.stderr, "")
        return ran.returncode, json.loads(ran.stdout)

    def test_healthy(self) -> None:
        """With a push certificate all is well, and each subject has been looked at."""
        status, findings = self.doctor()
        wrong = [each for each in findings if each["grade"] == "failed"]
        self.assertEqual((status, wrong), (0, []))
        well = {each["subject"] for each in findings if each["grade"] == "ok"}
        self.assertLessEqual(
            {
                *("configuration", "file modes", "device CA", "site certificate", "disk"),
                *("daemon", "store", "persistence", "memory", "latency", "push certificate"),
                *("site", "SCEP", "profile", "APNs"),
            },
            well,
        )

    def test_another_s_files(self) -> None:
        """What root made in the folder of another account is named, with what helps."""
        if os.getuid() != 0:
            self.skipTest("only root can give files away")
        stray = self.daemon.state / "tls"
        os.chown(stray, 65534, 65534)
        self.addCleanup(os.chown, stray, 0, 0)
        status, findings = self.doctor("--offline")
        (finding,) = (each for each in findings if each["subject"] == "owner")
        self.assertEqual(status, 1)
        self.assertIn(f"{stray} (1 in all)", finding["text"])
        self.assertEqual(finding["remedy"], f"chown -R 0:0 {self.daemon.state}")

    def test_no_operator(self) -> None:
        """Whom the daemon does not know is told so: nothing is wrong with the daemon."""
        operators = self.daemon.state / "operators.json"
        known = operators.read_text()
        self.addCleanup(operators.write_text, known)
        operators.write_text(known.replace(f'"uid": {os.getuid()}', '"uid": 4242'))
        _, findings = self.doctor("--offline")
        (finding,) = (each for each in findings if each["subject"] == "daemon")
        self.assertEqual(finding["grade"], "warning")
        self.assertIn(f"no operator has the uid {os.getuid()}", finding["text"])
        self.assertIn("as an operator", finding["remedy"])

    def test_for_people(self) -> None:
        """A line for each finding, a line for each remedy, and the sum."""
        secret = self.daemon.state / "sealing.key"
        secret.chmod(0o644)
        self.addCleanup(secret.chmod, 0o600)
        done = self.daemon.mdmctl("doctor", "--offline")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"→ chmod 600 {secret}\n", done.stdout)
        self.assertIn("1 of these has to be put right\n", done.stdout)

    def test_mistake_in_the_configuration(self) -> None:
        """Each mistake is a finding; nothing else is looked at."""
        text = self.daemon.config.read_text()
        self.daemon.config.write_text(f"{text}[site]\n[nonsense]\nx = 1\n")
        self.addCleanup(self.daemon.config.write_text, text)
        status, findings = self.doctor()
        self.assertEqual((status, {each["subject"] for each in findings}), (1, {"configuration"}))

    def test_certificate_for_another_name(self) -> None:
        """What a device would say of it, and what is to be done."""
        config = load(self.daemon.config)
        url = config.mdmd.public_url.replace("localhost", "127.0.0.1")
        other = attrs.evolve(config, mdmd=attrs.evolve(config.mdmd, public_url=url))
        (finding,) = check_site(other, [], nothing)
        self.assertEqual(finding.grade, Grade.FAILED)
        self.assertIn("IP address mismatch", finding.text)
        self.assertIn("get a certificate for the address", finding.remedy)

    def test_untrusted_certificate(self) -> None:
        """A CA that no device knows of is not a CA."""
        config = load(self.daemon.config)
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        other = CertificateAuthority.create("Another", kind="ec")
        (folder / "ca.pem").write_bytes(certificate_pem(other.certificate))
        changed = attrs.evolve(config, ca=attrs.evolve(config.ca, certificate=folder / "ca.pem"))
        (finding,) = check_site(changed, [], nothing)
        self.assertIn("devices refuse the certificate", finding.text)

    def test_not_reloaded(self) -> None:
        """A new file that the daemon has not read yet; one that ends soon, once it has."""
        state = self.daemon.state
        pair = [state / "tls" / "site.pem", state / "tls" / "site.key"]
        for path, content in [(each, each.read_bytes()) for each in pair]:
            self.addCleanup(path.write_bytes, content)
        certificate, key = self.daemon.authority().issue_server(["localhost"], days=5)
        (state / "tls" / "site.pem").write_bytes(certificate_pem(certificate))
        (state / "tls" / "site.key").write_bytes(key_pem(key))
        found = told(check_site(load(self.daemon.config), [], nothing), "site certificate")
        self.assertEqual([each.grade for each in found], [Grade.WARNING])
        self.assertIn("systemctl reload", found[0].remedy)

    def test_soon_over(self) -> None:
        """A certificate with a month to live is a warning."""
        config = load(self.daemon.config)
        later = NOW + timedelta(days=710)
        found = told(check_site(config, [], nothing, later), "site certificate")
        self.assertEqual([each.grade for each in found], [Grade.WARNING])
        self.assertRegex(found[0].text, r"ends in \d+ days")

    def test_another_is_served(self) -> None:
        """What devices refuse may be repaired in the file already: that is to be served then."""
        state = self.daemon.state
        site = state / "tls" / "site.pem"
        self.addCleanup(site.write_bytes, site.read_bytes())
        config = load(self.daemon.config)
        url = config.mdmd.public_url.replace("localhost", "127.0.0.1")
        other = attrs.evolve(config, mdmd=attrs.evolve(config.mdmd, public_url=url))
        certificate, _ = self.daemon.authority().issue_server(["127.0.0.1"], days=60)
        site.write_bytes(certificate_pem(certificate))
        (finding,) = check_site(other, [], nothing)
        self.assertIn(f"it is not what is in {site}", finding.text)
        self.assertIn("systemctl restart mdmd", finding.remedy)

    def test_hangs(self) -> None:
        """A port that takes connections and says nothing is no fault of a firewall."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            config = load(self.daemon.config)
            hung = attrs.evolve(
                config,
                mdmd=attrs.evolve(config.mdmd, public_url=f"https://localhost:{port}"),
                site=attrs.evolve(config.site, listen=(f"tcp:{port}",)),
            )
            with mock.patch("mdmd.doctor.site._TIMEOUT", 0.2):
                found = list(check_site(hung, [], nothing))
        self.assertIn("no answer in time", found[0].text)
        self.assertIn("systemctl restart mdmd", found[0].remedy)
        finding = check_daemon(self.daemon.state / "mdmd.sock", "the store is away")
        self.assertIn("it runs", finding.remedy)

    def test_address_of_its_own(self) -> None:
        """A site that listens on one address only is found there, of whichever kind."""
        config = load(self.daemon.config)
        url = f"https://localhost:{free_port()}"
        away = attrs.evolve(config, mdmd=attrs.evolve(config.mdmd, public_url=url))
        for address in ("127.0.0.2", "::1"):
            with contextlib.ExitStack() as stack:
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                server = stack.enter_context(socket.create_server((address, 0), family=family))
                port = server.getsockname()[1]
                kind = "tcp6" if ":" in address else "tcp"
                escaped = address.replace(":", "\\:")
                listen = (f"haproxy:{kind}:{port}:interface={escaped}",)
                site = attrs.evolve(away.site, listen=listen)
                found = list(check_site(attrs.evolve(away, site=site), [], nothing))
            self.assertIn(f"answers here on port {port}", found[0].remedy)

    def test_embedded_store_down(self) -> None:
        """While there is a daemon, its own store that does not answer is a failure."""
        config = attrs.evolve(
            load(self.daemon.config),
            mdmd=attrs.evolve(load(self.daemon.config).mdmd, state=Path("/none")),
        )
        grades = [[each.grade for each in check_store(config, up)] for up in (True, False)]
        self.assertEqual(grades, [[Grade.FAILED], [Grade.SKIPPED]])
        self.assertTrue(is_running(self.daemon.state / "mdmd.sock"))

    def test_apns_unreachable(self) -> None:
        """A closed port, and what is to be opened."""
        config = load(self.daemon.config)
        closed = attrs.evolve(config, apns=attrs.evolve(config.apns, port=free_port()))
        (finding,) = check_apns(closed)
        self.assertEqual(finding.grade, Grade.FAILED)
        self.assertIn("refused", finding.text)
        proxied = attrs.evolve(
            config, apns=attrs.evolve(config.apns, proxy=f"http://localhost:{free_port()}")
        )
        (finding,) = check_apns(proxied)
        self.assertIn("without the proxy", finding.remedy)

    def test_apns_in_the_middle(self) -> None:
        """Somebody on the way who opens TLS is told of as such."""
        config = load(self.daemon.config)
        trusting = attrs.evolve(config, apns=attrs.evolve(config.apns, trust=None))
        (finding,) = check_apns(trusting)
        self.assertIn("something on the way opens TLS", finding.remedy)

    def test_apns_at_another_time(self) -> None:
        """Certificates of APNs that are over, or not valid yet, are a wrong clock here."""
        for word in ("certificate has expired", "certificate is not yet valid"):
            error = ssl.SSLCertVerificationError(1, word)
            error.verify_message = word
            with mock.patch("ssl.SSLContext.wrap_socket", side_effect=error):
                (finding,) = check_apns(load(self.daemon.config))
            self.assertIn("clock", finding.remedy)

    def test_damaged_certificate_while_up(self) -> None:
        """The one that is still served is of our CA, which devices have from the profile."""
        site = self.daemon.state / "tls" / "site.pem"
        self.addCleanup(site.write_bytes, site.read_bytes())
        site.write_text("x")
        (finding,) = told(check_site(load(self.daemon.config), [], nothing), "site")
        self.assertEqual(finding.grade, Grade.OK)

    def test_open_files(self) -> None:
        """The limit is the running daemon's, not ours."""
        config = load(self.daemon.config)
        many = attrs.evolve(config, site=attrs.evolve(config.site, max_connections=1_000_000))
        (finding,) = check_limits(many, self.daemon.state / "mdmd.sock")
        self.assertEqual(finding.grade, Grade.WARNING)


class StoppedTests(SynchronousTestCase):
    """A state folder, and no daemon."""

    def setUp(self) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="mdmd-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.state)
        subprocess.run(
            [BIN / "mdmctl", "--state", self.state, "init", "--hostname", "localhost"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        self.config = load(self.state / "mdmd.conf")

    def test_down(self) -> None:
        """It works while the daemon is down, and says so once."""
        ran = subprocess.run(
            [BIN / "mdmctl", "--json", "--state", self.state, "doctor", "--offline"],
            capture_output=True,
            text=True,
            check=False,
        )
        findings = json.loads(ran.stdout)
        failed = [each["subject"] for each in findings if each["grade"] == "failed"]
        self.assertEqual((ran.returncode, failed), (1, ["daemon"]))

    def test_forbidden(self) -> None:
        """What an account may not read is told from what is not there."""
        if os.getuid() != 0:
            self.skipTest("root reads everything, and others are who they are")
        self.state.chmod(0o755)
        (self.state / "tls").chmod(0o700)
        self.addCleanup(os.seteuid, 0)
        os.seteuid(65534)
        asked = ("mdmd.conf", "tls/site.pem", "tls/none", "none")
        found = [forbidden(self.state / each) for each in asked]
        self.assertEqual(found, [True, True, True, False])

    def test_nobody_there(self) -> None:
        """The site can't be reached: not a traceback, but what to start."""
        url = f"https://localhost:{free_port()}"
        config = attrs.evolve(self.config, mdmd=attrs.evolve(self.config.mdmd, public_url=url))
        found = list(check_site(config, [], nothing))
        self.assertEqual(found[0].grade, Grade.FAILED)
        self.assertEqual({each.grade for each in found[1:]}, {Grade.SKIPPED})

    def test_files(self) -> None:
        """Missing, readable by others, damaged, of two pairs: each has its line and remedy."""
        tls = self.state / "tls"
        cases = {
            ("sealing key", "No such file"): lambda: (self.state / "sealing.key").unlink(),
            ("API key", "has mode 0640"): lambda: (self.state / "api.key").chmod(0o640),
            ("site certificate", "site.pem"): lambda: (self.state / "tls" / "site.pem").write_text(
                "x"
            ),
            ("device CA", "ca.key is not the key of"): lambda: shutil.copy(
                tls / "site.key", self.state / "ca" / "ca.key"
            ),
        }
        self.assertEqual({each.grade for each in check_files(self.config)}, {Grade.OK})
        for break_it in cases.values():
            break_it()
        found = [each for each in check_files(self.config) if each.grade is Grade.FAILED]
        for subject, text in cases:
            matching = [each for each in found if each.subject == subject and text in each.text]
            self.assertEqual(len(matching), 1, (subject, found))
            self.assertTrue(matching[0].remedy)

    def test_others_can_read(self) -> None:
        """Each file with a secret that an option names is looked at, and a password in the file."""
        named = {
            "API's TLS key": "[api]\ncertificate = tls/site.pem\nkey = x.1",
            "enroll password": "[enroll]\naccess = basic\npassword_file = x.2",
            "signing key": "signing_certificate = tls/site.pem\nsigning_key = x.3",
            "webhook a": "[webhook a]\nurl = https://a.example.org\nkey_file = x.4",
            "configuration": "[apns]\nproxy = http://user:s3cret@localhost:3128",
        }
        path = self.state / "mdmd.conf"
        path.write_text(f"{path.read_text()}{chr(10).join(named.values())}\n")
        for number in range(1, 5):
            shutil.copy(self.state / "tls" / "site.key", self.state / f"x.{number}")
        config = load(path)
        (finding,) = told(check_files(config, path=path), "file modes")
        self.assertEqual(finding.grade, Grade.OK)
        for each in (path, *self.state.glob("x.*"), self.state / "operators.json"):
            each.chmod(0o644)
        found = {
            each.subject for each in check_files(config, path=path) if "chmod 600" in each.remedy
        }
        self.assertEqual(found, {*named, "operators"})

    def test_key_of_root(self) -> None:
        """A key of root that the daemon reads by its group is right; if it can't, root is told."""
        if os.geteuid() != 0:
            self.skipTest("only root can give files away")
        for path in (self.state, *self.state.rglob("*")):
            os.chown(path, 65534, 65534)
        folder = Path(tempfile.mkdtemp(prefix="mdmd-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, folder)
        folder.chmod(0o755)
        key = Path(shutil.copy(self.state / "tls" / "site.key", folder))
        config = attrs.evolve(self.config, site=attrs.evolve(self.config.site, key=key))
        os.chown(key, 0, 65534)
        key.chmod(0o640)
        self.assertEqual([each for each in check_files(config) if each.remedy], [])
        key.chmod(0o600)
        (finding,) = (each for each in check_files(config) if each.remedy)
        self.assertIn(f"can't read {key}", finding.text)
        for mode, group in ((0o640, 0), (0o644, 65534)):
            os.chown(key, 0, group)
            key.chmod(mode)
            self.assertIn("others than its owner", told(check_files(config), "site key")[0].text)

    def test_pair_that_needs_a_word(self) -> None:
        """A chain in the wrong order, a key with a passphrase: what is to be done about it."""
        tls = self.state / "tls"
        certificate = (tls / "site.pem").read_bytes()
        (tls / "site.pem").write_bytes((self.state / "ca" / "ca.pem").read_bytes() + certificate)
        (finding,) = told(check_files(self.config), "site certificate")
        self.assertIn("put it before those of the CAs", finding.remedy)
        words = ["openssl", "pkey", "-aes256", "-passout", "pass:x", "-in", tls / "site.key"]
        locked = subprocess.run(words, check=True, capture_output=True).stdout
        (tls / "site.key").write_bytes(locked)
        (finding,) = told(check_files(self.config), "site certificate")
        self.assertIn("take the passphrase off", finding.remedy)

    def test_others_can_change(self) -> None:
        """Whoever can write the list of the operators is one: each such file and folder is told."""
        for name in ("", "ca", "tls", "operators.json", "manhole/authorized_keys"):
            path = self.state / name
            mode = path.stat().st_mode & 0o777
            for more in (0o020, 0o002):
                path.chmod(mode | more)
                (finding,) = (each for each in check_files(self.config) if each.remedy)
                self.assertEqual(finding.remedy, f"chmod go-w {path}")
            path.chmod(mode)

    def test_read_only(self) -> None:
        """A file system that the kernel has made read-only, as it does with a damaged one."""
        about = list(os.statvfs(self.state))
        about[8] |= os.ST_RDONLY  # f_flag
        with mock.patch("os.statvfs", return_value=os.statvfs_result(about)):
            (finding,) = told(check_files(self.config), "disk")
        self.assertEqual(finding.grade, Grade.FAILED)
        self.assertIn("read-only", finding.text)

    def test_authority_ends(self) -> None:
        """A year before the CA ends there is a warning; then it does not work any more."""
        for days, grade in ((3400, Grade.WARNING), (3700, Grade.FAILED)):
            found = told(check_files(self.config, NOW + timedelta(days=days)), "device CA")
            self.assertEqual([each.grade for each in found], [Grade.OK, grade])

    def test_chain_while_down(self) -> None:
        """What a device will say of the files is known before anybody serves them."""
        self.assertEqual(list(check_site_file(self.config)), [])
        (finding,) = check_site_file(self.config, NOW + timedelta(days=710))
        self.assertRegex(finding.text, r"ends in \d+ days")
        tls = self.state / "tls"
        ours = CertificateAuthority.create("Another", kind="ec")
        remedies = []
        for names in (["localhost"], ["wrong.example.org"]):
            certificate, key = ours.issue_server(names, days=60)
            (tls / "site.key").write_bytes(key_pem(key))
            (tls / "site.pem").write_bytes(certificate_pem(certificate))
            with mock.patch.dict(os.environ, SSL_CERT_FILE=str(self.roots(ours))):
                remedies += [each.remedy for each in check_site_file(self.config)]
            (finding,) = check_site_file(self.config)
            self.assertIn("append the intermediate", finding.remedy)
            self.assertIn("site.pem", finding.text)
        self.assertEqual(remedies, ["get a certificate for the host name of public_url"])
        # While nobody answers, and with --offline, which looks at nothing else of the site.
        url = f"https://localhost:{free_port()}"
        config = attrs.evolve(self.config, mdmd=attrs.evolve(self.config.mdmd, public_url=url))
        self.assertEqual(len(told(check_site(config, [], nothing), "site certificate")), 1)
        ran = subprocess.run(
            [BIN / "mdmctl", "--state", self.state, "doctor", "--offline"],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertIn("devices will refuse", ran.stdout)

    def roots(self, authority: CertificateAuthority) -> Path:
        """A file of CAs that everybody trusts."""
        path = self.state / "roots.pem"
        path.write_bytes(certificate_pem(authority.certificate))
        return path

    def test_trust_for_apns(self) -> None:
        """A file that is not there, or has no certificate, is told; the rest is looked at."""
        path = self.state / "apns.pem"
        apns = attrs.evolve(self.config.apns, trust=path)
        for why in ("No such file", "no certificates"):
            (finding,) = check_apns(attrs.evolve(self.config, apns=apns))
            self.assertIn(f"{path}: {why}", finding.text)
            self.assertIn("[apns] trust", finding.remedy)
            path.write_text("")

    def test_push_certificates(self) -> None:
        """None, over, soon over, one that devices need and nobody has."""
        day = 86400
        now = NOW.timestamp()
        grades = [
            each.grade
            for each in check_push_certificates(
                [
                    {"topic": "good", "not_after": int(now + 300 * day), "enrolled": 1},
                    {"topic": "soon", "not_after": int(now + 3 * day), "enrolled": 1},
                    {"topic": "over", "not_after": int(now - 3 * day), "enrolled": 1},
                    {"topic": "gone", "not_after": 0, "enrolled": 7},
                ],
                NOW,
            )
        ]
        self.assertEqual(grades, [Grade.OK, Grade.WARNING, Grade.FAILED, Grade.FAILED])
        (finding,) = check_push_certificates([])
        self.assertIn("pushcert install", finding.remedy)
        (finding,) = check_push_certificates(None)
        self.assertEqual(finding.grade, Grade.SKIPPED)


class StoreTests(SynchronousTestCase):
    """Redis servers as people have them."""

    def setUp(self) -> None:
        binary = shutil.which("redis-server") or shutil.which("valkey-server")
        if binary is None:
            self.skipTest("no redis-server or valkey-server is installed")
        server = redis_server(binary)
        self.url = server.__enter__()
        self.addCleanup(server.__exit__, None, None, None)
        self.client = Client(Address("unix", path=self.url.removeprefix("unix://")))
        self.addCleanup(self.client.close)

    def check(self, **changes: str) -> list[Finding]:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        path = folder / "mdmd.conf"
        values = {"redis": self.url, **changes}
        lines = "".join(f"{key} = {value}\n" for key, value in values.items())
        path.write_text(
            f"[mdmd]\nstate = {folder}\npublic_url = https://localhost\n[store]\n{lines}"
        )
        return list(check_store(load(path)))

    def test_well(self) -> None:
        """An append-only, quick one that keeps what it has."""
        self.assertEqual({each.grade for each in self.check()}, {Grade.OK})

    def test_evicting(self) -> None:
        """A store that evicts is refused: it would forget enrollments."""
        self.client.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        (finding,) = told(self.check(), "memory")
        self.assertEqual(finding.grade, Grade.FAILED)
        self.assertIn("noeviction", finding.remedy)

    def test_full(self) -> None:
        """One that is nearly full is a warning."""
        used = self.client.ask("INFO", "memory").split(b"used_memory:")[1].split(b"\r\n")[0]
        self.client.ask("CONFIG", "SET", "maxmemory", int(used) + 100_000)
        (finding,) = told(self.check(), "memory")
        self.assertEqual(finding.grade, Grade.WARNING)

    def test_not_lasting(self) -> None:
        """Without an append-only file a crash loses what devices were told is safe."""
        self.client.ask("CONFIG", "SET", "appendonly", "no")
        (finding,) = told(self.check(), "persistence")
        self.assertIn("appendonly yes", finding.remedy)

    def test_not_waiting(self) -> None:
        """One that never waits for its disk is a warning."""
        self.client.ask("CONFIG", "SET", "appendfsync", "no")
        found = told(self.check(), "persistence")
        self.assertEqual([each.grade for each in found], [Grade.OK, Grade.WARNING])

    def test_more_than_full(self) -> None:
        """One that takes nothing any more has failed."""
        self.client.ask("CONFIG", "SET", "maxmemory", 500_000)
        (finding,) = told(self.check(), "memory")
        self.assertEqual(finding.grade, Grade.FAILED)

    def test_wrong_password(self) -> None:
        """Refused is not the same as down; the password is not shown."""
        self.client.ask("CONFIG", "SET", "requirepass", "s3cret")
        url = self.url.replace("unix://", "unix://:wr0ng@")
        (finding,) = self.check(redis=url)
        self.assertEqual(finding.grade, Grade.FAILED)
        self.assertNotIn("wr0ng", finding.text)
        self.assertIn("correct user and password", finding.remedy)
        (finding,) = self.check()
        self.assertIn("put the password into [store] redis", finding.remedy)

    def test_down(self) -> None:
        """A server that is not there."""
        (finding,) = self.check(redis="unix:///nowhere/redis.sock")
        self.assertEqual(finding.grade, Grade.FAILED)
