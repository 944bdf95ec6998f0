"""The link to the store, against real servers."""

import contextlib
import os
import signal
import socket
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mdmd.config.kinds import REDIS as REDIS_KIND
from mdmd.errors import BadRequest, StoreUnavailable
from mdmd.store import link as link_module
from mdmd.store.address import read_address
from mdmd.store.link import PARKED_LIMIT, UNAVAILABLE, Link, ScriptError
from mdmd.store.wire import check_info
from tests.storehelp import REDIS, VALKEY, Server, ask, free_port

GOOD = [
    *("redis://localhost", "redis://h:7000/3", "redis://:secret@h", "redis://u:secret@h"),
    *("rediss://h", "rediss://u:secret@[::1]:7/1"),
    *("unix:///run/s", "unix:///run/s?db=2", "unix://u:secret@/run/s", "unix://:secret@/s?db=0"),
    *("sentinel://a,b:1/main", "sentinel://:secret@a/main/2", "sentinel://u:secret@a,[::1]:5/main"),
]
BAD = [
    *("embedded?", "http://h", "redis://", "redis://h:0", "redis://h/x", "redis://h?db=1"),
    *("redis://u@h", "redis://@h", "redis://u:@h", "redis://h#x", "unix://h/x", "unix://"),
    *("unix:///s?x=1", "unix:///s?db=x", "unix:///s?db=1&db=1", "unix://u@/s"),
    *("sentinel://a", "sentinel:///main", "sentinel://a,/main", "sentinel://a/main?x"),
    *("sentinel://a/main/x", "sentinel://a:0/main", "sentinel://u@a/main"),
]


class AddressTests(SynchronousTestCase):
    """URLs of stores."""

    def test_the_link_and_the_configuration_agree(self) -> None:
        """What the configuration takes the link can read, and the other way round."""
        for url in GOOD:
            REDIS_KIND.read(url, Path("/s"))
            read_address(url)
        taken = []
        for url in BAD:
            with contextlib.suppress(ValueError):
                taken.append(("configuration", REDIS_KIND.read(url, Path("/s"))))
            with contextlib.suppress(BadRequest):
                taken.append(("link", str(read_address(url))))
        self.assertEqual(taken, [])

    def test_passwords_are_never_shown(self) -> None:
        """Neither str nor repr of an address, nor a refusal, has the password."""
        for url in GOOD:
            address = read_address(url)
            self.assertNotIn("secret", f"{address} {address!r}")
            if "secret" in url:
                self.assertEqual(address.password, "secret")
        refusal = self.assertRaises(BadRequest, read_address, "redis://u:secret@h:x")
        self.assertNotIn("secret", str(refusal))

    def test_escapes(self) -> None:
        """A password may hold any character, percent-escaped."""
        self.assertEqual(read_address("redis://u:a%40%3A%2F%25@h").password, "a@:/%")


class LinkCase(TestCase):
    """A server of its own for each test, on a unix socket."""

    timeout = 20
    binary = ""
    words: tuple[str, ...] = ()

    def setUp(self) -> None:
        # "always": else a write that waits for an fsync may not outlive a kill.
        self.server = Server(self.binary or VALKEY, "--appendfsync", "always", *self.words)
        self.addCleanup(self.server.close)
        self.server.start()
        self.scripts = Path(tempfile.mkdtemp())
        patcher = patch.object(link_module, "SCRIPTS", self.scripts)
        patcher.start()
        self.addCleanup(patcher.stop)
        link_module.script_named.cache_clear()
        self.addCleanup(link_module.script_named.cache_clear)

    def write(self, name: str, source: str) -> None:
        """Put a script where the link looks for them."""
        (self.scripts / f"{name}.lua").write_text(source)

    def later(self, coroutine: Any) -> "Deferred[Any]":
        """Run it beside the test."""
        return Deferred.fromCoroutine(coroutine)

    async def refusal(self, coroutine: Any) -> str:
        """The text of the StoreUnavailable it ends with."""
        return str(await self.assertFailure(self.later(coroutine), StoreUnavailable))

    async def back(self, link: Link) -> None:
        """Wait until it serves again."""
        for _ in range(400):
            try:
                await link.call("SET", "back", 1)
                return
            except StoreUnavailable:
                await deferLater(reactor, 0.05)
        self.fail("it does not come back")

    async def link(self, url: str = "", timeout: float = 5.0, ca: Path | None = None) -> Link:
        """A link to the server that is closed at the end of the test."""
        link = await Link.open(reactor, url or self.server.url, timeout=timeout, ca=ca)
        self.addCleanup(lambda: Deferred.fromCoroutine(link.close()))
        return link


