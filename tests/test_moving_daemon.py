"""mdmctl export and import between real daemons, and from what NanoMDM and MicroMDM keep."""

import base64
import http.client
import json
import os
import plistlib
import re
import shutil
import subprocess
import tempfile
import time
import tracemalloc
from hashlib import sha256
from pathlib import Path
from typing import Any

from twisted.python.procutils import which
from twisted.trial.unittest import SynchronousTestCase

from mdmd.cli.foreign.building import Faulty
from mdmd.cli.foreign.nanomdm import TABLES, read_nanomdm
from mdmd.cli.foreign.sql import read_dump
from mdmd.errors import BadRequest
from tests.certhelp import push_pair
from tests.daemonhelp import BIN, TOPIC, HandDevice, RunningDaemon
from tests.databasehelp import (
    INSTALL_DB,
    MARIADB,
    MYSQL_SCHEMA,
    POSTGRES,
    POSTGRESQL_SCHEMA,
    MariaDB,
    PostgreSQL,
)

# Options of mysqldump and pg_dump.
MYSQL_WAYS = (
    *("", "--hex-blob", "--skip-extended-insert", "--complete-insert", "--insert-ignore"),
    *("--replace", "--compact --no-create-info", "--skip-quote-names", "--skip-opt"),
    "--default-character-set=binary",
)
POSTGRESQL_WAYS = (
    *("", "--inserts", "--column-inserts", "--rows-per-insert=2", "--data-only"),
    *("--quote-all-identifiers --inserts", "--inserts --on-conflict-do-nothing"),
)
UDIDS = [f"{n:08X}-0000-4000-8000-00000000000{n}" for n in range(1, 4)]


def command(uuid: str) -> bytes:
    inner = {"RequestType": "DeviceInformation", "Queries": ["UDID"]}
    return plistlib.dumps({"CommandUUID": uuid, "Command": inner})


