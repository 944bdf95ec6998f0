"""systemd is told how the daemon is; a reload and a restart lose no connection."""

import configparser
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mdmd.ops.systemd import Systemd
from mdmd.pki.certificates import certificate_pem, fingerprint, key_pem, load_certificate
from tests.daemonhelp import Manager, RunningDaemon
from tests.storehelp import free_port

CHECKOUT = Path(__file__).parent.parent
UNITS = CHECKOUT / "systemd"
ANALYZE = shutil.which("systemd-analyze")


class SystemdTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.manager = Manager()
        self.addCleanup(self.manager.close)

    def test_states(self) -> None:
        """Each state is one message, as sd_notify(3) spells it."""
        systemd = Systemd.of({"NOTIFY_SOCKET": self.manager.path})
        systemd.ready()
        systemd.reloading()
        systemd.stopping()
        self.assertEqual(self.manager.hear(), {"READY": "1"})
        reloading = self.manager.hear()
        self.assertEqual(reloading["RELOADING"], "1")
        self.assertLessEqual(int(reloading["MONOTONIC_USEC"]), time.monotonic_ns() // 1000)
        self.assertEqual(self.manager.hear(), {"STOPPING": "1"})

    def test_watchdog(self) -> None:
        """Twice a period while the reactor runs, never for another process."""
        clock = Clock()
        environment = {"NOTIFY_SOCKET": self.manager.path, "WATCHDOG_USEC": "2000000"}
        beat = Systemd.of(environment).stay_alive(clock)
        assert beat is not None
        clock.pump([1, 1])
        beat.stop()
        self.assertEqual([self.manager.hear() for _ in range(3)], [{"WATCHDOG": "1"}] * 3)
        other = Systemd.of({**environment, "WATCHDOG_PID": "1"})
        self.assertIsNone(other.stay_alive(clock))

    def test_nobody(self) -> None:
        """Without systemd, or with a socket that is gone, nothing happens."""
        for address in ("", "/nowhere/at/all", "@nobody"):
            Systemd(address, 1.0).ready()
        self.assertIsNone(Systemd().stay_alive(Clock()))


class RunningTests(SynchronousTestCase):
    """The daemon as systemd runs it."""

    def setUp(self) -> None:
        self.manager = Manager()
        self.addCleanup(self.manager.close)
        self.daemon = RunningDaemon()
        self.addCleanup(self.daemon.close)

    def start(self, **environment: str) -> None:
        self.daemon.start(NOTIFY_SOCKET=self.manager.path, **environment)

    def connect(self, port: int = 0) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(self.daemon.state / "ca" / "ca.pem"))
        plain = socket.create_connection(("127.0.0.1", port or self.daemon.port), timeout=20)
        connection = context.wrap_socket(plain, server_hostname="localhost")
        self.addCleanup(connection.close)
        return connection

    def shown(self, connection: ssl.SSLSocket) -> str:
        der = connection.getpeercert(binary_form=True)
        assert der is not None
        return fingerprint(load_certificate(der))

    def ask(self, connection: ssl.SSLSocket) -> str:
        connection.sendall(b"GET /ca HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return connection.recv(100).split(b"\r\n")[0].decode()

    def ask_once(self) -> str:
        with self.connect() as connection:
            return self.ask(connection)

    def new_certificate(self) -> str:
        """Put another certificate in place; its fingerprint."""
        state = self.daemon.state
        certificate, key = self.daemon.authority().issue_server(["localhost"], days=5)
        (state / "tls" / "site.pem").write_bytes(certificate_pem(certificate))
        (state / "tls" / "site.key").write_bytes(key_pem(key))
        return fingerprint(certificate)

    def reload(self) -> None:
        assert self.daemon.process is not None
        self.daemon.process.send_signal(signal.SIGHUP)
        heard = self.manager.hear_until("RELOADING") + self.manager.hear_until("READY")
        self.assertIn("READY", heard)

    def test_life(self) -> None:
        """Ready only when it serves, alive from then on, ending when it ends."""
        self.start(WATCHDOG_USEC="200000")
        heard = self.manager.hear_until("READY")
        self.assertEqual(self.ask_once(), "HTTP/1.1 200 OK")
        self.manager.hear_until("WATCHDOG")
        self.assertEqual(self.daemon.stop(), -signal.SIGTERM)  # twistd dies of it in the end
        self.assertIn("STOPPING", self.manager.hear_until("STOPPING"))
        self.assertNotIn("STOPPING", heard)

    def test_reload(self) -> None:
        """New connections see the new certificate; those that are open stay and are served."""
        self.start()
        self.manager.hear_until("READY")
        open_before = self.connect()
        new = self.new_certificate()
        self.assertNotEqual(self.shown(self.connect()), new)
        self.reload()
        self.assertEqual(self.shown(self.connect()), new)
        self.assertEqual(self.ask(open_before), "HTTP/1.1 200 OK")

    def test_reload_of_what_takes_a_restart(self) -> None:
        """Whoever names another certificate is told that it is not in use yet, each time."""
        self.start()
        self.manager.hear_until("READY")
        config = self.daemon.config
        text = config.read_text()
        config.write_text(
            text.replace("[site]\n", f"[site]\nkey = {self.daemon.state}/tls/site.key\n").replace(
                "[api]\n", "[api]\nkey_file = other.key\n"
            )
        )
        self.reload()
        said = self.daemon.log.read_text()
        self.assertIn("reloaded: certificates and log", said)
        self.assertIn("changed, but in use only after a restart: [api] key_file\n", said)
        config.write_text(text.replace("[mdmd]\n", "[mdmd]\nlog_level = debug\n"))
        self.reload()
        self.assertEqual(self.daemon.log.read_text().count("only after a restart"), 1)

    def test_reload_of_every_door(self) -> None:
        """The API and Perspective Broker show their new certificates too, and hang up on nobody."""
        tls = self.daemon.state / "tls"
        doors = (self.daemon.api_port, free_port())
        pair = f"privateKey={tls}/site.key:certKey={tls}/site.pem"
        text = self.daemon.config.read_text()
        self.daemon.config.write_text(
            text.replace("[api]\n", f"[api]\ncertificate = {tls}/site.pem\nkey = {tls}/site.key\n")
            + f"[pb]\nlisten = ssl:{doors[1]}:interface=127.0.0.1:{pair}\n"
        )
        self.start()
        self.manager.hear_until("READY")
        open_before = [self.connect(door) for door in doors]
        new = self.new_certificate()
        self.reload()
        self.assertEqual([self.shown(self.connect(door)) for door in doors], [new, new])
        open_before[0].sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertIn(b"200 OK", open_before[0].recv(100))
        self.assertTrue(open_before[1].recv(100))  # what a server of Perspective Broker says first

    def test_reload_of_a_mistake(self) -> None:
        """A certificate or a configuration that is wrong is one log line; the old ones stay."""
        self.start()
        self.manager.hear_until("READY")
        before = self.shown(self.connect())
        (self.daemon.state / "tls" / "site.pem").write_text("no certificate")
        self.reload()
        self.assertEqual(self.shown(self.connect()), before)
        with self.daemon.config.open("a") as config:
            config.write("[nonsense]\nx = 1\n")
        self.reload()
        self.assertEqual(self.shown(self.connect()), before)
        log = self.daemon.log.read_text()
        self.assertEqual(log.count("not reloaded: "), 2)
        self.assertNotIn("Traceback", log)

    def test_log_level(self) -> None:
        """From debug to error and back, without a restart."""
        self.start()
        self.manager.hear_until("READY")
        text = self.daemon.config.read_text()
        self.daemon.config.write_text(text.replace("[mdmd]\n", "[mdmd]\nlog_level = error\n"))
        self.reload()
        seen = self.daemon.log.stat().st_size
        self.ask_once()
        self.daemon.config.write_text(text)
        self.reload()
        self.ask_once()
        self.daemon.stop()
        added = self.daemon.log.read_text()[seen:]
        self.assertEqual(added.count("GET /ca 200"), 1)

    def test_socket_activation(self) -> None:
        """systemd holds the port: a client that comes while the daemon is down is served later."""
        listening = socket.create_server(("127.0.0.1", self.daemon.port), backlog=64)
        self.addCleanup(listening.close)
        text = self.daemon.config.read_text()
        self.daemon.config.write_text(
            text.replace(
                f"tcp:{self.daemon.port}:interface=127.0.0.1", "systemd:domain=INET:name=site"
            )
        )
        number = listening.fileno()
        script = f'exec 3<&{number}; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=site exec "$@"'
        self.daemon.launcher = ["bash", "-c", script, "bash"]
        self.daemon.inherited = (number,)
        self.start()
        self.assertEqual(self.ask_once(), "HTTP/1.1 200 OK")
        self.assertEqual(self.daemon.stop(), -signal.SIGTERM)  # twistd dies of it in the end
        answers: list[Any] = []

        def come() -> None:
            answers.append(self.ask_once())

        client = threading.Thread(target=come)
        client.start()
        self.start()
        client.join(20)
        self.assertEqual(answers, ["HTTP/1.1 200 OK"])


class UnitTests(SynchronousTestCase):
    """The files for systemd."""

    def read(self, name: str) -> configparser.RawConfigParser:
        unit = configparser.RawConfigParser(strict=False, interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string((UNITS / name).read_text())
        return unit

    def test_both_services_are_alike(self) -> None:
        """The unit for several differs from the other only in its paths and its name."""
        one, many = self.read("mdmd.service"), self.read("mdmd@.service")
        differing = {
            (section, key)
            for section in one.sections()
            for key in one[section]
            if one[section][key] != many[section].get(key)
        }
        self.assertEqual(
            {key for _, key in differing},
            {"Description", "ExecStart", "StateDirectory", "WorkingDirectory"},
        )

    def test_verified(self) -> None:
        """systemd itself finds nothing wrong with them."""
        if ANALYZE is None:
            self.skipTest("systemd-analyze is not installed")
        with tempfile.TemporaryDirectory() as folder:
            for unit in UNITS.glob("*.s*"):
                if unit.is_file():
                    text = re.sub(
                        r"(?m)^Exec(Start|Reload)=\S+", r"Exec\1=/bin/true", unit.read_text()
                    )
                    Path(folder, unit.name).write_text(text)
            ran = subprocess.run(
                [ANALYZE, "verify", "--man=no", *sorted(str(p) for p in Path(folder).iterdir())],
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"},
            )
            about_ours = [line for line in ran.stderr.splitlines() if "mdmd" in line]
            self.assertEqual((ran.returncode, about_ours), (0, []), ran.stderr)

    def test_account_and_folders(self) -> None:
        """systemd's own programs make account and folders of our files."""
        programs = [shutil.which(each) for each in ("systemd-sysusers", "systemd-tmpfiles")]
        if os.getuid() != 0 or None in programs:
            self.skipTest("only root, with systemd's programs, can make accounts")
        sysusers, tmpfiles = programs
        with tempfile.TemporaryDirectory() as root:
            Path(root, "etc").mkdir()
            for program, file in ((sysusers, "sysusers.d"), (tmpfiles, "tmpfiles.d")):
                more = ["--create"] if program == tmpfiles else []
                ran = subprocess.run(
                    [str(program), f"--root={root}", *more, str(UNITS / file / "mdmd.conf")],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                self.assertEqual(ran.returncode, 0, ran.stderr)
            self.assertIn("mdmd:", Path(root, "etc/passwd").read_text())
            self.assertEqual(Path(root, "var/lib/mdmd").stat().st_mode & 0o777, 0o750)
            self.assertEqual(Path(root, "etc/mdmd").stat().st_mode & 0o777, 0o750)

    def test_score(self) -> None:
        """systemd-analyze security: 2.0 or below."""
        if ANALYZE is None:
            self.skipTest("systemd-analyze is not installed")
        for name in ("mdmd.service", "mdmd@.service"):
            ran = subprocess.run(
                [ANALYZE, "security", "--offline=true", "--threshold=20", str(UNITS / name)],
                capture_output=True,
                text=True,
                check=False,
            )
            if "unrecognized option" in ran.stderr:
                self.skipTest("this systemd-analyze is too old")
            self.assertEqual(ran.returncode, 0, ran.stdout[-300:] + ran.stderr)
