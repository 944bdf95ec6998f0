"""Records in a file: one JSON object a line, the whole file sealed or not."""

import base64
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from mdmd.errors import BadRequest
from mdmd.pki.age import Sealing, unseal
from mdmd.pki.age_stanza import Opens, Seals

VERSION = 1
_MAGIC = b"age-encryption.org/"
_PIECE = 64 * 1024
_LONGEST = 64 << 20  # bytes of a line

Record = dict[str, Any]


def to_json(value: Any) -> Any:
    """Put bytes as base64: {"base64": …}; a dict that looks like that is wrapped."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        plain = {name: to_json(each) for name, each in value.items()}
        return {"dict": plain} if len(plain) == 1 and set(plain) <= {"base64", "dict"} else plain
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    return value


def from_json(value: Any) -> Any:
    """Undo :func:`to_json`."""
    if isinstance(value, dict):
        if set(value) == {"base64"}:
            return base64.b64decode(value["base64"], validate=True)
        if set(value) == {"dict"}:
            value = value["dict"]
        return {name: from_json(each) for name, each in value.items()}
    if isinstance(value, list):
        return [from_json(each) for each in value]
    return value


class Writer:
    """
    A file that appears when it is whole, readable for its owner only.

    Until then it is ``FILE.part``. That is removed when something goes wrong,
    unless one can go on with it: see :mod:`mdmd.cli.resume`.

    :param to: for whom it is sealed; nobody: in clear.
    """

    def __init__(self, path: Path, to: Sequence[Seals]) -> None:
        self._path = path
        self._sealing = Sealing(to) if to else None
        self.part = part_of(path)
        self.keep = False
        self.part.unlink(missing_ok=True)
        descriptor = os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file: IO[bytes] = os.fdopen(descriptor, "wb")

    @classmethod
    def going_on(cls, path: Path, state: Record) -> "Writer":
        """
        Go on with a file that was begun.

        :param state: of :meth:`state`.
        :raises BadRequest: what was begun is not there any more.
        """
        one = cls.__new__(cls)
        one._path, one.part, one.keep = path, part_of(path), True
        cipher = state["cipher"]
        one._sealing = Sealing.going_on((cipher[0], cipher[1], cipher[2])) if cipher else None
        one._file = one.part.open("r+b")
        if os.fstat(one._file.fileno()).st_size < state["size"]:
            raise BadRequest(f"{one.part} is shorter than it was: begin anew, without --resume")
        one._file.truncate(state["size"])
        one._file.seek(state["size"])
        return one

    def state(self) -> Record:
        """Bring everything to the disk, and say what it takes to go on from here."""
        self._file.flush()
        os.fsync(self._file.fileno())
        cipher = None if self._sealing is None else list(self._sealing.state())
        # What sealing holds back until it knows whether it is the end is not in the file.
        return {"size": self._file.tell(), "cipher": cipher}

    def __enter__(self) -> "Writer":
        return self

    def write(self, record: Record) -> None:
        """Write one line."""
        line = json.dumps(
            to_json(record), ensure_ascii=False, separators=(",", ":"), sort_keys=True
        )
        self.write_bytes(line.encode("utf-8", "surrogatepass") + b"\n")

    def write_bytes(self, data: bytes) -> None:
        """Write some of another format."""
        self._file.write(data if self._sealing is None else self._sealing.write(data))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file:
            if error is None and self._sealing is not None:
                self._file.write(self._sealing.finish())
            self._file.flush()
            os.fsync(self._file.fileno())
        if error is None:
            self.part.replace(self._path)
        elif not self.keep:
            self.part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Name the file that is not whole yet."""
    return path.with_name(path.name + ".part")


def is_sealed(path: Path) -> bool:
    """Say whether a file needs a key."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _ignore(size: int) -> None:
    pass


def read_pieces(
    path: Path, keys: Sequence[Opens], told: Callable[[int], None] = _ignore
) -> Iterator[bytes]:
    """
    Give a file's content, opened if it is sealed.

    :param told: hears how many bytes of the file are read.
    :raises BadRequest: it can't be opened, or is damaged.
    """
    with path.open("rb") as file:
        pieces = unseal(file.read, keys) if is_sealed(path) else _plain(file)
        for piece in pieces:
            told(file.tell())
            yield piece


def _plain(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


def read_lines(
    path: Path, keys: Sequence[Opens], told: Callable[[int], None] = _ignore
) -> Iterator[Record]:
    """
    Give the records of a file, and see that it is whole.

    :param told: hears how many bytes of the file are read.
    :raises BadRequest: it is no such file, is damaged or cut short.
    """
    rest, number, record = b"", 0, {}
    for piece in read_pieces(path, keys, told):
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > _LONGEST:
            raise BadRequest("this is no export: a line has no end")
        for line in lines:
            number += 1
            record = _record(line, number)
            if number == 1:
                if record.get("kind") != "mdmd" or record.get("version") != VERSION:
                    raise BadRequest("this is no export of mdmd, or of a newer version")
            elif record.get("kind") != "end":
                yield record
    if record.get("kind") != "end" or rest:
        raise BadRequest("the file is cut short: its end is missing")


def _record(line: bytes, number: int) -> Record:
    try:
        found = from_json(json.loads(line.decode("utf-8", "surrogatepass")))
    except ValueError:
        raise BadRequest(f"line {number} is no JSON") from None
    if not isinstance(found, dict):
        raise BadRequest(f"line {number} is no record")
    return found
