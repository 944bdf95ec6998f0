"""
Header blocks: the one that every request has, and what we want of an answer's.

The requests' block is the same each time but for token and expiration, and uses
no table, so that it is a few bytes joined. Answers: the peer is told to use no
table either; until it does, hpack reads them, and from then on a block is read
here, which is several times cheaper, as only two of its values are of interest.

Source: RFC 7541.
"""

from collections.abc import Iterable

from hpack import Decoder, HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from mdmd.apns.frames import Code, Violation

MAX_BLOCK = 65536  # bytes of one answer's header block
_MOST_NAMES = 256  # spellings of header names that are kept

_STATIC: tuple[tuple[bytes, bytes], ...] = HeaderTable.STATIC_TABLE
_NO_TABLE = b"\x20"  # dynamic table size update: to 0
_POST, _HTTPS = b"\x83", b"\x87"  # ":method: POST", ":scheme: https", from the static table
# Never indexed: what differs from push to push, and a token has no place in a table.
_PATH = b"\x14"  # ":path"
_AUTHORITY = b"\x01"  # ":authority", not indexed
_LITERAL, _NEVER = b"\x00", b"\x10"


class RequestHeaders:
    """
    The header block of each request of a connection.

    :param authority: host, with the port unless it is 443.
    """

    def __init__(self, authority: str, topic: str) -> None:
        self._before = _POST + _HTTPS + _PATH
        self._after = b"".join(
            (
                _AUTHORITY + _text(authority.encode("ascii")),
                _LITERAL + _text(b"apns-topic") + _text(topic.encode("ascii")),
                _LITERAL + _text(b"apns-push-type") + _text(b"mdm"),
                _LITERAL + _text(b"apns-priority") + _text(b"10"),
                _NEVER + _text(b"apns-expiration"),
            )
        )
        self._first = _NO_TABLE

    def block(self, token: bytes, expiration: int) -> bytes:
        """Write one; in the order in which they are sent."""
        path = b"/3/device/" + token.hex().encode()
        block = b"".join(
            (self._first, self._before, _text(path), self._after, _text(b"%d" % expiration))
        )
        self._first = b""
        return block


class AnswerHeaders:
    """Read answers' header blocks, each of them, in order."""

    def __init__(self) -> None:
        self._decoder: Decoder | None = Decoder(MAX_BLOCK)  # None: there is no table any more
        self._names: dict[bytes, bytes] = {}  # by spelling

    def read(self, block: bytes) -> tuple[int, str]:
        """
        Read (status, apns-id); 0 and empty if they are not there.

        :raises Violation: it can't be read.
        """
        try:
            if self._decoder is None:
                return self._read(block)
            found = _pick(self._decoder.decode(block, raw=True))
            if not self._decoder.header_table_size:
                self._decoder = None
            return found
        except (HPACKError, IndexError, ValueError) as error:
            raise Violation(Code.COMPRESSION_ERROR, "a header block that can't be read") from error

    def _read(self, block: bytes) -> tuple[int, str]:
        """Read a block that uses no table."""
        at, end = 0, len(block)
        status, apns_id = 0, ""
        while at < end:
            first = block[at]
            if first & 0x80:
                index, at = _number(block, at, 0x7F)
                name, value = _static(index)
                if name == b":status":
                    status = int(value)
                continue
            if first & 0xE0 == 0x20:
                size, at = _number(block, at, 0x1F)
                if size:
                    raise ValueError("a table although there is to be none")
                continue
            index, at = _number(block, at, 0x3F if first & 0x40 else 0x0F)
            if index:
                name = _static(index)[0]
            else:
                spelled, at = _spelled(block, at)
                name = self._names.get(spelled) or self._name(spelled)
            spelled, at = _spelled(block, at)
            if name == b"apns-id":
                apns_id = _value(spelled)[:100].decode("ascii", "replace")
            elif name == b":status":
                status = _status(_value(spelled))
        return status, apns_id

    def _name(self, spelled: bytes) -> bytes:
        name = _value(spelled)
        if len(self._names) < _MOST_NAMES:
            self._names[spelled] = name
        return name


def _static(index: int) -> tuple[bytes, bytes]:
    if not 0 < index <= len(_STATIC):
        raise ValueError("an entry of a table that is not there")
    return _STATIC[index - 1]


def _pick(headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, str]:
    status, apns_id = 0, ""
    for name, value in headers:
        if name == b":status":
            status = _status(value)
        elif name == b"apns-id":
            apns_id = value[:100].decode("ascii", "replace")
    return status, apns_id


def _status(value: bytes) -> int:
    return int(value) if value.isdigit() and len(value) == 3 else 0


def _number(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """Read an integer whose first bits are under ``mask``; (it, where it ends)."""
    number = block[at] & mask
    at += 1
    if number < mask:
        return number, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        number += (byte & 0x7F) << shift
        if not byte & 0x80:
            return number, at
        shift += 7
        if shift > 28:
            raise ValueError("an endless number")


def _spelled(block: bytes, at: int) -> tuple[bytes, int]:
    """Cut out a string as it is spelled, its length included; (it, where it ends)."""
    length, start = _number(block, at, 0x7F)
    end = start + length
    if end > len(block):
        raise ValueError("a string beyond its block")
    if start == at + 1:
        return block[at:end], end
    return block[at : at + 1] + block[start:end], end


def _value(spelled: bytes) -> bytes:
    return decode_huffman(spelled[1:]) if spelled[0] & 0x80 else spelled[1:]


def _text(value: bytes) -> bytes:
    """Spell a string as it is: compressing it would cost more time than it saves."""
    length = len(value)
    if length < 0x7F:
        return b"%c%b" % (length, value)
    length -= 0x7F
    spelled = bytearray(b"\x7f")
    while length >= 0x80:
        spelled.append(length & 0x7F | 0x80)
        length >>= 7
    spelled.append(length)
    return bytes(spelled) + value
