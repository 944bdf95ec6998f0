"""All that lets operators in, put together: Perspective Broker, the manhole, the figures."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, cast

from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.logger import ILogObserver, globalLogPublisher

from mdmd.assembly.clocks import WallClock
from mdmd.assembly.ports import make_endpoint, open_port
from mdmd.config import Config
from mdmd.config.endpoints import endpoint_values
from mdmd.ops.desk import Desk
from mdmd.ops.figures import Figures
from mdmd.ops.manhole.admission import Admission
from mdmd.ops.manhole.ssh import make_manhole
from mdmd.ops.pb import make_pb
from mdmd.ops.perspective import Perspective
from mdmd.ops.tls import OperatorsTLS


def count_figures(reactor: Any, wall: WallClock, stack: AsyncExitStack) -> Figures:
    """Begin to count what the log tells."""
    figures = Figures(reactor.seconds, wall.seconds)
    observer = cast(ILogObserver, figures)
    globalLogPublisher.addObserver(observer)
    stack.callback(globalLogPublisher.removeObserver, observer)
    return figures


async def serve_operators(
    reactor: Any,
    stack: AsyncExitStack,
    config: Config,
    desk: Desk,
    figures: Figures,
    tls: Mapping[str, OperatorsTLS],
) -> None:
    """
    Open the doors for operators: the manhole, and Perspective Broker.

    :param tls: what belongs to those of ``[pb] listen`` that are ``ssl:``.
    :raises CannotListenError: a port can't be opened.
    """
    perspective = Perspective(desk)
    await _serve_manhole(reactor, stack, config, perspective, figures)
    doors = make_pb(perspective, reactor)
    figures.connections["programs"] = lambda: doors.connections
    stack.callback(doors.close)
    for each in config.pb.listen:
        prefix, values = endpoint_values(each)
        door = doors.unix if "unix" in (prefix, values.get("domain", "").lower()) else doors.tls
        endpoint = (
            _tls_endpoint(reactor, values, tls[each])
            if prefix == "ssl"
            else make_endpoint(reactor, each)
        )
        await open_port(stack, "pb", endpoint, door)


async def _serve_manhole(
    reactor: Any, stack: AsyncExitStack, config: Config, perspective: Perspective, figures: Figures
) -> None:
    if not config.manhole.enabled:
        return
    admission = Admission(perspective.desk.operators, config.manhole.authorized_keys)
    history = config.state / "manhole" / "history"
    manhole = make_manhole(perspective, admission, config.manhole.host_key, history, reactor)
    figures.connections["manhole"] = lambda: manhole.connections
    stack.push_async_callback(manhole.close)
    for each in config.manhole.listen:
        await open_port(stack, "manhole", make_endpoint(reactor, each), manhole)


def _tls_endpoint(reactor: Any, values: Mapping[str, str], tls: OperatorsTLS) -> Any:
    """Make an ``ssl:`` endpoint; Twisted's own would not ask for a client certificate."""
    return SSL4ServerEndpoint(  # type: ignore[no-untyped-call]
        reactor,
        int(values["port"]),
        tls,
        interface=values.get("interface", ""),
    )
