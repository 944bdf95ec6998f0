"""A subscription: events go to a client's own object, a batch at a time, while it answers."""

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.spread import pb

from mdmd.errors import StoreUnavailable
from mdmd.interfaces.fleet import Event
from mdmd.ops import records
from mdmd.ops.tail import Tail

log = Logger()

PATIENCE = 60.0  # seconds for a client to answer one batch
_AGAIN = 1.0  # seconds, when the store did not answer


@attrs.frozen
class Filter:
    """
    What a client wants to hear of.

    :ivar id: an enrollment; a device's means those of its user channels too. "" for all.
    :ivar topics: such as ``mdm.Connect``, or ``mdm.*``; none for all.
    """

    id: str = ""
    topics: tuple[str, ...] = ()

    def fits(self, event: Event) -> bool:
        """Say whether it is one of these."""
        if (
            self.id
            and event.enrollment != self.id
            and not event.enrollment.startswith(self.id + ":")
        ):
            return False
        return not self.topics or any(_matches(event.topic, each) for each in self.topics)


def _matches(topic: str, wanted: str) -> bool:
    return topic.startswith(wanted[:-1]) if wanted.endswith("*") else topic == wanted


class Subscription(pb.Referenceable):
    """
    One client's subscription. The next batch goes out when the last was answered.

    :param receiver: the client's object; its ``events(list)`` is called.
    :param welcome: says whether the operator may still listen.
    :param ended: is called once, when it is over for whatever reason.
    """

    def __init__(
        self,
        tail: Tail,
        clock: Any,
        receiver: Any,
        wanted: Filter,
        after: str,
        welcome: Callable[[], bool],
        ended: Callable[["Subscription"], None],
    ) -> None:
        self._tail = tail
        self._clock = clock
        self._receiver = receiver
        self._wanted = wanted
        self._after = after
        self._welcome = welcome
        self._ended = ended
        receiver.broker.notifyOnDisconnect(self.cancel)
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._failed).addBoth(self._over)

    def remote_cancel(self) -> None:
        """Let the client end it."""
        self.cancel()

    def cancel(self) -> None:
        """End it."""
        self._running.cancel()

    async def _run(self) -> None:
        while self._welcome():
            try:
                found = await self._tail.take(self._after)
            except StoreUnavailable:
                await deferLater(self._clock, _AGAIN)
                continue
            if not self._welcome():  # while they waited
                return
            wanted = [records.event(each, raw=False) for each in found if self._wanted.fits(each)]
            if wanted:
                await self._deliver(wanted)
            self._after = found[-1].id

    async def _deliver(self, batch: list[records.Record]) -> None:
        answer: Deferred[Any] = self._receiver.callRemote("events", batch)
        answer.addTimeout(PATIENCE, self._clock, self._too_slow)
        await answer

    def _too_slow(self, *_: object) -> None:
        log.warn("a subscriber did not answer for {seconds} s: dropped", seconds=PATIENCE)
        self._receiver.broker.transport.abortConnection()
        raise ConnectionLost("a subscriber did not answer")

    def _failed(self, failure: Any) -> None:
        gone = (CancelledError, ConnectionLost, pb.PBConnectionLost, pb.DeadReferenceError)
        if failure.check(*gone):
            return
        if isinstance(failure.value, pb.RemoteError):
            log.info("a subscriber refused its events: {reason}", reason=str(failure.value)[:200])
            return
        log.failure("a subscription ended", failure)

    def _over(self, _: object) -> None:
        disconnects = self._receiver.broker.disconnects
        if disconnects and self.cancel in disconnects:
            self._receiver.broker.dontNotifyOnDisconnect(self.cancel)
        self._ended(self)
