"""Read records of another server into this one, and pass over what is done already."""

import argparse
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.threads import deferToThread

from mdmd.cli import show
from mdmd.cli.client import Remote, run
from mdmd.cli.exits import DONE, FAILED
from mdmd.cli.foreign.building import Faulty
from mdmd.cli.foreign.database import is_place, read_place
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
    share, begin = Share(), Begin()
    records, source = _source(args, share, begin), _identity(args)

    async def verb(remote: Remote) -> int:
        patient = Patient(remote, args)
        tally = _Tally(args.dry_run)
        marker = await _Marker.of(patient, args, source, tally, begin)
        try:
            await _read(patient, records, tally, marker, share)
        except BaseException:
            if marker.kept:
                show.note("what is imported stays: the same command with --resume goes on")
            raise
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


@attrs.define
class Begin:
    """
    After which record of the source to begin.

    :ivar after: the device, of a database: what is in there changes, so that no number says it.
    """

    after: str = ""


class _Marker:
    """
    Where the import is in its source; of a dry run, or where nothing can be kept, nothing.

    A file is read from its beginning, and as many records are passed over as are done. A
    database gives what comes after a device; certificates and commands it gives again.
    """

    def __init__(
        self, bookmark: Bookmark | None, source: list[Any], tally: "_Tally", begin: Begin
    ) -> None:
        self._bookmark = bookmark
        self._source = source
        self._tally = tally
        self._begin = begin
        self._after = ""
        self.done = 0  # records that are dealt with
        self.passed = 0  # of them, those of the import before, to be read once more

    @classmethod
    async def of(
        cls,
        remote: Patient,
        args: argparse.Namespace,
        source: list[Any] | None,
        tally: "_Tally",
        begin: Begin,
    ) -> "_Marker":
        """
        Begin, or find the place where the import before was.

        :raises BadRequest: it was another source, or another server.
        """
        if source is None:
            return cls(None, [], tally, begin)
        key = await remote.call("moving.resume_key")
        one = cls(Bookmark(_beside(args.source[-1]), key, "import"), source, tally, begin)
        if args.resume:
            one._take_up()
        return one

    def _take_up(self) -> None:
        assert self._bookmark is not None
        begun = self._bookmark.read()
        if begun is None:
            return
        if begun["source"] != self._source:
            raise BadRequest(f"{self._bookmark.path} is of another source: import without --resume")
        self._tally.take_up(begun["counts"], begun["failures"])
        self.done = begun["done"]
        if self._in_database:
            self._after = self._begin.after = begun["after"]
        else:
            self.passed = self.done

    @property
    def _in_database(self) -> bool:
        return isinstance(self._source[-1], str)  # of a file it ends with its age

    @property
    def kept(self) -> bool:
        """Say whether one can go on from here."""
        return self._bookmark is not None and self._bookmark.path.exists()

    def note(self, count: int, records: Sequence[Record] = ()) -> None:
        """Note that so many more are dealt with, and which of them are in."""
        self.done += count
        if self._bookmark is None:
            return
        if self._in_database:
            devices = [each["id"] for each in records if each["kind"] == "device"]
            self._after = devices[-1] if devices else self._after
        try:
            self._bookmark.note(self._state)
        except OSError:  # beside the source nothing may be written: then one begins anew
            self._bookmark = None

    def _state(self) -> dict[str, Any]:
        tally = self._tally
        return {
            "source": self._source,
            "done": self.done,
            "after": self._after,
            "counts": tally.counts,
            "failures": tally.failures,
        }

    def remove(self) -> None:
        """Forget the place: all is done."""
        if self._bookmark is not None:
            self._bookmark.remove()


def _identity(args: argparse.Namespace) -> list[Any] | None:
    """
    Say which file or database it is, None where no place in it can be kept.

    :raises BadRequest: it is to be gone on with, all the same.
    """
    if not args.dry_run and args.source[0] == "nanomdm" and is_place(args.source[-1]):
        return ["nanomdm", str(read_place(args.source[-1]))]
    path = Path(args.source[-1])
    if not args.dry_run and path.exists():
        about = path.stat()
        return [*args.source[:-1], about.st_size, about.st_mtime_ns]
    if args.resume:
        raise BadRequest("--resume is for files and databases, and not for a dry run")
    return None


def _beside(source: str) -> Path:
    """Say beside which file the place is kept; of a database, it is where one is."""
    if not is_place(source):
        return Path(source)
    place = read_place(source)
    return Path(re.sub("[^A-Za-z0-9_.-]", "_", f"{place.kind}-{place.database}"))


def _written(path: str) -> int:
    """
    Say when a file was written, milliseconds; of what is no file, now.

    It stands for times that the other server did not keep: the same file is to say the same
    each time, or importing it twice would find everything changed.
    """
    file = Path(path)
    return int((file.stat().st_mtime if file.exists() else time.time()) * 1000)


def _source(args: argparse.Namespace, share: Share, begin: Begin) -> Iterator[Record | Faulty]:
    match args.source:
        case ["nanomdm", path]:
            from mdmd.cli.foreign.nanomdm import read_nanomdm

            return read_nanomdm(path, _written(path), lambda: begin.after)
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
        self._known: set[tuple[str, str]] = set()

    def take_up(self, counts: dict[str, int], failures: list[dict[str, str]]) -> None:
        """Go on where the import before was; what it has noted is not noted again."""
        self.counts, self.failures = counts, failures
        self._known = {(each["record"], each["reason"]) for each in failures}

    def fail(self, what: str, why: str) -> None:
        """Note one that could not be imported."""
        if (what, why) in self._known:
            return
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
            marker.note(len(batch), batch)
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
