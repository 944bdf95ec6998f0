"""
Read Bech32, in which age writes its keys.

Source: BIP 173, without its limit of 90 characters.
"""

_LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def bech32_decode(text: str) -> tuple[str, bytes] | None:
    """Give the part before the last 1 and the bytes, None if it is mistyped."""
    if text != text.lower() and text != text.upper():
        return None
    prefix, one, rest = text.lower().rpartition("1")
    if not one or not prefix or len(rest) < 6 or any(each not in _LETTERS for each in rest):
        return None
    values = [_LETTERS.index(each) for each in rest]
    expanded = [ord(each) >> 5 for each in prefix] + [0] + [ord(each) & 31 for each in prefix]
    if _checksum(expanded + values) != 1:
        return None
    data = _bytes(values[:-6])
    return None if data is None else (prefix, data)


def _checksum(values: list[int]) -> int:
    sum_ = 1
    for value in values:
        top = sum_ >> 25
        sum_ = (sum_ & 0x1FFFFFF) << 5 ^ value
        for bit, factor in enumerate(_GENERATOR):
            if top >> bit & 1:
                sum_ ^= factor
    return sum_


def _bytes(values: list[int]) -> bytes | None:
    """Make bytes of groups of five bits; what is left over has to be zero."""
    number = 0
    for value in values:
        number = number << 5 | value
    left = len(values) * 5 % 8
    if left >= 5 or number & ((1 << left) - 1):
        return None
    return (number >> left).to_bytes(len(values) * 5 // 8, "big")
