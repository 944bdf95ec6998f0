"""
Server endpoint strings of Twisted's, looked at without Twisted.

Source: twisted.internet.endpoints, serverFromString: parts between colons,
``name=value`` or by position, a backslash before a colon, equals sign or
backslash that is meant literally.
"""

import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

from mdmd.config.kinds import Kind, UnexpectedError, is_address

_PARAMETERS = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "unix": ("address", "mode", "backlog", "lockfile"),
    "systemd": ("domain", "index", "name"),
    "ssl": (
        *("port", "privateKey", "certKey", "sslmethod", "interface", "backlog"),
        *("extraCertChain", "dhParameters"),
    ),
}
_EXAMPLES = {"tcp": "tcp:443", "unix": "unix:/run/mdmd.sock"}
_SOCKET_PATH = 107  # bytes in a unix socket's path on Linux; the kernel refuses longer ones


def endpoint(*prefixes: str, mode: str = "") -> Kind:
    """
    Take an endpoint string; ``STATE/`` may stand at the beginning of a path in it.

    :param prefixes: those that make sense here, the usual one first.
    :param mode: for a unix socket whose string does not say one (Twisted's own is 666).
    """
    example = f"an endpoint such as {_EXAMPLES[prefixes[0]]}"

    def read(text: str, state: Path) -> str:
        text = re.sub(r"(?<=[:=])STATE(?=/)", lambda _: _escaped(str(state)), text)
        prefix, values = endpoint_values(text)
        if prefix not in prefixes:
            raise UnexpectedError(f"{example} (or one with {', '.join(prefixes[1:])})")
        if prefix == "unix":
            _check_socket(values)
            return text if "mode" in values or not mode else f"{text}:mode={mode}"
        if prefix == "systemd":
            _check_systemd(values)
        else:
            _check_port(values)
        return text

    return Kind(example, read)


def split_endpoint(text: str) -> tuple[list[str], dict[str, str]]:
    """
    Split an endpoint string into what has no name and what has one.

    :raises ValueError: a backslash that stands before nothing.
    """
    if not re.fullmatch(r"(?:[^\\]|\\.)*", text, re.DOTALL):
        raise ValueError(text)
    positional, named = [], {}
    for part in re.findall(r"(?:^|:)((?:[^:\\]|\\.)*)", text, re.DOTALL):
        match = re.fullmatch(r"((?:[^=\\]|\\.)*)=(.*)", part, re.DOTALL)
        if match:
            named[_unescaped(match[1])] = _unescaped(match[2])
        else:
            positional.append(_unescaped(part))
    return positional, named


def endpoint_values(text: str) -> tuple[str, dict[str, str]]:
    """
    Take an endpoint string apart: its prefix, and its values by name.

    ``haproxy:`` is left out: it only wraps another endpoint.

    :raises ValueError: not an endpoint string of a kind that is known here.
    """
    (prefix, *positional), named = split_endpoint(text.removeprefix("haproxy:"))
    names = _PARAMETERS.get(prefix, ())
    if not text.isprintable() or not names:
        raise ValueError(text)
    values = dict(zip(names, positional, strict=False)) | named
    if len(positional) > len(names) or not values.keys() <= set(names):
        raise UnexpectedError(f"{prefix}: with nothing but {', '.join(names)}")
    return prefix, values


def is_open(text: str) -> bool:
    """
    Say whether others than this machine can reach an endpoint, and nothing encrypts.

    For a socket of systemd's the answer is no: only who listens on it can tell.
    """
    prefix, values = endpoint_values(text)
    if prefix not in ("tcp", "tcp6"):
        return False
    interface = values.get("interface", "")
    return not (is_address(interface) and ip_address(interface).is_loopback)


def with_backlog(text: str, most: int) -> str:
    """
    Let so many connections wait to be accepted, unless the endpoint says how many.

    Twisted's 50 is far too few for a fleet that was just pushed: the rest is not
    refused but dropped, and each comes again only after a second, then three.
    """
    prefix, values = endpoint_values(text)
    takes = "backlog" in _PARAMETERS[prefix] and "backlog" not in values
    return f"{text}:backlog={most}" if takes else text


def _escaped(text: str) -> str:
    return re.sub(r"([\\:=])", r"\\\1", text)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def _check_port(values: Mapping[str, str]) -> None:
    port, interface = values.get("port", ""), values.get("interface", "")
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise UnexpectedError("a port from 0 to 65535 after the first colon")
    if interface and not is_address(interface):
        raise UnexpectedError(r"an IP address as interface (the colons of IPv6 written as \:)")
    _check_backlog(values)


def _check_socket(values: Mapping[str, str]) -> None:
    path = values.get("address", "")
    if not path.startswith("/"):
        raise UnexpectedError("an absolute path for the socket, or one that begins with STATE/")
    if len(path.encode()) > _SOCKET_PATH:
        raise UnexpectedError(f"at most {_SOCKET_PATH} bytes in the socket's path {path}")
    if not re.fullmatch("[0-7]{3,4}", values.get("mode", "660")):
        raise UnexpectedError("an octal mode such as 660 for the socket")
    if values.get("lockfile", "1") not in ("0", "1"):
        raise UnexpectedError("lockfile=0 or lockfile=1")
    _check_backlog(values)


def _check_systemd(values: Mapping[str, str]) -> None:
    index = values.get("index", "0")
    if (
        values.get("domain") not in ("INET", "INET6", "UNIX")
        or ("index" in values) == ("name" in values)
        or not re.fullmatch("[0-9]{1,4}", index)
    ):
        raise UnexpectedError("an endpoint such as systemd:domain=INET:name=site")


def _check_backlog(values: Mapping[str, str]) -> None:
    if not re.fullmatch("[0-9]{1,5}", values.get("backlog", "50")):
        raise UnexpectedError("a number as backlog")
