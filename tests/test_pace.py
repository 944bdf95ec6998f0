"""One connection's pace: who does not read gets no more work done."""

from collections.abc import Callable, Coroutine

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mdmd.ops.pace import AT_WORK, PATIENCE, WAITING, Pace


class Transport:
    """Knows whether it reads."""

    def __init__(self) -> None:
        self.reads = True
        self.aborted = False

    def registerProducer(self, producer: Pace, streaming: bool) -> None:
        assert streaming

    def pauseProducing(self) -> None:
        self.reads = False

    def resumeProducing(self) -> None:
        self.reads = True

    def abortConnection(self) -> None:
        self.aborted = True


class PaceTests(SynchronousTestCase):
    """Calls begin in order, so many at a time."""

    def setUp(self) -> None:
        self.transport = Transport()
        self.clock = Clock()
        self.pace = Pace(self.transport, self.clock)
        self.begun: list[int] = []
        self.ends: dict[int, Deferred[None]] = {}

    def work(self, number: int) -> Callable[[], Coroutine[object, object, int]]:
        """Work that lasts until it is told to end."""

        async def work() -> int:
            self.begun.append(number)
            self.ends[number] = Deferred()
            await self.ends[number]
            return number

        return work

    def call(self, number: int) -> "Deferred[int]":
        """Make a call."""
        return Deferred.fromCoroutine(self.pace.call(self.work(number)))

    def test_so_many_at_a_time(self) -> None:
        """Each that ends makes room for the next; a failure does, too."""
        calls = [self.call(number) for number in range(AT_WORK + 2)]
        self.assertEqual(self.begun, [*range(AT_WORK)])
        self.ends[3].callback(None)
        self.assertEqual(self.successResultOf(calls[3]), 3)
        self.ends[4].errback(ValueError())
        self.failureResultOf(calls[4], ValueError)
        self.clock.advance(0)
        self.assertEqual(self.begun, [*range(AT_WORK + 2)])

    def test_no_more_is_read_than_can_wait(self) -> None:
        """And again as soon as some have begun."""
        for number in range(AT_WORK + WAITING):
            self.assertTrue(self.transport.reads)
            self.call(number)
        self.assertFalse(self.transport.reads)
        self.ends[0].callback(None)
        self.clock.advance(0)
        self.assertTrue(self.transport.reads)

    def test_a_peer_that_is_behind(self) -> None:
        """Nothing begins and nothing is read until it has read."""
        self.pace.pauseProducing()
        self.assertFalse(self.transport.reads)
        self.call(0)
        self.clock.advance(1)
        self.assertEqual(self.begun, [])
        self.pace.resumeProducing()
        self.clock.advance(0)
        self.assertEqual(self.begun, [0])
        self.assertTrue(self.transport.reads)
        self.clock.advance(PATIENCE)
        self.assertFalse(self.transport.aborted)

    def test_a_peer_that_never_reads(self) -> None:
        """It is dropped."""
        self.pace.pauseProducing()
        self.clock.advance(PATIENCE - 1)
        self.assertFalse(self.transport.aborted)
        self.clock.advance(1)
        self.assertTrue(self.transport.aborted)

    def test_a_connection_that_ends(self) -> None:
        """What waits never begins; no timer stays behind."""
        calls = [self.call(number) for number in range(AT_WORK + 1)]
        self.pace.pauseProducing()
        self.pace.close()
        self.ends[0].callback(None)
        self.assertEqual(self.successResultOf(calls[0]), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.begun, [*range(AT_WORK)])
