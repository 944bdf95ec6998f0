"""
Where log events go and what a line looks like.

A line is the event's own text and then the facts that the text does not show, as
``name=value``; or, for programs, one JSON object.
"""

import contextlib
import json
import re
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import IO, cast

from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)
from twisted.python.failure import Failure
from zope.interface import implementer

log = Logger()

_FIELD = re.compile(r"\{(\w+)")
_FANCY = re.compile(r"\{(?!\w+\})|\{\{|\}\}")  # anything but {name}
_TROUBLE = (LogLevel.warn, LogLevel.error, LogLevel.critical)
_SAYS = (str, int, float, type(None))
_TWISTED = frozenset(("isError", "system", "time", "format", "printed"))
_PLAIN = re.compile(r'[^\s"=]+')


@implementer(ILogObserver)
class LogLines:
    """
    Write each event as one line, a failure as its traceback too.

    What tells trouble goes to standard error if the file can't take it: a daemon that the
    log's full disk ends would end without a word.

    :param path: the file; None for standard error.
    :param as_json: one JSON object a line instead of text.
    """

    def __init__(self, path: Path | None, as_json: bool) -> None:
        self._path = path
        self._spell = json_line if as_json else text_line
        self._stderr = sys.stderr  # twistd puts a logger in its place later on
        self._file = self._open()

    def __call__(self, event: LogEvent) -> None:
        """
        Write one event.

        :raises OSError: the file can't take it; Twisted tells the other observers.
        """
        line = self._spell(event)
        try:
            _write(self._file, line)
        except OSError:
            if self._path is not None and event.get("log_level") in _TROUBLE:
                with contextlib.suppress(OSError):
                    _write(self._stderr, line)
            raise

    def reopen(self) -> None:
        """
        Open the file anew, as after it was moved away; standard error stays.

        :raises OSError: it can't be opened; the old one stays.
        """
        if self._path is not None:
            old, self._file = self._file, self._open()
            with contextlib.suppress(OSError):  # a full disk: what it has not taken is lost
                old.close()

    def _open(self) -> IO[str]:
        if self._path is None:
            return self._stderr
        return self._path.open("a", encoding="utf-8", errors="backslashreplace")


def _write(file: IO[str], line: str) -> None:
    file.write(line)
    file.flush()


class Logs:
    """
    The daemon's log: lines, and how much of what is written.

    :raises OSError: the file can't be opened.
    """

    def __init__(self, path: Path | None, as_json: bool, level: str) -> None:
        self._lines = LogLines(path, as_json)
        self._levels = LogLevelFilterPredicate(LogLevel.levelWithName(level))
        lines, levels = cast(ILogObserver, self._lines), cast(ILogFilterPredicate, self._levels)
        self.observer = cast(ILogObserver, FilteringLogObserver(lines, [levels]))

    def set_level(self, room: str, level: str) -> None:
        """
        Log more or less of one part from now on.

        :param room: such as ``apns``; "" for everything.
        :param level: debug, info, warn, error or critical.
        :raises ValueError: no such level.
        """
        try:
            named = LogLevel.levelWithName(level)
        except Exception:
            raise ValueError(f"no such level: {level!r}") from None
        self._levels.setLogLevelForNamespace(f"mdmd.{room}" if room else "", named)

    def reopen_on(self, soon: Callable[..., object], number: int = signal.SIGUSR1) -> None:
        """
        Open the file anew whenever this signal comes: what logrotate sends.

        :param soon: calls what it is given a little later, as ``callFromThread`` does: the
            signal may come in the middle of anything, a line of the log too.
        """
        signal.signal(number, lambda *_: soon(self.reopen))

    def reopen(self) -> None:
        """Open the file anew; if that can't be, say so in the old one."""
        try:
            self._lines.reopen()
        except OSError as error:
            log.error("the log file is not opened anew: {reason}", reason=str(error))


def text_line(event: LogEvent) -> str:
    """Spell an event for people."""
    shown, text = _shown(event)
    more = "".join(
        [f" {name}={_value(value)}" for name, value in _facts(event).items() if name not in shown]
    )
    line = f"{_time(event)} {_level(event):<8} {_room(event)}: {_clean(text)}{more}\n"
    return line + _traceback(event) if "log_failure" in event else line


def json_line(event: LogEvent) -> str:
    """Spell an event for programs."""
    line: dict[str, object] = {
        "time": _time(event),
        "level": _level(event),
        "room": _room(event),
        "text": _shown(event)[1],
        **_facts(event),
    }
    trace = _traceback(event)
    if trace:
        line["traceback"] = trace
    return json.dumps(line, default=str) + "\n"


def _shown(event: LogEvent) -> tuple[frozenset[str], str]:
    """Say which facts the text shows, and the text."""
    template = event.get("log_format") or ""
    shown, simple = _fields(template)
    if simple:
        # Twisted's own way takes five times as long, and every request has a line.
        try:
            return shown, template.format_map(event)
        except Exception:
            return shown, formatEvent(event)  # which says what is wrong
    return shown, formatEvent(event) or ""


@lru_cache(maxsize=1000)
def _fields(template: str) -> tuple[frozenset[str], bool]:
    """Say which fields a template has, and whether they are names and nothing else."""
    shown = frozenset(_FIELD.findall(template))
    return shown, not _FANCY.search(template)


def _facts(event: LogEvent) -> dict[str, object]:
    """Take what the event says besides its text; objects of the program are none of it."""
    return {
        name: value
        for name, value in event.items()
        if name[:4] != "log_" and isinstance(value, _SAYS) and name not in _TWISTED
    }


def _clean(text: str) -> str:
    """Leave nothing in a text that begins a line, or tells a terminal what to do."""
    text = " ".join(text.split())
    return text if text.isprintable() else json.dumps(text)[1:-1]


def _value(value: object) -> str:
    text = value if type(value) is str else str(value)
    return text if _PLAIN.fullmatch(text) and text.isprintable() else json.dumps(text)


def _time(event: LogEvent) -> str:
    seconds, part = divmod(event.get("log_time", 0.0), 1)
    return f"{_second(int(seconds))}.{int(part * 1000):03}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def _level(event: LogEvent) -> str:
    level = event.get("log_level")
    return "info" if level is None else str(level.name)


def _room(event: LogEvent) -> str:
    return str(event.get("log_namespace") or "-")


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    return failure.getTraceback() if isinstance(failure, Failure) else ""
