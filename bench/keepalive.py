"""What an Idle costs on a connection that stays open, the store included."""

import argparse
from collections.abc import Sequence

from bench.limits import empty_resource
from bench.results import write
from bench.stage import HEADERS, row, stage


def main() -> None:
    """Measure, print, and add to the results."""
    parser = argparse.ArgumentParser(prog="bench.keepalive", description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000, help="in each run")
    parser.add_argument("--profile", default="", help="a file for the daemon's cProfile")
    parser.add_argument("--dry", action="store_true", help="leave the results file alone")
    args = parser.parse_args()
    raw = empty_resource()
    rows: list[Sequence[object]] = []
    with stage(200, profile=args.profile) as one:
        one.load("keepalive", 8, 10, 500)
        for connections in (1, 16, 100):
            requests = args.requests if connections > 1 else args.requests // 5
            seen, cost = one.load("keepalive", connections, 120, requests)
            rows.append(row(f"{connections} connections", seen, cost, raw))
    title = f"keepalive; the limit is an empty resource of {raw * 1e6:.0f} µs, without TLS"
    write(title, HEADERS, rows, args.dry)


if __name__ == "__main__":
    main()
