"""The machine: its clock, the daemon's limits."""

import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from mdmd.config import Config
from mdmd.doctor.finding import Finding, failed, ok, skipped, warning

_FILES = 1000  # that the daemon needs besides its connections


def check_clock() -> Iterator[Finding]:
    """Ask systemd whether something sets the clock."""
    timedatectl = shutil.which("timedatectl")
    if timedatectl is None:
        yield skipped("clock", "no timedatectl here to ask whether it is set by NTP")
        return
    ran = subprocess.run(
        [timedatectl, "show", "--property=NTPSynchronized", "--value"],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    match ran.stdout.strip():
        case "yes":
            yield ok("clock", "set by NTP")
        case "no":
            text = "not set by NTP; certificates and pushes go wrong when it is off"
            yield warning("clock", text, "timedatectl set-ntp true")
        case _:
            yield skipped("clock", "timedatectl can't say whether it is set by NTP")


def check_limits(config: Config, sock: Path) -> Iterator[Finding]:
    """
    See how many files the running daemon may open.

    :param sock: its unix socket, which tells its process.
    """
    wanted = config.site.max_connections + _FILES
    pid = _peer(sock)
    if pid is None:
        yield skipped("open files", "the daemon is down")
        return
    try:
        limits = Path(f"/proc/{pid}/limits").read_text()
    except OSError:
        yield skipped("open files", "only root and its user may look at the daemon")
        return
    match = re.search(r"^Max open files\s+(\d+|unlimited)", limits, re.MULTILINE)
    most = match[1] if match else "unlimited"
    if most != "unlimited" and int(most) < wanted:
        text = f"the daemon may open {most}; max_connections alone is {config.site.max_connections}"
        yield warning("open files", text, f"LimitNOFILE={wanted} in the unit, or ulimit -n")
    else:
        yield ok("open files", f"the daemon may open {most}")


def check_daemon(sock: Path, why: str, stranger: bool = False) -> Finding:
    """
    Say whether operators get in.

    :param why: what kept us out, "" if nothing did.
    :param stranger: it answers, but we are no operator.
    """
    if not why:
        return ok("daemon", f"answers at {sock}")
    if stranger:
        text = f"it runs, and has no more to tell us: {why}"
        return warning("daemon", text, "run mdmctl doctor as an operator, such as root")
    remedy = "systemctl status mdmd; the log says why it ended"
    if is_running(sock):
        remedy = "it runs: look at its log and at the store; systemctl restart mdmd"
    return failed("daemon", why, remedy)


def is_running(sock: Path) -> bool:
    """Say whether there is a daemon, whatever it answers."""
    return _peer(sock) is not None


def _peer(path: Path) -> int | None:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as way:
            way.settimeout(5)
            way.connect(str(path))
            credentials = way.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    except (OSError, AttributeError):
        return None
    return int(struct.unpack("3i", credentials)[0])
