"""``mdmctl commands`` and ``mdmctl command``: what devices can be told. Needs no daemon."""

import argparse


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    commands = subparsers.add_parser("commands", help="list what devices can be told")
    commands.add_argument("--platform", metavar="NAME", default="", help="such as macOS")
    commands.add_argument("--search", metavar="WORD", default="", help="in names, texts and keys")
    commands.set_defaults(run=_commands)
    command = subparsers.add_parser("command", help="describe one command")
    command.add_argument("name", metavar="RequestType")
    command.set_defaults(run=_command)


def _commands(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.errors import NotHere
    from mdmd.mdm.catalogue.entry import PLATFORMS
    from mdmd.mdm.catalogue.load import nearest, search

    known = {each.casefold() for each in PLATFORMS}
    if args.platform and args.platform.casefold() not in known:
        hint = nearest(args.platform, PLATFORMS) or f" (one of {', '.join(PLATFORMS)})"
        raise NotHere(f"no platform {args.platform!r}{hint}")
    found = search(args.search, args.platform)
    if args.json:
        show.as_json(
            [{"name": e.name, "does": e.does, "platforms": list(e.platforms)} for e in found]
        )
    else:
        show.print_table(
            ("REQUESTTYPE", "PLATFORMS", "WHAT IT DOES"),
            ((each.name, " ".join(each.platforms), each.does) for each in found),
        )
    return 0


def _command(args: argparse.Namespace) -> int:
    import json

    from mdmd.cli import show
    from mdmd.mdm.catalogue.describe import describe, example
    from mdmd.mdm.catalogue.load import COMMANDS, need

    found = need(args.name)
    if args.json:
        facts = json.loads((COMMANDS / f"{found.name}.json").read_bytes())
        show.as_json({"name": found.name, **facts, "example": example(found)})
    else:
        show.out(describe(found).rstrip())
    return 0
