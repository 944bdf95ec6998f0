"""The store without a reactor: for traces and for filling it, where each step may wait."""

import socket
from collections.abc import Coroutine, Sequence
from typing import Any

import hiredis

from mdmd.store.link import ScriptError, script_named
from mdmd.store.wire import Word, encode


class BlockingLink:
    """The link's ways, but each call waits for its answer, so that a coroutine never does."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._reader = hiredis.Reader()

    async def call(self, *words: Word) -> Any:
        self._socket.sendall(encode(words))
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(1 << 16))
        if isinstance(reply, hiredis.ReplyError):
            code, _, text = str(reply).partition(" ")
            raise ScriptError(code, text)
        return reply

    async def script(self, name: str, keys: Sequence[Word], args: Sequence[Word] = ()) -> Any:
        script = script_named(name)
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *args)
        except ScriptError as error:
            if error.code != "NOSCRIPT":
                raise
        return await self.call("EVAL", script.source, len(keys), *keys, *args)

    def close(self) -> None:
        self._socket.close()


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine that never waits returns."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")
