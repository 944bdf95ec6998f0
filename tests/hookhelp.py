"""A webhook's target in this process: it records what it gets, and misbehaves as told."""

import json
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

Behaviour = Callable[[Request, dict[str, Any]], object]


def answer(status: int = 200, **headers: str) -> Behaviour:
    """Answer with a status."""

    def behave(request: Request, _: dict[str, Any]) -> bytes:
        request.setResponseCode(status)
        for name, value in headers.items():
            request.setHeader(name.replace("_", "-"), value)
        return b"thanks"

    return behave


def silence(request: Request, _: dict[str, Any]) -> object:
    """Never answer."""
    return NOT_DONE_YET


def hang_up(request: Request, _: dict[str, Any]) -> object:
    """Close instead of an answer."""
    request.transport.abortConnection()
    return NOT_DONE_YET


def babble(request: Request, _: dict[str, Any]) -> object:
    """Answer 200 and a body without an end."""
    gone: list[bool] = []
    request.notifyFinish().addBoth(lambda _: gone.append(True))

    def more() -> None:
        if not gone:
            request.write(b"x" * 8192)
            reactor.callLater(0, more)

    more()
    return NOT_DONE_YET


class Rude(Protocol):
    """
    A target that says one thing over and over to whoever asks, as long as somebody listens.

    :ivar begin: what it says first.
    :ivar again: what it then repeats; b"": nothing, and it waits.
    """

    begin = b"HTTP/1.1 200 OK\r\n"
    again = b"X-More: " + b"y" * 1000 + b"\r\n"
    said = 0  # bytes

    def dataReceived(self, data: bytes) -> None:
        """Begin, once."""
        if not self.said:
            self._say(self.begin)
            if self.again:
                self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        """Go on."""
        self._say(self.again * 50)

    def stopProducing(self) -> None:
        """Nobody listens any more."""

    def _say(self, words: bytes) -> None:
        Rude.said += len(words)
        self.transport.write(words)

    @classmethod
    def listen(cls) -> Any:
        """Open a port."""
        cls.said = 0
        return reactor.listenTCP(0, Factory.forProtocol(cls), interface="127.0.0.1")


def dawdle(request: Request, _: dict[str, Any]) -> object:
    """Answer 200, and then a body that does not come."""
    request.setHeader("Content-Length", "10")
    request.write(b"x")
    return NOT_DONE_YET


class Target(Resource):
    """
    The target.

    :ivar behaviour: what it does with the next requests.
    :ivar got: (event, headers) of all that it took with 200.
    :ivar asked: the same of all that came.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.behaviour: Behaviour = answer()
        self.got: list[dict[str, Any]] = []
        self.asked: list[tuple[dict[str, Any], dict[str, str], bytes]] = []
        self._port: Any = None

    def render(self, request: Request) -> Any:
        """Take one request."""
        body = request.content.read()
        event = json.loads(body)
        headers = {
            k.decode().lower(): v[0].decode() for k, v in request.requestHeaders.getAllRawHeaders()
        }
        self.asked.append((event, headers, body))
        result = self.behaviour(request, event)
        if request.code == 200 and isinstance(result, bytes):
            self.got.append(event)
        return result

    def listen(self, context: Any = None) -> int:
        """Open a port."""
        site = Site(self)
        if context is None:
            self._port = reactor.listenTCP(0, site, interface="127.0.0.1")
        else:
            self._port = reactor.listenSSL(0, site, context, interface="127.0.0.1")
        return int(self._port.getHost().port)

    async def close(self) -> None:
        """Close it, whoever is still connected."""
        await self._port.stopListening()

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait for something to become true; the test's time-out is the limit."""
        while not done():
            await deferLater(reactor, 0.01)


def later(coroutine: Any) -> "Deferred[Any]":
    """Run it beside the test."""
    return Deferred.fromCoroutine(coroutine)
