"""
Large answers are spelled a part at a time, and what else waits has its turn in between.

Perspective Broker writes an answer in one go: a page of a thousand devices held
up devices and pushes for a tenth of a second. Here the bytes are made in parts,
and sent when they are whole; on the wire nothing differs.
"""

from collections.abc import Awaitable, Callable
from io import BytesIO
from itertools import chain
from typing import Any

import attrs
from twisted.spread.banana import LIST, SIZE_LIMIT, BananaError, int2b128

AT_ONCE = 2000  # values, some 4 ms

Write = Callable[[bytes], Any]
_ATOMS: dict[type, bytes] = {dict: b"dictionary", list: b"list"}


@attrs.frozen
class Spelled:
    """An answer as Banana has it."""

    content: bytes = attrs.field(repr=False)


@attrs.define
class Speller:
    """
    Spell one answer.

    :param broker: the connection that it is for.
    :param plain: makes of a value what may be sent, such as blobs of long texts.
    :param pause: lets others have their turn.
    :param at_once: values that are spelled without one.
    """

    _broker: Any
    _plain: Callable[[Any], Any]
    _pause: Callable[[], Awaitable[object]]
    _at_once: int = AT_ONCE
    _done: int = 0  # values since the last pause

    async def spell(self, value: Any) -> Any:
        """Give what the broker sends; a small value as ever."""
        if self._size(value) <= self._at_once:
            return self._broker.serialize(self._plain(value))
        stream = BytesIO()
        await self._write(value, stream.write)
        return Spelled(stream.getvalue())

    async def _write(self, value: Any, write: Write) -> None:
        size = self._size(value)
        if size <= self._at_once:
            self._broker._encode(self._broker.serialize(self._plain(value)), write)
            self._done += size
            if self._done >= self._at_once:
                self._done = 0
                await self._pause()
            return
        begin_list(len(value) + 1, write)
        self._broker._encode(_ATOMS[type(value)], write)
        if isinstance(value, list):
            for each in value:
                await self._write(each, write)
            return
        for pair in value.items():
            begin_list(2, write)
            for each in pair:
                await self._write(each, write)

    def _size(self, value: Any) -> int:
        return weigh(value, self._at_once) if type(value) in _ATOMS else 1


def begin_list(length: int, write: Write) -> None:
    """
    Write what is before the elements of a list.

    :raises BananaError: no peer would take so many.
    """
    if length > SIZE_LIMIT:
        raise BananaError(f"a list of {length} is too long to send")
    int2b128(length, write)
    write(LIST)


def weigh(value: Any, most: int) -> int:
    """Count the values in a value; beyond ``most`` it is not counted further."""
    count, rest = 0, [iter((value,))]
    while rest:
        for each in rest.pop():
            count += 1
            if count > most:
                return count
            if isinstance(each, dict):
                rest.append(chain(each.keys(), each.values()))
            elif isinstance(each, list | tuple):
                rest.append(iter(each))
    return count