def api(daemon: RunningDaemon, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Ask the API as an integrator does."""
    key = (daemon.state / "api.key").read_text().strip()
    connection = http.client.HTTPConnection("127.0.0.1", daemon.api_port, timeout=20)
    credentials = base64.b64encode(f"nanomdm:{key}".encode()).decode()
    connection.request(method, path, body, {"Authorization": f"Basic {credentials}"})
    response = connection.getresponse()
    found = response.status, response.read()
    connection.close()
    return found


def made_up(count: int) -> list[dict[str, Any]]:
    """An export of a fleet that never was."""
    devices = [
        {
            "kind": "device",
            "id": f"{n:08X}-0000-4000-8000-000000000000",
            "channels": {
                "": {
                    "record": {"type": "Device", "enabled": "1", "tally": "1", "topic": TOPIC},
                    "facts": {"SerialNumber": f"C{n:08}"},
                }
            },
        }
        for n in range(count)
    ]
    return [{"kind": "mdmd", "version": 1}, *devices, {"kind": "end"}]


class MovingCase(SynchronousTestCase):
    """Daemons, and a folder for files."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        (self.folder / "passphrase").write_text("correct horse\n")
        self.passphrase = f"--passphrase-file={self.folder / 'passphrase'}"

    def daemon(self) -> RunningDaemon:
        """A daemon that is not up yet."""
        # Nothing is pushed meanwhile: that is noted in the records.
        daemon = RunningDaemon(options={"push": "first_delay = 1h"})
        self.addCleanup(daemon.close)
        return daemon

    def running(self) -> RunningDaemon:
        """A daemon that is up."""
        daemon = self.daemon()
        daemon.start()
        return daemon

    def plain(self, daemon: RunningDaemon) -> list[dict[str, Any]]:
        """All that it has, as its export says."""
        path = self.folder / f"plain-{daemon.port}"
        done = daemon.mdmctl("export", "--plain", str(path))
        self.assertEqual(done.returncode, 0, done.stderr)
        return [json.loads(line) for line in path.read_text().splitlines()]

    def begun(self, daemon: RunningDaemon, *words: str, note: Path | None = None) -> None:
        """Begin an export or import, and kill it after its first note of the place."""
        note = note or Path(f"{words[-1]}.{words[0]}-resume")
        program = subprocess.Popen(
            [BIN / "mdmctl", "--state", daemon.state, *words], stdout=subprocess.DEVNULL
        )
        while not note.exists():
            self.assertIsNone(program.poll())
            time.sleep(0.001)
        program.kill()
        self.assertEqual(program.wait(), -9)
        self.assertEqual(note.stat().st_mode & 0o777, 0o600)
        self.assertNotIn(b"stage", note.read_bytes())

    def imported(self, daemon: RunningDaemon, *words: str, status: int = 0) -> dict[str, Any]:
        """Import something; the counts."""
        done = daemon.mdmctl("--json", "import", *words)
        self.assertEqual(done.returncode, status, done.stderr + done.stdout)
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found


class ExportTests(MovingCase):
    """From mdmd to mdmd."""

    def test_there_and_back(self) -> None:
        """Export, import into an empty server, export: equal; the devices go on there."""
        old = self.running()
        mac, phone = old.device(UDIDS[0], SerialNumber="C02X"), old.device(UDIDS[1])
        for each in (mac, phone):
            each.enroll()
        mac.check_in(MessageType="SetBootstrapToken", BootstrapToken=b"boot")
        for uuid in ("C-1", "C-2"):
            api(old, "PUT", f"/v1/enqueue/{UDIDS[0]},{UDIDS[1]}?nopush=1", command(uuid))
        self.assertEqual(mac.connect("Idle")[1], "C-1")
        sealed = self.folder / "sealed"
        done = old.mdmctl("export", self.passphrase, str(sealed))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.strip(), "2 certificate, 2 command, 2 device, 1 counts")
        self.assertEqual(sealed.stat().st_mode & 0o777, 0o600)
        self.assertNotIn(b"C-1", sealed.read_bytes())

        new = self.daemon()
        for part in ("ca", "tls"):
            shutil.copytree(old.state / part, new.state / part, dirs_exist_ok=True)
        shutil.copy(old.state / "sealing.key", new.state)  # the CA's key is sealed with it
        new.start()
        words = (self.passphrase, str(sealed))
        self.assertEqual(self.imported(new, "--dry-run", *words)["new"], 7)
        self.assertEqual([each["kind"] for each in self.plain(new)], ["mdmd", "counts", "end"])
        self.assertEqual(self.imported(new, *words)["new"], 6)
        self.assertEqual(self.plain(new), self.plain(old))
        self.assertEqual(self.imported(new, *words)["same"], 7)

        moved = HandDevice.__new__(HandDevice)
        moved.__dict__ |= {**mac.__dict__, "daemon": new, "_connection": None}
        self.assertEqual(moved.connect("Idle")[1], "C-1")
        self.assertEqual(moved.connect("Acknowledged", "C-1")[1], "C-2")
        status, body = moved.check_in(MessageType="GetBootstrapToken")
        self.assertEqual((status, plistlib.loads(body)), (200, {"BootstrapToken": b"boot"}))
        done = new.mdmctl("import", self.passphrase, str(sealed))
        self.assertEqual(done.returncode, 1)  # it lives on, so it is not the same any more
        self.assertIn("here already, and not the same", done.stderr)

    def test_a_restart_meanwhile(self) -> None:
        """An export that loses its daemon waits for the next one and goes on."""
        daemon = self.running()
        fleet = self.folder / "fleet"
        fleet.write_text("".join(json.dumps(each) + "\n" for each in made_up(800)))
        self.assertEqual(self.imported(daemon, str(fleet))["new"], 800)
        whole = self.plain(daemon)
        path = self.folder / "interrupted"
        part = self.folder / "interrupted.part"
        export = subprocess.Popen(
            [BIN / "mdmctl", "--state", daemon.state, "export", "--plain", path],
            stdout=subprocess.DEVNULL,
        )
        self.addCleanup(export.kill)
        while not part.exists() or part.stat().st_size < 20_000:
            self.assertIsNone(export.poll())
            time.sleep(0.001)
        daemon.kill()
        self.assertIsNone(export.poll())
        daemon.start()
        self.assertEqual(export.wait(60), 0)
        self.assertEqual([json.loads(line) for line in path.read_text().splitlines()], whole)

    def test_resume(self) -> None:
        """What was killed goes on, also after a restart, with no key and nothing twice."""
        old, new = self.running(), self.running()
        fleet = self.folder / "fleet"
        fleet.write_text("".join(json.dumps(each) + "\n" for each in made_up(1500)))
        self.begun(old, "import", str(fleet))
        wrong = new.mdmctl("import", "--resume", str(fleet))
        self.assertIn("not of this server", wrong.stderr)
        old.kill()
        old.start()
        counts = self.imported(old, "--resume", str(fleet))
        self.assertEqual(counts["new"] + counts["same"], 1500)
        self.assertLess(counts["same"], 200)

        sealed = self.folder / "sealed"
        self.begun(old, "export", self.passphrase, str(sealed))
        wrong = new.mdmctl("export", "--resume", str(sealed))
        self.assertIn("not of this server", wrong.stderr)
        old.kill()
        old.start()
        done = old.mdmctl("export", "--resume", str(sealed))
        self.assertEqual(
            (done.returncode, done.stdout), (0, "1500 device, 1 counts\n"), done.stderr
        )
        self.assertEqual(
            sorted(each.name for each in self.folder.iterdir()), ["fleet", "passphrase", "sealed"]
        )
        self.assertEqual(self.imported(new, self.passphrase, str(sealed))["new"], 1500)
        self.assertEqual(self.plain(new), self.plain(old))
        part = self.folder / "lost.part"
        part.write_bytes(b"")
        self.assertIn("is missing", old.mdmctl("export", "--resume", f"{part}"[:-5]).stderr)

    def test_keys(self) -> None:
        """Sealed for a key; what is wrong with a file or a key is said, and nothing imported."""
        daemon = self.running()
        daemon.device(UDIDS[0]).enroll()
        sealed, wrong = self.folder / "sealed", self.folder / "wrong"
        wrong.write_text("another\n")
        words = ("export", self.passphrase, str(sealed))
        self.assertEqual(daemon.mdmctl(*words).returncode, 0)
        for change, said in (
            ((f"--passphrase-file={wrong}", str(sealed)), "another passphrase"),
            ((self.passphrase, str(self.cut(sealed))), "damaged or cut short"),
            ((self.passphrase, str(self.folder / "passphrase")), "no JSON"),
            ((str(sealed),), "give --passphrase-file"),
            (("oldmdm", str(sealed)), "expected FILE"),
            (("/nowhere",), "No such file"),
        ):
            done = daemon.mdmctl("import", *change)
            self.assertEqual(done.returncode, 1)
            self.assertIn(said, done.stderr)
        self.assertEqual(list(self.folder.glob("*.part")), [])

    def cut(self, path: Path) -> Path:
        """The same file without its end."""
        short = self.folder / "short"
        short.write_bytes(path.read_bytes()[:-5])
        return short

    def test_age_opens_an_export(self) -> None:
        """Whoever has age and the key can read it without mdmd."""
        if not which("age"):
            self.skipTest("age is not installed")
        daemon = self.running()
        daemon.device(UDIDS[0]).enroll()
        key, sealed = self.folder / "key", self.folder / "sealed"
        subprocess.run(["age-keygen", "-o", key], check=True, capture_output=True)
        recipient = subprocess.run(
            ["age-keygen", "-y", key], check=True, capture_output=True, text=True
        ).stdout.strip()
        done = daemon.mdmctl("export", f"--recipient={recipient}", str(sealed))
        self.assertEqual(done.returncode, 0, done.stderr)
        opened = subprocess.run(
            ["age", "-d", "-i", key, sealed], check=True, capture_output=True
        ).stdout
        self.assertEqual([json.loads(each) for each in opened.splitlines()], self.plain(daemon))
        self.assertEqual(self.imported(daemon, f"--key={key}", str(sealed))["same"], 3)


