"""``mdmctl doctor``: what is wrong with this server, and what to do about it."""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from mdmd.cli import show
from mdmd.cli.exits import DONE, FAILED
from mdmd.errors import ConfigError, MdmdError, NotAllowed

if TYPE_CHECKING:
    from mdmd.config import Config
    from mdmd.doctor.finding import Finding


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare ``doctor``; what it needs is imported when it runs."""
    parser = subparsers.add_parser(
        "doctor",
        help="find out what is wrong, and what to do about it",
        description=(
            "Look at everything that goes wrong with an MDM server: configuration, files, the "
            "certificates as devices see them, SCEP, the enrollment profile, the push "
            "certificate, the way to APNs, the store, clock and limits. It changes nothing, and "
            "works while the daemon is down. Exit status 1: something does not work."
        ),
    )
    parser.add_argument(
        "--offline", action="store_true", help="leave out what needs the network: site and APNs"
    )
    parser.set_defaults(run=_run)


@attrs.define
class _Operator:
    """What the daemon tells, if it answers."""

    installed: list[dict[str, Any]] | None = None
    why: str = "it was not asked"
    stranger: bool = False  # it answered, and does not know who asks


def _run(args: argparse.Namespace) -> int:
    from mdmd.config import load

    path = configuration(args)
    try:
        config = load(path)
    except ConfigError as error:
        return _tell(args, _mistakes(path, error))
    from mdmd.cli.places import socket_of

    try:
        sock = socket_of(path)
    except MdmdError as error:
        return _tell(args, _examine(args, path, config, None, _Operator(why=str(error))))
    return _tell(args, _examine(args, path, config, sock, _ask(sock)))


def configuration(args: argparse.Namespace) -> Path:
    """Say which configuration is meant: --state's, --config, $MDMD_CONFIG, the usual places."""
    given = getattr(args, "config", None) or os.environ.get("MDMD_CONFIG")
    state = getattr(args, "state", None)
    if state:
        return Path(state) / "mdmd.conf"
    if given:
        return Path(given)
    usual = Path("/etc/mdmd/mdmd.conf")
    # Not exists(): it raises where one may not look.
    return usual if os.path.exists(usual) else Path("/var/lib/mdmd/mdmd.conf")


def _mistakes(path: Path, error: ConfigError) -> "Iterable[Finding]":
    from mdmd.cli.places import forbidden
    from mdmd.doctor.finding import failed

    remedy = "python -m mdmd.config prints every option there is"
    if forbidden(path):
        remedy = "run mdmctl doctor as root, or as the daemon's user"
    for line in error.mistakes:
        yield failed("configuration", line, remedy)


def _ask(sock: Path) -> _Operator:
    """Ask the daemon what only it can know."""
    from mdmd.cli.roads import connect
    from mdmd.cli.running import run

    told = _Operator()

    async def story(_: Any) -> int:
        try:
            remote = await connect(sock)
            told.installed = await remote.call("certificates.show")
            told.why = ""
        except MdmdError as error:
            told.why = str(error).partition(";")[0]
            told.stranger = isinstance(error, NotAllowed)
        return 0

    run("mdmctl doctor", story)
    return told


def _examine(
    args: argparse.Namespace, path: Path, config: "Config", sock: Path | None, told: _Operator
) -> "Iterable[Finding]":
    from mdmd.cli.judge import judge
    from mdmd.doctor import apns, files, site, store, system
    from mdmd.doctor.finding import ok, skipped

    yield ok("configuration", f"{path}: no mistakes")
    yield from files.check_files(config, path=path)
    if sock is None:
        yield skipped("daemon", told.why)
    else:
        yield system.check_daemon(sock, told.why, told.stranger)
        yield from system.check_limits(config, sock)
    yield from store.check_store(config, sock is not None and system.is_running(sock))
    yield from system.check_clock()
    yield from apns.check_push_certificates(told.installed)
    if args.offline:
        yield from site.check_site_file(config)
        return
    topics = [str(each["topic"]) for each in told.installed or ()]
    yield from site.check_site(config, topics, judge)
    yield from apns.check_apns(config)


def _tell(args: argparse.Namespace, findings: "Iterable[Finding]") -> int:
    """Print each finding as it comes."""
    from mdmd.doctor.finding import Grade

    codes = {
        Grade.OK: show.GREEN,
        Grade.WARNING: show.YELLOW,
        Grade.FAILED: show.RED,
        Grade.SKIPPED: show.DIM,
    }
    as_json = getattr(args, "json", False)
    all_of_them = []
    for each in findings:
        all_of_them.append(each)
        if not as_json:
            grade = show.colour(f"{each.grade:<8}", codes[each.grade])
            show.out(f"{grade} {each.subject:<17} {show.clean(each.text)}")
            if each.remedy:
                show.out(f"{'':<26} → {show.clean(each.remedy)}")
    if as_json:
        show.as_json([attrs.asdict(each) for each in all_of_them])
    bad = sum(each.grade is Grade.FAILED for each in all_of_them)
    if not as_json:
        show.out("")
        count = {0: "nothing has", 1: "1 of these has"}.get(bad, f"{bad} of these have")
        show.out(f"{count} to be put right")
    return FAILED if bad else DONE
