"""
``mdmctl``: the operators' command line.

A group of verbs is a module with ``add_parser(subparsers)``, which declares them
and loads nothing else; each verb sets ``run=``, a function that takes the parsed
arguments and returns the exit status. The options that every verb takes are
added here, so that they may stand before or after it.

Exit statuses: 0 done; 1 refused or failed, the reason is on standard error;
2 a wrong command line; 3 no daemon answers; 4 the role does not reach that far;
5 a device answered with an error, or not in time; 130 interrupted.
"""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from mdmd.cli.exits import FAILED, INTERRUPTED
from mdmd.cli.mixing import MixingParser
from mdmd.errors import MdmdError

# A new group of verbs: one module, one name here.
GROUPS = (
    "init",
    "demo",
    "sim",
    "doctor",
    "fsck",
    "fleet",
    "send",
    "push",
    "act",
    "app",
    "catalogue",
    "known",
    "queue",
    "events",
    "watch",
    "top",
    "profile",
    "ca",
    "enroll",
    "pushcert",
    "operator",
    "server",
    "webhooks",
    "moving",
    "backup",
    "completion",
)

# What an argument is that says nothing of itself, by its metavar.
_MEANING = {
    "ID": "an enrollment id or a serial number",
    "N": "so many at most",
    "FILE": "where it is, or goes to",
    "NAME": "what it is called",
    "IDENTIFIER|FILE": "the profile's PayloadIdentifier, or the profile itself",
    "LETTER": "begin after this one",
    "PEM": "a file in PEM",
    "RequestType": "such as DeviceInformation; mdmctl commands lists them",
    "TOKEN": "what mdmctl app list calls it",
    "[nanomdm|micromdm] PATH": "an export of mdmd's, or the other server's data",
    "action": "when it is done",
    "priority": "where in the queue; default: as the catalogue says",
    "role": "how far they reach",
    "shell": "which one is used",
    "what": "which of these",
}

_DEFAULTS = {
    "state": None,
    "config": None,
    "json": False,
    "server": None,
    "user": None,
    "ca": None,
    "identity": None,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line, return its exit status."""
    if sys.stdout is None:  # `mdmctl … >&-`
        sys.stderr.write("mdmctl: there is no standard output to write to\n")
        return FAILED
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal knows every character
    status = _run(argv)
    try:
        sys.stdout.flush()
    except OSError as error:  # what is left to be written can't be, at Python's end neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not status and not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"mdmctl: {error}\n")
        return status or FAILED
    return status


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = make_parser().parse_args(argv, argparse.Namespace(**_DEFAULTS))
        return int(args.run(args) or 0)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `mdmctl … | head`
        return FAILED
    except OSError as error:
        named = error.strerror and error.filename is not None
        reason = f"{error.filename}: {error.strerror}" if named else error
        sys.stderr.write(f"mdmctl: {reason}\n")
        return FAILED
    except MdmdError as error:
        sys.stderr.write(f"mdmctl: {error}\n")
        return FAILED


def make_parser() -> argparse.ArgumentParser:
    """Declare every verb; nothing but argparse is loaded."""
    parser = MixingParser(
        prog="mdmctl",
        description="Look into a running mdmd and act on it.",
        epilog=(
            "Exit status: 0 done, 1 refused or failed, 2 wrong command line, 3 no daemon answers, "
            "4 not allowed, 5 a device answered with an error or not in time, 130 interrupted. "
            "An ID is an enrollment id or a serial number."
        ),
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="say which version this is")
    _add_tls(parser)
    subparsers = parser.add_subparsers(metavar="VERB", required=True)
    for name in GROUPS:
        import_module(f"mdmd.cli.{name}").add_parser(subparsers)
    _add_common(parser)
    _explain(parser)
    return parser


class _Version(argparse.Action):
    """Say it, and end; what knows it is loaded only now."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"mdmctl {version('mdmd')}")
        parser.exit()


def _add_tls(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group(
        "a daemon on another machine", "Before the verb. The password is asked for."
    ).add_argument
    add("--server", metavar="HOST:PORT", help="where its [pb] listens with TLS")
    add("--user", metavar="NAME", help="which operator; default: this account's name")
    add("--identity", metavar="FILE", help="a client certificate and its key, PEM")
    add("--ca", metavar="FILE", help="the CA to trust, PEM; default: the system's")


def _add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options of all verbs to a parser and those below it, unless it has its own."""
    # SUPPRESS: what was given before the verb is not overwritten by a default after it.
    for option, metavar, help in (
        ("--state", "DIR", "the daemon's state folder (default /var/lib/mdmd)"),
        ("--config", "FILE", "the daemon's configuration, to find its socket"),
    ):
        if option not in parser._option_string_actions:
            parser.add_argument(option, metavar=metavar, help=help, default=argparse.SUPPRESS)
    if "--json" not in parser._option_string_actions:
        parser.add_argument(
            "--json", action="store_true", help="print data", default=argparse.SUPPRESS
        )
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in dict.fromkeys(action.choices.values()):
                _add_common(each)


def _explain(parser: argparse.ArgumentParser) -> None:
    """Let the help of each verb say what it does, and what each argument is."""
    for action in parser._actions:
        if not action.help:
            action.help = _MEANING.get(str(action.metavar or action.dest))
        if isinstance(action, argparse._SubParsersAction):
            does = {each.dest: each.help or "" for each in action._choices_actions}
            for name, each in action.choices.items():
                text = does.get(name, "")
                each.description = each.description or f"{text[:1].upper()}{text[1:]}."
                _explain(each)


def socket_path(args: argparse.Namespace) -> Path:
    """
    Say where the daemon's unix socket is.

    ``--state``, then ``--config``, then $MDMD_CONFIG, then the usual places.

    :raises ConfigError: the configuration has a mistake.
    :raises NotHere: it has no unix socket for operators.
    """
    from mdmd.cli.places import find_socket

    return find_socket(args.state, args.config, os.environ.get("MDMD_CONFIG"))


if __name__ == "__main__":
    sys.exit(main())
