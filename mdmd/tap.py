"""
``twistd mdmd``: its options, and the service that they ask for.

What the daemon is made of is put together in :mod:`mdmd.assembly.serve`.
"""

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger
from twisted.python.usage import Options as UsageOptions

from mdmd.assembly.daemon import Daemon, ExitStatus
from mdmd.assembly.parts import Parts
from mdmd.assembly.serve import serve
from mdmd.config import Config, changes, load
from mdmd.errors import ConfigError, MdmdError
from mdmd.ops.logs import Logs
from mdmd.ops.systemd import Systemd

log = Logger()

USUAL_PLACES = ("/etc/mdmd/mdmd.conf", "/var/lib/mdmd/mdmd.conf")


class Options(UsageOptions):
    """Options of ``twistd mdmd``."""

    synopsis = "twistd [twistd options] mdmd [--config FILE] [--check]"
    longdesc = "An Apple MDM server. `mdmctl init` makes what it needs; `mdmctl demo` shows it."
    optParameters = [  # noqa: RUF012  (Twisted's way to declare them)
        ["config", "c", None, "the configuration; default $MDMD_CONFIG or " + USUAL_PLACES[0]],
    ]
    optFlags = [["check", None, "check the configuration and exit"]]  # noqa: RUF012


def makeService(options: Options) -> Service:
    """
    Make the daemon of a configuration file.

    :raises SystemExit: a mistake in it: one line each, exit status 1. (twistd
        would print a traceback for anything else, and exit 0 for a UsageError.)
    """
    path = _configuration(options["config"])
    try:
        config = load(path)
        parts = Parts.read(config, str(path))
        logs = _logs(config, path, options.parent or {}, trial=bool(options["check"]))
    except ConfigError as error:
        raise SystemExit(str(error)) from None
    if options["check"]:
        sys.stdout.write(f"{path}: no mistakes\n")
        raise SystemExit(0)
    # Only now: importing it installs it, and --check needs none.
    from twisted.internet import reactor

    async def start(stack: AsyncExitStack) -> None:
        systemd = Systemd.of(os.environ)
        # A reload that comes too early must not end what is only starting.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        running: Any = reactor
        logs.reopen_on(running.callFromThread)
        await serve(reactor, stack, config, parts, logs.set_level)
        stack.callback(systemd.stopping)
        beat = systemd.stay_alive(reactor)
        if beat is not None:
            stack.callback(beat.stop)
        signal.signal(
            signal.SIGHUP,
            lambda *_: running.callFromThread(_reload, path, config, parts, logs, systemd),
        )
        systemd.ready()

    def stop() -> None:
        # A start may fail before the reactor runs, and then there is nothing to stop yet.
        running: Any = reactor
        running.callWhenRunning(running.stop)

    return Daemon(stop, start, ExitStatus(), logs.observer)


def _configuration(given: str | None) -> Path:
    named = given or os.environ.get("MDMD_CONFIG")
    if named:
        return Path(named)
    for place in USUAL_PLACES:
        if Path(place).exists():
            return Path(place)
    raise SystemExit(
        f"no configuration: neither --config, nor $MDMD_CONFIG, nor {' or '.join(USUAL_PLACES)}; "
        "`mdmctl init --hostname NAME` makes one"
    )


def _logs(config: Config, path: Path, twistd: Mapping[str, Any], trial: bool) -> Logs:
    mdmd = config.mdmd
    place = mdmd.log_file or _log_of(twistd)
    try:
        new = place is not None and not place.exists()
        logs = Logs(place, mdmd.log_format == "json", mdmd.log_level)
        if trial and new and place is not None:
            place.unlink()  # whoever only checks is often root, and the daemon is not
        return logs
    except OSError as error:
        raise ConfigError(
            [f"{path}: [mdmd] log_file: {error.filename}: {error.strerror}"]
        ) from None


def _log_of(twistd: Mapping[str, Any]) -> Path | None:
    """Say where twistd would log: in the background nobody reads standard error."""
    given = twistd.get("logfile")
    if given == "-" or (not given and twistd.get("nodaemon", True)):
        return None
    return Path(twistd.get("rundir", "."), given or "twistd.log").absolute()


_READ_AGAIN = "[mdmd] log_level"


def _reload(path: Path, started: Config, parts: Parts, logs: Logs, systemd: Systemd) -> None:
    """
    Read again what may change while the daemon runs: TLS certificates, the log's level and file.

    The operators file needs no word: it is read whenever it has changed. A mistake
    is logged, and what was in use stays.

    :param started: what the daemon was started with; what else has changed needs a restart.
    """
    systemd.reloading()
    logs.reopen()
    try:
        config = load(path)
        parts.reload_tls()
        logs.set_level("", config.mdmd.log_level)
    except MdmdError as error:
        log.error("not reloaded: {reason}", reason=str(error))
    else:
        log.info("reloaded: certificates and log", log_level=config.mdmd.log_level)
        late = [each for each in changes(started, config) if each != _READ_AGAIN]
        if late:
            log.warn("changed, but in use only after a restart: {options}", options=", ".join(late))
    systemd.ready()
