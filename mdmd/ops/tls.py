"""TLS for operators: a client certificate is asked for, and known by its fingerprint."""

from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.ssl import CertificateOptions, TLSVersion
from zope.interface import implementer


@implementer(IOpenSSLContextFactory)
class OperatorsTLS:
    """
    The context of the TLS door, as Twisted's endpoints take one.

    No CA has a say in who an operator is: the handshake shows that the client
    has the key of its certificate, the operators file whose certificate it is.

    :param certificate: PEM, followed by its chain.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        context = CertificateOptions(insecurelyLowerMinimumTo=TLSVersion.TLSv1_2).getContext()
        context.use_certificate_chain_file(str(certificate))
        context.use_privatekey_file(str(key))
        context.check_privatekey()
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_CLIENT_ONCE, _any)
        context.set_session_id(b"mdmd operators")
        self._context = context

    def getContext(self) -> SSL.Context:
        """Give the context; Twisted calls this."""
        return self._context


def _any(connection: Any, certificate: Any, error: int, depth: int, ok: int) -> bool:
    return True
