"""Names of the manhole, without a terminal and without a store: a device by its name."""

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import BadMessage, Conflict, NotHere
from mdmd.ops.columns import cells
from mdmd.ops.manhole.look import Rows, Tree
from mdmd.ops.manhole.names import Device, Devices
from tests.opshelp import make_desk

PAGE = 2


class Fleet:
    """Many enrollments with names, looked through two at a time; each page takes a while."""

    def __init__(self, clock: Clock, names: list[str]) -> None:
        self.clock = clock
        self.names = names

    async def call(self, method: str, /, **asked: Any) -> Any:
        """Answer as the perspective does."""
        if method == "enrollments.find":
            if "{" in asked["text"]:
                raise BadMessage("no id")
            return None
        if method == "enrollments.get":
            return {"id": asked["id"], "facts": {"DeviceName": self.names[int(asked["id"])]}}
        self.clock.advance(0.4)
        start = int(asked["after"] or 0)
        page = range(start, min(start + PAGE, len(self.names)))
        ids = [str(n) for n in page if self.names[n] == asked["name"]]
        more = page.stop < len(self.names)
        return {"ids": ids, "after": str(page.stop) if more else "", "looked_at": len(page)}


class ByNameTests(SynchronousTestCase):
    """The whole fleet is looked through, however large."""

    def one(self, name: str, names: list[str]) -> "Deferred[Device]":
        """Look for a device."""
        clock = Clock()
        self.shown: list[str] = []
        desk = make_desk(Path("no-operators.json"), clock=clock)
        devices = Devices(desk, Fleet(clock, names).call, self.shown.append)

        async def look() -> Device:
            found: Device = await devices.one(name)
            return found

        return Deferred.fromCoroutine(look())

    def test_the_last_of_many(self) -> None:
        """It says how far it is while that takes long, and takes that away at the end."""
        names = [*["Mac"] * 12, "Anna's Mac {1}"]
        self.assertEqual(self.successResultOf(self.one("Anna's Mac {1}", names)).id, "12")
        self.assertEqual(
            self.shown,
            [
                "looking for the name, at 6 enrollments …",
                "looking for the name, at 12 enrollments …",
                "",
            ],
        )

    def test_namesakes(self) -> None:
        """Nobody guesses which one was meant: the next line may erase it."""
        error = self.failureResultOf(self.one("Mac", ["Mac", "x", "Mac"]), Conflict).value
        self.assertEqual(str(error), "several have this name, which one? 0, 2")
        error = self.failureResultOf(self.one("Mac", ["Mac"] * 1000), Conflict).value
        self.assertEqual(str(error), "several have this name, which one? 0, 1, 2, 3, 4 …")

    def test_nobody(self) -> None:
        """Once everything was looked at."""
        self.failureResultOf(self.one("Mac", ["x"] * 5), NotHere)


class LookTests(SynchronousTestCase):
    """How an answer looks."""

    def test_a_large_value_is_counted(self) -> None:
        """A report of 20 MB fits the terminal; the value itself is still there."""
        answer = Tree({"Certificate": b"x" * 15_000_000, "Serial": b"12"})
        self.assertEqual(repr(answer), "Certificate: <15,000,000 bytes>\nSerial: b'12'")
        self.assertEqual(len(answer["Certificate"]), 15_000_000)


class RowsTests(SynchronousTestCase):
    """Rows are a table, in whatever language a device is called."""

    def test_wide_characters(self) -> None:
        """They take two columns each, and what is too long is cut by columns."""
        names = ["山田太郎のiPhone", "Jose\u0301", "한" * 40, "plain"]
        rows = Rows(names, {"NAME": lambda name: name, "OS": lambda _: "26.1"}, "nobody")
        before = {cells(each[: each.index("26.1")]) for each in repr(rows).splitlines()[1:]}
        self.assertEqual(before, {43 + 2})