class MigrationTests(MovingCase):
    """The way of NanoMDM's own migration tool."""

    def test_put_migration(self) -> None:
        """Raw check-ins come in without a certificate; the first one shown is pinned."""
        daemon = self.running()
        body = {"UDID": UDIDS[0], "Topic": TOPIC}
        token = {"Token": os.urandom(32), "PushMagic": "m"}
        for message in (
            {"MessageType": "Authenticate", "SerialNumber": "C02X"},
            {"MessageType": "TokenUpdate", "UnlockToken": b"unlock", **token},
            {"MessageType": "TokenUpdate", "UserID": "U", "UserShortName": "ann", **token},
            {"MessageType": "SetBootstrapToken", "BootstrapToken": b"boot"},
        ):
            status, answer = api(daemon, "PUT", "/migration", plistlib.dumps({**body, **message}))
            self.assertEqual((status, answer), (200, b""))
        self.assertEqual(api(daemon, "PUT", "/migration", b"garbage")[0], 400)
        # Nobody who acts on what devices say is told that they enroll.
        self.assertEqual(json.loads(api(daemon, "GET", "/v1/events?topic=mdm.*")[1])["events"], [])
        told = json.loads(api(daemon, "GET", "/v1/events?topic=mdmd.Migrated")[1])["events"]
        self.assertEqual(
            [(each["enrollment"], each["facts"]["message"]) for each in told],
            [
                (UDIDS[0], "Authenticate"),
                (UDIDS[0], "TokenUpdate"),
                (f"{UDIDS[0]}:U", "TokenUpdate"),
                (UDIDS[0], "SetBootstrapToken"),
            ],
        )
        api(daemon, "PUT", f"/v1/enqueue/{UDIDS[0]}?nopush=1", command("C-1"))
        device, stranger = daemon.device(UDIDS[0]), daemon.device("OTHER")
        self.assertEqual(device.connect("Idle")[1], "C-1")
        stranger.udid = UDIDS[0]
        self.assertEqual(stranger.connect("Idle")[0], 403)
        status, answer = device.check_in(MessageType="GetBootstrapToken")
        self.assertEqual(plistlib.loads(answer), {"BootstrapToken": b"boot"})


