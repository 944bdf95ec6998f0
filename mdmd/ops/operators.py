"""Operators: who they are, how each proves it, and how far a role reaches."""

import json
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any

import attrs

from mdmd.errors import ConfigError, NotAllowed
from mdmd.ops.wire import ROLES


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

        :raises ValueError: it is none.
        """
        if not isinstance(text, str) or text not in ROLES:
            raise ValueError(f"expected a role: {', '.join(ROLES)}")
        return cls(ROLES.index(text) + 1)


@attrs.frozen
class Operator:
    """One operator, as the file has it."""

    name: str
    role: Role
    uid: int | None = None  # of the unix account that needs no password on the socket


class Operators:
    """
    The operators file. It is read again whenever it has changed.

    :raises ConfigError: (any method) it can't be read, or has a mistake.
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
        except (OSError, ValueError) as error:
            raise ConfigError([f"{self._path}: {error}"]) from None
        return self._read[1]

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


def _decode(text: bytes) -> dict[str, Operator]:
    document = json.loads(text)
    operators = document.get("operators") if isinstance(document, dict) else None
    if not isinstance(operators, dict):
        raise ValueError('expected {"operators": {NAME: {"role": …}}}')
    return {name: _operator(name, fields) for name, fields in operators.items()}


def _operator(name: str, fields: Any) -> Operator:
    if not isinstance(fields, dict):
        raise ValueError(f"operator {name}: expected an object with a role")
    uid = fields.get("uid")
    if uid is not None and (not isinstance(uid, int) or isinstance(uid, bool) or uid < 0):
        raise ValueError(f"operator {name}: expected a number as uid")
    try:
        return Operator(name, Role.parse(fields.get("role")), uid)
    except ValueError as error:
        raise ValueError(f"operator {name}: {error}") from None
