"""``mdmctl export`` and ``mdmctl import``: enrollments out of a server, and into one."""

import argparse
from pathlib import Path


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    export = subparsers.add_parser(
        "export",
        help="write everything of all enrollments into a sealed file",
        description=(
            "Write enrollments with their tokens, pins and queues, push certificates and groups. "
            "The file is sealed in the format of age; if the daemon goes away meanwhile, the "
            "export waits for it and goes on. One that was cut off goes on with --resume."
        ),
    )
    export.add_argument("file", metavar="FILE", type=Path)
    export.add_argument(
        "--resume", action="store_true", help="go on with an export of FILE that was cut off"
    )
    declare_sealing(export)
    export.set_defaults(run=_export)
    import_ = subparsers.add_parser(
        "import",
        help="read enrollments of another server: mdmd's, NanoMDM's or MicroMDM's",
        description=(
            "Read a file that export wrote; or `nanomdm PATH`, its file store, or a dump of its "
            "MySQL or PostgreSQL, or the database itself: mysql://USER@HOST/DB, "
            "postgresql://USER@HOST/DB; or `micromdm FILE`, its devices as JSON lines. What is "
            "here already stays as it is: an import can be repeated. One that was cut off goes on "
            "with --resume."
        ),
    )
    import_.add_argument("source", metavar="[nanomdm|micromdm] PATH", nargs="+")
    import_.add_argument("--dry-run", action="store_true", help="only say what would happen")
    import_.add_argument("--topic", default="", help="the push topic, for MicroMDM")
    import_.add_argument(
        "--resume", action="store_true", help="pass over what the import before has done"
    )
    declare_opening(import_)
    import_.set_defaults(run=_import)


def declare_sealing(parser: argparse.ArgumentParser) -> None:
    """Declare whom a file is sealed for."""
    parser.add_argument(
        "--recipient",
        metavar="KEY|FILE",
        action="append",
        default=[],
        help="seal for this key: age1…, or a file with an age key, or with a PEM public key or "
        "certificate (RSA, EC or X25519)",
    )
    parser.add_argument("--passphrase-file", metavar="FILE", type=Path, help="else it is asked for")
    parser.add_argument("--plain", action="store_true", help="do not seal: secrets in clear")


def declare_opening(parser: argparse.ArgumentParser) -> None:
    """Declare what opens a file."""
    parser.add_argument(
        "--key",
        dest="keys",
        metavar="FILE",
        action="append",
        default=[],
        type=Path,
        help="a file with the age or PEM private key",
    )
    parser.add_argument("--passphrase-file", metavar="FILE", type=Path, help="else it is asked for")


def _export(args: argparse.Namespace) -> int:
    from mdmd.cli.exporting import export

    return export(args)


def _import(args: argparse.Namespace) -> int:
    from mdmd.cli.importing import import_

    return import_(args)
