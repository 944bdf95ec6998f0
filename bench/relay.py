"""A stretch of road: a TCP relay that lets all bytes wait. ``bench.relay PORT SECONDS``."""

import json
import sys
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol

reactor: Any = installed_reactor


class End(Protocol):
    """One end of it; what comes in here goes out at the other one, later."""

    other: "End | None" = None

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._early: list[bytes] = []

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
        else:
            reactor.callLater(self._delay, self.other.transport.write, data)

    def join(self, other: "End") -> None:
        self.other = other
        for data in self._early:
            self.dataReceived(data)

    def connectionLost(self, reason: object = None) -> None:
        if self.other is not None:
            self.other.transport.loseConnection()


class Road(Factory):
    """Each connection goes on to the given port of loopback."""

    def __init__(self, port: int, delay: float) -> None:
        self._to = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        self._delay = delay

    def buildProtocol(self, addr: object) -> End:
        near, far = End(self._delay), End(self._delay)
        far.join(near)
        self._to.connect(Factory.forProtocol(lambda: far)).addCallback(near.join)
        return near


def main() -> None:
    """Run until killed; say the port in a line of JSON."""
    road = Road(int(sys.argv[1]), float(sys.argv[2]))

    def ready(port: Any) -> None:
        print(json.dumps({"port": port.getHost().port}), flush=True)

    TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(road).addCallback(ready)
    reactor.run()


if __name__ == "__main__":
    main()
