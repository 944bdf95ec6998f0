"""``mdmctl sim``: simulated devices and a stand-in for Apple's push service."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

PLATFORMS = ("mac", "iphone", "ipad", "appletv")
FAULTS = ("notnow", "error", "format-error", "silent", "slow", "garbage")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare ``sim``; what it needs is imported when it runs."""
    parser = subparsers.add_parser(
        "sim",
        help="simulate devices and Apple's push service, to try and to load a server",
        description="Each command prints one line when it is ready, JSON with --json before the "
        "verb, and runs until Ctrl-C.",
    )
    kinds = parser.add_subparsers(metavar="WHAT", required=True)
    _add_apns(kinds)
    _add_devices(kinds)


def _add_apns(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = kinds.add_parser(
        "apns",
        help="a stand-in for Apple's push service",
        description="Serve HTTP/2 over TLS as Apple's push service does. The server to be tried "
        "needs [apns] host, port and trust, and the push certificate that is made here.",
    )
    parser.add_argument("--dir", metavar="DIR", type=Path, required=True, help="for what it makes")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument(
        "--courier",
        type=int,
        default=0,
        metavar="PORT",
        help="for simulated devices; default: a free one",
    )
    parser.add_argument(
        "--topic",
        default="com.apple.mgmt.External.00000000-0000-4000-8000-000000000000",
        help="the push certificate's topic",
    )
    parser.add_argument(
        "--delay", type=float, default=0.0, metavar="SECONDS", help="of each answer"
    )
    parser.add_argument(
        "--reason", default="", help="answer this to each push, such as Unregistered"
    )
    parser.add_argument("--status", type=int, default=0, help="the status that goes with --reason")
    parser.set_defaults(run=_run_apns)


def _add_devices(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = kinds.add_parser(
        "devices",
        help="simulated devices",
        description="Enroll simulated devices and keep them there to be pushed.",
    )
    parser.add_argument(
        "--url", required=True, help="of the server, such as https://localhost:8443"
    )
    parser.add_argument(
        "--ca", metavar="FILE", type=Path, help="the CA to trust, PEM (default: the system's)"
    )
    parser.add_argument(
        "--profile", metavar="FILE", type=Path, help="the enrollment profile (default: URL/enroll)"
    )
    parser.add_argument("--count", type=int, default=1, help="default 1")
    parser.add_argument(
        "--platform",
        action="append",
        choices=PLATFORMS,
        help="may be given again; default: all in turn",
    )
    parser.add_argument("--seed", default="mdmd", help="another one makes other devices")
    parser.add_argument(
        "--courier", metavar="HOST:PORT", help="of `mdmctl sim apns`, to be pushed by it"
    )
    parser.add_argument(
        "--poll", type=float, default=0.0, metavar="SECONDS", help="connect unasked so often"
    )
    parser.add_argument("--fault", choices=FAULTS, default="", help="what is wrong with them")
    parser.add_argument(
        "--faulty",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="0 to 1: with how many of them (default 1)",
    )
    parser.add_argument(
        "--times", type=int, default=1, help="at how many commands (default 1; 0: all)"
    )
    parser.add_argument(
        "--delay",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="for slow and notnow (default 2)",
    )
    parser.add_argument(
        "--at-once",
        type=int,
        default=20,
        metavar="N",
        help="so many enroll at the same moment (default 20)",
    )
    parser.add_argument("--once", action="store_true", help="end when all have tried to enroll")
    parser.set_defaults(run=_run_devices)


def _run_apns(args: argparse.Namespace) -> int:
    from mdmd.cli.running import run

    return run("mdmctl sim apns", lambda reactor: _apns(reactor, args))


def _run_devices(args: argparse.Namespace) -> int:
    from mdmd.cli.running import run

    return run("mdmctl sim devices", lambda reactor: _devices(reactor, args))


async def _apns(reactor: Any, args: argparse.Namespace) -> int:
    from twisted.internet.defer import Deferred

    from mdmd.sim.apns import Reply
    from mdmd.sim.standin import StandIn

    args.dir.mkdir(parents=True, exist_ok=True)
    status = args.status or (400 if args.reason else 200)
    standin = StandIn.make(reactor, args.topic, lambda _: Reply(status, args.reason, args.delay))
    (args.dir / "ca.pem").write_bytes(standin.trust)
    (args.dir / "push.pem").write_bytes(standin.push_certificate)
    (args.dir / "push.pem").chmod(0o600)
    try:
        await standin.listen(args.port, args.courier)
        _ready(
            getattr(args, "json", False),
            host="localhost",
            port=standin.port,
            courier=standin.courier_port,
            trust=str(args.dir / "ca.pem"),
            push_certificate=str(args.dir / "push.pem"),
            topic=args.topic,
        )
        await Deferred()
    finally:
        await standin.close()
        _say(getattr(args, "json", False), pushes=standin.service.pushes)
    return 0


async def _devices(reactor: Any, args: argparse.Namespace) -> int:
    from twisted.internet.defer import Deferred

    from mdmd.sim.courier import listen_to_courier
    from mdmd.sim.device import fetch_profile, unsigned
    from mdmd.sim.fleet import Fleet
    from mdmd.sim.wire import Wire

    trust = _read_trust(args.ca)
    wire = Wire(reactor, trust)
    try:
        profile = (
            unsigned(args.profile.read_bytes())
            if args.profile
            else await fetch_profile(wire, args.url)
        )
    finally:
        await wire.close()
    began = time.monotonic()

    def progress(enrolled: int, failed: int) -> None:
        rate = enrolled / (time.monotonic() - began)
        words = f"{enrolled} of {args.count} enrolled, {rate:.0f}/s"
        sys.stderr.write(f"{words}{f', {failed} failed' if failed else ''}\n")

    fleet = Fleet(reactor, _plan(args), profile, trust, progress)
    courier = None
    if args.courier:
        host, _, port = args.courier.rpartition(":")
        courier = listen_to_courier(reactor, host or "localhost", int(port), fleet.woken)
        courier.startService()
    try:
        await fleet.enroll()
        took = round(time.monotonic() - began, 2)
        _ready(
            getattr(args, "json", False), enrolled=fleet.enrolled, failed=fleet.failed, seconds=took
        )
        if not args.once:
            await Deferred()
    finally:
        if courier is not None:
            await courier.stopService()
        await fleet.close()
        _say(getattr(args, "json", False), **fleet.tally.summary(), troubles=fleet.troubles)
    return 1 if fleet.failed else 0


def _plan(args: argparse.Namespace) -> Any:
    from mdmd.sim.fleet import Plan
    from mdmd.sim.manners import Manners

    return Plan(
        count=args.count,
        kinds=args.platform or PLATFORMS,
        seed=args.seed,
        at_once=args.at_once,
        manners=Manners(args.fault, args.times, args.delay),
        faulty=args.faulty,
        poll=args.poll,
    )


def _read_trust(path: Path | None) -> tuple[bytes, ...]:
    from cryptography import x509

    from mdmd.errors import BadRequest
    from mdmd.pki.certificates import certificate_der

    if path is None:
        return ()
    try:
        return tuple(map(certificate_der, x509.load_pem_x509_certificates(path.read_bytes())))
    except (OSError, ValueError) as error:
        raise BadRequest(f"--ca {path}: {error}") from None


def _ready(as_json: bool, **facts: object) -> None:
    _say(as_json, ready=True, **facts)


def _say(as_json: bool, **facts: object) -> None:
    if as_json:
        sys.stdout.write(json.dumps(facts) + "\n")
    else:
        words = [f"{key} {value}" for key, value in facts.items() if key != "ready"]
        sys.stdout.write(f"{'ready: ' if 'ready' in facts else ''}{', '.join(words)}\n")
    sys.stdout.flush()
