"""
Enrollments with work, by the hundred thousand: how fast they are woken, and in how much memory.

A real Valkey holds them; another process puts them there, so that this one, which
does what a daemon does to push, shows its own memory. It has a core to itself; the
store has the other one, with the push service.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from bench.limits import h2_loop
from bench.push import _nghttpd
from bench.results import PERCENTILES, percentiles, write
from bench.stage import LOAD_CORE, SERVER_CORE, on_core, worked
from mdmd.apns.client import PushService, Settings
from mdmd.apns.waker import Waker
from mdmd.interfaces.push import Notification, PushOutcome
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.store import keys
from mdmd.store.enrollments import pack_push
from mdmd.store.link import Link
from mdmd.store.store import Store
from tests.peerhelp import Authority, Program
from tests.storecase import SEALER, udid
from tests.storehelp import VALKEY, Server

reactor: Any = installed_reactor
TOPIC = "com.apple.mgmt.External.bench"
TOKEN = bytes(range(32))
BATCH = 1000


def main() -> None:
    """Measure, print, and add to the results."""
    parser = argparse.ArgumentParser(prog="bench.push_work", description=__doc__)
    parser.add_argument("--queued", type=int, default=100_000, help="enrollments with work")
    parser.add_argument("--pushes", type=int, default=50_000, help="so many are woken and timed")
    parser.add_argument("--dry", action="store_true", help="leave the results file alone")
    parser.add_argument("--load", metavar="URL", help=argparse.SUPPRESS)
    args = parser.parse_args()
    work = _load(args) if args.load else _measure(args)
    running = Deferred.fromCoroutine(work)
    running.addErrback(lambda failure: failure.printTraceback(sys.stderr))
    running.addBoth(lambda _: reactor.stop())
    reactor.run()


async def _load(args: argparse.Namespace) -> None:
    """Put enrollments with work into the store, as the scripts would have."""
    link = await Link.open(reactor, args.load, timeout=60.0)
    secret = pack_push(TOKEN, "3C1A7E0B-5E63-4F2B-8F0C-000000000001")
    for start in range(0, args.queued, BATCH):
        waiting = []
        for number in range(start, min(start + BATCH, args.queued)):
            one = EnrollmentID(udid(number))
            place = keys.push(one)
            record = ("enabled", 1, "topic", TOPIC, "pushes", 0)
            waiting += [
                Deferred.fromCoroutine(link.call("HSET", keys.record(one), *record)),
                Deferred.fromCoroutine(link.call("SET", place, SEALER.seal(secret, place))),
                Deferred.fromCoroutine(link.call("ZADD", keys.queue(one), number, b"u" * 16)),
                Deferred.fromCoroutine(link.call("ZADD", keys.work(one), 1, keys.member(one))),
            ]
        await gatherResults(waiting)
    await link.close()


async def _measure(args: argparse.Namespace) -> None:
    assert VALKEY is not None
    folder, server = Path(tempfile.mkdtemp()), Server(VALKEY)
    with on_core(LOAD_CORE):
        server.start()
    programs: list[Program] = []
    try:
        words = ("--load", server.url, "--queued", str(args.queued))
        subprocess.run(  # noqa: ASYNC221  (nothing else runs yet)
            [sys.executable, "-m", "bench.push_work", *words], check=True
        )
        with on_core(SERVER_CORE):
            raw = h2_loop()
            row = await _run(args, server, Authority(folder), programs, raw)
    finally:
        for each in programs:
            await each.kill()
        server.close()
        shutil.rmtree(folder)
    headers = (
        *("enrollments with work", "pushes/s", "CPU µs/push, store's answers read"),
        *("store CPU µs", "CPU / limit", *PERCENTILES, "our core", "memory MB"),
        *("before the waker, MB", "store, bytes each"),
    )
    limit = f"the limit is a bare h2 loop without TLS, {raw * 1e6:.0f} µs"
    write(f"push: the waker on a real store; {limit}", headers, [row], args.dry)


class _Timed:
    """The push service, and how long each push took."""

    def __init__(self, service: PushService) -> None:
        self._service = service
        self.times: list[float] = []

    async def push(self, notification: Notification) -> PushOutcome:
        start = time.perf_counter()
        try:
            return await self._service.push(notification)
        finally:
            self.times.append(time.perf_counter() - start)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)


async def _run(
    args: argparse.Namespace,
    server: Server,
    authority: Authority,
    programs: list[Program],
    raw: float,
) -> tuple[object, ...]:
    port = await _nghttpd(authority, programs)
    link = await Link.open(reactor, server.url, timeout=60.0)
    store = Store(link, SEALER, reactor)
    certificate, key, not_after = authority.push_pair(TOPIC)
    await store.certificates.put(TOPIC, certificate, key, not_after)
    info = (await link.call("INFO", "memory")).decode()
    used = int(info.partition("used_memory:")[2].split()[0])
    settings = Settings("localhost", port, authority.pem)
    service = PushService(reactor, settings, store.certificates, wall=time.time)
    done = 0

    def count(*_: object) -> None:
        nonlocal done
        done += 1

    timed = _Timed(service)
    waker = Waker(reactor, store.push, timed, recorded=count, wall=time.time)
    await service.start()
    before = _megabytes()
    assert server.process is not None
    began, cpu, theirs = time.perf_counter(), time.process_time(), worked(server.process.pid)
    await waker.start()
    while done < args.pushes:
        await deferLater(reactor, 0.05)
    took, cpu, pushed = time.perf_counter() - began, time.process_time() - cpu, done
    theirs = worked(server.process.pid) - theirs
    await waker.stop()
    await service.stop()
    await link.close()
    return (
        f"{args.queued:,}",
        f"{pushed / took:,.0f}",
        *(f"{cpu / pushed * 1e6:.0f}", f"{theirs / pushed * 1e6:.0f}"),
        *(f"{cpu / pushed / raw:.2f}", *percentiles(timed.times), f"{cpu / took:.0%}"),
        *(f"{_megabytes():.0f}", f"{before:.0f}", f"{used / args.queued:.0f}"),
    )


def _megabytes() -> float:
    """The most that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
