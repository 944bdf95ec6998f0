"""Real database servers for tests, each a process of its own, with data of its own."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from twisted.python.procutils import which

MARIADB = [*which("mariadbd"), *Path("/usr/sbin").glob("mariadbd")][:1]
INSTALL_DB = (which("mariadb-install-db") or [""])[0]
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))[-1:]

MYSQL_SCHEMA = """
CREATE TABLE devices (id VARCHAR(255) PRIMARY KEY, identity_cert TEXT, serial_number VARCHAR(127),
  unlock_token MEDIUMBLOB, unlock_token_at TIMESTAMP NULL, authenticate TEXT NOT NULL,
  authenticate_at TIMESTAMP NOT NULL, token_update TEXT, token_update_at TIMESTAMP NULL,
  bootstrap_token_b64 TEXT, bootstrap_token_at TIMESTAMP NULL,
  created_at TIMESTAMP NULL, updated_at TIMESTAMP NULL);
CREATE TABLE users (id VARCHAR(255) PRIMARY KEY, device_id VARCHAR(255),
  user_short_name VARCHAR(255), user_long_name VARCHAR(255),
  token_update TEXT, token_update_at TIMESTAMP NULL,
  user_authenticate TEXT, user_authenticate_at TIMESTAMP NULL, user_authenticate_digest TEXT,
  user_authenticate_digest_at TIMESTAMP NULL, created_at TIMESTAMP NULL, updated_at TIMESTAMP NULL);
CREATE TABLE enrollments (id VARCHAR(255) PRIMARY KEY, device_id VARCHAR(255), user_id VARCHAR(255),
  type VARCHAR(31), topic VARCHAR(255), push_magic VARCHAR(127), token_hex VARCHAR(255),
  enabled BOOLEAN, token_update_tally INTEGER, last_seen_at TIMESTAMP NULL,
  created_at TIMESTAMP NULL, updated_at TIMESTAMP NULL);
CREATE TABLE commands (command_uuid VARCHAR(127) PRIMARY KEY, request_type VARCHAR(63),
  command MEDIUMTEXT, created_at TIMESTAMP NULL, updated_at TIMESTAMP NULL);
CREATE TABLE command_results (id VARCHAR(255), command_uuid VARCHAR(127), status VARCHAR(31),
  result MEDIUMTEXT, not_now_at TIMESTAMP NULL, not_now_tally INTEGER,
  created_at TIMESTAMP NULL, updated_at TIMESTAMP NULL);
CREATE TABLE enrollment_queue (id VARCHAR(255), command_uuid VARCHAR(127), active BOOLEAN,
  priority INTEGER, created_at TIMESTAMP NULL, updated_at TIMESTAMP NULL);
CREATE TABLE push_certs (topic VARCHAR(255), cert_pem TEXT, key_pem TEXT, stale_token INTEGER,
  created_at TIMESTAMP NULL, updated_at TIMESTAMP NULL);
CREATE TABLE cert_auth_associations (id VARCHAR(255), sha256 CHAR(64),
  created_at TIMESTAMP NULL, updated_at TIMESTAMP NULL);
"""
POSTGRESQL_SCHEMA = MYSQL_SCHEMA.replace("MEDIUMBLOB", "BYTEA").replace("MEDIUMTEXT", "TEXT")


class DatabaseServer:
    """
    A server that is up.

    :ivar socket: what a client names: a socket, or the folder of them.
    """

    def __init__(self) -> None:
        # Short: a socket's path has a limit.
        self.folder = Path(tempfile.mkdtemp(prefix="db-", dir="/tmp"))
        self.process: subprocess.Popen[bytes] | None = None

    def _run(self, *words: str | Path, user: str | None = None) -> None:
        with (self.folder / "log").open("ab") as log:
            subprocess.run(words, check=True, stdout=log, stderr=log, user=user, cwd="/")

    def _start(self, *words: str | Path, user: str | None, ready: Path) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, user=user, cwd="/")
        end = time.monotonic() + 60
        while not ready.exists():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)

    def close(self) -> None:
        """End it and forget its data."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _account(name: str) -> str | None:
    """Whom a server runs as: root may not, and nobody else can choose."""
    if os.geteuid() != 0:
        return None
    pwd.getpwnam(name)
    return name


class MariaDB(DatabaseServer):
    """MariaDB, with a root without a password."""

    def __init__(self) -> None:
        super().__init__()
        data, self.socket = self.folder / "data", self.folder / "s"
        user = _account("mysql")
        if user:
            shutil.chown(self.folder, user)
        words = (f"--datadir={data}",)
        more = ("--auth-root-authentication-method=normal", "--skip-test-db")
        self._run(INSTALL_DB, "--no-defaults", *words, *more, user=user)
        options = (f"--socket={self.socket}", "--skip-networking", "--innodb-buffer-pool-size=16M")
        self._start(MARIADB[0], "--no-defaults", *words, *options, user=user, ready=self.socket)


class PostgreSQL(DatabaseServer):
    """PostgreSQL, with a user of a password's."""

    def __init__(self) -> None:
        super().__init__()
        data, self.socket = self.folder / "data", self.folder
        user = _account("postgres")
        if user:
            shutil.chown(self.folder, user)
        secret = self.folder / "secret"
        secret.write_text("s3cret\n")
        secret.chmod(0o644)
        programs = POSTGRES[0].parent
        words = ("-U", "nano", f"--pwfile={secret}", "--auth=scram-sha-256", "-E", "UTF8")
        self._run(programs / "initdb", "-D", data, "--no-sync", *words, user=user)
        options = ("-c", "listen_addresses=", "-c", f"unix_socket_directories={self.folder}")
        ready = self.folder / ".s.PGSQL.5432"
        self._start(programs / "postgres", "-D", data, *options, user=user, ready=ready)
        asked = (programs / "pg_isready", "-q", "-h", self.folder)
        end = time.monotonic() + 60  # the socket is there a moment before it takes logins
        while subprocess.run(asked, check=False).returncode:
            assert time.monotonic() < end
            time.sleep(0.05)
