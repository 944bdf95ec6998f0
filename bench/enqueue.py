"""
What it takes to queue one command on 1, 100 and 100,000 devices, over the HTTP API.

Meanwhile other devices ask, on connections that stay open: how long they wait is
the other half of the answer.

The limit is what the store alone has to work to write as much by plain commands; a
script that looks before it writes, and a daemon before it, come on top. Once the store
has the other core, which the one who calls hardly needs: then the rate is what the
slower of both gives.
"""

import argparse
import threading
import time
from collections.abc import Sequence
from typing import Any

from bench.limits import Writes, bare_writes
from bench.results import PERCENTILES, percentiles, write
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
        limit = bare_writes(
            str(one.daemon.state / "store" / "store.sock"),
            [udid(n).encode() for n in range(args.devices)],
            lambda: one.cpu().store,
        )
        for number, (devices, times) in enumerate(((1, 200), (100, 50), (args.devices, 3))):
            rows.append(_alone(one, number, devices, times, limit))
        with one.store_apart():
            name = "the same, a core each"
            rows.append((name, *_alone(one, 3, args.devices, 3, limit)[1:-1], "-"))
        rows.append(_among_others(one, args.devices))
    headers = (
        *("devices", "calls", "commands a second", "daemon CPU µs a command", "store CPU µs"),
        *("both / limit", "of", *PERCENTILES, "server's core"),
    )
    each = f"{limit.cpu * 1e6:.1f} µs of the store for each, {limit.rate:,.0f} a second"
    write(f"enqueue over the API; the limit is plain writes, {each}", headers, rows, args.dry)


def _alone(one: Stage, number: int, devices: int, times: int, limit: Writes) -> Sequence[object]:
    waited: list[float] = []
    before, start = one.cpu(), time.perf_counter()
    for nth in range(times):
        uuid = f"{number:04X}{nth:04X}-0000-4000-8000-000000000001"
        waited += _enqueue(one, uuid, devices)
    took, cost = time.perf_counter() - start, one.cpu() - before
    done = devices * times
    costs = f"{cost.daemon / done * 1e6:,.1f}", f"{cost.store / done * 1e6:,.1f}"
    ratio = f"{(cost.daemon + cost.store) / done / limit.cpu:,.1f}"
    figures = f"{done / took:,.0f}", *costs, ratio
    return f"{devices:,}", len(waited), *figures, "calls", *percentiles(waited), cost.busy(took)


def _among_others(one: Stage, devices: int) -> Sequence[object]:
    seen: dict[str, Any] = {}
    begun = threading.Event()

    def idle() -> None:
        answer, _ = one.load("keepalive", 4, 4, count=4, rate=200, during=begun.set)
        seen.update(answer)

    others = threading.Thread(target=idle)
    others.start()
    begun.wait()
    before, start = one.cpu(), time.perf_counter()
    rounds = calls = 0
    while time.perf_counter() - start < 3:
        uuid = f"{rounds:08X}-1111-4000-8000-000000000001"
        calls += len(_enqueue(one, uuid, devices, 100))
        rounds += 1
    took, cost = time.perf_counter() - start, one.cpu() - before
    others.join()
    each = rounds * (devices - 100)
    times = (f"{seen[name]:.1f}" for name in ("p50", "p95", "p99"))
    figures = f"{each / took:,.0f}", "", "", "", f"{seen['operations']} Idles meanwhile"
    return f"{devices:,}", calls, *figures, *times, cost.busy(took)


def _enqueue(one: Stage, uuid: str, devices: int, first: int = 0) -> list[float]:
    """Queue a command; seconds that each call took."""
    took = []
    for start in range(first, devices, AT_ONCE):
        ids = ",".join(udid(n) for n in range(start, min(start + AT_ONCE, devices)))
        began = time.perf_counter()
        status, answer = one.daemon.api("PUT", f"/v1/enqueue/{ids}?nopush=1", command(uuid).raw)
        took.append(time.perf_counter() - began)
        assert status == 200, (status, str(answer)[:200])
    return took


if __name__ == "__main__":
    main()
