"""
A snapshot of the embedded store while it runs: all its data at one moment.

It is asked for as a replica asks for it, so it costs the store a fork and
nothing waits for it.

Source: Redis, "Replication"; the reply to SYNC is that of redis-cli --rdb.
"""

import socket
from pathlib import Path
from typing import IO

from mdmd.errors import BadRequest, StoreUnavailable

TIMEOUT = 300.0  # seconds without a byte
_PIECE = 256 * 1024
_MARK = 40  # bytes of the mark at the end, when the length is not known


def take_snapshot(path: Path, out: IO[bytes]) -> int:
    """
    Write the data of the server on a unix socket, in its own format; return how many bytes.

    :raises StoreUnavailable: it does not answer, or not to the end.
    """
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(TIMEOUT)
            line.connect(str(path))
            reader = line.makefile("rb")
            line.sendall(b"REPLCONF capa eof\r\n")
            if not reader.readline().startswith(b"+OK"):
                raise StoreUnavailable("the store does not give its data away")
            line.sendall(b"SYNC\r\n")
            return _copy(reader, _head(reader), out)
    except OSError as error:
        raise StoreUnavailable(f"{path}: no snapshot of the store: {error}") from None


def _head(reader: IO[bytes]) -> bytes:
    """Wait for the line that says how long it is; meanwhile the server sends empty ones."""
    while True:
        line = reader.readline()
        if not line:
            raise StoreUnavailable("the store closed the connection")
        if line.strip():
            break
    if not line.startswith(b"$"):
        raise StoreUnavailable(
            f"the store refuses a snapshot: {line[:200].decode('ascii', 'replace')}"
        )
    return line[1:].strip()


def _copy(reader: IO[bytes], head: bytes, out: IO[bytes]) -> int:
    if head.startswith(b"EOF:"):
        return _copy_to_mark(reader, head[4:], out)
    left = length = int(head)
    while left:
        piece = reader.read(min(left, _PIECE))
        if not piece:
            raise StoreUnavailable("the snapshot breaks off")
        out.write(piece)
        left -= len(piece)
    return length


def _copy_to_mark(reader: IO[bytes], mark: bytes, out: IO[bytes]) -> int:
    held, length = b"", 0
    while not held.endswith(mark):
        # read1: what is there; the connection stays open after the mark.
        piece = reader.read1(_PIECE)  # type: ignore[attr-defined]
        if not piece:
            raise StoreUnavailable("the snapshot breaks off")
        held += piece
        if len(held) > _MARK:
            ready, held = held[:-_MARK], held[-_MARK:]
            out.write(ready)
            length += len(ready)
    return length


def check_snapshot(head: bytes) -> None:
    """
    See that this is the beginning of a snapshot.

    :raises BadRequest: it is not.
    """
    if not head.startswith((b"REDIS0", b"VALKEY")):
        raise BadRequest("the backup's store is damaged")
