"""
TLS of the device site.

A client certificate is asked for, never demanded, and never checked here: a
handshake that fails leaves the device without an answer and us without a clue.
:mod:`mdmd.web.identity` checks it on each request, those on resumed sessions too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from mdmd.errors import BadCertificate
from mdmd.pki.certificates import load_key, matches
from mdmd.web.tls_wire import TLSWire

# For TLS 1.2; those of 1.3 are all good.
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
_OPTIONS = SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE
_SESSION_ID = b"mdmd"  # without one OpenSSL resumes no session that asked for a certificate
_SESSION_SECONDS = 8 * 3600
_HTTP = b"http/1.1"


class ServerContext:
    """
    Make TLS connections from a certificate file and a key file.

    :param certificate: PEM, the server's own certificate first, then its chain.
    :param key: PEM, unencrypted; P-256 costs a third of RSA.
    :param trust: the device CAs, named to clients that choose a certificate by issuer.
    :param tickets: let clients resume sessions; each ticket has the client's certificate in it.
    :raises BadCertificate: a file can't be read, or the key is another certificate's.
    """

    def __init__(
        self,
        certificate: Path,
        key: Path,
        trust: Sequence[x509.Certificate],
        tickets: bool = True,
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._trust = tuple(trust)
        self._tickets = tickets
        self._context = self._load()

    def reload(self) -> None:
        """
        Read the files again, for connections from now on; tickets given out before end.

        :raises BadCertificate: as above; the old ones stay in use.
        """
        self._context = self._load()

    def connection(self) -> SSL.Connection:
        """Make one connection, without a socket."""
        return SSL.Connection(self._context, None)

    def _load(self) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(_OPTIONS)
        # An idle connection then keeps no 34 KB of buffers.
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_cipher_list(_CIPHERS)
        context.set_verify(SSL.VERIFY_PEER, _accept)
        for certificate in self._trust:
            context.add_client_ca(certificate)
        context.set_alpn_select_callback(_choose_protocol)
        context.set_session_id(_SESSION_ID)
        context.set_timeout(_SESSION_SECONDS)
        # Tickets need no memory of ours, and a cache would.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        if not self._tickets:
            context.set_options(SSL.OP_NO_TICKET)
        self._use_files(context)
        return context

    def _use_files(self, context: SSL.Context) -> None:
        chain = _read_chain(self._certificate)
        content = _read(self._key)
        try:
            key = load_key(content)
        except BadCertificate as error:
            raise BadCertificate(f"{self._key}: {error}") from error
        if not matches(chain[0], key):
            raise BadCertificate(f"{self._key}: not the key of {self._certificate}")
        context.use_certificate(chain[0])
        for certificate in chain[1:]:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(key)


class _Door(Factory):
    noisy = False

    def __init__(self, context: ServerContext, site: Any) -> None:
        self._context = context
        self._site = site

    def buildProtocol(self, addr: IAddress | None) -> TLSWire | None:
        inner = self._site.buildProtocol(addr)
        return None if inner is None else TLSWire(self._context.connection(), inner)


def wrap(context: ServerContext, site: Any) -> Factory:
    """
    Put TLS in front of a site, to listen with; it keeps the site's right to turn away.

    :param site: an IProtocolFactory.
    """
    return _Door(context, site)


def _accept(*_: object) -> bool:
    """Let any certificate in; it proves that the client has its key, and that is all."""
    return True


def _choose_protocol(_: SSL.Connection, offered: list[bytes]) -> Any:
    return _HTTP if _HTTP in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _read_chain(path: Path) -> list[x509.Certificate]:
    try:
        chain = x509.load_pem_x509_certificates(_read(path))
    except ValueError:
        raise BadCertificate(f"{path}: not a PEM certificate, or a damaged one") from None
    return chain


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadCertificate(f"{path}: {error.strerror}") from None
