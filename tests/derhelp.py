"""Write DER by hand, flaws and all: what the library would refuse to write."""

OCTETS, SEQUENCE, SET, CONTEXT_0 = 0x04, 0x30, 0x31, 0xA0


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
    return element(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def null() -> bytes:
    """Write NULL."""
    return element(0x05)


def oid(dotted: str) -> bytes:
    """Write an OBJECT IDENTIFIER."""
    first, second, *others = (int(arc) for arc in dotted.split("."))
    encoded = bytearray()
    for arc in (first * 40 + second, *others):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(arc & 0x7F | 0x80)
        encoded += bytes(reversed(groups))
    return element(0x06, bytes(encoded))
