"""Opening ports, and closing them at the end."""

import contextlib
import os
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.logger import Logger

from mdmd.assembly.gentle import BACKLOG, GentleEndpoint
from mdmd.config.endpoints import endpoint_values, with_backlog
from mdmd.web.limited import LimitedSite
from mdmd.web.tls import ServerContext, wrap

log = Logger()


DRAIN = 10.0  # seconds for requests in flight when the daemon ends


def make_endpoint(reactor: Any, text: str) -> Any:
    """Make an endpoint of its string, as Twisted spells them; a dead unix socket makes way."""
    prefix, values = endpoint_values(text)
    if prefix == "unix":
        clear_away(values["address"])
    return serverFromString(reactor, with_backlog(text, BACKLOG))  # type: ignore[no-untyped-call]


def clear_away(path: str) -> None:
    """
    Remove a unix socket, and its lock, that nobody listens on any more.

    Twisted believes a lock as long as the process in it lives; after a power cut,
    or in a container, that is often another one, or this one itself.
    """
    if os.path.lexists(path) and not Path(path).is_socket():
        return  # listening says what is wrong
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            for each in (path, f"{path}.lock"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(each)
        except OSError:
            return  # likewise


async def open_port(stack: AsyncExitStack, name: str, endpoint: Any, factory: Any) -> None:
    """
    Listen, until the stack is closed.

    :raises CannotListenError: the port can't be opened.
    """
    factory.noisy = False  # what follows says where it listens
    port = await endpoint.listen(factory)
    stack.push_async_callback(_close, port)
    log.info("{name} listens on {address}", name=name, address=str(port.getHost()))


async def _close(port: Any) -> None:
    await port.stopListening()


async def open_site(
    reactor: Any,
    stack: AsyncExitStack,
    name: str,
    endpoints: Sequence[str],
    site: LimitedSite,
    tls: ServerContext | None,
    shared: bool = False,
) -> None:
    """
    Open the ports of a site; closed again, it ends what is in flight first.

    :param tls: what stands in front of it, if anything does.
    :param shared: let other daemons listen on the same TCP ports.
    :raises CannotListenError: a port can't be opened.
    """
    if not endpoints:
        return
    stack.push_async_callback(site.drain, DRAIN)
    factory: Any = site if tls is None else wrap(tls, site)
    for each in endpoints:
        gentle = each.startswith(("tcp:", "tcp6:"))
        endpoint = (
            GentleEndpoint(reactor, each, shared, site.turn_away)
            if gentle
            else make_endpoint(reactor, each)
        )
        await open_port(stack, name, endpoint, factory)
