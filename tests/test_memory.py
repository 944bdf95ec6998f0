"""What many connections took is given back."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mdmd.assembly.memory import WAVE, Ebb, release_memory
from mdmd.web.channel import Channel, Limits
from mdmd.web.limited import LimitedSite


class Nothing:
    """A site's resource that nobody asks."""

    def render(self, request: object) -> None:
        raise AssertionError(request)


class EbbTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = LimitedSite(Nothing(), Clock(), Limits())
        self.released: list[int] = []
        self.ebb = Ebb(self.site, lambda: self.released.append(len(self.site.channels)))

    def come(self, number: int) -> None:
        for _ in range(number):
            self.site.came(Channel(self.site, None))

    def leave(self, number: int) -> None:
        for _ in range(number):
            self.site.left(self.site.channels.pop())

    def look(self) -> list[int]:
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(self.ebb.look())), 0)
        return self.released

    def test_wave(self) -> None:
        """Once, when it is over, however short it was; again after the next."""
        self.come(2 * WAVE)
        self.assertEqual(self.look(), [])
        self.leave(2 * WAVE - 20)
        self.assertEqual(self.look(), [20])
        self.assertEqual(self.look(), [20])
        self.come(WAVE)
        self.leave(WAVE)
        self.assertEqual(self.look(), [20, 20])

    def test_everyday(self) -> None:
        """Some connections more or less are nothing to act on."""
        for _ in range(3):
            self.come(WAVE - 1)
            self.leave(WAVE - 1)
            self.assertEqual(self.look(), [])

    def test_release(self) -> None:
        """It can be called whatever the C library."""
        release_memory()
