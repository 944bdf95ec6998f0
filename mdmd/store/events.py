"""The event stream: everything that happened, in order, replayable from an id."""

from collections.abc import Callable, Mapping

import attrs
from twisted.logger import Logger

from mdmd.errors import BadMessage, StoreCorrupt
from mdmd.interfaces.fleet import Event
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.store import keys
from mdmd.store.subject import Tools, Word

log = Logger()

_DROPPED_AT_ONCE = 10_000  # events, some milliseconds

Wants = Callable[[str, Mapping[str, str]], bool]


@attrs.frozen
class Events:
    """Read what the scripts wrote, or write what stands for itself."""

    _tools: Tools

    async def read(
        self, after: str = "0", limit: int = 100, wants: Wants | None = None
    ) -> list[Event]:
        """
        Read events after a stream id ("0": from the oldest that is kept), oldest first.

        :param wants: says by topic and facts whose message is read; None: all.
        """
        entries = await self._tools.link.call(
            "XRANGE", keys.EVENTS, f"({after}", "+", "COUNT", limit
        )
        return [self.event(at, fields, wants) for at, fields in entries]

    async def newest(self) -> str:
        """Say the id of the newest event, "0" if there is none."""
        entries = await self._tools.link.call("XREVRANGE", keys.EVENTS, "+", "-", "COUNT", 1)
        return entries[0][0].decode() if entries else "0"

    async def drop_old(self) -> int:
        """
        Drop some of what is older than is kept, and say how many those were.

        A script that writes an event drops old ones too, but in whole blocks, and where
        nothing happens nobody writes.
        """
        settings = self._tools.settings
        oldest = int((self._tools.clock.seconds() - settings.events_age) * 1000)
        if oldest <= 0:
            return 0
        trim = ("XTRIM", keys.EVENTS, "MINID")
        dropped = await self._tools.link.call(*trim, "~", oldest, "LIMIT", _DROPPED_AT_ONCE)
        return int(dropped or await self._tools.link.call(*trim, "=", oldest))

    async def tell(self, topic: str, enrollment: EnrollmentID | None, **facts: str) -> None:
        """Write an event of ours that goes with no change of the store; no secrets in it."""
        who = "" if enrollment is None else str(enrollment)
        words: list[Word] = [word for fact in facts.items() for word in fact]
        await self._tools.change("tell", (), (topic, who, "", *words))

    def event(self, at: bytes, fields: list[bytes], wants: Wants | None = None) -> Event:
        """
        Read one entry of the stream, with its message if that is wanted.

        One whose message can't be read is told as damaged: nobody who follows the stream is
        held up by it.
        """
        it = dict(zip(fields[::2], fields[1::2], strict=True))
        topic, who, raw = it.pop(b"topic"), it.pop(b"id").decode(), it.pop(b"raw")
        facts = {name.decode(): value.decode("utf-8", "replace") for name, value in it.items()}
        wanted = raw if wants is None or wants(topic.decode(), facts) else b""
        message = self._message(at, who, wanted)
        return Event(at.decode(), topic.decode(), who, facts, message or b"", message is None)

    def _message(self, at: bytes, who: str, sealed: bytes) -> bytes | None:
        if not sealed:
            return b""
        try:
            return self._tools.payloads.unseal(sealed, keys.payload_place(EnrollmentID.parse(who)))
        except (StoreCorrupt, BadMessage) as error:
            words = "the message of event {event} of {enrollment} can't be read: {why}"
            log.error(words, event=at.decode(), enrollment=who, why=str(error))
            return None
