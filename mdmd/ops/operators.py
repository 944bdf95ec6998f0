"""Operators: who they are, how each proves it, and how far a role reaches."""

import json
import os
import re
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any

import attrs

from mdmd.errors import BadRequest, ConfigError, Conflict, NotAllowed, NotHere
from mdmd.ops.wire import ROLES

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}", re.ASCII)
_SSH_KEY = re.compile(r"(?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+ [A-Za-z0-9+/]+=*", re.ASCII)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Role(IntEnum):
    """How far an operator reaches; each may do what those before it may."""

    VIEWER = 1  # reads, no secrets
    OPERATOR = 2  # sends what does not destroy
    ADMIN = 3  # wipes, reads secrets, certificates, operators, the manhole

    def __str__(self) -> str:
        """Spell it as the operators file does."""
        return ROLES[self - 1]

    @classmethod
    def parse(cls, text: object) -> "Role":
        """
        Read a role's name.

        :raises BadRequest: it is none.
        """
        if not isinstance(text, str) or text not in ROLES:
            raise BadRequest(f"expected a role: {', '.join(ROLES)}")
        return cls(ROLES.index(text) + 1)


@attrs.frozen
class Operator:
    """
    One operator, as the file has it.

    :ivar uid: of the unix account that needs no password on the socket.
    :ivar password: what bcrypt made of it; "" for none.
    :ivar ssh_keys: ``TYPE BASE64``, without comments.
    :ivar certificates: lower-case hex SHA-256 of client certificates (DER).
    """

    name: str
    role: Role
    uid: int | None = None
    password: str = attrs.field(default="", repr=False)
    ssh_keys: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()


