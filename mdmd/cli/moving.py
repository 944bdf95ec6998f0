"""``mdmctl export`` and ``mdmctl import``: enrollments out of a server, and into one."""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdmd.cli.client import Remote
    from mdmd.cli.foreign.building import Faulty
    from mdmd.cli.lines import Record, Writer

_AT_ONCE = 20  # records of one call
_LARGE = 4 << 20  # bytes; a record that large goes alone
_PATIENCE = 60.0  # seconds for a daemon that went away


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    export = subparsers.add_parser(
        "export",
        help="write everything of all enrollments into a sealed file",
        description=(
            "Write enrollments with their tokens, pins and queues, push certificates and groups. "
            "The file is sealed in the format of age; if the daemon goes away meanwhile, the "
            "export waits for it and goes on."
        ),
    )
    export.add_argument("file", metavar="FILE", type=Path)
    declare_sealing(export)
    export.set_defaults(run=_export)
    import_ = subparsers.add_parser(
        "import",
        help="read enrollments of another server: mdmd's, NanoMDM's or MicroMDM's",
        description=(
            "Read a file that export wrote; or `nanomdm PATH`, its file store, or a dump of its "
            "MySQL or PostgreSQL; or `micromdm FILE`, its devices as JSON lines. What is here "
            "already stays as it is: an import can be repeated."
        ),
    )
    import_.add_argument("source", metavar="[nanomdm|micromdm] PATH", nargs="+")
    import_.add_argument("--dry-run", action="store_true", help="only say what would happen")
    import_.add_argument("--topic", default="", help="the push topic, for MicroMDM")
    declare_opening(import_)
    import_.set_defaults(run=_import)


def declare_sealing(parser: argparse.ArgumentParser) -> None:
    """Declare whom a file is sealed for."""
    parser.add_argument(
        "--recipient",
        metavar="KEY",
        action="append",
        default=[],
        help="seal for this key: age1…, or a file with an age key, or with a PEM public key or "
        "certificate (RSA, EC or X25519)",
    )
    parser.add_argument("--passphrase-file", metavar="FILE", type=Path, help="else it is asked for")
    parser.add_argument("--plain", action="store_true", help="do not seal: secrets in clear")


def declare_opening(parser: argparse.ArgumentParser) -> None:
    """Declare what opens a file."""
    parser.add_argument(
        "--key",
        dest="keys",
        metavar="FILE",
        action="append",
        default=[],
        type=Path,
        help="a file with the age or PEM private key",
    )
    parser.add_argument("--passphrase-file", metavar="FILE", type=Path, help="else it is asked for")


class _Patient:
    """The daemon, and if it goes away, the next one."""

    def __init__(self, remote: "Remote", args: argparse.Namespace) -> None:
        self._remote = remote
        self._args = args

    async def call(self, name: str, /, **arguments: Any) -> Any:
        """Make one call, once more if the daemon goes away: all that is called here can be."""
        from twisted.internet.task import deferLater

        from mdmd.cli.client import NoDaemon, reactor
        from mdmd.cli.roads import reach

        until = reactor.seconds() + _PATIENCE
        while True:
            try:
                return await self._remote.call(name, **arguments)
            except NoDaemon:
                if reactor.seconds() > until:
                    raise
            await deferLater(reactor, 0.5)
            try:
                self._remote = await reach(self._args)
            except NoDaemon:
                if reactor.seconds() > until:
                    raise


# -- export -------------------------------------------------------------------------------


