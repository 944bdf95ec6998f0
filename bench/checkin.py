"""
What it costs to enroll: SCEP, Authenticate and TokenUpdate, over TLS.

A device asks for the CA's certificate and for its own on one connection, and
checks in on another one. Its requests are made beforehand, all with one RSA key,
or the devices would be slower than the server. The CA's key is RSA by default; an EC
key signs for a tenth, but SCEP's two other operations stay RSA.
"""

import argparse
from collections.abc import Sequence

from bench.limits import enrollment
from bench.results import write
from bench.stage import HEADERS, row, stage


def main() -> None:
    """Measure, print, and add to the results."""
    parser = argparse.ArgumentParser(prog="bench.checkin", description=__doc__)
    parser.add_argument("--devices", type=int, default=2000, help="in each run")
    parser.add_argument("--threads", type=int, default=32, help="devices at the same time")
    parser.add_argument("--profile", default="", help="a file for the daemon's cProfile")
    parser.add_argument("--dry", action="store_true", help="leave the results file alone")
    args = parser.parse_args()
    raw = enrollment()
    rows: list[Sequence[object]] = []
    for kind, runs in (("rsa", (1, args.threads)), ("ec", (args.threads,))):
        with stage(1, profile=args.profile, init=("--ca-key", kind)) as one:
            for number, threads in enumerate(runs):
                count = args.devices if threads > 1 else args.devices // 5
                first = 1 + number * args.devices
                one.prepare(first, count)
                seen, cost = one.load("enroll", threads, 300, count, first, count)
                assert seen["operations"] == count, seen
                rows.append(row(f"{kind.upper()} CA, {threads} at a time", seen, cost, raw))
    title = f"checkin; the limit is the arithmetic of TLS and SCEP alone, {raw * 1e6:,.0f} µs"
    write(title, HEADERS, rows, args.dry)


if __name__ == "__main__":
    main()
