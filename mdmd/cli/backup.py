"""``mdmctl backup`` and ``mdmctl restore``: a whole server in one sealed file."""

import argparse
import fcntl
import io
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from mdmd.cli.moving import declare_opening, declare_sealing

if TYPE_CHECKING:
    from mdmd.cli.lines import Writer

_STORE = "store.rdb"  # in the archive
_STATE = "state/"
_LEFT_OUT = {"store", "spool"}  # folders: the store goes as a snapshot
_NO_FILES = (".log", ".part", ".pid")  # of the moment


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    backup = subparsers.add_parser(
        "backup",
        help="write the whole server into a sealed file, while it runs",
        description=(
            "Write the state folder and a snapshot of the embedded store, all its data at one "
            "moment, into a file sealed in the format of age. Run it on the daemon's machine as "
            "its user or root."
        ),
    )
    backup.add_argument("file", metavar="FILE", type=Path)
    declare_sealing(backup)
    backup.set_defaults(run=_backup)
    restore = subparsers.add_parser(
        "restore",
        help="make a state folder of a backup",
        description="Put a backup into a state folder, while no daemon runs on it.",
    )
    restore.add_argument("file", metavar="FILE", type=Path)
    restore.add_argument("--force", action="store_true", help="replace what is in the state folder")
    declare_opening(restore)
    restore.set_defaults(run=_restore)


def _state(args: argparse.Namespace) -> tuple[Path, Path | None]:
    """Say where the state folder is, and the configuration if there is one."""
    from mdmd.cli.places import STATE, USUAL
    from mdmd.config import load

    named = args.config or os.environ.get("MDMD_CONFIG")
    if named is None and args.state is None and os.access(USUAL, os.R_OK):
        named = USUAL
    if named is not None and Path(named).exists():
        return (Path(args.state) if args.state else load(Path(named)).state), Path(named)
    state = Path(args.state or STATE)
    own = state / "mdmd.conf"
    return state, own if own.exists() else None


# -- backup ----------------------------------------------------------------------------------