def _export(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run
    from mdmd.cli.lines import Writer
    from mdmd.cli.sealed import recipients

    to = recipients(args)

    async def verb(remote: "Remote") -> None:
        with Writer(args.file, to) as writer:
            counts = await _write(_Patient(remote, args), writer)
        if args.json:
            show.as_json(counts)
        else:
            show.out(", ".join(f"{count} {kind}" for kind, count in counts.items()))

    return run(args, verb)


async def _write(remote: _Patient, writer: "Writer") -> dict[str, int]:
    from mdmd.cli.lines import VERSION
    from mdmd.ops.wire import MOVED_AT_ONCE

    counts = {"push_certificate": 0, "command": 0, "device": 0, "group": 0}

    def write(records: "list[Record]") -> None:
        for each in records:
            writer.write(each)
            counts[each["kind"]] += 1

    writer.write({"kind": "mdmd", "version": VERSION})
    write(await remote.call("moving.push_certificates"))
    told: set[str] = set()
    after, more = "", True
    while more:
        page = await remote.call("moving.devices", after=after, limit=MOVED_AT_ONCE)
        after = page["next"]
        more = bool(after)
        for device in page["records"]:
            new = [uuid for uuid in _waiting(device) if uuid not in told]
            for at in range(0, len(new), MOVED_AT_ONCE):
                some = new[at : at + MOVED_AT_ONCE]
                commands = await remote.call("moving.commands", uuids=some)
                told.update(each["uuid"] for each in commands)
                write(commands)
            _forget_ended(device, told)
        write(page["records"])
    write(await remote.call("moving.groups"))
    writer.write({"kind": "end", "counts": counts})
    return counts


def _waiting(device: "Record") -> list[str]:
    queues = [each.get("queue", []) for each in device["channels"].values()]
    return list(dict.fromkeys(line[0] for queue in queues for line in queue))


def _forget_ended(device: "Record", told: set[str]) -> None:
    """Take out what ended between the reading of the device and that of its commands."""
    for each in device["channels"].values():
        if "queue" in each:
            each["queue"] = [line for line in each["queue"] if line[0] in told]


# -- import -----------------------------------------------------------------------------


def _import(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run
    from mdmd.cli.exits import DONE, FAILED

    records = _source(args)

    async def verb(remote: "Remote") -> int:
        tally = _Tally(args.dry_run)
        await _read(_Patient(remote, args), records, tally)
        if args.json:
            show.as_json({**tally.counts, "failures": tally.failures})
        else:
            for failure in tally.failures:
                show.note(f"{show.clean(failure['record'])}: {show.clean(failure['reason'])}")
            show.out(tally.summary())
        return FAILED if tally.failures else DONE

    return run(args, verb)


def _source(args: argparse.Namespace) -> "Iterator[Record | Faulty]":
    from mdmd.errors import BadRequest

    now = int(time.time() * 1000)
    match args.source:
        case ["nanomdm", path]:
            from mdmd.cli.foreign.nanomdm import read_nanomdm

            return read_nanomdm(path, now)
        case ["micromdm", path]:
            from mdmd.cli.foreign.micromdm import read_micromdm

            return read_micromdm(Path(path), now, args.topic)
        case [path]:
            from mdmd.cli.lines import is_sealed, read_lines
            from mdmd.cli.sealed import openers

            return iter(read_lines(Path(path), openers(args, is_sealed(Path(path)))))
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


async def _read(remote: _Patient, records: "Iterator[Record | Faulty]", tally: _Tally) -> None:
    from mdmd.cli.foreign.building import Faulty

    batch: list[dict[str, Any]] = []
    size = 0
    for record in records:
        if isinstance(record, Faulty):
            tally.fail(record.what, record.why)
            continue
        batch.append(record)
        size += len(record.get("body", b"")) + 1000
        if len(batch) >= _AT_ONCE or size > _LARGE:
            await _put(remote, batch, tally)
            batch, size = [], 0
    await _put(remote, batch, tally)


async def _put(remote: _Patient, batch: "list[Record]", tally: _Tally) -> None:
    if not batch:
        return
    outcomes = await remote.call("moving.put", records=batch, dry_run=tally.dry_run)
    for record, (outcome, text) in zip(batch, outcomes, strict=True):
        if outcome in tally.counts:
            tally.counts[outcome] += 1
        else:
            name = record.get("id") or record.get("uuid") or record.get("topic")
            tally.fail(f"{record.get('kind')} {name or record.get('name', '')}", text)
