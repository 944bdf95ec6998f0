"""
A snapshot of the store while it runs: all its data at one moment.

It is asked for as a replica asks for it, so it costs the store a fork and
nothing waits for it.

Source: Redis, "Replication"; the reply to SYNC is that of redis-cli --rdb.
"""

from pathlib import Path
from typing import IO

from mdmd.doctor.redis import Client
from mdmd.errors import BadRequest, StoreUnavailable
from mdmd.store.address import Address

TIMEOUT = 300.0  # seconds without a byte
_PIECE = 256 * 1024
_MARK = 40  # bytes of the mark at the end, when the length is not known


def take_snapshot(address: Address, ca: Path | None, out: IO[bytes]) -> int:
    """
    Write the data of a server, in its own format; return how many bytes.

    :raises StoreUnavailable: it does not answer, not to the end, or does not let us.
    """
    client = Client(address, ca, TIMEOUT)
    try:
        line = client.release()
        reader = line.makefile("rb")
        line.sendall(b"REPLCONF capa eof\r\n")
        answer = reader.readline()
        if not answer.startswith(b"+OK"):
            raise _refused(answer)
        line.sendall(b"SYNC\r\n")
        return _copy(reader, _head(reader), out)
    except OSError as error:
        raise StoreUnavailable(f"{address}: no snapshot of the store: {error}") from None
    finally:
        client.close()


def _refused(answer: bytes) -> StoreUnavailable:
    text = answer[1:200].decode("ascii", "replace").strip() or "it closed the connection"
    hint = ""
    if text.startswith("NOPERM"):
        hint = "; its user needs +replconf and +sync (ACL SETUSER), or name another user: --store"
    return StoreUnavailable(f"the store refuses a snapshot: {text}{hint}")


def _head(reader: IO[bytes]) -> bytes:
    """Wait for the line that says how long it is; meanwhile the server sends empty ones."""
    while True:
        line = reader.readline()
        if not line:
            raise StoreUnavailable("the store closed the connection")
        if line.strip():
            break
    if not line.startswith(b"$"):
        raise _refused(line)
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
