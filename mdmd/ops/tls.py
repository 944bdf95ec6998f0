"""TLS for operators: a client certificate is asked for, and known by its fingerprint."""

from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.ssl import CertificateOptions, TLSVersion
from zope.interface import implementer

from mdmd.errors import BadCertificate


@implementer(IOpenSSLContextFactory)
class OperatorsTLS:
    """
    The context of the TLS door, as Twisted's endpoints take one.

    No CA has a say in who an operator is: the handshake shows that the client
    has the key of its certificate, the operators file whose certificate it is.

    :param certificate: PEM, followed by its chain.
    :raises BadCertificate: a file can't be read, or the key is another certificate's.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._context = self._load()

    def getContext(self) -> SSL.Context:
        """Give the context; Twisted calls this for each connection."""
        return self._context

    def reload(self) -> None:
        """
        Read the files again, for connections from now on.

        :raises BadCertificate: as above; the old ones stay in use.
        """
        self._context = self._load()

    def _load(self) -> SSL.Context:
        context = CertificateOptions(insecurelyLowerMinimumTo=TLSVersion.TLSv1_2).getContext()
        try:
            context.use_certificate_chain_file(str(self._certificate))
            context.use_privatekey_file(str(self._key))
            context.check_privatekey()
        except SSL.Error as error:
            words = "; ".join(each[-1] for each in error.args[0]) if error.args else "unreadable"
            raise BadCertificate(f"{self._certificate}, {self._key}: {words}") from None
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_CLIENT_ONCE, _any)
        context.set_session_id(b"mdmd operators")
        return context


def _any(connection: Any, certificate: Any, error: int, depth: int, ok: int) -> bool:
    return True
