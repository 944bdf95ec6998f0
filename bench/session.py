"""
What a device's whole visit costs: TLS, Idle, command, Acknowledged, close.

Devices show their client certificates. Each has one command before each round, so
that a visit is always the same; once with full handshakes, once with resumed ones.
"""

import argparse
from collections.abc import Sequence

from bench.limits import handshake
from bench.results import write
from bench.stage import HEADERS, row, stage


def main() -> None:
    """Measure, print, and add to the results."""
    parser = argparse.ArgumentParser(prog="bench.session", description=__doc__)
    parser.add_argument("--devices", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=48, help="visits at the same time")
    parser.add_argument("--profile", default="", help="a file for the daemon's cProfile")
    parser.add_argument("--dry", action="store_true", help="leave the results file alone")
    args = parser.parse_args()
    raw = handshake()
    rows: list[Sequence[object]] = []
    with stage(args.devices, profile=args.profile) as one:
        for number, how in enumerate(("session", "resume")):
            one.enqueue(f"{number:08X}-0000-4000-8000-000000000001")
            if how == "resume":  # whose first round takes one
                one.enqueue(f"{number:08X}-0000-4000-8000-000000000002")
            seen, cost = one.load(how, args.threads, 120, args.devices)
            assert seen["commands"] > args.devices * 0.99, seen
            rows.append(row(how, seen, cost, raw))
    title = f"session; the limit is a handshake of {raw * 1e6:.0f} µs"
    write(title, HEADERS, rows, args.dry)


if __name__ == "__main__":
    main()
