"""The store: there, new enough, lasting, not evicting, quick, and of the same time."""

import time
from collections.abc import Iterator

from mdmd.config import Config
from mdmd.doctor.finding import Finding, failed, ok, skipped, warning
from mdmd.doctor.redis import Client
from mdmd.errors import BadRequest, StoreUnavailable
from mdmd.store.address import Address, read_address

_LEAST = (6, 2)
_SLOW = 0.005  # seconds for a round trip
_SKEW = 2.0  # seconds between two clocks


def store_address(config: Config, url: str | None = None) -> Address:
    """
    Say where the store of a configuration is.

    :param url: another way to it, or to another.
    :raises BadRequest: its URL can't be read.
    """
    if url is None and config.store.redis == "embedded":
        return Address("unix", path=str(config.state / "store" / "store.sock"))
    return read_address(url or config.store.redis)


def check_store(config: Config, running: bool = False) -> Iterator[Finding]:
    """
    Ask the store about itself.

    :param running: whether there is a daemon, and so an embedded store.
    """
    embedded = config.store.redis == "embedded"
    try:
        address = store_address(config)
        client = Client(address, config.store.ca, config.store.timeout)
    except BadRequest as error:
        yield failed("store", str(error), "[store] redis names the server")
        return
    except StoreUnavailable as error:
        if not embedded:
            remedy = _remedy(error, "start it, or correct [store] redis")
            yield failed("store", str(error), remedy)
        elif running:
            yield failed("store", f"the embedded one is down: {error}", "the daemon's log says why")
        else:
            yield skipped("store", "the embedded one runs with the daemon, which is down")
        return
    try:
        about = _about(client.ask("INFO"))
        yield from _version(about)
        yield from _persistence(about)
        yield from _sync(client)
        yield from _memory(about)
        yield from _latency(client)
        yield from _clock(client)
    except StoreUnavailable as error:
        yield failed("store", str(error), _remedy(error, "look at its log"))
    finally:
        client.close()


_REMEDIES = (  # by what is in the store's own words
    ("NOAUTH", "put the password into [store] redis: redis://:PASSWORD@HOST"),
    ("WRONGPASS", "correct user and password in [store] redis"),
    ("NOPERM", "let the user of [store] redis do everything: ACL SETUSER NAME ~* &* +@all"),
    ("LOADING", "wait: it still reads its file"),
    ("max number of clients", "raise maxclients in the store, or see who is connected"),
    ("certificate verify failed", "name its CA: [store] ca"),
)


def _remedy(error: StoreUnavailable, usual: str) -> str:
    return next((remedy for words, remedy in _REMEDIES if words in str(error)), usual)


def _about(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {key: value for key, colon, value in lines if colon}


def _version(about: dict[str, str]) -> Iterator[Finding]:
    name = about.get("server_name", "redis").capitalize()
    version = about.get("valkey_version") or about.get("redis_version", "0")
    compatible = about.get("redis_version", "0").split(".")
    if tuple(int(each) for each in compatible[:2] if each.isdigit()) < _LEAST:
        yield failed("store", f"{name} {version} is too old", "6.2 is the oldest that will do")
    else:
        yield ok("store", f"{name} {version}, {about.get('used_memory_human', '?')} in use")
    if about.get("role") == "slave":
        yield failed("store", "it is a replica, which can't be written to", "name the master")


def _sync(client: Client) -> Iterator[Finding]:
    """Say if the file is written, but nobody waits for the disk."""
    try:
        found = client.ask("CONFIG", "GET", "appendfsync")
    except StoreUnavailable:  # many providers let nobody ask
        return
    if found and found[1] == b"no":
        text = "appendfsync is no: what is acknowledged may be lost for half a minute"
        yield warning("persistence", text, "set appendfsync always, or everysec, in the store")


def _persistence(about: dict[str, str]) -> Iterator[Finding]:
    if about.get("aof_enabled") == "1":
        bad = [key for key in ("aof_last_write_status", "aof_last_bgrewrite_status")]
        wrong = [key for key in bad if about.get(key, "ok") != "ok"]
        if wrong:
            text = f"the append-only file can't be written ({', '.join(wrong)})"
            yield failed("persistence", text, "make room on its disk, look at its log")
        else:
            yield ok("persistence", "append-only file")
    elif about.get("rdb_last_bgsave_status", "ok") != "ok":
        yield failed("persistence", "snapshots fail", "make room on its disk, look at its log")
    else:
        text = "no append-only file: what came after the last snapshot is lost in a crash"
        yield failed("persistence", text, "set appendonly yes in the store's configuration")


def _memory(about: dict[str, str]) -> Iterator[Finding]:
    policy = about.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        text = f"maxmemory-policy is {policy}: it throws enrollments away when memory is short"
        yield failed("memory", text, "set maxmemory-policy noeviction in the store")
        return
    most, used = int(about.get("maxmemory", "0")), int(about.get("used_memory", "0"))
    if most and used > most * 0.9:
        grade = failed if used >= most else warning
        text = f"{used * 100 // most} % of maxmemory is in use"
        yield grade("memory", text, "raise maxmemory: a full store refuses everything")
    else:
        yield ok("memory", "noeviction")


def _latency(client: Client) -> Iterator[Finding]:
    times = []
    for _ in range(15):
        began = time.perf_counter()
        client.ask("PING")
        times.append(time.perf_counter() - began)
    middle = sorted(times)[len(times) // 2]
    text = f"{middle * 1000:.2f} ms for a round trip"
    if middle > _SLOW:
        yield warning("latency", text, "bring the store nearer, or look at what else it does")
    else:
        yield ok("latency", text)


def _clock(client: Client) -> Iterator[Finding]:
    seconds, microseconds = map(int, client.ask("TIME"))
    apart = abs(time.time() - (seconds + microseconds / 1_000_000))
    if apart > _SKEW:
        text = f"the store's clock and this one are {apart:.0f} s apart"
        yield failed("clock", text, "let both be set by NTP")
