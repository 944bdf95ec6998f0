"""
CMS SignedData: sign, and verify strictly.

A signature counts only when all of this holds: exactly one signer, whose
certificate is in the message; the signature itself; and where there are signed
attributes, their contentType and their messageDigest against the content. A
signature over the attributes alone says nothing of the content.

Nothing here judges the certificate: the caller asks
:func:`mdmd.pki.certificates.chain_ok`.

Source: RFC 5652; RFC 5754 for the algorithms.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509 import ObjectIdentifier

from mdmd.errors import BadCertificate, BadSignature
from mdmd.pki import certificates, structures
from mdmd.pki.certificates import PrivateKey
from mdmd.pki.signed_data import Signed, Signer, read, write
from mdmd.pki.structures import DATA, TLV, Kind, NotDer, issuer_and_serial

_CONTENT_TYPE = ObjectIdentifier("1.2.840.113549.1.9.3")
_MESSAGE_DIGEST = ObjectIdentifier("1.2.840.113549.1.9.4")
_RSA = ObjectIdentifier("1.2.840.113549.1.1.1")
_EC_KEY = ObjectIdentifier("1.2.840.10045.2.1")


@attrs.frozen
class Digest:
    """A digest algorithm and the signature algorithms that go with it."""

    name: str  # as in hashlib
    oid: ObjectIdentifier
    algorithm: hashes.HashAlgorithm
    with_rsa: ObjectIdentifier
    with_ecdsa: ObjectIdentifier
    legacy: bool = False

    def of(self, content: bytes) -> bytes:
        """Digest ``content``."""
        return hashlib.new(self.name, content, usedforsecurity=not self.legacy).digest()


def _digest(
    name: str,
    oid: str,
    algorithm: hashes.HashAlgorithm,
    rsa_oid: str,
    ec_oid: str,
    legacy: bool = False,
) -> Digest:
    with_rsa, with_ecdsa = ObjectIdentifier(rsa_oid), ObjectIdentifier(ec_oid)
    return Digest(name, ObjectIdentifier(oid), algorithm, with_rsa, with_ecdsa, legacy)


_PKCS1, _ECDSA, _NIST = "1.2.840.113549.1.1", "1.2.840.10045.4", "2.16.840.1.101.3.4.2"
SHA1 = _digest("sha1", "1.3.14.3.2.26", hashes.SHA1(), f"{_PKCS1}.5", f"{_ECDSA}.1", True)  # noqa: S303
SHA256 = _digest("sha256", f"{_NIST}.1", hashes.SHA256(), f"{_PKCS1}.11", f"{_ECDSA}.3.2")
SHA384 = _digest("sha384", f"{_NIST}.2", hashes.SHA384(), f"{_PKCS1}.12", f"{_ECDSA}.3.3")
SHA512 = _digest("sha512", f"{_NIST}.3", hashes.SHA512(), f"{_PKCS1}.13", f"{_ECDSA}.3.4")
_DIGESTS = {each.oid: each for each in (SHA1, SHA256, SHA384, SHA512)}


# -- verifying -----------------------------------------------------------------


def verify_detached(signature: bytes, content: bytes, *, legacy: bool = False) -> x509.Certificate:
    """
    Verify a detached signature over ``content`` and return the signer's certificate.

    :param signature: DER or BER, not base64.
    :param legacy: take SHA-1 too.
    :raises BadSignature: anything about it does not hold.
    """
    signed = read(signature)
    if signed.content is not None:
        raise BadSignature("a detached signature must not carry content")
    return check(signed, content, legacy=legacy)


def verify_attached(blob: bytes, *, legacy: bool = False) -> tuple[bytes, x509.Certificate]:
    """
    Verify a signed message; return its content and the signer's certificate.

    :param legacy: take SHA-1 too.
    :raises BadSignature: anything about it does not hold.
    """
    signed = read(blob)
    if signed.content is None:
        raise BadSignature("the signed message carries no content")
    return signed.content, check(signed, signed.content, legacy=legacy)


def check(signed: Signed, content: bytes, *, legacy: bool = False) -> x509.Certificate:
    """
    Verify a message as read against ``content``; return the signer's certificate.

    Reading is :func:`mdmd.pki.signed_data.read`.

    :raises BadSignature: anything about it does not hold.
    """
    signer = signed.signer
    certificate = _signer_certificate(signed)
    digest = _DIGESTS.get(signer.digest)
    if digest is None or (digest.legacy and not legacy):
        raise BadSignature("the digest algorithm is not accepted")
    if signer.signed_attributes:
        _check_attributes(signed, digest, content)
        _check_signature(certificate, signer, digest, signer.signed_attributes)
    elif signed.content_type != DATA:
        raise BadSignature("only plain data may be signed without attributes")
    else:
        _check_signature(certificate, signer, digest, content)
    return certificate


def digest_of(signed: Signed) -> Digest | None:
    """Say which digest the one signer used, None if we don't know it."""
    return _DIGESTS.get(signed.signer.digest)


