"""
What it takes to queue one command on 1, 100 and 100,000 devices, over the HTTP API.

Meanwhile other devices ask, on connections that stay open: how long they wait is
the other half of the answer.
"""

import argparse
import threading
import time
from collections.abc import Sequence
from typing import Any

from bench.results import write
from bench.stage import Stage, command, stage, udid

AT_ONCE = 10_000  # ids in one call: more do not fit into a request line


def main() -> None:
    """Measure, print, and add to the results."""
    parser = argparse.ArgumentParser(prog="bench.enqueue", description=__doc__)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--profile", default="", help="a file for the daemon's cProfile")
    parser.add_argument("--dry", action="store_true", help="leave the results file alone")
    args = parser.parse_args()
    rows: list[Sequence[object]] = []
    with stage(100, profile=args.profile) as one:
        one.multiply(args.devices)
        for number, (devices, times) in enumerate(((1, 200), (100, 50), (args.devices, 1))):
            rows.append(_alone(one, number, devices, times))
        rows.append(_among_others(one, args.devices))
    headers = (
        *("devices", "calls", "commands a second", "daemon CPU µs a command", "store CPU µs"),
        *("Idles meanwhile", "p50 ms", "p99 ms"),
    )
    write("enqueue over the API", headers, rows, args.dry)


def _alone(one: Stage, number: int, devices: int, times: int) -> Sequence[object]:
    before, start = one.cpu(), time.perf_counter()
    for nth in range(times):
        _enqueue(one, f"{number:04X}{nth:04X}-0000-4000-8000-000000000001", devices)
    took, cost = time.perf_counter() - start, one.cpu() - before
    done = devices * times
    costs = f"{cost.daemon / done * 1e6:,.1f}", f"{cost.store / done * 1e6:,.1f}"
    return f"{devices:,}", times, f"{done / took:,.0f}", *costs, "-", "-", "-"


def _among_others(one: Stage, devices: int) -> Sequence[object]:
    seen: dict[str, Any] = {}
    begun = threading.Event()

    def idle() -> None:
        answer, _ = one.load("keepalive", 4, 4, first=0, count=4, rate=200, during=begun.set)
        seen.update(answer)

    others = threading.Thread(target=idle)
    others.start()
    begun.wait()
    start = time.perf_counter()
    rounds = 0
    while time.perf_counter() - start < 3:
        _enqueue(one, f"{rounds:08X}-1111-4000-8000-000000000001", devices, 100)
        rounds += 1
    took = time.perf_counter() - start
    others.join()
    each = rounds * (devices - 100)
    figures = seen["operations"], f"{seen['p50']:.1f}", f"{seen['p99']:.1f}"
    return f"{devices:,}", rounds, f"{each / took:,.0f}", "", "", *figures


def _enqueue(one: Stage, uuid: str, devices: int, first: int = 0) -> None:
    for start in range(first, devices, AT_ONCE):
        ids = ",".join(udid(n) for n in range(start, min(start + AT_ONCE, devices)))
        status, answer = one.daemon.api("PUT", f"/v1/enqueue/{ids}?nopush=1", command(uuid).raw)
        assert status == 200, (status, str(answer)[:200])


if __name__ == "__main__":
    main()
