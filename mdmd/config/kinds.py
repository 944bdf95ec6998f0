"""
What values of options look like: text in, value out.

Durations are seconds, sizes are bytes, paths are absolute.
"""

import re
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import attrs

_MAX_SECONDS = 100 * 366 * 86400.0

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([smhd])")
_SIZE = re.compile(r"([0-9]{1,12}) ?([KMG]?)", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_WORDS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII | re.IGNORECASE)


class UnexpectedError(ValueError):
    """The text says what was expected, where the kind's name would not say enough."""


@attrs.frozen
class Kind:
    """
    What a value looks like.

    :ivar name: fits after "expected".
    :ivar read: makes the value of a text and the state folder; raises
        ValueError when it can't.
    """

    name: str
    read: Callable[[str, Path], object]


# -- ways to make a kind -----------------------------------------------------------


def optional(kind: Kind) -> Kind:
    """Let a value be empty, which is None."""
    return Kind(f"{kind.name}, or nothing", lambda text, at: kind.read(text, at) if text else None)


def by_commas(kind: Kind, least: int = 0) -> Kind:
    """Make it a tuple of values between commas or on lines of their own."""
    return _several(kind, "[,\n]", f"{kind.name}; several are separated by commas", least)


def by_lines(kind: Kind, least: int = 0) -> Kind:
    """Make it a tuple of values, one a line: for those that may have commas in them."""
    return _several(kind, "\n", f"{kind.name}; several go one a line", least)


def _several(kind: Kind, separator: str, name: str, least: int) -> Kind:
    def read(text: str, state: Path) -> tuple[object, ...]:
        parts = [part.strip() for part in re.split(separator, text)]
        values = tuple(kind.read(part, state) for part in parts if part)
        if len(values) < least:
            raise ValueError(text)
        return values

    return Kind(name, read)


def matching(name: str, pattern: str) -> Kind:
    """Take what the pattern matches from end to end."""

    def read(text: str, _: Path) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(text)
        return text

    return Kind(name, read)


def choice(*words: str) -> Kind:
    """Take one of these words."""
    return matching(" or ".join(words), "|".join(map(re.escape, words)))


def number(least: int, most: int) -> Kind:
    """Take a whole number in a range."""

    def read(text: str, _: Path) -> int:
        if not re.fullmatch("[0-9]{1,18}", text) or not least <= int(text) <= most:
            raise ValueError(text)
        return int(text)

    return Kind(f"a number from {least} to {most}", read)


def duration(least: str = "1s") -> Kind:
    """Take a time with its unit; seconds, perhaps with a fraction."""

    def seconds(text: str) -> float:
        found = _DURATION.fullmatch(text)
        if found is None:
            raise ValueError(text)
        return float(found[1]) * _SECONDS[found[2]]

    def read(text: str, _: Path) -> float:
        value = seconds(text)
        if not seconds(least) <= value <= _MAX_SECONDS:
            raise UnexpectedError(f"a duration from {least} to 100 years")
        return value

    return Kind("a duration such as 30s, 5m, 12h or 7d", read)


# -- kinds -------------------------------------------------------------------------


def is_host(text: str) -> bool:
    """Say whether this is a DNS name (in ASCII) or an IP address."""
    if is_address(text):
        return True
    # A name that ends in digits only is a mistyped IPv4 address.
    if len(text) > 253 or text.rpartition(".")[2].isdigit():
        return False
    return _DNS_NAME.fullmatch(text) is not None


