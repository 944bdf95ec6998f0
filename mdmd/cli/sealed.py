"""Whom a file is sealed for, and what opens it, from the command line."""

import argparse
import getpass
import sys
from pathlib import Path

from mdmd.errors import BadCertificate, BadRequest
from mdmd.pki.age import Passphrase
from mdmd.pki.age_keys import LockedKey, read_identities, read_recipient
from mdmd.pki.age_stanza import Opens, Seals


def recipients(args: argparse.Namespace) -> list[Seals]:
    """
    Say whom to seal for; nobody with ``--plain``.

    :raises BadRequest: no key was given, and nobody is there to be asked.
    """
    if args.plain:
        return []
    if args.recipient:
        return [_recipient(each) for each in args.recipient]
    return [Passphrase(_passphrase(args.passphrase_file, twice=True))]


def openers(args: argparse.Namespace, needed: bool) -> list[Opens]:
    """
    Say what opens a file.

    :param needed: it is sealed.
    :raises BadRequest: no key was given, and nobody is there to be asked.
    """
    if not needed:
        return []
    if args.keys:
        return [key for path in args.keys for key in _identities(path, args.passphrase_file)]
    return [Passphrase(_passphrase(args.passphrase_file, twice=False))]


def _identities(path: Path, passphrase_file: Path | None) -> list[Opens]:
    """Read the keys of a file; one that is itself encrypted takes a passphrase."""
    text = path.read_text("utf-8", "replace")
    try:
        try:
            return read_identities(text)
        except LockedKey:
            return read_identities(
                text, _passphrase(passphrase_file, twice=False, of=f" of {path}")
            )
    except BadCertificate as error:
        raise BadRequest(f"{path}: {error}") from None


def _recipient(text: str) -> Seals:
    if text.startswith("age1") and not Path(text).exists():
        return read_recipient(text)
    lines = Path(text).read_text("utf-8", "replace")
    found = [line for line in lines.splitlines() if line.startswith("age1")] or [lines]
    try:
        return read_recipient(found[0])
    except BadCertificate as error:
        raise BadRequest(f"{text}: {error}") from None


def _passphrase(file: Path | None, twice: bool, of: str = "") -> str:
    if file is not None:
        found = file.read_text().partition("\n")[0].rstrip("\r")
    elif not sys.stdin.isatty():
        raise BadRequest("give --passphrase-file, a key, or a terminal to ask on")
    else:
        found = getpass.getpass(f"Passphrase{of}: ")
        if twice and getpass.getpass("Once more: ") != found:
            raise BadRequest("the two are not the same")
    if not found:
        raise BadRequest("the passphrase is empty")
    return found