class NanoMDMCase(MovingCase):
    """What NanoMDM keeps."""

    def setUp(self) -> None:
        super().setUp()
        self.token = os.urandom(32)
        _, pem = push_pair(TOPIC)
        at = pem.index(b"-----BEGIN PRIVATE KEY")
        self.certificate, self.key = pem[:at], pem[at:]
        self.authenticate = plistlib.dumps(
            {
                "MessageType": "Authenticate",
                "UDID": UDIDS[0],
                "Topic": TOPIC,
                "SerialNumber": "C02X",
                "DeviceName": "Ann's \\ \N{SNOWMAN}",
            }
        )
        self.update = plistlib.dumps(
            {
                "MessageType": "TokenUpdate",
                "UDID": UDIDS[0],
                "Topic": TOPIC,
                "Token": self.token,
                "PushMagic": "magic",
            }
        )

    def dumped(self, name: str, dump: bytes) -> None:
        """Import it into a daemon of its own."""
        path = self.folder / f"{name}.sql"
        path.write_bytes(dump)
        self.taken(str(path))

    def taken(self, where: str) -> None:
        """Import it into a daemon of its own."""
        daemon = self.running()
        told = self.imported(daemon, "nanomdm", where)
        self.assertEqual((told["new"], told["failed"]), (4, 0), told)
        records = self.plain(daemon)
        device = next(each for each in records if each["kind"] == "device")
        own = device["channels"][""]
        self.assertEqual(base64.b64decode(own["push"]["token"]["base64"]), self.token)
        self.assertEqual(own["facts"]["DeviceName"], "Ann's \\ \N{SNOWMAN}")
        self.assertEqual(own["record"]["pin"], "cd" * 32)
        self.assertEqual(own["record"]["tally"], "3")
        self.assertEqual([line[0] for line in own["queue"]], ["C-1", "C-2"])
        self.assertEqual(device["channels"]["U-1"]["record"]["type"], "User")
        self.assertEqual(device["channels"]["U-1"]["record"]["user"], "ann")
        self.assertEqual(base64.b64decode(device["bootstrap_token"]["base64"]), b"boot")
        self.assertEqual(
            base64.b64decode(device["unlock_token"]["base64"]), b"unlock\\'\n\xe2\x98\x83"
        )
        self.assertEqual(self.imported(daemon, "nanomdm", where)["same"], 4)
        daemon.close()

    def rows(self) -> dict[str, list[dict[str, bytes | None]]]:
        """NanoMDM's tables."""
        at = b"2026-01-02 03:04:05"
        udid = UDIDS[0].encode()
        hexed = self.token.hex().encode()
        both = {"created_at": at, "updated_at": at}
        enrollment = {
            "topic": TOPIC.encode(),
            "push_magic": b"magic",
            "token_hex": hexed,
            "enabled": b"1",
            "token_update_tally": b"3",
            "last_seen_at": at,
            **both,
        }
        return {
            "devices": [
                {
                    "id": udid,
                    "identity_cert": None,
                    "serial_number": b"C02X",
                    "unlock_token": b"unlock\\'\n\xe2\x98\x83",
                    "unlock_token_at": at,
                    "authenticate": self.authenticate,
                    "authenticate_at": at,
                    "token_update": self.update,
                    "token_update_at": at,
                    "bootstrap_token_b64": base64.b64encode(b"boot"),
                    "bootstrap_token_at": at,
                    **both,
                }
            ],
            "users": [
                {
                    "id": udid + b":U-1",
                    "device_id": udid,
                    "user_short_name": b"ann",
                    "user_long_name": None,
                    "token_update": None,
                    "token_update_at": None,
                    "user_authenticate": None,
                    "user_authenticate_at": None,
                    "user_authenticate_digest": None,
                    "user_authenticate_digest_at": None,
                    **both,
                }
            ],
            "enrollments": [
                {"id": udid, "device_id": udid, "user_id": None, "type": b"Device", **enrollment},
                {
                    "id": udid + b":U-1",
                    "device_id": udid,
                    "user_id": udid + b":U-1",
                    "type": b"User",
                    **enrollment,
                },
            ],
            "commands": [
                {
                    "command_uuid": uuid,
                    "request_type": b"DeviceInformation",
                    "command": command(uuid.decode()),
                    **both,
                }
                for uuid in (b"C-0", b"C-1", b"C-2")
            ],
            "command_results": [
                {
                    "id": udid,
                    "command_uuid": uuid,
                    "status": status,
                    "result": b"<?xml'",
                    "not_now_at": None,
                    "not_now_tally": b"0",
                    **both,
                }
                for uuid, status in ((b"C-0", b"Acknowledged"),)
            ],
            "enrollment_queue": [
                {
                    "id": udid,
                    "command_uuid": uuid,
                    "active": b"1",
                    "priority": b"0",
                    "created_at": b"2026-01-0%d 00:00:00" % n,
                    "updated_at": at,
                }
                for n, uuid in ((1, b"C-0"), (2, b"C-1"), (3, b"C-2"))
            ],
            "push_certs": [
                {
                    "topic": TOPIC.encode(),
                    "cert_pem": self.certificate,
                    "key_pem": self.key,
                    "stale_token": b"1",
                    **both,
                }
            ],
            "cert_auth_associations": [
                {"id": udid, "sha256": b"ab" * 32, **both, "updated_at": b"2025-01-01 00:00:00"},
                {"id": udid, "sha256": b"cd" * 32, **both},
            ],
        }

    def mysql(self) -> bytes:
        """As mysqldump does: several rows in a line, backslashes, binary strings."""

        def value(name: str, each: bytes | None) -> bytes:
            if each is None:
                return b"NULL"
            escaped = each.replace(b"\\", b"\\\\").replace(b"'", b"\\'").replace(b"\n", b"\\n")
            prefix = b"_binary " if name == "unlock_token" else b""
            return prefix + b"'" + escaped.replace(b"\0", b"\\0") + b"'"

        out = b"-- MySQL dump 10.13\n/*!40101 SET NAMES utf8mb4 */;\n"
        for table, rows in self.rows().items():
            lines = b"".join(b"  `%b` text,\n" % name.encode() for name in rows[0])
            out += b"CREATE TABLE `nano_%b` (\n%b  PRIMARY KEY (`id`)\n);\n" % (
                table.encode(),
                lines,
            )
            values = b",".join(
                b"(" + b",".join(value(*pair) for pair in row.items()) + b")" for row in rows
            )
            out += b"INSERT INTO `nano_%b` VALUES %b;\n" % (table.encode(), values)
        return out + b"INSERT INTO `other` VALUES (1,'x');\n"

    def copy(self) -> bytes:
        """As pg_dump does."""

        def value(each: bytes | None) -> bytes:
            if each is None:
                return b"\\N"
            return each.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\t", b"\\t")

        out = b"--\n-- PostgreSQL database dump\n--\n"
        for table, rows in self.rows().items():
            names = ", ".join(rows[0]).encode()
            out += b"COPY public.%b (%b) FROM stdin;\n" % (table.encode(), names)
            out += b"".join(b"\t".join(map(value, row.values())) + b"\n" for row in rows)
            out += b"\\.\n\n"
        return out + b"COPY public.other (id) FROM stdin;\n1\n\\.\n"

    def inserts(self) -> bytes:
        """As pg_dump --inserts does: quotes doubled, line ends as they are."""

        def value(each: bytes | None) -> bytes:
            return b"NULL" if each is None else b"'" + each.replace(b"'", b"''") + b"'"

        out = b"--\n-- PostgreSQL database dump\n--\n"
        for table, rows in self.rows().items():
            for row in rows:
                values = b", ".join(map(value, row.values()))
                out += b"INSERT INTO public.%b VALUES (%b);\n" % (table.encode(), values)
        return out


