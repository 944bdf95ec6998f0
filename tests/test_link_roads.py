"""Every way to a store, against Debian's servers: TCP, TLS, users and passwords, sentinels."""

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from mdmd.errors import StoreUnavailable
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import certificate_pem, key_pem
from mdmd.store.link import Link
from tests.storehelp import REDIS, Server, ask, free_port

SECRET = "s3cr3t/p@ss:w%rd"
ESCAPED = "s3cr3t%2Fp%40ss%3Aw%25rd"


@cache
def authority() -> CertificateAuthority:
    return CertificateAuthority.create("Store CA", kind="ec")


class RoadCase(TestCase):
    """A Debian server, and all that is logged."""

    timeout = 60
    if not REDIS:
        skip = "redis-server is not installed"

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="roads-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self.write)
        self.addCleanup(globalLogPublisher.removeObserver, self.write)

    def write(self, event: LogEvent) -> None:
        """Keep a log line as people see it."""
        self.logged.append(f"{formatEvent(event)} {event.get('log_failure', '')}")

    def server(self, *words: str) -> Server:
        """A server that is up."""
        server = Server(REDIS, *words)
        self.addCleanup(server.close)
        server.start()
        return server

    async def link(self, url: str, ca: Path | None = None, timeout: float = 5) -> Link:
        """A link that is closed with the test."""
        link = await Link.open(reactor, url, timeout=timeout, ca=ca)
        self.addCleanup(lambda: Deferred.fromCoroutine(link.close()))
        return link

    async def refusal(self, coroutine: Any) -> str:
        """The text of the StoreUnavailable it ends with."""
        ending = Deferred.fromCoroutine(coroutine)
        return str(await self.assertFailure(ending, StoreUnavailable))


class AuthTests(RoadCase):
    """Users and passwords."""

    async def test_password(self) -> None:
        """The default user's password, with characters that a URL must escape."""
        server = self.server("--requirepass", SECRET)
        await (await self.link(f"unix://:{ESCAPED}@{server.socket}")).ping()
        self.assertIn("WRONGPASS", await self.refusal(self.link(f"unix://:no@{server.socket}")))
        self.assertIn("NOAUTH", await self.refusal(self.link(server.url)))

    async def test_user_and_database(self) -> None:
        """An ACL user with no more than mdmd needs, over TCP, in a database of its own."""
        port = free_port()
        server = self.server("--port", str(port), "--bind", "127.0.0.1")
        rights = ("~mdmd:*", "&*", "+@all", "-@dangerous", "+info")
        ask(server.socket, "ACL", "SETUSER", "mdmd", "on", f">{SECRET}", *rights)
        link = await self.link(f"redis://mdmd:{ESCAPED}@localhost:{port}/3")
        await link.call("SET", "mdmd:k", "v")
        self.assertIn(b"db=3", await link.call("CLIENT", "INFO"))
        self.assertIn("NOPERM", await self.refusal(link.call("SET", "else", "v")))

    async def test_what_goes_wrong_later(self) -> None:
        """A password changed on the server ends nothing for good: changed back, all is well."""
        server = self.server("--requirepass", SECRET)
        link = await self.link(f"unix://:{ESCAPED}@{server.socket}", timeout=0.5)
        server.kill()
        server.words += ["--requirepass", "another"]
        server.start()
        while not any("WRONGPASS" in line for line in self.logged):
            await self.refusal(link.ping())
        server.kill()
        server.words += ["--requirepass", SECRET]
        server.start()
        await until(link)
        self.assertNotIn(SECRET, "".join(self.logged) + repr(link))

    async def test_secret_stays_secret(self) -> None:
        """No error and no log line of any failure has the password."""
        server = self.server("--requirepass", "another")
        said = await self.refusal(self.link(f"unix://u:{ESCAPED}@{server.socket}"))
        said += await self.refusal(self.link(f"redis://u:{ESCAPED}@127.0.0.1:{free_port()}"))
        said += await self.refusal(self.link(f"sentinel://u:{ESCAPED}@127.0.0.1:1,localhost:1/m"))
        for secret in (SECRET, ESCAPED):
            self.assertNotIn(secret, said + "".join(self.logged))


async def until(link: Link) -> None:
    """Wait until it serves; the test's time-out is the limit."""
    while True:
        try:
            await link.call("SET", "back", 1)
            return
        except StoreUnavailable:
            await deferLater(reactor, 0.02)


