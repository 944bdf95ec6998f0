"""
HTTP/1.1 requests out of bytes: strict, for a server that sits behind nothing.

Where a request ends is beyond doubt, or it is refused: one Content-Length of
digits only, or ``Transfer-Encoding: chunked`` and nothing else; lines end with
CRLF; no folded headers. No sockets, no time: :mod:`mdmd.web.channel` has those.

Source: RFC 9112.
"""

import re
from collections.abc import Callable

import attrs

MAX_LINE = 16_384  # bytes; SCEP by GET has its message in the request line
MAX_FIELDS = 16_384  # bytes of all headers together
MAX_HEADERS = 100
_LENGTH_DIGITS = 18  # of a Content-Length; int() of thousands of them raises
_CHUNK_LINE = 1024  # bytes of a chunk's size and extensions, or of a trailer
_TRAILERS = 16

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb"{1,32}) ([\x21-\x7e]+) HTTP/1\.([01])\r\n")
_ABSOLUTE = re.compile(rb"https?://([^/?#@]+)((?:[/?][^#]*)?)", re.IGNORECASE)
_HEADER = re.compile(rb"(" + _TOKEN + rb"+):[ \t]*([^\r\n\x00]*)\r\n")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[^\r\n\x00]*)?", re.ASCII)


class MalformedError(Exception):
    """It is no request that we take; the text says why, in a few words for its sender."""


class OversizedError(Exception):
    """Its body is larger than the limit."""


@attrs.frozen
class Head:
    """
    A request but for its body.

    :ivar target: path and query, whatever form it came in; or ``*``, or host and port.
    :ivar headers: by lower-case name; the values in order.
    :ivar length: of the body; None if it comes in chunks.
    :ivar persistent: whether the connection may stay open after it.
    :ivar waits: the client wants to hear 100 Continue before it sends the body.
    """

    method: bytes
    target: bytes
    version: bytes  # b"1" of HTTP/1.1, b"0"
    headers: dict[bytes, list[bytes]]
    length: int | None
    persistent: bool
    waits: bool


def _no_larger(head: Head) -> int:
    return 0


class Reader:
    """
    The bytes of one connection, cut into requests.

    :param limit: bytes of a body.
    :param line: bytes of the request line.
    :param larger: says the limit for a body that may be beyond it; asked only then.
    """

    def __init__(
        self, limit: int, line: int = MAX_LINE, larger: Callable[[Head], int] = _no_larger
    ) -> None:
        self._limit = limit
        self._larger = larger
        self._line = line
        self._buffer = bytearray()
        self._chunks: _Chunks | None = None
        self.head: Head | None = None  # of the request that is being read

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        self._buffer += data

    def close(self) -> None:
        """Forget what was not read, and whom to ask: there will be no more."""
        self._buffer.clear()
        self._larger = _no_larger

    @property
    def pending(self) -> int:
        """Count the bytes that belong to no request yet."""
        return len(self._buffer)

    def read_head(self) -> Head | None:
        """
        Read the head of the next request, None while it is not all there.

        :raises MalformedError: as soon as it can be known.
        :raises OversizedError: the body would be.
        """
        buffer = self._buffer
        # A client may send an empty line too many after a body.
        while buffer.startswith(b"\r\n"):
            del buffer[:2]
        end = buffer.find(b"\r\n\r\n", 0, self._line + MAX_FIELDS)
        if end < 0:
            self._may_still_be_one()
            return None
        if buffer.find(b"\r\n") > self._line:
            raise MalformedError("header too long")
        head = _head(bytes(buffer[: end + 2]))
        limit = self._limit
        if head.length is None or head.length > limit:
            limit = max(limit, self._larger(head))
        self.head = head
        if head.length is not None and head.length > limit:
            raise OversizedError
        del buffer[: end + 4]
        self._chunks = _Chunks(limit) if head.length is None else None
        return head

    def read_body(self) -> bytes | None:
        """
        Read the body of the head just read, None while it is not all there.

        :raises MalformedError: chunks that are none.
        :raises OversizedError: it has grown beyond the limit.
        """
        buffer = self._buffer
        if self._chunks is not None:
            body = self._chunks.read(buffer)
        else:
            assert self.head is not None
            assert self.head.length is not None
            length = self.head.length
            if len(buffer) < length:
                return None
            body = bytes(buffer[:length])
            del buffer[:length]
        if body is not None:
            self.head = self._chunks = None
        return body

    def _may_still_be_one(self) -> None:
        buffer = self._buffer
        line = buffer.find(b"\r\n")
        if (len(buffer) if line < 0 else line) > self._line or (
            len(buffer) >= self._line + MAX_FIELDS
        ):
            raise MalformedError("header too long")
        if line >= 0 and not _REQUEST_LINE.match(buffer):
            raise MalformedError("bad request")
        if buffer.count(b"\n") > MAX_HEADERS + 1:
            raise MalformedError("too many headers")


