"""Opening ports: what a dead daemon left makes way, and nothing else does."""

import os
import socket
import tempfile
from pathlib import Path
from shutil import rmtree

from twisted.trial.unittest import SynchronousTestCase

from mdmd.assembly.ports import clear_away


class ClearAwayTests(SynchronousTestCase):
    """What is at the place of a unix socket before we listen there."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ports-", dir="/tmp"))
        self.addCleanup(rmtree, self.folder)
        self.path = self.folder / "s"
        self.lock = self.folder / "s.lock"
        self.lock.symlink_to(str(os.getpid()))

    def listening(self) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(str(self.path))
        listening.listen()
        return listening

    def left(self) -> list[str]:
        clear_away(str(self.path))
        return sorted(os.listdir(self.folder))

    def test_dead(self) -> None:
        """A socket that nobody listens on goes, and its lock."""
        self.listening().close()
        self.assertEqual(self.left(), [])

    def test_lock_alone(self) -> None:
        """So does a lock without a socket."""
        self.assertEqual(self.left(), [])

    def test_alive(self) -> None:
        """A socket that somebody listens on stays."""
        self.listening()
        self.assertEqual(self.left(), ["s", "s.lock"])

    def test_file(self) -> None:
        """A file that is no socket is nobody's to remove."""
        self.path.write_text("mine")
        self.assertEqual(self.left(), ["s", "s.lock"])
        self.path.unlink()
        self.path.symlink_to("/etc/hostname")
        self.assertEqual(self.left(), ["s", "s.lock"])
