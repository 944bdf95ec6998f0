"""
How much one daemon serves in a second, and two that share its port and its store.

On two cores: one daemon and the store on the first, the other daemon on the second.
The devices have no core of their own here, so the gain is less than it would be: a
visit costs a device's side as much TLS as it costs ours, so visits show next to
none; an Idle on an open connection costs it little.
"""

import argparse
import shutil
from collections.abc import Sequence

from bench.results import write
from bench.stage import LOAD_CORE, Stage, pinned, stage
from tests.daemonhelp import RunningDaemon

SHARED = "reuse_port = yes"


def main() -> None:
    """Measure, print, and add to the results."""
    parser = argparse.ArgumentParser(prog="bench.daemons", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--dry", action="store_true", help="leave the results file alone")
    args = parser.parse_args()
    rows: list[Sequence[object]] = []
    with stage(1000, {"site": SHARED}) as one:
        for daemons in (1, 2):
            other = _another(one) if daemons == 2 else None
            for how, what in (("session", "visits"), ("keepalive", "Idles")):
                seen, cost = one.load(how, 48, args.seconds)
                rate = seen["operations"] / seen["seconds"]
                rows.append(
                    (
                        *(what, daemons, f"{rate:,.0f}", f"{seen['p50']:.0f}"),
                        *(f"{seen['p99']:.0f}", f"{cost.daemon / seen['seconds']:.2f}"),
                        seen["failed"] + seen["refused"],
                    )
                )
            if other is not None:
                other.close()
    headers = (
        *("what", "daemons", "a second", "p50 ms", "p99 ms", "first daemon's CPU", "failed"),
    )
    write("several daemons", headers, rows, args.dry)


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
