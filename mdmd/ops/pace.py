"""
The pace of one connection: no more is read of a peer than it reads of what it asked for.

Else whoever calls and calls, and never reads an answer, has all of them in the
daemon's memory.
"""

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

log = Logger()

AT_WORK = 8  # calls of one connection
WAITING = 64  # that came and did not begin; while there are so many, no more are read
PATIENCE = 300.0  # seconds that a peer may take to read what waits for it

Answer = TypeVar("Answer")


@implementer(IPushProducer)
class Pace:
    """
    Begins calls in the order in which they came, while their peer reads the answers.

    :param transport: tells when the peer is behind, and can stop to read.
    :param clock: an IReactorTime.
    """

    def __init__(self, transport: Any, clock: Any) -> None:
        self._transport = transport
        self._clock = clock
        self._at_work = 0
        self._waiting: deque[Deferred[None]] = deque()
        self._behind: Any = None  # the end of its patience, while the peer does not read
        self._reads = True
        self._next: Any = None
        transport.registerProducer(self, True)

    async def call(self, work: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        """Do one call's work in its turn; never, if the connection ends before."""
        if self._waiting or not self._has_room:
            turn: Deferred[None] = Deferred()
            self._waiting.append(turn)
            self._look()
            await turn  # counted in by whoever gives it
        else:
            self._at_work += 1
        try:
            return await work()
        finally:
            self._at_work -= 1
            self._look()

    def close(self) -> None:
        """Forget what waits: the connection is gone."""
        for each in (self._behind, self._next):
            if each is not None:
                each.cancel()
        self._behind = self._next = None
        self._waiting.clear()

    @property
    def _has_room(self) -> bool:
        return self._at_work < AT_WORK and self._behind is None

    def _look(self) -> None:
        reads = self._behind is None and len(self._waiting) < WAITING
        if reads != self._reads:
            self._reads = reads
            (self._transport.resumeProducing if reads else self._transport.pauseProducing)()
        if self._waiting and self._has_room and self._next is None:
            # Not at once: others have their turn, and no call ends inside of another.
            self._next = self._clock.callLater(0, self._begin)

    def _begin(self) -> None:
        self._next = None
        for _ in range(min(AT_WORK - self._at_work, len(self._waiting))):
            if not self._has_room:
                break
            self._at_work += 1
            self._waiting.popleft().callback(None)
        self._look()

    # -- IPushProducer, for the transport

    def pauseProducing(self) -> None:
        """Take note that the peer does not read."""
        if self._behind is None:
            self._behind = self._clock.callLater(PATIENCE, self._too_slow)
            self._look()

    def resumeProducing(self) -> None:
        """Take note that it has read all there was."""
        if self._behind is not None:
            self._behind.cancel()
            self._behind = None
            self._look()

    def stopProducing(self) -> None:
        """Take note that the connection is gone; :meth:`close` is called besides."""

    def _too_slow(self) -> None:
        self._behind = None
        log.warn("an operator's program did not read its answers for {s} s: dropped", s=PATIENCE)
        self._transport.abortConnection()
