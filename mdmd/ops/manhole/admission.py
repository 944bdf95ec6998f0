"""Who may come in by SSH: public keys only, of admins only."""

from pathlib import Path

from mdmd.errors import ConfigError, NotAllowed
from mdmd.ops.method import Caller
from mdmd.ops.operators import Operator, Operators, Role, ssh_key


class Admission:
    """
    The admins' keys: those of the operators file, and those of authorized_keys.

    :param authorized_keys: each key in it is an admin's, named by its comment;
        a file that is missing has none.
    """

    def __init__(self, operators: Operators, authorized_keys: Path) -> None:
        self._operators = operators
        self._authorized_keys = authorized_keys

    def admin(self, key: str) -> Operator:
        """
        Say whose key this is, ``TYPE BASE64``.

        :raises NotAllowed: nobody's, or not an admin's.
        """
        found = self._operators.by_ssh_key(key)
        for operator in found:
            if operator.role is Role.ADMIN:
                return operator
        if found:
            raise NotAllowed(f"the manhole is for admins; {found[0].name} is {found[0].role}")
        name = self._authorized().get(key)
        if name is None:
            raise NotAllowed("nobody has this SSH key")
        return Operator(name, Role.ADMIN, ssh_keys=(key,))

    def caller(self, key: str, host: str) -> Caller:
        """
        Say who is at the other end now: a key that was taken away ends with the next line.

        :raises NotAllowed: it is no admin's any more.
        """
        operator = self.admin(key)
        return Caller(operator.name, operator.role, f"ssh {host}")

    def _authorized(self) -> dict[str, str]:
        try:
            lines = self._authorized_keys.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigError([f"{self._authorized_keys}: {error.strerror}"]) from None
        return dict(filter(None, map(_authorized_key, lines)))


def _authorized_key(line: str) -> tuple[str, str] | None:
    """Read a line of authorized_keys; options before the key are not supported: no access."""
    words = line.split(maxsplit=2)
    if len(words) < 2 or line.lstrip().startswith("#"):
        return None
    try:
        key = ssh_key(" ".join(words[:2]))
    except Exception:
        return None
    comment = words[2].strip() if len(words) > 2 else ""
    return key, "".join(each for each in comment if each.isprintable())[:64] or "authorized_keys"
