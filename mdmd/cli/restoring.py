"""Make a server of a backup: the state folder, and the store wherever that is."""

import argparse
import fcntl
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mdmd.cli import show
from mdmd.cli.backup import ABOUT, STATE, STORE
from mdmd.cli.lines import is_sealed, read_pieces
from mdmd.cli.places import find_state
from mdmd.cli.sealed import openers
from mdmd.doctor.refill import fill
from mdmd.doctor.replica import check_snapshot
from mdmd.errors import BadRequest

_AOF = "appendonly.aof"
_LONGEST_ABOUT = 64 * 1024  # bytes


def restore(args: argparse.Namespace) -> int:
    """
    Run ``mdmctl restore``; return the exit status.

    :raises ConfigError: the configuration that names the state folder can't be read.
    :raises BadRequest: it is no backup, or there is something that it would replace.
    :raises StoreUnavailable: the server that it is to fill does not take it.
    """
    state = find_state(args.state, args.config, os.environ.get("MDMD_CONFIG"))
    keys = openers(args, is_sealed(args.file))
    state.mkdir(mode=0o750, parents=True, exist_ok=True)
    _see_that_nobody_runs(state)
    there = [each.name for each in state.iterdir()]
    if there and not args.force:
        raise BadRequest(f"{state} has data in it; --force replaces it")
    fresh = Path(tempfile.mkdtemp(prefix=".restore-", dir=state))
    try:
        about = _unpack(_In(read_pieces(args.file, keys)), fresh)
        filled = ""
        if (url := args.store or about["redis"]) != "embedded":
            filled = fill(url, fresh / "store" / _AOF, about, args.force)
            shutil.rmtree(fresh / "store")
        _own(fresh, state)
        for name in [each for each in there if each != fresh.name]:
            _remove(state / name)
        for each in fresh.iterdir():
            each.rename(state / each.name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    if args.json:
        show.as_json({"state": str(state), "store": filled})
        return 0
    show.out(f"{filled or state} is as it was; start the daemon")
    if (state / "mdmd.conf.restored").exists():
        show.note(f"the configuration was not in the state folder: {state}/mdmd.conf.restored")
    if args.store and args.store != about["redis"]:
        show.note("the configuration names another store: set [store] redis")
    return 0


def _see_that_nobody_runs(state: Path) -> None:
    """
    Refuse a state folder that a daemon, or its store, uses.

    :raises BadRequest: one does.
    """
    for name in ("daemon.lock", "server.lock"):
        lock = state / "store" / name
        if not lock.exists():
            continue
        with lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadRequest(f"a daemon, or its store, runs on {state}: end it") from None


def _unpack(source: "_In", into: Path) -> dict[str, str]:
    """
    Unpack a backup; say which store it was of.

    :raises BadRequest: it is none, or is damaged.
    """
    complete, about = False, {"redis": "embedded"}
    try:
        with tarfile.open(fileobj=source, mode="r|") as archive:
            for member in archive:
                if member.name == STORE:
                    _unpack_store(archive, member, into / "store")
                    complete = True
                elif member.name == ABOUT and member.size < _LONGEST_ABOUT:
                    about = _about(archive, member)
                elif member.name == "mdmd.conf":
                    _unpack_file(archive, member, into / "mdmd.conf.restored")
                else:
                    _unpack_file(archive, member, into / _place(member.name))
    except tarfile.TarError as error:
        raise BadRequest(f"this is no backup, or it is damaged: {error}") from None
    source.drain()
    if not complete:
        raise BadRequest("this is no backup: the store is missing in it")
    return about


def _about(archive: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, str]:
    file = archive.extractfile(member)
    found: dict[str, str] = json.loads(file.read()) if file is not None else {}
    return found


def _place(name: str) -> Path:
    """Say where a file goes; never outside of the state folder."""
    path = PurePosixPath(name)
    if path.parts[:1] != (STATE.rstrip("/"),) or ".." in path.parts or path.is_absolute():
        raise BadRequest(f"this is no backup: {name[:80]!r} is in it")
    return Path(*path.parts[1:])


def _unpack_file(archive: tarfile.TarFile, member: tarfile.TarInfo, to: Path) -> None:
    if member.isdir():
        to.mkdir(parents=True, exist_ok=True)
        to.chmod(member.mode & 0o777)
        return
    source = archive.extractfile(member)
    if source is None or not member.isreg():
        raise BadRequest(f"this is no backup: {member.name[:80]!r} is no file")
    to.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        shutil.copyfileobj(source, file)
    to.chmod(member.mode & 0o777)


def _unpack_store(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    source = archive.extractfile(member)
    assert source is not None
    head = source.read(16)
    check_snapshot(head)
    folder.mkdir(mode=0o700)
    # An append-only file may begin with a snapshot; every version reads one that is nothing else.
    with (folder / _AOF).open("wb") as file:
        file.write(head)
        shutil.copyfileobj(source, file)
        file.flush()
        os.fsync(file.fileno())


def _own(fresh: Path, state: Path) -> None:
    """Give everything to whom the state folder belongs."""
    owner = state.stat()
    if os.geteuid() != 0:
        return
    for path in (fresh, *fresh.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


class _In(io.RawIOBase):
    """A file for tarfile made of pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._rest) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._rest += piece
        end = len(self._rest) if size < 0 else size
        taken, self._rest = self._rest[:end], self._rest[end:]
        return taken

    def drain(self) -> None:
        """Read to the end: only then it is sure that nothing is missing."""
        for _ in self._pieces:
            pass
