"""How far something is that takes long: one line on a terminal, elsewhere a line now and then."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

EVERY = 10.0  # seconds between two lines where nobody looks
_LIVE = 0.1  # seconds, on a terminal


class Progress:
    """
    Tell on stderr, which is nobody's data.

    :param total: how many there are; 0: nobody knows.
    """

    def __init__(
        self,
        total: int,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._out = out or sys.stderr
        self._clock = clock
        self._live = self._out.isatty()
        self._told = clock() - (_LIVE if self._live else 0.0)

    def tell(self, done: int, besides: str = "") -> None:
        """Say how many are done, if it is time to."""
        now = self._clock()
        if now - self._told < (_LIVE if self._live else EVERY):
            return
        self._told = now
        done = min(done, self._total or done)
        of = f" of {self._total:,} ({100 * done // self._total} %)" if self._total else ""
        text = f"{done:,}{of} looked at{besides}"
        self._out.write(f"\r\x1b[K{text} …" if self._live else f"{text}\n")
        self._out.flush()

    def end(self) -> None:
        """Take the line off a terminal."""
        if self._live:
            self._out.write("\r\x1b[K")
            self._out.flush()
