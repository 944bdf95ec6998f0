"""``mdmctl``: one module for each group of verbs; each imports what it needs when it runs."""

import argparse
import sys
from collections.abc import Sequence

from mdmd.cli import demo, init, sim


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; the answer is the exit status."""
    parser = argparse.ArgumentParser(
        prog="mdmctl", description="Look after mdmd, an MDM server for Apple devices."
    )
    parser.add_argument("--state", metavar="DIR", help="the state folder (default /var/lib/mdmd)")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for group in (init, demo, sim):
        group.add_parser(verbs)
    args = parser.parse_args(words)
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())
