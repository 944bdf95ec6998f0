"""
The requests that lead to a push certificate.

Apple's push portal takes no plain certificate request: it has to be signed by an
MDM vendor certificate, and comes as a property list in base64.

Source: Apple, "Setting up push notifications for your MDM customers"; the
answer of services that sign for others is CMS (RFC 5652), often in hexadecimal.
"""

import base64
import binascii
import plistlib
import re
from collections.abc import Iterable
from datetime import datetime, timedelta

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from mdmd.errors import BadCertificate
from mdmd.pki import certificates, envelope
from mdmd.pki.certificates import PrivateKey

_WHITE = re.compile(rb"\s+")
_LONGEST_CHAIN = 8


@attrs.frozen
class Vendor:
    """An MDM vendor certificate, its RSA key, and the chain up from it as far as we have it."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey = attrs.field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def missing(self) -> str:
        """Name the issuer that the chain lacks, and where it says it can be had; empty if none."""
        last = (self.certificate, *self.chain)[-1]
        if certificates.is_issued_by(last, last):
            return ""
        issuer = last.issuer.rfc4514_string()
        addresses = _issuer_addresses(last)
        return f"{issuer} (from {addresses[0]})" if addresses else issuer


def new_request(
    common_name: str, email: str = "", country: str = ""
) -> tuple[PrivateKey, x509.CertificateSigningRequest]:
    """
    Make an RSA-2048 key (Apple takes no other kind here) and a request for it.

    :raises BadCertificate: a name that a request can't have.
    """
    parts = [(NameOID.COMMON_NAME, common_name)]
    if email:
        parts.append((NameOID.EMAIL_ADDRESS, email))
    if country:
        parts.append((NameOID.COUNTRY_NAME, country))
    try:
        subject = x509.Name([x509.NameAttribute(oid, text) for oid, text in parts])
    except ValueError as error:
        raise BadCertificate(
            "a name has 1 to 64 characters, a country two letters, such as DE"
        ) from error
    key = certificates.new_key("rsa")
    return key, x509.CertificateSigningRequestBuilder(subject).sign(key, hashes.SHA256())


def encryption_certificate(key: PrivateKey, now: datetime, days: int = 90) -> x509.Certificate:
    """Make the self-signed certificate that a signing service encrypts its answer to."""
    subject = certificates.name("mdmd push request")
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )


def read_request(data: bytes) -> x509.CertificateSigningRequest:
    """
    Read a certificate request, PEM or DER, and check that it is signed by its own key.

    :raises BadCertificate: it is not one.
    """
    try:
        if b"-----BEGIN" in data:
            request = x509.load_pem_x509_csr(data)
        else:
            request = x509.load_der_x509_csr(data)
        whole = request.is_signature_valid
    except (ValueError, TypeError, x509.InvalidVersion) as error:
        raise BadCertificate("not a certificate request, or a damaged one") from error
    if not whole:
        raise BadCertificate("the certificate request is not signed by its own key")
    return request


def request_pem(request: x509.CertificateSigningRequest) -> bytes:
    """Write a certificate request as PEM."""
    return request.public_bytes(serialization.Encoding.PEM)


def vendor(
    certificate: bytes, key: PrivateKey, chain: Iterable[bytes], now: datetime | None = None
) -> Vendor:
    """
    Put a vendor certificate, its key and its chain together.

    :param certificate: PEM or DER; what else a PEM holds counts as chain.
    :param chain: PEM or DER each, in any order, too much or too little.
    :param now: when given, the certificate must be valid then.
    :raises BadCertificate: unreadable, not the key's, not RSA, or not valid.
    """
    own, *others = _all(certificate)
    if not certificates.matches(own, key):
        raise BadCertificate("the private key is not that of the vendor certificate")
    if not isinstance(key, rsa.RSAPrivateKey):
        raise BadCertificate("a vendor certificate has an RSA key")
    if now is not None and not certificates.in_validity(own, now):
        ends = own.not_valid_after_utc.strftime("%Y-%m-%d")
        raise BadCertificate(f"the vendor certificate is not valid now (it ends on {ends})")
    for each in chain:
        others += _all(each)
    return Vendor(own, key, tuple(_upwards(own, others)))


def sign_request(request: x509.CertificateSigningRequest, by: Vendor) -> bytes:
    """
    Make what Apple's push portal takes: base64 of a property list.

    PushCertRequestCSR is base64 of the DER request, PushCertCertificateChain
    PEM from the vendor certificate up, PushCertSignature base64 of the RSA
    signature with SHA-256 over the DER request.
    """
    der = request.public_bytes(serialization.Encoding.DER)
    signature = by.key.sign(der, padding.PKCS1v15(), hashes.SHA256())
    pem = b"".join(map(certificates.certificate_pem, (by.certificate, *by.chain)))
    body = plistlib.dumps(
        {
            "PushCertCertificateChain": pem.decode(),
            "PushCertRequestCSR": base64.b64encode(der).decode(),
            "PushCertSignature": base64.b64encode(signature).decode(),
        }
    )
    return base64.b64encode(body)


def open_answer(data: bytes, certificate: x509.Certificate, key: PrivateKey) -> bytes:
    """
    Open a signed request that a service encrypted to ``certificate``.

    :param data: CMS EnvelopedData: DER or BER, or that as PEM, base64 or hexadecimal.
    :raises BadCertificate: it is none, for another key, or holds no signed request.
    """
    if not isinstance(key, rsa.RSAPrivateKey):
        raise BadCertificate("an encrypted answer is opened with an RSA key")
    opened = envelope.open_with(envelope.read(_binary(data)), certificate, key)
    check_signed(opened)
    return opened


def check_signed(data: bytes) -> None:
    """
    Refuse what Apple's push portal would not take for a signed request.

    :raises BadCertificate: it is no base64 of a property list with the three keys.
    """
    try:
        body = plistlib.loads(base64.b64decode(_WHITE.sub(b"", data), validate=True))
        whole = {"PushCertCertificateChain", "PushCertRequestCSR", "PushCertSignature"} <= set(body)
    except Exception as error:  # plistlib raises many kinds for what is no plist
        raise BadCertificate("not a signed push certificate request") from error
    if not whole:
        raise BadCertificate("a signed push certificate request without all of its parts")


def _binary(data: bytes) -> bytes:
    """Undo PEM, hexadecimal or base64, whichever is around it."""
    # A CMS structure begins with a SEQUENCE of a long or indefinite length: 0x30, 0x80 or more.
    if data[1:2] >= b"\x80":
        return data
    body = _WHITE.sub(b"", re.sub(rb"-----[^-]+-----", b"", data))
    for decode in (binascii.unhexlify, lambda text: base64.b64decode(text, validate=True)):
        try:
            return decode(body)
        except (binascii.Error, ValueError):
            continue
    return data


def _all(data: bytes) -> list[x509.Certificate]:
    if b"-----BEGIN" not in data:
        return [certificates.load_certificate(data)]
    return certificates.load_chain(data)


def _upwards(own: x509.Certificate, others: list[x509.Certificate]) -> Iterable[x509.Certificate]:
    """Order what we have from the certificate's issuer up to the root; leave out the rest."""
    last = own
    for _ in range(_LONGEST_CHAIN):
        if certificates.is_issued_by(last, last):
            return
        found = next((each for each in others if certificates.is_issued_by(last, each)), None)
        if found is None:
            return
        yield found
        last = found


def _issuer_addresses(certificate: x509.Certificate) -> list[str]:
    access = certificates.extension(certificate, x509.AuthorityInformationAccess)
    return [
        str(each.access_location.value)
        for each in access or ()
        if each.access_method == AuthorityInformationAccessOID.CA_ISSUERS
    ]
