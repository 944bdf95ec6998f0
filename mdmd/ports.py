"""Opening ports, and closing them at the end."""

from contextlib import AsyncExitStack
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.logger import Logger

log = Logger()


def make_endpoint(reactor: Any, text: str) -> Any:
    """Make an endpoint of its string, as Twisted spells them."""
    return serverFromString(reactor, text)  # type: ignore[no-untyped-call]


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
