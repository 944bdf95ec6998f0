"""A real daemon in a process of its own, and a plain HTTPS client to play devices with."""

import base64
import contextlib
import http.client
import json
import os
import plistlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from mdmd.pki import scep_client
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import certificate_pem, key_pem, load_certificate, new_csr, new_key
from mdmd.pki.sealing import CA_KEY, Sealer
from tests.storehelp import free_port, server

BIN = Path(sys.executable).parent
CHECKIN = "application/x-apple-aspen-mdm-checkin"
TOPIC = "com.apple.mgmt.External.7faed215-0000-4618-a210-000000000000"


def wait_for_port(port: int, seconds: float = 10.0) -> None:
    """Wait until somebody listens."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise AssertionError(f"nobody listens on {port}")


def holders(lock: Path) -> Iterator[int]:
    """
    Find the processes that hold an embedded store's lock.

    What is written in it may be missing or old: a daemon that is killed may just have begun
    to start a store, which at that moment is not even a store yet.
    """
    for link in Path("/proc").glob("[0-9]*/fd/3"):
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is none of ours
            if link.readlink() == lock:
                yield int(link.parts[2])


class RunningDaemon:
    """
    ``twistd mdmd`` with state in a scratch folder.

    :param redis: the store; the embedded one by default.
    :param options: more lines for the configuration, by section.
    :param init: more words for ``mdmctl init``.
    """

    def __init__(
        self,
        redis: str = "embedded",
        options: dict[str, str] | None = None,
        init: Sequence[str] = (),
    ) -> None:
        # Short: a unix socket's path may have 107 characters at most.
        self.state = Path(tempfile.mkdtemp(prefix="mdmd-", dir="/tmp"))
        self.port, self.api_port, self.ssh_port = free_port(), free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.log = self.state / "daemon.log"
        self.trust = self.state / "ca" / "ca.pem"  # for the site
        embedded = f"unix://{self.state / 'store' / 'store.sock'}"
        self.store_url = embedded if redis == "embedded" else redis
        self.launcher: list[str] = []  # before the command, such as a shell that opens files
        self.inherited: tuple[int, ...] = ()  # file descriptors
        self._mdmctl_init(init)
        extra = dict(options or {})
        sections = {
            "mdmd": f"public_url = https://localhost:{self.port}",
            "site": f"listen = tcp:{self.port}:interface=127.0.0.1",
            "api": f"listen = tcp:{self.api_port}:interface=127.0.0.1",
            "manhole": f"listen = tcp:{self.ssh_port}:interface=127.0.0.1",
            "store": f"redis = {redis}",
            "apns": f"host = localhost\nport = {free_port()}",
            "enroll": f"topic = {TOPIC}",
        }
        for name, text in extra.items():
            sections[name] = f"{sections.get(name, '')}\n{text}".strip()
        text = "".join(f"[{name}]\n{body}\n\n" for name, body in sections.items())
        self.config = self.state / "test.conf"
        self.config.write_text(text.replace("[mdmd]\n", f"[mdmd]\nstate = {self.state}\n"))

    def _mdmctl_init(self, more: Sequence[str]) -> None:
        subprocess.run(
            [BIN / "mdmctl", "--state", self.state, "init", "--hostname", "localhost", *more],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def start(self, wait: float = 30.0, **environment: str) -> None:
        """Start it and wait until it says that it is ready."""
        with self.log.open("ab") as log:
            seen = log.tell()
            self.process = subprocess.Popen(
                [*self.launcher, *self.command],
                stdout=log,
                stderr=log,
                cwd=self.state,
                env={**os.environ, **environment},
                pass_fds=self.inherited,
            )
        end = time.monotonic() + wait
        while b"mdmd ready" not in self.log.read_bytes()[seen:]:
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"no daemon:\n{self.log.read_text()}")
            time.sleep(0.05)

    @property
    def command(self) -> list[str]:
        """What is run."""
        return [str(BIN / "twistd"), *("-n", "--pidfile=", "mdmd", "--config", str(self.config))]

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, wait: float = 30.0) -> int:
        """Ask it to end, as systemd does; return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(wait)

    def close(self) -> None:
        """End it whatever happens and remove its state."""
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
        self._end_store()
        shutil.rmtree(self.state, ignore_errors=True)

    def _end_store(self) -> None:
        """End the store of a daemon that was killed; it would wait for the next one."""
        lock = self.state / "store" / "server.lock"
        end = time.monotonic() + 10
        while left := list(holders(lock)):
            assert time.monotonic() < end, left
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def mdmctl(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run an operator's command against it."""
        return subprocess.run(
            [BIN / "mdmctl", "--state", self.state, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def ask(self, *words: str) -> object:
        """Run a reading command with --json and return what it says."""
        done = self.mdmctl("--json", *words)
        assert done.returncode == 0, done
        return json.loads(done.stdout)

    def api(self, method: str, path: str, body: bytes = b"", key: str = "") -> tuple[int, Any]:
        """One call of the HTTP API; (status, what its JSON says)."""
        status, answer = self.api_bytes(method, path, body, key)
        return status, json.loads(answer)

    def text(self, path: str) -> str:
        """What the API says in plain text."""
        status, answer = self.api_bytes("GET", path)
        assert status == 200, answer
        return answer.decode()

    def api_bytes(
        self, method: str, path: str, body: bytes = b"", key: str = ""
    ) -> tuple[int, bytes]:
        """One call of the HTTP API; (status, body)."""
        key = key or (self.state / "api.key").read_text().strip()
        credentials = base64.b64encode(f"nanomdm:{key}".encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=20)
        try:
            connection.request(method, path, body, {"Authorization": f"Basic {credentials}"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def enqueue(
        self, udid: str, uuid: str, request_type: str = "DeviceInformation", push: bool = False
    ) -> int:
        """Queue one command; the status."""
        command = {"CommandUUID": uuid, "Command": {"RequestType": request_type}}
        path = f"/v1/enqueue/{udid}" + ("" if push else "?nopush=1")
        status, _ = self.api("PUT", path, plistlib.dumps(command))
        return status

    def authority(self) -> CertificateAuthority:
        """The device CA with its key, which the daemon has sealed."""
        sealer = Sealer((self.state / "sealing.key").read_bytes())
        key = sealer.unseal_file((self.state / "ca" / "ca.key").read_bytes(), CA_KEY)
        return CertificateAuthority.load((self.state / "ca" / "ca.pem").read_bytes(), key)

    def device(self, udid: str, **facts: str) -> "HandDevice":
        """A device with a certificate from the daemon's SCEP, not yet enrolled."""
        return HandDevice(self, udid, facts)


class HandDevice:
    """A device played through Python's own http.client and ssl."""

    def __init__(
        self, daemon: RunningDaemon, udid: str, facts: dict[str, str], by_scep: bool = True
    ) -> None:
        self.daemon = daemon
        self.udid = udid
        self.facts = facts
        self.token = os.urandom(32)
        self.folder = daemon.state / f"device-{udid}"
        self.folder.mkdir()
        self.certificate = self.folder / "device.pem"
        self.key = self.folder / "device.key"
        self._connection: http.client.HTTPSConnection | None = None
        if by_scep:
            self._get_identity()

    @classmethod
    def with_identity(cls, daemon: RunningDaemon, udid: str, certificate: Any, key: Any) -> Self:
        """A device that has its identity from elsewhere."""
        device = cls(daemon, udid, {}, by_scep=False)
        device.certificate.write_bytes(certificate_pem(certificate))
        device.key.write_bytes(key_pem(key))
        return device

    @staticmethod
    def trusting(daemon: RunningDaemon) -> ssl.SSLContext:
        """Trust the daemon's site."""
        return ssl.create_default_context(cafile=str(daemon.trust))

    def _context(self) -> ssl.SSLContext:
        return self.trusting(self.daemon)

    def _get_identity(self) -> None:
        plain = http.client.HTTPSConnection(
            "localhost", self.daemon.port, context=self._context(), timeout=20
        )
        plain.request("GET", "/scep?operation=GetCACert")
        authority = load_certificate(plain.getresponse().read())
        key = new_key("rsa")
        challenge = (self.daemon.state / "scep.challenge").read_text().strip()
        request, pending = scep_client.enrolment_request(
            authority, new_csr(key, self.udid, challenge), key
        )
        plain.request(
            "POST",
            "/scep?operation=PKIOperation",
            request,
            {"Content-Type": "application/x-pki-message"},
        )
        certificate = scep_client.read_reply(pending, plain.getresponse().read())
        plain.close()
        self.certificate.write_bytes(certificate_pem(certificate))
        self.key.write_bytes(key_pem(key))

    def put(
        self, path: str, body: bytes, content_type: str = "", keep: bool = True
    ) -> tuple[int, bytes]:
        """One request with its certificate; (status, body)."""
        if self._connection is None:
            context = self._context()
            context.load_cert_chain(self.certificate, self.key)
            self._connection = http.client.HTTPSConnection(
                "localhost", self.daemon.port, context=context, timeout=20
            )
        try:
            headers = {"Content-Type": content_type} if content_type else {}
            self._connection.request("PUT", path, body, headers)
            response = self._connection.getresponse()
            answer = response.status, response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            self._connection = None
            raise
        if not keep:
            self.hang_up()
        return answer

    def hang_up(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def check_in(self, **keys: object) -> tuple[int, bytes]:
        """Send one check-in."""
        return self.put("/checkin", plistlib.dumps({"UDID": self.udid, **keys}), CHECKIN)

    def enroll(self) -> None:
        """Authenticate and TokenUpdate."""
        status, _ = self.check_in(MessageType="Authenticate", Topic=TOPIC, **self.facts)
        assert status == 200, status
        status, _ = self.check_in(
            MessageType="TokenUpdate", Topic=TOPIC, Token=self.token, PushMagic="magic"
        )
        assert status == 200, status

    def connect(self, status: str = "Idle", uuid: str = "", **keys: object) -> tuple[int, str, str]:
        """Report; (HTTP status, next CommandUUID, its RequestType)."""
        report: dict[str, object] = {"UDID": self.udid, "Status": status, **keys}
        if uuid:
            report["CommandUUID"] = uuid
        code, body = self.put("/connect", plistlib.dumps(report))
        if code != 200 or not body:
            return code, "", ""
        command = plistlib.loads(body)
        return code, command["CommandUUID"], command["Command"]["RequestType"]


class Manager:
    """systemd's end of the socket on which a daemon says how it is."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="notify-", dir="/tmp")
        self.path = f"{self.folder}/s"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(20)

    def hear(self) -> dict[str, str]:
        """The next message."""
        lines = self._socket.recv(4096).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def hear_until(self, key: str) -> list[str]:
        """Keys of all messages until one has ``key``."""
        heard: list[str] = []
        while key not in heard:
            heard += self.hear()
        return heard

    def close(self) -> None:
        self._socket.close()
        shutil.rmtree(self.folder)


@contextlib.contextmanager
def redis_server(binary: str) -> Iterator[str]:
    """A throw-away server nobody here wrote; yields its URL."""
    with server(binary) as one:
        yield one.url
