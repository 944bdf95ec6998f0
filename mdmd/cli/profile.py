"""``mdmctl profile``: look at configuration profiles, sign them, make the enrollment profile."""

import argparse
import sys
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mdmd.cli.exits import DONE, FAILED, NO_DAEMON
from mdmd.errors import BadCertificate, BadRequest

if TYPE_CHECKING:
    from mdmd.cli.client import Remote
    from mdmd.mdm.profile_check import Finding

_LARGEST = 64 << 20  # bytes
_DER_SEQUENCE = b"\x30"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    parser = subparsers.add_parser("profile", help="check, sign and make configuration profiles")
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    _add_check(verbs)
    _add_sign(verbs)
    enroll = verbs.add_parser("enroll", help="make an enrollment profile, as it is served")
    enroll.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="default: standard output"
    )
    enroll.add_argument(
        "--name", default="", help="the identity's common name; then the profile is good once"
    )
    enroll.set_defaults(run=_enroll)


def _add_check(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    check = verbs.add_parser(
        "check",
        help="say what would make a device refuse a profile",
        description=(
            "Read a .mobileconfig, signed or not, XML or binary, and name all that would make a "
            "device refuse it or misbehave. Exit status 1 if there is an error. The push topic is "
            "compared if it is known: by an option, or from the daemon if --state or --config "
            "say which."
        ),
    )
    check.add_argument("file", metavar="FILE", type=Path)
    known = check.add_mutually_exclusive_group()
    known.add_argument("--topic", help="the push certificate's topic")
    known.add_argument(
        "--push-certificate", metavar="PEM", type=Path, help="the push certificate itself"
    )
    check.add_argument("--strict", action="store_true", help="count warnings as errors")
    check.set_defaults(run=_check)


def _add_sign(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    sign = verbs.add_parser("sign", help="sign a profile (CMS), so that devices show by whom")
    sign.add_argument("file", metavar="FILE", type=Path)
    sign.add_argument(
        "--certificate",
        metavar="PEM",
        type=Path,
        required=True,
        help="the signer's certificate, followed by its chain",
    )
    sign.add_argument("--key", metavar="PEM", type=Path, required=True, help="its private key")
    sign.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: standard output")
    sign.set_defaults(run=_sign)


# -- check -----------------------------------------------------------------------


def _check(args: argparse.Namespace) -> int:
    blob = args.file.read_bytes()
    if args.topic:
        return _report(args, blob, [args.topic])
    if args.push_certificate:
        return _report(args, blob, [_topic_of(args.push_certificate)])
    if not args.state and not args.config:
        return _report(args, blob, ())

    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> int:
        installed = await remote.call("certificates.show")
        return _report(args, blob, [each["topic"] for each in installed])

    status = run(args, verb)
    # The rest can be said without a daemon; which one is missing is on standard error.
    return _report(args, blob, ()) if status == NO_DAEMON else status


def _report(args: argparse.Namespace, blob: bytes, topics: Collection[str]) -> int:
    from mdmd.cli import show
    from mdmd.cli.judge import judge

    signer, found = judge(blob, datetime.now(UTC), topics)
    bad = [each for each in found if args.strict or not each.warning]
    if args.json:
        show.as_json(_as_data(args.file, signer, found, not bad))
        return FAILED if bad else DONE
    for each in found:
        kind = "warning" if each.warning else "error"
        show.out(show.clean(f"{kind}: {each.path or 'the profile'} {each.text} [{each.code}]"))
    if not found:
        show.out(f"{args.file}: nothing wrong" + (f", signed by {signer}" if signer else ""))
    return FAILED if bad else DONE


def _as_data(file: Path, signer: str, found: "list[Finding]", ok: bool) -> dict[str, object]:
    return {
        "file": str(file),
        "ok": ok,
        "signer": signer or None,
        "findings": [
            {
                "severity": "warning" if each.warning else "error",
                "path": each.path,
                "code": each.code,
                "text": each.text,
            }
            for each in found
        ],
    }


def _topic_of(path: Path) -> str:
    from cryptography.x509.oid import NameOID

    from mdmd.pki.certificates import load_certificate

    for each in load_certificate(path.read_bytes()).subject:
        if each.oid == NameOID.USER_ID:
            return str(each.value)
    raise BadCertificate(f"{path}: no topic: not a push certificate")


# -- sign ------------------------------------------------------------------------


def _sign(args: argparse.Namespace) -> int:
    from mdmd.mdm import plist
    from mdmd.pki import certificates, cms

    profile = args.file.read_bytes()
    if profile[:1] == _DER_SEQUENCE:
        raise BadRequest(f"{args.file} is signed already")
    plist.loads(profile, limit=_LARGEST)
    first, *chain = certificates.load_chain(args.certificate.read_bytes())
    key = certificates.load_key(args.key.read_bytes())
    if not certificates.matches(first, key):
        raise BadCertificate(f"{args.key} is not the key of {args.certificate}")
    _write(args, cms.sign_attached(profile, first, key, chain))
    return DONE


def _enroll(args: argparse.Namespace) -> int:
    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> None:
        _write(args, await remote.call("enroll.profile", name=args.name))

    return run(args, verb)


def _write(args: argparse.Namespace, data: bytes) -> None:
    """Write a file, or standard output unless that is a terminal."""
    from mdmd.cli import show

    if args.output is not None:
        args.output.write_bytes(data)
        if args.json:
            show.as_json({"file": str(args.output), "size": len(data)})
    elif args.json:
        show.as_json({"profile": data})
    elif sys.stdout.isatty():
        raise BadRequest("the profile is not for a terminal: say where to with -o FILE")
    else:
        sys.stdout.buffer.write(data)
