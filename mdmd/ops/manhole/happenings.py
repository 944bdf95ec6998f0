"""What happens, and how much of it is logged: ``events`` and ``log`` in the manhole."""

from collections.abc import Callable
from typing import Any

from mdmd.errors import BadRequest
from mdmd.ops.desk import Desk
from mdmd.ops.manhole.interpreter import Answer
from mdmd.ops.manhole.look import Rows, event_line
from mdmd.ops.manhole.names import Call
from mdmd.ops.records import event
from mdmd.ops.subscription import Filter


class Events(Answer):
    """
    What happens. ``events`` alone: the last ones; ``events.tail()`` prints them as they come.

    ``events.tail("C02…")`` follows one device, ``events.tail(topics=["mdm.Connect"])`` a topic.
    """

    def __init__(self, desk: Desk, call: Call, write: Callable[[str], None]) -> None:
        super().__init__(self._last, "events")
        self._desk = desk
        self._call = call
        self._write = write

    async def _last(self, count: int = 20) -> Rows:
        hour_ago = f"{max(0, self._desk.now() - 3_600_000)}-0"
        found: list[Any] = []
        after = hour_ago
        for _ in range(50):
            page = await self._call("events.page", after=after, limit=1000)
            found = [*found, *page][-count:]
            if len(page) < 1000:
                break
            after = page[-1]["id"]
        return Rows(found, {"THE LAST HOUR": event_line}, "nothing happened within the last hour")

    def tail(self, id: str = "", topics: list[str] | None = None) -> Answer:
        """Print events as they come, until Ctrl-C."""
        return Answer(lambda: self._tail(id, tuple(topics or ())), "prints events")

    async def _tail(self, id: str, topics: tuple[str, ...]) -> None:
        if id:
            found = await self._call("enrollments.find", text=id)
            id = found or id
        wanted = Filter(id, topics)
        self._write("events as they come; Ctrl-C ends it\n")
        after = await self._desk.fleet.newest_event()
        while True:
            page = await self._desk.tail.take(after)
            for each in page:
                if wanted.fits(each):
                    self._write(event_line(event(each, raw=False)) + "\n")
            after = page[-1].id


class Log:
    """How much is logged: ``log.level("apns", "debug")``; "" means everything."""

    def __init__(self, set_level: Callable[[str, str], None]) -> None:
        self._set_level = set_level

    def level(self, room: str, level: str) -> None:
        """Log more or less of one part from now on: debug, info, warn, error or critical."""
        try:
            self._set_level(room, level)
        except ValueError as error:
            raise BadRequest(str(error)) from None

    def __repr__(self) -> str:
        return '<log.level("apns", "debug") logs more of one part>'