def _head(block: bytes) -> Head:
    first = _REQUEST_LINE.match(block)
    if first is None:
        raise MalformedError("bad request")
    method, target, version = first.groups()
    headers: dict[bytes, list[bytes]] = {}
    at, count = first.end(), 0
    while at < len(block):
        header = _HEADER.match(block, at)
        if header is None:
            raise MalformedError("bad request")
        at, count = header.end(), count + 1
        name, value = header.groups()
        headers.setdefault(name.lower(), []).append(value.rstrip(b" \t"))
    if count > MAX_HEADERS:
        raise MalformedError("too many headers")
    hosts = len(headers.get(b"host", ()))
    if hosts > 1 or (not hosts and version == b"1"):
        raise MalformedError("one Host header is needed")
    if not target.startswith(b"/"):
        target = _origin_form(target, headers)
    return Head(
        method,
        target,
        version,
        headers,
        _length(headers, version),
        version == b"1" and b"close" not in _words(headers, b"connection"),
        version == b"1" and b"100-continue" in _words(headers, b"expect"),
    )


def _origin_form(target: bytes, headers: dict[bytes, list[bytes]]) -> bytes:
    """
    Take a target of the absolute form apart: path and query; its host counts, not the header's.

    ``*`` and the authority form stay as they are: there is nothing of that name.
    Source: RFC 9112, sections 3.2.2 and 3.3.
    """
    if b"://" not in target.partition(b"?")[0]:
        return target
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise MalformedError("bad request")
    host, path = found.groups()
    headers[b"host"] = [host]
    return path if path.startswith(b"/") else b"/" + path


def _length(headers: dict[bytes, list[bytes]], version: bytes) -> int | None:
    """Say how long the body is, None if it comes in chunks."""
    coding, lengths = headers.get(b"transfer-encoding"), headers.get(b"content-length")
    if coding is not None:
        if lengths is not None:
            raise MalformedError("both Content-Length and Transfer-Encoding")
        if len(coding) > 1 or coding[0].lower() != b"chunked" or version != b"1":
            raise MalformedError("bad Transfer-Encoding")
        return None
    if lengths is None:
        return 0
    length = lengths[0]
    if len(lengths) > 1 or not length.isdigit() or len(length) > _LENGTH_DIGITS:
        raise MalformedError("bad Content-Length")
    return int(length)


def _words(headers: dict[bytes, list[bytes]], name: bytes) -> list[bytes]:
    values = headers.get(name)
    if values is None:
        return []
    return [word.strip(b" \t").lower() for value in values for word in value.split(b",")]


class _Chunks:
    """A body in chunks; RFC 9112, section 7.1. Extensions and trailers are read and dropped."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._body = bytearray()
        self._left = -1  # bytes of the chunk that are still to come; -1: its size is
        self._trailers = -1  # lines of them so far; -1: there are still chunks

    def read(self, buffer: bytearray) -> bytes | None:
        """Take what is there; the body once it is whole."""
        while True:
            if self._left >= 0:
                if not self._take(buffer):
                    return None
                continue
            line = _line(buffer)
            if line is None:
                return None
            if self._trailers < 0:
                self._begin(line)
            elif not line:
                return bytes(self._body)
            else:
                self._trailers += 1
                if self._trailers > _TRAILERS:
                    raise MalformedError("bad chunk")

    def _begin(self, line: bytes) -> None:
        size = _CHUNK_SIZE.fullmatch(line)
        if size is None:
            raise MalformedError("bad chunk")
        length = int(size[1], 16)
        if len(self._body) + length > self._limit:
            raise OversizedError
        if length:
            self._left = length
        else:
            self._trailers = 0

    def _take(self, buffer: bytearray) -> bool:
        """Take a part of the chunk; True once it, and the CRLF behind it, is all there."""
        part = buffer[: self._left]
        self._body += part
        del buffer[: len(part)]
        self._left -= len(part)
        if self._left or len(buffer) < 2:
            # An end that can't be one is refused now, not when the rest comes.
            if not self._left and buffer and buffer[:1] != b"\r":
                raise MalformedError("bad chunk")
            return False
        if buffer[:2] != b"\r\n":
            raise MalformedError("bad chunk")
        del buffer[:2]
        self._left = -1
        return True


def _line(buffer: bytearray) -> bytes | None:
    end = buffer.find(b"\r\n", 0, _CHUNK_LINE + 2)
    if end < 0:
        if len(buffer) > _CHUNK_LINE:
            raise MalformedError("bad chunk")
        return None
    line = bytes(buffer[:end])
    del buffer[: end + 2]
    if b"\n" in line or b"\r" in line:
        raise MalformedError("bad chunk")
    return line
