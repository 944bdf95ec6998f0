"""``mdmctl fsck``: read the whole store, and say whether it holds together."""

import argparse
import sys
from typing import TYPE_CHECKING

import attrs

from mdmd.cli import show
from mdmd.cli.exits import DONE, FAILED

if TYPE_CHECKING:
    from pathlib import Path

    from mdmd.pki.sealing import Sealer


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare ``fsck``; what it needs is imported when it runs."""
    parser = subparsers.add_parser(
        "fsck",
        help="read the whole store and say whether it holds together",
        description=(
            "Hold everything in the store against the rules of docs/store.md: enrollments, "
            "queues, command bodies, pins, the push work set, and, with the sealing key, whether "
            "what is sealed opens. It changes nothing and may run while "
            "the daemon does; counts over the whole store are only judged when nothing changes "
            "meanwhile. Exit status 1: a rule is broken."
        ),
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from mdmd.cli.doctor import configuration
    from mdmd.config import load
    from mdmd.doctor.fsck import check
    from mdmd.doctor.redis import Client
    from mdmd.doctor.store import store_address

    config = load(configuration(args))
    client = Client(store_address(config), config.store.ca, timeout=60.0)
    try:
        found = check(client, _progress, _sealer(config.store.sealing_key))
    finally:
        client.close()
    if getattr(args, "json", False):
        show.as_json(attrs.asdict(found))
        return FAILED if found.broken else DONE
    for each in found.findings:
        colour = show.RED if each in found.broken else show.YELLOW
        show.out(f"{show.colour(each.grade, colour)}  {show.clean(each.subject)}  {each.text}")
    show.out(
        f"{found.enrollments} enrollments ({found.enabled} enabled), {found.queued} queued of "
        f"{found.commands} commands, {found.results} results, {found.keys} keys: "
        + (f"{len(found.broken)} broken" if found.broken else "no rule is broken")
    )
    return FAILED if found.broken else DONE


def _sealer(path: "Path") -> "Sealer | None":
    """Take the sealing key, if this account may; doctor says what is wrong with the file."""
    from mdmd.pki.sealing import Sealer

    try:
        return Sealer(path.read_bytes())
    except (OSError, ValueError):
        return None


def _progress(read: int, of: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{read} of {of} enrollments")
        if read == of:
            sys.stderr.write("\n")
