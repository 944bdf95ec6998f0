"""Text in the columns of a terminal, for `mdmctl` and for the manhole."""

import unicodedata
from itertools import accumulate


def clean(value: object) -> str:
    """Make a value of somebody else's safe to show on one line of a terminal."""
    text = "" if value is None else str(value)
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def cells(text: str) -> int:
    """Say how many columns of a terminal a text takes: some characters take two, marks none."""
    return len(text) if text.isascii() else sum(map(_cell, text))


def _cell(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Cut a text where it takes more columns than there are."""
    if cells(text) <= width:
        return text
    ends = accumulate(map(_cell, text))
    return text[: sum(end < width for end in ends)] + "…"


def fit(text: str, width: int) -> str:
    """Fill a text up to a width, or cut it there."""
    fitted = cut(text, width)
    return fitted + " " * (width - cells(fitted))
