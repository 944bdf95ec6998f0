"""
A real daemon with its store on one core, and devices in C on the other.

CPU time is the sturdiest figure on a noisy machine: the daemon's and the
store's are read from the kernel before and after each run. Each run also says
how busy both cores were: a rate is the server's only if the server's core had
no time left.
"""

import contextlib
import json
import os
import shutil
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from mdmd.interfaces.fleet import Policy
from mdmd.interfaces.identity import Identity
from mdmd.mdm.checkin import Authenticate, TokenUpdate
from mdmd.mdm.command import Command, build_command
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.pki import scep_client
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import (
    certificate_pem,
    fingerprint,
    key_pem,
    new_csr,
    new_key,
)
from mdmd.pki.sealing import CA_KEY, Sealer
from mdmd.store import keys
from mdmd.store.store import Store
from tests.blocking import BlockingLink, run
from tests.daemonhelp import TOPIC, RunningDaemon
from tests.storehelp import VALKEY

SERVER_CORE, LOAD_CORE = "0", "1"
SOURCE = Path(__file__).with_name("load.c")
_AT_REST = 0.03  # of a core

_PINS = shutil.which("taskset") is not None and (os.cpu_count() or 1) > 1

_COPY = """
local from = ARGV[1]
for at = 2, #ARGV do
  local one = 'mdmd:{' .. ARGV[at] .. '}:'
  for _, name in ipairs({'e', 'f', 'p'}) do redis.call('COPY', from .. name, one .. name) end
  redis.call('SET', 'mdmd:pin:' .. redis.sha1hex(ARGV[at]) .. string.rep('0', 24), ARGV[at])
  redis.call('ZADD', KEYS[1], 0, ARGV[at])
end
"""


def udid(number: int) -> str:
    """Name a Mac."""
    return f"0A1B2C3D-0000-5AC1-BDB2-{number:012X}"


def pinned(core: str) -> list[str]:
    """What to put before a command so that it has a core to itself, as far as that goes."""
    words = ["nice", "-n", "-10"] if os.geteuid() == 0 else []
    if _PINS:
        words += ["taskset", "-c", core]
    return words


