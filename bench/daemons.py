"""
How much one daemon serves in a second, and two that share its port and its store.

On two cores: one daemon and the store on the first, the other daemon on the second.
The devices have no core of their own here, so the rates of two daemons are lower than
they would be: a visit costs a device's side as much TLS as it costs ours, an Idle on an
open connection costs it little.

What holds whatever the devices take is the CPU time of an operation: if two daemons need
no more for it than one, each brings what its core can do. The last column is worked out
from it: the operations a second of so many daemons that have a core each, the store and
the devices being on others, and as many as the store's core can do at most.
"""

import argparse
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.limits import empty_resource, handshake
from bench.results import write
from bench.stage import LOAD_CORE, Stage, pinned, stage, worked
from tests.daemonhelp import RunningDaemon

SHARED = "reuse_port = yes"


def main() -> None:
    """Measure, print, and add to the results."""
    parser = argparse.ArgumentParser(prog="bench.daemons", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--dry", action="store_true", help="leave the results file alone")
    args = parser.parse_args()
    limits = {"session": handshake(), "keepalive": empty_resource()}
    rows: list[Sequence[object]] = []
    with stage(1000, {"site": SHARED}) as one:
        for daemons in (1, 2):
            with _beside(one, daemons - 1) as others:
                rows += [_run(one, others, how, limits[how], args.seconds) for how in limits]
    headers = (
        *("what", "daemons", "a second", "p50 ms", "p95 ms", "p99 ms", "daemons' CPU µs each"),
        *("of it the first one's", "daemons / limit", "store CPU µs", "first core"),
        *("devices' share of a core", "failed", "with a core for each: a second, store's most"),
    )
    limit = f"{limits['session'] * 1e6:.0f} µs; {limits['keepalive'] * 1e6:.0f} µs"
    title = f"several daemons; the limits are a handshake, an empty resource: {limit}"
    write(title, headers, rows, args.dry)


def _run(
    one: Stage, others: Sequence[RunningDaemon], how: str, raw: float, seconds: float
) -> Sequence[object]:
    before = sum(map(_cpu, others))
    seen, cost = one.load(how, 48, seconds)
    done = seen["operations"]
    all_of_them = cost.daemon + sum(map(_cpu, others)) - before
    each, store = all_of_them / done, cost.store / done
    capacity = f"{(1 + len(others)) / each:,.0f}, {1 / store:,.0f}"
    return (
        *(_WORDS[how], 1 + len(others), f"{done / seen['seconds']:,.0f}"),
        *(f"{seen[name]:.0f}" for name in ("p50", "p95", "p99")),
        *(f"{each * 1e6:,.0f}", f"{cost.daemon / all_of_them:.0%}", f"{each / raw:.1f}"),
        *(f"{store * 1e6:,.0f}", cost.busy(seen["seconds"])),
        f"{seen['cpu'] / seen['seconds']:.0%}",
        *(seen["failed"] + seen["refused"], capacity),
    )


_WORDS = {"session": "visits", "keepalive": "Idles"}


def _cpu(daemon: RunningDaemon) -> float:
    assert daemon.process is not None
    return worked(daemon.process.pid)


@contextmanager
def _beside(one: Stage, count: int) -> Iterator[list[RunningDaemon]]:
    """Run more daemons on the other core for as long as the block."""
    others: list[RunningDaemon] = []
    try:
        for _ in range(count):
            others.append(_another(one))
        time.sleep(1)  # a daemon that has just started still does other things
        yield others
    finally:
        for each in others:
            each.close()


def _another(one: Stage) -> RunningDaemon:
    first = one.daemon
    second = RunningDaemon(f"unix://{first.state / 'store' / 'store.sock'}", {"site": SHARED})
    for name in ("ca", "tls"):
        shutil.copytree(first.state / name, second.state / name, dirs_exist_ok=True)
    for name in ("sealing.key", "scep.challenge"):
        shutil.copy(first.state / name, second.state / name)
    text = second.config.read_text().replace(str(second.port), str(first.port))
    second.config.write_text(text)
    second.launcher = pinned(LOAD_CORE)
    second.start()
    return second


if __name__ == "__main__":
    main()
