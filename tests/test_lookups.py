"""A DNS that does not answer holds up nobody who needs no name."""

from threading import Event
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import DeferredList
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mdmd.assembly.lookups import look_up_apart


class LookupTests(TestCase):
    """The real reactor, and a DNS that hangs."""

    timeout = 20

    async def test_hangs(self) -> None:
        """However many lookups hang, what else is done in threads is done at once."""
        running: Any = reactor
        back = Event()

        def hangs(*_: object) -> list[Any]:
            back.wait(10)
            return []

        former = running.nameResolver
        self.addCleanup(running.installNameResolver, former)
        look_up_apart(reactor, hangs)
        asked = [running.resolve("mdm.example.org") for _ in range(200)]
        lookups = DeferredList(asked, consumeErrors=True)
        try:
            self.assertEqual(await deferToThread(lambda: "done"), "done")
        finally:
            back.set()
        outcomes = await lookups
        self.assertEqual({well for well, _ in outcomes}, {False})
