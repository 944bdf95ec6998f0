"""
Where an export or import was when it was cut off, in a file beside the one it is about.

It is sealed with a key that only the daemon's store can make, for an admin: a
state of an export opens what is written so far, and is good for that server only.
"""

import json
import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mdmd.cli.lines import Record, from_json, to_json
from mdmd.errors import BadRequest, StoreCorrupt
from mdmd.pki.sealing import Sealer

_EVERY = 1.0  # seconds between two notes
_SHARE = 20  # of the time may go into them: one in so many


class Bookmark:
    """
    The file with the state.

    :param path: of what is exported or imported.
    :param key: 32 bytes, of ``moving.resume_key``.
    :param purpose: what is gone on with, such as "export".
    """

    def __init__(self, path: Path, key: bytes, purpose: str) -> None:
        self.path = path.with_name(path.name + f".{purpose}-resume")
        self._sealer = Sealer(key)
        self._purpose = purpose.encode()
        self._next = 0.0

    def read(self) -> Record | None:
        """
        Read the state, None if there is none.

        :raises BadRequest: it is of another server, or damaged.
        """
        try:
            sealed = self.path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            plain = zlib.decompress(self._sealer.unseal(sealed, self._purpose))
        except (StoreCorrupt, zlib.error):
            raise BadRequest(
                f"{self.path} is not of this server, or is damaged: begin anew, without --resume"
            ) from None
        found: Record = from_json(json.loads(plain))
        return found

    def note(self, state: Callable[[], dict[str, Any]]) -> bool:
        """Write the state down if it is time to; say whether it was."""
        began = time.monotonic()
        if began < self._next:
            return False
        plain = zlib.compress(json.dumps(to_json(state())).encode(), 1)
        fresh = self.path.with_name(self.path.name + ".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(self._sealer.seal(plain, self._purpose))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        ended = time.monotonic()
        self._next = ended + max(_EVERY, (ended - began) * _SHARE)
        return True

    def remove(self) -> None:
        """Forget it: all is done."""
        self.path.unlink(missing_ok=True)
