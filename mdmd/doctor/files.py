"""The files that the configuration names: are they there, whole, and nobody else's to read?"""

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from mdmd.config import Config
from mdmd.doctor.finding import Finding, failed, ok, warning
from mdmd.errors import BadCertificate, StoreCorrupt
from mdmd.pki.certificates import is_ca, load_certificate, load_key, matches
from mdmd.pki.sealing import CA_KEY, Sealer

_SPACE = 1 << 30  # bytes free below which we warn


def check_files(config: Config, now: datetime | None = None) -> Iterator[Finding]:
    """Look at every file, without the daemon."""
    moment = now or datetime.now(UTC)
    yield from _secrets(config)
    yield from _writable(config)
    yield from _owner(config.state)
    yield from _authority(config, moment)
    yield from _pair("site certificate", config.site.certificate, config.site.key)
    yield _space(config.state)


def _secrets(config: Config) -> Iterator[Finding]:
    secret = {
        "sealing key": config.store.sealing_key,
        "CA key": config.ca.key,
        "site key": config.site.key,
        "API key": config.api.key_file,
        "SCEP challenge": config.scep.challenge_file,
    }
    if config.manhole.enabled:
        secret["manhole key"] = config.manhole.host_key
    bad = False
    for name, path in secret.items():
        for finding in _secret(name, path):
            bad = True
            yield finding
    if not bad:
        yield ok("file modes", f"{len(secret)} secret files, all for their owner only")


def _writable(config: Config) -> Iterator[Finding]:
    """What decides who may do what is nobody else's to change, nor to put another in its place."""
    decide = {config.state, config.state / "operators.json", config.manhole.authorized_keys}
    decide |= {each.parent for each in (config.ca.certificate, config.site.certificate)}
    for path in sorted(decide):
        with contextlib.suppress(OSError):  # none: nobody may, or _space says so
            mode = stat.S_IMODE(path.stat().st_mode)
            # In a sticky folder, such as /tmp, nobody can put another file in the place of one.
            if mode & 0o022 and not (path.is_dir() and mode & stat.S_ISVTX):
                text = f"{path} has mode {mode:04o}: others than its owner can change it"
                yield failed("file modes", text, f"chmod go-w {path}")


def _owner(state: Path) -> Iterator[Finding]:
    """What root made in the folder of another account, that account can't read."""
    with contextlib.suppress(OSError):
        owner = state.stat()
        strange = [each for each in sorted(state.rglob("*")) if each.lstat().st_uid != owner.st_uid]
        if strange:
            yield failed(
                "owner",
                f"{strange[0]} ({len(strange)} in all) not of uid {owner.st_uid}, as the folder is",
                f"chown -R {owner.st_uid}:{owner.st_gid} {state}",
            )


def _secret(name: str, path: Path) -> Iterator[Finding]:
    try:
        about = path.stat()
    except PermissionError:
        yield failed(name, f"{path}: not ours to look at", "run mdmctl doctor as root or as mdmd")
        return
    except OSError as error:
        yield failed(name, f"{path}: {error.strerror}", "mdmctl init makes what is missing")
        return
    mode = stat.S_IMODE(about.st_mode)
    if mode & 0o077:
        text = f"{path} has mode {mode:04o}: others than its owner can use it"
        yield failed(name, text, f"chmod 600 {path}")


def _authority(config: Config, now: datetime) -> Iterator[Finding]:
    yield from _pair("device CA", config.ca.certificate, config.ca.key, _unsealer(config))
    try:
        certificate = load_certificate(config.ca.certificate.read_bytes())
        if not is_ca(certificate):
            text = f"{config.ca.certificate} is not the certificate of a CA"
            yield failed("device CA", text, "mdmctl init makes one; devices have to enroll again")
            return
    except (OSError, BadCertificate):
        return  # _pair has said so
    left = certificate.not_valid_after_utc - now
    if left.days < 0:
        text = f"ended on {certificate.not_valid_after_utc:%Y-%m-%d}; no identity of it counts"
        yield failed("device CA", text, "make a new CA: every device has to enroll again")
    elif left.days < 366:
        text = f"ends on {certificate.not_valid_after_utc:%Y-%m-%d}; identities can't last longer"
        yield warning("device CA", text, "plan a new CA: every device has to enroll again")
    elif certificate.not_valid_before_utc > now:
        start = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M}"
        text = f"it is {now:%Y-%m-%d %H:%M} UTC here, and the device CA is valid only from {start}"
        yield failed("clock", text, "set this machine's clock")


def _unsealer(config: Config) -> Callable[[bytes], bytes]:
    def unseal(content: bytes) -> bytes:
        """Open the CA's key as the daemon does: sealed, or as it was brought along."""
        try:
            sealer = Sealer(config.store.sealing_key.read_bytes())
        except (OSError, ValueError):
            return content  # another finding says what is wrong with the sealing key
        try:
            return sealer.unseal_file(content, CA_KEY)
        except StoreCorrupt as error:
            raise BadCertificate(str(error)) from None

    return unseal


def _pair(
    name: str,
    certificate: Path,
    key: Path,
    unseal: Callable[[bytes], bytes] = lambda content: content,
) -> Iterator[Finding]:
    path = certificate
    try:
        read = load_certificate(path.read_bytes())
        path = key
        held = load_key(unseal(path.read_bytes()))
    except OSError as error:
        yield failed(name, f"{path}: {error.strerror}", "mdmctl init makes what is missing")
    except BadCertificate as error:
        yield failed(name, f"{path}: {error}", "restore both files from a backup")
    else:
        if matches(read, held):
            yield ok(name, f"{_name(read)}, until {read.not_valid_after_utc:%Y-%m-%d}")
        else:
            text = f"{key} is not the key of {certificate}"
            yield failed(name, text, "put the files of one pair together")


def _name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()


def _space(state: Path) -> Finding:
    try:
        free = shutil.disk_usage(state).free
        inodes = os.statvfs(state).f_favail
    except OSError as error:
        return failed("state folder", f"{state}: {error.strerror}", "mdmctl init makes it")
    if free < _SPACE or inodes < 1000:
        text = f"{free >> 20} MB and {inodes} files free under {state}"
        return warning("disk", text, "make room: a store that can't write refuses everything")
    return ok("disk", f"{free >> 30} GB free under {state}")
