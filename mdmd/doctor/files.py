"""The files that the configuration names: are they there, whole, and nobody else's to read?"""

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from mdmd.config import Config
from mdmd.doctor.account import Account, check_account
from mdmd.doctor.finding import Finding, failed, ok, warning
from mdmd.errors import BadCertificate, StoreCorrupt
from mdmd.pki.certificates import is_ca, load_certificate, load_chain, load_key, matches
from mdmd.pki.sealing import CA_KEY, Sealer

_SPACE = 1 << 30  # bytes free below which we warn


def check_files(
    config: Config, now: datetime | None = None, path: Path | None = None
) -> Iterator[Finding]:
    """
    Look at every file, without the daemon.

    :param path: of the configuration itself.
    """
    moment = now or datetime.now(UTC)
    account = Account.of(config.state)
    secret = dict(_secrets(config, path))
    yield from _private(secret, account)
    yield from _writable(config)
    yield from _owner(config.state)
    yield from check_account(account, [*secret.values(), *_public(config)])
    yield from _authority(config, moment)
    yield from _pair("site certificate", config.site.certificate, config.site.key)
    if config.api.certificate is not None and config.api.key is not None:
        yield from _pair("API certificate", config.api.certificate, config.api.key)
    yield _space(config.state)


def _secrets(config: Config, path: Path | None) -> Iterator[tuple[str, Path]]:
    """Name what is for the daemon only."""
    yield "sealing key", config.store.sealing_key
    yield "CA key", config.ca.key
    yield "site key", config.site.key
    yield "API key", config.api.key_file
    yield "SCEP challenge", config.scep.challenge_file
    if config.manhole.enabled:
        yield "manhole key", config.manhole.host_key
    if config.api.key is not None:
        yield "API's TLS key", config.api.key
    if config.enroll.password_file is not None:
        yield "enroll password", config.enroll.password_file
    if config.enroll.signing_key is not None:
        yield "signing key", config.enroll.signing_key
    for name, each in config.webhooks.items():
        if each.key_file is not None:
            yield f"webhook {name}", each.key_file
    yield from _hashes_and_data(config)
    if path is not None and any(_password(each) for each in _urls(config)):
        yield "configuration", path  # it has a password in it


def _hashes_and_data(config: Config) -> Iterator[tuple[str, Path]]:
    made = {"operators": config.state / "operators.json", "store folder": config.state / "store"}
    for name, path in made.items():
        if path.exists() and not path.stat().st_mode & 0o022:  # else _writable says so
            yield name, path


def _urls(config: Config) -> Iterator[str]:
    yield config.store.redis
    yield config.apns.proxy or ""
    yield from (each.url for each in config.webhooks.values())


def _password(url: str) -> str | None:
    with contextlib.suppress(ValueError):
        return urlsplit(url).password
    return None


def _public(config: Config) -> Iterator[Path]:
    """Name the other files that the daemon reads."""
    yield config.ca.certificate
    yield config.site.certificate
    more = (config.api.certificate, config.apns.trust, config.store.ca)
    yield from (each for each in more if each is not None)


def _private(secret: Mapping[str, Path], account: Account | None) -> Iterator[Finding]:
    bad = False
    for name, path in secret.items():
        for finding in _secret(name, path, account):
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


def _secret(name: str, path: Path, account: Account | None) -> Iterator[Finding]:
    try:
        about = path.stat()
    except PermissionError:
        yield failed(name, f"{path}: not ours to look at", "run mdmctl doctor as root or as mdmd")
        return
    except OSError as error:
        yield failed(name, f"{path}: {error.strerror}", "mdmctl init makes what is missing")
        return
    mode = stat.S_IMODE(about.st_mode)
    text = f"{path} has mode {mode:04o}: others than its owner can use it"
    if account is None or account.uid == about.st_uid:
        if mode & 0o077:
            yield failed(name, text, f"chmod {'700' if path.is_dir() else '600'} {path}")
    elif mode & 0o037 or (mode & 0o040 and about.st_gid != account.gid):
        # Of root, say, and for the daemon to read: by its group and nobody else.
        yield failed(name, text, f"chgrp {account.gid} {path}; chmod 640 {path}")


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
        remedy = "restore both files from a backup"
        if "encrypted" in str(error):
            remedy = f"take the passphrase off: openssl pkey -in {path} -out NEW"
        yield failed(name, f"{path}: {error}", remedy)
    else:
        if matches(read, held):
            yield ok(name, f"{_name(read)}, until {read.not_valid_after_utc:%Y-%m-%d}")
        else:
            text = f"{key} is not the key of {certificate}"
            remedy = "put the files of one pair together"
            if any(matches(each, held) for each in load_chain(certificate.read_bytes())[1:]):
                text = f"the certificate of {key} is in {certificate}, but not the first"
                remedy = "put it before those of the CAs"
            yield failed(name, text, remedy)


def _name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()


def _space(state: Path) -> Finding:
    try:
        free = shutil.disk_usage(state).free
        about = os.statvfs(state)
    except OSError as error:
        return failed("state folder", f"{state}: {error.strerror}", "mdmctl init makes it")
    if about.f_flag & os.ST_RDONLY:
        text = f"{state} can't be written: its file system is read-only"
        return failed("disk", text, "see with dmesg why it is; mount -o remount,rw")
    if free < _SPACE or about.f_favail < 1000:
        text = f"{free >> 20} MB and {about.f_favail} files free under {state}"
        return warning("disk", text, "make room: a store that can't write refuses everything")
    return ok("disk", f"{free >> 30} GB free under {state}")
