"""Tell those who wait that something new is in the event stream: one blocked read for all."""

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from mdmd.errors import StoreUnavailable
from mdmd.store import keys
from mdmd.store.link import Link, ScriptError

log = Logger()

BLOCK = 10.0  # seconds of one read
AGAIN = 0.5  # seconds after the store was away
PAUSE = 0.05  # seconds between two reads, or a busy fleet would have one for each event


class Feed:
    """Implements :class:`mdmd.interfaces.webhooks.IFeed`."""

    def __init__(self, reactor: Any, link: Link) -> None:
        self._reactor = reactor
        self._link = link  # of its own: it blocks
        self._newest = (0, 0)
        self._waiting: dict[Deferred[None], tuple[int, int]] = {}
        self._running: Deferred[None] | None = None
        self._released = False

    @classmethod
    async def start(cls, reactor: Any, link: Link) -> "Feed":
        """
        Begin to read, on a connection of its own to the same store.

        :raises StoreUnavailable: no connection.
        """
        feed = cls(reactor, await link.another())
        feed._newest = await feed._find_newest()
        feed._running = Deferred.fromCoroutine(feed._run())
        feed._running.addErrback(_stopped)
        return feed

    async def stop(self) -> None:
        """End the reading and all waiting."""
        if self._running is not None:
            self._running.cancel()
        for waiting in list(self._waiting):
            waiting.cancel()
        await self._link.close()

    def release(self) -> None:
        """Let all who wait go, and nobody wait any more: the daemon ends."""
        self._released = True
        for waiting in list(self._waiting):
            if not waiting.called:
                waiting.callback(None)

    async def wait(self, after: str, seconds: float) -> bool:
        """Wait for an event after ``after``; False if none came in time."""
        at = read_id(after)
        if at < self._newest or self._released:
            return at < self._newest
        waiting: Deferred[None] = Deferred()
        self._waiting[waiting] = at
        waiting.addTimeout(seconds, self._reactor, onTimeoutCancel=lambda _, __: None)
        try:
            await waiting
        finally:
            self._waiting.pop(waiting, None)
        return at < self._newest

    async def _run(self) -> None:
        while True:
            try:
                await self._step()
                await deferLater(self._reactor, PAUSE)
            except (StoreUnavailable, ScriptError) as error:
                log.debug("the event stream can't be read: {why}", why=str(error))
                await deferLater(self._reactor, AGAIN)

    async def _step(self) -> None:
        last = "{}-{}".format(*self._newest)
        found = await self._link.call(
            *("XREAD", "COUNT", 1, "BLOCK", int(BLOCK * 1000), "STREAMS", keys.EVENTS, last),
            timeout=BLOCK + 5,
        )
        if not found:
            return
        # Not the one that was read: many may have come at once.
        self._newest = await self._find_newest()
        for waiting, at in list(self._waiting.items()):
            if at < self._newest and not waiting.called:
                waiting.callback(None)

    async def _find_newest(self) -> tuple[int, int]:
        found = await self._link.call("XREVRANGE", keys.EVENTS, "+", "-", "COUNT", 1)
        return read_id(found[0][0].decode()) if found else (0, 0)


def read_id(text: str) -> tuple[int, int]:
    """Make a stream id comparable; what is none is older than all."""
    milliseconds, _, nth = text.partition("-")
    try:
        return int(milliseconds), int(nth or 0)
    except ValueError:
        return (0, 0)


def _stopped(failure: Failure) -> None:
    if not isinstance(failure.value, CancelledError):
        log.failure("the event stream is not followed any more", failure)
