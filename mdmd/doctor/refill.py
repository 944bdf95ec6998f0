"""
Fill a server with a snapshot of another: key by key, ours only.

A snapshot is in the server's own format, which only such a server reads. So one
runs for a while on the snapshot, and is read; what the target gets are plain
commands, so that it may be of another kind or version.
"""

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mdmd.doctor.redis import Client, Value
from mdmd.errors import BadRequest, StoreUnavailable
from mdmd.store.address import Address, read_address
from mdmd.store.program import programs

_OURS = "mdmd:*"
_KEYS = 500  # looked at in one go
_WORDS = 1000  # of one command
_ENTRIES = 500  # of a stream, in one go
_LOADING = 600.0  # seconds

Question = Sequence[object]


def fill(url: str, snapshot: Path, about: dict[str, str], force: bool) -> str:
    """
    Fill the server at ``url``; say how it is shown.

    :param about: where the snapshot is from: ``redis``, its URL or ``embedded``, and ``ca``.
    :param force: take out what it has of ours.
    :raises BadRequest: it has data.
    :raises StoreUnavailable: it is not to be reached, or does not take it.
    """
    db = 0 if about["redis"] == "embedded" else read_address(about["redis"]).db
    address, ca = read_address(url), about.get("ca", "")
    target = Client(address, Path(ca) if ca and Path(ca).exists() else None, timeout=60.0)
    try:
        if has_data(target):
            if not force:
                raise BadRequest(f"{address} has data of mdmd in it; --force replaces it")
            clear(target)
        _fill(target, snapshot, db)
    except StoreUnavailable as error:
        raise StoreUnavailable(
            f"{address} was not filled, or not to the end: {error}; restore once more, with --force"
        ) from None
    finally:
        target.close()
    return str(address)


def _fill(target: Client, snapshot: Path, db: int) -> None:
    reasons = []
    for program in programs():
        with server_of(snapshot, program) as reached:
            if isinstance(reached, str):
                reasons.append(reached)
                continue
            source = Client(reached, timeout=_LOADING)
            source.ask("SELECT", db)
            refill(source, target)
            source.close()
            return
    raise StoreUnavailable("; ".join(reasons) or "no valkey-server or redis-server is here")


@contextlib.contextmanager
def server_of(snapshot: Path, program: Path) -> Iterator[Address | str]:
    """
    Run a server on a snapshot; give the way to it, or why it can't read it.

    :param snapshot: a file, alone in its folder.
    """
    # Short: a socket's path has a limit.
    with tempfile.TemporaryDirectory(prefix="mdmd-") as folder:
        address = Address("unix", path=str(Path(folder) / "s"))
        words = (
            *("--port", "0", "--unixsocket", address.path, "--unixsocketperm", "700"),
            *("--save", "", "--appendonly", "no"),
            *("--dir", snapshot.parent, "--dbfilename", snapshot.name),
        )
        log = Path(folder) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen([program, *map(str, words)], stdout=out, stderr=out)
        try:
            trouble = _wait(process, address)
            said = " | ".join(log.read_text(errors="replace").strip().splitlines()[-2:])
            yield f"{program} can't read the snapshot: {trouble}: {said}" if trouble else address
        finally:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", address: Address) -> str:
    """Wait until the server has read it; say what went wrong, "" for nothing."""
    end = time.monotonic() + _LOADING
    while time.monotonic() < end:
        if process.poll() is not None:
            return "it ended"
        try:
            client = Client(address, timeout=_LOADING)
        except StoreUnavailable:
            time.sleep(0.05)
            continue
        try:
            client.ask("EXISTS", "mdmd:sealed")  # an error as long as it reads
            return ""
        except StoreUnavailable:
            time.sleep(0.05)
        finally:
            client.close()
    return "it takes too long"


def has_data(target: Client) -> bool:
    """Say whether a server has a key of ours."""
    return any(names for names in _scan(target))


def clear(target: Client) -> None:
    """Take every key of ours out of a server."""
    for names in _scan(target):
        if names:
            target.ask("UNLINK", *names)


