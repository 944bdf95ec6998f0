"""
``mdmctl pushcert``: the push certificate's whole life, one step a verb.

The steps up to the certificate need no daemon and are in
:mod:`mdmd.cli.pushcert_steps`; here are the verbs, and those that ask a daemon.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from mdmd.cli.client import Remote
    from mdmd.pki.pushcert import PushCertificate

Value = TypeVar("Value")

_DESCRIPTION = """\
Get a push certificate from Apple, install it, renew it once a year.

  1. vendor-csr   once, if you are your own MDM vendor (an Apple Developer team with the MDM option)
  2. csr          a key and a request for the push certificate
  3. sign         the request, with the vendor certificate; or let a service sign it, and decrypt
  4. install      what identity.apple.com/pushcert gave for it
  5. renew        in time, for the same topic: each device stays
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    parser = subparsers.add_parser(
        "pushcert",
        help="make, install, show and renew the push certificate",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    steps = parser.add_subparsers(metavar="STEP", required=True)
    _add_requests(steps)
    _add_signing(steps)
    _add_daemon(steps)


def _add_requests(steps: Any) -> None:
    vendor = _step(steps, "vendor-csr", "make key and request for an MDM vendor certificate")
    _add_names(vendor, "the vendor's name")
    request = _step(steps, "csr", "make key and request for a push certificate")
    _add_names(request, "who the devices are of")
    _add_service(request)
    renew = _step(steps, "renew", "make a new key and request for the topic that devices are on")
    _add_names(renew, "who the devices are of")
    renew.add_argument("--topic", metavar="TOPIC", help="which one, if there are several")
    _add_service(renew)
    _add_vendor(renew, required=False)


def _add_signing(steps: Any) -> None:
    sign = _step(steps, "sign", "sign a push certificate request, as the vendor")
    sign.add_argument("request", metavar="FILE", type=Path, help="the request, such as push.csr")
    _add_vendor(sign, required=True)
    _add_out(sign)
    decrypt = _step(steps, "decrypt", "open a signed request that a service encrypted to you")
    decrypt.add_argument("file", metavar="FILE", type=Path, help="what the service sent")
    decrypt.add_argument(
        "--key", metavar="FILE", type=Path, default=Path("push.key"), help="(default push.key)"
    )
    decrypt.add_argument(
        "--certificate",
        metavar="FILE",
        type=Path,
        default=Path("push-encryption.pem"),
        help="the certificate it was encrypted to (default push-encryption.pem)",
    )
    _add_out(decrypt)


def _add_daemon(steps: Any) -> None:
    install = _step(steps, "install", "give the certificate to every daemon, at once")
    _add_certificate(install, nargs=None)
    install.add_argument(
        "--force", action="store_true", help="although no enrolled device is on its topic"
    )
    show = _step(steps, "show", "show what is installed, or what is in a file")
    _add_certificate(show, nargs="?")


def _step(steps: Any, name: str, help: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = steps.add_parser(name, help=help, description=help)
    parser.set_defaults(run=_run, step=name)
    return parser


def _add_names(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--name", metavar="NAME", required=True, help=what)
    parser.add_argument("--email", metavar="ADDRESS", default="", help="a mail address")
    parser.add_argument("--country", metavar="XX", default="", help="two letters, such as DE")
    _add_out(parser)


def _add_service(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--for-service",
        action="store_true",
        help="make a certificate too, that a signing service can encrypt its answer to",
    )


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path(), help="where files go (default: here)"
    )


def _add_vendor(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument(
        "--vendor-certificate",
        metavar="FILE",
        type=Path,
        required=required,
        help="the MDM vendor certificate, PEM, DER, or PKCS#12 with its key",
    )
    parser.add_argument("--vendor-key", metavar="FILE", type=Path, help="its key, if apart")
    parser.add_argument(
        "--chain",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="certificates above it, up to Apple's root; can be given again",
    )
    _add_passphrase(parser)


def _add_certificate(parser: argparse.ArgumentParser, nargs: str | None) -> None:
    parser.add_argument(
        "file", metavar="FILE", type=Path, nargs=nargs, help="the certificate: PEM, DER or PKCS#12"
    )
    parser.add_argument("--key", metavar="FILE", type=Path, help="its key, if it is not in FILE")
    _add_passphrase(parser)


def _add_passphrase(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--passphrase-file",
        metavar="FILE",
        type=Path,
        help="the passphrase of an encrypted key; it is asked for otherwise",
    )


def _run(args: argparse.Namespace) -> int:
    if args.step == "install":
        return _install(args)
    if args.step == "show":
        return _show(args)
    if args.step == "renew":
        return _renew(args)
    from mdmd.cli import pushcert_steps

    return pushcert_steps.run(args)


def _install(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    pair = read_pair(args)
    pem = pair.certificate_pem + pair.key_pem

    async def verb(remote: "Remote") -> None:
        done = await remote.call("certificates.install", pem=pem, force=args.force)
        if args.json:
            show.as_json(done)
            return
        show.out(f"installed for topic {done['topic']}, valid until {_until(done['not_after'])}")
        show.out(f"{done['enrolled']} enrolled devices are on it; the next push uses it")
        show.out(
            "The key is sealed in the store now: delete the file, or keep it offline. Renew it "
            "in time: mdmctl pushcert renew"
        )

    return run(args, verb)


def _show(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    if args.file is not None:
        return _show_file(args)

    async def verb(remote: "Remote") -> None:
        found = await remote.call("certificates.show")
        if args.json:
            show.as_json(found)
            return
        show.print_table(
            ("TOPIC", "VERSION", "VALID UNTIL", "LEFT", "DEVICES"),
            (
                (
                    each["topic"],
                    each["version"] or "none",
                    _until(each["not_after"]) if each["not_after"] else "",
                    _left(each["not_after"]) if each["not_after"] else "",
                    each["enrolled"],
                )
                for each in found
            ),
        )

    return run(args, verb)


def _show_file(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.errors import BadCertificate
    from mdmd.pki.certificates import load_certificate
    from mdmd.pki.pushcert import describe

    data = args.file.read_bytes()
    try:
        told = describe(load_certificate(data))
        whole = args.key is not None or b"PRIVATE KEY" in data
    except BadCertificate:
        told, whole = describe(read_pair(args).certificate), True
    if whole:
        read_pair(args)
        told["key"] = "fits"
    if args.json:
        show.as_json(told)
        return 0
    for line in show.tree(told):
        show.out(line)
    return 0


def _renew(args: argparse.Namespace) -> int:
    from mdmd.cli import pushcert_steps
    from mdmd.cli.client import run
    from mdmd.errors import BadRequest, NotHere

    async def verb(remote: "Remote") -> int:
        held = [each for each in await remote.call("certificates.show") if each["version"]]
        if args.topic:
            held = [each for each in held if each["topic"] == args.topic]
        if not held:
            raise NotHere("there is no push certificate to renew; begin with mdmctl pushcert csr")
        if len(held) > 1:
            raise BadRequest(f"choose one: --topic {' or '.join(each['topic'] for each in held)}")
        return pushcert_steps.renew(args, held[0])

    return run(args, verb)


def read_pair(args: argparse.Namespace) -> "PushCertificate":
    """
    Read certificate and key as the arguments name them; ask for a passphrase if it takes one.

    :raises BadCertificate: they can't be read, or don't fit.
    """
    from mdmd.pki.pushcert import read_push_certificate

    data = args.file.read_bytes()
    key = None if args.key is None else args.key.read_bytes()
    return with_passphrase(args, lambda word: read_push_certificate(data, key, word))


def with_passphrase(args: argparse.Namespace, read: Callable[[bytes | None], Value]) -> Value:
    """Read something that may be encrypted: with the given passphrase, without, or ask for it."""
    from mdmd.errors import BadCertificate

    if args.passphrase_file is not None:
        return read(args.passphrase_file.read_bytes().rstrip(b"\r\n"))
    try:
        return read(None)
    except BadCertificate as error:
        if "passphrase" not in str(error) or not sys.stdin.isatty():
            raise
    import getpass

    return read(getpass.getpass("Passphrase of the key: ").encode())


def _until(not_after: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(not_after, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _left(not_after: int) -> str:
    import time

    from mdmd.cli import show

    days = int((not_after - time.time()) // 86400)
    text = f"{days} days" if days >= 0 else "over"
    return show.colour(text, show.RED) if days <= 14 else text
