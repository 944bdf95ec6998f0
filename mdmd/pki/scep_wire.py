"""
What both sides of SCEP say to each other, beside the CMS around it.

Source: RFC 8894, section 3.
"""

from collections.abc import Mapping
from enum import StrEnum

import attrs

from mdmd.pki import der

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

_MESSAGE_TYPE = der.identifier("2.16.840.1.113733.1.9.2")
_STATUS = der.identifier("2.16.840.1.113733.1.9.3")
_FAIL_INFO = der.identifier("2.16.840.1.113733.1.9.4")
_SENDER_NONCE = der.identifier("2.16.840.1.113733.1.9.5")
_RECIPIENT_NONCE = der.identifier("2.16.840.1.113733.1.9.6")
_TRANSACTION = der.identifier("2.16.840.1.113733.1.9.7")

_TEXTS = (der.PRINTABLE, der.UTF8, der.IA5)


@attrs.frozen
class Header:
    """The signed attributes of a SCEP message; an empty field is one that is not there."""

    message_type: str = ""
    transaction: str = ""
    sender_nonce: bytes = b""
    recipient_nonce: bytes = b""
    status: str = ""
    fail_info: str = ""  # the number

    def attributes(self) -> dict[bytes, bytes]:
        """Write them as CMS wants them: DER by object identifier."""
        values = {
            _MESSAGE_TYPE: _text(self.message_type),
            _TRANSACTION: _text(self.transaction),
        }
        if self.status:
            values[_STATUS] = _text(self.status)
        if self.fail_info:
            values[_FAIL_INFO] = _text(self.fail_info)
        if self.sender_nonce:
            values[_SENDER_NONCE] = der.octets(self.sender_nonce)
        if self.recipient_nonce:
            values[_RECIPIENT_NONCE] = der.octets(self.recipient_nonce)
        return values


def read_header(attributes: Mapping[bytes, bytes]) -> Header:
    """Read a header; a field that is missing, malformed or too long stays empty."""
    return Header(
        message_type=_read_text(attributes, _MESSAGE_TYPE, 4),
        transaction=_read_text(attributes, _TRANSACTION, _LONGEST_TRANSACTION),
        sender_nonce=_read_nonce(attributes, _SENDER_NONCE),
        recipient_nonce=_read_nonce(attributes, _RECIPIENT_NONCE),
        status=_read_text(attributes, _STATUS, 4),
        fail_info=_read_text(attributes, _FAIL_INFO, 4),
    )


def _text(value: str) -> bytes:
    return der.element(der.PRINTABLE, value.encode("ascii"))


def _read_text(attributes: Mapping[bytes, bytes], oid: bytes, longest: int) -> str:
    reader = der.Reader(attributes.get(oid, b""))
    try:
        text = reader.value(reader.peek()) if reader.peek() in _TEXTS else b""
        reader.end()
    except der.DerError:
        return ""
    return text.decode() if len(text) <= longest and text.isascii() else ""


def _read_nonce(attributes: Mapping[bytes, bytes], oid: bytes) -> bytes:
    reader = der.Reader(attributes.get(oid, b""))
    try:
        nonce = reader.value(der.OCTETS)
        reader.end()
    except der.DerError:
        return b""
    return nonce if len(nonce) <= _LONGEST_NONCE else b""
