"""Live events: filtered, in order, at the client's own pace; a dead client is dropped."""

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.spread import pb
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import StoreUnavailable
from mdmd.interfaces.fleet import Event
from mdmd.ops import subscription
from mdmd.ops.subscription import Filter, Subscription
from mdmd.ops.tail import PAUSE, Tail
from tests.opshelp import MAC, PHONE, FakeFleet, write_operators
from tests.test_pb import Served


class Receiver(pb.Referenceable):
    """A client's object; the events are kept, the answer may wait."""

    def __init__(self, wanted: int = 1, answer: "Deferred[None] | None" = None) -> None:
        self.events: list[dict[str, Any]] = []
        self.batches = 0
        self.enough: Deferred[None] = Deferred()
        self._wanted = wanted
        self._answer = answer

    def remote_events(self, events: list[dict[str, Any]]) -> "Deferred[None] | None":
        self.events += events
        self.batches += 1
        if len(self.events) >= self._wanted and not self.enough.called:
            self.enough.callback(None)
        return self._answer


class SubscriptionTests(Served):
    """Over a real socket."""

    async def test_events_come_as_they_happen(self) -> None:
        """From now on, in order, with all facts, without messages."""
        remote = await self.enter()
        self.desk.fleet.happen("mdm.Connect", MAC, status="Idle")  # before
        receiver = Receiver(2)
        await remote.call("events.subscribe", receiver=receiver)
        self.desk.fleet.happen("mdm.TokenUpdate", PHONE, tally="1")
        self.desk.fleet.happen("mdm.Connect", PHONE, status="Idle")
        await receiver.enough
        self.assertEqual(
            [(each["topic"], each["facts"]) for each in receiver.events],
            [("mdm.TokenUpdate", {"tally": "1"}), ("mdm.Connect", {"status": "Idle"})],
        )
        self.assertNotIn("raw", receiver.events[0])

    async def test_filters(self) -> None:
        """By device (its user channels too), by topic, and from a place in the past."""
        happen = self.desk.fleet.happen
        happen("mdm.Connect", MAC)
        happen("mdm.Connect", PHONE)
        happen("mdm.Connect", f"{MAC}:eve")
        happen("mdmd.Refused", MAC)
        remote = await self.enter()
        receiver = Receiver(2)
        await remote.call(
            "events.subscribe", receiver=receiver, id="C02XL0THJGH5", topics=["mdm.*"], after="1"
        )
        await receiver.enough
        self.assertEqual([each["enrollment"] for each in receiver.events], [MAC, f"{MAC}:eve"])

    async def test_a_slow_client_gets_nothing_until_it_answers(self) -> None:
        """One batch is on its way at a time: nothing piles up in the daemon."""
        remote = await self.enter()
        slow: Deferred[None] = Deferred()
        receiver = Receiver(1, slow)
        await remote.call("events.subscribe", receiver=receiver)
        self.desk.fleet.happen("mdm.Connect", MAC)
        await receiver.enough
        for _ in range(500):
            self.desk.fleet.happen("mdm.Connect", MAC)
        await deferLater(reactor, 2 * PAUSE)
        self.assertEqual((receiver.batches, len(receiver.events)), (1, 1))
        receiver.enough, receiver._wanted, receiver._answer = Deferred(), 501, None
        slow.callback(None)
        await receiver.enough
        self.assertEqual(len({each["id"] for each in receiver.events}), 501)

    async def test_it_ends_with_the_connection(self) -> None:
        """A client that vanishes leaves nothing behind; cancel ends it as well."""
        remote = await self.enter()
        subject = self.doors.unix.perspective.methods["events.subscribe"].function.__self__
        handle = await remote.call("events.subscribe", receiver=Receiver())
        await remote.call("events.subscribe", receiver=Receiver())
        self.assertEqual(len(subject.subscriptions), 2)
        await handle.callRemote("cancel")
        self.assertEqual(len(subject.subscriptions), 1)
        await self.leave(remote)
        await deferLater(reactor, 0.01)
        self.assertEqual(len(subject.subscriptions), 0)

    async def test_a_removed_operator_hears_no_more(self) -> None:
        """Not one event more, and within a second their connection ends."""
        remote = await self.enter()
        subject = self.doors.unix.perspective.methods["events.subscribe"].function.__self__
        receiver = Receiver(1)
        await remote.call("events.subscribe", receiver=receiver)
        write_operators(self.folder / "operators.json", other={"role": "admin", "uid": 1})
        gone: Deferred[None] = Deferred()
        remote.session.broker.notifyOnDisconnect(lambda: gone.callback(None))
        for _ in range(2):
            self.desk.fleet.happen("mdm.Connect", MAC)
            await deferLater(reactor, 2 * PAUSE)
        await gone
        self.assertEqual(len(subject.subscriptions), 0)
        self.assertEqual(receiver.events, [])


