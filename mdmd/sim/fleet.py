"""Many simulated devices at once, to try a server with and to load it."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.task import LoopingCall

from mdmd.errors import MdmdError
from mdmd.sim.device import Device, new_key
from mdmd.sim.hardware import MODELS, make_hardware
from mdmd.sim.manners import Manners
from mdmd.sim.tally import Tally

_POLL_TURNS = 20  # a poll of the fleet is spread over so many moments


@attrs.frozen
class Plan:
    """
    What a fleet is made of.

    :ivar kinds: keys of :data:`~mdmd.sim.hardware.MODELS`, taken in turn.
    :ivar at_once: how many enroll at the same moment.
    :ivar faulty: what share of the devices, 0 to 1, has ``manners``.
    :ivar keys: so many keys are made and shared; making one takes longer than to enroll.
    :ivar poll: seconds after which each device connects unasked; 0: never.
    """

    count: int
    kinds: Sequence[str] = tuple(MODELS)
    seed: str = "mdmd"
    at_once: int = 20
    manners: Manners = attrs.field(factory=Manners)
    faulty: float = 1.0
    keys: int = 16
    poll: float = 0.0


def turns(devices: Sequence[Device]) -> list[Sequence[Device]]:
    """Part the devices of one poll into those that connect at the same moment."""
    number = min(_POLL_TURNS, len(devices))
    return [devices[first::number] for first in range(number)]


class KeyRing:
    """Makes so many keys, then gives them again in turn."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._made: list[rsa.RSAPrivateKey] = []
        self._waiting = 0
        self._turn = itertools.count()

    async def new_key(self, bits: int) -> rsa.RSAPrivateKey:
        """Make a key of ``bits``, or take one that was made before."""
        if self._waiting < self._size or not self._made:
            self._waiting += 1
            self._made.append(await new_key(bits))
            return self._made[-1]
        return self._made[next(self._turn) % len(self._made)]


class Fleet:
    """
    Devices that enroll, and are then there to be pushed.

    :param profile: the enrollment profile, unsigned.
    :param trust: DER of roots to trust if the profile brings none.
    :param progress: told now and then how many are enrolled and how many failed.
    :ivar tally: what happened so far.
    :ivar troubles: what went wrong, in words, and how often.
    """

    def __init__(
        self,
        reactor: Any,
        plan: Plan,
        profile: bytes,
        trust: tuple[bytes, ...] = (),
        progress: Callable[[int, int], object] = lambda *_: None,
    ) -> None:
        self.tally = Tally()
        self.enrolled = self.failed = 0
        self.troubles: dict[str, int] = {}
        self._reactor = reactor
        self._plan = plan
        self._progress = progress
        keys = KeyRing(plan.keys)
        self.devices = [
            Device(
                reactor,
                make_hardware(kind, plan.seed, number),
                profile,
                trust,
                plan.manners if number <= plan.count * plan.faulty else Manners(),
                self._told,
                keys.new_key,
            )
            for number, kind in zip(
                range(1, plan.count + 1), itertools.cycle(plan.kinds), strict=False
            )
        ]
        self._by_token = {device.push.token: device for device in self.devices}
        self._poller = LoopingCall(self._poll)
        self._poller.clock = reactor
        self._turns = turns(self.devices)
        self._turn = itertools.cycle(self._turns)

    async def enroll(self) -> None:
        """Enroll every device; one that fails is counted, and the others go on."""
        room = DeferredSemaphore(self._plan.at_once)
        teller = LoopingCall(lambda: self._progress(self.enrolled, self.failed))
        teller.clock = self._reactor
        teller.start(2.0, now=False)
        try:
            for each in [room.run(self._enroll_one, device) for device in self.devices]:
                await each
        finally:
            teller.stop()
        if self._plan.poll and self._turns:
            self._poller.start(self._plan.poll / len(self._turns))

    def _enroll_one(self, device: Device) -> Deferred[None]:
        return Deferred.fromCoroutine(self._try(device))

    async def _try(self, device: Device) -> None:
        try:
            await device.enroll()
        except CancelledError:
            raise
        except MdmdError as error:
            self.failed += 1
            self._trouble(str(error))
        else:
            self.enrolled += 1

    def woken(self, token: bytes, magic: str) -> None:
        """Pass a push on to the device it is for, if that is one of ours."""
        device = self._by_token.get(token)
        if device is not None:
            device.wake(magic)

    async def close(self) -> None:
        """Switch all of them off."""
        if self._poller.running:
            self._poller.stop()
        for device in self.devices:
            await device.close()

    def _poll(self) -> None:
        for device in next(self._turn):
            if device.enrolled:
                device.connect_soon()

    def _told(self, _: Device, word: str, facts: Mapping[str, Any]) -> None:
        match word:
            case "request":
                self.tally.request(facts["kind"], facts["status"], facts["seconds"])
            case "report":
                self.tally.counts[f"report {facts['status']}"] += 1
            case "trouble":
                self._trouble(str(facts["why"]))
            case _:
                self.tally.counts[word] += 1

    def _trouble(self, why: str) -> None:
        # Bounded: the words of a server are its own affair.
        if why in self.troubles or len(self.troubles) < 50:
            self.troubles[why] = self.troubles.get(why, 0) + 1