def _backup(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.lines import Writer
    from mdmd.cli.sealed import recipients
    from mdmd.config import load
    from mdmd.doctor.trace import leave_trace
    from mdmd.errors import BadRequest

    state, config = _state(args)
    if config is None:
        raise BadRequest(f"{state}: no configuration, and so no server, is here")
    if load(config).store.redis != "embedded":
        raise BadRequest(
            "the store is a server of yours: back it up with its own tools, and the state folder "
            "with yours; `mdmctl export` writes the enrollments into a file"
        )
    to = recipients(args)
    socket = state / "store" / "store.sock"
    leave_trace(socket, "backup", file=str(args.file.absolute())[:500])
    with tempfile.TemporaryFile(dir=args.file.parent) as snapshot:
        from mdmd.cli.snapshot import take_snapshot

        size = take_snapshot(socket, snapshot)
        snapshot.seek(0)
        with Writer(args.file, to) as writer:
            files = _write(writer, _files(state, args.file.absolute()), state, config, snapshot)
    outside = _outside(state, config)
    if args.json:
        show.as_json({"files": files, "store": size, "not_included": outside})
        return 0
    show.out(f"{files} files of {state} and {size} bytes of the store")
    for each in outside:
        show.note(f"not in the backup, for it is not in the state folder: {each}")
    return 0


def _write(
    writer: "Writer", files: Iterator[Path], state: Path, config: Path, snapshot: IO[bytes]
) -> int:
    count = 0
    with tarfile.open(fileobj=_Out(writer), mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for path in files:
            archive.add(path, _STATE + path.relative_to(state).as_posix(), recursive=False)
            count += not path.is_dir()
        if state not in config.absolute().parents:
            archive.add(config, "mdmd.conf", recursive=False)
        head = tarfile.TarInfo(_STORE)
        head.size = os.fstat(snapshot.fileno()).st_size
        archive.addfile(head, snapshot)
    return count


def _files(state: Path, target: Path) -> Iterator[Path]:
    """Give what makes the server: files and folders, but no sockets, logs and leftovers."""
    for path in sorted(state.rglob("*")):
        if path.relative_to(state).parts[0] in _LEFT_OUT or path.is_symlink():
            continue
        mode = path.stat().st_mode
        wanted = not path.name.endswith(_NO_FILES) and path != target
        if stat.S_ISDIR(mode) or (stat.S_ISREG(mode) and wanted):
            yield path


def _outside(state: Path, config: Path) -> list[str]:
    """Name the files that the configuration names and that are elsewhere."""
    import attrs

    from mdmd.config import load

    loaded = load(config)
    sections = [getattr(loaded, each.name) for each in attrs.fields(type(loaded))]
    named = [
        value
        for section in sections
        if attrs.has(type(section))
        for value in attrs.astuple(section, recurse=False)
        if isinstance(value, Path)
    ]
    return sorted({str(each) for each in named if each.is_file() and state not in each.parents})


class _Out(io.RawIOBase):
    """A file for tarfile that seals what is written."""

    def __init__(self, writer: "Writer") -> None:
        self._writer = writer

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._writer.write_bytes(bytes(data))
        return len(data)


# -- restore ---------------------------------------------------------------------------------


def _restore(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.lines import is_sealed, read_pieces
    from mdmd.cli.places import STATE
    from mdmd.cli.sealed import openers
    from mdmd.errors import BadRequest

    state = Path(args.state or STATE)
    keys = openers(args, is_sealed(args.file))
    state.mkdir(mode=0o750, parents=True, exist_ok=True)
    _see_that_nobody_runs(state)
    there = [each.name for each in state.iterdir()]
    if there and not args.force:
        raise BadRequest(f"{state} has data in it; --force replaces it")
    fresh = Path(tempfile.mkdtemp(prefix=".restore-", dir=state))
    try:
        _unpack(_In(read_pieces(args.file, keys)), fresh)
        _own(fresh, state)
        for name in [each for each in there if each != fresh.name]:
            _remove(state / name)
        for each in fresh.iterdir():
            each.rename(state / each.name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    if args.json:
        show.as_json({"state": str(state)})
    else:
        show.out(f"{state} is as it was; start the daemon")
        if (state / "mdmd.conf.restored").exists():
            show.note(f"the configuration was not in the state folder: {state}/mdmd.conf.restored")
    return 0


def _see_that_nobody_runs(state: Path) -> None:
    """
    Refuse a state folder that a daemon, or its store, uses.

    :raises BadRequest: one does.
    """
    from mdmd.errors import BadRequest

    for name in ("daemon.lock", "server.lock"):
        lock = state / "store" / name
        if not lock.exists():
            continue
        with lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadRequest(f"a daemon, or its store, runs on {state}: end it") from None


def _unpack(source: "_In", into: Path) -> None:
    """
    Unpack a backup.

    :raises BadRequest: it is none, or is damaged.
    """
    from mdmd.errors import BadRequest

    complete = False
    try:
        with tarfile.open(fileobj=source, mode="r|") as archive:
            for member in archive:
                if member.name == _STORE:
                    _unpack_store(archive, member, into / "store")
                    complete = True
                elif member.name == "mdmd.conf":
                    _unpack_file(archive, member, into / "mdmd.conf.restored")
                else:
                    _unpack_file(archive, member, into / _place(member.name))
    except tarfile.TarError as error:
        raise BadRequest(f"this is no backup, or it is damaged: {error}") from None
    source.drain()
    if not complete:
        raise BadRequest("this is no backup: the store is missing in it")


def _place(name: str) -> Path:
    """Say where a file goes; never outside of the state folder."""
    from mdmd.errors import BadRequest

    path = PurePosixPath(name)
    if path.parts[:1] != (_STATE.rstrip("/"),) or ".." in path.parts or path.is_absolute():
        raise BadRequest(f"this is no backup: {name[:80]!r} is in it")
    return Path(*path.parts[1:])


def _unpack_file(archive: tarfile.TarFile, member: tarfile.TarInfo, to: Path) -> None:
    from mdmd.errors import BadRequest

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
    from mdmd.cli.snapshot import check_snapshot

    source = archive.extractfile(member)
    assert source is not None
    head = source.read(16)
    check_snapshot(head)
    folder.mkdir(mode=0o700)
    # An append-only file may begin with a snapshot; every version reads one that is nothing else.
    with (folder / "appendonly.aof").open("wb") as file:
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
