"""
What becomes of devices when twice as many come as can be served.

First as many as there is time for, to learn the rate that can be served; then
half of that, twice that, and half again. The times are those of the devices that
were taken in, from the fourth second on; the others are hung up on, and try again.
"""

import argparse
import os
import signal
import threading
import time
from collections.abc import Sequence

from bench.limits import handshake
from bench.results import write
from bench.stage import Stage, stage


class Throttle:
    """Lets a process run a fifth of the time, or the core that plays the devices would be late."""

    ON, OFF = 0.004, 0.016  # seconds

    def __init__(self, process: int) -> None:
        self._process = process
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ends.wait(self.ON):
            os.kill(self._process, signal.SIGSTOP)
            time.sleep(self.OFF)
            os.kill(self._process, signal.SIGCONT)


def _throttled(one: Stage) -> Throttle:
    assert one.daemon.process is not None
    return Throttle(one.daemon.process.pid)


def main() -> None:
    """Measure, print, and add to the results."""
    parser = argparse.ArgumentParser(prog="bench.overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--threads", type=int, default=2000)
    parser.add_argument("--dry", action="store_true", help="leave the results file alone")
    args = parser.parse_args()
    raw = handshake()
    rows: list[Sequence[object]] = []
    with stage(1000) as one, _throttled(one):
        seen, _ = one.load("session", 16, args.seconds)
        able = seen["operations"] / seen["seconds"]
        for times in (0.5, 2, 0.5):
            asked = able * times
            seen, cost = one.load("session", args.threads, args.seconds, rate=asked)
            rows.append(
                (
                    *(f"{asked:,.0f}", f"{seen['operations'] / seen['seconds']:,.0f}"),
                    *(f"{seen['p50']:.0f}", f"{seen['p95']:.0f}", f"{seen['p99']:.0f}"),
                    *(seen["unheard"], seen["failed"], seen["refused"]),
                    f"{cost.daemon / (seen['operations'] or 1) * 1e6:,.0f}",
                    f"{cost.daemon / (seen['operations'] or 1) / raw:.1f}",
                    *(cost.busy(seen["seconds"]), f"{seen['cpu'] / seen['seconds']:.0%}"),
                )
            )
    title = (
        f"overload: {able:,.0f} sessions a second can be served by a fifth of a core; "
        f"the limit is a handshake of {raw * 1e6:.0f} µs"
    )
    headers = (
        *("asked a second", "served a second", "p50 ms", "p95 ms", "p99 ms"),
        *("not taken in", "failed", "refused", "daemon CPU µs each served", "daemon / limit"),
        *("server's core", "load's core"),
    )
    write(title, headers, rows, args.dry)


if __name__ == "__main__":
    main()
