"""
CMS SignedData as it stands on the wire: read without verifying, write, bags of certificates.

:mod:`mdmd.pki.cms` signs and verifies.

Source: RFC 5652, section 5.
"""

from collections.abc import Iterable, Mapping

import attrs
from cryptography import x509

from mdmd.errors import BadCertificate, BadSignature
from mdmd.pki import certificates, der

DATA = der.identifier("1.2.840.113549.1.7.1")
SIGNED_DATA = der.identifier("1.2.840.113549.1.7.2")

# Bounds on what a stranger can make us read.
_MOST_CERTIFICATES = 16
_MOST_ATTRIBUTES = 32
_LARGEST_BER = 256 * 1024


@attrs.frozen
class Signer:
    """The one SignerInfo of a message, as read."""

    issuer: bytes  # DER of the name, b"" when the key identifier is used
    serial: int
    key_identifier: bytes  # b"" when issuer and serial are used
    digest: bytes  # object identifier
    algorithm: bytes  # object identifier
    signed_attributes: bytes  # as signed, b"" when there are none
    attributes: Mapping[bytes, bytes]  # by object identifier: the inside of the SET of values
    signature: bytes


@attrs.frozen
class Signed:
    """A SignedData as read: **nothing of it is verified** before :func:`mdmd.pki.cms.check`."""

    content_type: bytes
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


def read(blob: bytes) -> Signed:
    """
    Read a SignedData, DER or BER, without verifying it.

    :raises BadSignature: it is not one.
    """
    try:
        if blob[1:2] == b"\x80":
            if len(blob) > _LARGEST_BER:
                raise BadSignature("a streamed message of this size is not accepted")
            blob = der.from_ber(blob)
        return _read(blob)
    except der.DerError as error:
        raise BadSignature("not a CMS SignedData") from error


def issuer_and_serial(certificate: bytes) -> tuple[bytes, int]:
    """
    Take issuer (DER, as written) and serial number out of a certificate's DER.

    :raises DerError: it is no certificate.
    """
    body = der.Reader(certificate).open(der.SEQUENCE).open(der.SEQUENCE)
    if body.peek() == der.CONTEXT_0:
        body.element()  # version
    serial = body.integer()
    body.element()  # signature algorithm
    return body.element(), serial


def _read(blob: bytes) -> Signed:
    outside = der.Reader(blob)
    info = outside.open(der.SEQUENCE)
    outside.end()
    if info.value(der.OID) != SIGNED_DATA:
        raise der.DerError("another content type")
    wrapped = info.open(der.CONTEXT_0)
    info.end()
    body = wrapped.open(der.SEQUENCE)
    wrapped.end()
    body.integer()  # version: follows from what is inside
    body.open(der.SET)  # digest algorithms: the signer names its own
    content_type, content = _read_content(body.open(der.SEQUENCE))
    found: list[bytes] = []
    if body.peek() == der.CONTEXT_0:
        found = _read_certificates(body.open(der.CONTEXT_0))
    if body.peek() == der.CONTEXT_1:
        body.element()  # revocation lists
    infos, signers = body.open(der.SET), []
    body.end()
    while infos.peek() != -1:
        signers.append(_read_signer(infos.open(der.SEQUENCE)))
        if len(signers) > 1:
            break  # more than one is refused anyway
    return Signed(content_type, content, tuple(found), tuple(signers))


def _read_content(encapsulated: der.Reader) -> tuple[bytes, bytes | None]:
    content_type = encapsulated.value(der.OID)
    content = None
    if encapsulated.peek() != -1:
        wrapped = encapsulated.open(der.CONTEXT_0)
        content = wrapped.value(der.OCTETS)
        wrapped.end()
    encapsulated.end()
    return content_type, content


def _read_certificates(reader: der.Reader) -> list[bytes]:
    found: list[bytes] = []
    while reader.peek() != -1:
        if len(found) == _MOST_CERTIFICATES:
            raise der.DerError("too many certificates")
        is_x509 = reader.peek() == der.SEQUENCE
        encoded = reader.element()
        if is_x509:
            found.append(encoded)
    return found


def _read_signer(reader: der.Reader) -> Signer:
    reader.integer()  # version: follows from the identifier
    issuer, serial, key_identifier = b"", 0, b""
    if reader.peek() == der.SEQUENCE:
        both = reader.open(der.SEQUENCE)
        issuer, serial = both.element(), both.integer()
        both.end()
    else:
        key_identifier = reader.value(der.CONTEXT_0_PRIMITIVE)
    digest = reader.open(der.SEQUENCE).value(der.OID)
    signed_attributes, attributes = b"", {}
    if reader.peek() == der.CONTEXT_0:
        encoded = reader.element()
        # It is sent as [0] but signed as a SET (RFC 5652, section 5.4).
        signed_attributes = bytes((der.SET,)) + encoded[1:]
        attributes = _read_attributes(der.Reader(signed_attributes).open(der.SET))
    algorithm = reader.open(der.SEQUENCE).value(der.OID)
    signature = reader.value(der.OCTETS)
    if reader.peek() == der.CONTEXT_1:
        reader.element()  # unsigned attributes
    reader.end()
    return Signer(
        issuer,
        serial,
        key_identifier,
        digest,
        algorithm,
        signed_attributes,
        attributes,
        signature,
    )


def _read_attributes(reader: der.Reader) -> dict[bytes, bytes]:
    attributes: dict[bytes, bytes] = {}
    while reader.peek() != -1:
        attribute = reader.open(der.SEQUENCE)
        oid, values = attribute.value(der.OID), attribute.value(der.SET)
        attribute.end()
        if oid in attributes or len(attributes) == _MOST_ATTRIBUTES:
            raise der.DerError("an attribute given twice, or too many")
        attributes[oid] = values
    return attributes


# -- writing -------------------------------------------------------------------


def write(
    digests: bytes, content: bytes, encoded: Iterable[bytes], signers: Iterable[bytes]
) -> bytes:
    """
    Put a SignedData together.

    :param digests: the SET of digest algorithms, DER.
    :param content: the encapsulated content info, DER.
    :param encoded: certificates, DER.
    :param signers: SignerInfos, DER.
    """
    body = der.sequence(
        der.integer(1),
        digests,
        content,
        der.element(der.CONTEXT_0, *encoded),
        der.set_of(*signers),
    )
    return der.sequence(der.oid(SIGNED_DATA), der.element(der.CONTEXT_0, body))


def certs_only(bag: Iterable[x509.Certificate]) -> bytes:
    """Write certificates as a SignedData without signer or content."""
    encoded = [certificates.certificate_der(each) for each in bag]
    return write(der.set_of(), der.sequence(der.oid(DATA)), encoded, [])


def read_certs_only(blob: bytes) -> list[x509.Certificate]:
    """
    Read what :func:`certs_only` and others like it write.

    :raises BadCertificate: it is not one, or holds none.
    """
    found = [certificates.load_certificate(each) for each in read(blob).certificates]
    if not found:
        raise BadCertificate("there is no certificate in the message")
    return found
