"""``mdmctl fsck`` calls a store sound that is, and finds each thing that is not."""

import json
import subprocess
import time
from collections.abc import Callable
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from mdmd.doctor.fsck import Checked, check
from mdmd.doctor.kinds import kind_of, wrong_kinds
from mdmd.doctor.redis import Client
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.pki.sealing import Sealer
from mdmd.store import keys
from mdmd.store.address import Address
from tests.daemonhelp import RunningDaemon

UDID = "0A1B2C3D-1111-5AC1-BDB2-000000000001"
ONE = EnrollmentID(UDID)
UUID = "9F09D114-BCFD-42AD-A974-371AA7D6256E"


class FsckTests(SynchronousTestCase):
    """A daemon that has done a bit of everything; each test breaks one thing and mends it."""

    daemon: ClassVar[RunningDaemon]
    client: ClassVar[Client]
    sealer: ClassVar[Sealer]

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = RunningDaemon()
        cls.daemon.start()
        device = cls.daemon.device(UDID, SerialNumber="C02ONE")
        device.enroll()
        device.check_in(
            MessageType="TokenUpdate",
            Topic="com.apple.mgmt.External.7faed215-0000-4618-a210-000000000000",
            Token=b"channel",
            PushMagic="magic",
            UserID="A-USER",
            UserShortName="sam",
        )
        for uuid in ("FIRST", UUID, "THIRD"):
            assert cls.daemon.enqueue(UDID, uuid) == 200
        device.connect()
        device.connect("Acknowledged", "FIRST")
        device.connect("NotNow", UUID)
        path = str(cls.daemon.state / "store" / "store.sock")
        cls.client = Client(Address("unix", path=path))
        cls.sealer = Sealer((cls.daemon.state / "sealing.key").read_bytes())

    @classmethod
    def tearDownClass(cls) -> None:
        cls.client.close()
        cls.daemon.close()

    def check(self) -> Checked:
        """Check at a moment when nothing changes: pushes go on by themselves."""
        for _ in range(50):
            found = check(self.client, sealer=self.sealer)
            if not any(each.subject == "sums" for each in found.findings):
                return found
        raise AssertionError("the store never came to rest")

    def found(self) -> list[str]:
        return [f"{each.subject}: {each.text}" for each in self.check().broken]

    def broken(self, expected: str, *words: object, mend: Callable[[], object]) -> None:
        """After one command to the store, exactly one line says so; mended, none does."""
        try:
            self.client.ask(*words)
            found = self.found()
        finally:
            mend()
        self.assertTrue(any(expected in each for each in found), found)
        self.assertEqual(self.found(), [])

    def damaged(self, key: bytes, expected: str, *commands: tuple[object, ...]) -> None:
        """The same, where what there was has to be put back whole."""
        whole = self.client.ask("DUMP", key)
        try:
            for words in commands:
                self.client.ask(*words)
            done = self.at_rest("fsck")
        finally:
            self.client.ask("UNLINK", key)
            if whole:
                self.client.ask("RESTORE", key, 0, whole)
        self.assertEqual((done.returncode, done.stderr), (1, ""), f"{expected}\n{done.stderr}")
        self.assertIn(f"failed  {expected}", done.stdout)
        self.assertEqual(self.found(), [])

    def test_wrong_types(self) -> None:
        """What can't be read at all is named, each key of it, instead of ending the check."""
        found = (keys.record(ONE), keys.queue(ONE), keys.results(ONE), keys.facts(ONE))
        for key in (*found, keys.IDS, keys.EVENTS, keys.TOPICS, keys.command("THIRD")):
            name = "mdmd:command:THIRD" if key.endswith(b"THIRD") else key.decode()
            words = ("UNLINK", key), ("SET", key, "x")
            self.damaged(key, f"{name}  is a string, and has to be a ", *words)

    def test_every_kind_is_known(self) -> None:
        """Of the keys that a daemon makes for devices each has a type that it has to have."""
        made = self.client.ask("KEYS", "mdmd:{*")
        self.assertGreater(len(made), 8)
        self.assertEqual([key for key in made if kind_of(key) is None], [])
        self.assertEqual(list(wrong_kinds(self.client)), [])

    def test_no_numbers(self) -> None:
        """Where a number has to be, and something else is."""
        body = keys.command(UUID)
        self.damaged(body, f"{UUID}  is queued 1 times, and counted", ("HSET", body, "refs", "x"))
        self.damaged(keys.SEQUENCE, "mdmd:sequence  is no number", ("SET", keys.SEQUENCE, "x"))
        self.damaged(keys.TOPICS, "odd  0 enrollments", ("HSET", keys.TOPICS, "odd", "x"))
        record = keys.record(ONE)
        for field, name in (("tally", "tally"), ("generation", "generation"), ("enabled", "state")):
            self.damaged(record, f"{UDID}  its {name} is no number", ("HSET", record, field, "x"))

    def test_names_that_are_none(self) -> None:
        """Ids and work that can't be anybody's."""
        self.damaged(keys.IDS, "a{b}  is in mdmd:ids", ("ZADD", keys.IDS, 0, "a{b}"))
        shard = keys.WORK[0]
        self.damaged(shard, "\N{REPLACEMENT CHARACTER}", ("ZADD", shard, 1, b"\xff"))

    def test_pins(self) -> None:
        """A device's certificate that is pinned to nobody, or to another: it would be refused."""
        pin = keys.pin(self.client.ask("HGET", keys.record(ONE), "pin").decode())
        self.damaged(pin, f"{UDID}  its certificate is pinned to nobody", ("UNLINK", pin))
        other = f"{UDID}:A-USER"
        self.damaged(pin, f"{UDID}  its certificate is pinned to {other}", ("SET", pin, other))

    def test_channels(self) -> None:
        """One that a device has, and nobody else knows."""
        channels = keys.channels(ONE)
        self.damaged(channels, f"{UDID}  has a channel GHOST", ("HSET", channels, "GHOST", "User"))

    def test_sealed(self) -> None:
        """Tokens and bodies that do not open any more."""
        for key, name in (
            (keys.push(ONE), "push token"),
            (keys.unlock(ONE), "unlock token"),
            (keys.bootstrap(ONE), "bootstrap token"),
        ):
            self.damaged(key, f"{UDID}  its {name} does not open", ("SET", key, "x" * 60))
        body = keys.command(UUID)
        sealed = self.client.ask("HGET", body, "body")
        self.damaged(
            body, f"{UUID}  its body can't be read", ("HSET", body, "body", sealed[:-1] + b"?")
        )

    def test_serial_number(self) -> None:
        """One that finds nobody is odd."""
        key = keys.serial("C02ONE")
        self.client.ask("UNLINK", key)
        self.addCleanup(self.client.ask, "SET", key, UDID)
        (odd,) = self.check().findings
        self.assertEqual((odd.grade, odd.subject), ("warning", UDID))

    def at_rest(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run mdmctl, again if the store was at work just then."""
        for _ in range(50):
            done = self.daemon.mdmctl(*words)
            if "the store is at work" not in done.stdout:
                return done
        raise AssertionError("the store never came to rest")

    def test_sound(self) -> None:
        """Nothing wrong with what the daemon itself made."""
        found = self.check()
        self.assertEqual(found.findings, [])
        self.assertEqual((found.enrollments, found.enabled), (2, 2))
        self.assertEqual((found.queued, found.commands, found.results), (2, 2, 1))

    def test_command(self) -> None:
        """As people and programs run it."""
        done = self.at_rest("fsck")
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        self.assertIn("2 enrollments (2 enabled), 2 queued of 2 commands", done.stdout)
        self.assertEqual(self.daemon.ask("fsck")["queued"], 2)  # type: ignore[index]
        self.client.ask("HINCRBY", keys.TOPICS, "x", 1)
        done = self.at_rest("--json", "fsck")
        self.client.ask("HDEL", keys.TOPICS, "x")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(json.loads(done.stdout)["findings"][0]["grade"], "failed")

    def test_references(self) -> None:
        """A command's body counted too often, or too seldom."""
        key = keys.command(UUID)
        self.broken(
            "queued 1 times, and counted 2 times",
            *("HINCRBY", key, "refs", 1),
            mend=lambda: self.client.ask("HINCRBY", key, "refs", -1),
        )

    def test_body_gone(self) -> None:
        """A queued command without its body."""
        key = keys.command("THIRD")
        whole = self.client.ask("DUMP", key)
        self.broken(
            "THIRD: is queued 1 times, but its body is gone",
            *("UNLINK", key),
            mend=lambda: self.client.ask("RESTORE", key, 0, whole),
        )

    def test_body_left(self) -> None:
        """A body that no queue has."""
        key = keys.command("LOST")
        self.broken(
            "LOST: is kept, but no queue has it",
            *("HSET", key, "body", "x", "refs", 1),
            mend=lambda: self.client.ask("UNLINK", key),
        )

    def test_given_again(self) -> None:
        """A command that is queued although its report was final."""
        self.broken(
            f"{UUID} is queued although its report was final",
            *("HSET", keys.record(ONE), "last", keys.pack(UUID)),
            mend=lambda: self.client.ask("HSET", keys.record(ONE), "last", "FIRST"),
        )

    def test_nobody_wakes(self) -> None:
        """An enrollment with commands that is not in the work set."""
        shard, member = keys.work(ONE), keys.member(ONE)
        score = self.client.ask("ZSCORE", shard, member)
        self.broken(
            "is not in the work set",
            *("ZREM", shard, member),
            mend=lambda: self.client.ask("ZADD", shard, score, member),
        )

    def test_places(self) -> None:
        """Two commands in one place; a place that was never given out."""
        queue = keys.queue(ONE)
        (first, score, *_) = self.client.ask("ZRANGE", queue, 0, 0, "WITHSCORES")
        other = self.client.ask("ZRANGE", queue, 1, 1, "WITHSCORES")[1]
        back = lambda: self.client.ask("ZADD", queue, score, first)  # noqa: E731
        self.broken("same place", "ZADD", queue, other, first, mend=back)
        impossible = int(float(score)) + 1_000_000
        self.broken("impossible place", "ZADD", queue, impossible, first, mend=back)

    def test_places_of_commands_for_later(self) -> None:
        """Many may wait for one time; a place kept twice, or never given out, is wrong."""
        later = int(time.time() * 1000) + 3_600_000
        queue, names = keys.queue(ONE), ("SOON", "SOONER")
        for name in names:
            self.daemon.mdmctl(
                *("send", UDID, "SecurityInfo", "--uuid", name, "--keep", "--not-before", "3600")
            )
        self.assertEqual(self.check().broken, [])
        for name in names:
            self.client.ask("HSET", keys.command(name), "not_before", later)
            self.client.ask("ZADD", queue, keys.LATER + later, keys.pack(name))
        self.assertEqual(self.check().broken, [])
        first, second = (keys.command(name) for name in names)
        place = self.client.ask("HGET", second, "place")
        back = lambda: self.client.ask("HSET", second, "place", place)  # noqa: E731
        same = self.client.ask("HGET", first, "place")
        self.broken("same place", "HSET", second, "place", same, mend=back)
        impossible = int(place) + 1_000_000
        self.broken("impossible place", "HSET", second, "place", impossible, mend=back)
        for name in names:
            self.daemon.mdmctl("queue", UDID, "--cancel", name)
        self.client.ask("LTRIM", keys.results(ONE), 2, -1)

    def test_leftovers(self) -> None:
        """Deliveries of what is not queued; deliveries that can't be read."""
        sent = keys.sent(ONE)
        drop = lambda: self.client.ask("HDEL", sent, "OTHER")  # noqa: E731
        self.broken(
            "deliveries of OTHER, which is not queued",
            *("HSET", sent, "OTHER", "1 1 0 - - sent"),
            mend=drop,
        )

    def test_strangers(self) -> None:
        """Pins, serial numbers, work and records of nobody."""
        for expected, command, undo in (
            (
                "certificate is pinned",
                ("SET", keys.pin("ab"), "NOBODY"),
                ("UNLINK", keys.pin("ab")),
            ),
            (
                "serial number belongs",
                ("SET", keys.serial("X"), "NOBODY"),
                ("UNLINK", keys.serial("X")),
            ),
            (
                "has a record, but is not in mdmd:ids",
                ("HSET", keys.record(EnrollmentID("NOBODY")), "enabled", 0),
                ("UNLINK", keys.record(EnrollmentID("NOBODY"))),
            ),
            (
                "is in mdmd:ids, but has no record",
                ("ZADD", keys.IDS, 0, "NOBODY"),
                ("ZREM", keys.IDS, "NOBODY"),
            ),
            (
                "has work, but does not exist",
                ("ZADD", keys.WORK[0], 1, "NOBODY"),
                ("ZREM", keys.WORK[0], "NOBODY"),
            ),
        ):
            self.broken(expected, *command, mend=lambda undo=undo: self.client.ask(*undo))  # type: ignore[misc]

    def test_tokens(self) -> None:
        """Enabled, and nowhere to push to; more enabled than are counted."""
        push = keys.push(ONE)
        whole = self.client.ask("DUMP", push)
        self.broken(
            "there is no push token",
            *("UNLINK", push),
            mend=lambda: self.client.ask("RESTORE", push, 0, whole),
        )

    def test_results(self) -> None:
        """A result that can't be read."""
        self.broken(
            "1 results can't be read",
            *("LPUSH", keys.results(ONE), "nonsense"),
            mend=lambda: self.client.ask("LPOP", keys.results(ONE)),
        )

    def test_unknown_kind(self) -> None:
        """A key that nobody knows is odd, but breaks no rule."""
        self.client.ask("SET", keys.device_key(ONE, "zz"), 1)
        found = self.check()
        self.client.ask("UNLINK", keys.device_key(ONE, "zz"))
        self.assertEqual((len(found.findings), found.broken), (1, []))