class DeadReceiver:
    """A client that never answers."""

    def __init__(self) -> None:
        self.broker = self
        self.transport = self
        self.disconnects: list[object] = []
        self.aborted = False
        self.calls = 0

    def notifyOnDisconnect(self, call: object) -> None:
        self.disconnects.append(call)

    def dontNotifyOnDisconnect(self, call: object) -> None:
        self.disconnects.remove(call)

    def callRemote(self, name: str, batch: object) -> "Deferred[None]":
        self.calls += 1
        return Deferred()

    def abortConnection(self) -> None:
        self.aborted = True


class DeadClientTests(SynchronousTestCase):
    """With a clock."""

    def test_a_client_that_never_answers_is_dropped(self) -> None:
        """After a minute its connection is ended and the subscription is gone."""
        clock, fleet, client, ended = Clock(), FakeFleet(), DeadReceiver(), []
        Subscription(Tail(fleet, clock), clock, client, Filter(), "0", lambda: True, ended.append)
        fleet.happen("mdm.Connect", MAC)
        clock.advance(PAUSE)
        self.assertEqual(client.calls, 1)
        clock.advance(subscription.PATIENCE)
        self.assertTrue(client.aborted)
        self.assertEqual((len(ended), client.disconnects), (1, []))
        self.assertEqual(clock.getDelayedCalls(), [])


class FakeFeed:
    """Tells when it is told to."""

    def __init__(self) -> None:
        self.waiting: Deferred[bool] = Deferred()

    async def wait(self, after: str, seconds: float) -> bool:
        self.waiting = Deferred()
        return await self.waiting


class TailTests(SynchronousTestCase):
    """One read of the store for all who follow."""

    def setUp(self) -> None:
        self.clock, self.fleet = Clock(), FakeFleet()
        self.tail = Tail(self.fleet, self.clock)

    def take(self, after: str) -> "Deferred[list[Event]]":
        """Begin to wait."""
        return Deferred.fromCoroutine(self.tail.take(after))

    def test_a_hundred_followers_cost_one_read(self) -> None:
        """What the store is asked does not grow with who listens."""
        waiting = [self.take("0") for _ in range(100)]
        before = self.fleet.reads
        self.fleet.happen("mdm.Connect", MAC)
        self.clock.advance(PAUSE)
        for each in waiting:
            self.assertEqual(len(self.successResultOf(each)), 1)
        self.assertEqual(self.fleet.reads - before, 1)

    def test_nobody_listens_nobody_reads(self) -> None:
        """The store is left alone when the last one is gone."""
        waiting = self.take("0")
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        self.clock.advance(PAUSE)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_is_left_out(self) -> None:
        """However the events come, and however late one takes them, each comes once, in order."""
        seen: list[str] = []
        after = "0"
        for burst in (1, 3, 0, 250, 1200, 2):
            for _ in range(burst):
                self.fleet.happen("mdm.Connect", MAC)
            waiting = self.take(after)
            for _ in range(30):
                if not waiting.called:
                    self.clock.advance(PAUSE)
                    continue
                found = self.successResultOf(waiting)
                seen += [each.id for each in found]
                after = seen[-1]
                waiting = self.take(after)
            waiting.addErrback(lambda _: None)
            waiting.cancel()
        self.assertEqual(seen, [each.id for each in self.fleet.stream])

    def test_a_feed_that_tells(self) -> None:
        """With one, an event is there at once and the store is not asked in vain."""
        feed = FakeFeed()
        tail = Tail(self.fleet, self.clock, feed)
        waiting = Deferred.fromCoroutine(tail.take("0"))
        before = self.fleet.reads
        self.fleet.happen("mdm.Connect", MAC)
        feed.waiting.callback(True)
        self.assertEqual(len(self.successResultOf(waiting)), 1)
        self.assertEqual(self.fleet.reads - before, 1)

    def test_a_feed_that_ends(self) -> None:
        """One that says no at once, as at the end of the daemon, makes no busy loop."""
        feed = FakeFeed()
        waiting = Deferred.fromCoroutine(Tail(self.fleet, self.clock, feed).take("0"))
        before = self.fleet.reads
        feed.waiting.callback(False)
        self.clock.advance(PAUSE / 2)
        self.assertEqual(self.fleet.reads, before)
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_store_that_is_away(self) -> None:
        """Those who wait go on waiting, and hear what came meanwhile."""
        waiting = self.take("0")
        events = self.fleet.events

        async def away(after: str = "0", limit: int = 100, messages: bool = True) -> list[Event]:
            raise StoreUnavailable("away")

        self.fleet.events = away
        self.clock.advance(PAUSE)
        self.assertNoResult(waiting)
        self.fleet.events = events
        self.fleet.happen("mdm.Connect", MAC)
        self.clock.advance(PAUSE)
        self.assertEqual(len(self.successResultOf(waiting)), 1)
