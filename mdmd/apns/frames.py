"""
HTTP/2 frames as bytes: what there is, how each is written, how settings are read.

Source: RFC 9113, sections 4 and 6.
"""

import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = 9  # bytes before each frame's content
MAX_FRAME = 16384  # the largest that either side may send unless the other allows more
WINDOW = 65535  # of a connection and of each stream, unless told otherwise
MAX_WINDOW = 2**31 - 1
MAX_STREAM = 2**31 - 1

# kind, flags, stream, content without padding, content's size with it
Frame = tuple[int, int, int, bytes, int]

# Plain numbers rather than an enumeration: they are compared for each frame.
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)

END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20


class Setting(IntEnum):
    """Names of settings."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Code(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class Violation(Exception):
    """The peer broke the protocol; the connection has to end with ``code``."""

    def __init__(self, code: Code, what: str) -> None:
        super().__init__(what)
        self.code = code


def name_of(code: int) -> str:
    """Name an error code, also one that nobody knows."""
    return Code(code).name if code in Code._value2member_map_ else f"error {code}"


_HEAD = struct.Struct(">HBBBL")  # a length of 24 bits is 16 and 8


def frame(kind: int, flags: int, stream_id: int, content: bytes) -> bytes:
    """Write a frame."""
    length = len(content)
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream_id) + content


def settings(values: Mapping[Setting, int]) -> bytes:
    """Write a SETTINGS frame."""
    content = b"".join(struct.pack(">HL", *each) for each in values.items())
    return frame(SETTINGS, 0, 0, content)


def rst_stream(stream_id: int, code: Code) -> bytes:
    """Write an RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream_id, struct.pack(">L", code))


def goaway(code: Code) -> bytes:
    """Write a GOAWAY frame; the peer has opened no stream."""
    return frame(GOAWAY, 0, 0, struct.pack(">LL", 0, code))


def window_update(stream_id: int, increment: int) -> bytes:
    """Write a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream_id, struct.pack(">L", increment))


def read_settings(content: bytes) -> Iterator[tuple[int, int]]:
    """
    Read a SETTINGS frame's content, in order.

    :raises Violation: its length or a value is not allowed.
    """
    if len(content) % 6:
        raise Violation(Code.FRAME_SIZE_ERROR, "SETTINGS of an odd length")
    for name, value in struct.iter_unpack(">HL", content):
        if name == Setting.INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise Violation(Code.FLOW_CONTROL_ERROR, "a window too large")
        if name == Setting.MAX_FRAME_SIZE and not MAX_FRAME <= value < 2**24:
            raise Violation(Code.PROTOCOL_ERROR, "a frame size out of range")
        if name == Setting.ENABLE_PUSH and value:
            raise Violation(Code.PROTOCOL_ERROR, "a server that enables push")
        yield name, value


class Reader:
    """
    Cut received bytes into frames.

    A header block comes as one HEADERS frame, whatever number of frames it was.

    :param most: bytes of a header block.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._rest = b""
        self._begun = False  # the first frame, which has to be SETTINGS, has come
        self._block: tuple[int, int, bytes] | None = None  # flags, stream, header block so far

    def read(self, data: bytes) -> Iterator[Frame]:
        """
        Take received bytes, give the frames that are whole; take them all before the next call.

        :raises Violation: they are no frames, or not in an order that is allowed.
        """
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        while size - at >= HEAD:
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if length > MAX_FRAME:
                raise Violation(Code.FRAME_SIZE_ERROR, "a frame longer than we allow")
            begin = at + HEAD
            end = begin + length
            if end > size:
                break
            kind, flags = data[at + 3], data[at + 4]
            stream_id = int.from_bytes(data[at + 5 : begin], "big") & MAX_STREAM
            content = data[begin:end]
            at = end
            if kind > HEADERS or self._block is not None or not self._begun:
                self._check(kind)
                if kind == CONTINUATION:
                    whole = self._continue(flags, stream_id, content)
                    if whole is not None:
                        yield whole
                    continue
            elif flags & (PADDED | HAS_PRIORITY):
                content = unpad(flags if kind == HEADERS else flags & PADDED, content)
            if kind == HEADERS and not flags & END_HEADERS:
                self._block = flags, stream_id, content
                continue
            yield kind, flags, stream_id, content, length
        self._rest = data[at:]

    def _check(self, kind: int) -> None:
        if not self._begun and kind not in (SETTINGS, GOAWAY):
            raise Violation(Code.PROTOCOL_ERROR, "no SETTINGS first")
        self._begun = True
        if (self._block is None) == (kind == CONTINUATION):
            raise Violation(Code.PROTOCOL_ERROR, "a header block cut short, or continued after it")

    def _continue(self, flags: int, stream_id: int, content: bytes) -> Frame | None:
        assert self._block is not None
        first_flags, first_stream, block = self._block
        block += content
        if stream_id != first_stream:
            raise Violation(Code.PROTOCOL_ERROR, "another stream's header block in between")
        if len(block) > self._most:
            raise Violation(Code.ENHANCE_YOUR_CALM, "an endless header block")
        if not flags & END_HEADERS:
            self._block = first_flags, stream_id, block
            return None
        self._block = None
        return HEADERS, first_flags, stream_id, block, len(block)


def unpad(flags: int, content: bytes) -> bytes:
    """
    Take padding and priority off the content of a DATA or HEADERS frame.

    :param flags: HAS_PRIORITY only for HEADERS.
    :raises Violation: there is more padding than content.
    """
    end = len(content)
    start = 0
    if flags & PADDED:
        if not content:
            raise Violation(Code.FRAME_SIZE_ERROR, "a padded frame without a length")
        start, end = 1, end - content[0]
    if flags & HAS_PRIORITY:
        start += 5
    if start > end:
        raise Violation(Code.PROTOCOL_ERROR, "more padding than content")
    return content[start:end]
