"""Ports that take no more than can be served, and that several daemons may share."""

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from mdmd.assembly.gentle import A_TURN, FEW, PATIENCE, GentlePort


class GentlePortTests(TestCase):
    """The reactor does not turn here: the tests call doRead as it would."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.taken: list[Protocol] = []
        self.turned_away: list[int] = []
        self.port = self.listen(0)
        self.number = self.port.getHost().port

    def listen(self, number: int, shared: bool = False) -> Any:
        factory = Factory.forProtocol(Protocol)
        factory.noisy = False
        factory.buildProtocol = self.build  # type: ignore[method-assign]
        port = GentlePort(
            *(number, factory, 500, "127.0.0.1", reactor),
            shared=shared,
            turned_away=self.turned_away.append,
            seconds=self.clock.seconds,
        )
        port.startListening()
        port.stopReading()
        self.addCleanup(port.stopListening)
        return port

    def build(self, _: object) -> Protocol:
        self.taken.append(Protocol())
        return self.taken[-1]

    def come(self, count: int) -> list[socket.socket]:
        """Clients connect; the kernel answers for the port."""
        clients = [socket.create_connection(("127.0.0.1", self.number)) for _ in range(count)]
        for client in clients:
            self.addCleanup(client.close)
        return clients

    def tearDown(self) -> None:
        for each in self.taken:
            each.transport.abortConnection()  # type: ignore[union-attr]

    def test_a_few_a_turn(self) -> None:
        """However many wait, and however often there were many."""
        self.come(A_TURN * 3)
        for turn in range(1, 4):
            self.port.doRead()
            self.assertEqual(len(self.taken), A_TURN * turn)

    def test_a_burst_is_served(self) -> None:
        """Nobody is turned away while it may be a burst."""
        self.come(A_TURN * 10)
        for _ in range(10):
            self.clock.advance(PATIENCE / 11)
            self.port.doRead()
        self.assertEqual((len(self.taken), self.turned_away), (A_TURN * 10, []))

    def turn(self, seconds: float = 0.1) -> None:
        """One turn of the event loop, so long."""
        self.clock.advance(seconds)
        self.port.doRead()

    def overload(self) -> None:
        """There has been no end of them for a while: eight in each tenth of a second."""
        for _ in range(int(PATIENCE * 10)):
            self.come(A_TURN + 1)
            self.turn()
        self.assertEqual(self.turned_away, [])

    def test_no_end_of_them(self) -> None:
        """After a while those who would wait long are hung up on, until nobody waits."""
        self.overload()
        clients = self.come(100)
        self.turn()
        self.assertEqual(len(self.turned_away), 1)
        clients[-1].settimeout(5)
        self.assertEqual(clients[-1].recv(1), b"")
        self.come(A_TURN - 1)
        self.turn()  # nobody waits after this one
        self.come(100)
        self.turn()
        self.assertEqual(len(self.turned_away), 1)

    def test_a_short_wait_is_no_reason(self) -> None:
        """However long it goes on: those who are served in a moment are served."""
        self.overload()
        self.port.doRead()
        self.port.doRead()
        self.port.doRead()
        for _ in range(10):
            self.come(A_TURN + 1)
            self.turn()
        self.assertEqual(self.turned_away, [])

    def test_a_few_may_wait(self) -> None:
        """However slowly they are served: so few are no overload."""
        self.come(int(PATIENCE * 10) * A_TURN // 10 + FEW)
        for _ in range(int(PATIENCE) + 1):
            self.turn(seconds=1)
        self.assertEqual(self.turned_away, [])
        self.come(FEW)
        self.turn(seconds=1)
        self.assertEqual(len(self.turned_away), 1)

    def test_shared(self) -> None:
        """Two may listen on one port if both say so, and each gets some; else the second fails."""
        first = self.listen(0, shared=True)
        self.number = first.getHost().port
        second = self.listen(self.number, shared=True)
        self.assertRaises(CannotListenError, self.listen, self.number)
        self.come(64)
        counts = []
        for port in (first, second):
            before = len(self.taken)
            for _ in range(10):
                port.doRead()
            counts.append(len(self.taken) - before)
        self.assertEqual(sum(counts), 64)
        self.assertGreater(min(counts), 0)
