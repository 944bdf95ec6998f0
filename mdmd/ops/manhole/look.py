"""How things look in the manhole: rows as a table, ages, moments."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from mdmd.ops.columns import cells, clean, cut, fit

_GAP = "  "
_WIDEST = 44  # terminal columns of one column

_WHOLE = 1000  # bytes of a value that are shown; more are only counted


class Rows(list[Any]):
    """
    A list that shows itself as a table. Its items are what they are: ``_[0]``.

    :param columns: header, and what it shows of an item.
    """

    def __init__(
        self, items: Sequence[Any], columns: dict[str, Callable[[Any], object]], none: str
    ) -> None:
        super().__init__(items)
        self._columns = columns
        self._none = none

    def __repr__(self) -> str:
        if not self:
            return self._none
        lines = [list(self._columns)]
        for item in self:
            lines.append([cut(clean(show(item)), _WIDEST) for show in self._columns.values()])
        widths = [max(map(cells, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            _GAP.join(fit(cell, width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )


class Tree(dict[str, Any]):
    """A dict that shows itself as lines, what is inside further to the right."""

    def __repr__(self) -> str:
        return "\n".join(_branches(self, "")) or "nothing"


def _branches(value: Any, indent: str) -> list[str]:
    pairs = value.items() if isinstance(value, dict) else (("-", each) for each in value)
    lines = []
    for name, each in pairs:
        head = f"{indent}{clean(name)}{'' if name == '-' else ':'}"
        if isinstance(each, dict | list) and each:
            lines += [head, *_branches(each, f"{indent}  ")]
        else:
            lines.append(f"{head} {_leaf(each)}")
    return lines


def _leaf(value: Any) -> str:
    if isinstance(value, bytes) and len(value) > _WHOLE:
        return f"<{len(value):,} bytes>"
    return clean(value) if isinstance(value, str) else repr(value)


def age(milliseconds: int | None) -> str:
    """Say how long ago something was, roughly."""
    if milliseconds is None:
        return "never"
    seconds = time.time() - milliseconds / 1000
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= 2 * size:
            return _ago(int(abs(seconds) // size), unit, seconds)
    return "now" if abs(seconds) < 1 else _ago(int(abs(seconds)), "s", seconds)


def _ago(number: int, unit: str, seconds: float) -> str:
    return f"{number} {unit} ago" if seconds > 0 else f"in {number} {unit}"


def moment(milliseconds: int) -> str:
    """Say when something was, in the server's time."""
    return datetime.fromtimestamp(milliseconds / 1000).strftime("%m-%d %H:%M:%S")


def event_line(event: dict[str, Any]) -> str:
    """Put an event on one line."""
    facts = " ".join(f"{key}={value}" for key, value in event["facts"].items() if value)
    when = moment(int(event["id"].partition("-")[0]))
    return clean(f"{when}  {event['topic']:<18}  {event['enrollment'] or '-'}  {facts}".rstrip())