def refill(source: Client, target: Client) -> int:
    """
    Copy every key of ours; return how many.

    :raises StoreUnavailable: one of the two went away, or refused.
    """
    new = _version(target) >= 7
    count = 0
    for names in _scan(source):
        types = source.ask_all(("TYPE", name) for name in names)
        lives = source.ask_all(("PTTL", name) for name in names)
        for name, kind, life in zip(names, types, lives, strict=True):
            if kind == b"none":
                continue  # its time was over
            for questions in _COPIES[kind.decode()](source, name, new):
                target.ask_all(questions)
            if life > 0:
                target.ask("PEXPIREAT", name, int(time.time() * 1000) + life)
            count += 1
    return count


def _scan(client: Client) -> Iterator[list[bytes]]:
    # What is looked at is not changed meanwhile, or only by taking away what has been given.
    cursor: bytes = b"0"
    while True:
        cursor, names = client.ask("SCAN", cursor, "MATCH", _OURS, "COUNT", _KEYS)
        yield names
        if cursor == b"0":
            return


def _version(client: Client) -> int:
    about = client.ask("INFO", "server").decode(errors="replace")
    found = next(line for line in about.splitlines() if line.startswith("redis_version:"))
    return int(found.partition(":")[2].partition(".")[0])


def _plain(*words: object) -> Callable[[Client, bytes, bool], Iterator[list[Question]]]:
    """Copy a key that one command reads and one command, with parts of the answer, writes."""
    write, read, swap = words[0], words[1], words[2:] == ("swap",)
    more = {"ZRANGE": (0, -1, "WITHSCORES"), "LRANGE": (0, -1)}.get(str(read), ())

    def copy(source: Client, name: bytes, new: bool) -> Iterator[list[Question]]:
        found = source.ask(read, name, *more)
        if not isinstance(found, list):
            found = [found]
        if swap:  # member and score; ZADD wants them the other way round
            found = [word for pair in zip(found[1::2], found[::2], strict=True) for word in pair]
        for at in range(0, len(found), _WORDS):
            yield [(write, name, *found[at : at + _WORDS])]

    return copy


def _stream(source: Client, name: bytes, new: bool) -> Iterator[list[Question]]:
    after = b"-"
    while entries := source.ask("XRANGE", name, after, "+", "COUNT", _ENTRIES):
        yield [("XADD", name, at, *fields) for at, fields in entries]
        after = b"(" + entries[-1][0]
    about = _fields(source.ask("XINFO", "STREAM", name))
    groups = [_fields(each) for each in source.ask("XINFO", "GROUPS", name)]
    last = about[b"last-generated-id"]
    if not about[b"length"]:
        yield [("XGROUP", "CREATE", name, "mdmd", "0", "MKSTREAM")]
        yield [("XGROUP", "DESTROY", name, "mdmd")]
    counted = about.get(b"entries-added") if new else None
    more: Question = () if counted is None else ("ENTRIESADDED", counted)
    if counted is not None:
        more = (*more, "MAXDELETEDID", about[b"max-deleted-entry-id"])
    yield [("XSETID", name, last, *more)]
    for group in groups:
        yield from _group(source, name, group, new)


def _group(
    source: Client, name: bytes, about: dict[bytes, Value], new: bool
) -> Iterator[list[Question]]:
    group, read = about[b"name"], about.get(b"entries-read") if new else None
    more = () if read is None else ("ENTRIESREAD", read)
    yield [("XGROUP", "CREATE", name, group, about[b"last-delivered-id"], *more)]
    after = b"-"
    while pending := source.ask("XPENDING", name, group, after, "+", _ENTRIES):
        # One whose entry the stream has lost stays behind: nobody could send it.
        yield [
            ("XCLAIM", name, group, who, 0, at, "IDLE", idle, "RETRYCOUNT", n, "FORCE", "JUSTID")
            for at, who, idle, n in pending
        ]
        after = b"(" + pending[-1][0]


def _fields(flat: list[Value]) -> dict[bytes, Value]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


_COPIES: dict[str, Callable[[Client, bytes, bool], Iterator[list[Question]]]] = {
    "string": _plain("SET", "GET"),
    "hash": _plain("HSET", "HGETALL"),
    "set": _plain("SADD", "SMEMBERS"),
    "list": _plain("RPUSH", "LRANGE"),
    "zset": _plain("ZADD", "ZRANGE", "swap"),
    "stream": _stream,
}