class NanoMDMTests(NanoMDMCase):
    """Its file store and its dumps."""

    def test_file_store(self) -> None:
        """A folder of its file store."""
        store = self.folder / "db"
        device = store / UDIDS[0]
        (device / "Queue").mkdir(parents=True)
        (device / "QueueNotNow").mkdir()
        (device / "Authenticate.plist").write_bytes(self.authenticate)
        (device / "TokenUpdate.plist").write_bytes(self.update)
        (device / "UnlockToken.dat").write_bytes(b"unlock\\'\0\n\xe2\x98\x83")
        (device / "BootstrapToken.dat").write_bytes(b"boot")
        (device / "CertAuth.sha256.txt").write_text("AB" * 32)
        (device / "QueueNotNow" / "C-1.plist").write_bytes(command("C-1"))
        (device / "Queue" / "C-2.plist").write_bytes(command("C-2"))
        (device / "Queue" / "C-9.plist").write_bytes(b"garbage")
        (store / f"{TOPIC}.pem").write_bytes(self.certificate)
        (store / f"{TOPIC}.key").write_bytes(self.key)
        broken = store / UDIDS[1]
        broken.mkdir()
        (broken / "Authenticate.plist").write_bytes(b"garbage")
        daemon = self.running()
        told = self.imported(daemon, "nanomdm", str(store), status=1)
        self.assertEqual((told["new"], told["failed"]), (4, 2))
        self.assertIn(UDIDS[1], [each["record"] for each in told["failures"]])
        records = self.plain(daemon)
        own = next(each for each in records if each["kind"] == "device")["channels"][""]
        self.assertEqual({line[0] for line in own["queue"]}, {"C-1", "C-2"})
        self.assertEqual(own["record"]["pin"], "ab" * 32)
        again = self.imported(daemon, "nanomdm", str(store), status=1)
        self.assertEqual((again["new"], again["failed"]), (0, 2))

    def test_stray_files(self) -> None:
        """What can't be read is named, and holds nothing else up; an empty folder is no store."""
        store = self.folder / "db"
        for udid in UDIDS:
            (store / udid).mkdir(parents=True)
        (store / UDIDS[0] / "Authenticate.plist").write_bytes(self.authenticate)
        (store / UDIDS[0] / "Authenticate.plist~").write_bytes(b"")
        (store / UDIDS[0] / "Queue").write_text("no folder")
        (store / UDIDS[1] / "Authenticate.plist").mkdir()
        (store / ".DS_Store").write_bytes(b"\0")
        device, fault = sorted(
            read_nanomdm(str(store), 0), key=lambda each: isinstance(each, Faulty)
        )
        assert isinstance(device, dict), device
        assert isinstance(fault, Faulty), fault
        self.assertEqual((device["id"], fault.what), (UDIDS[0], UDIDS[1]))
        (self.folder / "empty").mkdir()
        with self.assertRaisesRegex(BadRequest, "nothing that NanoMDM keeps"):
            list(read_nanomdm(str(self.folder / "empty"), 0))

    def test_user_enrollment(self) -> None:
        """A user of a User Enrollment is one after the move, too."""
        store = self.folder / "db"
        about = {"EnrollmentID": "E-1", "Topic": TOPIC}
        update = {"MessageType": "TokenUpdate", "Token": b"t" * 32, "PushMagic": "m"}
        for name, message in (
            ("E-1/Authenticate", {"MessageType": "Authenticate"}),
            ("E-1/TokenUpdate", update),
            ("E-1:V/TokenUpdate", {**update, "EnrollmentUserID": "V"}),
        ):
            path = store / f"{name}.plist"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(plistlib.dumps({**about, **message}))
        (device,) = read_nanomdm(str(store), 0)
        assert isinstance(device, dict), device
        self.assertEqual(device["types"], {"V": "User Enrollment"})
        self.assertEqual(device["channels"][""]["record"]["type"], "User Enrollment (Device)")

    def test_filekv(self) -> None:
        """A folder of its other file store, the usual one."""
        store, udid = self.folder / "dbkv", UDIDS[0]
        user = f"{udid}:U-1"
        moment = b"1767323045000000"
        values = {
            f"devices/{udid}.auth": self.authenticate,
            f"devices/{udid}.tok_upd": self.update,
            f"devices/{udid}.bstoken": b"boot",
            f"users/{user}.tok_upd": plistlib.dumps(
                {**plistlib.loads(self.update), "UserID": "U-1", "UserShortName": "ann"}
            ),
            f"users/{user}.device_ch": udid.encode(),
            f"enrollments/{udid}.unl_tok": b"unlock\\'\n\xe2\x98\x83",
            f"enrollments/{udid}.user_ch.{user}": b"1",
            f"cert_auth/{udid}.cert_hash": b"cd" * 32,
            f"cert_auth/{'cd' * 32}.hash_cert": udid.encode(),
            f"push_cert/{TOPIC}.pem": self.certificate,
            f"push_cert/{TOPIC}.key": self.key,
            f"push_cert/{TOPIC}.stale_token": b"0",
            f"queue/{udid}.queuekey.queue.first": b"C-1",
            f"queue/{udid}.queuekey.queue.last": b"C-2",
            f"queue/{udid}.C-1.queueitem.next": b"C-2",
            f"queue/{udid}.C-2.queueitem.prev": b"C-1",
            f"queue/{udid}.C-0.queueitem.status": b"Acknowledged",
        }
        for uuid in ("C-0", "C-1", "C-2"):
            values |= {f"queue/{uuid}.raw": command(uuid), f"queue/{uuid}.req_type": b"R"}
        for id in (udid, user):
            values |= {
                f"enrollments/{id}.type": b"User" if id == user else b"Device",
                f"enrollments/{id}.topic": TOPIC.encode(),
                f"enrollments/{id}.push_magic": b"magic",
                f"enrollments/{id}.token": self.token,
                f"enrollments/{id}.tok_tal": b"3",
                f"enrollments/{id}.last_seen_at": moment,
                f"enrollments/{id}.enrolled_at": moment,
            }
        for name, value in values.items():
            bucket, _, key = name.partition("/")
            folder = store / bucket / key[:2] / key[2:4]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(value)
        self.taken(str(store))
        (device,) = (each for each in read_nanomdm(str(store), 0) if each["kind"] == "device")
        self.assertEqual(device["channels"][""]["record"]["seen"], "1767323045000")
        # NotNow'd, checked out, and a list that goes round in circles.
        key = f"{udid}.C-2.queueitem"
        folder = store / "queue" / key[:2] / key[2:4]
        (folder / f"{key}.status").write_bytes(b"NotNow")
        (folder / f"{key}.next").write_bytes(b"C-1")
        folder = store / "enrollments" / udid[:2] / udid[2:4]
        (folder / f"{udid}.disabled").write_bytes(b"1")
        (device,) = (each for each in read_nanomdm(str(store), 0) if each["kind"] == "device")
        own = device["channels"][""]
        self.assertEqual(own["record"]["enabled"], "0")
        self.assertEqual(
            [(uuid, place >= 2**48) for uuid, place, _ in own["queue"]],
            [("C-1", False), ("C-2", True)],
        )

    def test_mysql_dump(self) -> None:
        """A dump as mysqldump writes it."""
        self.dumped("mysql", self.mysql())

    def test_postgresql_dumps(self) -> None:
        """Dumps as pg_dump writes them: COPY, and INSERTs."""
        self.dumped("copy", self.copy())
        self.dumped("inserts", self.inserts())

    def test_character_sets(self) -> None:
        """A dump in latin1 is read as what it is, one in an unknown character set refused."""
        snowman, euro = "\N{SNOWMAN}".encode(), "\N{EURO SIGN}".encode("cp1252")
        self.authenticate = self.authenticate.replace(snowman, euro)
        path = self.folder / "latin1.sql"
        path.write_bytes(self.mysql().replace(b"utf8mb4", b"latin1"))
        device = list(read_nanomdm(str(path), 0))[-1]
        assert isinstance(device, dict), device
        self.assertEqual(device["channels"][""]["facts"]["DeviceName"], "Ann's \\ \N{EURO SIGN}")
        self.assertEqual(device["unlock_token"], b"unlock\\'\n\xe2\x98\x83")
        path.write_bytes(self.mysql().replace(b"utf8mb4", b"sjis"))
        with self.assertRaisesRegex(BadRequest, "character set sjis: make one in UTF-8"):
            list(read_nanomdm(str(path), 0))

    def test_large_values(self) -> None:
        """What is in quotes costs little more than itself, however much it is."""
        profile = b"<string>A line of a profile</string>\\n" * 200_000
        path = self.folder / "large.sql"
        dump = b"-- MySQL dump\nINSERT INTO `commands` VALUES ('C','R','%b',NULL,NULL);\n"
        path.write_bytes(dump % profile)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        ((_, row),) = read_dump(path, TABLES)
        self.assertEqual(len(row["command"] or b""), len(profile) - 200_000)
        self.assertLess(tracemalloc.get_traced_memory()[1], 10 * len(profile))

    def test_no_dump(self) -> None:
        """What is no dump, breaks off, or is a database's address is refused in words."""
        daemon = self.running()
        path = self.folder / "x.sql"
        whole = self.mysql()
        for content, said in (
            (b"nothing", "no rows"),
            (whole[: whole.index(b"C02X") + 2], "breaks off"),
            (self.copy()[: self.copy().index(b"C02X") + 2], "breaks off"),
            (b"INSERT INTO `nano_devices` VALUES ('a','b');", "2 values for 13 columns"),
        ):
            path.write_bytes(content)
            done = daemon.mdmctl("import", "nanomdm", str(path))
            self.assertEqual(done.returncode, 1)
            self.assertIn(said, done.stderr)
        for where, said in (
            (
                "mysql://u:secret@127.0.0.1:1/nanomdm",
                "mysql://u@127.0.0.1:1/nanomdm: Can't connect",
            ),
            (
                "u:secret@tcp(127.0.0.1:1)/nanomdm?parseTime=true",
                "127.0.0.1:1/nanomdm: Can't connect",
            ),
            (
                "postgres://u:secret@127.0.0.1:1/nanomdm",
                "postgresql://u@127.0.0.1:1/nanomdm: Can't",
            ),
            ("oracle://u:secret@h/nanomdm", "expected mysql://USER@HOST/DATABASE"),
            ("mysql://u:secret@h", "expected mysql://USER@HOST/DATABASE"),
        ):
            done = daemon.mdmctl("import", "nanomdm", where)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
            self.assertIn(said, done.stderr)
            self.assertNotIn("secret", done.stderr)


