"""How things look: tables that fit the terminal, ages, colour only on a terminal, JSON."""

import base64
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from mdmd.ops.columns import cells as cells
from mdmd.ops.columns import clean as clean
from mdmd.ops.columns import cut as cut
from mdmd.ops.columns import fit as fit

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_CHIP = re.compile(r"[0-9A-F]{8}-[0-9A-F]{16}")
_GAP = 2
_NARROW = 110  # columns; whole ids leave no room for anything else
_LEAST = 6  # a column is not made narrower than this

RED, GREEN, YELLOW, DIM, BOLD = "31", "32", "33", "2", "1"


def on_terminal() -> bool:
    """Say whether somebody is looking."""
    return sys.stdout.isatty()


def colour(text: str, code: str) -> str:
    """Colour a text, on a terminal only."""
    if not on_terminal() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def visible(text: str) -> int:
    """Count the columns that a line takes."""
    return cells(plain(text))


def plain(text: str) -> str:
    """Take the colours out of a line."""
    return _COLOURS.sub("", text)


def short(id: str, width: int | None) -> str:
    """Spell an enrollment id, in the middle of a narrow line by its ends only."""
    if width is None or width >= _NARROW or len(id) <= 16:
        return id or "-"
    # A UDID of the newer kind begins with its chip: only its end tells it from others.
    return f"…{id[-12:]}" if _CHIP.fullmatch(id) else f"{id[:8]}…{id[-4:]}"


def out(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def raw(text: str) -> None:
    """Write to the terminal as it is."""
    sys.stdout.write(text)
    sys.stdout.flush()


def note(text: str) -> None:
    """Say something besides the data."""
    sys.stderr.write(f"{text}\n")


def as_json(value: Any) -> None:
    """Print data for programs; bytes are in base64, times as in RFC 3339."""
    out(json.dumps(value, indent=2 if on_terminal() else None, default=_plain, ensure_ascii=False))


def as_json_line(value: Any) -> None:
    """Print data as one line, for what never ends."""
    out(json.dumps(value, default=_plain, ensure_ascii=False))


def _plain(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def width() -> int | None:
    """Say how wide a line may be; None when nobody is looking."""
    return shutil.get_terminal_size().columns if on_terminal() else None


def table(
    headers: Sequence[str], rows: Iterable[Sequence[object]], most: int | None = None
) -> list[str]:
    """
    Lay out rows under headers; the widest columns give way when it is too wide.

    :param most: columns of a line; None: as wide as it is.
    """
    lines = [headers, *([clean(each) for each in row] for row in rows)]
    widths = [max(cells(row[column]) for row in lines) for column in _r(headers)]
    if most is not None:
        widths = _shrink(widths, most)
    fitted = [_line(each, widths) for each in lines]
    return [colour(fitted[0], BOLD), *fitted[1:]]


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table as wide as the terminal at most."""
    for line in table(headers, rows, width()):
        out(line)


def _r(headers: Sequence[str]) -> range:
    return range(len(headers))


def _shrink(widths: list[int], most: int) -> list[int]:
    widths = list(widths)
    while sum(widths) + _GAP * (len(widths) - 1) > most and max(widths) > _LEAST:
        widths[widths.index(max(widths))] -= 1
    return widths


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    fitted = [fit(each, width) for each, width in zip(row, widths, strict=True)]
    return (" " * _GAP).join(fitted).rstrip()


def age(milliseconds: int | None, now: float | None = None) -> str:
    """Say how long ago something was, roughly."""
    if milliseconds is None:
        return "never"
    seconds = (time.time() if now is None else now) - milliseconds / 1000
    if seconds < 0:
        return f"in {span(-seconds)}"
    return "now" if seconds < 1 else f"{span(seconds)} ago"


def span(seconds: float) -> str:
    """Spell a time roughly, in the unit that fits."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def moment(milliseconds: int | None) -> str:
    """Say when something was, in local time."""
    if milliseconds is None:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000).strftime("%Y-%m-%d %H:%M:%S")


def tree(value: Any, indent: str = "") -> list[str]:
    """Lay out nested data, one value a line."""
    if isinstance(value, Mapping):
        lines = []
        for key, each in value.items():
            lines += _branch(f"{indent}{clean(key)}:", each, indent)
        return lines
    if isinstance(value, list):
        lines = []
        for each in value:
            lines += _branch(f"{indent}-", each, indent)
        return lines
    return [f"{indent}{_leaf(value)}"]


def _branch(head: str, value: Any, indent: str) -> list[str]:
    if isinstance(value, Mapping | list) and value:
        return [head, *tree(value, f"{indent}  ")]
    return [f"{head} {_leaf(value)}"]


def _leaf(value: Any) -> str:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in ({}, []) else clean(value)
