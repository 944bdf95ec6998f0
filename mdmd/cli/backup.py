"""``mdmctl backup`` and ``mdmctl restore``: a whole server in one sealed file."""

import argparse
import io
import json
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from mdmd.cli.moving import declare_opening, declare_sealing
from mdmd.cli.places import forbidden

if TYPE_CHECKING:
    from mdmd.cli.lines import Writer

# In the archive.
STORE = "store.rdb"
STATE = "state/"
ABOUT = "backup.json"  # which store it was

_LEFT_OUT = {"store", "spool"}  # folders: the store goes as a snapshot
_NO_FILES = (".log", ".part", ".pid")  # of the moment


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    backup = subparsers.add_parser(
        "backup",
        help="write the whole server into a sealed file, while it runs",
        description=(
            "Write the state folder and a snapshot of the store, all its data at one moment, into "
            "a file sealed in the format of age. Run it on the daemon's machine as its user or "
            "root. A store of your own has to let its user replicate: +replconf +sync."
        ),
    )
    backup.add_argument("file", metavar="FILE", type=Path)
    backup.add_argument("--store", metavar="URL", help="ask this server, or as this user of it")
    declare_sealing(backup)
    backup.set_defaults(run=_backup)
    restore = subparsers.add_parser(
        "restore",
        help="make a state folder of a backup",
        description=(
            "Put a backup into a state folder, and into the store if that is a server of your "
            "own, while no daemon runs on them."
        ),
    )
    restore.add_argument("file", metavar="FILE", type=Path)
    restore.add_argument(
        "--force", action="store_true", help="replace what is in the state folder and the store"
    )
    restore.add_argument(
        "--store", metavar="URL", help="fill this server, not the one that the configuration names"
    )
    declare_opening(restore)
    restore.set_defaults(run=_restore)


def _state(args: argparse.Namespace) -> tuple[Path, Path | None]:
    """
    Say where the state folder is, and the configuration if there is one.

    :raises ConfigError: the configuration that is named can't be read, or has a mistake.
    """
    from mdmd.cli.places import find_config, find_state

    named = args.state, args.config, os.environ.get("MDMD_CONFIG")
    return find_state(*named), find_config(*named)


# -- backup ----------------------------------------------------------------------------------


def _backup(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.lines import Writer
    from mdmd.cli.sealed import recipients
    from mdmd.config import load
    from mdmd.doctor.store import store_address
    from mdmd.doctor.trace import leave_trace
    from mdmd.errors import BadRequest, NotAllowed

    state, config = _state(args)
    if config is None:
        if forbidden(state / "mdmd.conf"):
            raise NotAllowed(f"{state}: not ours to read; be root, or the daemon's user")
        raise BadRequest(f"{state}: no configuration, and so no server, is here")
    loaded = load(config)
    ca = loaded.store.ca
    asked = store_address(loaded, args.store)
    to = recipients(args)
    trace = {"file": str(args.file.absolute())[:500]}
    leave_trace(store_address(loaded), ca, "backup", **trace)
    with tempfile.TemporaryFile(dir=args.file.parent) as snapshot:
        from mdmd.doctor.replica import take_snapshot

        size = take_snapshot(asked, ca, snapshot)
        snapshot.seek(0)
        with Writer(args.file, to) as writer:
            about = {"redis": loaded.store.redis, "ca": str(ca or "")}
            sources = _files(state, args.file.absolute())
            files = _write(writer, sources, state, config, snapshot, about)
    outside = _outside(state, config)
    if args.json:
        show.as_json({"files": files, "store": size, "not_included": outside})
        return 0
    show.out(f"{files} files of {state} and {size} bytes of the store")
    for each in outside:
        show.note(f"not in the backup, for it is not in the state folder: {each}")
    return 0


def _write(
    writer: "Writer",
    files: Iterator[Path],
    state: Path,
    config: Path,
    snapshot: IO[bytes],
    about: dict[str, str],
) -> int:
    count = 0
    with tarfile.open(fileobj=_Out(writer), mode="w|", format=tarfile.PAX_FORMAT) as archive:
        told = json.dumps(about).encode()
        head = tarfile.TarInfo(ABOUT)
        head.size = len(told)
        archive.addfile(head, io.BytesIO(told))
        for path in files:
            archive.add(path, STATE + path.relative_to(state).as_posix(), recursive=False)
            count += not path.is_dir()
        if state not in config.absolute().parents:
            archive.add(config, "mdmd.conf", recursive=False)
        head = tarfile.TarInfo(STORE)
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


def _restore(args: argparse.Namespace) -> int:
    from mdmd.cli.restoring import restore

    return restore(args)
