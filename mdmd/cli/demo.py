"""``mdmctl demo``: the whole loop on this machine, in front of your eyes."""

import argparse


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare ``demo``; what it needs is imported when it runs."""
    parser = subparsers.add_parser(
        "demo",
        help="run a real server with two simulated devices on this machine",
        description=(
            "Start a real mdmd on loopback with its own store, CA and a stand-in for APNs, "
            "enroll a simulated Mac and a simulated iPhone, push, and show their answers. "
            "Nothing outside a scratch folder is touched."
        ),
    )
    parser.add_argument(
        "--once", action="store_true", help="exit 0 after the answers, 1 if a step failed"
    )
    parser.add_argument(
        "--redis",
        metavar="URL",
        default="embedded",
        help="use this Redis or Valkey instead of the embedded one",
    )
    parser.add_argument(
        "--state", metavar="DIR", help="keep the state here instead of a scratch folder"
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=60.0,
        help="give up on a step after so long (default 60)",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from mdmd.cli.play import perform

    return perform(args)
