"""Read records of another server into this one, and pass over what is done already."""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

from mdmd.cli import show
from mdmd.cli.client import Remote, run
from mdmd.cli.exits import DONE, FAILED
from mdmd.cli.foreign.building import Faulty
from mdmd.cli.lines import Record
from mdmd.cli.patient import Patient
from mdmd.cli.progress import Progress
from mdmd.cli.resume import Bookmark
from mdmd.errors import BadRequest

_AT_ONCE = 20  # records of one call
_LARGE = 4 << 20  # bytes; a record that large goes alone


def import_(args: argparse.Namespace) -> int:
    """
    Run ``mdmctl import``; return the exit status.

    :raises BadRequest: the source can't be read.
    """
    share = Share()
    records, source = _source(args, share), _identity(args)

    async def verb(remote: Remote) -> int:
        patient = Patient(remote, args)
        tally = _Tally(args.dry_run)
        marker = await _Marker.of(patient, args, source, tally)
        await _read(patient, records, tally, marker, share)
        marker.remove()
        if args.json:
            show.as_json({**tally.counts, "failures": tally.failures})
        else:
            for failure in tally.failures:
                show.note(f"{show.clean(failure['record'])}: {show.clean(failure['reason'])}")
            show.out(tally.summary())
        return FAILED if tally.failures else DONE

    return run(args, verb)


class Share:
    """How much of a file is read, for whoever watches."""

    def __init__(self) -> None:
        self._whole = self._read = 0

    def of(self, size: int) -> Callable[[int], None]:
        """Take the size of the file; the answer is to be told how much was read."""
        self._whole = size
        return self._note

    def _note(self, read: int) -> None:
        self._read = read

    def __str__(self) -> str:
        return f", {100 * self._read // self._whole} % of the file" if self._whole else ""


class _Marker:
    """Where the import is in its source; of a dry run, or where nothing can be kept, nothing."""

    def __init__(self, bookmark: Bookmark | None, source: list[Any], tally: "_Tally") -> None:
        self._bookmark = bookmark
        self._source = source
        self._tally = tally
        self.done = 0  # records that are dealt with
        self.passed = 0  # of them, those of the import before

    @classmethod
    async def of(
        cls,
        remote: Patient,
        args: argparse.Namespace,
        source: list[Any] | None,
        tally: "_Tally",
    ) -> "_Marker":
        """
        Begin, or find the place where the import before was.

        :raises BadRequest: it was another source, or another server.
        """
        if source is None:
            return cls(None, [], tally)
        key = await remote.call("moving.resume_key")
        one = cls(Bookmark(Path(args.source[-1]), key, "import"), source, tally)
        if args.resume:
            one._take_up()
        return one

    def _take_up(self) -> None:
        assert self._bookmark is not None
        begun = self._bookmark.read()
        if begun is None:
            return
        if begun["source"] != self._source:
            raise BadRequest(f"{self._bookmark.path} is of another file: import without --resume")
        self._tally.counts, self._tally.failures = begun["counts"], begun["failures"]
        self.done = self.passed = begun["done"]

    def note(self, count: int) -> None:
        """Note that so many more are dealt with."""
        self.done += count
        if self._bookmark is None:
            return
        try:
            self._bookmark.note(self._state)
        except OSError:  # beside the source nothing may be written: then one begins anew
            self._bookmark = None

    def _state(self) -> dict[str, Any]:
        tally = self._tally
        return {
            "source": self._source,
            "done": self.done,
            "counts": tally.counts,
            "failures": tally.failures,
        }

    def remove(self) -> None:
        """Forget the place: all is done."""
        if self._bookmark is not None:
            self._bookmark.remove()


def _identity(args: argparse.Namespace) -> list[Any] | None:
    """
    Say which file it is, None where no place in it can be kept.

    :raises BadRequest: it is to be gone on with, all the same.
    """
    path = Path(args.source[-1])
    if not args.dry_run and path.exists():
        about = path.stat()
        return [*args.source[:-1], about.st_size, about.st_mtime_ns]
    if args.resume:
        raise BadRequest("--resume is for files, and not for a dry run")
    return None


