"""
``twistd mdmd``: the one place where things are put together.

Services start in order, each waiting for the one before, and stop one at a
time in reverse: ports close first, the store last.
"""

import os
import sys
from pathlib import Path

from twisted.application.service import Service
from twisted.logger import Logger
from twisted.python.usage import Options as UsageOptions

from mdmd.config import load
from mdmd.errors import ConfigError

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
        parts = Parts.read(config)
    except ConfigError as error:
        raise SystemExit(str(error)) from None
    if options["check"]:
        sys.stdout.write(f"{path}: no mistakes\n")
        raise SystemExit(0)
    return Daemon(lambda reactor, stack: serve(reactor, stack, config, parts))


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
