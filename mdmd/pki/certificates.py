"""
Keys, certificates and certificate requests: read, write, make, judge.

Everything here is :mod:`cryptography`'s own objects; bytes that can't be read
become :class:`~mdmd.errors.BadCertificate` with a text for the person who gave
them, never with any of the bytes.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import AttributeOID, ExtendedKeyUsageOID, NameOID

from mdmd.errors import BadCertificate

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
Extension = TypeVar("Extension", bound=x509.ExtensionType)

_LONGEST_CHAIN = 6

# Above this, checking one signature costs too much to do for a stranger.
MAX_RSA_BITS = 8192

_PEM_CERTIFICATE = re.compile(
    rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL
)
_PEM_KEY = re.compile(
    rb"-----BEGIN ((?:RSA |EC |ENCRYPTED )?PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL
)


def new_key(kind: str = "ec") -> PrivateKey:
    """
    Make a private key.

    :param kind: ``ec`` for P-256, ``rsa`` for RSA-2048.
    :raises BadCertificate: another kind.
    """
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    raise BadCertificate(f"no such kind of key: {kind!r}; it is ec or rsa")


def key_pem(key: PrivateKey) -> bytes:
    """Write a key as unencrypted PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def load_key(pem: bytes, passphrase: bytes | None = None) -> PrivateKey:
    """
    Read the first private key of a PEM text; certificates around it don't matter.

    :raises BadCertificate: no key, a wrong or missing passphrase, or a kind
        other than RSA from 2048 bits and EC.
    """
    block = _PEM_KEY.search(pem)
    if block is None:
        raise BadCertificate("no PEM private key found")
    encrypted = block[1].startswith(b"ENCRYPTED") or b"Proc-Type: 4,ENCRYPTED" in block[0]
    if encrypted and not passphrase:
        raise BadCertificate("the private key is encrypted and no passphrase was given")
    try:
        key = serialization.load_pem_private_key(block[0], passphrase if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        reason = "wrong passphrase or damaged" if encrypted else "damaged or of an unknown kind"
        raise BadCertificate(f"the private key can't be read: {reason}") from error
    return _known_kind(key)


def _known_kind(key: object) -> PrivateKey:
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < 2048:
            raise BadCertificate(f"the RSA key has {key.key_size} bits; 2048 is the least")
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key
    raise BadCertificate("the private key is neither RSA nor EC")


def certificate_pem(cert: x509.Certificate) -> bytes:
    """Write a certificate as PEM."""
    return cert.public_bytes(serialization.Encoding.PEM)


def certificate_der(cert: x509.Certificate) -> bytes:
    """Write a certificate as DER."""
    return cert.public_bytes(serialization.Encoding.DER)


def load_certificate(pem_or_der: bytes) -> x509.Certificate:
    """
    Read a certificate from DER, or the first one of a PEM text.

    :raises BadCertificate: there is none, or it can't be read.
    """
    try:
        # DER is known by its first bytes: PEM inside of it must not be found instead.
        if pem_or_der[:1] == b"\x30" and pem_or_der[1:2] >= b"\x80":
            cert = x509.load_der_x509_certificate(pem_or_der)
        else:
            cert = x509.load_pem_x509_certificate(pem_or_der)
        _touch(cert)
    except (ValueError, TypeError, x509.InvalidVersion) as error:
        raise BadCertificate("not a certificate, or a damaged one") from error
    public_key(cert)
    return cert


def _touch(cert: x509.Certificate) -> None:
    """Read now what cryptography reads only when it is asked for, and may not be able to."""
    _ = cert.subject, cert.issuer, cert.not_valid_before_utc, cert.not_valid_after_utc


def load_chain(pem: bytes) -> list[x509.Certificate]:
    """
    Read all certificates of a PEM text, in order.

    :raises BadCertificate: there is none, or one can't be read.
    """
    found = [load_certificate(block[0]) for block in _PEM_CERTIFICATE.finditer(pem)]
    return found or [load_certificate(pem)]


def public_key(owner: x509.Certificate | x509.CertificateSigningRequest) -> PublicKey:
    """
    Take the public key out of a certificate or request.

    :raises BadCertificate: it is damaged, or neither EC nor RSA of a bearable size.
    """
    try:
        key = owner.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadCertificate("the public key can't be read") from error
    if isinstance(key, rsa.RSAPublicKey) and key.key_size <= MAX_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key
    raise BadCertificate(f"the public key is neither EC nor RSA up to {MAX_RSA_BITS} bits")


def load_pkcs12(
    data: bytes, passphrase: bytes | None
) -> tuple[PrivateKey, x509.Certificate, tuple[x509.Certificate, ...]]:
    """
    Read a PKCS#12 file: its key, the key's certificate, and the rest of the chain.

    :raises BadCertificate: it can't be read, or key or certificate is missing.
    """
    try:
        key, cert, chain = pkcs12.load_key_and_certificates(data, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadCertificate("not a PKCS#12 file, or a wrong passphrase") from error
    if key is None or cert is None:
        raise BadCertificate("the PKCS#12 file must hold a key and its certificate")
    return _known_kind(key), cert, tuple(chain)


def fingerprint(cert: x509.Certificate) -> str:
    """Return the lower-case hex SHA-256 of the certificate's DER."""
    return cert.fingerprint(hashes.SHA256()).hex()


def matches(cert: x509.Certificate, key: PrivateKey) -> bool:
    """Say whether the certificate is for this private key."""
    return public_key(cert) == key.public_key()


def name(common_name: str, organization: str = "") -> x509.Name:
    """
    Build a distinguished name.

    :raises BadCertificate: a part is longer than X.520's 64 characters, or the
        common name is empty.
    """
    parts = [(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    parts.append((NameOID.COMMON_NAME, common_name))
    try:
        return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts])
    except ValueError as error:
        raise BadCertificate("a name has 1 to 64 characters in each part") from error


def name_parts(text: str) -> list[tuple[str, str]]:
    """
    Take a distinguished name (RFC 4514) apart: type (a word, or a dotted OID) and value.

    :raises BadCertificate: it is none.
    """
    try:
        attributes = list(x509.Name.from_rfc4514_string(text)) if text else []
    except ValueError as error:
        raise BadCertificate("not a distinguished name") from error
    return [(each.rfc4514_attribute_name, str(each.value)) for each in attributes]


def new_csr(
    key: PrivateKey, common_name: str, challenge: str = "", organization: str = ""
) -> x509.CertificateSigningRequest:
    """
    Make a certificate request, with a challengePassword if one is given.

    Source: RFC 2986; RFC 2985, section 5.4.1.
    """
    builder = x509.CertificateSigningRequestBuilder(name(common_name, organization))
    if challenge:
        builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, challenge.encode())
    return builder.sign(key, hashes.SHA256())


def is_issued_by(cert: x509.Certificate, ca_cert: x509.Certificate) -> bool:
    """Say whether ``ca_cert`` is the issuer by name and by signature; nothing more."""
    try:
        cert.verify_directly_issued_by(ca_cert)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def in_validity(cert: x509.Certificate, now: datetime) -> bool:
    """Say whether ``now`` (aware) lies in the certificate's validity, both ends included."""
    return cert.not_valid_before_utc <= now <= cert.not_valid_after_utc


def chain_ok(
    cert: x509.Certificate, ca_cert: x509.Certificate, now: datetime | None = None
) -> bool:
    """
    Say whether a certificate is a device identity of this CA, today.

    Signature by the CA, both in validity, extended key usage names clientAuth,
    and not itself a CA. A certificate without extended key usage is refused:
    else the CA's own certificate and its registration authority would do.
    """
    moment = now or datetime.now(UTC)
    return (
        in_validity(cert, moment)
        and in_validity(ca_cert, moment)
        and is_issued_by(cert, ca_cert)
        and _is_client(cert)
    )


def chains_to(
    cert: x509.Certificate,
    bag: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
) -> bool:
    """
    Say whether a certificate goes back to one of ``roots``, by way of CAs in ``bag``.

    Dates are not looked at: this is for factory identities of devices, which
    outlive the certificates above them.

    :raises BadCertificate: a certificate's extensions can't be read.
    """
    for _ in range(_LONGEST_CHAIN):
        if any(is_issued_by(cert, root) for root in roots):
            return True
        above = [each for each in bag if each != cert and is_issued_by(cert, each) and is_ca(each)]
        if not above:
            return False
        cert = above[0]
    return False


def extension(cert: x509.Certificate, kind: type[Extension]) -> Extension | None:
    """
    Return the extension of this class, None if the certificate has none.

    :raises BadCertificate: an extension, not always this one, can't be read.
    """
    try:
        return cert.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except (
        ValueError,
        TypeError,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise BadCertificate("the certificate's extensions can't be read") from error


def is_ca(cert: x509.Certificate) -> bool:
    """
    Say whether the certificate's basic constraints make it a CA.

    :raises BadCertificate: its extensions can't be read.
    """
    constraints = extension(cert, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def _is_client(cert: x509.Certificate) -> bool:
    try:
        usage = extension(cert, x509.ExtendedKeyUsage)
        if usage is None or is_ca(cert):
            return False
    except BadCertificate:
        return False
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage
