"""Send the events of one target, for as long as this daemon is the one that does."""

import contextlib
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from mdmd.errors import NotHere, StoreUnavailable
from mdmd.interfaces.fleet import Event
from mdmd.interfaces.webhooks import IDeliveries, IFeed
from mdmd.webhook.lanes import Lanes, Waiting, before
from mdmd.webhook.post import LONGEST_WAIT, Outcome, Post
from mdmd.webhook.target import Target

log = Logger()

LEASE = 6.0  # seconds after which another daemon takes over
RENEW = 1.5
READ_AT_ONCE = 200  # events
LOADED = 400  # events in memory with their messages
HELD = 100_000  # unsettled ones by their ids alone
AGAIN = 2.0  # seconds after the store was away
LOG_EVERY = 60.0  # seconds; a target in trouble is not told of with each event


class Sender:
    """
    The loop of one target.

    :param daemon: this daemon's name, unlike that of any other with the same store.
    :param chance: 0 <= value < 1.
    :param wall: seconds since the epoch, as events have them.
    """

    def __init__(
        self,
        reactor: Any,
        target: Target,
        post: Post,
        deliveries: IDeliveries,
        feed: IFeed,
        daemon: str,
        chance: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.target = target
        self.post = post
        self._reactor = reactor
        self._deliveries = deliveries
        self._feed = feed
        self._daemon = daemon
        self._chance = chance
        self._wall = wall
        self._lanes = Lanes(target.at_once, chance)
        self._running: Deferred[None] | None = None
        self._flights: set[Deferred[None]] = set()
        self._wake: Deferred[None] | None = None
        self._nudged = False
        self._held = False
        self._rest_read = False  # what an earlier sender had read and not settled
        self._history = "0"
        self._newest = "0"
        self._claimed_at = float("-inf")
        self._settled: list[str] = []
        self._lost = 0  # events that the stream had no more when their turn came
        self._anew = ""  # where to begin, because the place in the stream is gone
        self._logged_at = float("-inf")
        self.last_trouble = ""
        self.counts = {"taken": 0, "failed": 0}  # deliveries of this daemon

    async def start(self) -> None:
        """Begin; whatever happens from now on goes to the target, new or not."""
        with contextlib.suppress(StoreUnavailable):  # it is tried again
            await self._claim()
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._stopped)

    async def stop(self) -> None:
        """End; what is being sent is not waited for: it will be sent again."""
        if self._running is not None:
            self._running.cancel()
        for flight in list(self._flights):
            flight.cancel()
        await self.post.close()
        try:
            await self._settle()
            if self._held:
                await self._deliveries.release(self.target.name, self._daemon)
        except StoreUnavailable:
            pass  # the lease ends by itself

    def nudge(self) -> None:
        """Look now whether there is something to do."""
        self._nudged = True
        if self._wake is not None and not self._wake.called:
            self._wake.callback(None)

    # -- the loop ---------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            try:
                await self._turn()
            except StoreUnavailable:
                # Its claim may end meanwhile: whatever comes then is read from the store anew.
                await deferLater(self._reactor, AGAIN)
            except NotHere as error:
                log.error("{why}; it is made anew", why=str(error))
                self._begin_anew()
                await deferLater(self._reactor, RENEW)
            except CancelledError:
                raise
            except Exception:  # an error of ours must not end it for good
                log.failure(
                    "a webhook's sender failed, and begins anew: {name}", name=self.target.name
                )
                self._claimed_at = float("-inf")
                await deferLater(self._reactor, LEASE)

    def _begin_anew(self) -> None:
        """Have the place in the stream made again, before all that the target has not got."""
        if oldest := self._lanes.oldest:
            self._anew = before(oldest)
        else:
            self._anew = self._newest if self._newest != "0" else "$"
        self._claimed_at = float("-inf")

    async def _turn(self) -> None:
        if not await self._claim():
            await deferLater(self._reactor, RENEW)
            return
        self._nudged = False
        await self._settle()
        await self._read()
        self._send()
        if not self._nudged:
            await self._pause()

    async def _claim(self) -> bool:
        now = self._reactor.seconds()
        if self._held and now - self._claimed_at < RENEW:
            return True
        was = self._held and now - self._claimed_at < LEASE
        wait = await self._deliveries.claim(
            self.target.name, self._daemon, int(LEASE * 1000), self._anew
        )
        self._held = wait is not None
        self._anew = ""
        self._claimed_at = now
        if not self._held or not was:
            self._forget()
        if wait is not None:
            self._lanes.leave_alone(now + min(wait, LONGEST_WAIT))
        return self._held

    def _forget(self) -> None:
        """Another daemon may have sent meanwhile: what is in memory counts no more."""
        self._lanes = Lanes(self.target.at_once, self._chance)
        self._settled = []
        self._rest_read, self._history = False, "0"

    async def _read(self) -> None:
        while self._has_room:
            if self._rest_read:
                events = await self._deliveries.more(self.target.name, READ_AT_ONCE)
            else:
                events = await self._deliveries.unsettled(
                    self.target.name, self._history, READ_AT_ONCE
                )
            if not events:
                if self._rest_read:
                    return
                self._rest_read = True
                continue
            self._history = self._newest = events[-1].id
            self._take(events)

    @property
    def _has_room(self) -> bool:
        return self._lanes.loaded < LOADED and len(self._lanes) < HELD

    def _take(self, events: list[Event]) -> None:
        wanted = [each for each in events if self.target.wants(each.topic)]
        self._settled += [each.id for each in events if not self.target.wants(each.topic)]
        self._lanes.add(wanted)

    async def _settle(self) -> None:
        settled, self._settled = self._settled, []
        try:
            for at in range(0, len(settled), READ_AT_ONCE):
                await self._deliveries.settle(self.target.name, settled[at : at + READ_AT_ONCE])
        except StoreUnavailable:
            self._settled = settled + self._settled
            raise
        if self._lost:
            lost, self._lost = self._lost, 0
            await self._deliveries.lost(self.target.name, lost)

    def _send(self) -> None:
        while one := self._lanes.next(self._reactor.seconds()):
            flight = Deferred.fromCoroutine(self._fly(self._lanes, one))
            self._flights.add(flight)
            flight.addErrback(self._stopped)
            flight.addBoth(self._landed, flight)

    def _landed(self, _: object, flight: "Deferred[None]") -> None:
        self._flights.discard(flight)

    async def _pause(self) -> None:
        """Wait for something to do, but not longer than the claim can wait."""
        due = self._lanes.due()
        now = self._reactor.seconds()
        patience = RENEW if due is None else min(RENEW, max(due - now, 0.0))
        if self._settled:
            patience = 0.0
        self._wake = Deferred()
        self._wake.addTimeout(patience, self._reactor, onTimeoutCancel=lambda _, __: None)
        watch = None
        if self._rest_read and self._has_room:
            watch = Deferred.fromCoroutine(self._watch(patience))
        try:
            await self._wake
        finally:
            self._wake = None
            if watch is not None:
                watch.cancel()

    async def _watch(self, seconds: float) -> None:
        try:
            if await self._feed.wait(self._newest, seconds):
                self.nudge()
        except CancelledError:
            pass

    # -- one delivery --------------------------------------------------------------------

    async def _fly(self, lanes: Lanes, one: Waiting) -> None:
        outcome = await self._deliver(lanes, one)
        if outcome is not None:
            self.counts["taken" if outcome.taken else "failed"] += 1
        if lanes is not self._lanes:
            return  # another daemon may be at it
        if outcome is None:
            lanes.settled(one, taken=False)
            self._settled.append(one.id)
            self._lost += 1
        elif outcome.taken:
            lanes.settled(one)
            self._settled.append(one.id)
            self.last_trouble = ""
        else:
            await self._refused(lanes, one, outcome)
        self.nudge()

    async def _deliver(self, lanes: Lanes, one: Waiting) -> Outcome | None:
        event = one.event
        if event is None:
            try:
                event = await self._deliveries.again(one.id)
            except StoreUnavailable as error:
                return Outcome(str(error))
            if event is None:
                return None
            lanes.load(one, event)
        return await self.post.deliver(event)

    async def _refused(self, lanes: Lanes, one: Waiting, outcome: Outcome) -> None:
        now = self._reactor.seconds()
        self.last_trouble = outcome.reason
        if now - self._logged_at >= LOG_EVERY:
            self._logged_at = now
            log.warn(
                "webhook {name}: event {id} was not taken: {reason}; it is tried again",
                name=self.target.name,
                id=one.id,
                reason=outcome.reason,
            )
        if not one.attempts:
            one.refused_at = now
        # An event may be of a clock that was ahead.
        age = max(self._wall() - int(one.id.partition("-")[0]) / 1000, now - one.refused_at)
        if age < self.target.keep_trying and not outcome.hopeless:
            if outcome.wait:
                with contextlib.suppress(StoreUnavailable):  # then it will be asked once more
                    await self._deliveries.postpone(self.target.name, outcome.wait)
            lanes.failed(one, now, outcome.wait)
            return
        try:
            await self._deliveries.bury(self.target.name, one.id, outcome.reason, one.attempts + 1)
        except StoreUnavailable:
            lanes.failed(one, now, outcome.wait)
            return
        lanes.settled(one, taken=False)

    @staticmethod
    def _stopped(failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            log.failure("a webhook's sender failed", failure)
