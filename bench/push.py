"""
How fast one connection pushes, and what a push costs.

Run by ``make bench``; ``python -m bench.push --help`` says more. The other side
is nghttpd or node's http2 in a process and on a core of its own, on loopback, over
TLS with a client certificate. CPU time is that of this process alone, which does
what a daemon does to push.
"""

import argparse
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, gatherResults

from bench.limits import h2_loop
from bench.results import PERCENTILES, percentiles, write
from bench.stage import LOAD_CORE, SERVER_CORE, on_core
from mdmd.apns.client import PushService
from mdmd.interfaces.push import Decision, Notification
from tests.peerhelp import NGHTTPD, NODE, Authority, NodeApns, Program, listening, service
from tests.storehelp import free_port

reactor: Any = installed_reactor
TOPIC = "com.apple.mgmt.External.bench"
TOKEN = bytes(range(32))
MAGIC = "3C1A7E0B-5E63-4F2B-8F0C-000000000001"
STREAMS = 2000


def main() -> None:
    """Measure, print, and add to the results."""
    parser = argparse.ArgumentParser(prog="bench.push", description=__doc__)
    parser.add_argument("--pushes", type=int, default=20_000, help="in each run (default 20000)")
    parser.add_argument("--profile", action="store_true", help="show where the time goes")
    parser.add_argument("--dry", action="store_true", help="leave the results file alone")
    args = parser.parse_args()
    running = Deferred.fromCoroutine(_measure(args))
    running.addErrback(lambda failure: failure.printTraceback(sys.stderr))
    running.addBoth(lambda _: reactor.stop())
    reactor.run()


async def _measure(args: argparse.Namespace) -> None:
    folder = Path(tempfile.mkdtemp())
    programs: list[Program] = []
    try:
        with on_core(SERVER_CORE):
            raw = h2_loop()
            rows = await _runs(args, Authority(folder), programs, raw)
    finally:
        for each in programs:
            await each.kill()
        shutil.rmtree(folder)
    headers = (
        *("server", "answers after", "in flight", "pushes/s", "CPU µs/push", "CPU / limit"),
        *(*PERCENTILES, "our core", "memory MB"),
    )
    limit = f"the limit is a bare h2 loop without TLS, {raw * 1e6:.0f} µs"
    write(f"push: one connection, TLS, client certificate; {limit}", headers, rows, args.dry)


async def _runs(
    args: argparse.Namespace, authority: Authority, programs: list[Program], raw: float
) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    if NGHTTPD is not None:
        port = await _nghttpd(authority, programs)
        sender = await _towards(authority, port)
        for flying, pushes in ((1, args.pushes // 10), (100, args.pushes), (1000, args.pushes)):
            row = await _run(sender, flying, pushes, args, raw)
            rows.append(("nghttpd", "0 ms", flying, *row))
        await sender.stop()
        with on_core(LOAD_CORE):
            relay = Program(sys.executable, "-m", "bench.relay", str(port), "0.025")
        programs.append(relay)
        sender = await _towards(authority, (await relay.line())["port"])
        for flying, pushes in (
            (1, 40),
            (100, args.pushes // 4),
            (1000, args.pushes),
            (2000, args.pushes),
        ):
            row = await _run(sender, flying, pushes, args, raw)
            rows.append(("nghttpd, 25 ms away", "50 ms", flying, *row))
        await sender.stop()
    if NODE is not None:
        with on_core(LOAD_CORE):
            node = await NodeApns(authority, streams=STREAMS, delay=50).start()
        programs.append(node.program)
        sender = await _towards(authority, node.port)
        for flying, pushes in ((1, 40), (100, args.pushes // 4), (1000, args.pushes)):
            row = await _run(sender, flying, pushes, args, raw)
            rows.append(("node", "50 ms", flying, *row))
        await sender.stop()
    return rows


async def _nghttpd(authority: Authority, programs: list[Program]) -> int:
    device = authority.folder / "3" / "device"
    device.mkdir(parents=True)
    (device / TOKEN.hex()).write_text("")
    port = free_port()
    pair = [str(authority.folder / f"localhost.{kind}") for kind in ("key", "pem")]
    assert NGHTTPD is not None
    words = (NGHTTPD, f"-m{STREAMS}", "-V", "-d", str(authority.folder), str(port), *pair)
    with on_core(LOAD_CORE):
        programs.append(Program(*words))
    await listening(port)
    return port


async def _towards(authority: Authority, port: int) -> PushService:
    sender, _ = service(authority, port, TOPIC)
    await sender.start()
    await sender.push(Notification(TOPIC, TOKEN, MAGIC))
    return sender


async def _run(
    sender: PushService, flying: int, pushes: int, args: argparse.Namespace, raw: float
) -> tuple[object, ...]:
    """Push so many, so many at a time."""
    left = pushes
    times: list[float] = []

    async def one_after_the_other() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            start = time.perf_counter()
            outcome = await sender.push(Notification(TOPIC, TOKEN, MAGIC))
            times.append(time.perf_counter() - start)
            assert outcome.decision is Decision.DELIVERED, outcome

    profile = _profile() if args.profile else None
    began, cpu = time.perf_counter(), time.process_time()
    await gatherResults([Deferred.fromCoroutine(one_after_the_other()) for _ in range(flying)])
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    if profile is not None:
        _show(profile)
    (status,) = sender.status()
    assert status.connections == 1, status
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    each = cpu / pushes
    return (
        *(f"{pushes / took:,.0f}", f"{each * 1e6:.1f}", f"{each / raw:.2f}"),
        *(*percentiles(times), f"{cpu / took:.0%}", f"{memory:.0f}"),
    )


def _profile() -> Any:
    import cProfile

    profile = cProfile.Profile()
    profile.enable()
    return profile


def _show(profile: Any) -> None:
    import pstats

    profile.disable()
    pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()
