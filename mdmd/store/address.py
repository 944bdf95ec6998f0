"""Where the store is, read from its URL; what is shown of it never has a password."""

from typing import Literal
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import attrs

from mdmd.errors import BadRequest

REDIS_PORT = 6379
SENTINEL_PORT = 26379
SOCKET_PATH_LIMIT = 107  # bytes: sun_path of a Linux sockaddr_un without its NUL


@attrs.frozen
class Address:
    """
    One store.

    :ivar hosts: one (host, port), several for sentinels, none for a socket.
    :ivar path: of the unix socket.
    :ivar master: the name that the sentinels know it by.
    """

    kind: Literal["tcp", "tls", "unix", "sentinel"]
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    master: str = ""
    db: int = 0
    user: str = ""
    password: str | None = attrs.field(default=None, repr=False)

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix://{self.path}" + (f"?db={self.db}" if self.db else "")
        scheme = {"tcp": "redis", "tls": "rediss", "sentinel": "sentinel"}[self.kind]
        hosts = ",".join(f"[{h}]:{p}" if ":" in h else f"{h}:{p}" for h, p in self.hosts)
        tail = f"/{self.master}" if self.master else ""
        return f"{scheme}://{hosts}{tail}" + (f"/{self.db}" if self.db else "")


def read_address(url: str) -> Address:
    """
    Read the URL of a store.

    ``redis://[USER:PASSWORD@]HOST[:PORT][/DB]``, ``rediss://…``,
    ``unix://[USER:PASSWORD@]/PATH[?db=DB]`` or
    ``sentinel://[USER:PASSWORD@]HOST[:PORT],…/NAME[/DB]``. The user may be
    empty. Percent-escapes are undone in user, password, path and name.

    :raises BadRequest: it is none of these; the text repeats nothing of the URL.
    """
    scheme = url.partition("://")[0]
    read = {"redis": _tcp, "rediss": _tls, "unix": _unix, "sentinel": _sentinel}.get(scheme)
    if read is None:
        raise BadRequest("the store's URL begins with none of redis, rediss, unix, sentinel")
    try:
        return read(url)
    except ValueError:
        raise BadRequest(f"the store's {scheme} URL can't be read") from None


def _tcp(url: str) -> Address:
    parts = urlsplit(url)
    if not parts.hostname or parts.port == 0 or parts.query or parts.fragment:
        raise ValueError("no host")
    host = parts.hostname, parts.port or REDIS_PORT
    db = _db(parts.path.strip("/"))
    user, password = _credentials(parts)
    return Address("tcp", (host,), db=db, user=user, password=password)


def _tls(url: str) -> Address:
    return attrs.evolve(_tcp(url), kind="tls")


def _unix(url: str) -> Address:
    parts = urlsplit(url)
    query = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    path = unquote(parts.path)
    dbs = query.pop("db", [""])
    if parts.hostname or len(path) < 2 or query or len(dbs) > 1:
        raise ValueError("no path")
    if len(path.encode()) > SOCKET_PATH_LIMIT:
        raise BadRequest(
            f"the store's socket has a path of {len(path.encode())} bytes; "
            f"{SOCKET_PATH_LIMIT} is the limit: {path}"
        )
    user, password = _credentials(parts)
    return Address("unix", path=path, db=_db(dbs[0]), user=user, password=password)


def _sentinel(url: str) -> Address:
    parts = urlsplit(url)
    hosts = tuple(_host(one) for one in parts.netloc.rpartition("@")[2].split(","))
    name, _, db = parts.path.strip("/").partition("/")
    if not name or parts.query or parts.fragment:
        raise ValueError("no name")
    user, password = _credentials(parts)
    return Address("sentinel", hosts, "", unquote(name), _db(db), user, password)


def _host(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.port == 0:
        raise ValueError("no host")
    return parts.hostname, parts.port or SENTINEL_PORT


def _db(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) < 6):
        raise ValueError("no database number")
    return int(text or "0")


def _credentials(parts: SplitResult) -> tuple[str, str | None]:
    # Not .username: urlsplit reads the port of several hosts wrongly, but the part before
    # the last @ is the same for all kinds.
    before, at, _ = parts.netloc.rpartition("@")
    user, colon, password = before.partition(":")
    if at and not (colon and password):
        raise ValueError("a user without a password")
    return unquote(user), unquote(password) if at else None