def _written(path: str) -> int:
    """
    Say when a file was written, milliseconds; of what is no file, now.

    It stands for times that the other server did not keep: the same file is to say the same
    each time, or importing it twice would find everything changed.
    """
    file = Path(path)
    return int((file.stat().st_mtime if file.exists() else time.time()) * 1000)


def _source(args: argparse.Namespace, share: Share) -> Iterator[Record | Faulty]:
    match args.source:
        case ["nanomdm", path]:
            from mdmd.cli.foreign.nanomdm import read_nanomdm

            return read_nanomdm(path, _written(path))
        case ["micromdm", path]:
            from mdmd.cli.foreign.micromdm import read_micromdm

            return read_micromdm(Path(path), _written(path), args.topic)
        case [path]:
            from mdmd.cli.lines import is_sealed, read_lines
            from mdmd.cli.sealed import openers

            file = Path(path)
            told = share.of(file.stat().st_size)
            return iter(read_lines(file, openers(args, is_sealed(file)), told))
    raise BadRequest("expected FILE, nanomdm PATH or micromdm FILE")


class _Tally:
    """How it went."""

    def __init__(self, dry_run: bool) -> None:
        self.dry_run = dry_run
        self.counts = {"new": 0, "same": 0, "failed": 0}
        self.failures: list[dict[str, str]] = []

    def fail(self, what: str, why: str) -> None:
        """Note one that could not be imported."""
        self.counts["failed"] += 1
        self.failures.append({"record": what, "reason": why})

    def summary(self) -> str:
        """Say it in a line."""
        new = "would be new" if self.dry_run else "new"
        counts = self.counts
        return f"{counts['new']} {new}, {counts['same']} here already, {counts['failed']} failed"


async def _read(
    remote: Patient,
    records: Iterator[Record | Faulty],
    tally: _Tally,
    marker: _Marker,
    share: Share,
) -> None:
    await deferToThread(_pass, records, marker.passed)
    progress = Progress(0)
    try:
        batches = _batches(records, tally, marker)
        # Reading may take its time, and a database its own.
        while (batch := await deferToThread(next, batches, None)) is not None:
            await _put(remote, batch, tally)
            marker.note(len(batch))
            progress.tell(marker.done, f"{share}; {tally.summary()}")
    finally:
        progress.end()


def _pass(records: Iterator[Record | Faulty], count: int) -> None:
    for _ in range(count):
        if next(records, None) is None:
            raise BadRequest("the source has fewer records than the import before has read")


def _batches(
    records: Iterator[Record | Faulty], tally: _Tally, marker: _Marker
) -> Iterator[list[Record]]:
    batch: list[Record] = []
    size = 0
    for record in records:
        if isinstance(record, Faulty):
            # Those before it first: where one goes on is a number of records.
            yield batch
            batch, size = [], 0
            tally.fail(record.what, record.why)
            marker.note(1)
            continue
        batch.append(record)
        size += _weight(record)
        if len(batch) >= _AT_ONCE or size > _LARGE:
            yield batch
            batch, size = [], 0
    yield batch


def _weight(record: Record) -> int:
    """Say about how many bytes a record has."""
    reports = (each[-1] for each in record.get("results", ()))
    return 1000 + len(record.get("body", b"")) + sum(map(len, reports))


async def _put(remote: Patient, batch: list[Record], tally: _Tally) -> None:
    if not batch:
        return
    outcomes = await remote.call("moving.put", records=batch, dry_run=tally.dry_run)
    for record, (outcome, text) in zip(batch, outcomes, strict=True):
        if outcome in tally.counts:
            tally.counts[outcome] += 1
        else:
            names = ("id", "uuid", "topic", "name", "fingerprint", "digest", "letter")
            name = next((record[each] for each in names if each in record), "")
            tally.fail(f"{record.get('kind')} {name}", text)
