"""The ways to a daemon: its unix socket on this machine, TLS from another one."""

import argparse
import getpass
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from twisted.internet import ssl
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.protocol import connectionDone
from twisted.spread import pb

from mdmd.cli.client import NoDaemon, Remote, as_here, pause, reactor
from mdmd.cli.main import socket_path
from mdmd.errors import BadRequest
from mdmd.ops.wire import PROTOCOL

PASSWORD = "MDMD_PASSWORD"  # noqa: S105  (the variable's name)
_AGAIN = 1.0  # seconds between two looks for a daemon that went away
_SECONDS = 10  # to connect
_AT_ONCE = 4096  # bytes


class _Broker(pb.Broker):
    """Tells its factory that it is gone; Twisted does that for connectors, not for endpoints."""

    def dataReceived(self, chunk: bytes) -> None:
        # Banana copies the rest of what it has for each item that it takes out.
        for start in range(0, len(chunk), _AT_ONCE):
            super().dataReceived(chunk[start : start + _AT_ONCE])

    def connectionLost(self, reason: Any = connectionDone) -> None:
        super().connectionLost(reason)
        factory: Any = self.factory
        factory.clientConnectionLost(None, reason)


class _Factory(pb.PBClientFactory):
    """Whoever waits for the first object hears when there will be none."""

    protocol = _Broker


async def reach(args: argparse.Namespace) -> Remote:
    """
    Connect and be let in, by TLS if ``--server`` says so.

    :raises NoDaemon: nobody answers there.
    :raises NotAllowed: the daemon does not know who asks.
    """
    if args.server:
        return await connect_tls(args)
    return await connect(socket_path(args))


async def reach_again(args: argparse.Namespace) -> Remote:
    """
    Wait for a daemon that went away, and connect to it, or to the next one.

    :raises NotAllowed: it does not know who asks, not any more.
    """
    while True:
        await pause(_AGAIN)
        try:
            return await reach(args)
        except NoDaemon:
            continue


async def connect(path: Path) -> Remote:
    """
    Connect to a daemon's unix socket and be let in.

    :raises NoDaemon: nobody answers there, or this user may not ask.
    :raises NotAllowed: the user is no operator.
    """
    factory: Any = _Factory()
    try:
        await UNIXClientEndpoint(reactor, str(path), timeout=_SECONDS).connect(factory)
    except ConnectError as error:
        raise NoDaemon(_no_daemon(path, error)) from None
    return await _enter(factory, str(path))


async def connect_tls(args: argparse.Namespace) -> Remote:
    """
    Connect to a daemon's TLS port, and be let in by client certificate or password.

    :raises NoDaemon: nobody answers there, or it is not whom it should be.
    :raises NotAllowed: wrong name, password or certificate.
    :raises BadRequest: an option that can't be used.
    """
    host, port = _host_and_port(args.server)
    login = () if args.identity else (args.user or getpass.getuser(), _password(args.server))
    options = ssl.optionsForClientTLS(host, _trust(args.ca), clientCertificate=_identity(args))
    factory: Any = _Factory()
    plain: Any = HostnameEndpoint(reactor, host.encode(), port, timeout=_SECONDS)
    endpoint: Any = wrapClientTLS(options, plain)
    try:
        await endpoint.connect(factory)
    except ConnectError as error:
        raise NoDaemon(f"{args.server}: {error}") from None
    return await _enter(factory, args.server, *login)


async def _enter(factory: Any, where: str, *login: str) -> Remote:
    try:
        door = await factory.getRootObject().addTimeout(_SECONDS, reactor)
        return Remote(await door.callRemote("login" if login else "enter", PROTOCOL, *login))
    except pb.RemoteError as error:
        raise as_here(error) from None
    except (ConnectionDone, ConnectionLost, pb.PBConnectionLost, pb.DeadReferenceError):
        raise NoDaemon(f"{where}: the daemon turned the connection away") from None
    except DeferredTimeout:
        raise NoDaemon(f"{where}: whoever listens there does not answer") from None
    except (TLSError, VerificationError):
        raise NoDaemon(
            f"{where}: not the server it should be, or nobody we trust says so; "
            "--ca names the CA to trust"
        ) from None


def _host_and_port(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"\[?([^\[\]]+?)\]?:([0-9]{1,5})", text)
    if not match:
        raise BadRequest(f"--server: expected HOST:PORT, got {text!r}")
    return match[1], int(match[2])


@cache
def _password(server: str) -> str:
    given = os.environ.get(PASSWORD)
    if given:
        return given
    try:
        return getpass.getpass(f"Password for {server}: ")
    except EOFError:
        raise BadRequest(f"a password is needed: ${PASSWORD}, or a terminal to ask on") from None


def _trust(ca: str | None) -> Any:
    return ssl.Certificate.loadPEM(Path(ca).read_bytes()) if ca else ssl.platformTrust()


def _identity(args: argparse.Namespace) -> Any:
    if not args.identity:
        return None
    try:
        return ssl.PrivateCertificate.loadPEM(Path(args.identity).read_bytes())
    except TLSError:
        raise BadRequest(f"{args.identity}: expected a certificate and its key, PEM") from None


def _no_daemon(path: Path, error: ConnectError) -> str:
    number = getattr(error, "osError", None)
    if number == 13:
        return f"{path}: this user may not use it; be in its group, or ask with sudo"
    return (
        f"no daemon answers at {path}; start it: twistd -n mdmd --config "
        f"{path.parent / 'mdmd.conf'}, or say where it is: --state DIR"
    )
