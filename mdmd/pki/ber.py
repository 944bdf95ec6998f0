"""
Rewrite BER as DER, which is all that the ASN.1 library reads.

Signers that stream (Apple's devices, openssl) leave lengths indefinite and cut octet
strings into chunks. Only those two things are undone, by hand, because a device
may send such a signature with each request; docs/architecture.md has the figures.

Source: ITU-T X.690, section 8.
"""

from mdmd.pki.structures import NotDer, encode

_INDEFINITE = 0x80
_CONSTRUCTED = 0x20
_OCTETS = 0x04
_CHUNKED_OCTETS = _OCTETS | _CONSTRUCTED
_MANY_BYTE_TAG = 0x1F
_DEEPEST = 32
LARGEST = 256 * 1024


def is_streamed(data: bytes) -> bool:
    """Say whether the element's length is indefinite."""
    return data[1:2] == bytes((_INDEFINITE,))


def to_der(data: bytes, largest: int = LARGEST) -> bytes:
    """
    Rewrite one element in definite lengths, its chunked octet strings joined.

    An element of definite length stays as it is unless it is a chunked octet
    string, so signatures over inner parts hold.

    :raises NotDer: damaged, nested too deeply, too large, or followed by more.
    """
    if len(data) > largest:
        raise NotDer("a streamed message of this size is not accepted")
    element, at = _rewrite(data, 0, 0)
    if at != len(data):
        raise NotDer("more than expected")
    return element


def _rewrite(data: bytes, at: int, depth: int) -> tuple[bytes, int]:
    """Rewrite the element at ``at``; return it and the place behind it."""
    if at + 2 > len(data) or depth > _DEEPEST or data[at] & _MANY_BYTE_TAG == _MANY_BYTE_TAG:
        raise NotDer("cut short, nested too deeply, or a tag of several bytes")
    tag = data[at]
    start, stop = _length(data, at + 1)
    if tag == _CHUNKED_OCTETS:
        chunks, behind = _inside(data, start, stop, depth)
        return encode(b"".join(map(_octets, chunks))), behind
    if stop is not None:
        return data[at:stop], stop
    if not tag & _CONSTRUCTED:
        raise NotDer("an indefinite length on a primitive")
    parts, behind = _inside(data, start, None, depth)
    # The bytes of a length are the same whatever the tag.
    return bytes((tag,)) + encode(b"".join(parts))[1:], behind


def _inside(data: bytes, at: int, stop: int | None, depth: int) -> tuple[list[bytes], int]:
    """Rewrite all elements up to ``stop``, or up to the two zeros that end an open one."""
    parts: list[bytes] = []
    while stop is None or at < stop:
        if stop is None and data[at : at + 2] == b"\0\0":
            return parts, at + 2
        part, at = _rewrite(data, at, depth + 1)
        parts.append(part)
    if at != stop:
        raise NotDer("an element reaches beyond the one around it")
    return parts, at


def _octets(chunk: bytes) -> bytes:
    if chunk[0] != _OCTETS:
        raise NotDer("a chunk of an octet string that is none")
    start, _ = _length(chunk, 1)
    return chunk[start:]


def _length(data: bytes, at: int) -> tuple[int, int | None]:
    """Read a length; return where the inside begins and ends, None if that is open."""
    length = data[at]
    at += 1
    if length == _INDEFINITE:
        return at, None
    if length > _INDEFINITE:
        size = length - _INDEFINITE
        length = int.from_bytes(data[at : at + size], "big")
        at += size
        if size > 4:
            raise NotDer("an impossible length")
    if at + length > len(data):
        raise NotDer("cut short")
    return at, at + length