class Operators:
    """
    The operators file. It is read again whenever it has changed.

    Every method raises :class:`~mdmd.errors.ConfigError` if it can't be read or
    has a mistake: then nobody gets in.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[tuple[int, int, int], dict[str, Operator]] | None = None

    def all(self) -> Mapping[str, Operator]:
        """Give everybody, by name."""
        try:
            about = self._path.stat()
            stamp = (about.st_mtime_ns, about.st_size, about.st_ino)
            if self._read is None or self._read[0] != stamp:
                self._read = (stamp, _decode(self._path.read_bytes()))
        except (OSError, ValueError, BadRequest) as error:
            raise ConfigError([f"{self._path}: {error}"]) from None
        return self._read[1]

    def get(self, name: str) -> Operator:
        """
        Give one by name.

        :raises NotHere: there is none.
        """
        found = self.all().get(name)
        if found is None:
            raise NotHere(f"no operator {name[:80]!r}")
        return found

    def by_uid(self, uid: int) -> Operator:
        """
        Say who comes with this uid.

        :raises NotAllowed: nobody.
        """
        for operator in self.all().values():
            if operator.uid == uid:
                return operator
        raise NotAllowed(
            f"no operator has the uid {uid}; an admin adds one: "
            f"mdmctl operator add NAME --role viewer --uid {uid}"
        )

    def by_certificate(self, fingerprint: str) -> Operator:
        """
        Say who comes with this client certificate.

        :raises NotAllowed: nobody.
        """
        for operator in self.all().values():
            if fingerprint in operator.certificates:
                return operator
        raise NotAllowed("no operator has this client certificate")

    def by_ssh_key(self, key: str) -> list[Operator]:
        """Say whose SSH public key this is, ``TYPE BASE64``."""
        return [each for each in self.all().values() if key in each.ssh_keys]

    # -- changes, each whole or not at all

    def add(self, operator: Operator) -> None:
        """
        Add one.

        :raises Conflict: the name, the uid or another proof is somebody's already.
        """
        everybody = dict(self.all())
        if operator.name in everybody:
            raise Conflict(f"there is an operator {operator.name} already")
        self._write({**everybody, operator.name: operator})

    def change(self, name: str, **fields: Any) -> Operator:
        """
        Change some fields of one, return what they are now.

        :raises Conflict: nobody would be admin any more, or a proof is somebody else's.
        """
        changed = attrs.evolve(self.get(name), **fields)
        self._write({**self.all(), name: changed})
        return changed

    def remove(self, name: str) -> None:
        """
        Remove one; their open connections end with the next call.

        :raises Conflict: the last admin.
        """
        self.get(name)
        self._write({key: each for key, each in self.all().items() if key != name})

    def _write(self, everybody: Mapping[str, Operator]) -> None:
        _check(everybody)
        text = json.dumps({"operators": {k: _fields(v) for k, v in everybody.items()}}, indent=2)
        about = self._path.stat()
        temporary = self._path.with_name(f".{self._path.name}.new")
        temporary.unlink(missing_ok=True)
        number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(number, "w") as file:
            os.fchmod(number, about.st_mode & 0o777)
            if os.geteuid() == 0:
                os.fchown(number, about.st_uid, about.st_gid)
            file.write(text + "\n")
            file.flush()
            os.fsync(number)
        os.rename(temporary, self._path)


def operator_name(text: str) -> str:
    """
    Check a name.

    :raises BadRequest: it can't be one.
    """
    if not _NAME.fullmatch(text):
        raise BadRequest("expected a name of letters, digits and . _ @ -, 64 at most")
    return text


def ssh_key(text: str) -> str:
    """
    Take ``TYPE BASE64`` out of a line of a public key file.

    :raises BadRequest: it is no public key.
    """
    words = text.split()
    key = " ".join(words[:2])
    if "PRIVATE" in text or not _SSH_KEY.fullmatch(key):
        raise BadRequest("expected an SSH public key on one line, such as ~/.ssh/id_ed25519.pub")
    return key


def fingerprint(text: str) -> str:
    """
    Read a SHA-256 fingerprint in hex, colons or not.

    :raises BadRequest: it is none.
    """
    plain = text.strip().lower().replace(":", "")
    if not _FINGERPRINT.fullmatch(plain):
        raise BadRequest("expected the SHA-256 fingerprint of a certificate, 64 hex digits")
    return plain


def _check(everybody: Mapping[str, Operator]) -> None:
    if not any(each.role is Role.ADMIN for each in everybody.values()):
        raise Conflict("somebody has to be admin")
    seen: dict[object, str] = {}
    for operator in everybody.values():
        proofs: list[object] = [*operator.ssh_keys, *operator.certificates]
        for proof in [*proofs, *([] if operator.uid is None else [operator.uid])]:
            if seen.setdefault(proof, operator.name) != operator.name:
                what = f"the uid {proof}" if isinstance(proof, int) else "this key or certificate"
                raise Conflict(f"{what} is {seen[proof]}'s already")


def _fields(operator: Operator) -> dict[str, object]:
    fields: dict[str, object] = {"role": str(operator.role)}
    for name in ("uid", "password", "ssh_keys", "certificates"):
        value = getattr(operator, name)
        if value not in (None, "", ()):
            fields[name] = list(value) if isinstance(value, tuple) else value
    return fields


def _decode(text: bytes) -> dict[str, Operator]:
    document = json.loads(text)
    operators = document.get("operators") if isinstance(document, dict) else None
    if not isinstance(operators, dict):
        raise ValueError('expected {"operators": {NAME: {"role": …}}}')
    return {name: _operator(name, fields) for name, fields in operators.items()}


def _operator(name: str, fields: Any) -> Operator:
    if not isinstance(fields, dict):
        raise ValueError(f"operator {name}: expected an object with a role")
    unknown = fields.keys() - {"role", "uid", "password", "ssh_keys", "certificates"}
    if unknown:
        raise ValueError(f"operator {name}: unknown {', '.join(sorted(unknown))}")
    uid, password = fields.get("uid"), fields.get("password", "")
    if uid is not None and (not isinstance(uid, int) or isinstance(uid, bool) or uid < 0):
        raise ValueError(f"operator {name}: expected a number as uid")
    if not isinstance(password, str):
        raise ValueError(f"operator {name}: expected a bcrypt hash as password")
    try:
        role = Role.parse(fields.get("role"))
        keys = tuple(ssh_key(each) for each in _texts(fields, "ssh_keys"))
        certificates = tuple(fingerprint(each) for each in _texts(fields, "certificates"))
    except BadRequest as error:
        raise ValueError(f"operator {name}: {error}") from None
    return Operator(name, role, uid, password, keys, certificates)


def _texts(fields: Mapping[str, Any], name: str) -> list[str]:
    value = fields.get(name, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise BadRequest(f"expected a list of texts as {name}")
    return value
