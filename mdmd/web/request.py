"""A request that was read whole, as :mod:`mdmd.web.channel` gives it to the site's resource."""

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from twisted.web.http import parse_qs

from mdmd.web.http1 import Head

if TYPE_CHECKING:
    from mdmd.web.channel import Channel

Pieces = Generator[bytes, None, None]


class Renders(Protocol):
    """What a site is made of: the one resource that reads the path itself."""

    def render(self, request: "LimitedRequest") -> object:
        """Begin to answer; the answer comes by :meth:`LimitedRequest.reply`."""


class Headers:
    """The headers of a request, asked for as twisted.web asks."""

    def __init__(self, values: Mapping[bytes, list[bytes]]) -> None:
        self._values = values

    def getRawHeaders(self, name: bytes, default: Sequence[bytes] = ()) -> Sequence[bytes]:
        """Give the values of a header in order."""
        return self._values.get(name.lower(), default)


class LimitedRequest:
    """
    A whole request: its body is in memory, and never parsed as a form.

    :ivar channel: None once the client is gone.
    :ivar path: the target without its query.
    :ivar query: what is behind the question mark.
    """

    def __init__(self, channel: "Channel", head: Head, body: bytes) -> None:
        self.channel: Channel | None = channel
        self.client = channel.peer
        self.method = head.method
        self.path, _, self.query = head.target.partition(b"?")
        self.requestHeaders = Headers(head.headers)
        self.body = body
        self._certificate = channel.peer_certificate

    @property
    def args(self) -> dict[bytes, list[bytes]]:
        """The query, names to values."""
        found: dict[bytes, list[bytes]] = parse_qs(self.query, keep_blank_values=True)  # type: ignore[no-untyped-call]
        return found

    def getClientAddress(self) -> object:
        """Give the address of the other end of the connection."""
        return self.client

    def peer_certificate(self) -> bytes | None:
        """Give the TLS client certificate, DER, unchecked; None if none was shown."""
        return self._certificate()

    def reply(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Answer, once; Content-Length and Connection are added."""
        if self.channel is not None:
            self.channel.reply(self, status, headers, body)

    def stream(
        self, status: int, headers: Sequence[tuple[bytes, bytes]], size: int, pieces: Pieces
    ) -> None:
        """Answer, once, with ``size`` bytes that come in pieces; they are closed at the end."""
        if self.channel is None:
            pieces.close()
        else:
            self.channel.stream(self, status, headers, size, pieces)