class CloseTests(LinkCase):
    """The daemon ends while the store is away."""

    words = ("--port", str(free_port()), "--bind", "127.0.0.1")

    async def test_while_it_connects(self) -> None:
        """Closing ends at once, even in the middle of an attempt that gets no answer."""
        place = ("127.0.0.1", int(self.words[1]))
        link = await self.link(f"redis://{place[0]}:{place[1]}")
        self.server.kill()
        # A queue that is full: whoever connects now waits.
        with socket.create_server(place, backlog=0), contextlib.ExitStack() as others:
            for _ in range(2):
                other = others.enter_context(socket.socket())
                other.setblocking(False)
                other.connect_ex(place)
            waiting = connecting(place[1])
            while connecting(place[1]) <= waiting:
                await deferLater(reactor, 0.02)
            await self.later(link.close()).addTimeout(2, reactor)
        self.assertFalse(link.connected)


class HangingTests(LinkCase):
    """The daemon ends while the store takes nothing."""

    async def test_while_it_hangs(self) -> None:
        """Closing ends at once, whatever could not be written yet, and what waits fails."""
        link = await self.link()
        assert self.server.process is not None
        self.server.process.send_signal(signal.SIGSTOP)
        self.addCleanup(self.server.process.send_signal, signal.SIGCONT)
        waiting = self.later(self.refusal(link.call("SET", "k", b"x" * (16 << 20))))
        await deferLater(reactor, 0)
        await self.later(link.close()).addTimeout(2, reactor)
        self.assertIn("closed", await waiting)


def connecting(port: int) -> int:
    """Count this process' attempts to connect to a port that have no answer yet."""
    wanted, found = f":{port:04X}", 0
    own = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if live(fd)}
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[2].endswith(wanted) and fields[3] == "02" and f"socket:[{fields[9]}]" in own:
            found += 1  # 02 is SYN-SENT
    return found


def live(fd: str) -> bool:
    """Say whether it is still open; listing them opens one for a moment."""
    return os.path.lexists(f"/proc/self/fd/{fd}")


class ScriptTests(LinkCase):
    """Scripts by their hash."""

    async def test_round_trip(self) -> None:
        """Keys and arguments arrive as bytes, the answer comes as bytes, numbers stay as sent."""
        self.write("echo", "return {KEYS[1], ARGV[1], ARGV[2], ARGV[3], #ARGV, false}")
        link = await self.link()
        answer = await link.script("echo", [b"k\x00\xff"], ["00123", b"\r\n\x80", -7])
        self.assertEqual(answer, [b"k\x00\xff", b"00123", b"\r\n\x80", b"-7", 3, None])

    async def test_forgotten_scripts_are_sent_again(self) -> None:
        """After SCRIPT FLUSH, and after a restart, a script runs as before."""
        self.write("incr", "return redis.call('INCR', KEYS[1])")
        link = await self.link()
        self.assertEqual(await link.script("incr", [b"n"]), 1)
        await link.call("SCRIPT", "FLUSH")
        self.assertEqual(await link.script("incr", [b"n"]), 2)
        self.server.kill()
        self.server.start()
        with self.assertRaises(StoreUnavailable):  # the kill is noticed with the next write
            await link.script("incr", [b"n"])
        self.assertFalse(link.connected)
        self.assertEqual(await link.script("incr", [b"n"]), 3)

    async def test_errors_of_scripts(self) -> None:
        """error_reply("CODE text") comes as ScriptError with code and text; so does a Lua error."""
        self.write("no", "return redis.error_reply('PIN another device: x:y')")
        self.write("bad", "return nothing.at.all")
        link = await self.link()
        error = await self.assertFailure(self.later(link.script("no", [])), ScriptError)
        self.assertEqual((error.code, error.text), ("PIN", "another device: x:y"))
        error = await self.assertFailure(self.later(link.script("bad", [])), ScriptError)
        self.assertEqual(error.code, "ERR")
        await link.ping()

    async def test_order_of_many_at_once(self) -> None:
        """A thousand commands given in one turn are applied and answered in order."""
        link = await self.link()
        answers = [self.later(link.call("RPUSH", "l", n)) for n in range(1000)]
        self.assertEqual(await gatherResults(answers), list(range(1, 1001)))
        self.assertEqual(await link.call("LINDEX", "l", 500), b"500")

    async def test_no_server(self) -> None:
        """Opening where nothing listens fails at once with the place in the text."""
        self.server.kill()
        self.assertIn(str(self.server.socket), await self.refusal(self.link()))


class DebianScriptTests(ScriptTests):
    """The same against Debian's redis-server."""

    binary = REDIS
    if not REDIS:
        skip = "redis-server is not installed"


