"""A snapshot of one server fills another, whatever the kinds of the two."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from mdmd.doctor.redis import Client
from mdmd.doctor.refill import clear, has_data, refill, server_of
from mdmd.doctor.replica import take_snapshot
from mdmd.errors import StoreUnavailable
from mdmd.store.address import Address
from tests.storehelp import REDIS, VALKEY, Server
from tests.test_moving_whole import WholeCase


class RefillTests(WholeCase):
    """From Valkey to Redis."""

    binary = VALKEY
    target_binary = REDIS or VALKEY

    async def setUp(self) -> None:
        await super().setUp()
        self.folder = Path(tempfile.mkdtemp(dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder)
        other = Server(self.target_binary)
        other.start()
        self.addCleanup(other.close)
        self.source = Client(Address("unix", path=str(self.server.socket)))
        self.target = Client(Address("unix", path=str(other.socket)))
        self.addCleanup(self.source.close)
        self.addCleanup(self.target.close)

    def snapshot(self) -> Path:
        """What the server has, in a file."""
        path = self.folder / "x.rdb"
        with path.open("wb") as out:
            size = take_snapshot(Address("unix", path=str(self.server.socket)), None, out)
        self.assertEqual(path.stat().st_size, size)
        return path

    def content(self, client: Client) -> dict[bytes, Any]:
        """All that a server has, key by key."""
        reads: dict[bytes, tuple[str, tuple[object, ...]]] = {
            b"string": ("GET", ()),
            b"hash": ("HGETALL", ()),
            b"set": ("SMEMBERS", ()),
            b"list": ("LRANGE", (0, -1)),
            b"zset": ("ZRANGE", (0, -1, "WITHSCORES")),
            b"stream": ("XRANGE", ("-", "+")),
        }
        found: dict[bytes, Any] = {}
        for name in client.ask("KEYS", "*"):
            kind = client.ask("TYPE", name)
            read, more = reads[kind]
            value = client.ask(read, name, *more)
            if kind in (b"hash", b"set"):
                step = 2 if kind == b"hash" else 1
                value = sorted(tuple(value[at : at + step]) for at in range(0, len(value), step))
            found[name] = (kind, value, self.streams(client, name) if kind == b"stream" else ())
        return found

    def streams(self, client: Client, name: bytes) -> list[Any]:
        """What a stream has besides its entries."""
        about = client.ask("XINFO", "STREAM", name)
        told = dict(zip(about[::2], about[1::2], strict=True))
        groups = client.ask("XINFO", "GROUPS", name)
        pending = [client.ask("XPENDING", name, each[1], "-", "+", 1000) for each in groups]
        ids = [[(at, who, times) for at, who, _, times in each] for each in pending]
        return [told[b"last-generated-id"], told.get(b"entries-added"), groups, ids]

    async def test_the_same(self) -> None:
        """Every key of every kind, with its end; nothing of anybody else's."""
        await self.fill()
        await self.store.deliveries.more("hook", 5)  # unsettled
        expected = self.content(self.source)
        await self.link.call("SET", "other", "of somebody else")
        for n in range(3000):
            await self.link.call("ZADD", "mdmd:large", n, f"m{n}")
        expected[b"mdmd:large"] = self.content(self.source)[b"mdmd:large"]
        self.assertFalse(has_data(self.target))
        with server_of(self.snapshot(), Path(self.binary)) as reached:
            assert not isinstance(reached, str), reached
            count = refill(Client(reached), self.target)
        self.assertEqual(count, len(expected))
        self.assertEqual(self.content(self.target), expected)
        for name in expected:
            lives = [each.ask("PTTL", name) for each in (self.source, self.target)]
            self.assertLess(abs(lives[0] - lives[1]), 60_000, name)
        self.assertTrue(has_data(self.target))
        clear(self.target)
        self.assertEqual(self.target.ask("DBSIZE"), 0)

    async def test_streams_without_entries(self) -> None:
        """Its last id and its groups stay: no later event gets an earlier id."""
        await self.fill()
        await self.link.call("XTRIM", "mdmd:events", "MAXLEN", 0)
        expected = self.content(self.source)[b"mdmd:events"]
        with server_of(self.snapshot(), Path(self.binary)) as reached:
            assert not isinstance(reached, str), reached
            refill(Client(reached), self.target)
        found = self.content(self.target)[b"mdmd:events"]
        self.assertEqual(found[2][:2], expected[2][:2])
        self.assertEqual([each[1] for each in found[2][2]], [each[1] for each in expected[2][2]])

    async def test_what_is_no_snapshot(self) -> None:
        """The server says why it can't read it."""
        path = self.folder / "x.rdb"
        path.write_bytes(b"REDIS0099 nonsense")
        with server_of(path, Path(self.binary)) as reached:
            self.assertIsInstance(reached, str)
            self.assertIn("can't read the snapshot", str(reached))

    async def test_not_allowed(self) -> None:
        """A user who may not replicate gets one line that says what is missing."""
        rules = ("on", ">secret", "~*", "&*", "+@all", "-sync", "-psync", "-replconf")
        await self.link.call("ACL", "SETUSER", "mdmd", *rules)
        user = Address("unix", path=str(self.server.socket), user="mdmd", password="secret")
        for allowed in ((), ("+replconf",)):
            if allowed:
                await self.link.call("ACL", "SETUSER", "mdmd", *allowed)
            path, pattern = self.folder / "y.rdb", r"NOPERM.*\+replconf and \+sync"
            with (
                path.open("wb") as out,
                self.assertRaisesRegex(StoreUnavailable, pattern) as caught,
            ):
                take_snapshot(user, None, out)
            self.assertNotIn("secret", str(caught.exception))
        await self.link.call("ACL", "SETUSER", "mdmd", "+sync")
        with (self.folder / "y.rdb").open("wb") as out:
            self.assertGreater(take_snapshot(user, None, out), 50)


class FromRedisTests(RefillTests):
    """From Redis to Valkey."""

    binary = REDIS
    target_binary = VALKEY
