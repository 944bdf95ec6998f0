"""The device site, seen as a device sees it: name, chain, expiry, SCEP, the profile."""

import contextlib
import http.client
import socket
import ssl
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from mdmd.config import Config
from mdmd.config.endpoints import endpoint_values
from mdmd.doctor.finding import Finding, failed, ok, skipped, warning
from mdmd.doctor.trust import spelled, trusting
from mdmd.errors import BadCertificate, BadMessage
from mdmd.pki.certificates import certificate_pem, fingerprint, is_issued_by, load_certificate
from mdmd.pki.scep_client import read_ca

_TIMEOUT = 8.0  # seconds
_SOON = 30  # days
_LONGEST = 825  # days; Apple's devices refuse longer ones of any CA


class Said(Protocol):
    """A finding of the profile check."""

    @property
    def path(self) -> str:
        """Where in the profile."""

    @property
    def text(self) -> str:
        """What is wrong there."""

    @property
    def warning(self) -> bool:
        """Say whether a device would still take it."""


Judge = Callable[[bytes, datetime, Collection[str]], tuple[str, Collection[Said]]]


@attrs.frozen
class _Seen:
    """What one connection showed."""

    certificate: x509.Certificate
    version: str


def check_site(
    config: Config, topics: Collection[str], judge: Judge, now: datetime | None = None
) -> Iterator[Finding]:
    """
    Connect as a device does, to public_url.

    :param topics: of the push certificates installed; none: not known.
    :param judge: the profile check.
    """
    moment = now or datetime.now(UTC)
    url = urlsplit(config.mdmd.public_url)
    host, port = url.hostname or "", url.port or 443
    context = _trust(config)
    try:
        seen = _look(host, port, context)
    except ssl.SSLCertVerificationError as error:
        yield _untrusted(config, error, host, port)
        return
    except (OSError, ssl.SSLError) as error:
        yield from _unreachable(config, host, port, error)
        yield from check_site_file(config, now)
        return
    yield ok("site", f"{config.mdmd.public_url}: {seen.version}, chain and name hold")
    yield from _certificate(config, seen, moment)
    yield _scep(config, url, context)
    yield from _enroll(config, url, context, topics, judge, moment)


def check_site_file(config: Config, now: datetime | None = None) -> Iterator[Finding]:
    """
    Say what a device would of the chain in the configured file; nobody has to serve it.

    A pair that can't be read, or does not fit, is another finding's.
    """
    host = urlsplit(config.mdmd.public_url).hostname or ""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(config.site.certificate, config.site.key, password="")
    except (OSError, ValueError):
        return
    sent, answered = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(sent, answered, server_side=True)
    device = _trust(config).wrap_bio(answered, sent, server_hostname=host)
    try:
        for end in (device, server, device):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    except ssl.SSLError as error:
        text = f"devices will refuse {config.site.certificate}: {_why(error)}"
        yield failed("site certificate", text, _remedy(error))
    else:
        on_disk = load_certificate(config.site.certificate.read_bytes())
        yield from _life(on_disk, now or datetime.now(UTC))


def _trust(config: Config) -> ssl.SSLContext:
    """Trust what a device trusts: the system's roots, and our CA if the profile brings it."""
    context = trusting()
    try:
        authority = load_certificate(config.ca.certificate.read_bytes())
        if _is_ours(config, authority):
            context.load_verify_locations(cadata=certificate_pem(authority).decode())
    except (OSError, BadCertificate):
        pass  # said elsewhere
    return context


def _is_ours(config: Config, authority: x509.Certificate) -> bool:
    """Say whether the site's certificate is of our CA, which the profile brings along then."""
    try:
        site = load_certificate(config.site.certificate.read_bytes())
    except (OSError, BadCertificate):
        return True  # said elsewhere; what is still served may be
    return is_issued_by(site, authority)


