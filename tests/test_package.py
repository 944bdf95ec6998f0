"""What ``pip install`` brings is all that is needed."""

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path
from unittest import SkipTest

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from twisted.trial.unittest import SynchronousTestCase

CHECKOUT = Path(__file__).parent.parent
MACHINES = ("x86_64", "aarch64")


class WheelTests(SynchronousTestCase):
    """A wheel built from the checkout, unpacked somewhere else."""

    def setUp(self) -> None:
        if not (CHECKOUT / "pyproject.toml").exists():
            raise SkipTest("the tests do not lie in a checkout")
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(subprocess.run, ["rm", "-rf", str(self.folder)], check=True)
        source = self.folder / "source"
        names = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for name in names:
            if (CHECKOUT / name).is_file():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                (source / name).write_bytes((CHECKOUT / name).read_bytes())
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"),
                *("--no-build-isolation", "-w", str(self.folder), str(source)),
            ],
            check=True,
        )
        (self.wheel,) = self.folder.glob("mdmd-*.whl")

    def run_unpacked(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run Python with only the unpacked wheel in front of the path."""
        place = self.folder / "unpacked"
        with zipfile.ZipFile(self.wheel) as wheel:
            wheel.extractall(place)
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(place)},
            capture_output=True,
            text=True,
            check=False,
        )

    def test_the_wheel_is_whole(self) -> None:
        """Plugin, scripts and every module are in it; tests are not."""
        with zipfile.ZipFile(self.wheel) as wheel:
            names = set(wheel.namelist())
        self.assertIn("twisted/plugins/mdmd_plugin.py", names)
        self.assertNotIn("twisted/plugins/__init__.py", names)
        sources = {
            str(path.relative_to(CHECKOUT))
            for pattern in ("mdmd/**/*.py", "mdmd/**/*.lua")
            for path in CHECKOUT.glob(pattern)
        }
        self.assertEqual(sources - names, set())
        self.assertEqual({name for name in names if name.startswith("tests")}, set())

    def test_twistd_finds_it_from_any_folder(self) -> None:
        """``twistd mdmd --help`` is answered by the unpacked package."""
        done = self.run_unpacked("-m", "twisted.scripts.twistd", "mdmd", "--help")
        if not done.stdout:
            done = self.run_unpacked(
                "-c",
                "import sys; from twisted.scripts.twistd import run;"
                "sys.argv = ['twistd', 'mdmd', '--help']; run()",
            )
        self.assertIn("--check", done.stdout)
        self.assertIn("--config", done.stdout)


class LockTests(SynchronousTestCase):
    """``requirements.lock`` is enough on every Python and machine that mdmd is for."""

    def test_every_python(self) -> None:
        """Whatever a locked package needs on one of them is locked too."""
        lock = CHECKOUT / "requirements.lock"
        if not lock.exists():
            raise SkipTest("the tests do not lie in a checkout")
        locked = {
            canonicalize_name(line.partition("==")[0])
            for line in lock.read_text().splitlines()
            if re.match("[A-Za-z0-9]", line)
        }
        missing = set()
        for each in metadata.distributions():
            if canonicalize_name(each.metadata["Name"]) not in locked:
                continue
            for needed in map(Requirement, each.requires or ()):
                if canonicalize_name(needed.name) not in locked and on_any_python(needed):
                    missing.add(f"{each.metadata['Name']}: {needed}")
        self.assertEqual(missing, set())


def on_any_python(needed: Requirement) -> bool:
    """Say whether a requirement counts on some Python that mdmd is for."""
    if needed.marker is None:
        return True
    for python in ("3.11.0", "3.11.2", "3.12.0", "3.13.0", "3.14.0"):
        here = {
            "python_full_version": python,
            "python_version": python.rpartition(".")[0],
            "sys_platform": "linux",
            "platform_system": "Linux",
            "extra": "",
        }
        if any(needed.marker.evaluate({**here, "platform_machine": m}) for m in MACHINES):
            return True
    return False
