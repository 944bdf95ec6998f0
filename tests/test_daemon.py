"""The daemon itself, as a process: its main job on real wires, and what must not disturb it."""

import contextlib
import http.client
import os
import plistlib
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from mdmd.pki.certificates import key_pem
from tests.daemonhelp import BIN, CHECKIN, TOPIC, HandDevice, RunningDaemon, redis_server

UDID = "0A1B2C3D-1111-5AC1-BDB2-00000000000{}"
SEED = Path(__file__).parent / "data"


class DaemonCase(SynchronousTestCase):
    """One daemon for all tests of a class."""

    daemon: ClassVar[RunningDaemon]
    redis = "embedded"

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = RunningDaemon(redis=cls.redis)
        try:
            cls.daemon.start()
        except BaseException:
            cls.daemon.close()
            raise

    @classmethod
    def tearDownClass(cls) -> None:
        cls.daemon.close()

    def enrolled(self, number: int) -> HandDevice:
        device = self.daemon.device(UDID.format(number), SerialNumber=f"C02TEST{number}")
        device.enroll()
        return device


class LoopTests(DaemonCase):
    """A device enrolls, gets its commands one by one, answers, and its answers are kept."""

    def test_loop(self) -> None:
        """Idle, command, answer, next command, nothing more."""
        device = self.enrolled(1)
        for uuid in ("A", "B"):
            self.assertEqual(self.daemon.enqueue(device.udid, uuid), 200)
        self.assertEqual(device.connect(), (200, "A", "DeviceInformation"))
        self.assertEqual(
            device.connect("Acknowledged", "A", QueryResponses={"OSVersion": "15.1"}),
            (200, "B", "DeviceInformation"),
        )
        self.assertEqual(
            device.connect("Error", "B", ErrorChain=[{"ErrorDomain": "X", "ErrorCode": 12}]),
            (200, "", ""),
        )
        status, told = self.daemon.api("GET", f"/v1/results/{device.udid}")
        self.assertEqual(status, 200)
        self.assertEqual(
            [(each["command_uuid"], each["status"]) for each in told["results"]],
            [("B", "Error"), ("A", "Acknowledged")],
        )

    def test_log(self) -> None:
        """One line for each request says who it was, and what it was about."""
        device = self.enrolled(17)
        self.assertEqual(self.daemon.enqueue(device.udid, "LOGGED"), 200)
        device.connect()
        device.connect("Acknowledged", "LOGGED")
        lines = [each for each in self.daemon.log.read_text().splitlines() if device.udid in each]
        for words in (
            ("/checkin 200", "message=Authenticate"),
            ("/checkin 200", "message=TokenUpdate"),
            ("/connect 200", "report=Idle", "given=DeviceInformation", "request="),
            ("/connect 200", "report=Acknowledged", "command=LOGGED"),
        ):
            found = [each for each in lines if all(word in each for word in words)]
            self.assertEqual(len(found), 1, (words, lines))

    def test_not_now(self) -> None:
        """Skipped while the device says NotNow, offered again in its place after that."""
        device = self.enrolled(2)
        for uuid in ("A", "B"):
            self.daemon.enqueue(device.udid, uuid)
        self.assertEqual(device.connect()[1], "A")
        self.assertEqual(device.connect("NotNow", "A")[1], "B")
        self.assertEqual(device.connect("NotNow", "B")[1], "")
        self.assertEqual(device.connect()[1], "A")
        self.assertEqual(device.connect("Acknowledged", "A")[1], "B")

    def test_orphan(self) -> None:
        """A result nobody asked for is kept, and the device goes on."""
        device = self.enrolled(3)
        self.daemon.enqueue(device.udid, "A")
        self.assertEqual(device.connect("Acknowledged", "never-sent")[:2], (200, "A"))
        _, told = self.daemon.api("GET", f"/v1/results/{device.udid}")
        self.assertEqual(
            [(each["command_uuid"], each["status"]) for each in told["results"]],
            [("never-sent", "orphan")],
        )

    def test_malformed_status(self) -> None:
        """A report in words we do not know is kept raw, and the device goes on."""
        device = self.enrolled(4)
        self.daemon.enqueue(device.udid, "A")
        self.daemon.enqueue(device.udid, "B")
        self.assertEqual(device.connect()[1], "A")
        self.assertEqual(device.connect("Sideways", "A")[:2], (200, "B"))
        self.assertEqual(device.connect("CommandFormatError", "B")[:2], (200, ""))

    def test_check_out(self) -> None:
        """A device that leaves is disabled, and its queue kept."""
        device = self.enrolled(5)
        self.daemon.enqueue(device.udid, "A")
        self.assertEqual(device.check_in(MessageType="CheckOut")[0], 200)
        _, record = self.daemon.api("GET", f"/v1/enrollments/{device.udid}")
        self.assertFalse(record["enabled"])
        _, queue = self.daemon.api("GET", f"/v1/queue/{device.udid}")
        self.assertEqual([each["command_uuid"] for each in queue["commands"]], ["A"])

    def test_seed_messages(self) -> None:
        """Messages in the form real devices send them pass as they are."""
        device = self.daemon.device("7d1a0c8e5b2f49d6a3e1c0947f65b8d2a1e4f703")
        self.assertEqual(device.check_in(MessageType="Authenticate", Topic=TOPIC)[0], 200)
        update = (SEED / "token-update.plist").read_bytes()
        self.assertEqual(device.put("/checkin", update, CHECKIN), (200, b""))
        idle = (SEED / "idle.plist").read_bytes()
        self.assertEqual(device.put("/connect", idle), (200, b""))
        answer = (SEED / "acknowledged.plist").read_bytes()
        self.assertEqual(device.put("/connect", answer), (200, b""))

    def test_user_channel(self) -> None:
        """A user's channel has its own queue, and the device's identity."""
        device = self.enrolled(6)
        user = {"UserID": "6F4A…-user", "UserShortName": "bob"}
        status, _ = device.check_in(
            MessageType="TokenUpdate", Topic=TOPIC, Token=b"\1" * 32, PushMagic="m", **user
        )
        self.assertEqual(status, 200)
        self.daemon.enqueue(f"{device.udid}:6F4A%E2%80%A6-user", "U")
        self.assertEqual(device.connect()[1], "")
        self.assertEqual(device.connect("Idle", **user)[1], "U")


