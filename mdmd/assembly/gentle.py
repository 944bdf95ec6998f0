"""
A TCP port that takes new connections no faster than they can be served.

Twisted accepts whatever waits, before it serves what it has: twice the load that
can be served then makes everybody wait. Here each turn of the event loop takes a
few. What is beyond that waits in the kernel, which lets the backlog fill up and
then answers nobody: clients try again by themselves, a second later and then less
and less often, and those who are in keep their answer times.
"""

import socket
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.tcp import Port

from mdmd.config.endpoints import endpoint_values

A_TURN = 8  # connections taken in one turn of the event loop
BACKLOG = 256  # connections that wait in the kernel: a few tenths of a second


class GentlePort(Port):
    """
    A listening port with both.

    :param shared: let others listen on the same port (SO_REUSEPORT); the kernel
        spreads the connections.
    """

    def __init__(self, *of_port: Any, shared: bool) -> None:
        self._shared = shared
        self._accepts = A_TURN
        super().__init__(*of_port)

    @property
    def numberAccepts(self) -> int:
        """How many are taken in a turn; Twisted would let it grow."""
        return self._accepts

    @numberAccepts.setter
    def numberAccepts(self, wanted: int) -> None:
        self._accepts = min(wanted, A_TURN)

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

    def __init__(self, reactor: Any, text: str, shared: bool) -> None:
        prefix, self._values = endpoint_values(text)
        self._reactor = reactor
        self._anywhere = "::" if prefix == "tcp6" else ""
        self._shared = shared

    def listen(self, factory: Any) -> "Deferred[GentlePort]":
        """Open the port."""
        return execute(self._listen, factory)

    def _listen(self, factory: Any) -> GentlePort:
        values = self._values
        interface = values.get("interface", self._anywhere)
        backlog = int(values.get("backlog", BACKLOG))
        port = GentlePort(
            *(int(values["port"]), factory, backlog, interface, self._reactor), shared=self._shared
        )
        port.startListening()
        return port
