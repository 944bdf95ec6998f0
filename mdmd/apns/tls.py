"""TLS towards APNs: our certificate, whom we trust, and what went wrong, in words."""

from typing import Any

from cryptography import x509
from OpenSSL.crypto import X509
from OpenSSL.SSL import Error, SysCallError, ZeroReturnError
from service_identity import VerificationError
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectionDone, ConnectionLost, DNSLookupError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates

from mdmd.errors import BadCertificate
from mdmd.interfaces.push import Decision, PushOutcome
from mdmd.pki.pushcert import PushCertificate

ALPN = b"h2"


def client_tls(
    host: str, certificate: PushCertificate, trust: bytes | None
) -> IOpenSSLClientConnectionCreator:
    """
    Make the TLS side of a connection: version 1.2 up, HTTP/2 by ALPN, both sides verified.

    :param host: the name or address that the server's certificate must be for.
    :param trust: PEM of the roots to trust instead of the system's, None for the system's.
    :raises BadCertificate: ``trust`` holds no certificate.
    """
    return optionsForClientTLS(
        host,
        trustRoot=None if trust is None else read_roots(trust),
        acceptableProtocols=[ALPN],
        extraCertificateOptions={
            "privateKey": certificate.key,
            "certificate": certificate.certificate,
            "extraCertChain": list(certificate.chain),
        },
    )


def read_roots(trust: bytes) -> Any:  # an IOpenSSLTrustRoot; Twisted has no public name for it
    """
    Read the certificates to trust, PEM.

    :raises BadCertificate: there is none in it.
    """
    try:
        roots = x509.load_pem_x509_certificates(trust)
    except ValueError as error:
        raise BadCertificate("the trusted certificates for APNs can't be read") from error
    held = [Certificate(X509.from_cryptography(each)) for each in roots]  # type: ignore[no-untyped-call]
    return trustRootFromCertificates(held)  # type: ignore[no-untyped-call]


def explain(error: BaseException, host: str) -> PushOutcome:
    """
    Turn the end of a connection into an outcome for the pushes that needed it.

    Trouble with certificates, ours or theirs, does not pass by itself: ALARM.
    """
    if isinstance(error, VerificationError):
        return _alarm(f"the server's certificate is not for {host}")
    if isinstance(error, Error) and not isinstance(error, SysCallError | ZeroReturnError):
        return _explain_tls(error, host)
    if isinstance(error, DNSLookupError):
        return _retry(f"no address found for {host}")
    if isinstance(error, DeferredTimeout):
        return _retry("no connection to APNs in time")
    if isinstance(error, ConnectionDone | ConnectionLost | SysCallError | ZeroReturnError):
        return _retry("APNs closed the connection")
    return _retry(f"no connection to APNs: {error}")


def _explain_tls(error: Error, host: str) -> PushOutcome:
    words = ", ".join(part[2] for part in error.args[0]) if error.args else ""
    if "certificate verify failed" in words:
        return _alarm(f"the certificate of {host} is not trusted")
    if "alert" in words and any(word in words for word in _ABOUT_OUR_CERTIFICATE):
        return _alarm(f"APNs refused the push certificate ({words})")
    return _alarm(f"TLS with APNs failed ({words or 'no reason given'})")


_ABOUT_OUR_CERTIFICATE = ("certificate", "unknown ca", "access denied", "handshake failure")


def _alarm(reason: str) -> PushOutcome:
    return PushOutcome(Decision.ALARM, reason=reason)


def _retry(reason: str) -> PushOutcome:
    return PushOutcome(Decision.RETRY, reason=reason)
