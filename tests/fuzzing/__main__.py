"""
``python -m tests.fuzzing TARGET [SECONDS]``: let atheris at one target.

It looks into mdmd's own code for new ways through it, so it finds what chance
does not. What it finds is in ``crash-…`` files in the current folder.
"""

import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mdmd"]):
    from tests.fuzzing.targets import TARGETS


def main() -> int:
    """Run until the time is over, or something is found; the exit status."""
    name, *rest = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix=f"corpus-{name}-") as folder:
        # atheris ends its process, whatever is still to be done in it.
        child = os.fork()
        if not child:
            fuzz(name, Path(folder), rest[0] if rest else "60")
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fuzz(name: str, corpus: Path, seconds: str) -> None:
    """Let atheris begin with what a target reads well; never returns."""
    target = TARGETS[name]
    for number, seed in enumerate(target.seeds()):
        (corpus / str(number)).write_bytes(seed)
    words = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        "-max_len=8192",
        "-verbosity=0",
        str(corpus),
    ]
    atheris.Setup(words, target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
