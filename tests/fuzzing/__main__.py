"""
``python -m tests.fuzzing TARGET [SECONDS]``: let atheris at one target.

It looks into mdmd's own code for new ways through it, so it finds what chance
does not. What it finds is in ``crash-…`` files in the current folder.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mdmd"]):
    from tests.fuzzing.targets import TARGETS


def main() -> None:
    """Run until the time is over, or something is found."""
    name, *rest = sys.argv[1:]
    target = TARGETS[name]
    corpus = Path(tempfile.mkdtemp(prefix=f"corpus-{name}-"))
    for number, seed in enumerate(target.seeds()):
        (corpus / str(number)).write_bytes(seed)
    seconds = rest[0] if rest else "60"
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
    main()
