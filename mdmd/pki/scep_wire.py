"""
What both sides of SCEP say to each other, beside the CMS around it.

Source: RFC 8894, section 3.
"""

from collections.abc import Mapping
from enum import StrEnum

import attrs
from cryptography.hazmat import asn1
from cryptography.x509 import ObjectIdentifier

from mdmd.pki import structures
from mdmd.pki.structures import TLV, NotDer

CA_CERTIFICATE_TYPE = "application/x-x509-ca-cert"
CA_RA_CERTIFICATE_TYPE = "application/x-x509-ca-ra-cert"
MESSAGE_TYPE = "application/x-pki-message"

NONCE_SIZE = 16
_LONGEST_NONCE = 64
_LONGEST_TRANSACTION = 256


class MessageType(StrEnum):
    """messageType: the decimal number as it is written."""

    CERT_REP = "3"
    RENEWAL_REQ = "17"
    PKCS_REQ = "19"
    CERT_POLL = "20"
    GET_CERT = "21"
    GET_CRL = "22"


class Status(StrEnum):
    """pkiStatus."""

    SUCCESS = "0"
    FAILURE = "2"
    PENDING = "3"


# failInfo by its word, as :class:`mdmd.errors.BadSCEP` carries it.
FAIL_INFO = {
    "badAlg": "0",
    "badMessageCheck": "1",
    "badRequest": "2",
    "badTime": "3",
    "badCertId": "4",
}
FAIL_WORD = {number: word for word, number in FAIL_INFO.items()}

_MESSAGE_TYPE = ObjectIdentifier("2.16.840.1.113733.1.9.2")
_STATUS = ObjectIdentifier("2.16.840.1.113733.1.9.3")
_FAIL_INFO = ObjectIdentifier("2.16.840.1.113733.1.9.4")
_SENDER_NONCE = ObjectIdentifier("2.16.840.1.113733.1.9.5")
_RECIPIENT_NONCE = ObjectIdentifier("2.16.840.1.113733.1.9.6")
_TRANSACTION = ObjectIdentifier("2.16.840.1.113733.1.9.7")

# The tags of PrintableString, UTF8String and IA5String.
_TEXTS = (b"\x13", b"\x0c", b"\x16")

Attributes = Mapping[ObjectIdentifier, list[TLV]]


@attrs.frozen
class Header:
    """The signed attributes of a SCEP message; an empty field is one that is not there."""

    message_type: str = ""
    transaction: str = ""
    sender_nonce: bytes = b""
    recipient_nonce: bytes = b""
    status: str = ""
    fail_info: str = ""  # the number

    def attributes(self) -> dict[ObjectIdentifier, object]:
        """Write them as CMS wants them: one value each, by object identifier."""
        values: dict[ObjectIdentifier, object] = {
            _MESSAGE_TYPE: _text(self.message_type),
            _TRANSACTION: _text(self.transaction),
        }
        if self.status:
            values[_STATUS] = _text(self.status)
        if self.fail_info:
            values[_FAIL_INFO] = _text(self.fail_info)
        if self.sender_nonce:
            values[_SENDER_NONCE] = self.sender_nonce
        if self.recipient_nonce:
            values[_RECIPIENT_NONCE] = self.recipient_nonce
        return values


def read_header(attributes: Attributes) -> Header:
    """Read a header; a field that is missing, malformed or too long stays empty."""
    return Header(
        message_type=_read_text(attributes, _MESSAGE_TYPE, 4),
        transaction=_read_text(attributes, _TRANSACTION, _LONGEST_TRANSACTION),
        sender_nonce=_read_nonce(attributes, _SENDER_NONCE),
        recipient_nonce=_read_nonce(attributes, _RECIPIENT_NONCE),
        status=_read_text(attributes, _STATUS, 4),
        fail_info=_read_text(attributes, _FAIL_INFO, 4),
    )


def _text(value: str) -> asn1.PrintableString | asn1.IA5String:
    try:
        return asn1.PrintableString(value)
    except ValueError:
        # A requester's own transactionID, given back as it came.
        return asn1.IA5String(value)


def _read_text(attributes: Attributes, oid: ObjectIdentifier, longest: int) -> str:
    values = attributes.get(oid, [])
    # Some clients write another kind, or characters that a PrintableString may not have.
    if len(values) != 1 or values[0].tag_bytes not in _TEXTS:
        return ""
    text = bytes(values[0].data)
    return text.decode() if len(text) <= longest and text.isascii() else ""


def _read_nonce(attributes: Attributes, oid: ObjectIdentifier) -> bytes:
    values = attributes.get(oid, [])
    try:
        nonce = structures.parse(bytes, values[0]) if len(values) == 1 else b""
    except NotDer:
        return b""
    return nonce if len(nonce) <= _LONGEST_NONCE else b""
