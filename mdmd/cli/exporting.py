"""Write a whole server into a file, and go on where that was cut off."""

import argparse
from typing import Any

from mdmd.cli import show
from mdmd.cli.client import Remote, run
from mdmd.cli.lines import VERSION, Writer, part_of
from mdmd.cli.patient import Patient
from mdmd.cli.progress import Progress
from mdmd.cli.resume import Bookmark
from mdmd.cli.sealed import recipients
from mdmd.cli.walk import Place, walk
from mdmd.errors import BadRequest
from mdmd.pki.age_stanza import Seals


def export(args: argparse.Namespace) -> int:
    """
    Run ``mdmctl export``; return the exit status.

    :raises BadRequest: nobody to seal for.
    """
    goes_on = args.resume and part_of(args.file).exists()
    to = [] if goes_on else recipients(args)

    async def verb(remote: Remote) -> None:
        patient = Patient(remote, args)
        bookmark = Bookmark(args.file, await patient.call("moving.resume_key"), "export")
        try:
            counts = await _write(patient, args, bookmark, to, goes_on)
        except BaseException:
            if bookmark.path.exists():
                show.note(f"what is written is kept: `mdmctl export --resume {args.file}` goes on")
            raise
        if args.json:
            show.as_json(counts)
        else:
            show.out(", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing")

    return run(args, verb)


async def _write(
    remote: Patient, args: argparse.Namespace, bookmark: Bookmark, to: list[Seals], goes_on: bool
) -> dict[str, int]:
    if goes_on:
        place, opened = _begun(args, bookmark)
    else:
        bookmark.remove()
        place, opened = Place(), Writer(args.file, to)
    progress = Progress(await remote.call("moving.size"))
    with opened as writer:

        def state() -> dict[str, Any]:
            return {"file": writer.state(), "progress": place.to_json()}

        if not goes_on:
            writer.write({"kind": "mdmd", "version": VERSION})
        try:
            async for records in walk(remote, place):
                for each in records:
                    writer.write(each)
                if place.whole:
                    writer.keep = bookmark.note(state) or writer.keep
                progress.tell(place.counts.get("device", 0))
        finally:
            progress.end()
        writer.write({"kind": "end", "counts": place.counts})
    bookmark.remove()
    return place.counts


def _begun(args: argparse.Namespace, bookmark: Bookmark) -> tuple[Place, Writer]:
    """
    Take up an export that was cut off.

    :raises BadRequest: where it was is not known here.
    """
    begun = bookmark.read()
    if begun is None:
        raise BadRequest(f"{bookmark.path} is missing: begin anew, without --resume")
    return Place.of_json(begun["progress"]), Writer.going_on(args.file, begun["file"])