def is_address(text: str) -> bool:
    """Say whether this is an IP address, without a zone."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _read_bool(text: str, _: Path) -> bool:
    if text.lower() not in _WORDS:
        raise ValueError(text)
    return _WORDS[text.lower()]


def _read_size(text: str, _: Path) -> int:
    found = _SIZE.fullmatch(text)
    value = int(found[1]) * _BYTES[found[2].upper()] if found else 0
    if value < _BYTES["K"]:
        raise ValueError(text)
    return value


def _read_text(text: str, _: Path) -> str:
    if not text.isprintable():
        raise ValueError(text)
    return text


def _read_path(text: str, state: Path) -> Path:
    # A shell would replace ~; here it would be the name of a folder.
    if not text or not text.isprintable() or text.startswith("~"):
        raise ValueError(text)
    if text == "STATE":
        return state
    return state / text.removeprefix("STATE/")


def _read_host(text: str, _: Path) -> str:
    if not is_host(text):
        raise ValueError(text)
    return text


def _read_network(text: str, _: Path) -> str:
    if text != "unix":
        ip_network(text)  # raises ValueError
    return text


def _read_rights(text: str, state: Path) -> int:
    rights = number(1, 8191).read(text, state)
    assert isinstance(rights, int)
    if rights & 3 == 2 or rights & 192 == 128:
        raise UnexpectedError("2 only together with 1, and 128 only together with 64")
    return rights


# -- URLs --------------------------------------------------------------------------


def _split_url(text: str) -> SplitResult:
    url = urlsplit(text)
    host = url.hostname or ""
    # .port raises ValueError for what is none.
    if not text.isprintable() or " " in text or url.port == 0 or (host and not is_host(host)):
        raise ValueError("not a URL")
    return url


def _read_public_url(text: str, _: Path) -> str:
    url = _split_url(text)
    if url.scheme != "https" or not url.hostname or "@" in url.netloc or re.search("[?#]", text):
        raise ValueError("not an https URL")
    return text.rstrip("/")


def _read_webhook_url(text: str, _: Path) -> str:
    url = _split_url(text)
    if url.scheme not in ("https", "http") or not url.hostname or url.fragment or "@" in url.netloc:
        raise ValueError("not a target")
    return text


def _read_http_proxy(text: str, _: Path) -> str:
    url = _split_url(text)
    if url.scheme != "http" or not url.hostname or url.path not in ("", "/"):
        raise ValueError("not a proxy")
    return text


def _read_redis(text: str, state: Path) -> str:
    if text == "embedded":
        return text
    if text.startswith("unix://STATE/"):
        text = text.replace("STATE", str(state), 1)
    before, at, _ = urlsplit(text).netloc.rpartition("@")
    if at and not re.fullmatch(r"[^:]*:.+", before):
        raise UnexpectedError("a user and a password, as in redis://USER:PASSWORD@HOST")
    if text.startswith("sentinel://"):
        return _check_sentinel(text)
    url = _split_url(text)
    if url.scheme in ("redis", "rediss") and url.hostname:
        return _whole(text, url, r"/?|/[0-9]{1,5}", "")
    if url.scheme == "unix" and not url.hostname:
        return _whole(text, url, "/.+", "|db=[0-9]{1,5}")
    raise ValueError("not a store")


def _whole(text: str, url: SplitResult, path: str, query: str) -> str:
    if url.fragment or not re.fullmatch(path, url.path) or not re.fullmatch(query, url.query):
        raise ValueError("more than a store")
    return text


def _check_sentinel(text: str) -> str:
    found = re.fullmatch(r"sentinel://(?:[^/\s]*@)?([^@/\s]+)/[^/?#\s]+(?:/[0-9]{1,5})?", text)
    if not found or not all(_split_url(f"//{one}").hostname for one in found[1].split(",")):
        raise ValueError("no sentinels")
    return text


BOOL = Kind("yes or no", _read_bool)
SIZE = Kind("a size from 1K, such as 64K or 4M", _read_size)
TEXT = Kind("one line of text", _read_text)
PATH = Kind("a path, absolute or below the state folder", _read_path)
HOST = Kind("a host name or an IP address", _read_host)
NETWORK = Kind("an IP address, a network such as 10.0.0.0/8, or unix", _read_network)
RIGHTS = Kind("access rights, a number from 1 to 8191", _read_rights)
PUBLIC_URL = Kind("an https URL such as https://mdm.example.org", _read_public_url)
HTTP_PROXY = Kind("a URL such as http://proxy.example.org:3128", _read_http_proxy)
WEBHOOK_URL = Kind("a URL such as https://hooks.example.org/mdm", _read_webhook_url)
REDIS = Kind(
    "embedded, redis://HOST, rediss://HOST, unix:///SOCKET or sentinel://HOST,HOST/NAME",
    _read_redis,
)
