"""
The ASN.1 of CMS and of certificates, as far as CMS and SCEP need it, declared once.

:mod:`cryptography.hazmat.asn1` reads and writes these classes, and takes DER only:
shortest lengths, nothing behind the end. What may be signed or compared stays a
``TLV``, an element as it was sent. A ``SET OF`` that others don't always sort is
declared as a list: the order of what was sent then stays as it is.

Source: RFC 5652 for CMS, RFC 5280 for certificates.
"""

from typing import Annotated, Literal, TypeVar

from cryptography.hazmat import asn1
from cryptography.x509 import ObjectIdentifier

TLV = asn1.TLV
Kind = TypeVar("Kind")

DATA = ObjectIdentifier("1.2.840.113549.1.7.1")
SIGNED_DATA = ObjectIdentifier("1.2.840.113549.1.7.2")
ENVELOPED_DATA = ObjectIdentifier("1.2.840.113549.1.7.3")

_SET = b"\x31"


class NotDer(ValueError):
    """The bytes are not the DER that was asked for."""


def decode(kind: type[Kind], data: bytes) -> Kind:
    """
    Read one of the classes below, or a type of :mod:`cryptography.hazmat.asn1`, from DER.

    :raises NotDer: it is not one, or something follows.
    """
    try:
        return asn1.decode_der(kind, data)
    except ValueError as error:
        raise NotDer("not the DER that was asked for") from error


def parse(kind: type[Kind], element: TLV) -> Kind:
    """
    Read an element that was left closed.

    :raises NotDer: it is of another type.
    """
    try:
        value: Kind = element.parse(kind)
    except ValueError as error:
        raise NotDer("an element of another type than expected") from error
    return value


encode = asn1.encode_der


def tlv(value: object) -> TLV:
    """Write a value and close it."""
    return asn1.decode_der(TLV, asn1.encode_der(value))


def set_as_sent(elements: list[TLV]) -> bytes:
    """Write a SET of elements in the order given, each as it was sent."""
    # An OCTET STRING with the same inside differs in its first byte only.
    return _SET + encode(b"".join(map(encode, elements)))[1:]


@asn1.sequence
class Algorithm:
    """An AlgorithmIdentifier for those whose parameters are NULL or missing."""

    oid: ObjectIdentifier
    parameters: asn1.Null | None


@asn1.sequence
class AlgorithmWith:
    """An AlgorithmIdentifier with parameters."""

    oid: ObjectIdentifier
    parameters: TLV


def algorithm_oid(algorithm: list[TLV]) -> ObjectIdentifier:
    """
    Say which algorithm an AlgorithmIdentifier of any kind names.

    :raises NotDer: it has no object identifier in front.
    """
    if not algorithm:
        raise NotDer("an empty algorithm identifier")
    return parse(ObjectIdentifier, algorithm[0])


@asn1.sequence
class Attribute:
    """An attribute and its values."""

    oid: ObjectIdentifier
    values: asn1.SetOf[TLV]


@asn1.sequence
class IssuerAndSerial:
    """The name of a certificate."""

    issuer: TLV
    serial: int


@asn1.sequence
class SignerInfo:
    """Who signed, and how."""

    version: int
    signer: (
        asn1.Variant[IssuerAndSerial, Literal["name"]]
        | Annotated[asn1.Variant[bytes, Literal["key"]], asn1.Implicit(0)]
    )
    digest: list[TLV]
    signed_attributes: Annotated[list[TLV] | None, asn1.Implicit(0)]
    algorithm: list[TLV]
    signature: bytes
    unsigned_attributes: Annotated[list[TLV] | None, asn1.Implicit(1)]


@asn1.sequence
class EncapsulatedContent:
    """What was signed, or only its type."""

    content_type: ObjectIdentifier
    content: Annotated[bytes | None, asn1.Explicit(0)]


@asn1.sequence
class SignedData:
    """Content, certificates and signatures."""

    version: int
    digests: TLV  # each signer names its own
    encapsulated: EncapsulatedContent
    certificates: Annotated[list[TLV] | None, asn1.Implicit(0)]
    revocations: Annotated[list[TLV] | None, asn1.Implicit(1)]
    signers: asn1.SetOf[SignerInfo]


@asn1.sequence
class SignedMessage:
    """ContentInfo around SignedData."""

    content_type: ObjectIdentifier
    content: Annotated[SignedData, asn1.Explicit(0)]


@asn1.sequence
class Recipient:
    """A content key, encrypted to the key of a certificate (KeyTransRecipientInfo)."""

    version: int
    name: IssuerAndSerial
    algorithm: Algorithm
    encrypted_key: bytes


@asn1.sequence
class EncryptedContent:
    """Ciphertext, in one piece or (streamed) in several."""

    content_type: ObjectIdentifier
    algorithm: AlgorithmWith
    whole: Annotated[bytes | None, asn1.Implicit(0)]
    pieces: Annotated[list[bytes] | None, asn1.Implicit(0)]


@asn1.sequence
class EnvelopedData:
    """Ciphertext and who can open it."""

    version: int
    originator: Annotated[list[TLV] | None, asn1.Implicit(0)]
    recipients: asn1.SetOf[Recipient]
    encrypted: EncryptedContent
    attributes: Annotated[list[TLV] | None, asn1.Implicit(1)]


@asn1.sequence
class EnvelopedMessage:
    """ContentInfo around EnvelopedData."""

    content_type: ObjectIdentifier
    content: Annotated[EnvelopedData, asn1.Explicit(0)]


@asn1.sequence
class ToBeSigned:
    """TBSCertificate; :mod:`cryptography.x509` reads it all, but for the issuer as written."""

    version: Annotated[int | None, asn1.Explicit(0)]
    serial: int
    algorithm: TLV
    issuer: TLV
    validity: TLV
    subject: TLV
    public_key: TLV
    issuer_identifier: Annotated[asn1.BitString | None, asn1.Implicit(1)]
    subject_identifier: Annotated[asn1.BitString | None, asn1.Implicit(2)]
    extensions: Annotated[list[TLV] | None, asn1.Explicit(3)]


@asn1.sequence
class Certificate:
    """An X.509 certificate."""

    body: ToBeSigned
    algorithm: TLV
    signature: asn1.BitString


def issuer_and_serial(certificate: bytes) -> IssuerAndSerial:
    """
    Take issuer (as written) and serial number out of a certificate's DER.

    :raises NotDer: it is no certificate.
    """
    body = decode(Certificate, certificate).body
    return IssuerAndSerial(issuer=body.issuer, serial=body.serial)
