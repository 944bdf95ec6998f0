"""Passwords of operators: hashed by bcrypt, off the reactor's thread, attempts limited."""

from collections.abc import Callable

import attrs
import bcrypt
from twisted.internet.threads import deferToThread

from mdmd.errors import BadRequest, NotAllowed
from mdmd.ops.operators import Operator, Operators

SHORTEST = 10  # characters
LONGEST = 72  # bytes; bcrypt looks at no more
ATTEMPTS = 5  # wrong ones before a name or an address has to wait
WAIT = 60.0  # seconds for one attempt to be forgotten
_MOST = 10_000  # names and addresses remembered

# Somebody who does not exist takes as long as somebody who does.
_NOBODY = bcrypt.hashpw(b"nobody", bcrypt.gensalt(12)).decode()


async def new_hash(password: str) -> str:
    """
    Hash a new password.

    :raises BadRequest: too short or too long.
    """
    encoded = password.encode()
    if len(password) < SHORTEST or len(encoded) > LONGEST:
        raise BadRequest(f"a password has at least {SHORTEST} characters, at most {LONGEST} bytes")
    return (await deferToThread(bcrypt.hashpw, encoded, bcrypt.gensalt(12))).decode()


def _matches(password: bytes, hashed: str) -> bool:
    try:
        return bcrypt.checkpw(password[: LONGEST + 1], hashed.encode())
    except ValueError:  # overlong, with a NUL in it, or no hash of bcrypt's in the file
        return False


@attrs.define
class Attempts:
    """
    Wrong attempts, by name and by address; each is forgotten after a while.

    :ivar seconds: a monotonic clock.
    """

    seconds: Callable[[], float]
    _until: dict[str, float] = attrs.field(factory=dict)  # when all of it is forgotten

    def check(self, *keys: str) -> None:
        """
        Let an attempt pass or not.

        :raises NotAllowed: too many wrong ones before.
        """
        now = self.seconds()
        wait = max(self._until.get(key, now) - now for key in keys) - (ATTEMPTS - 1) * WAIT
        if wait > 0:
            raise NotAllowed(f"too many wrong attempts; try again in {int(wait) + 1} s")

    def wrong(self, *keys: str) -> None:
        """Remember a wrong attempt."""
        now = self.seconds()
        for key in keys:
            self._until[key] = max(self._until.pop(key, now), now) + WAIT
        while len(self._until) > _MOST:
            del self._until[next(iter(self._until))]

    def right(self, *keys: str) -> None:
        """Take back one attempt that turned out to be right."""
        for key in keys:
            if key in self._until:
                self._until[key] -= WAIT


async def log_in(
    operators: Operators, attempts: Attempts, name: str, password: str, address: str
) -> Operator:
    """
    Say who comes with this name and password.

    :raises NotAllowed: wrong, or too many attempts. The text does not tell
        whether there is such a name.
    """
    keys = (f"name {name[:80]}", f"address {address}")
    attempts.check(*keys)
    # Counted before it is known: many at the same time would all pass otherwise.
    attempts.wrong(*keys)
    operator = operators.all().get(name)
    hashed = operator.password if operator is not None and operator.password else _NOBODY
    right = await deferToThread(_matches, password.encode(), hashed)
    if operator is None or not operator.password or not right:
        raise NotAllowed("wrong name or password")
    attempts.right(*keys)
    return operator