class OutageTests(LinkCase):
    """What a daemon sees while its store is away, slow or unwilling."""

    async def test_a_server_that_hangs(self) -> None:
        """Each command ends within its time, those given meanwhile too; then all is as before."""
        link = await self.link(timeout=0.4)
        self.stop()
        began = reactor.seconds()
        answers = [self.later(self.refusal(link.call("PING"))) for _ in range(50)]
        await gatherResults(answers)
        self.assertLess(reactor.seconds() - began, 0.8)
        began = reactor.seconds()
        await self.refusal(link.call("PING"))
        self.assertLess(reactor.seconds() - began, 0.8)
        self.proceed()
        await self.back(link)

    def stop(self) -> None:
        """Make the server hang."""
        assert self.server.process is not None
        self.server.process.send_signal(signal.SIGSTOP)

    def proceed(self) -> None:
        """Let it go on."""
        assert self.server.process is not None
        self.server.process.send_signal(signal.SIGCONT)

    async def test_killed_with_commands_in_flight(self) -> None:
        """kill -9 with a hundred in flight: each fails or was done, none hangs, none is lost."""
        link = await self.link(timeout=2)
        self.stop()
        answers = [self.later(link.call("RPUSH", "l", n)) for n in range(100)]
        await deferLater(reactor, 0.01)  # they have left
        self.server.kill()
        outcomes = await DeferredList(answers, consumeErrors=True)
        self.assertTrue(all(o.check(StoreUnavailable) for done, o in outcomes if not done))
        self.server.start()
        await self.back(link)
        stored = [int(n) for n in await link.call("LRANGE", "l", 0, -1)]
        self.assertLessEqual({n for n, (done, _) in enumerate(outcomes) if done}, set(stored))

    async def test_commands_wait_for_a_short_outage(self) -> None:
        """A restart that is shorter than the time of a command costs nobody an error."""
        link = await self.link()
        self.server.kill()
        await self.refusal(link.ping())  # notices
        answers = [self.later(link.call("RPUSH", "l", n)) for n in range(100)]
        self.server.start()
        self.assertEqual(await gatherResults(answers), list(range(1, 101)))

    async def test_a_long_outage_fails_fast(self) -> None:
        """Once it is gone for longer than a command waits, commands fail at once."""
        link = await self.link(timeout=1)
        self.server.kill()
        while "refused" not in await self.refusal(link.ping()):
            pass  # it notices, and tries to connect; each waits its second
        began = reactor.seconds()
        await self.refusal(link.ping())
        self.assertLess(reactor.seconds() - began, 0.5)
        self.assertFalse(link.connected)
        self.server.start()
        await self.back(link)

    async def test_a_sender_that_goes(self) -> None:
        """A cancelled command does not shift the answers of the others, sent or waiting."""
        link = await self.link()
        one, two = self.later(link.call("INCR", "n")), self.later(link.call("INCR", "n"))
        one.cancel()
        await self.assertFailure(one, CancelledError)
        self.assertEqual(await two, 2)
        self.server.kill()
        await self.refusal(link.ping())
        one, two = self.later(link.call("INCR", "m")), self.later(link.call("INCR", "m"))
        one.cancel()
        await self.assertFailure(one, CancelledError)
        self.server.start()
        self.assertEqual(await two, 1)

    async def test_waiting_commands_are_bounded(self) -> None:
        """A flood of commands while the store is away does not fill the memory."""
        link = await self.link(timeout=1)
        self.server.kill()
        await self.refusal(link.ping())
        answers = [self.later(self.refusal(link.call("GET", "k"))) for _ in range(PARKED_LIMIT + 9)]
        self.assertEqual(sum(answer.called for answer in answers), 9)
        await gatherResults(answers)

    async def test_unwilling(self) -> None:
        """What only says that the server can't serve now is StoreUnavailable, with one log line."""
        self.write("no", "return redis.error_reply(ARGV[1] .. ' says the server')")
        link = await self.link()
        for code in sorted(UNAVAILABLE):
            lines = self.log_lines()
            for _ in range(3):
                self.assertIn(code, await self.refusal(link.script("no", [], [code])))
            self.assertEqual(sum(f"/s refuses to work: {code}" in line for line in lines), 1)

    def log_lines(self) -> list[str]:
        """What is logged from now on, as people see it."""
        lines: list[str] = []

        def write(event: LogEvent) -> None:
            lines.append(formatEvent(event))

        globalLogPublisher.addObserver(write)
        self.addCleanup(globalLogPublisher.removeObserver, write)
        return lines

    async def test_out_of_memory(self) -> None:
        """A full store refuses writes, and takes them again when there is room."""
        link = await self.link()
        ask(self.server.socket, "CONFIG", "SET", "maxmemory", "1")
        self.assertIn("OOM", await self.refusal(link.call("SET", "k", "v")))
        ask(self.server.socket, "CONFIG", "SET", "maxmemory", "0")
        await link.call("SET", "k", "v")

    async def test_out_of_memory_in_a_script(self) -> None:
        """So it is when a script meets it, caught there or not, by whichever server."""
        self.write("set", "return redis.call('SET', KEYS[1], 'v')")
        caught = "local ok, why = pcall(redis.call, 'SET', KEYS[1], 'v') if not ok then error("
        self.write("again", caught + "type(why) == 'table' and why.err or why, 0) end return 1")
        older = "Error running script (call to f_e0e1): @user_script:3: @user_script: 3: -OOM of"
        self.write("older", f"return redis.error_reply('ERR {older} 6.2')")
        link = await self.link()
        ask(self.server.socket, "CONFIG", "SET", "maxmemory", "1")
        for name in ("set", "again", "older"):
            self.assertIn("OOM", await self.refusal(link.script(name, ["k"])))
        ask(self.server.socket, "CONFIG", "SET", "maxmemory", "0")
        self.assertEqual(await link.script("again", ["k"]), 1)

    async def test_demoted(self) -> None:
        """A server that became a replica is left, and used again when it is a master."""
        link = await self.link(timeout=0.5)
        ask(self.server.socket, "REPLICAOF", "127.0.0.1", "1")
        self.assertIn("READONLY", await self.refusal(link.call("SET", "k", "v")))
        self.assertRegex(await self.refusal(link.ping()), "replica|READONLY")
        self.assertIn("replica", await self.refusal(self.link()))
        ask(self.server.socket, "REPLICAOF", "NO", "ONE")
        await self.back(link)

    async def test_loading(self) -> None:
        """A server that still reads its data is refused at first, and used once it has."""
        link = await self.link(timeout=1)
        await gatherResults([self.later(link.call("SET", n, "x" * 5000)) for n in range(40)])
        await link.call("BGREWRITEAOF")
        while b"aof_rewrite_in_progress:1" in await link.call("INFO", "persistence"):
            pass
        self.server.kill()
        slow = ("--loading-process-events-interval-bytes", "1024", "--key-load-delay", "20000")
        self.server.words += slow
        self.server.start()
        self.assertIn("loading", await self.refusal(self.link()))
        await self.back(link)
        self.assertEqual(await link.call("DBSIZE"), 41)

    async def test_closed(self) -> None:
        """After close nothing is sent, what waits fails, and no timer is left."""
        link = await self.link()
        self.server.kill()
        await self.refusal(link.ping())
        waiting = self.later(self.refusal(link.ping()))
        await link.close()
        self.assertIn("closed", await waiting)
        self.assertIn("closed", await self.refusal(link.ping()))
        await link.close()

    async def test_evicting_server(self) -> None:
        """A server that would throw data away is refused with what to change."""
        ask(self.server.socket, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        self.assertIn("noeviction", await self.refusal(self.link()))

    def test_info(self) -> None:
        """Too old, part of a cluster: refused with what it is."""
        for info, word in (
            (b"redis_version:6.0.16\r\n", "6.0.16"),
            (b"redis_version:6.2.1\r\nredis_mode:cluster\r\n", "cluster"),
            (b"", "0.0"),
        ):
            self.assertIn(word, str(self.assertRaises(StoreUnavailable, check_info, info)))
        check_info(b"redis_version:6.2.0\r\n")
        check_info(b"redis_version:10.0\r\nmaxmemory_policy:noeviction\r\n")

    async def test_blocking_commands(self) -> None:
        """A connection of its own may block; the first one serves on."""
        link = await self.link()
        other = await link.another()
        self.addCleanup(lambda: self.later(other.close()))
        waiting = self.later(other.call("XREAD", "BLOCK", 0, "STREAMS", "s", "$", timeout=9))
        await link.ping()
        self.assertFalse(waiting.called)
        while b"blocked_clients:1" not in await link.call("INFO", "clients"):
            pass
        await link.call("XADD", "s", "1-1", "k", "v")
        self.assertEqual(await waiting, [[b"s", [[b"1-1", [b"k", b"v"]]]]])


class PeerTests(LinkCase):
    """What is no store at all."""

    async def test_silence(self) -> None:
        """Something that accepts and says nothing is given up in time."""
        port = self.listen(lambda protocol: None)
        self.assertIn("no answer in time", await self.refusal(self.link(port, timeout=0.3)))

    async def test_another_protocol(self) -> None:
        """Something that speaks another protocol is named as that."""
        port = self.listen(lambda protocol: protocol.transport.write(b"HTTP/1.1 400 no\r\n\r\n"))
        self.assertIn("does not speak", await self.refusal(self.link(port, timeout=2)))

    def listen(self, greet: Any) -> str:
        """A listener that greets each connection so; its URL."""

        class Greeting(Protocol):
            def connectionMade(self) -> None:
                greet(self)

        port = reactor.listenTCP(0, Factory.forProtocol(Greeting), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return f"redis://127.0.0.1:{port.getHost().port}"
