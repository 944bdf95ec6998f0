"""
Start in order, stop in reverse, and say so when it can't be.

A plain MultiService stops all its children at once and ignores a Deferred from
startService; here each step waits for the one before, in both directions.
"""

import atexit
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from mdmd.errors import MdmdError

log = Logger()

Serve = Callable[[AsyncExitStack], Awaitable[None]]


@attrs.define
class ExitStatus:
    """
    What the process ends with.

    twistd knows no exit status for a service that fails after the reactor has
    started, so the last thing that Python does at exit sets it.
    """

    value: int = 0

    def __attrs_post_init__(self) -> None:
        atexit.register(self._leave)

    def _leave(self) -> None:
        if self.value:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.value)


class Daemon(Service):
    """
    Everything that runs, as one service.

    :param stop: ends the reactor; what a start that failed comes to.
    :param serve: starts each part and pushes its ending on the stack it is
        given. If it fails or is cancelled, what had been started is ended.
    :param observer: where log events go instead of twistd's own log.
    """

    def __init__(
        self,
        stop: Callable[[], object],
        serve: Serve,
        exit_status: ExitStatus,
        observer: ILogObserver | None = None,
    ) -> None:
        self._stop_reactor = stop
        self._serve = serve
        self._exit_status = exit_status
        self._observer = observer
        self._stack = AsyncExitStack()
        self._starting: Deferred[None] | None = None

    def setServiceParent(self, parent: Any) -> None:
        """Join twistd's application, and tell it where log events go."""
        if self._observer is not None and hasattr(parent, "setComponent"):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """Begin to start; twistd does not wait."""
        super().startService()  # type: ignore[no-untyped-call]
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._failed)

    def stopService(self) -> "Deferred[None]":
        """End what was started, in reverse order; the Deferred fires when all is ended."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._starting is not None:
            self._starting.cancel()
        return Deferred.fromCoroutine(self._stop())

    async def _start(self) -> None:
        await self._serve(self._stack)

    async def _stop(self) -> None:
        try:
            await self._stack.aclose()
        except Exception:
            log.failure("a service did not end cleanly")
            self._exit_status.value = 1
        log.info("mdmd stopped")

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):  # type: ignore[no-untyped-call]
            return
        self._exit_status.value = 1
        if failure.check(MdmdError, OSError, CannotListenError):  # type: ignore[no-untyped-call]
            log.critical("mdmd can't start: {reason}", reason=failure.getErrorMessage())
        else:
            log.failure("mdmd can't start", failure)
        if self.running:  # else it is being stopped anyway
            self._stop_reactor()
