"""Values too large for one Banana string, which has 640 KiB at most: both ways in pieces."""

from enum import Enum
from typing import Any

import attrs

from mdmd.errors import BadRequest, NotHere, TooLarge
from mdmd.ops.wire import BLOB, LARGEST_BLOB, PIECE

_MOST = 64  # of them at a time, on one connection
ALL_TOGETHER = 256 * 1024 * 1024  # bytes of all connections


@attrs.define
class Budget:
    """
    What the large values of all connections may take together.

    :ivar left: bytes.
    """

    left: int = ALL_TOGETHER


class Blobs:
    """
    The large values of one connection.

    A client that sends: ``blob.append(0, piece)`` gives a number, more of
    ``blob.append(number, piece)``, then ``{"blob": number}`` stands for the value in
    a call's arguments, once. A client that gets ``{"blob": number, "size": bytes}``:
    ``blob.read(number, offset)`` until it has it all; the last piece frees it.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = budget or Budget()
        self._blobs: dict[int, bytearray] = {}
        self._last = 0

    def append(self, number: int, piece: bytes) -> int:
        """
        Add a piece to a blob, 0 begins one; return its number.

        :raises TooLarge: more than the connection, or all of them, may hold.
        :raises NotHere: no such blob.
        """
        if not isinstance(number, int) or not isinstance(piece, bytes):
            raise BadRequest("blob.append takes a number and bytes")
        if number == 0:
            return self._add(piece)
        blob = self._get(number)
        self._take(len(piece))
        blob.extend(piece)
        return number

    def read(self, number: int, offset: int) -> bytes:
        """
        Give the piece at ``offset``; the last one frees the blob.

        :raises NotHere: no such blob.
        """
        if not isinstance(number, int) or not isinstance(offset, int) or offset < 0:
            raise BadRequest("blob.read takes a number and an offset")
        blob = self._get(number)
        piece = bytes(blob[offset : offset + PIECE])
        if offset + PIECE >= len(blob):
            self._forget(number)
        return piece

    def fill_in(self, value: Any) -> Any:
        """Put the blobs in place that arguments refer to; each can be used once."""
        if isinstance(value, dict):
            if value.keys() == {BLOB}:
                blob = bytes(self._get(value[BLOB]))
                self._forget(value[BLOB])
                return blob
            return {key: self.fill_in(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.fill_in(each) for each in value]
        return value

    def take_out(self, value: Any) -> Any:
        """Put references in place of large values of an answer; enumerations become plain."""
        if isinstance(value, Enum):
            return value.value
        if isinstance(value, bytes) and len(value) > PIECE:
            return {BLOB: self._add(value), "size": len(value)}
        if isinstance(value, str) and len(value) * 4 > PIECE:
            return self._text(value)
        if isinstance(value, dict):
            return {key: self.take_out(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.take_out(each) for each in value]
        return value

    def close(self) -> None:
        """Forget all of them: the connection is gone."""
        for number in list(self._blobs):
            self._forget(number)

    def _text(self, value: str) -> Any:
        encoded = value.encode()
        if len(encoded) <= PIECE:
            return value
        return {BLOB: self._add(encoded), "size": len(encoded), "text": True}

    def _add(self, content: bytes) -> int:
        while len(self._blobs) >= _MOST:
            self._forget(next(iter(self._blobs)))  # whoever does not fetch loses the oldest
        self._take(len(content))
        self._last += 1
        self._blobs[self._last] = bytearray(content)
        return self._last

    def _take(self, size: int) -> None:
        if sum(map(len, self._blobs.values())) + size > LARGEST_BLOB:
            self.close()
            raise TooLarge(f"more than {LARGEST_BLOB} bytes in blobs: all were dropped")
        if size > self._budget.left:
            self.close()
            raise TooLarge("too much is in blobs of all connections: try again later")
        self._budget.left -= size

    def _forget(self, number: int) -> None:
        self._budget.left += len(self._blobs.pop(number))

    def _get(self, number: Any) -> bytearray:
        blob = self._blobs.get(number) if isinstance(number, int) else None
        if blob is None:
            raise NotHere("no such blob on this connection")
        return blob
