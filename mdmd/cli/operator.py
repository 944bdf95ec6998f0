"""``mdmctl operator``: who may come in, and how far each reaches."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdmd.errors import BadRequest
from mdmd.ops.wire import ROLES

if TYPE_CHECKING:
    from mdmd.cli.client import Remote


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    operator = subparsers.add_parser(
        "operator",
        help="say who may come in, and how far each reaches",
        description=(
            "viewer: reads, no secrets; operator: sends what does not destroy; admin: wipes, reads "
            "secrets, looks after certificates and operators, uses the manhole."
        ),
    )
    verbs = operator.add_subparsers(metavar="VERB", required=True)
    verbs.add_parser("list", help="list everybody").set_defaults(run=_list)
    add = _named(verbs, "add", "add an operator", _add)
    add.add_argument("--role", choices=ROLES, default="viewer", help="default viewer")
    add.add_argument("--uid", type=int, help="the unix account that needs no password here")
    passwd = _named(verbs, "passwd", "set a password, for TLS (asks for it)", _passwd)
    passwd.add_argument("--stdin", action="store_true", help="read it from standard input")
    passwd.add_argument("--none", action="store_true", help="take the password away")
    key = _named(verbs, "key", "add an SSH public key, for the manhole", _key)
    key.add_argument("file", metavar="FILE", help="such as ~/.ssh/id_ed25519.pub; - is stdin")
    key.add_argument("--remove", action="store_true", help="FILE is a fingerprint to take away")
    certificate = _named(verbs, "certificate", "let a TLS client certificate in", _certificate)
    certificate.add_argument("sha256", metavar="SHA256", help="its fingerprint in hex")
    role = _named(verbs, "role", "change how far somebody reaches", _role)
    role.add_argument("role", choices=ROLES)
    _named(verbs, "remove", "remove an operator", _remove)


def _named(verbs: Any, name: str, help: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=help)
    parser.add_argument("name", metavar="NAME")
    parser.set_defaults(run=run)
    return parser


def _call(args: argparse.Namespace, method: str, **arguments: Any) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> None:
        answer = await remote.call(f"operators.{method}", **arguments)
        if args.json:
            show.as_json(answer)
        elif isinstance(answer, list):
            show.print_table(_HEADERS, map(_row, answer))
        elif answer is not None:
            show.print_table(_HEADERS, [_row(answer)])

    return run(args, verb)


_HEADERS = ("NAME", "ROLE", "UID", "PASSWORD", "SSH KEYS", "CERTIFICATES")


def _row(record: dict[str, Any]) -> list[object]:
    return [
        record["name"],
        record["role"],
        record["uid"],
        "yes" if record["has_password"] else "",
        " ".join(record["ssh_keys"]),
        " ".join(record["certificates"]),
    ]


def _list(args: argparse.Namespace) -> int:
    return _call(args, "show")


def _add(args: argparse.Namespace) -> int:
    return _call(args, "add", name=args.name, role=args.role, uid=args.uid)


def _passwd(args: argparse.Namespace) -> int:
    return _call(args, "passwd", name=args.name, password="" if args.none else _ask(args.stdin))


def _ask(stdin: bool) -> str:
    if stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        import warnings
        from getpass import GetPassWarning, getpass

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", GetPassWarning)  # it would be seen on a screen
                password = getpass("New password: ")
                again = getpass("Again: ")
        except (EOFError, GetPassWarning):
            raise BadRequest("no terminal to ask on; --stdin reads the password") from None
        if again != password:
            raise BadRequest("the two are not the same")
    if not password:
        raise BadRequest("an empty password; --none takes it away")
    return password


def _key(args: argparse.Namespace) -> int:
    if args.remove:
        return _call(args, "remove_key", name=args.name, fingerprint=args.file)
    text = sys.stdin.read() if args.file == "-" else Path(args.file).expanduser().read_text()
    return _call(args, "add_key", name=args.name, key=text.strip())


def _certificate(args: argparse.Namespace) -> int:
    return _call(args, "certificate", name=args.name, sha256=args.sha256)


def _role(args: argparse.Namespace) -> int:
    return _call(args, "role", name=args.name, role=args.role)


def _remove(args: argparse.Namespace) -> int:
    return _call(args, "remove", name=args.name)
