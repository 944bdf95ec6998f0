"""
What it costs to enroll: the profile, SCEP, Authenticate and TokenUpdate, over TLS.

Simulated devices in a process of their own do all that real ones do; their RSA
keys make them slower than the server, so the rate says nothing and the CPU time all.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.limits import handshake
from bench.results import write
from bench.stage import LOAD_CORE, pinned, stage


def main() -> None:
    """Measure, print, and add to the results."""
    parser = argparse.ArgumentParser(prog="bench.checkin", description=__doc__)
    parser.add_argument("--devices", type=int, default=300)
    parser.add_argument("--profile", default="", help="a file for the daemon's cProfile")
    parser.add_argument("--dry", action="store_true", help="leave the results file alone")
    args = parser.parse_args()
    raw = handshake()
    with stage(1, profile=args.profile) as one:
        before, start = one.cpu(), time.perf_counter()
        words = [
            *(*pinned(LOAD_CORE), Path(sys.executable).parent / "mdmctl", "sim", "devices"),
            *("--url", f"https://localhost:{one.daemon.port}", "--once"),
            *("--ca", one.daemon.state / "ca" / "ca.pem", "--count", args.devices),
        ]
        subprocess.run(list(map(str, words)), check=True, stdout=subprocess.DEVNULL)
        took, cost = time.perf_counter() - start, one.cpu() - before
    each = cost.daemon / args.devices
    device = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime / args.devices
    rows: list[Sequence[object]] = [
        (
            *(f"{args.devices:,}", f"{args.devices / took:,.0f}", f"{each * 1e3:.2f} ms"),
            *(f"{each / raw:.1f}", f"{cost.store / args.devices * 1e3:.2f} ms"),
            f"{device * 1e3:.0f} ms",
        )
    ]
    headers = (
        *("enrollments", "a second", "daemon CPU each", "daemon / handshake"),
        *("store CPU each", "device CPU each"),
    )
    write(f"checkin; a handshake is {raw * 1e6:.0f} µs", headers, rows, args.dry)


if __name__ == "__main__":
    main()
