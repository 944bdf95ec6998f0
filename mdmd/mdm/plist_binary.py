"""
Binary property lists (``bplist00``).

Objects refer to one another by number, so a small file can stand for a huge or
an endless value. The reader walks it as the tree that it stands for and stops
when that tree has more nodes than a file of its size needs without such tricks.

Source: Apple, CFBinaryPList.c in CoreFoundation: header, objects, a table of
their offsets, a trailer of 32 bytes. Numbers are big-endian.
"""

import math
import struct
from collections.abc import Collection
from datetime import datetime, timedelta

from mdmd.errors import BadMessage

_HEADER = b"bplist00"
_TRAILER = struct.Struct(">6xBBQQQ")
_EPOCH = datetime(2001, 1, 1)  # plists mean UTC and don't say so
_MAX_NODES = 1 << 18  # or one for every 16 bytes of the limit, if that is more
_FEW_NODES = 1 << 12  # that any file may have, however small


def read(
    body: bytes, limit: int, depth: int, keys: Collection[str] | None = None
) -> dict[str, object]:
    """
    Read a binary plist whose top is a dict.

    :param limit: bytes of strings and data, each counted wherever it appears.
    :param depth: how many dicts and arrays may be inside one another.
    :param keys: read only the values of these keys of the top dict, the others not at all.
    :raises BadMessage: it is damaged, nested deeper, expands too far, or holds
        a kind of value that XML plists don't have.
    """
    reader = _Reader(body, limit, depth, keys)
    try:
        value = reader.value(reader.top, 0)
    except (IndexError, struct.error, UnicodeDecodeError):
        raise _bad("damaged") from None
    except RecursionError:  # only if ``depth`` allows for it
        raise _bad("nested too deep") from None
    if not isinstance(value, dict):
        raise _bad("its top is not a dict")
    return value


class _Reader:
    def __init__(self, body: bytes, limit: int, depth: int, keys: Collection[str] | None) -> None:
        if len(body) < len(_HEADER) + _TRAILER.size or not body.startswith(_HEADER):
            raise _bad("damaged")
        self._body = body
        self._depth = depth
        self._keys = keys
        trailer = _TRAILER.unpack_from(body, len(body) - _TRAILER.size)
        self._offset_size, self._ref_size, self._count, self.top, self._table = trailer
        # Where objects end. Nothing below reads past it.
        self._end = self._table
        table_end = self._table + self._count * self._offset_size
        if not (
            1 <= self._offset_size <= 8
            and 1 <= self._ref_size <= 8
            and len(_HEADER) < self._table <= table_end <= len(body) - _TRAILER.size
        ):
            raise _bad("damaged")
        # A tree without shared dicts and arrays has fewer nodes than bytes.
        most = max(_MAX_NODES, limit >> 4)
        self._nodes_left = min(max(len(body), _FEW_NODES), most)
        self._bytes_left = limit
        self._leaves: dict[int, tuple[object, int]] = {}

    def value(self, ref: int, level: int) -> object:
        """Read the object numbered ``ref``, found ``level`` containers deep."""
        known = self._leaves.get(ref)
        if known is not None:
            self._spend(known[1])
            return known[0]
        at = self._offset(ref)
        kind, low = self._body[at] >> 4, self._body[at] & 0xF
        if kind in (0xA, 0xD):
            self._spend(0)
            if level >= self._depth:
                raise _bad("nested too deep")
            count, at = self._size(at, low)
            return self._array(at, count, level) if kind == 0xA else self._dict(at, count, level)
        value, size = self._leaf(kind, low, at)
        self._spend(size)
        self._leaves[ref] = value, size
        return value

    def _spend(self, size: int) -> None:
        self._nodes_left -= 1
        self._bytes_left -= size
        if self._nodes_left < 0 or self._bytes_left < 0:
            raise _bad("it expands to far more than its size")

    def _offset(self, ref: int) -> int:
        if ref >= self._count:
            raise _bad("damaged")
        at = self._table + ref * self._offset_size
        offset = int.from_bytes(self._body[at : at + self._offset_size], "big")
        if not len(_HEADER) <= offset < self._end:
            raise _bad("damaged")
        return offset

    def _size(self, at: int, low: int) -> tuple[int, int]:
        """Read how many items an object has, and where they begin."""
        at += 1
        if low != 0xF:
            return low, at
        marker = self._body[at]
        if marker >> 4 != 1 or marker & 0xF > 3:
            raise _bad("damaged")
        width = 1 << (marker & 0xF)
        return int.from_bytes(self._take(at + 1, width), "big"), at + 1 + width

    def _take(self, at: int, size: int) -> bytes:
        if at + size > self._end:
            raise _bad("damaged")
        return self._body[at : at + size]

    def _refs(self, at: int, count: int) -> list[int]:
        # Before anything is built: a count of milliards costs nothing.
        if count > self._nodes_left:
            raise _bad("it expands to far more than its size")
        width = self._ref_size
        data = self._take(at, count * width)
        if width == 1:
            return list(data)
        return [int.from_bytes(data[i : i + width], "big") for i in range(0, len(data), width)]

    def _array(self, at: int, count: int, level: int) -> list[object]:
        return [self.value(ref, level + 1) for ref in self._refs(at, count)]

    def _dict(self, at: int, count: int, level: int) -> dict[str, object]:
        refs = self._refs(at, 2 * count)
        found: dict[str, object] = {}
        seen: set[str] = set()
        for key_ref, value_ref in zip(refs[:count], refs[count:], strict=True):
            key = self.value(key_ref, level + 1)
            if not isinstance(key, str):
                raise _bad("a key that is not a string")
            if key in seen:
                raise _bad("a key twice in its dict")
            seen.add(key)
            if level or self._keys is None or key in self._keys:
                found[key] = self.value(value_ref, level + 1)
        return found

    def _leaf(self, kind: int, low: int, at: int) -> tuple[object, int]:
        """Read a value that refers to no other; say how many bytes it has."""
        if kind == 0x0 and low in (8, 9):
            return low == 9, 1
        if kind == 0x1 and low <= 4:
            return self._integer(at, 1 << low), 1
        if kind == 0x2 and low in (2, 3):
            data = self._take(at + 1, 1 << low)
            return struct.unpack(">f" if low == 2 else ">d", data)[0], 1
        if kind == 0x3 and low == 3:
            return self._date(at), 1
        if kind in (0x4, 0x5, 0x6):
            count, at = self._size(at, low)
            data = self._take(at, 2 * count if kind == 0x6 else count)
            if kind == 0x4:
                return data, count
            return data.decode("ascii" if kind == 0x5 else "utf-16-be"), count
        raise _bad("a kind of value that it can't have")

    def _integer(self, at: int, width: int) -> int:
        # Those of 8 bytes and more have a sign.
        value = int.from_bytes(self._take(at + 1, width), "big", signed=width >= 8)
        if not -(1 << 63) <= value < 1 << 64:
            raise _bad("an integer that is too large")
        return value

    def _date(self, at: int) -> datetime:
        (seconds,) = struct.unpack(">d", self._take(at + 1, 8))
        if math.isfinite(seconds):
            try:
                return _EPOCH + timedelta(seconds=seconds)
            except OverflowError:
                pass
        raise _bad("a date that is none")


def _bad(why: str) -> BadMessage:
    return BadMessage(f"not a property list: {why}")
