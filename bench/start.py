"""
How long a daemon takes to start, and whether anything grows with the fleet or a queue.

With 1,000 and with 1,000,000 enrollments in the store: the start (with a store
that is there already, and with the embedded one, which reads its file first), and the
cost of an Idle, of a command for one device, and of waking devices that have work. Then,
with the most enrollments: the same for a device with 1 and with 10,000 commands in its
queue.

What each start is compared with is the least it could take: Python alone, Python with
what a daemon is made of, a bare server that reads the same file.
"""

import argparse
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.limits import empty_resource
from bench.memory import IMPORTS
from bench.results import PERCENTILES, percentiles, write
from bench.stage import SERVER_CORE, Stage, pinned, stage, udid
from mdmd.interfaces.fleet import Policy
from mdmd.mdm.command import build_command
from mdmd.mdm.enrollment import EnrollmentID
from tests.blocking import run
from tests.daemonhelp import RunningDaemon
from tests.storehelp import VALKEY

LENGTHS = (1, 10_000)


def main() -> None:
    """Measure, print, and add to the results."""
    parser = argparse.ArgumentParser(prog="bench.start", description=__doc__)
    parser.add_argument("--enrollments", type=int, default=1_000_000)
    parser.add_argument("--dry", action="store_true", help="leave the results file alone")
    args = parser.parse_args()
    raw = empty_resource()
    starts: list[Sequence[object]] = [
        _start("mdmctl --help", 0, _best(_mdmctl, "--help"), _best(sys.executable, "-c", "pass"))
    ]
    growth: list[Sequence[object]] = []
    with stage(100) as one:
        one.enqueue("0000FFFF-0000-4000-8000-000000000001", 50)  # so that these have work
        for size in (1000, args.enrollments):
            one.multiply(size)
            for row in _costs(one, EnrollmentID(udid(60)), raw):
                growth.append((row[0], f"{size:,}", "0 or 1", *row[1:]))
        for length in LENGTHS:
            _fill(one, length)
            for row in _costs(one, EnrollmentID(udid(60)), raw):
                growth.append((row[0], f"{args.enrollments:,}", f"{length:,}", *row[1:]))
        starts += _starts(one, args.enrollments)
    headers = ("what", "enrollments", "seconds", "the least", "start / least")
    write("start", headers, starts, args.dry)
    headers = (
        *("what", "enrollments", "commands in the queue", "a second", "daemon CPU µs"),
        *("store CPU µs", "daemon / limit", *PERCENTILES),
    )
    title = f"growth; the limit is an empty resource of {raw * 1e6:.0f} µs, without TLS"
    write(title, headers, growth, args.dry)


_mdmctl = str(Path(sys.executable).parent / "mdmctl")


def _start(what: str, enrollments: int, took: float, least: float) -> Sequence[object]:
    size = f"{enrollments:,}" if enrollments else "-"
    return what, size, f"{took:.2f}", f"{least:.2f}", f"{took / least:.1f}"


def _best(*words: str) -> float:
    """Seconds that a program takes, the best of five."""
    best = 99.0
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
        best = min(best, time.perf_counter() - start)
    return best


# -- what must not grow ------------------------------------------------------------------


def _costs(one: Stage, target: EnrollmentID, raw: float) -> list[Sequence[object]]:
    """Measure a connect, an enqueue and a push of one device."""
    return [
        _connects(one, raw),
        _enqueues(one, target, raw),
        _calls("look for due pushes, claim 50", one, 200, lambda _: _claim(one)),
    ]


def _connects(one: Stage, raw: float) -> Sequence[object]:
    """Let the device ask, on 16 connections, so that a turn of the loop is what it is in life."""
    one.load("keepalive", 16, 5, 500, first=60, count=1)
    seen, cost = one.load("keepalive", 16, 60, 8000, first=60, count=1)
    done = seen["operations"]
    return (
        *("Idle, answered by a command if there is one", f"{done / seen['seconds']:,.0f}"),
        *(f"{cost.daemon / done * 1e6:.0f}", f"{cost.store / done * 1e6:.0f}"),
        f"{cost.daemon / done / raw:.1f}",
        *(f"{seen[name]:.1f}" for name in ("p50", "p95", "p99")),
    )