class RunningDatabaseTests(NanoMDMCase):
    """NanoMDM's database itself, asked while it runs."""

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.folder)  # the note of the place is where one is

    def fill(self, link: Any, schema: str, devices: int) -> None:
        """Make the tables, and more devices than are read at once."""
        cursor = link.cursor()
        for each in schema.split(";"):
            if each.strip():
                cursor.execute(each)
        for table, rows in self.rows().items():
            if table == "devices":
                rows = rows + [
                    {
                        **rows[0],
                        "id": b"%08X" % n,
                        "authenticate": self.authenticate.replace(b"C02X", b"C%08X" % n),
                    }
                    for n in range(devices)
                ]
            for row in rows:
                values = [
                    each if name == "unlock_token" or each is None else each.decode()
                    for name, each in row.items()
                ]
                if "enabled" in row or "active" in row:
                    at = list(row).index("enabled" if "enabled" in row else "active")
                    values[at] = True
                names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
                cursor.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", values)
        link.commit()

    def test_mariadb(self) -> None:
        """MySQL, or MariaDB: by URL, and as NanoMDM itself names it."""
        if not (MARIADB and INSTALL_DB):
            self.skipTest("mariadb-server is not installed")
        import pymysql

        server = MariaDB()
        self.addCleanup(server.close)
        link = pymysql.connect(user="root", unix_socket=str(server.socket), charset="utf8mb4")
        with link.cursor() as cursor:
            cursor.execute("CREATE DATABASE nanomdm CHARACTER SET utf8mb4")
            cursor.execute("CREATE DATABASE empty")
            cursor.execute("CREATE USER nano IDENTIFIED BY 's3cret'")
            cursor.execute("GRANT SELECT ON nanomdm.* TO nano")
            cursor.execute("GRANT SELECT ON empty.* TO nano")
            cursor.execute("USE nanomdm")
        self.fill(link, MYSQL_SCHEMA, 0)
        self.ways(
            f"mysql://nano@/nanomdm?unix_socket={server.socket}",
            f"mysql://nano@/empty?unix_socket={server.socket}",
            "MYSQL_PWD",
        )
        self.taken(f"nano:s3cret@unix({server.socket})/nanomdm")
        dump = ("mysqldump", "--no-defaults", "-uroot", f"-S{server.socket}", "nanomdm")
        self.dumps(f"mysql://root@/nanomdm?unix_socket={server.socket}", dump, MYSQL_WAYS)
        self.many(link, MYSQL_SCHEMA, f"nano:s3cret@unix({server.socket})/nanomdm")

    def test_postgresql(self) -> None:
        """PostgreSQL."""
        if not POSTGRES:
            self.skipTest("postgresql is not installed")
        import pg8000.dbapi

        server = PostgreSQL()
        self.addCleanup(server.close)
        login = {
            "user": "nano",
            "password": "s3cret",
            "unix_sock": f"{server.socket}/.s.PGSQL.5432",
        }
        link = pg8000.dbapi.connect(database="postgres", **login)
        link.autocommit = True
        for name in ("nanomdm", "empty"):
            link.cursor().execute(f"CREATE DATABASE {name}")
        link.close()
        link = pg8000.dbapi.connect(database="nanomdm", **login)
        self.fill(link, POSTGRESQL_SCHEMA, 0)
        self.ways(
            f"postgresql://nano@/nanomdm?host={server.socket}",
            f"postgresql://nano@/empty?host={server.socket}",
            "PGPASSWORD",
        )
        place = f"postgres://nano:s3cret@/nanomdm?host={server.socket}"
        os.environ["PGPASSWORD"] = "s3cret"
        dump = (str(POSTGRES[0].parent / "pg_dump"), f"-h{server.socket}", "-Unano", "nanomdm")
        for options in ("", "-c bytea_output=escape", "-c standard_conforming_strings=off"):
            os.environ["PGOPTIONS"] = options
            self.addCleanup(os.environ.pop, "PGOPTIONS", None)
            self.dumps(place, dump, POSTGRESQL_WAYS)
        del os.environ["PGOPTIONS"], os.environ["PGPASSWORD"]
        self.many(link, POSTGRESQL_SCHEMA, place)

    def dumps(self, where: str, program: tuple[str, ...], ways: tuple[str, ...]) -> None:
        """A dump says what the database says, whatever way it is written in."""
        wanted = list(read_nanomdm(where, 0))
        path = self.folder / "dump.sql"
        for way in ways:
            done = subprocess.run([*program, *way.split()], capture_output=True, check=True)
            path.write_bytes(done.stdout)
            self.assertEqual(list(read_nanomdm(str(path), 0)), wanted, way)

    def ways(self, where: str, empty: str, variable: str) -> None:
        """Import with a password of the environment; a wrong one, none, another database."""
        os.environ[variable] = "s3cret"
        self.addCleanup(os.environ.pop, variable, None)
        self.taken(where)
        daemon = self.daemon()

        def refused(said: str, place: str = where) -> None:
            done = daemon.mdmctl("import", "nanomdm", place)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(said, done.stderr)
            self.assertNotIn("Traceback", done.stderr)

        daemon.start()
        refused("NanoMDM's tables are not in this database", empty)
        os.environ[variable] = "wrong"
        refused("nano")
        del os.environ[variable]
        refused(f"${variable}")
        driver = "pymysql" if variable == "MYSQL_PWD" else "pg8000"
        (self.folder / f"{driver}.py").write_text("raise ImportError")
        os.environ["PYTHONPATH"] = str(self.folder)
        self.addCleanup(os.environ.pop, "PYTHONPATH", None)
        refused("pip install 'mdmd[import]'")
        del os.environ["PYTHONPATH"]
        daemon.close()

    def many(self, link: Any, schema: str, where: str) -> None:
        """More devices than are read at once come one by one."""
        for each in re.findall(r"CREATE TABLE (\w+)", schema):
            link.cursor().execute(f"DROP TABLE {each}")
        self.fill(link, schema, 450)
        daemon = self.running()
        told = self.imported(daemon, "nanomdm", where)
        self.assertEqual((told["new"], told["failed"]), (454, 0), told["failures"][:2])
        self.gone_on(link, where)

    def gone_on(self, link: Any, where: str) -> None:
        """One that is killed goes on behind the last device, and asks for those before no more."""
        daemon = self.running()
        kind = "mysql" if "unix(" in where else "postgresql"
        note = self.folder / f"{kind}-nanomdm.import-resume"
        self.begun(daemon, "import", "nanomdm", where, note=note)
        self.assertNotIn(b"s3cret", note.read_bytes())
        # It would be refused if it came again: what is here already differs.
        link.cursor().execute(
            "UPDATE devices SET bootstrap_token_b64 = 'AAAA' WHERE id = '00000000'"
        )
        link.commit()
        told = self.imported(daemon, "--resume", "nanomdm", where)
        self.assertEqual(told["new"] + told["same"], 457, told)  # three that are no devices, twice
        self.assertEqual(told["failed"], 0, told)
        self.assertFalse(note.exists())
        told = self.imported(daemon, "nanomdm", where, status=1)
        self.assertEqual([each["record"] for each in told["failures"]], ["device 00000000"])
        refused = daemon.mdmctl("import", "--resume", "--dry-run", "nanomdm", where)
        self.assertIn("not for a dry run", refused.stderr)


