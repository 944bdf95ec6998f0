"""
A TCP port that takes new connections no faster than they can be served.

Twisted accepts whatever waits before it serves what it has, so that twice the
load that can be served makes everybody wait. Here each turn of the event loop
takes a few; the others wait in the kernel. A burst, such as a fleet that was just
pushed, is served from there. When there has been no end of them for ``PATIENCE``
seconds it is no burst: from then on, until nobody waits any more, all are hung up
on whenever more than ``FEW`` would have to wait longer than ``WAIT``, before TLS
has cost anything. Devices come again by themselves, and those who are in keep their answer
times.
"""

import socket
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.tcp import Port
from twisted.logger import Logger

from mdmd.config.endpoints import endpoint_values

log = Logger()

A_TURN = 8  # connections taken in one turn of the event loop
PATIENCE = 2.0  # seconds without a turn in which fewer waited
WAIT = 0.25  # seconds, by how many wait and how many were taken in a second
FEW = 64  # may wait, however long it takes
BACKLOG = 4096  # connections that may wait in the kernel; what Linux allows at most


class GentlePort(Port):
    """
    A listening port like that.

    :param shared: let others listen on the same port (SO_REUSEPORT); the kernel
        spreads the connections.
    :param turned_away: is told how many were hung up on.
    :param seconds: the time.
    """

    def __init__(
        self,
        *of_port: Any,
        shared: bool,
        turned_away: Callable[[int], object],
        seconds: Callable[[], float],
    ) -> None:
        self._shared = shared
        self._turned_away = turned_away
        self._seconds = seconds
        self._full_since: float | None = None
        self._taken = 0  # since then
        self._told = float("-inf")
        super().__init__(*of_port)

    @property
    def numberAccepts(self) -> int:
        """How many are taken in a turn."""
        return A_TURN

    @numberAccepts.setter
    def numberAccepts(self, wanted: int) -> None:
        # Twisted says what it would like next: more only if it got all it could.
        if wanted <= A_TURN:
            self._full_since = None
            return
        if self._full_since is None:
            self._full_since, self._taken = self._seconds(), 0
        self._taken += A_TURN

    def doRead(self) -> None:
        """Take a few; see to the others if there is no end of them."""
        super().doRead()  # type: ignore[no-untyped-call]
        if self._full_since is None:
            return
        full = self._seconds() - self._full_since
        if full >= PATIENCE and self._waiting() > max(FEW, WAIT * self._taken / full):
            self._hang_up_on_the_rest()

    def _waiting(self) -> int:
        """Say how many wait in the kernel."""
        try:
            info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
        except (AttributeError, OSError):
            return 0  # not Linux
        return int.from_bytes(info[24:28], sys.byteorder)  # tcpi_unacked of a listening socket

    def _hang_up_on_the_rest(self) -> None:
        count = 0
        while count < BACKLOG:
            try:
                waiting, _ = self.socket.accept()
            except OSError:  # nobody is left, or there are no descriptors: the next turn says
                break
            waiting.close()
            count += 1
        self._turned_away(count)
        if count and self._seconds() - self._told >= 1:
            self._told = self._seconds()
            log.warn("more connections than can be served: {count} turned away", count=count)

    def createInternetSocket(self) -> socket.socket:
        """Make the socket."""
        made: socket.socket = super().createInternetSocket()  # type: ignore[no-untyped-call]
        if self._shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return made


class GentleEndpoint:
    """
    An endpoint of such a port.

    :param text: an endpoint string that begins with ``tcp:`` or ``tcp6:``.
    """

    def __init__(
        self, reactor: Any, text: str, shared: bool, turned_away: Callable[[int], object]
    ) -> None:
        prefix, self._values = endpoint_values(text)
        self._reactor = reactor
        self._anywhere = "::" if prefix == "tcp6" else ""
        self._shared = shared
        self._turned_away = turned_away

    def listen(self, factory: Any) -> "Deferred[GentlePort]":
        """Open the port."""
        return execute(self._listen, factory)

    def _listen(self, factory: Any) -> GentlePort:
        values, reactor = self._values, self._reactor
        interface = values.get("interface", self._anywhere)
        backlog = int(values.get("backlog", BACKLOG))
        port = GentlePort(
            *(int(values["port"]), factory, backlog, interface, reactor),
            shared=self._shared,
            turned_away=self._turned_away,
            seconds=reactor.seconds,
        )
        port.startListening()
        return port
