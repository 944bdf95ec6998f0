"""What a line prints, on its way to somebody's terminal: at the terminal's pace, and bounded."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.task import deferLater

AT_ONCE = 4 << 20  # characters that a line may print while it holds the reactor
_UNREAD = 1 << 20  # bytes that may wait for the terminal
_LOOK = 0.05  # seconds until it is looked again


class Outlet:
    """
    Where one session prints to.

    Nothing can go out while a line holds the reactor, so it is kept until it lets go.

    :param write: takes what is printed.
    :param unread: counts the bytes that the terminal has not taken yet.
    :param clock: an IReactorTime.
    """

    def __init__(self, write: Callable[[str], None], unread: Callable[[], int], clock: Any) -> None:
        self._write = write
        self._unread = unread
        self._clock = clock
        self._held: list[str] | None = None
        self._size = 0

    def print(self, text: str) -> None:
        """
        Print something.

        :raises RuntimeError: it was too much, and none of it could go out yet.
        """
        if self._held is None:
            self._write(text)
            return
        self._size += len(text)
        if self._size > AT_ONCE:
            raise RuntimeError(
                f"printed more than {AT_ONCE:,} characters at once; await something in between"
            )
        self._held.append(text)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Keep what is printed until the reactor is free again."""
        self._held, self._size = [], 0
        try:
            yield
        finally:
            held, self._held = self._held, None
            if held:
                self._write("".join(held))

    @property
    def is_full(self) -> bool:
        """Say whether the terminal is behind."""
        return self._unread() > _UNREAD

    async def drained(self) -> None:
        """Wait until the terminal has taken most of it."""
        while self.is_full:
            await deferLater(self._clock, _LOOK)
