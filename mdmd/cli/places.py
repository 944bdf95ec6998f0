"""Where the daemon's socket is."""

import os
import re
from pathlib import Path

from mdmd.errors import NotHere
from mdmd.ops.wire import SOCKET

STATE = Path("/var/lib/mdmd")
USUAL = Path("/etc/mdmd/mdmd.conf")


def find_socket(state: str | None, config: str | None, environment: str | None) -> Path:
    """
    Find it by the state folder, else by the configuration, else where it usually is.

    :raises ConfigError: the configuration has a mistake.
    :raises NotHere: the configuration has no unix socket for operators.
    """
    if state:
        return Path(state) / SOCKET
    named = config or environment
    if named:
        return socket_of(Path(named))
    if os.access(USUAL, os.R_OK):
        return socket_of(USUAL)
    return STATE / SOCKET


def find_config(state: str | None, config: str | None, environment: str | None) -> Path | None:
    """Say which configuration is meant, if one is: none of another server than ``state``'s."""
    if state and not config:
        own = Path(state) / "mdmd.conf"
        return own if own.exists() else None
    named = config or environment
    if named:
        return Path(named)
    return next((each for each in (USUAL, STATE / "mdmd.conf") if os.access(each, os.R_OK)), None)


def find_state(state: str | None, config: str | None, environment: str | None) -> Path:
    """
    Say which state folder is meant, by the same rules as :func:`find_socket`.

    :raises ConfigError: the configuration that is named can't be read, or has a mistake.
    """
    from mdmd.config import load

    named = config or environment or (USUAL if os.access(USUAL, os.R_OK) else None)
    return Path(state) if state else load(Path(named)).state if named else STATE


def forbidden(path: Path) -> bool:
    """Say whether this account is kept from reading a file, or from seeing if there is one."""
    try:
        path.open("rb").close()
    except PermissionError:
        return True
    except OSError:
        pass
    return False


def socket_of(config: Path) -> Path:
    """Read a configuration for its socket."""
    from mdmd.config import load

    for endpoint in load(config).pb.listen:
        kind, *rest = re.split(r"(?<!\\):", endpoint)
        if kind == "unix" and rest:
            return Path(re.sub(r"\\(.)", r"\1", rest[0].removeprefix("address=")))
    raise NotHere(f"{config}: [pb] listen has no unix socket")
