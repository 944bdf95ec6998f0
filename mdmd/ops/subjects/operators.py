"""Operators: who may do what."""

import base64
import hashlib

from mdmd.errors import NotHere
from mdmd.ops.method import Caller, Subject, Wire, method
from mdmd.ops.operators import Operator, Role, fingerprint, operator_name, ssh_key
from mdmd.ops.passwords import new_hash


def key_fingerprint(key: str) -> str:
    """Spell an SSH public key as ``ssh-keygen -l`` does."""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _record(operator: Operator) -> Wire:
    return {
        "name": operator.name,
        "role": str(operator.role),
        "uid": operator.uid,
        "has_password": bool(operator.password),
        "ssh_keys": [key_fingerprint(each) for each in operator.ssh_keys],
        "certificates": list(operator.certificates),
    }


class OperatorsSubject(Subject):
    """Who may come in, and how far each reaches."""

    name = "operators"

    @method(Role.ADMIN)
    async def show(self, caller: Caller) -> Wire:
        """List everybody; of a password only whether there is one."""
        return [_record(each) for _, each in sorted(self.desk.operators.all().items())]

    @method(Role.ADMIN, audit=("name", "role", "uid"))
    async def add(self, caller: Caller, name: str, role: str, uid: int | None = None) -> Wire:
        """Add an operator; ``uid`` lets a unix account in on the socket."""
        operator = Operator(operator_name(name), Role.parse(role), uid)
        self.desk.operators.add(operator)
        return _record(operator)

    @method(Role.ADMIN, audit=("name",))
    async def passwd(self, caller: Caller, name: str, password: str) -> Wire:
        """Give an operator a new password; an empty one takes it away."""
        self.desk.operators.get(name)
        hashed = await new_hash(password) if password else ""
        return _record(self.desk.operators.change(name, password=hashed))

    @method(Role.VIEWER, audit=())
    async def my_password(self, caller: Caller, password: str) -> Wire:
        """Give oneself a new password."""
        return _record(self.desk.operators.change(caller.name, password=await new_hash(password)))

    @method(Role.ADMIN, audit=("name", "key"))
    async def add_key(self, caller: Caller, name: str, key: str) -> Wire:
        """Let an SSH public key in as this operator; only an admin gets a manhole."""
        keys = self.desk.operators.get(name).ssh_keys
        added = dict.fromkeys([*keys, ssh_key(key)])
        return _record(self.desk.operators.change(name, ssh_keys=tuple(added)))

    @method(Role.ADMIN, audit=("name", "fingerprint"))
    async def remove_key(self, caller: Caller, name: str, fingerprint: str) -> Wire:
        """Let an SSH key in no more; ``fingerprint`` is as ``operators.show`` spells it."""
        keys = self.desk.operators.get(name).ssh_keys
        left = tuple(each for each in keys if key_fingerprint(each) != fingerprint)
        if left == keys:
            raise NotHere(f"{name} has no such key")
        return _record(self.desk.operators.change(name, ssh_keys=left))

    @method(Role.ADMIN, audit=("name", "sha256"))
    async def certificate(self, caller: Caller, name: str, sha256: str) -> Wire:
        """Let a TLS client certificate in as this operator, by its SHA-256 fingerprint."""
        have = self.desk.operators.get(name).certificates
        added = dict.fromkeys([*have, fingerprint(sha256)])
        return _record(self.desk.operators.change(name, certificates=tuple(added)))

    @method(Role.ADMIN, audit=("name", "role"))
    async def role(self, caller: Caller, name: str, role: str) -> Wire:
        """Change how far an operator reaches; it holds from their next call on."""
        return _record(self.desk.operators.change(name, role=Role.parse(role)))

    @method(Role.ADMIN, audit=("name",))
    async def remove(self, caller: Caller, name: str) -> Wire:
        """Remove an operator; their open connections end with the next call."""
        self.desk.operators.remove(name)