@contextmanager
def on_core(core: str) -> Iterator[None]:
    """Keep this process, and those that it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    if _PINS:
        os.sched_setaffinity(0, {int(core)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class _Profiled(RunningDaemon):
    """The daemon, under cProfile if there is a file for it."""

    def __init__(self, profile: str, options: dict[str, str], init: Sequence[str]) -> None:
        super().__init__(options=options, init=init)
        self._profile = profile

    @property
    def command(self) -> list[str]:
        """What is run."""
        words = super().command
        if self._profile:
            words[1:1] = ["--profile", self._profile, "--profiler", "cprofile", "--savestats"]
        return words


@attrs.frozen
class Cpu:
    """Seconds that were worked."""

    daemon: float
    store: float

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.daemon - other.daemon, self.store - other.store)

    def busy(self, seconds: float) -> str:
        """Say how much of the core, which both share, they had in so many seconds."""
        return f"{(self.daemon + self.store) / seconds:.0%}"


class Stage:
    """
    What the benchmarks measure against.

    :param devices: how many there are, each enrolled, with a certificate.
    :param options: more lines for the configuration, by section.
    :param profile: a file for the daemon's cProfile; nothing else is right then.
    :param init: more words for ``mdmctl init``.
    """

    def __init__(
        self,
        devices: int,
        options: dict[str, str] | None = None,
        profile: str = "",
        init: Sequence[str] = (),
    ) -> None:
        # The one that comes with mdmd: another machine may have another one, or none.
        sections = {"mdmd": "log_file = bench.log", "store": f"binary = {VALKEY}"}
        for name, text in (options or {}).items():
            sections[name] = f"{sections.get(name, '')}\n{text}".strip()
        self.daemon = _Profiled(profile, sections, init)
        self.daemon.log = self.daemon.state / "bench.log"
        self.daemon.log.touch()
        self.daemon.launcher = pinned(SERVER_CORE)
        self.folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self.count = devices
        self._load = self.folder / "load"

    def start(self) -> None:
        """Start it, with all devices enrolled."""
        self.daemon.start()
        self.link = BlockingLink(str(self.daemon.state / "store" / "store.sock"))
        self.sealer = Sealer((self.daemon.state / "sealing.key").read_bytes())
        self.clock = _Wall()
        self.store = Store(self.link, self.sealer, self.clock)
        self._enroll()
        self._compile()

    def close(self) -> None:
        """End it and remove all traces."""
        self.daemon.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _enroll(self) -> None:
        state = self.daemon.state
        authority = CertificateAuthority.load(
            (state / "ca" / "ca.pem").read_bytes(),
            self.sealer.unseal_file((state / "ca" / "ca.key").read_bytes(), CA_KEY),
        )
        (self.folder / "udids").write_text("".join(f"{udid(n)}\n" for n in range(self.count)))
        for n in range(self.count):
            key = new_key("ec")
            certificate = authority.issue_identity(key.public_key(), udid(n), 365)
            (self.folder / f"{n}.pem").write_bytes(certificate_pem(certificate) + key_pem(key))
            self.enroll(n, fingerprint(certificate))

    def enroll(self, number: int, mark: str) -> None:
        """Put one enrollment into the store."""
        one, identity = EnrollmentID(udid(number)), Identity(mark)
        facts = {"SerialNumber": f"C02X{number:08d}", "DeviceName": "Some Mac", "OSVersion": "15.2"}
        run(
            self.store.enrollments.authenticate(
                Authenticate(one, TOPIC, facts, b"<plist/>"), identity
            )
        )
        run(
            self.store.enrollments.token_update(
                TokenUpdate(one, TOPIC, b"t" * 32, udid(number), None, False, "", b"<plist/>"),
                identity,
            )
        )

    def multiply(self, count: int) -> None:
        """Make it ``count`` enrollments by copies of the first one; they have no certificates."""
        for start in range(self.count, count, 1000):
            numbers = range(start, min(start + 1000, count))
            run(
                self.link.call(
                    "EVAL", _COPY, 1, keys.IDS, f"mdmd:{{{udid(0)}}}:", *map(udid, numbers)
                )
            )
        self.settle()

    def settle(self) -> None:
        """
        Wait until the store has nothing more to do for itself.

        So much at once makes it rewrite its file; when that is done, threads of its own
        are still at work on the old one. All of it would be in the figures.
        """
        while b"aof_rewrite_in_progress:1" in run(self.link.call("INFO", "persistence")):
            time.sleep(0.1)
        worked = 1.0
        while worked > _AT_REST:
            before = self.cpu()
            time.sleep(1)
            worked = (self.cpu() - before).store

    def prepare(self, first: int, count: int) -> None:
        """
        Make the SCEP requests of devices that are to enroll while it is timed.

        All have one RSA key: making a key takes a device longer than all the rest.
        """
        state = self.daemon.state
        key = new_key("rsa")
        (self.folder / f"{first}.key").write_bytes(key_pem(key))
        trust = ssl.create_default_context(cafile=str(state / "ca" / "ca.pem"))
        with urllib.request.urlopen(
            f"https://localhost:{self.daemon.port}/scep?operation=GetCACert", context=trust
        ) as answer:
            authority = scep_client.read_ca(answer.read())
        challenge = (state / "scep.challenge").read_text().strip()
        for n in range(first, first + count):
            csr = new_csr(key, udid(n), challenge)
            request, _ = scep_client.enrolment_request(authority, csr, key)
            (self.folder / f"{n}.scep").write_bytes(request)
        (self.folder / "udids").write_text("".join(f"{udid(n)}\n" for n in range(first + count)))

    def enqueue(self, uuid: str, count: int | None = None) -> None:
        """Queue one command on the first ``count`` devices, all by default, past the daemon."""
        targets = [EnrollmentID(udid(n)) for n in range(self.count if count is None else count)]
        run(self.store.fleet.enqueue(command(uuid), targets, Policy(wake=False)))

    def _compile(self) -> None:
        flags = ("-O2", "-D_GNU_SOURCE", "-o", str(self._load), str(SOURCE))
        subprocess.run(["cc", *flags, "-lssl", "-lcrypto", "-lpthread"], check=True)

    def used(self) -> int:
        """Say how many bytes the store uses."""
        lines = run(self.link.call("INFO", "memory")).decode().splitlines()
        return int(next(each for each in lines if each.startswith("used_memory:")).split(":")[1])

    def resident(self) -> int:
        """Say how many bytes of memory the daemon has."""
        assert self.daemon.process is not None
        return resident(self.daemon.process.pid)

    # -- measuring ------------------------------------------------------------------

    def cpu(self) -> Cpu:
        """Say what daemon and store have worked so far."""
        assert self.daemon.process is not None
        daemon = self.daemon.process.pid
        return Cpu(worked(daemon), sum(worked(child) for child in _children(daemon)))

    @contextmanager
    def store_apart(self) -> Iterator[None]:
        """Let the store have the load's core for as long as the block, for a load that is light."""
        self._move_store(LOAD_CORE)
        try:
            yield
        finally:
            self._move_store(SERVER_CORE)

    def _move_store(self, core: str) -> None:
        assert self.daemon.process is not None
        for child in _children(self.daemon.process.pid) if _PINS else ():
            for task in Path(f"/proc/{child}/task").iterdir():
                os.sched_setaffinity(int(task.name), {int(core)})

    def load(
        self,
        how: str,
        threads: int,
        seconds: float = 10.0,
        limit: int = 0,
        first: int = 0,
        count: int | None = None,
        rate: float = 0,
        during: Callable[[], object] = lambda: None,
    ) -> tuple[dict[str, Any], Cpu]:
        """
        Let devices connect; what they saw, and what it cost.

        :param how: ``session``, ``resume``, ``keepalive`` or ``enroll``; see load.c.
        :param limit: operations, 0 for as many as there is time for.
        :param rate: begin so many a second, whether those before are done or not.
        :param during: is called when they have begun.
        """
        words = [
            *(*pinned(LOAD_CORE), self._load, how, "127.0.0.1", self.daemon.port, threads),
            *(
                seconds,
                limit,
                self.folder,
                first,
                self.count if count is None else count,
                self.folder / "udids",
                rate,
            ),
        ]
        with subprocess.Popen(
            list(map(str, words)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TOPIC": TOPIC},
        ) as devices:
            assert devices.stdout is not None
            assert devices.stdin is not None
            if how == "resume":
                assert devices.stdout.readline() == "ready\n"
            before = self.cpu()
            devices.stdin.write("\n")
            devices.stdin.close()
            during()
            seen = json.loads(devices.stdout.read())
        return seen, self.cpu() - before


@contextmanager
def stage(
    devices: int,
    options: dict[str, str] | None = None,
    profile: str = "",
    init: Sequence[str] = (),
) -> Iterator[Stage]:
    """A stage that is up, for as long as the block; who is in the block is on the load's core."""
    one = Stage(devices, options, profile, init)
    with on_core(LOAD_CORE):
        try:
            one.start()
            yield one
        finally:
            one.close()


def command(uuid: str) -> Command:
    """Make a command of the usual size."""
    queries = ["DeviceName", "OSVersion", "BuildVersion", "ModelName", "Model", "SerialNumber"]
    return build_command("DeviceInformation", {"Queries": queries}, uuid)


def row(name: str, seen: dict[str, Any], cost: Cpu, raw: float) -> Sequence[object]:
    """
    Spell one run.

    :param raw: seconds of the limit that the cost is compared with.
    """
    done = seen["operations"] or 1
    each = cost.daemon / done
    return (
        *(name, f"{done:,}", f"{done / seen['seconds']:,.0f}"),
        *(f"{each * 1e6:,.0f}", f"{cost.store / done * 1e6:,.0f}", f"{each / raw:.2f}"),
        *(f"{seen['p50']:.1f}", f"{seen['p95']:.1f}", f"{seen['p99']:.1f}"),
        *(cost.busy(seen["seconds"]), f"{seen['cpu'] / seen['seconds']:.0%}"),
        seen["failed"] + seen["refused"],
    )


HEADERS = (
    *("run", "operations", "a second", "daemon CPU µs", "store CPU µs", "daemon / limit"),
    *("p50 ms", "p95 ms", "p99 ms", "server's core", "load's core", "failed"),
)


class _Wall:
    """The clock on the wall, as a store wants it."""

    def seconds(self) -> float:
        """Seconds since the epoch."""
        return time.time()


def resident(process: int) -> int:
    """Say how many bytes of memory a process has."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(each for each in lines if each.startswith("VmRSS:")).split()[1]) * 1024


def worked(process: int) -> float:
    """Say how many seconds a process has worked so far, all of its threads."""
    total = 0
    for task in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that ends as we look
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def _children(process: int) -> list[int]:
    path = Path(f"/proc/{process}/task/{process}/children")
    return [int(each) for each in path.read_text().split()]
