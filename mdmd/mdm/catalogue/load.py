"""Find commands in the catalogue; each is read from its file when it is first asked for."""

import difflib
import json
from functools import cache
from pathlib import Path

from mdmd.errors import BadRequest, NotHere
from mdmd.mdm.catalogue.entry import Entry, read_entry

COMMANDS = Path(__file__).with_name("commands")


@cache
def names() -> tuple[str, ...]:
    """List the RequestTypes that are known, sorted."""
    return tuple(sorted(path.stem for path in COMMANDS.glob("*.json")))


def entry(name: str) -> Entry | None:
    """Give one command, None if the catalogue does not have it."""
    # Only names of the list: this one may have come from outside.
    return _read(name) if name in names() else None


def need(name: str) -> Entry:
    """
    Give one command.

    :raises NotHere: there is none of this name; the text has the nearest one.
    """
    found = entry(name)
    if found is None:
        raise NotHere(f"no command {name[:60]!a}{nearest(name, names())}")
    return found


def entries() -> list[Entry]:
    """Give all commands, by name."""
    return [_read(name) for name in names()]


def need_questions(names: tuple[str, ...]) -> None:
    """
    Check that each of these commands only asks, and needs no keys for it.

    :raises NotHere: one does not exist.
    :raises BadRequest: one does more, or needs to be told what it asks for.
    """
    for name in names:
        found = need(name)
        needs = name != "DeviceInformation" and any(key.required for key in found.keys.values())
        if needs or found.destructive or not found.dedupe:
            raise BadRequest(f"{name} is not a command that only asks")


def search(word: str = "", platform: str = "") -> list[Entry]:
    """Give the commands that ``platform`` knows and in whose texts or keys ``word`` is."""
    word, platform = word.casefold(), platform.casefold()
    return [
        each
        for each in entries()
        if (not platform or platform in map(str.casefold, each.platforms))
        and word in " ".join([each.name, each.does, *each.keys]).casefold()
    ]


def nearest(word: str, known: tuple[str, ...] | list[str]) -> str:
    """Suggest the nearest of ``known``, as the end of a sentence; "" if none is near."""
    by_fold = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(word.casefold(), by_fold, n=1, cutoff=0.6)
    return f" (did you mean {by_fold[close[0]]}?)" if close else ""


@cache
def _read(name: str) -> Entry:
    return read_entry(name, json.loads((COMMANDS / f"{name}.json").read_bytes()))
