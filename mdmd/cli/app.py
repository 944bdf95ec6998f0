"""``mdmctl app``: apps that the device site serves."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdmd.cli.client import Remote


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    app = subparsers.add_parser("app", help="apps that the device site serves")
    act = app.add_subparsers(metavar="add|list|remove", required=True)
    add = act.add_parser("add", help="serve an .ipa or .pkg and its manifest")
    add.add_argument("file", metavar="FILE")
    add.add_argument("--title", metavar="TEXT", default="", help="as devices show it")
    add.set_defaults(run=_add)
    act.add_parser("list", help="list them").set_defaults(run=_list)
    remove = act.add_parser("remove", help="serve it no longer")
    remove.add_argument("token", metavar="TOKEN")
    remove.set_defaults(run=_remove)


def _add(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run
    from mdmd.errors import BadRequest
    from mdmd.ops.wire import PIECE

    # Nobody else runs in this process, so nobody waits while it reads.
    path = Path(args.file)
    size, file = path.stat().st_size, path.open("rb")
    if not size:
        raise BadRequest(f"{path} is empty")

    async def verb(remote: "Remote") -> None:
        upload, sent = "", 0
        while piece := file.read(PIECE):
            upload = await remote.call("apps.append", upload=upload, piece=piece)
            sent += len(piece)
            if show.on_terminal() and sent % (64 << 20) < PIECE:
                show.note(f"{sent >> 20} of {size >> 20} MiB")
        shelved = await remote.call("apps.finish", upload=upload, title=args.title)
        show.as_json(shelved) if args.json else _tell(shelved)

    with file:
        return run(args, verb)


def _tell(shelved: dict[str, Any]) -> None:
    from mdmd.cli import show

    show.out(f"{shelved['title']} ({shelved['identifier']} {shelved['version']})")
    show.out(f"manifest: {shelved['manifest']}")
    package = " --mac-package" if shelved["kind"] == "pkg" else ""
    show.out(f"to install it: mdmctl install-app {shelved['manifest']} ID{package}")
    if not shelved["signed"]:
        show.note(show.colour("the package is not signed: Macs will refuse it", show.YELLOW))


def _list(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> None:
        found = await remote.call("apps.show")
        if args.json:
            show.as_json(found)
            return
        headers = ("TOKEN", "TITLE", "IDENTIFIER", "VERSION", "SIZE", "ADDED")
        show.print_table(headers, map(_row, found))

    return run(args, verb)


def _row(each: dict[str, Any]) -> tuple[object, ...]:
    from mdmd.cli.show import age

    size = f"{each['size'] / 1e6:.1f} MB"
    return (
        *(each["token"], each["title"], each["identifier"], each["version"], size),
        age(each["added"]),
    )


def _remove(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> None:
        gone = await remote.call("apps.remove", token=args.token)
        show.as_json(gone) if args.json else show.out(f"{gone['title']} is not served any more")

    return run(args, verb)
