"""Large answers are spelled in parts, large pages end early, and nothing of them is lost."""

from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport
from twisted.spread import banana, jelly
from twisted.trial.unittest import SynchronousTestCase

from mdmd.flow.targets import LOOK_AT_ONCE, Targets
from mdmd.interfaces.fleet import Event
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.ops.broker import Broker
from mdmd.ops.method import Caller
from mdmd.ops.operators import Role
from mdmd.ops.perspective import Perspective
from mdmd.ops.spelling import Spelled, Speller, weigh
from mdmd.ops.subjects.inventory import MOST_VALUES
from tests.opshelp import make_desk, scratch, write_operators
from tests.storecase import MS, StoreCase, udid
from tests.test_pb import Served

ME = Caller("me", Role.ADMIN, "here")
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars | st.binary(),
    lambda some: st.lists(some) | st.dictionaries(st.text(), some),
    max_leaves=60,
)


class SpellingTests(SynchronousTestCase):
    """Bytes for the wire."""

    def spell(self, value: Any, at_once: int) -> tuple[bytes, int]:
        """What goes over the wire, and how often others had their turn."""
        broker, pauses = Broker(isClient=False), []
        broker.makeConnection(StringTransport())
        broker.transport.clear()

        async def pause() -> None:
            pauses.append(None)

        speller = Speller(broker, lambda plain: plain, pause, at_once)
        answer = self.successResultOf(Deferred.fromCoroutine(speller.spell(value)))
        self.assertEqual(isinstance(answer, Spelled), bool(pauses) or at_once < weigh(value, 99))
        broker.sendCall(b"answer", 7, answer)
        return broker.transport.value(), len(pauses)

    @given(values)
    def test_nothing_differs_on_the_wire(self, value: Any) -> None:
        """Whatever it is, and in however small parts."""
        if isinstance(value, list | dict):
            for at_once in (3, 10_000):
                word, number, spelled = banana.decode(self.spell(value, at_once)[0])
                self.assertEqual((word, number), (b"answer", 7))
                self.assertEqual(jelly.unjelly(spelled), value)

    def test_others_have_their_turn(self) -> None:
        """Between parts of a bounded size, however the values lie."""
        for value in ([0] * 3000, {str(n): [n, [n, n]] for n in range(500)}, [[list(range(3000))]]):
            _, pauses = self.spell(value, 100)
            self.assertGreaterEqual(pauses, 3000 // 200)


class WireTests(Served):
    """Through a real socket, to a client that knows nothing of it."""

    async def test_a_large_page(self) -> None:
        """A thousand events come as they are."""
        facts = {f"fact {n}": "x" for n in range(20)}
        self.desk.fleet.stream = [
            Event(f"{n}-0", "mdm.Connect", "MAC-1", facts, b"") for n in range(1, 1001)
        ]
        found = await (await self.enter()).call("events.page", limit=1000)
        self.assertEqual([each["id"] for each in found], [f"{n}-0" for n in range(1, 1001)])
        self.assertEqual({weigh(each["facts"], 100) for each in found}, {41})


class PagesTests(StoreCase):
    """Pages of an inventory with long lists in it."""

    async def setUp(self) -> None:
        await super().setUp()
        store, folder = self.store, scratch()
        write_operators(folder / "operators.json", me={"role": "admin"})
        self.asked: list[int] = []
        test = self

        class Counting:
            async def known(self, ones, fields=()):
                test.asked.append(len(ones))
                return await store.inventory.known(ones, fields)

        parts = {"fleet": store.fleet, "inventory": Counting(), "groups": store.groups}
        desk = make_desk(folder / "operators.json")
        self.calls = Perspective(attrs.evolve(desk, **parts, targets=Targets(*parts.values())))

    async def fleet(self, count: int, apps: int) -> None:
        listed = [{"Identifier": f"com.example.{n}", "Version": "1"} for n in range(apps)]
        for number in range(count):
            one = EnrollmentID(udid(number))
            await self.device(number).enroll()
            await self.store.inventory.learn(one, {"InstalledApplicationList": listed}, MS)

    async def page(self, **more: object) -> dict[str, Any]:
        fields = ["InstalledApplicationList"]
        return await self.calls.call(ME, "inventory.page", [], {"fields": fields, **more})

    async def test_a_page_with_much_in_it_ends_early(self) -> None:
        """However much is asked for; going on from there misses nobody, and the end is told."""
        await self.fleet(60, 500)
        found, sizes, after, where = [], [], "", "app=com.example.499"
        while not sizes or after:
            page = await self.page(limit=1000, after=after, where=where)
            after = page["after"]
            sizes.append(len(page["devices"]))
            found += [each["id"] for each in page["devices"]]
        self.assertEqual(found, [udid(number) for number in range(60)])
        self.assertLessEqual(max(sizes), MOST_VALUES // (5 * 500) + 1)

    async def test_a_page_with_little_in_it_is_whole(self) -> None:
        """As long as asked for, not a device more."""
        await self.fleet(60, 1)
        page = await self.page(limit=40)
        self.assertEqual((len(page["devices"]), page["after"]), (40, udid(39)))
        page = await self.page(limit=40, after=page["after"])
        self.assertEqual((len(page["devices"]), page["after"]), (20, ""))

    async def test_an_expression_looks_at_few_at_once(self) -> None:
        """In between devices have their turn, however large the page."""
        await self.fleet(60, 1)
        page = await self.calls.call(
            ME, "targets.page", [], {"where": "app~example", "limit": 1000}
        )
        self.assertEqual(len(page["ids"]), 60)
        self.assertLessEqual(max(self.asked), LOOK_AT_ONCE)