def _look(host: str, port: int, context: ssl.SSLContext) -> _Seen:
    with (
        socket.create_connection((host, port), _TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        der = tls.getpeercert(binary_form=True) or b""
        return _Seen(load_certificate(der), tls.version() or "")


_REMEDIES = (
    ("expired", "renew it, then: systemctl reload mdmd"),
    ("not yet valid", "set this machine's clock"),
    ("ostname mismatch", "get a certificate for the host name of public_url"),
    ("IP address mismatch", "get a certificate for the address, or use a name in public_url"),
    ("unable to get local issuer", "append the intermediate certificates to [site] certificate"),
    ("unsuitable certificate purpose", "get one that is for TLS servers (serverAuth)"),
    ("self-signed", "put a certificate that devices trust into [site] certificate"),
    ("self signed", "put a certificate that devices trust into [site] certificate"),
)


def _untrusted(
    config: Config, error: ssl.SSLCertVerificationError, host: str, port: int
) -> Finding:
    text = f"devices refuse the certificate that {host} shows: {_why(error)}"
    remedy = _remedy(error)
    with contextlib.suppress(OSError, BadCertificate):
        served = _look(host, port, _trusting_all()).certificate
        if _differs(config, served):
            text += f"; it is not what is in {config.site.certificate}"
            remedy = "systemctl restart mdmd, or look at the proxy"
    return failed("site", text, remedy)


def _trusting_all() -> ssl.SSLContext:
    context = trusting()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _differs(config: Config, served: x509.Certificate) -> bool:
    """Say whether another certificate is in the file; no, if none can be read there."""
    try:
        on_disk = load_certificate(config.site.certificate.read_bytes())
    except (OSError, BadCertificate):
        return False
    return fingerprint(on_disk) != fingerprint(served)


def _why(error: ssl.SSLError) -> str:
    return str(getattr(error, "verify_message", None) or error.reason or error)


def _remedy(error: ssl.SSLError) -> str:
    why = _why(error)
    return next((text for word, text in _REMEDIES if word in why), "look at the chain")


def _unreachable(config: Config, host: str, port: int, error: Exception) -> Iterator[Finding]:
    why = spelled(error)
    text = f"{host} port {port}: {why}"
    local = _local_port(config)
    if local:
        remedy = f"the site answers here on port {local}: check DNS, firewall and port forwarding"
        yield failed("site", text, remedy)
    else:
        yield failed("site", text, "start the daemon: systemctl restart mdmd")
    yield skipped("SCEP", "the site can't be reached")
    yield skipped("profile", "the site can't be reached")


def _local_port(config: Config) -> int:
    """Say on which port the site answers here; 0: on none."""
    for each in config.site.listen:
        kind, values = endpoint_values(each)
        if kind in ("tcp", "tcp6") and values.get("port", "").isdigit():
            usual = "127.0.0.1" if kind == "tcp" else "::1"
            port = int(values["port"])
            if _answers(values.get("interface") or usual, port, each.startswith("haproxy:")):
                return port
    return 0


def _answers(address: str, port: int, wrapped: bool) -> bool:
    """See whether somebody speaks TLS there; a daemon that hangs takes connections, too."""
    try:
        if wrapped:
            socket.create_connection((address, port), _TIMEOUT).close()
        else:
            _look(address, port, _trusting_all())
    except (OSError, BadCertificate):
        return False
    return True


def _certificate(config: Config, seen: _Seen, now: datetime) -> Iterator[Finding]:
    yield from _life(seen.certificate, now)
    if _differs(config, seen.certificate):
        text = f"what is served is not what is in {config.site.certificate}"
        remedy = "systemctl reload mdmd, restart if its name is new, or look at the proxy"
        yield warning("site certificate", text, remedy)


def _life(certificate: x509.Certificate, now: datetime) -> Iterator[Finding]:
    left = (certificate.not_valid_after_utc - now).days
    length = (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days
    if left < _SOON:
        text = f"ends in {left} days"
        yield warning("site certificate", text, "renew it, then: systemctl reload mdmd")
    if isinstance(certificate.signature_hash_algorithm, hashes.SHA1):
        yield failed("site certificate", "signed with SHA-1", "get one signed with SHA-256")
    if length > _LONGEST:
        text = f"valid for {length} days; Apple's devices refuse more than {_LONGEST}"
        yield failed("site certificate", text, "get one for a shorter time")


def _get(url: SplitResult, context: ssl.SSLContext, path: str) -> tuple[int, bytes]:
    host = url.hostname or ""
    connection = http.client.HTTPSConnection(host, url.port, timeout=_TIMEOUT, context=context)
    try:
        connection.request("GET", f"{url.path.rstrip('/')}{path}")
        response = connection.getresponse()
        return response.status, response.read(4 << 20)
    finally:
        connection.close()


def _scep(config: Config, url: SplitResult, context: ssl.SSLContext) -> Finding:
    remedy = "what answers at public_url is not this mdmd: look at the proxy"
    try:
        status, body = _get(url, context, "/scep?operation=GetCACert")
        if status != 200:
            return failed("SCEP", f"GetCACert is answered with {status}", remedy)
        served = read_ca(body).certificate
        own = load_certificate(config.ca.certificate.read_bytes())
    except (OSError, http.client.HTTPException, BadCertificate) as error:
        return failed("SCEP", f"GetCACert: {error}", remedy)
    if fingerprint(served) != fingerprint(own):
        return failed("SCEP", "another CA answers than [ca] certificate", remedy)
    return ok("SCEP", f"answers at {config.mdmd.public_url}/scep with our CA")


def _enroll(
    config: Config,
    url: SplitResult,
    context: ssl.SSLContext,
    topics: Collection[str],
    judge: Judge,
    now: datetime,
) -> Iterator[Finding]:
    if config.enroll.access == "off":
        yield skipped("profile", "[enroll] access = off: nobody gets it here")
        return
    try:
        status, body = _get(url, context, "/enroll")
    except (OSError, http.client.HTTPException) as error:
        yield failed("profile", f"/enroll: {error}", "look at the daemon's log")
        return
    if status == 404 and not topics:
        text = "there is none: no push certificate is installed"
        yield failed("profile", text, "mdmctl pushcert install FILE")
        return
    if status != 200:
        remedy = "look at the daemon's log; if nothing is there, at what answers at public_url"
        yield failed("profile", f"/enroll is answered with {status}", remedy)
        return
    try:
        _, found = judge(body, now, topics)
    except BadMessage as error:
        yield failed("profile", f"/enroll: {error}", "what answers at public_url is not mdmd")
        return
    for each in found:
        text = f"{each.path or 'the profile'} {each.text}"
        grade = warning if each.warning else failed
        yield grade("profile", text, "look at [enroll] and [mdmd] in the configuration")
    if not found:
        yield ok("profile", f"{len(body)} bytes, and a device would take it")
