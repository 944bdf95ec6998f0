"""What a record of who did what may say of a command: which profile, which app, whom."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from mdmd.mdm.catalogue.entry import Entry, Key
from mdmd.mdm.catalogue.load import entry
from mdmd.mdm.command import Command, keys_of

LONGEST = 100  # characters of a value; what is longer is no name of anything
_TYPES: dict[str, type] = {"boolean": bool, "integer": int, "string": str}


def detail(request_type: str, keys: Mapping[str, object]) -> dict[str, str]:
    """
    Give the keys of a command that say what it is about, spelled.

    Those that the catalogue has and does not call secret, with short values: no
    payloads, no texts of several words, of a URL only where it leads. Of an
    unknown command nothing is given.
    """
    found = entry(request_type)
    if found is None:
        return {}
    spelled = {name: _spelled(key, keys.get(name)) for name, key in _telling(found).items()}
    return {name: text for name, text in spelled.items() if text}


def detail_of(command: Command) -> dict[str, str]:
    """Give the same of a whole command, which is read for it only if it can tell anything."""
    found = entry(command.request_type)
    if found is None or not _telling(found):
        return {}
    return detail(command.request_type, keys_of(command))


def _telling(found: Entry) -> dict[str, Key]:
    return {
        name: key
        for name, key in found.keys.items()
        if key.type in _TYPES and name not in found.secrets
    }


def _spelled(key: Key, value: object) -> str:
    """Spell a value that is of its key's type and may be shown, else give ""."""
    if type(value) is not _TYPES[key.type]:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if "://" in text:
        text = _where(text)
    plain = text.isprintable() and len(text.split()) == 1 and len(text) <= LONGEST
    return text if plain else ""


def _where(url: str) -> str:
    """Leave out what may be a token in it: user, path and query."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}/…" if parts.hostname else ""
    except ValueError:
        return ""
