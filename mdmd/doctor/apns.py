"""The way to Apple's push service, and the certificates to use there."""

import base64
import http.client
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

from mdmd.config import Config
from mdmd.doctor.finding import Finding, failed, ok, skipped, warning
from mdmd.doctor.trust import spelled, trusting

_TIMEOUT = 8.0  # seconds
_SOON = 30  # days
_OTHER_PORT = 2197

Installed = Sequence[Mapping[str, object]]  # topic, not_after (epoch seconds), enrolled


def check_push_certificates(
    installed: Installed | None, now: datetime | None = None
) -> Iterator[Finding]:
    """
    Look at what is installed.

    :param installed: as ``certificates.show`` tells; None: the daemon does not answer.
    """
    moment = (now or datetime.now(UTC)).timestamp()
    if installed is None:
        yield skipped("push certificate", "it is in the store, which only the daemon can open")
        return
    held = [each for each in installed if each["not_after"]]
    if not held:
        text = "none is installed: nobody can enroll, nobody can be woken"
        yield failed("push certificate", text, "mdmctl pushcert install FILE")
    for each in installed:
        yield _certificate(each, moment)


def _certificate(each: Mapping[str, object], now: float) -> Finding:
    topic, enrolled = each["topic"], each["enrolled"]
    not_after = each["not_after"]
    ends = float(not_after) if isinstance(not_after, int | float) else 0.0
    if not ends:
        text = f"{enrolled} devices are enrolled for {topic}, which has no certificate"
        return failed("push certificate", text, "mdmctl pushcert install the one of that topic")
    left = int((ends - now) // 86400)
    remedy = "mdmctl pushcert renew, at identity.apple.com with the Apple ID that made it"
    if left < 0:
        return failed("push certificate", f"{topic} ended {-left} days ago", remedy)
    if left < _SOON:
        return warning("push certificate", f"{topic} ends in {left} days", remedy)
    return ok("push certificate", f"{topic}, {left} days left, {enrolled} devices")


def check_apns(config: Config) -> Iterator[Finding]:
    """Connect to the push service, through the proxy if there is one."""
    apns = config.apns
    try:
        context = trusting(apns.trust)
    except OSError as error:
        why = "no certificates in it" if isinstance(error, ssl.SSLError) else error.strerror
        text = f"[apns] trust {apns.trust}: {why}"
        yield failed("APNs", text, "name a file of CA certificates, or leave [apns] trust empty")
        return
    context.set_alpn_protocols(["h2"])
    way = f"through the proxy {_name(apns.proxy)}" if apns.proxy else "directly"
    place = f"{apns.host} port {apns.port}"
    try:
        spoken = _connect(apns.host, apns.port, apns.proxy, context)
    except ssl.SSLCertVerificationError as error:
        text = f"{place} {way}: {error.verify_message}"
        remedy = "something on the way opens TLS: let Apple's hosts pass"
        if any(word in error.verify_message for word in ("expired", "not yet valid")):
            remedy = "set this machine's clock: the certificates of Apple's hosts are valid"
        yield failed("APNs", text, remedy)
        return
    except (OSError, http.client.HTTPException) as error:
        text = f"{place} {way}: {spelled(error)}"
        yield failed("APNs", text, _remedy(config, context, str(error)))
        return
    if spoken != "h2":
        yield failed("APNs", f"{place} {way} speaks no HTTP/2", "look at what is on the way")
    else:
        yield ok("APNs", f"{place} answers {way}")


def _name(proxy: str) -> str:
    """Spell a proxy without its password."""
    parts = urlsplit(proxy)
    return f"{parts.hostname}:{parts.port}"


def _remedy(config: Config, context: ssl.SSLContext, why: str) -> str:
    apns = config.apns
    if apns.proxy is None and apns.port == 443 and _reaches(apns.host, _OTHER_PORT, None, context):
        return f"port {_OTHER_PORT} is open: [apns] port = {_OTHER_PORT}"
    if apns.proxy is not None:
        if " 407 " in why:
            return "it wants a password: [apns] proxy = http://USER:PASSWORD@HOST:PORT"
        if _reaches(apns.host, apns.port, None, context):
            return (
                "it can be reached without the proxy: leave [apns] proxy empty, or open the proxy"
            )
        return f"let the proxy pass {apns.host} port {apns.port}, or correct [apns] proxy"
    return f"let this machine reach {apns.host} port {apns.port}, or set [apns] proxy"


def _reaches(host: str, port: int, proxy: str | None, context: ssl.SSLContext) -> bool:
    try:
        _connect(host, port, proxy, context)
    except (OSError, http.client.HTTPException):
        return False
    return True


def _connect(host: str, port: int, proxy: str | None, context: ssl.SSLContext) -> str:
    """Make a TLS connection; return the protocol agreed on."""
    plain = socket.create_connection((host, port), _TIMEOUT) if proxy is None else None
    if proxy is not None:
        plain = _tunnel(proxy, host, port)
    assert plain is not None
    with context.wrap_socket(plain, server_hostname=host) as tls:
        return tls.selected_alpn_protocol() or ""


def _tunnel(proxy: str, host: str, port: int) -> socket.socket:
    parts = urlsplit(proxy)
    headers = {}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT)
    connection.set_tunnel(host, port, headers)
    connection.connect()
    assert isinstance(connection.sock, socket.socket)
    return connection.sock
