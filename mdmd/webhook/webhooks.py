"""All webhooks of a daemon, and what operators ask of them."""

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from mdmd.errors import NotHere
from mdmd.interfaces.fleet import Event
from mdmd.interfaces.webhooks import DeadLetter, IDeliveries, IFeed, Resent, WebhookStanding
from mdmd.webhook.post import Post
from mdmd.webhook.sender import Sender
from mdmd.webhook.target import Target


class Webhooks:
    """
    The senders of all targets; implements :class:`mdmd.interfaces.webhooks.IWebhooks`.

    :param daemon: this daemon's name, unlike that of any other with the same store.
    :param wall: seconds since the epoch, as events have them.
    :raises BadCertificate: a target's CA can't be read.
    """

    def __init__(
        self,
        reactor: Any,
        targets: Sequence[Target],
        deliveries: IDeliveries,
        feed: IFeed,
        daemon: str,
        version: str,
        chance: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._wall = wall
        self._deliveries = deliveries
        self._senders = {
            each.name: Sender(
                *(reactor, each, Post(reactor, each, version, wall), deliveries, feed, daemon),
                *(chance, wall),
            )
            for each in targets
        }

    async def start(self) -> None:
        """Begin to send what happens from now on, and what is left from before."""
        for sender in self._senders.values():
            await sender.start()

    async def stop(self) -> None:
        """End; another daemon may go on."""
        for sender in self._senders.values():
            await sender.stop()

    async def standings(self) -> list[WebhookStanding]:
        """Say how far each target is."""
        return [
            WebhookStanding(
                name,
                _where(each.target.url),
                each.target.topics,
                await self._deliveries.state(name),
                each.last_trouble,
            )
            for name, each in self._senders.items()
        ]

    def counts(self) -> dict[tuple[str, str], int]:
        """Count this daemon's deliveries: (target, "taken" or "failed") to how many."""
        return {
            (name, outcome): count
            for name, each in self._senders.items()
            for outcome, count in each.counts.items()
        }

    async def test(self, name: str) -> str:
        """
        Send an event that says it is a test, now; "" if it was taken, else why not.

        :raises NotHere: no such webhook.
        """
        now = int(self._wall() * 1000)
        event = Event(f"{now}-0", "mdmd.Test", "", {}, b"")
        return (await self._sender(name).post.deliver(event)).reason

    async def dead(self, name: str, after: str, limit: int) -> list[DeadLetter]:
        """
        Read dead letters.

        :raises NotHere: no such webhook.
        """
        return await self._deliveries.dead(self._sender(name).target.name, after, limit)

    async def resend(self, name: str, limit: int) -> Resent:
        """
        Send up to ``limit`` dead letters again, oldest first; those taken are dead no more.

        :raises NotHere: no such webhook.
        """
        sender = self._sender(name)
        taken, failed, trouble = 0, 0, ""
        for letter in await self._deliveries.dead(name, "0", limit):
            outcome = await sender.post.deliver(letter.event)
            if outcome.taken:
                await self._deliveries.exhume(name, letter.id)
                taken += 1
            else:
                failed, trouble = failed + 1, outcome.reason
        return Resent(taken, failed, trouble)

    async def replay(self, name: str, after: str) -> None:
        """
        Send everything after the event ``after`` once more.

        :raises NotHere: no such webhook.
        :raises BadRequest: ``after`` is no event id.
        """
        sender = self._sender(name)
        await self._deliveries.rewind(name, after)
        sender.nudge()

    def _sender(self, name: str) -> Sender:
        if name not in self._senders:
            raise NotHere(f"no webhook named {name[:40]!r} in the configuration")
        return self._senders[name]


def _where(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
