"""
Bytes in the store for an enrollment and for a queued command; the daemon's memory.

The daemon is measured idle, and with many connections of devices that stay open.
"""

import argparse
import socket
import ssl
from collections.abc import Sequence

from bench.results import write
from bench.stage import Stage, stage
from mdmd.store.store import Settings, Store


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
    write("memory", ("what", "how many", "bytes each"), rows, args.dry)


def _store(one: Stage, count: int) -> list[Sequence[object]]:
    one.store = Store(one.link, one.sealer, one.clock, Settings(events_kept=100))
    before = one.used()
    for number in range(count):
        one.enroll(number, f"{number:064x}")
    rows: list[Sequence[object]] = []
    rows.append(("enrollment", f"{count:,}", f"{(one.used() - before) / count:,.0f}"))
    one.count = count
    for nth in ("first", "second", "third"):
        before = one.used()
        one.enqueue(f"{len(rows):08X}-0000-4000-8000-000000000001")
        each = f"{(one.used() - before) / count:,.0f}"
        rows.append((f"shared command, the {nth} in a queue", f"{count:,}", each))
    return rows


def _daemon(one: Stage, count: int) -> list[Sequence[object]]:
    before = one.resident()
    rows: list[Sequence[object]] = [("idle daemon", 1, f"{before:,}")]
    context = ssl.create_default_context(cafile=str(one.daemon.state / "ca" / "ca.pem"))
    open_ones = []
    for _ in range(count):
        raw = socket.create_connection(("127.0.0.1", one.daemon.port))
        connection = context.wrap_socket(raw, server_hostname="localhost")
        connection.sendall(b"GET /ca HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.recv(65536)
        open_ones.append(connection)
    each = (one.resident() - before) / count
    rows.append(("open TLS connection, in the daemon", f"{count:,}", f"{each:,.0f}"))
    for connection in open_ones:
        connection.close()
    return rows


if __name__ == "__main__":
    main()