def _check_attributes(signed: Signed, digest: Digest, content: bytes) -> None:
    attributes = signed.signer.attributes
    try:
        content_type = _only(attributes[_CONTENT_TYPE], ObjectIdentifier)
        message_digest = _only(attributes[_MESSAGE_DIGEST], bytes)
    except (KeyError, NotDer) as error:
        raise BadSignature("contentType or messageDigest is missing or malformed") from error
    if content_type != signed.content_type:
        raise BadSignature("the contentType attribute names another type")
    if not hmac.compare_digest(message_digest, digest.of(content)):
        raise BadSignature("the messageDigest is not that of the content")


def _only(values: list[TLV], kind: type[Kind]) -> Kind:
    if len(values) != 1:
        raise NotDer("not one value")
    return structures.parse(kind, values[0])


def _check_signature(
    certificate: x509.Certificate, signer: Signer, digest: Digest, message: bytes
) -> None:
    key = certificates.public_key(certificate)
    try:
        if isinstance(key, rsa.RSAPublicKey) and signer.algorithm in (_RSA, digest.with_rsa):
            key.verify(signer.signature, message, padding.PKCS1v15(), digest.algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey) and signer.algorithm in (
            _EC_KEY,
            digest.with_ecdsa,
        ):
            key.verify(signer.signature, message, ec.ECDSA(digest.algorithm))
        else:
            raise BadSignature("the signature algorithm does not go with key and digest")
    except InvalidSignature as error:
        raise BadSignature("the signature does not hold") from error
    except (UnsupportedAlgorithm, ValueError) as error:
        raise BadSignature("the signer's key can't be used") from error


def _signer_certificate(signed: Signed) -> x509.Certificate:
    try:
        for encoded in signed.certificates:
            if _names(signed.signer, encoded):
                return certificates.load_certificate(encoded)
    except NotDer as error:
        raise BadSignature("a certificate in the message can't be read") from error
    except BadCertificate as error:
        raise BadSignature(str(error)) from error
    raise BadSignature("the signer's certificate is not in the message")


def _names(signer: Signer, encoded: bytes) -> bool:
    if signer.name is not None:
        name = issuer_and_serial(encoded)
        same = structures.encode(name.issuer) == structures.encode(signer.name.issuer)
        return same and name.serial == signer.name.serial
    certificate = certificates.load_certificate(encoded)
    named = certificates.extension(certificate, x509.SubjectKeyIdentifier)
    return named is not None and named.digest == signer.key_identifier


# -- signing -------------------------------------------------------------------


def sign_detached(content: bytes, certificate: x509.Certificate, key: PrivateKey) -> bytes:
    """Sign ``content`` and return the signature alone, DER."""
    return sign(content, certificate, key, detached=True)


def sign_attached(
    content: bytes,
    certificate: x509.Certificate,
    key: PrivateKey,
    chain: Sequence[x509.Certificate] = (),
) -> bytes:
    """Sign ``content`` and return both together, DER; ``chain`` goes along."""
    return sign(content, certificate, key, chain=chain)


def sign(
    content: bytes,
    certificate: x509.Certificate,
    key: PrivateKey,
    *,
    chain: Iterable[x509.Certificate] = (),
    digest: Digest = SHA256,
    attributes: Mapping[ObjectIdentifier, object] | None = None,
    detached: bool = False,
) -> bytes:
    """
    Make a SignedData over plain data.

    :param attributes: signed attributes besides the two required ones, each
        with one value.
    """
    values = {_CONTENT_TYPE: DATA, _MESSAGE_DIGEST: digest.of(content), **(attributes or {})}
    # DER sorts what is in a SET.
    encoded = sorted(structures.encode(_attribute(*each)) for each in values.items())
    sent = [structures.decode(TLV, each) for each in encoded]
    signed = structures.set_as_sent(sent)
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(signed, padding.PKCS1v15(), digest.algorithm)
        algorithm = [structures.tlv(_RSA), structures.tlv(asn1.Null())]
    else:
        signature = key.sign(signed, ec.ECDSA(digest.algorithm))
        algorithm = [structures.tlv(digest.with_ecdsa)]
    own = certificates.certificate_der(certificate)
    signer = structures.SignerInfo(
        version=1,
        signer=asn1.Variant(issuer_and_serial(own), "name"),
        digest=[structures.tlv(digest.oid), structures.tlv(asn1.Null())],
        signed_attributes=sent,
        algorithm=algorithm,
        signature=signature,
        unsigned_attributes=None,
    )
    others = [certificates.certificate_der(each) for each in chain]
    return write(None if detached else content, [own, *others], [signer], [digest.oid])


def _attribute(oid: ObjectIdentifier, value: object) -> structures.Attribute:
    return structures.Attribute(oid=oid, values=asn1.SetOf([structures.tlv(value)]))
