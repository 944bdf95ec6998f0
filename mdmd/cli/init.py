"""``mdmctl init``: make the state folder, with everything the daemon needs to start."""

import argparse
import json
import os
import pwd
import re
import secrets
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import attrs

from mdmd.errors import BadRequest, MdmdError

STATE = Path("/var/lib/mdmd")

Pair = tuple[bytes, bytes]  # certificate and key, PEM

_CA_DAYS = 3650
# Apple's devices refuse more than 825 days; a sysadmin has a public certificate long before.
_TLS_DAYS = 730
_CA_NAME = "mdmd device CA"
_SSH_KEY = re.compile(r"(?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+ [A-Za-z0-9+/]+=*(?: .*)?", re.ASCII)
_AUTHORIZED_KEYS = (
    "# Who may come in by SSH: one public key a line, as in ~/.ssh/authorized_keys.\n"
)


@attrs.frozen
class Made:
    """One file of the state folder; ``kept``: it was there and is as it was."""

    path: Path
    what: str
    kept: bool = False


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare ``init``; what it needs is imported when it runs."""
    parser = subparsers.add_parser(
        "init",
        help="make the state folder: configuration, CA, certificates, keys",
        description=(
            "Make a state folder with all that the daemon needs. What is there already is kept, "
            "so that it can be run again at any time."
        ),
    )
    parser.add_argument(
        "--hostname", required=True, metavar="NAME", help="the name devices reach the server by"
    )
    # Without SUPPRESS the default here would win over --state before the verb.
    parser.add_argument(
        "--state", metavar="DIR", default=argparse.SUPPRESS, help=f"where (default {STATE})"
    )
    parser.add_argument(
        "--organization", metavar="NAME", default="", help="who manages, as devices show it"
    )
    parser.add_argument(
        "--ca-key", choices=("rsa", "ec"), default="rsa", help="kind of the CA's key (default rsa)"
    )
    parser.add_argument(
        "--ssh-key",
        metavar="FILE",
        type=Path,
        help="public keys that may use the manhole, such as ~/.ssh/id_ed25519.pub",
    )
    parser.add_argument(
        "--user",
        metavar="NAME",
        help="whose the files are, when root makes them (default: the state folder's owner)",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    state = Path(getattr(args, "state", None) or STATE).absolute()
    try:
        keys = _read_ssh_keys(args.ssh_key) if args.ssh_key else ""
        made = make_state(
            state,
            args.hostname,
            organization=args.organization,
            ca_key=args.ca_key,
            ssh_keys=keys,
            user=args.user or "",
        )
    except (MdmdError, OSError) as error:
        sys.stderr.write(f"mdmctl init: {error}\n")
        return 1
    if getattr(args, "json", False):
        told = [{"path": str(each.path), "what": each.what, "kept": each.kept} for each in made]
        sys.stdout.write(f"{json.dumps(told)}\n")
        return 0
    for each in made:
        sys.stdout.write(f"{'kept' if each.kept else 'made'}  {each.path}  {each.what}\n")
    sys.stdout.write(_next_steps(state, args.hostname))
    return 0


def _read_ssh_keys(path: Path) -> str:
    text = path.read_text(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]
    if not lines or not all(map(_SSH_KEY.fullmatch, lines)):
        raise BadRequest(f"{path}: expected SSH public keys, one a line")
    return "".join(f"{line}\n" for line in lines)


def make_state(
    state: Path,
    hostname: str,
    organization: str = "",
    ca_key: str = "rsa",
    ssh_keys: str = "",
    user: str = "",
) -> list[Made]:
    """
    Make what is missing in a state folder, say what was made and what kept.

    Each file appears whole or not at all, the configuration last; after an
    interruption it is enough to call this again.

    :param ca_key: ``rsa`` or ``ec``.
    :param ssh_keys: lines for the manhole's authorized_keys.
    :param user: whose the files are, if root makes them; by default the owner
        of the state folder.
    :raises BadRequest: a name that can't be one, or half of a pair is there.
    :raises ConfigError: the configuration would have a mistake.
    :raises OSError: a file can't be written.
    """
    state = state.absolute()
    configuration = _configuration(state, hostname, organization)
    folder = _Folder(state, user)
    folder.make_folder(state)
    if user:
        folder.own(state)
    folder.make("sealing.key", "seals secrets in the store; keep a copy elsewhere", _sealing_key)
    _make_certificates(folder, hostname, ca_key, (state / "sealing.key").read_bytes())
    folder.make("api.key", "password of the HTTP API", _token)
    folder.make("scep.challenge", "lets devices with the profile have an identity", _token)
    folder.make_folder(state / "manhole")
    folder.make("manhole/host_key", "SSH key of the manhole", _ssh_host_key)
    authorized_keys = (_AUTHORIZED_KEYS + ssh_keys).encode()
    folder.make("manhole/authorized_keys", "who may use the manhole", lambda: authorized_keys)
    folder.make("operators.json", "operators and their roles", _operators)
    folder.make("mdmd.conf", "the configuration", lambda: configuration.encode())
    return folder.made


class _Folder:
    """The state folder while it is filled."""

    def __init__(self, state: Path, user: str) -> None:
        self._state = state
        self._owner = _owner(state, user)
        self.made: list[Made] = []

    def make_folder(self, path: Path) -> None:
        """Make a folder nobody else can look into, unless it is there."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir(0o700)
        except FileExistsError:
            if not path.is_dir():
                raise
            return
        path.chmod(0o700)  # whatever the umask is
        self.own(path)
        _sync(path.parent)

    def make(self, name: str, what: str, content: Callable[[], bytes]) -> None:
        """Make one file, unless something is there by that name."""
        path = self._state / name
        kept = os.path.lexists(path)
        if not kept:
            self._write(path, content())
        self.made.append(Made(path, what, kept))

    def make_pair(
        self,
        name: str,
        certificate: str,
        key: str,
        what: str,
        make: Callable[[], Pair],
    ) -> tuple[Path, Path]:
        """
        Make a folder with a certificate and its key, unless both are there; say where they are.

        They appear together: a certificate of another key is worse than none.
        """
        folder = self._state / name
        paths = folder / certificate, folder / key
        there = [os.path.lexists(path) for path in paths]
        if any(there) != all(there):
            here, missing = paths if there[0] else reversed(paths)
            raise BadRequest(f"{here} is there, but not {missing}: restore it, or move both away")
        if not any(there):
            staging = self._state / f".{name}.new"
            shutil.rmtree(staging, ignore_errors=True)
            self.make_folder(staging)
            for path, content in zip(paths, make(), strict=True):
                self._write(staging / path.name, content)
            self._move_pair(staging, folder, key, certificate)
        self.made.append(Made(paths[0], what, all(there)))
        self.made.append(Made(paths[1], "its private key", all(there)))
        return paths

    def _move_pair(self, staging: Path, folder: Path, key: str, certificate: str) -> None:
        if folder.is_dir() and any(folder.iterdir()):
            for name in (key, certificate):
                os.rename(staging / name, folder / name)
            staging.rmdir()
            _sync(folder)
        else:
            os.rename(staging, folder)
        _sync(self._state)

    def _write(self, path: Path, content: bytes) -> None:
        temporary = path.with_name(f".{path.name}.new")
        temporary.unlink(missing_ok=True)  # of an init that was interrupted
        number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(number, "wb") as file:
            os.fchmod(number, 0o600)  # whatever the umask is
            if self._owner is not None:
                os.fchown(number, *self._owner)
            file.write(content)
            file.flush()
            os.fsync(number)
        os.rename(temporary, path)
        _sync(path.parent)

    def own(self, path: Path) -> None:
        """Give a folder to whom everything here belongs."""
        if self._owner is not None:
            os.chown(path, *self._owner, follow_symlinks=False)


