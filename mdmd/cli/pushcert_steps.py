"""
The steps to a push certificate that need no daemon.

Each writes files that were not there, and says where they go next and what will
come back.
"""

import argparse
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mdmd.cli import show
from mdmd.cli.pushcert import with_passphrase
from mdmd.errors import BadRequest
from mdmd.pki import certificates, pushcert, pushcert_request
from mdmd.pki.certificates import PrivateKey
from mdmd.pki.pushcert_request import Vendor

PORTAL = "https://identity.apple.com/pushcert"

SIGNED = "push-request.b64"  # what the portal takes

_VENDOR = """\
Next: developer.apple.com/account, Certificates, +, "MDM CSR" (the team needs the MDM option, which
its Account Holder asks Apple for); upload {csr}.
It gives a file such as mdm.cer: the vendor certificate. With it: mdmctl pushcert csr, then
mdmctl pushcert sign push.csr --vendor-certificate mdm.cer --vendor-key {key} --chain … (Apple's
WWDR intermediate and root, from apple.com/certificateauthority)."""

_REQUEST = """\
Next: sign it with your vendor certificate:
  mdmctl pushcert sign {csr} --vendor-certificate mdm.cer --vendor-key vendor.key --chain …
or give it to whoever is your MDM vendor. Back comes the signed request, for Apple's push portal."""

_SERVICE = """\
A service that signs for others takes {csr} and {encryption}, and sends the signed request
encrypted: mdmctl pushcert decrypt FILE"""

_PORTAL = """\
Next: {portal}, with the Apple Account that is to own the certificate (a shared one: only
it can renew), "Create a Certificate", upload {signed}.
It gives a file such as MDM_….pem. Then: mdmctl pushcert install MDM_….pem --key push.key"""

_RENEW = """\
Next: {portal}, with the Apple Account that owns the certificate; "Renew" (never
"Create": that would be another topic, and every device would have to enroll again) the one whose
UID is {topic}, and upload {signed}.
It gives a file such as MDM_….pem. Then: mdmctl pushcert install MDM_….pem --key {key}"""


def run(args: argparse.Namespace) -> int:
    """Take one step."""
    steps: dict[str, Callable[[argparse.Namespace], int]] = {
        "vendor-csr": _vendor_csr,
        "csr": _csr,
        "sign": _sign,
        "decrypt": _decrypt,
    }
    return steps[args.step](args)


def _vendor_csr(args: argparse.Namespace) -> int:
    key, csr = _make_request(args, "vendor")
    return _tell(args, [key, csr], _VENDOR.format(csr=csr, key=key))


def _csr(args: argparse.Namespace) -> int:
    made, words = _push_request(args)
    return _tell(args, made, words)


def renew(args: argparse.Namespace, held: dict[str, Any]) -> int:
    """
    Begin a renewal.

    :param held: the certificate in use, as ``certificates.show`` tells it.
    """
    made, words = _push_request(args)
    if args.vendor_certificate is not None:
        made.append(_write_signed(args, made[1].read_bytes()))
        words = _RENEW.format(portal=PORTAL, topic=held["topic"], signed=made[-1], key=made[0])
    else:
        words += "\n" + _RENEW.format(
            portal=PORTAL, topic=held["topic"], signed="the signed request", key=made[0]
        )
    return _tell(args, made, words, topic=held["topic"])


def _push_request(args: argparse.Namespace) -> tuple[list[Path], str]:
    names = ["push.key", "push.csr", *(["push-encryption.pem"] if args.for_service else [])]
    _check_free(args, *names, *([SIGNED] if getattr(args, "vendor_certificate", None) else []))
    key, csr = _make_request(args, "push")
    words = _REQUEST.format(csr=csr)
    if not args.for_service:
        return [key, csr], words
    own = pushcert.read_key(key.read_bytes())
    certificate = pushcert_request.encryption_certificate(own, datetime.now(UTC))
    encryption = _write(
        args.out / "push-encryption.pem", certificates.certificate_pem(certificate), 0o644
    )
    return [key, csr, encryption], _SERVICE.format(csr=csr, encryption=encryption)


def _make_request(args: argparse.Namespace, stem: str) -> tuple[Path, Path]:
    _check_free(args, f"{stem}.key", f"{stem}.csr")
    key, csr = pushcert_request.new_request(args.name, args.email, args.country)
    return (
        _write(args.out / f"{stem}.key", certificates.key_pem(key), 0o600),
        _write(args.out / f"{stem}.csr", pushcert_request.request_pem(csr), 0o644),
    )


def _sign(args: argparse.Namespace) -> int:
    _check_free(args, SIGNED)
    signed = _write_signed(args, args.request.read_bytes())
    return _tell(args, [signed], _PORTAL.format(portal=PORTAL, signed=signed))


def _write_signed(args: argparse.Namespace, request: bytes) -> Path:
    csr = pushcert_request.read_request(request)
    by: Vendor = with_passphrase(args, lambda word: _read_vendor(args, word))
    if by.missing:
        show.note(
            f"mdmctl: Apple's portal wants the whole chain, and {by.missing} is not in it: "
            "give it with --chain"
        )
    return _write(args.out / SIGNED, pushcert_request.sign_request(csr, by), 0o644)


def _read_vendor(args: argparse.Namespace, passphrase: bytes | None) -> Vendor:
    data = args.vendor_certificate.read_bytes()
    chain = [each.read_bytes() for each in args.chain]
    key: PrivateKey
    if args.vendor_key is not None or b"PRIVATE KEY" in data:
        own = data if args.vendor_key is None else args.vendor_key.read_bytes()
        key = pushcert.read_key(own, passphrase)
    else:
        key, certificate, others = certificates.load_pkcs12(data, passphrase)
        data = certificates.certificate_pem(certificate)
        chain += map(certificates.certificate_pem, others)
    return pushcert_request.vendor(data, key, chain, datetime.now(UTC))


def _decrypt(args: argparse.Namespace) -> int:
    _check_free(args, SIGNED)
    key = pushcert.read_key(args.key.read_bytes())
    certificate = certificates.load_certificate(args.certificate.read_bytes())
    opened = pushcert_request.open_answer(args.file.read_bytes(), certificate, key)
    signed = _write(args.out / SIGNED, opened, 0o644)
    return _tell(args, [signed], _PORTAL.format(portal=PORTAL, signed=signed))


# -- files -----------------------------------------------------------------------


def _check_free(args: argparse.Namespace, *names: str) -> None:
    """Refuse before anything is made: half of a pair would be of no use."""
    for name in names:
        if (args.out / name).exists():
            raise BadRequest(
                f"{args.out / name} is there already; move it away, or choose another --out"
            )


def _write(path: Path, data: bytes, mode: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(number, "wb") as file:
        file.write(data)
    return path


def _tell(args: argparse.Namespace, made: list[Path], words: str, **facts: str) -> int:
    if args.json:
        show.as_json({"files": list(map(str, made)), "next": words, **facts})
        return 0
    for path in made:
        secret = "  (keep it, and keep it secret)"  # noqa: S105
        show.out(f"made  {path}{secret if path.suffix == '.key' else ''}")
    show.out("")
    show.out(words)
    return 0
