"""A connection to a site in memory: bytes in, responses out, time by hand."""

import http.client
import io
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(ITCPTransport)
class Transport(StringTransport):
    """A TCP transport that remembers how it was ended."""

    half_closed = False
    aborted = False

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    @property
    def ended(self) -> bool:
        return self.half_closed or self.disconnecting


@attrs.frozen
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """One client's connection."""

    def __init__(self, site: Any, host: str = "192.0.2.1") -> None:
        address = IPv4Address("TCP", host, 40000)
        self.transport = Transport(peerAddress=address)
        self.channel = site.buildProtocol(address)
        if self.channel is not None:
            self.channel.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.channel.dataReceived(data)

    def replies(self, *methods: str) -> list[Reply]:
        """Take what was answered since the last time; ``methods`` if one was a HEAD."""
        raw = self.transport.value()
        self.transport.clear()
        stream = io.BytesIO(raw)
        replies = []
        while stream.tell() < len(raw):
            method = methods[len(replies)] if methods else "PUT"
            response = http.client.HTTPResponse(_Socket(stream), method=method)
            response.begin()
            headers = {name.lower(): value for name, value in response.getheaders()}
            replies.append(Reply(response.status, headers, response.read()))
        return replies

    def lose(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        """Send one whole request, return its answer."""
        self.send(request(method, path, body, **headers))
        (reply,) = self.replies(method)
        return reply


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """Spell a request; header names with ``_`` for ``-``."""
    lines = [f"{method} {path} HTTP/1.1", "Host: mdm.example.org", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class _Socket:
    """What http.client wants: it takes the stream as it is, read so far."""

    def __init__(self, stream: io.BytesIO) -> None:
        self._stream = stream

    def makefile(self, *_: object) -> Any:
        return _Unclosed(self._stream)


class _Unclosed:
    def __init__(self, stream: io.BytesIO) -> None:
        self._stream = stream

    def close(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