def _owner(state: Path, user: str) -> tuple[int, int] | None:
    """Say whom new files have to be given to; None: they are right as they are made."""
    if user:
        try:
            account = pwd.getpwnam(user)
        except KeyError:
            raise BadRequest(f"--user: there is no user {user!r}") from None
        if os.geteuid() not in (0, account.pw_uid):
            raise BadRequest("--user: only root can make files for somebody else")
        return account.pw_uid, account.pw_gid
    if os.geteuid() == 0 and state.exists():
        found = state.stat()
        return found.st_uid, found.st_gid
    return None


def _sync(folder: Path) -> None:
    """Let new names in a folder outlive a power cut."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


# -- what is in the files ----------------------------------------------------------


def _configuration(state: Path, hostname: str, organization: str) -> str:
    from mdmd.config import parse
    from mdmd.config.kinds import is_host

    if not is_host(hostname):
        raise BadRequest(f"--hostname: expected a DNS name or an IP address, got {hostname!r}")
    lines = [
        "# `python -m mdmd.config` prints every option there is, with its default.",
        "[mdmd]",
        f"state = {state}",
        f"public_url = {_url(hostname)}",
        *([f"organization = {organization}"] if organization else []),
    ]
    text = "\n".join(lines) + "\n"
    config = parse(text, str(state / "mdmd.conf"))
    if config.state != state or (organization and config.mdmd.organization != organization):
        raise BadRequest("spaces around a path or name can't be written in a configuration file")
    return text


def _url(hostname: str) -> str:
    return f"https://[{hostname}]" if ":" in hostname else f"https://{hostname}"


def _make_certificates(folder: _Folder, hostname: str, ca_key: str, sealing_key: bytes) -> None:
    from mdmd.pki.authority import CertificateAuthority
    from mdmd.pki.certificates import certificate_pem, key_pem
    from mdmd.pki.sealing import CA_KEY, Sealer

    sealer = Sealer(sealing_key)

    def new_authority() -> Pair:
        new = CertificateAuthority.create(_CA_NAME, ca_key, _CA_DAYS)
        return certificate_pem(new.certificate), sealer.seal_file(key_pem(new.key), CA_KEY)

    ca, ca_private = folder.make_pair(
        "ca", "ca.pem", "ca.key", "device CA: signs the devices' identities", new_authority
    )

    def new_site() -> Pair:
        private = sealer.unseal_file(ca_private.read_bytes(), CA_KEY)
        authority = CertificateAuthority.load(ca.read_bytes(), private)
        certificate, key = authority.issue_server([hostname], _TLS_DAYS)
        return certificate_pem(certificate), key_pem(key)

    folder.make_pair(
        "tls", "site.pem", "site.key", "TLS certificate, until there is a public one", new_site
    )


def _sealing_key() -> bytes:
    from mdmd.pki.sealing import new_sealing_key

    return new_sealing_key()


def _token() -> bytes:
    return f"{secrets.token_urlsafe(32)}\n".encode()


def _ssh_host_key() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )


def _operators() -> bytes:
    """Make whoever runs this the first operator; the daemon asks the kernel who is calling."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid-{uid}"
    operators = {"operators": {name: {"role": "admin", "uid": uid}}}
    return (json.dumps(operators, indent=2) + "\n").encode()


def _next_steps(state: Path, hostname: str) -> str:
    return f"""
Next:
1. Start the daemon:       twistd -n mdmd --config {state}/mdmd.conf
2. Let devices in:         open TCP port 443 to them, and the way out to
                           api.push.apple.com, port 443. API and manhole stay on loopback.
3. The push certificate:   mdmctl --state {state} pushcert install push.pem --key push.key
   No device can enroll before; Apple issues it at https://identity.apple.com/pushcert.
4. Enroll a device:        open {_url(hostname)}/enroll on it, or take the profile there:
                           curl --cacert {state}/ca/ca.pem -O {_url(hostname)}/enroll
A public TLS certificate goes into [site] certificate and key; until then only devices that
have the profile trust this server. `python -m mdmd.config` prints all other options.
"""
