"""
Read and write DER: as much of it as CMS and SCEP need, and strictly.

A hand-written walk, because a device may sign each request: a schema-driven
decoder takes several times as long as the signature check itself. Work is bounded:
nothing is read twice, nothing is guessed, and the only recursion
(:func:`from_ber`) has a limit.

Source: ITU-T X.690.
"""

INTEGER = 0x02
OCTETS = 0x04
NULL = 0x05
OID = 0x06
UTF8 = 0x0C
PRINTABLE = 0x13
IA5 = 0x16
SEQUENCE = 0x30
SET = 0x31
CONTEXT_0 = 0xA0  # [0], constructed
CONTEXT_0_PRIMITIVE = 0x80
CONTEXT_1 = 0xA1

_CONSTRUCTED = 0x20
_DEEPEST = 32


class DerError(ValueError):
    """The bytes are not the DER that was asked for."""


class Reader:
    """
    Walk over the elements in one stretch of bytes, first to last.

    Each method reads the next element and moves behind it; all raise
    :class:`DerError` when it is missing, cut short or of another tag.
    """

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        self._data = data
        self._at = start
        self._end = len(data) if end is None else end

    def peek(self) -> int:
        """Return the tag of the next element, -1 at the end."""
        return self._data[self._at] if self._at < self._end else -1

    def open(self, tag: int) -> "Reader":
        """Return a reader over what is inside the next element."""
        start, stop = self._next(tag)
        return Reader(self._data, start, stop)

    def value(self, tag: int) -> bytes:
        """Return the next element without tag and length."""
        start, stop = self._next(tag)
        return self._data[start:stop]

    def element(self) -> bytes:
        """Return the next element whole, whatever its tag."""
        before = self._at
        _, stop = self._next(None)
        return self._data[before:stop]

    def integer(self) -> int:
        """Return the next element, a whole number of at most 64 bytes."""
        value = self.value(INTEGER)
        if not 1 <= len(value) <= 64:
            raise DerError("an integer without bytes, or too long")
        return int.from_bytes(value, "big", signed=True)

    def rest(self) -> bytes:
        """Return what has not been read, and move to the end."""
        left = self._data[self._at : self._end]
        self._at = self._end
        return left

    def end(self) -> None:
        """Check that nothing is left."""
        if self._at != self._end:
            raise DerError("more than expected")

    def _next(self, tag: int | None) -> tuple[int, int]:
        data, at, end = self._data, self._at, self._end
        if at + 2 > end:
            raise DerError("cut short")
        found, length = data[at], data[at + 1]
        if tag is not None and found != tag:
            raise DerError(f"tag {found:#04x} where {tag:#04x} was expected")
        if found & 0x1F == 0x1F:
            raise DerError("a tag of several bytes")
        at += 2
        if length >= 0x80:
            size = length & 0x7F
            if not 1 <= size <= 4 or at + size > end:
                raise DerError("an indefinite or impossible length")
            length = int.from_bytes(data[at : at + size], "big")
            at += size
            if length < 0x80 or length >> (8 * size - 8) == 0:
                raise DerError("a length not in its shortest form")
        stop = at + length
        if stop > end:
            raise DerError("cut short")
        self._at = stop
        return at, stop


# -- writing -----------------------------------------------------------------


def element(tag: int, *parts: bytes) -> bytes:
    """Write one element with the parts as its inside."""
    inside = b"".join(parts)
    length = len(inside)
    if length < 0x80:
        return bytes((tag, length)) + inside
    size = (length.bit_length() + 7) // 8
    return bytes((tag, 0x80 | size)) + length.to_bytes(size, "big") + inside


def sequence(*parts: bytes) -> bytes:
    """Write a SEQUENCE."""
    return element(SEQUENCE, *parts)


def set_of(*parts: bytes) -> bytes:
    """Write a SET OF, in the order that DER asks for."""
    return element(SET, *sorted(parts))


def octets(value: bytes) -> bytes:
    """Write an OCTET STRING."""
    return element(OCTETS, value)


def integer(value: int) -> bytes:
    """Write an INTEGER from 0 up."""
    return element(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oid(value: bytes) -> bytes:
    """Write an OBJECT IDENTIFIER from what :func:`identifier` returned."""
    return element(OID, value)


def null() -> bytes:
    """Write NULL."""
    return element(NULL)


def identifier(dotted: str) -> bytes:
    """Turn a dotted object identifier into its bytes, without tag and length."""
    first, second, *others = (int(arc) for arc in dotted.split("."))
    encoded = bytearray()
    for arc in (first * 40 + second, *others):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(arc & 0x7F | 0x80)
        encoded += bytes(reversed(groups))
    return bytes(encoded)


# -- BER -----------------------------------------------------------------------


def from_ber(data: bytes) -> bytes:
    """
    Rewrite one BER element in definite lengths, its chunked octet strings joined.

    Signers that stream write BER. What was DER already stays as it was, so
    signatures over inner parts hold. The result is never longer than the input
    but for length bytes.

    :raises DerError: damaged, nested too deeply, or followed by more.
    """
    element_, at = _rewrite(data, 0, len(data), 0)
    if at != len(data):
        raise DerError("more than expected")
    return element_


def _rewrite(data: bytes, at: int, end: int, depth: int) -> tuple[bytes, int]:
    if depth > _DEEPEST:
        raise DerError("nested too deeply")
    if at + 2 > end or data[at] & 0x1F == 0x1F:
        raise DerError("cut short, or a tag of several bytes")
    tag = data[at]
    start, stop = _ber_length(data, at + 1, end)
    if not tag & _CONSTRUCTED:
        if stop is None:
            raise DerError("an indefinite length on a primitive")
        return element(tag, data[start:stop]), stop
    parts, behind = _children(data, start, end if stop is None else stop, stop is None, depth)
    if tag == OCTETS | _CONSTRUCTED:
        return octets(b"".join(Reader(part).value(OCTETS) for part in parts)), behind
    return element(tag, *parts), behind


def _children(
    data: bytes, at: int, end: int, indefinite: bool, depth: int
) -> tuple[list[bytes], int]:
    parts: list[bytes] = []
    while at < end:
        if indefinite and data[at : at + 2] == b"\0\0":
            return parts, at + 2
        part, at = _rewrite(data, at, end, depth + 1)
        parts.append(part)
    if indefinite:
        raise DerError("cut short")
    return parts, at


def _ber_length(data: bytes, at: int, end: int) -> tuple[int, int | None]:
    length = data[at]
    at += 1
    if length == 0x80:
        return at, None
    if length > 0x80:
        size = length & 0x7F
        if size > 4 or at + size > end:
            raise DerError("an impossible length")
        length = int.from_bytes(data[at : at + size], "big")
        at += size
    if at + length > end:
        raise DerError("cut short")
    return at, at + length
