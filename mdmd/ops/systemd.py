"""
Tell systemd how the daemon is: ready, reloading, ending, alive.

Without systemd, all of this does nothing.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.task import LoopingCall


@attrs.frozen
class Systemd:
    """
    The way to the service manager.

    :param address: of its socket, "" if there is none; a leading ``@`` is an abstract one.
    :param watchdog: seconds without a sign of life after which it ends us; 0: it does not watch.
    """

    address: str = ""
    watchdog: float = 0.0

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Systemd":
        """Read what systemd put into the environment, and what it did not."""
        watched = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "") if watched else ""
        return cls(
            environment.get("NOTIFY_SOCKET", ""),
            int(microseconds) / 1_000_000 if microseconds.isdigit() else 0.0,
        )

    def ready(self) -> None:
        """Say that everything is there, at first and after each reload."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """Say that the files are being read again."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._tell("STOPPING=1")

    def stay_alive(self, reactor: Any) -> LoopingCall | None:
        """
        Give a sign of life twice in each period.

        It comes from the reactor: one that is stuck gives none, and is restarted.
        """
        if not (self.address and self.watchdog):
            return None
        beat = LoopingCall(self._tell, "WATCHDOG=1")
        beat.clock = reactor
        beat.start(self.watchdog / 2)
        return beat

    def _tell(self, *lines: str) -> None:
        if not self.address:
            return
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        # A manager that does not listen is no reason to end.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
            way.setblocking(False)
            way.sendto("\n".join(lines).encode(), address)
