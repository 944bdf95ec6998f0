"""
Bytes in the store for an enrollment and for a queued command; the daemon's memory.

The daemon is measured idle, and with many connections of devices that stay open.
What each is compared with is the least that it could take: in the store one string
or sorted set with the same bytes in it, for the daemon a process that has imported
Twisted, TLS and X.509 and does nothing.
"""

import argparse
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.results import PERCENTILES, percentiles, write
from bench.stage import TOPIC, Stage, resident, stage, udid
from mdmd.store import keys
from mdmd.store.store import Settings, Store
from tests.blocking import run

IMPORTS = "twisted.internet.reactor, twisted.web.server, OpenSSL.SSL, cryptography.x509"


def main() -> None:
    """Measure, print, and add to the results."""
    parser = argparse.ArgumentParser(prog="bench.memory", description=__doc__)
    parser.add_argument("--enrollments", type=int, default=5_000)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--dry", action="store_true", help="leave the results file alone")
    args = parser.parse_args()
    # Few events, or they would count as the enrollments they tell of.
    with stage(0, {"events": "kept = 100"}) as one:
        rows = [*_store(one, args.enrollments), *_daemon(one, args.connections)]
    headers = (
        *("what", "how many", "bytes each", "the least", "bytes / least"),
        *("daemon CPU µs each", "store CPU µs each", "a second", *PERCENTILES),
    )
    write("memory", headers, rows, args.dry)


def _row(
    what: str, count: int, each: float, least: float, costs: Sequence[object] = ("-",) * 6
) -> Sequence[object]:
    compared = (f"{least:,.0f}", f"{each / least:.1f}") if least else ("-", "-")
    return (what, f"{count:,}", f"{each:,.0f}", *compared, *costs)


def _store(one: Stage, count: int) -> list[Sequence[object]]:
    one.store = Store(one.link, one.sealer, one.clock, Settings(events_kept=100))
    # Topic, token, magic, pin and facts, as they came.
    told = f"{TOPIC}{udid(0)}C02X00000000Some Mac15.2".encode() + b"t" * 32 + b"f" * 32
    least = _bare(one, count, lambda name: ("SET", name, told))
    enrolled = _each(one, count, lambda number: one.enroll(number, f"{number:064x}"))
    rows = [_row("enrollment", count, enrolled[0], least, enrolled[1:])]
    one.count = count
    for number, nth in enumerate(("first", "second", "third"), 1):
        uuid = f"{number:08X}-0000-4000-8000-000000000001"
        least = _bare(
            one,
            count,
            lambda name: ("ZADD", name, 1, keys.pack(uuid)),  # noqa: B023
            keep=number < 3,
        )
        before, cpu = one.used(), one.cpu()
        one.enqueue(uuid)
        each, cost = (one.used() - before) / count, one.cpu() - cpu
        costs = ("-", f"{cost.store / count * 1e6:.1f}", *("-",) * 4)
        rows.append(_row(f"shared command, the {nth} in a queue", count, each, least, costs))
    return rows


def _bare(
    one: Stage, count: int, words: Callable[[bytes], tuple[object, ...]], keep: bool = False
) -> float:
    """Say what a plain command adds to the store; the name has as many bytes as a real one."""
    before = one.used()
    names = [f"bare:{{{udid(n)}}}:q".encode() for n in range(count)]
    for name in names:
        run(one.link.call(*words(name)))  # type: ignore[arg-type]
    each = (one.used() - before) / count
    if not keep:
        for name in names:
            run(one.link.call("DEL", name))
    return each


def _each(one: Stage, count: int, act: Callable[[int], object]) -> tuple[float, *tuple[str, ...]]:
    """Do something so many times; bytes in the store for each, and what it cost."""
    before, cpu, times = one.used(), one.cpu(), []
    began = time.perf_counter()
    for number in range(count):
        start = time.perf_counter()
        act(number)
        times.append(time.perf_counter() - start)
    took, cost = time.perf_counter() - began, one.cpu() - cpu
    figures = "-", f"{cost.store / count * 1e6:.0f}", f"{count / took:,.0f}", *percentiles(times)
    return (one.used() - before) / count, *figures


def _daemon(one: Stage, count: int) -> list[Sequence[object]]:
    before = one.resident()
    rows = [_row("idle daemon", 1, before, _imported())]
    context = ssl.create_default_context(cafile=str(one.daemon.state / "ca" / "ca.pem"))
    open_ones, times = [], []
    cpu, began = one.cpu(), time.perf_counter()
    for _ in range(count):
        start = time.perf_counter()
        raw = socket.create_connection(("127.0.0.1", one.daemon.port))
        connection = context.wrap_socket(raw, server_hostname="localhost")
        connection.sendall(b"GET /ca HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.recv(65536)
        times.append(time.perf_counter() - start)
        open_ones.append(connection)
    took, cost = time.perf_counter() - began, one.cpu() - cpu
    each = (one.resident() - before) / count
    figures = f"{cost.daemon / count * 1e6:.0f}", "-", f"{count / took:,.0f}", *percentiles(times)
    rows.append(_row("open TLS connection, in the daemon", count, each, 0, figures))
    for connection in open_ones:
        connection.close()
    return rows


def _imported() -> int:
    """Say how many bytes a process has that has only imported what a daemon is made of."""
    words = [sys.executable, "-c", f"import sys, {IMPORTS}; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(os.sep)
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        return resident(process.pid)


if __name__ == "__main__":
    main()
