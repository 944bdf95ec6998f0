"""``mdmctl enroll-link``: let somebody enroll, once."""

import argparse
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mdmd.cli.client import Remote


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    link = subparsers.add_parser(
        "enroll-link", help="make a link that gives the enrollment profile once"
    )
    link.add_argument(
        "--name", default="", help="the identity's common name, such as the device's serial number"
    )
    link.add_argument("--label", default="", help="what the link is for, kept with the certificate")
    link.add_argument(
        "--days", type=float, help="how long it is good (default: [enroll] link_life)"
    )
    link.set_defaults(run=_link)


def _link(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> None:
        made = await remote.call("enroll.link", name=args.name, label=args.label, days=args.days)
        if args.json:
            show.as_json(made)
            return
        show.out(made["url"])
        until = datetime.fromtimestamp(made["expires"] / 1000).astimezone()
        show.note(f"good once, until {until:%Y-%m-%d %H:%M}")

    return run(args, verb)