class TLSTests(RoadCase):
    """rediss://: the server is verified."""

    def setUp(self) -> None:
        super().setUp()
        certificate, key = authority().issue_server(["localhost"], days=10)
        (self.folder / "server.pem").write_bytes(certificate_pem(certificate))
        (self.folder / "server.key").write_bytes(key_pem(key))
        self.ca = self.folder / "ca.pem"
        self.ca.write_bytes(certificate_pem(authority().certificate))
        self.port = free_port()
        words = {
            "--tls-port": str(self.port),
            "--bind": "127.0.0.1",
            "--tls-cert-file": str(self.folder / "server.pem"),
            "--tls-key-file": str(self.folder / "server.key"),
            "--tls-ca-cert-file": str(self.ca),
            "--tls-auth-clients": "no",
        }
        self.store = self.server(*(part for pair in words.items() for part in pair))

    async def test_verified(self) -> None:
        """A certificate of the given CA for this name."""
        link = await self.link(f"rediss://localhost:{self.port}", self.ca)
        self.assertEqual(await link.call("ECHO", "x" * 100_000), b"x" * 100_000)

    async def test_another_name(self) -> None:
        """The same certificate under another name is refused."""
        said = await self.refusal(self.link(f"rediss://127.0.0.1:{self.port}", self.ca))
        self.assertIn("for another name", said)

    async def test_another_ca(self) -> None:
        """A certificate that the given CA, or the system, does not vouch for is refused."""
        other = self.folder / "other.pem"
        other.write_bytes(
            certificate_pem(CertificateAuthority.create("Other", kind="ec").certificate)
        )
        for ca in (other, None):
            said = await self.refusal(self.link(f"rediss://localhost:{self.port}", ca))
            self.assertIn("not trusted", said)

    async def test_no_tls_there(self) -> None:
        """TLS towards a plain server fails with words, not with a plain connection."""
        port = free_port()
        self.server("--port", str(port), "--bind", "127.0.0.1")
        await self.refusal(self.link(f"rediss://localhost:{port}", self.ca, timeout=2))

    async def test_unreadable_ca(self) -> None:
        """A CA file that is missing or holds no certificate is named."""
        for path in (self.folder / "none.pem", self.folder / "server.key"):
            said = await self.refusal(self.link(f"rediss://localhost:{self.port}", path))
            self.assertIn(str(path), said)


class SentinelTests(RoadCase):
    """sentinel://: the master, wherever it is."""

    def setUp(self) -> None:
        super().setUp()
        self.ports = [free_port(), free_port()]
        words = ("--bind", "127.0.0.1", "--requirepass", SECRET, "--masterauth", SECRET)
        self.master = self.server(*words, "--port", str(self.ports[0]))
        of = ("--replicaof", "127.0.0.1", str(self.ports[0]))
        self.replica = self.server(*words, "--port", str(self.ports[1]), *of)

    def sentinel(self, *lines: str) -> int:
        """Start a sentinel that watches the master; its port."""
        port = free_port()
        conf = self.folder / f"sentinel-{port}.conf"
        master = (
            f"sentinel monitor main 127.0.0.1 {self.ports[0]} 1",
            f'sentinel auth-pass main "{SECRET}"',
            "sentinel down-after-milliseconds main 300",
            "sentinel failover-timeout main 3000",
        )
        own = (f"port {port}", "bind 127.0.0.1", f"dir {self.folder}")
        conf.write_text("\n".join((*own, *lines, *master)) + "\n")
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen([REDIS, conf, "--sentinel"], stdout=log, stderr=log)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return port

    async def opened(self, url: str) -> Link:
        """A link as soon as the sentinels know."""
        while True:
            try:
                return await self.link(url, timeout=2)
            except StoreUnavailable:
                await deferLater(reactor, 0.05)

    async def test_fail_over(self) -> None:
        """When the master dies the link goes to the new one; a dead sentinel does not matter."""
        port = self.sentinel()
        url = f"sentinel://:{ESCAPED}@127.0.0.1:1,127.0.0.1:{port}/main"
        link = await self.opened(url)
        while True:  # the replica must have all before the master dies
            await link.call("SET", "k", "v")
            if await link.call("WAIT", 1, 500) and await self.known(port):
                break
        self.master.kill()
        await until(link)
        self.assertEqual(await link.call("GET", "k"), b"v")
        self.assertIn(f"tcp_port:{self.ports[1]}".encode(), await link.call("INFO", "server"))
        self.assertNotIn(SECRET, "".join(self.logged))

    async def known(self, port: int) -> bool:
        """Say whether the sentinel has found the replica."""
        from mdmd.store.address import Address
        from mdmd.store.dial import reach

        wire = await reach(reactor, Address("tcp", (("127.0.0.1", port),)), 5)
        (found,) = await wire.ask(("SENTINEL", "replicas", "main"))
        wire.transport.loseConnection()
        return bool(found) and b"slave" in found[0]

    async def test_a_sentinel_with_the_password(self) -> None:
        """A sentinel may want the same password."""
        port = self.sentinel(f'requirepass "{SECRET}"')
        link = await self.opened(f"sentinel://:{ESCAPED}@127.0.0.1:{port}/main")
        await link.ping()

    async def test_unknown_name(self) -> None:
        """A name that the sentinels do not know is in the refusal."""
        port = self.sentinel()
        await self.opened(f"sentinel://:{ESCAPED}@127.0.0.1:{port}/main")
        said = await self.refusal(self.link(f"sentinel://:{ESCAPED}@127.0.0.1:{port}/other"))
        self.assertIn("no master named other", said)
