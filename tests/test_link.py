"""The link to the store, against real servers."""

import contextlib
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mdmd.config.kinds import REDIS as REDIS_KIND
from mdmd.errors import BadRequest, StoreUnavailable
from mdmd.store import link as link_module
from mdmd.store.address import read_address
from mdmd.store.link import Link, ScriptError
from tests.storehelp import REDIS, Server

GOOD = [
    *("redis://localhost", "redis://h:7000/3", "redis://:secret@h", "redis://u:secret@h"),
    *("rediss://h", "rediss://u:secret@[::1]:7/1"),
    *("unix:///run/s", "unix:///run/s?db=2", "unix://u:secret@/run/s", "unix://:secret@/s?db=0"),
    *("sentinel://a,b:1/main", "sentinel://:secret@a/main/2", "sentinel://u:secret@a,[::1]:5/main"),
]
BAD = [
    *("embedded?", "http://h", "redis://", "redis://h:0", "redis://h/x", "redis://h?db=1"),
    *("redis://u@h", "redis://@h", "redis://u:@h", "redis://h#x", "unix://h/x", "unix://"),
    *("unix:///s?x=1", "unix:///s?db=x", "unix://u@/s"),
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
        self.server = Server(*([self.binary] if self.binary else []), *self.words)
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

    async def link(self, url: str = "", timeout: float = 5.0, ca: Path | None = None) -> Link:
        """A link to the server that is closed at the end of the test."""
        link = await Link.open(reactor, url or self.server.url, timeout=timeout, ca=ca)
        self.addCleanup(lambda: Deferred.fromCoroutine(link.close()))
        return link


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

    def later(self, coroutine: Any) -> "Deferred[Any]":
        """Run it beside the test."""
        return Deferred.fromCoroutine(coroutine)

    async def test_order_of_many_at_once(self) -> None:
        """A thousand commands given in one turn are applied and answered in order."""
        link = await self.link()
        answers = [self.later(link.call("RPUSH", "l", n)) for n in range(1000)]
        self.assertEqual(await gatherResults(answers), list(range(1, 1001)))
        self.assertEqual(await link.call("LINDEX", "l", 500), b"500")

    async def test_no_server(self) -> None:
        """Opening where nothing listens fails at once with the place in the text."""
        self.server.kill()
        error = await self.assertFailure(self.later(self.link()), StoreUnavailable)
        self.assertIn(str(self.server.socket), str(error))


class DebianScriptTests(ScriptTests):
    """The same against Debian's redis-server."""

    binary = REDIS
    if not REDIS:
        skip = "redis-server is not installed"
