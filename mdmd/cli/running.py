"""Run one coroutine under the reactor, and let it end properly whatever happens."""

import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from mdmd.errors import MdmdError

Story = Callable[[Any], Coroutine[Any, Any, int]]  # takes the reactor, returns the exit status


class _Run:
    """The one run of a process."""

    def __init__(self, reactor: Any, name: str, story: Story) -> None:
        self._reactor = reactor
        self._name = name
        self._story = story
        self._told: Deferred[None] | None = None
        self._signal = 0
        self.status = 1

    def go(self) -> None:
        """Begin, and end the reactor when it is over; a signal cancels it and waits for it."""
        # Instead of the reactor's own, which would stop it at once; it keeps SIGCHLD.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, self._interrupt)
        self._told = Deferred.fromCoroutine(self._tell())

    async def _tell(self) -> None:
        try:
            self.status = await self._story(self._reactor)
        except CancelledError:
            self.status = 0
        except MdmdError as error:
            sys.stderr.write(f"{self._name}: {error}\n")
        except Exception:
            sys.stderr.write(f"{self._name}: a bug\n{traceback.format_exc()}")
        finally:
            self._reactor.stop()

    def _interrupt(self, number: int, _: object) -> None:
        if self._signal:
            return  # it is ending
        self._signal = number
        self._reactor.callFromThread(self._cancel)

    def _cancel(self) -> None:
        if self._told is not None:
            self._told.cancel()


def run(name: str, story: Story) -> int:
    """
    Run a coroutine to its end and return the exit status it returns.

    SIGINT, SIGTERM, SIGHUP and SIGQUIT cancel it, once; its ``finally`` parts are waited for.

    :param name: of the command, for messages.
    """
    from twisted.internet import reactor

    running: Any = reactor
    this = _Run(running, name, story)
    running.callWhenRunning(this.go)
    running.run()
    return this.status