class BadInputTests(DaemonCase):
    """Each is a clear 4xx or a closed connection, a log line, and nothing else."""

    def setUp(self) -> None:
        self.logged = self.daemon.log.stat().st_size

    def log(self) -> str:
        return self.daemon.log.read_text()[self.logged :]

    def alive(self) -> None:
        """The daemon serves on."""
        self.assertEqual(self.good.connect()[0], 200)
        self.assertNotIn("Traceback", self.log())

    @property
    def good(self) -> HandDevice:
        if not hasattr(type(self), "_good"):
            type(self)._good = self.enrolled(1)  # type: ignore[attr-defined]
        return type(self)._good  # type: ignore[attr-defined,no-any-return]

    def test_bodies(self) -> None:
        """Whatever is no message of Apple's is a 400, on both paths."""
        device = self.good
        idle = plistlib.dumps({"UDID": device.udid, "Status": "Idle"})
        bomb = (
            b'<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "aaaaaaaaaa">'
            b'<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><plist><dict><key>UDID</key>'
            b"<string>&b;</string></dict></plist>"
        )
        deep = b"<plist>" + b"<array>" * 5000 + b"</array>" * 5000 + b"</plist>"
        bodies = {
            "empty": b"",
            "truncated": idle[:-20],
            "no plist": b"{}",
            "garbage": os.urandom(500),
            "bomb": bomb,
            "deep": deep,
            "no UDID": plistlib.dumps({"Status": "Idle", "MessageType": "TokenUpdate"}),
            "an array": plistlib.dumps([1]),
        }
        for name, body in bodies.items():
            for content_type in ("", CHECKIN):
                status, text = device.put("/connect", body, content_type)
                self.assertEqual(status, 400, name)
                self.assertLess(len(text), 200)
        self.assertEqual(self.log().count(" 400 "), 2 * len(bodies))
        self.alive()

    def test_binary_plist(self) -> None:
        """Apple's other form is as good."""
        body = plistlib.dumps({"UDID": self.good.udid, "Status": "Idle"}, fmt=plistlib.FMT_BINARY)
        self.assertEqual(self.good.put("/connect", body)[0], 200)

    def test_oversized(self) -> None:
        """Beyond the limit is a 400, said before the body has come."""
        # The client may see the connection closed before it reads the answer.
        with contextlib.suppress(OSError):
            status, _ = self.good.put("/connect", b"x" * (33 << 20))
            self.assertEqual(status, 400)
        self.assertIn("the body is too large", self.log())
        self.alive()

    def test_identities(self) -> None:
        """No certificate is a 400, another device's a 403, an unknown enrollment a 403."""
        idle = plistlib.dumps({"UDID": self.good.udid, "Status": "Idle"})
        other = self.enrolled(2)
        self.assertEqual(other.put("/connect", idle)[0], 403)
        stranger = self.daemon.device(UDID.format(3))
        self.assertEqual(stranger.connect()[0], 403)
        context = ssl.create_default_context(cafile=str(self.daemon.state / "ca" / "ca.pem"))
        plain = http.client.HTTPSConnection("localhost", self.daemon.port, context=context)
        plain.request("PUT", "/connect", idle)
        self.assertEqual(plain.getresponse().status, 400)
        plain.close()
        _, told = self.daemon.api("GET", "/v1/events?limit=1000")
        reasons = [e for e in told["events"] if e["topic"] == "mdmd.Refused"]
        self.assertGreaterEqual(len(reasons), 3)
        self.alive()

    def test_wrong_content_type(self) -> None:
        """A check-in that does not say so is read as a report, which it is not."""
        body = plistlib.dumps({"UDID": self.good.udid, "MessageType": "TokenUpdate", "Token": b"x"})
        self.assertEqual(self.good.put("/checkin", body, "text/html")[0], 400)
        self.alive()

    def test_plain_http(self) -> None:
        """Somebody who forgot the s is hung up on."""
        with socket.create_connection(("127.0.0.1", self.daemon.port), timeout=10) as client:
            client.sendall(b"PUT /connect HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            self.assertNotIn(b"HTTP/1.1 200", client.recv(1000))
        self.alive()


class KillTests(SynchronousTestCase):
    """``kill -9`` in the middle of a run."""

    def test_nothing_acknowledged_is_lost(self) -> None:
        """Every command that was accepted and every result that was taken is there afterwards."""
        daemon = RunningDaemon(options={"queue": "results_kept = 100000"})
        self.addCleanup(daemon.close)
        daemon.start()
        device = daemon.device(UDID.format(1))
        device.enroll()
        accepted: list[str] = []
        taken: list[str] = []
        stop = threading.Event()

        def enqueue() -> None:
            number = 0
            # No more than one page of results holds in the end.
            while not stop.is_set() and len(accepted) < 1000:
                with contextlib.suppress(OSError, Exception):
                    if daemon.enqueue(device.udid, f"C{number}") == 200:
                        accepted.append(f"C{number}")
                number += 1

        def answer() -> None:
            uuid = ""
            while not stop.is_set():
                try:
                    code, following, _ = device.connect("Acknowledged" if uuid else "Idle", uuid)
                    if code == 200 and uuid:
                        taken.append(uuid)
                    uuid = following if code == 200 else uuid
                except Exception:
                    uuid = ""

        for _ in range(3):
            threads = [threading.Thread(target=each) for each in (enqueue, answer)]
            stop.clear()
            for each in threads:
                each.start()
            time.sleep(0.7)
            daemon.kill()
            stop.set()
            for each in threads:
                each.join()
            daemon.start()
        self.assertGreater(len(taken), 10)
        results = {
            each["command_uuid"]
            for each in daemon.api("GET", f"/v1/results/{device.udid}?limit=1000")[1]["results"]
        }
        queued = {
            each["command_uuid"]
            for each in daemon.api("GET", f"/v1/queue/{device.udid}")[1]["commands"]
        }
        self.assertEqual(set(taken) - results, set())
        self.assertEqual(set(accepted) - results - queued, set())


class StoreAwayTests(SynchronousTestCase):
    """The embedded store dies under the daemon."""

    def test_store_killed(self) -> None:
        """Devices are asked to come back later, the store is started again, nothing is lost."""
        daemon = RunningDaemon()
        self.addCleanup(daemon.close)
        daemon.start()
        device = daemon.device(UDID.format(1))
        device.enroll()
        daemon.enqueue(device.udid, "A")
        pids = subprocess.run(
            ["pgrep", "-f", str(daemon.state)], capture_output=True, text=True, check=False
        ).stdout.split()
        assert daemon.process is not None
        for pid in pids:
            name = Path(f"/proc/{pid}/comm")
            if name.exists() and name.read_text().strip() in ("valkey-server", "redis-server"):
                os.kill(int(pid), 9)
        statuses = set()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            code, uuid, _ = device.connect()
            statuses.add(code)
            if code == 200:
                break
        self.assertEqual((code, uuid), (200, "A"))
        self.assertLessEqual(statuses, {200, 503})
        self.assertEqual(daemon.stop(), -signal.SIGTERM)


class ExternalRedisTests(LoopTests):
    """The same against Debian's redis-server, by URL."""

    _server: ClassVar[contextlib.AbstractContextManager[str]]

    @classmethod
    def setUpClass(cls) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            raise SkipTest("redis-server is not installed")
        cls._server = redis_server(binary)
        cls.redis = cls._server.__enter__()
        super().setUpClass()

    @classmethod
    def tearDownClass(cls) -> None:
        super().tearDownClass()
        cls._server.__exit__(None, None, None)


def end_by(pidfile: Path) -> None:
    """End what wrote a pid file, if it has not ended yet."""
    with contextlib.suppress(OSError):
        os.kill(int(pidfile.read_text()), signal.SIGTERM)


def wait_for(true: Callable[[], bool]) -> None:
    """Look until it is so."""
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


class StartTests(SynchronousTestCase):
    """What a sysadmin sees who made a mistake."""

    def setUp(self) -> None:
        self.daemon = RunningDaemon()
        self.addCleanup(self.daemon.close)

    def twistd(self, *words: str, first: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*first, BIN / "twistd", "-n", "--pidfile=", "mdmd", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=self.daemon.state,
            env={**os.environ, "MDMD_CONFIG": ""},
        )

    def faults(self, text: str) -> list[str]:
        """The lines that twistd prints for a configuration, which must all be mistakes."""
        path = self.daemon.state / "bad.conf"
        path.write_text(text)
        done = self.twistd("--config", str(path), "--check")
        self.assertEqual(done.returncode, 1)
        return (done.stdout + done.stderr).splitlines()

    def test_check(self) -> None:
        """A good configuration is said to be so, exit status 0."""
        done = self.twistd("--config", str(self.daemon.config), "--check")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout, f"{self.daemon.config}: no mistakes\n")

    def test_check_leaves_no_log(self) -> None:
        """A log that root's check had made would be closed to the daemon's account."""
        text = self.daemon.config.read_text()
        self.daemon.config.write_text(text.replace("[mdmd]\n", "[mdmd]\nlog_file = mdmd.log\n"))
        log = self.daemon.state / "mdmd.log"
        for there in (False, True):
            self.assertEqual(
                self.twistd("--config", str(self.daemon.config), "--check").returncode, 0
            )
            self.assertEqual(log.exists(), there)
            log.touch()

    def test_mistakes(self) -> None:
        """One line each: file, section, key, what is expected; the nearest right name."""
        text = self.daemon.config.read_text()
        lines = self.faults(text + "[sitee]\n[push]\nrepaet = 1m\nfirst_delay = soon\n")
        self.assertEqual(len(lines), 3)
        for line, words in zip(
            sorted(lines), ("[push] first_delay", "[push] repaet", "[sitee]"), strict=True
        ):
            self.assertTrue(line.startswith(str(self.daemon.state / "bad.conf")), line)
            self.assertIn(words, line)
        self.assertIn("repeat", "".join(lines))
        self.assertIn("[site]", "".join(lines))

    def test_files(self) -> None:
        """A file that is missing or holds something else is one line too."""
        (self.daemon.state / "sealing.key").write_bytes(b"short")
        (self.daemon.state / "tls" / "site.key").unlink()
        (self.daemon.state / "api.key").write_text("")
        lines = self.faults(self.daemon.config.read_text())
        self.assertEqual(len(lines), 3, lines)
        for name in ("sealing.key", "site.key", "api.key"):
            self.assertIn(name, "".join(lines))

    def test_every_file(self) -> None:
        """Each file that the daemon will need is looked at, and named with its section and key."""
        state = self.daemon.state
        text = self.daemon.config.read_text().replace("[apns]\n", "[apns]\ntrust = api.key\n")
        text = text.replace("[store]\n", "[store]\nca = nothing.pem\nbinary = api.key\n")
        text += f"[pb]\nlisten = ssl:1234:privateKey={state}/api.key\n"
        (state / "manhole" / "host_key").write_text("a key")
        for name in ("ca/ca.key", "tls/site.key"):
            (state / name).unlink()
        (state / "ca" / "ca.pem").write_text("a certificate")
        places = {
            "[apns] trust": "api.key",
            "[store] ca": "nothing.pem",
            "[store] binary": "api.key",
            "[pb] listen": "api.key",
            "[manhole] host_key": "host_key",
            "[ca] key": "ca.key",
            "[site] key": "site.key",
        }
        lines = self.faults(text)
        found = {line.split(": ")[1]: line for line in lines}
        self.assertEqual(set(found), set(places), lines)
        self.assertEqual(len(lines), len(places))
        for place, name in places.items():
            self.assertIn(name, found[place])

    def test_password_nobody_can_type(self) -> None:
        """The password of [enroll] access = basic is one line, no more and no less."""
        for content in (b"", b"\n", b"one\ntwo\n", bytes(range(128, 200))):
            (self.daemon.state / "password").write_bytes(content)
            text = self.daemon.config.read_text()
            more = "[enroll]\naccess = basic\npassword_file = password\n"
            (line,) = self.faults(text.replace("[enroll]\n", more))
            self.assertIn("[enroll] password_file: access = basic needs a file with one line", line)

    def test_no_configuration(self) -> None:
        """An unreadable file, and none at all, too."""
        for words in (["--config", str(self.daemon.state / "nothing.conf")], []):
            done = self.twistd(*words)
            self.assertEqual(done.returncode, 1)
            self.assertEqual(len((done.stdout + done.stderr).splitlines()), 1)

    def test_port_in_use(self) -> None:
        """Nothing stays up deaf."""
        with socket.create_server(("127.0.0.1", self.daemon.port)):
            done = self.twistd("--config", str(self.daemon.config))
        self.assertEqual(done.returncode, 1)
        self.assertIn("can't start", done.stderr)
        self.assertNotIn("Traceback", done.stderr)

    def test_full_disk(self) -> None:
        """A start that nothing can be written for is told, and not where that can't be either."""
        text = self.daemon.config.read_text()
        self.daemon.config.write_text(text.replace("[mdmd]\n", "[mdmd]\nlog_file = mdmd.log\n"))
        done = self.twistd("--config", str(self.daemon.config), first=("prlimit", "--fsize=0"))
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"{self.daemon.state / 'store'} can't be written: ", done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        self.assertEqual((self.daemon.state / "mdmd.log").read_bytes(), b"")

    def test_two_on_one_state(self) -> None:
        """A second daemon on the same state folder says so and ends; the first one serves on."""
        self.daemon.start()
        done = self.twistd("--config", str(self.daemon.config))
        self.assertEqual(done.returncode, 1)
        self.assertIn("another mdmd uses the store", done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        self.assertEqual(self.daemon.api("GET", "/healthz")[0], 200)
        self.assertEqual(self.daemon.mdmctl("devices").returncode, 0)

    def test_another_sealing_key(self) -> None:
        """A store whose secrets it can't read is refused in one line, and left as it is."""
        self.daemon.start()
        device = self.daemon.device(UDID.format(1))
        device.enroll()
        device.check_in(MessageType="SetBootstrapToken", BootstrapToken=b"a secret")
        self.daemon.stop()
        key = self.daemon.state / "sealing.key"
        right = key.read_bytes()
        signer = self.daemon.authority()
        (self.daemon.state / "ca" / "ca.key").write_bytes(key_pem(signer.key))
        key.write_bytes(os.urandom(len(right)))
        done = self.twistd("--config", str(self.daemon.config))
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"{key} is not the key", done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        key.write_bytes(right)
        self.daemon.start()
        device.hang_up()
        status, body = device.check_in(MessageType="GetBootstrapToken")
        self.assertEqual((status, plistlib.loads(body)), (200, {"BootstrapToken": b"a secret"}))

    def test_socket_of_a_dead_daemon(self) -> None:
        """A socket left by a power cut makes way, whatever process has the old one's number."""
        self.daemon.start()
        self.daemon.kill()
        lock = self.daemon.state / "mdmd.sock.lock"
        lock.unlink()
        lock.symlink_to(str(os.getpid()))
        self.daemon.start()
        self.assertEqual(self.daemon.mdmctl("devices").returncode, 0)

    def test_in_the_background(self) -> None:
        """Without -n its log is twistd's, and a relative configuration is found from there."""
        state, config = self.daemon.state, self.daemon.config
        words = [BIN / "twistd", "mdmd", "--config", config.name]
        log, pidfile = state / "twistd.log", state / "twistd.pid"
        self.addCleanup(end_by, pidfile)
        subprocess.run(words, cwd=state, check=True, timeout=60, stdin=subprocess.DEVNULL)
        wait_for(lambda: log.exists() and "mdmd ready" in log.read_text())
        os.kill(int(pidfile.read_text()), signal.SIGTERM)
        wait_for(lambda: not pidfile.exists())
        with socket.create_server(("127.0.0.1", self.daemon.port)):
            subprocess.run(words, cwd=state, check=True, timeout=60, stdin=subprocess.DEVNULL)
            wait_for(lambda: "mdmd can't start" in log.read_text())
        wait_for(lambda: not pidfile.exists())

    def test_clean_end(self) -> None:
        """SIGTERM ends it, and its store with it."""
        self.daemon.start()
        self.assertEqual(self.daemon.stop(), -signal.SIGTERM)  # twistd's way to end
        left = subprocess.run(
            ["pgrep", "-f", f"{self.daemon.state}/store"], capture_output=True, check=False
        ).stdout
        self.assertEqual(left, b"")


class BurstTests(DaemonCase):
    def test_a_fleet_that_was_just_pushed(self) -> None:
        """A thousand devices at the same moment: none of them waits for TCP to try again."""
        made = []
        try:
            begun = time.monotonic()
            for _ in range(1000):
                made.append(socket.create_connection(("127.0.0.1", self.daemon.port), 10))
            took = time.monotonic() - begun
        finally:
            for each in made:
                each.close()
        # With Twisted's own backlog of 50 it takes 20 seconds: a second for each that is dropped.
        self.assertLess(took, 5)
