"""Figures go to standard output and, with date, commit and machine, to bench/RESULTS.md."""

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "RESULTS.md"


def machine() -> str:
    """Say on what the figures were taken."""
    return (
        f"{os.cpu_count()} × {_processor()}, load {os.getloadavg()[0]:.1f}, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def commit() -> str:
    """Say what was measured: the commit, and whether anything in the checkout is not in it."""
    try:
        changes = _git("status", "--porcelain", "--", ":/", ":(top,exclude)bench/RESULTS.md")
        return _git("rev-parse", "--short", "HEAD") + (" with changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # no checkout


def _git(*words: str) -> str:
    command = ["git", "-C", str(RESULTS.parent), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def percentiles(seconds: Sequence[float]) -> tuple[str, str, str]:
    """Spell the median, and what 95 and 99 of a hundred stayed under, in milliseconds."""
    ordered = sorted(seconds)
    return tuple(f"{ordered[int((len(ordered) - 1) * at)] * 1e3:.1f}" for at in (0.5, 0.95, 0.99))  # type: ignore[return-value]


PERCENTILES = ("p50 ms", "p95 ms", "p99 ms")


def write(
    title: str, headers: Sequence[str], rows: Iterable[Sequence[object]], dry: bool = False
) -> None:
    """Print a table, and add it to the results unless ``dry``."""
    lines = [
        f"## {title}",
        "",
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}, {machine()}",
        "",
        f"`python -m {_module()} {' '.join(sys.argv[1:])}`".replace(" `", "`"),
        "",
        f"| {' | '.join(headers)} |",
        f"|{' --- |' * len(headers)}",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
        "",
    ]
    text = "\n".join(lines)
    print(text)
    if not dry:
        with RESULTS.open("a") as file:
            file.write("\n" + text)


def _module() -> str:
    return f"bench.{Path(sys.argv[0]).stem}"
