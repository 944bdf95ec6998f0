"""``mdmctl ca``: the device CA and the certificates that it issued."""

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdmd.cli.exits import DONE
from mdmd.cli.places import STATE
from mdmd.errors import BadRequest

if TYPE_CHECKING:
    from mdmd.cli.client import Remote

_HEADERS = ("SERIAL", "ENDS", "STATE", "VIA", "ENROLLMENT", "SUBJECT")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    ca = subparsers.add_parser("ca", help="the device CA and the certificates that it issued")
    verbs = ca.add_subparsers(metavar="VERB", required=True)
    verbs.add_parser("show", help="say what the CA is").set_defaults(run=_show)
    issued = verbs.add_parser("issued", help="list certificates, those that end soonest first")
    issued.add_argument("certificate", metavar="CERTIFICATE", nargs="?", help="show one in full")
    issued.add_argument("--after", metavar="SHA256", default="", help="go on after this one")
    issued.add_argument("--limit", type=int, default=100, help="at most (default 100)")
    issued.set_defaults(run=_issued)
    revoke = verbs.add_parser(
        "revoke", help="let nobody in with a certificate any more, on any daemon of the store"
    )
    revoke.add_argument(
        "certificate",
        metavar="CERTIFICATE",
        help="serial number, SHA-256 fingerprint, or the id of the enrollment that has it",
    )
    revoke.add_argument("--reason", default="", help="for the record")
    revoke.set_defaults(run=_revoke)
    renew = verbs.add_parser("renew", help="let a device renew its identity now")
    renew.add_argument("id", metavar="ID")
    renew.set_defaults(run=_renew)
    _add_import(verbs)


def _add_import(verbs: Any) -> None:
    bring = verbs.add_parser(
        "import",
        help="use a CA of your own",
        description=(
            "Put a CA's certificate and key into the state folder, the key sealed. The old ones "
            "are kept beside them; the daemon uses the new CA after a restart."
        ),
    )
    bring.add_argument("--certificate", metavar="PEM", type=Path, required=True)
    bring.add_argument("--key", metavar="PEM", type=Path, required=True)
    bring.add_argument(
        "--passphrase-file", metavar="FILE", type=Path, help="of the key, if it is encrypted"
    )
    bring.set_defaults(run=_import)


def _show(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> None:
        found = await remote.call("ca.show")
        if args.json:
            show.as_json(found)
            return
        for text in show.tree({**found, **_dates(found)}):
            show.out(text)
        if found["challenge"] == "none":
            show.note("warning: whoever reaches /scep gets an identity ([scep] challenge = none)")

    return run(args, verb)


def _issued(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> None:
        if args.certificate:
            found = await remote.call("ca.get", certificate=args.certificate)
            if args.json:
                show.as_json(found)
                return
            for text in show.tree({**found, **_dates(found)}):
                show.out(text)
            return
        page = await remote.call("ca.issued", after=args.after, limit=args.limit)
        if args.json:
            show.as_json(page)
        else:
            show.print_table(_HEADERS, map(_row, page))

    return run(args, verb)


def _row(found: dict[str, Any]) -> tuple[str, ...]:
    state = "revoked" if found["revoked_at"] else "in use" if found["enrollment"] else "issued"
    return (
        found["serial"],
        _dates(found)["not_after"],
        state,
        found["via"] + (f" ({found['label']})" if found["label"] else ""),
        found["enrollment"],
        found["subject"],
    )


def _dates(found: dict[str, Any]) -> dict[str, str]:
    return {
        name: f"{datetime.fromtimestamp(found[name], UTC):%Y-%m-%d %H:%M} UTC"
        for name in ("not_before", "not_after")
    }


def _revoke(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> None:
        fresh = await remote.call("ca.revoke", certificate=args.certificate, reason=args.reason)
        if args.json:
            show.as_json({"revoked": fresh})
        else:
            show.out("revoked" if fresh else "it was revoked already")

    return run(args, verb)


def _renew(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.cli.client import run

    async def verb(remote: "Remote") -> None:
        uuid = await remote.call("ca.renew", id=args.id)
        if args.json:
            show.as_json({"command_uuid": uuid})
        else:
            show.out(f"queued as {uuid}")

    return run(args, verb)


def _import(args: argparse.Namespace) -> int:
    from mdmd.cli import show
    from mdmd.pki import certificates
    from mdmd.pki.authority import CertificateAuthority
    from mdmd.pki.sealing import CA_KEY, Sealer

    state = Path(args.state or STATE)
    passphrase = None
    if args.passphrase_file is not None:
        passphrase = args.passphrase_file.read_bytes().rstrip(b"\r\n")
    own = CertificateAuthority.load(
        args.certificate.read_bytes(), args.key.read_bytes(), passphrase
    )
    if not certificates.in_validity(own.certificate, datetime.now(UTC)):
        raise BadRequest(f"{args.certificate}: the certificate is not valid now")
    sealer = Sealer((state / "sealing.key").read_bytes())
    sealed = sealer.seal_file(certificates.key_pem(own.key), CA_KEY)
    kept = _put(state / "ca", certificates.certificate_pem(own.certificate), sealed)
    show.out(f"{state / 'ca'}: {own.certificate.subject.rfc4514_string()}")
    if kept is not None:
        show.note(
            f"the old CA is in {kept}; until its devices have new identities put\n"
            f"  [ca]\n  trust = {kept / 'ca.pem'}\ninto the configuration. Restart the daemon."
        )
    return DONE


def _put(folder: Path, certificate: bytes, key: bytes) -> Path | None:
    """Put a pair in place, the old one aside; say where that is."""
    staging = folder.with_name(".ca.new")
    staging.mkdir(0o700, exist_ok=True)
    for name, content in (("ca.pem", certificate), ("ca.key", key)):
        path = staging / name
        path.write_bytes(content)
        path.chmod(0o600)
        if folder.exists():
            status = folder.stat()
            os.chown(path, status.st_uid, status.st_gid)
    kept = None
    if folder.exists():
        status = folder.stat()
        os.chown(staging, status.st_uid, status.st_gid)
        kept = folder.with_name(f"ca.{datetime.now(UTC):%Y%m%d-%H%M%S}")
        folder.rename(kept)
    staging.rename(folder)
    return kept
