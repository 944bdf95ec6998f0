"""``key=value`` on the command line, as a command's keys."""

from pathlib import Path
from typing import Any

from mdmd.errors import BadRequest

# Keys whose value is a list, of texts: commas part them.
_LISTS = frozenset({"Queries", "Identifiers", "ProductKeys", "LanguageCodes"})


def command_keys(words: list[str]) -> dict[str, Any]:
    """
    Read ``key=value`` words.

    ``true``, ``false`` and whole numbers are what they look like, ``"…"`` or
    ``'…'`` is always text, ``@FILE`` is the content of a file, ``A.B=`` a key in
    a dict, ``A.0.B=`` a key in a list's first dict; ``Queries=A,B`` is a list.

    :raises BadRequest: a word that is none, or contradicts another.
    :raises OSError: a file can't be read.
    """
    keys: dict[str, Any] = {}
    for word in words:
        path, equals, text = word.partition("=")
        if not equals or not all(path.split(".")):
            raise BadRequest(f"expected key=value, got {word!r}")
        _put(keys, path.split("."), _value(path.split(".")[-1], text), word)
    return {key: _lists(value, key) for key, value in keys.items()}


def _value(key: str, text: str) -> Any:
    if text.startswith("@"):
        return Path(text[1:]).read_bytes()
    if key in _LISTS:
        return [each for each in text.split(",") if each]
    if text in ("true", "false"):
        return text == "true"
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    digits = text.removeprefix("-")
    # "007" is a text: a PIN would lose its zeros.
    if digits.isascii() and digits.isdigit() and (digits == "0" or digits[0] != "0"):
        return int(text)
    return text


def _put(place: dict[str, Any], path: list[str], value: Any, word: str) -> None:
    for step in path[:-1]:
        place = place.setdefault(step, {})
        if not isinstance(place, dict):
            raise BadRequest(f"{word!r} contradicts what is before it")
    if path[-1] in place:
        raise BadRequest(f"{word!r}: this key is there already")
    place[path[-1]] = value


def _lists(value: Any, where: str) -> Any:
    """Make lists of those dicts that have numbers as keys."""
    if not isinstance(value, dict):
        return value
    inside = {key: _lists(each, f"{where}.{key}") for key, each in value.items()}
    if not all(key.isascii() and key.isdigit() for key in inside):
        return inside
    if sorted(map(int, inside)) != list(range(len(inside))):
        raise BadRequest(f"{where}: a list counts from 0 without a gap")
    return [inside[key] for key in sorted(inside, key=int)]
