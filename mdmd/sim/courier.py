"""
The last mile: from the stand-in for Apple's push service to simulated devices.

Apple's devices keep a connection of their own to Apple for it. Here, a fleet in
another process connects to the courier and is told of every push, one JSON
object a line: ``{"token": hex, "magic": text}``.
"""

import json
from collections.abc import Callable
from typing import Any

from twisted.application.internet import ClientService
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from mdmd.sim.apns import Push

Woken = Callable[[bytes, str], object]  # with token and magic

_BACKLOG = 16 << 20  # bytes that a listener may be behind


class Courier(Factory):
    """Tells everybody who listens of each push."""

    noisy = False

    def __init__(self) -> None:
        self.listeners: set[_Listener] = set()

    def buildProtocol(self, _: object) -> "_Listener":
        """Take a listener."""
        return _Listener(self)

    def pushed(self, push: Push) -> None:
        """Pass a push on."""
        line = json.dumps({"token": push.token.hex(), "magic": push.magic}).encode() + b"\n"
        for each in list(self.listeners):
            each.tell(line)

    def cut(self) -> None:
        """Let all listeners go."""
        for each in list(self.listeners):
            each.transport.abortConnection()


class _Listener(Protocol):
    """One who listens; one who does not keep up is let go before it fills the memory."""

    transport: Any

    def __init__(self, courier: Courier) -> None:
        self._courier = courier
        self._behind: list[bytes] | None = None  # None: it keeps up
        self._held = 0

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, streaming=True)
        self._courier.listeners.add(self)

    def connectionLost(self, _: Failure | None = None) -> None:
        self._courier.listeners.discard(self)

    def tell(self, line: bytes) -> None:
        if self._behind is None:
            self.transport.write(line)
            return
        self._behind.append(line)
        self._held += len(line)
        if self._held > _BACKLOG:
            self.transport.abortConnection()

    def pauseProducing(self) -> None:
        self._behind = self._behind or []

    def resumeProducing(self) -> None:
        behind, self._behind, self._held = self._behind or [], None, 0
        self.transport.write(b"".join(behind))

    def stopProducing(self) -> None:
        self.transport.unregisterProducer()


class _Reader(LineReceiver):
    transport: Any
    delimiter = b"\n"

    def __init__(self, woken: Woken) -> None:
        self._woken = woken

    def lineReceived(self, line: bytes) -> None:
        try:
            push = json.loads(line)
            token, magic = bytes.fromhex(push["token"]), str(push["magic"])
        except (ValueError, KeyError, TypeError):
            self.transport.loseConnection()  # not a courier
            return
        self._woken(token, magic)


class _ReaderFactory(Factory):
    noisy = False

    def __init__(self, woken: Woken) -> None:
        self._woken = woken

    def buildProtocol(self, _: object) -> _Reader:
        return _Reader(self._woken)


def listen_to_courier(reactor: Any, host: str, port: int, woken: Woken) -> ClientService:
    """Make the service that keeps connected to a courier; start it to begin."""
    endpoint: Any = HostnameEndpoint(reactor, host, port)
    factory: Any = _ReaderFactory(woken)
    return ClientService(endpoint, factory)
