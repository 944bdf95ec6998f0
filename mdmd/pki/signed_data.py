"""
CMS SignedData as it stands on the wire: read without verifying, write, bags of certificates.

:mod:`mdmd.pki.cms` signs and verifies.

Source: RFC 5652, section 5.
"""

from collections.abc import Iterable, Mapping

import attrs
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.x509 import ObjectIdentifier

from mdmd.errors import BadCertificate, BadSignature
from mdmd.pki import ber, certificates, structures
from mdmd.pki.structures import TLV, IssuerAndSerial, NotDer

# Bounds on what a stranger can make us read.
_MOST_CERTIFICATES = 16
_MOST_ATTRIBUTES = 32

_CERTIFICATE = b"\x30"  # the tag; other kinds of certificate have others


@attrs.frozen
class Signer:
    """The one SignerInfo of a message, as read."""

    name: IssuerAndSerial | None  # None when the key identifier is used
    key_identifier: bytes  # b"" when issuer and serial are used
    digest: ObjectIdentifier
    algorithm: ObjectIdentifier
    signed_attributes: bytes  # as signed, b"" when there are none
    attributes: Mapping[ObjectIdentifier, list[TLV]]  # the values of each
    signature: bytes


@attrs.frozen
class Signed:
    """A SignedData as read: **nothing of it is verified** before :func:`mdmd.pki.cms.check`."""

    content_type: ObjectIdentifier
    content: bytes | None = attrs.field(repr=False)
    certificates: tuple[bytes, ...] = attrs.field(repr=False)  # DER
    signers: tuple[Signer, ...] = attrs.field(repr=False)

    @property
    def signer(self) -> Signer:
        """
        Return the one signer.

        :raises BadSignature: there is none, or several.
        """
        if len(self.signers) != 1:
            raise BadSignature(f"the message has {len(self.signers)} signers; it must have one")
        return self.signers[0]


def read(blob: bytes, largest: int = ber.LARGEST) -> Signed:
    """
    Read a SignedData, DER or BER, without verifying it.

    :param largest: bytes of BER that are taken.
    :raises BadSignature: it is not one.
    """
    try:
        return _read(ber.to_der(blob, largest) if ber.is_streamed(blob) else blob)
    except NotDer as error:
        raise BadSignature("not a CMS SignedData") from error


def _read(blob: bytes) -> Signed:
    message = structures.decode(structures.SignedMessage, blob)
    if message.content_type != structures.SIGNED_DATA:
        raise NotDer("another content type")
    body = message.content
    found = body.certificates or []
    if len(found) > _MOST_CERTIFICATES:
        raise NotDer("too many certificates")
    signers = body.signers.as_list()
    return Signed(
        body.encapsulated.content_type,
        body.encapsulated.content,
        tuple(structures.encode(each) for each in found if each.tag_bytes == _CERTIFICATE),
        # More than one is refused anyway.
        tuple(_read_signer(each) for each in signers[:2]),
    )


def _read_signer(info: structures.SignerInfo) -> Signer:
    name = info.signer.value
    sent = info.signed_attributes
    return Signer(
        name=name if isinstance(name, IssuerAndSerial) else None,
        key_identifier=name if isinstance(name, bytes) else b"",
        digest=structures.algorithm_oid(info.digest),
        algorithm=structures.algorithm_oid(info.algorithm),
        # They are sent as [0] but signed as a SET (RFC 5652, section 5.4).
        signed_attributes=b"" if sent is None else structures.set_as_sent(sent),
        attributes=_read_attributes(sent or []),
        signature=info.signature,
    )


def _read_attributes(sent: list[TLV]) -> dict[ObjectIdentifier, list[TLV]]:
    attributes: dict[ObjectIdentifier, list[TLV]] = {}
    for each in sent:
        attribute = structures.parse(structures.Attribute, each)
        if attribute.oid in attributes or len(attributes) == _MOST_ATTRIBUTES:
            raise NotDer("an attribute given twice, or too many")
        attributes[attribute.oid] = attribute.values.as_list()
    return attributes


# -- writing -------------------------------------------------------------------


def write(
    content: bytes | None,
    encoded: Iterable[bytes],
    signers: list[structures.SignerInfo],
    digests: list[ObjectIdentifier],
) -> bytes:
    """
    Put a SignedData over plain data together.

    :param content: None when it does not go along.
    :param encoded: certificates, DER.
    """
    body = structures.SignedData(
        version=1,
        digests=structures.tlv(asn1.SetOf([_algorithm(each) for each in digests])),
        encapsulated=structures.EncapsulatedContent(content_type=structures.DATA, content=content),
        certificates=[structures.decode(TLV, each) for each in encoded],
        revocations=None,
        signers=asn1.SetOf(signers),
    )
    return structures.encode(
        structures.SignedMessage(content_type=structures.SIGNED_DATA, content=body)
    )


def _algorithm(oid: ObjectIdentifier) -> structures.Algorithm:
    return structures.Algorithm(oid=oid, parameters=asn1.Null())


def certs_only(bag: Iterable[x509.Certificate]) -> bytes:
    """Write certificates as a SignedData without signer or content."""
    return write(None, [certificates.certificate_der(each) for each in bag], [], [])


def read_certs_only(blob: bytes) -> list[x509.Certificate]:
    """
    Read what :func:`certs_only` and others like it write.

    :raises BadCertificate: it is not one, or holds none.
    """
    found = [certificates.load_certificate(each) for each in read(blob).certificates]
    if not found:
        raise BadCertificate("there is no certificate in the message")
    return found
