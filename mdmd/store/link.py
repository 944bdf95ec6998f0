"""The road to the store: one connection that comes back, deadlines, scripts by their hash."""

import hashlib
import random
import re
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from txredisapi import ResponseError

from mdmd.errors import StoreUnavailable
from mdmd.store import lua
from mdmd.store.address import Address, read_address
from mdmd.store.dial import dial
from mdmd.store.wire import Wire, Word, encode

log = Logger()

SCRIPTS = files("mdmd.store") / "scripts"

BACK_OFF = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # seconds, each times 0.5 to 1.5; the last goes on
PARKED_LIMIT = 10_000  # commands that wait for the connection to come back
LOG_AGAIN = 10.0  # seconds until the same refusal is logged once more

# The server can't serve now, or not us; nothing is wrong with the command.
UNAVAILABLE = {
    *("ASK", "BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "MOVED"),
    *("NOAUTH", "NOPERM", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN", "WRONGPASS"),
}
# Of these, the ones that another connection may cure: to the new master, or greeted anew.
RECONNECT = {"LOADING", "MASTERDOWN", "NOAUTH", "READONLY", "WRONGPASS"}

# Out of a script an error comes with others around it: before version 7 always, since then
# when the script had caught it.
_OUT_OF_A_SCRIPT = re.compile(r"ERR (?:Error running script .*: -)?([A-Z]+) ")


class ScriptError(Exception):
    """
    A script, or the server about a command, answered with an error.

    :ivar code: its first word, such as ``PIN`` or ``BUSYGROUP``.
    :ivar text: the rest.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code} {text}".rstrip())
        self.code = code
        self.text = text


@attrs.frozen
class Script:
    """One of the scripts beside this module."""

    source: bytes
    sha: bytes


@cache
def script_named(name: str) -> Script:
    """Read ``scripts/NAME.lua`` of the package, once."""
    source = lua.source(SCRIPTS, name)
    return Script(source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode())


class Link:
    """
    A connection to the store that comes back by itself, for ever.

    Commands are answered in the order they were given. Each has ``timeout``
    seconds; while the connection is gone it waits for it as long, or fails at
    once if the connection has been gone for longer than that.
    """

    def __init__(self, reactor: Any, address: Address, timeout: float, ca: Path | None) -> None:
        self._reactor = reactor
        self._address = address
        self._timeout = timeout
        self._ca = ca
        self._wire: Wire | None = None
        self._parked: deque[tuple[bytes, Deferred[Any], float]] = deque()
        self._gone_since: float | None = None  # None: connected, or lost this very moment
        self._why = ""
        self._timer: Any = None
        self._closed = False
        self._running: Deferred[None] | None = None
        self._logged: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Link {self._address} {'connected' if self.connected else 'gone'}>"

    @classmethod
    async def open(
        cls, reactor: Any, url: str, *, timeout: float, ca: Path | None = None
    ) -> "Link":
        """
        Connect, and keep connected until :meth:`close`.

        :param url: see :func:`~mdmd.store.address.read_address`.
        :param timeout: seconds for connecting, and for each command.
        :param ca: PEM of the roots for ``rediss://``; the system's if None.
        :raises StoreUnavailable: no connection, or the server can't be relied on.
        :raises BadRequest: the URL can't be read.
        """
        link = cls(reactor, read_address(url), timeout, ca)
        await link._start()
        return link

    async def another(self) -> "Link":
        """
        Open a connection of its own to the same store, for commands that block.

        :raises StoreUnavailable: no connection.
        """
        link = Link(self._reactor, self._address, self._timeout, self._ca)
        await link._start()
        return link

    @property
    def connected(self) -> bool:
        """Say whether a command would leave at once."""
        return self._wire is not None and self._wire.up

    async def script(self, name: str, keys: Sequence[Word], args: Sequence[Word] = ()) -> Any:
        """
        Run ``scripts/NAME.lua`` in one round trip; one more when the server forgot it.

        :raises ScriptError: it answered with an error.
        :raises StoreUnavailable: no answer; whether it was applied is unknown.
        """
        script = script_named(name)
        rest = (len(keys), *keys, *args)
        try:
            return await self._send(("EVALSHA", script.sha, *rest), self._timeout)
        except ScriptError as error:
            if error.code != "NOSCRIPT":
                raise
        return await self._send(("EVAL", script.source, *rest), self._timeout)

    async def call(self, *words: Word, timeout: float | None = None) -> Any:
        """
        Send one command.

        :param timeout: seconds, if other than the link's own; for commands that block.
        :raises ScriptError: it answered with an error.
        :raises StoreUnavailable: no answer; whether it was applied is unknown.
        """
        return await self._send(words, self._timeout if timeout is None else timeout)

    async def ping(self) -> None:
        """
        See that the store answers.

        :raises StoreUnavailable: it does not.
        """
        await self.call("PING")

    async def close(self) -> None:
        """Hang up for good; what is unanswered fails."""
        self._closed = True
        self._why = "the link is closed"
        self._fail_parked(float("inf"))
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._wire is not None:
            # Not gently: a store that hangs would never take what is still to be written.
            self._wire.abort(self._why)
        elif self._running is not None:
            self._running.cancel()
        if self._running is not None:
            await self._running

    # -- commands -------------------------------------------------------------------

    async def _send(self, words: Sequence[Word], timeout: float) -> Any:
        answer: Deferred[Any] = Deferred()
        now = self._reactor.seconds()
        if self._wire is not None and self._wire.up:
            self._wire.send(encode(words), (answer, now + timeout))
        else:
            self._park(encode(words), answer, now, timeout)
        if self._timer is None:
            self._watch()
        try:
            return await answer
        except ResponseError as error:
            raise self._translate(str(error)) from None

    def _park(self, command: bytes, answer: "Deferred[Any]", now: float, timeout: float) -> None:
        gone_since = now if self._gone_since is None else self._gone_since
        if self._closed or now - gone_since >= timeout or len(self._parked) >= PARKED_LIMIT:
            raise self._unavailable()
        self._parked.append((command, answer, now + timeout))

    def _unavailable(self) -> StoreUnavailable:
        return StoreUnavailable(f"no connection to the store at {self._address}: {self._why}")

    def _translate(self, reply: str) -> Exception:
        code, _, text = reply.partition(" ")
        if (within := _OUT_OF_A_SCRIPT.match(reply)) and within[1] in UNAVAILABLE:
            code = within[1]
        if code not in UNAVAILABLE:
            return ScriptError(code, text)
        now = self._reactor.seconds()
        if now - self._logged.get(code, -LOG_AGAIN) >= LOG_AGAIN:
            self._logged[code] = now
            log.warn("the store at {at} refuses to work: {reply}", at=self._address, reply=reply)
        if code in RECONNECT and self._wire is not None:
            self._wire.abort(f"it refuses to work: {reply}")
        return StoreUnavailable(f"the store refuses to work: {reply}")

    # -- deadlines --------------------------------------------------------------------

    def _watch(self) -> None:
        # One timer for all commands: a callLater for each would cost more than the command.
        self._timer = self._reactor.callLater(self._timeout / 8, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = self._reactor.seconds()
        self._fail_parked(now)
        if self._wire is not None and self._wire.overdue(now):
            self._wire.abort("it did not answer in time")
        if self._parked or (self._wire is not None and self._wire.in_flight):
            self._watch()

    def _fail_parked(self, now: float) -> None:
        parked, self._parked = self._parked, deque()
        for command, answer, until in parked:
            if answer.called:
                continue
            if until > now:
                self._parked.append((command, answer, until))
            else:
                answer.errback(self._unavailable())

    # -- the connection -----------------------------------------------------------------

    async def _start(self) -> None:
        try:
            wire = await dial(self._reactor, self._address, self._timeout, self._ca)
        except StoreUnavailable as error:
            self._why = str(error)
            raise self._unavailable() from None
        self._running = Deferred.fromCoroutine(self._stay_connected(wire))
        self._running.addErrback(self._stopped)

    @staticmethod
    def _stopped(failure: Any) -> None:
        if not failure.check(CancelledError):
            log.failure("the store's connection is not looked after any more", failure)

    async def _stay_connected(self, wire: Wire) -> None:
        while True:
            self._use(wire)
            self._why = await wire.lost
            self._wire = None
            if self._closed:
                return
            self._gone_since = self._reactor.seconds()
            log.warn("the store at {at} is gone: {why}", at=self._address, why=self._why)
            wire = await self._reconnect()
            log.info("the store at {at} is back", at=self._address)

    def _use(self, wire: Wire) -> None:
        self._wire, self._gone_since = wire, None
        parked, self._parked = self._parked, deque()
        for command, answer, until in parked:
            if not answer.called:
                wire.send(command, (answer, until))

    async def _reconnect(self, chance: Callable[[], float] = random.random) -> Wire:
        attempt = 0
        while True:
            delay = BACK_OFF[min(attempt, len(BACK_OFF) - 1)] * (0.5 + chance())
            await deferLater(self._reactor, delay)
            try:
                wire = await dial(self._reactor, self._address, self._timeout, self._ca)
            except StoreUnavailable as error:
                self._stop_if_closed()
                if str(error) != self._why:
                    self._why = str(error)
                    log.warn("the store at {at} is still gone: {why}", at=self._address, why=error)
            else:
                if self._closed:
                    wire.abort("the link is closed")
                self._stop_if_closed()
                return wire
            attempt += 1

    def _stop_if_closed(self) -> None:
        # Closing cancels what is awaited, but a connection may come up or fail at that moment.
        if self._closed:
            raise CancelledError