def _enqueues(one: Stage, target: EnrollmentID, raw: float) -> Sequence[object]:
    uuids: list[str] = []

    def enqueue(number: int) -> None:
        uuids.append(f"{time.time_ns() & 0xFFFFFFFF:08X}-{number:04X}-4000-8000-000000000002")
        assert one.daemon.enqueue(str(target), uuids[-1]) == 200

    row = _calls("enqueue by a call of the API", one, 200, enqueue, raw)
    for uuid in uuids:
        run(one.store.fleet.cancel(target, uuid))
    return row


def _claim(one: Stage) -> None:
    run(one.store.push.claim_due(50, 1))
    targets = [EnrollmentID(udid(n)) for n in (60, *range(49))]
    assert len(run(one.store.push.claim(targets, 1))) == 50


def _calls(
    what: str, one: Stage, times: int, act: Callable[[int], object], raw: float = 0
) -> Sequence[object]:
    waited = []
    before, began = one.cpu(), time.perf_counter()
    for number in range(times):
        start = time.perf_counter()
        act(number)
        waited.append(time.perf_counter() - start)
    took, cost = time.perf_counter() - began, one.cpu() - before
    daemon = cost.daemon / times
    of_daemon = (f"{daemon * 1e6:.0f}", f"{daemon / raw:.1f}") if raw else ("-", "-")
    return (
        *(what, f"{times / took:,.0f}", of_daemon[0]),
        *(f"{cost.store / times * 1e6:.0f}", of_daemon[1], *percentiles(waited)),
    )


def _fill(one: Stage, length: int) -> None:
    """Make the queue of the device so long."""
    target = EnrollmentID(udid(60))
    run(one.store.fleet.clear(target))
    for number in range(length):
        command = build_command("DeviceInformation", {}, f"{length}-{number}")
        run(one.store.fleet.enqueue(command, [target], Policy(wake=False)))


# -- starts ------------------------------------------------------------------------------


def _starts(one: Stage, size: int) -> list[Sequence[object]]:
    imported = _best(sys.executable, "-c", f"import {IMPORTS}")
    rows = [_start("daemon, store that is there", size, _another(one), imported)]
    one.daemon.stop(120)
    bare = _bare_store(one)
    start = time.perf_counter()
    one.daemon.start(300)
    rows.append(_start("daemon, embedded store", size, time.perf_counter() - start, bare))
    return rows


def _another(one: Stage) -> float:
    """Time a second daemon on the same store."""
    other = RunningDaemon(f"unix://{one.daemon.state / 'store' / 'store.sock'}")
    other.launcher = pinned(SERVER_CORE)
    shutil.copy(one.daemon.state / "sealing.key", other.state)
    shutil.copytree(one.daemon.state / "ca", other.state / "ca", dirs_exist_ok=True)
    try:
        start = time.perf_counter()
        other.start(60)
        return time.perf_counter() - start
    finally:
        other.close()


def _bare_store(one: Stage) -> float:
    """Time the store's server alone on the files of the daemon's, which has ended."""
    folder = one.daemon.state / "store"
    start = time.perf_counter()
    words = [*pinned(SERVER_CORE), VALKEY, str(folder / "server.conf")]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL) as server:
        try:
            while not _answers(folder / "store.sock"):
                time.sleep(0.02)
            return time.perf_counter() - start
        finally:
            server.terminate()


def _answers(place: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as road:
        try:
            road.connect(str(place))
            road.sendall(b"PING\r\n")
            return road.recv(100).startswith(b"+PONG")
        except OSError:
            return False


if __name__ == "__main__":
    main()
