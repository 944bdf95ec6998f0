"""
How long a daemon takes to start, and whether anything grows with the fleet.

With 1,000 and with 1,000,000 enrollments in the store: the start (with a store
that is there already, and with the embedded one, which reads its file first), the
cost of an Idle, and of a command for one device; and of an Idle of a device with 1
and with 10,000 commands in its queue.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.limits import empty_resource
from bench.results import write
from bench.stage import Stage, stage, udid
from mdmd.interfaces.fleet import Policy
from mdmd.mdm.command import build_command
from mdmd.mdm.enrollment import EnrollmentID
from tests.blocking import run
from tests.daemonhelp import RunningDaemon


def main() -> None:
    """Measure, print, and add to the results."""
    parser = argparse.ArgumentParser(prog="bench.start", description=__doc__)
    parser.add_argument("--enrollments", type=int, default=1_000_000)
    parser.add_argument("--dry", action="store_true", help="leave the results file alone")
    args = parser.parse_args()
    rows: list[Sequence[object]] = [("mdmctl --help", "-", f"{_mdmctl():.2f} s")]
    with stage(100) as one:
        raw = empty_resource()
        for size in (1000, args.enrollments):
            one.multiply(size)
            one.count = max(one.count, 100)
            rows += [(what, f"{size:,}", figure) for what, figure in _at(one, raw)]
        rows += _long_queue(one)
        rows.append(("start, store that is there", f"{args.enrollments:,}", _another(one)))
        rows.append(("start, embedded store", f"{args.enrollments:,}", _restart(one)))
    write("start and growth", ("what", "enrollments", "figure"), rows, args.dry)


def _mdmctl() -> float:
    program = Path(sys.executable).parent / "mdmctl"
    best = 99.0
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([program, "--help"], stdout=subprocess.DEVNULL, check=True)
        best = min(best, time.perf_counter() - start)
    return best


def _at(one: Stage, raw: float) -> list[tuple[str, str]]:
    found = []
    one.load("keepalive", 16, 5, 500, count=100)
    seen, cost = one.load("keepalive", 16, 60, 8000, count=100)
    each = cost.daemon / seen["operations"]
    store = cost.store / seen["operations"]
    found.append(("Idle, daemon CPU", f"{each * 1e6:.0f} µs, {each / raw:.1f} × an empty resource"))
    found.append(("Idle, store CPU", f"{store * 1e6:.0f} µs"))
    before = one.cpu()
    for number in range(300):
        command = build_command("DeviceInformation", {}, f"{time.time_ns():X}-{number}")
        run(one.store.fleet.enqueue(command, [EnrollmentID(udid(50))], Policy(wake=False)))
    cost = one.cpu() - before
    run(one.store.fleet.clear(EnrollmentID(udid(50))))
    found.append(("enqueue on one, store CPU", f"{cost.store / 300 * 1e6:.0f} µs"))
    start = time.perf_counter()
    for _ in range(100):
        run(one.store.push.claim_due(100, 1000))
    found.append(
        ("100 claims of due pushes, each", f"{(time.perf_counter() - start) * 1e4:.0f} µs")
    )
    return found


def _long_queue(one: Stage) -> list[Sequence[object]]:
    rows: list[Sequence[object]] = []
    for length in (1, 10_000):
        target = EnrollmentID(udid(60))
        for number in range(length):
            command = build_command("DeviceInformation", {}, f"{length}-{number}")
            run(one.store.fleet.enqueue(command, [target], Policy(wake=False)))
        one.load("keepalive", 1, 5, 100, first=60, count=1)
        seen, cost = one.load("keepalive", 1, 20, 2000, first=60, count=1)
        each = f"{cost.store / seen['operations'] * 1e6:.0f} µs"
        rows.append((f"Idle of a queue of {length:,}, store CPU", "-", each))
    return rows


def _another(one: Stage) -> str:
    """Time a second daemon on the same store."""
    other = RunningDaemon(f"unix://{one.daemon.state / 'store' / 'store.sock'}")
    shutil.copy(one.daemon.state / "sealing.key", other.state)
    shutil.copytree(one.daemon.state / "ca", other.state / "ca", dirs_exist_ok=True)
    try:
        start = time.perf_counter()
        other.start(60)
        return f"{time.perf_counter() - start:.1f} s"
    finally:
        other.close()


def _restart(one: Stage) -> str:
    one.daemon.stop(120)
    start = time.perf_counter()
    one.daemon.start(300)
    return f"{time.perf_counter() - start:.1f} s"


if __name__ == "__main__":
    main()
