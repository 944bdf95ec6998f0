"""Whom a file is sealed for, and what opens it, from the command line."""

import argparse
import getpass
import sys
from pathlib import Path

from mdmd.errors import BadRequest
from mdmd.pki.age import Identity, Passphrase, Recipient, read_identities, read_recipient


def recipients(args: argparse.Namespace) -> list[Passphrase | Recipient]:
    """
    Say whom to seal for; nobody with ``--plain``.

    :raises BadRequest: no key was given, and nobody is there to be asked.
    """
    if args.plain:
        return []
    if args.recipient:
        return [_recipient(each) for each in args.recipient]
    return [Passphrase(_passphrase(args.passphrase_file, twice=True))]


def openers(args: argparse.Namespace, needed: bool) -> list[Passphrase | Identity]:
    """
    Say what opens a file.

    :param needed: it is sealed.
    :raises BadRequest: no key was given, and nobody is there to be asked.
    """
    if not needed:
        return []
    if args.keys:
        return [key for path in args.keys for key in read_identities(path.read_text())]
    return [Passphrase(_passphrase(args.passphrase_file, twice=False))]


def _recipient(text: str) -> Recipient:
    if text.startswith("age1") and not Path(text).exists():
        return read_recipient(text)
    lines = Path(text).read_text()
    for line in lines.splitlines():
        if line.startswith("age1"):
            return read_recipient(line)
    return read_recipient(lines)


def _passphrase(file: Path | None, twice: bool) -> str:
    if file is not None:
        found = file.read_text().partition("\n")[0].rstrip("\r")
    elif not sys.stdin.isatty():
        raise BadRequest("give --passphrase-file, a key, or a terminal to ask on")
    else:
        found = getpass.getpass("Passphrase: ")
        if twice and getpass.getpass("Once more: ") != found:
            raise BadRequest("the two are not the same")
    if not found:
        raise BadRequest("the passphrase is empty")
    return found
