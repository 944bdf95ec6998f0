"""The lines each operator has typed, a file each, for their next session."""

import os
import re
from pathlib import Path

from twisted.logger import Logger

from mdmd.ops.manhole.redact import redacted

log = Logger()

_KEPT = 1000
_LARGEST = 1024 * 1024  # bytes


class History:
    """
    One operator's history; several sessions may add to it.

    :param folder: made when it is missing.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / (re.sub(r"[^A-Za-z0-9_.@-]", "_", name).lstrip(".") or "_")

    def read(self) -> list[str]:
        """Give the lines, the newest last."""
        try:
            if self._path.stat().st_size > _LARGEST:
                return []
            return self._path.read_text(errors="replace").splitlines()[-_KEPT:]
        except OSError:
            return []

    def add(self, source: str) -> None:
        """Keep the lines of a source, unless there may be a secret in one of them."""
        if not source.strip() or redacted(source) != source:
            return
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            number = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with open(number, "a") as file:
                file.write("".join(f"{line}\n" for line in source.splitlines() if line.strip()))
            self._shorten()
        except OSError as error:
            log.warn("the manhole's history can't be kept: {reason}", reason=str(error))

    def _shorten(self) -> None:
        if self._path.stat().st_size <= _LARGEST // 2:
            return
        lines = self._path.read_text(errors="replace").splitlines()[-_KEPT:]
        temporary = self._path.with_name(f".{self._path.name}.new")
        temporary.write_text("".join(f"{each}\n" for each in lines)[-_LARGEST // 4 :])
        temporary.chmod(0o600)
        os.rename(temporary, self._path)