class MicroMDMTests(MovingCase):
    """What MicroMDM keeps."""

    def test_json_lines(self) -> None:
        """Devices, with their topic in lines of their own; what lacks something is named."""
        token, pin = os.urandom(32), sha256(b"certificate").hexdigest()
        lines = [
            {
                "uuid": "x",
                "udid": UDIDS[0],
                "serial_number": "C02X",
                "device_name": "Mac",
                "token": token.hex(),
                "push_magic": "magic",
                "unlock_token": b"unlock".hex(),
                "enrolled": True,
                "last_seen": "2026-01-02T03:04:05Z",
            },
            {"udid": UDIDS[0], "mdm_topic": TOPIC},
            {"udid": UDIDS[0], "cert_hash": pin},
            {"udid": UDIDS[1], "token": "no token!", "enrolled": True, "mdm_topic": TOPIC},
            {"udid": UDIDS[2], "serial_number": "C02Z", "enrolled": False},
        ]
        path = self.folder / "lines"
        path.write_text("\n".join(map(json.dumps, lines)) + "\n")
        daemon = self.running()
        told = self.imported(daemon, "micromdm", str(path), status=1)
        self.assertEqual((told["new"], told["failed"]), (2, 1))
        self.assertEqual(told["failures"][0]["record"], UDIDS[1])
        first, second = (each for each in self.plain(daemon) if each["kind"] == "device")
        own = first["channels"][""]
        self.assertEqual(own["record"]["pin"], pin)
        self.assertEqual(own["record"]["topic"], TOPIC)
        self.assertEqual(base64.b64decode(own["push"]["token"]["base64"]), token)
        self.assertEqual(base64.b64decode(first["unlock_token"]["base64"]), b"unlock")
        self.assertEqual(own["facts"], {"SerialNumber": "C02X", "DeviceName": "Mac"})
        self.assertEqual(second["channels"][""]["record"]["enabled"], "0")
        # Nothing says when the second one was seen: each time it is the same all the same.
        told = self.imported(daemon, "micromdm", str(path), status=1)
        self.assertEqual((told["new"], told["same"], told["failed"]), (0, 2, 1))
        # One that was cut off is named, and holds up no device before it.
        written = path.stat().st_mtime
        path.write_text(path.read_text() + '{"udid": "cut o')
        os.utime(path, (written, written))
        told = self.imported(daemon, "micromdm", str(path), status=1)
        self.assertEqual((told["same"], told["failed"]), (2, 2))
        self.assertEqual(told["failures"][0]["record"], "line 6")
        path.write_text("not json\n")
        self.assertIn("line 1", daemon.mdmctl("import", "micromdm", str(path)).stderr)
