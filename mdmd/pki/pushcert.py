"""
A push certificate with its key, as it is read from a file or from the store.

Apple issues it for one topic, which is the UID in its subject.

Source: Apple, "Setting up push notifications for your MDM customers"; RFC 4519,
section 2.39 (uid).
"""

from datetime import UTC, datetime

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from mdmd.errors import BadCertificate
from mdmd.pki import certificates
from mdmd.pki.certificates import PrivateKey

UID = x509.ObjectIdentifier("0.9.2342.19200300.100.1.1")
TOPIC_PREFIX = "com.apple.mgmt"

_PEM_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_SEQUENCE = b"\x30"  # what DER begins with, PKCS#12 too


@attrs.frozen
class PushCertificate:
    """A certificate for one topic and the private key that fits it."""

    topic: str
    certificate: x509.Certificate
    key: PrivateKey = attrs.field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()  # whatever else the file held, to be shown with it

    @property
    def not_after(self) -> int:
        """Say when it ends, epoch seconds."""
        return int(self.certificate.not_valid_after_utc.timestamp())

    @property
    def certificate_pem(self) -> bytes:
        """Write the certificate and its chain as PEM."""
        return b"".join(map(certificates.certificate_pem, (self.certificate, *self.chain)))

    @property
    def key_pem(self) -> bytes:
        """Write the private key as unencrypted PEM: to be sealed at once."""
        return certificates.key_pem(self.key)


def read_push_certificate(
    data: bytes,
    key: bytes | None = None,
    passphrase: bytes | None = None,
    now: datetime | None = None,
) -> PushCertificate:
    """
    Read a push certificate and its key.

    :param data: PEM (the key may be in it, in any order), DER, or PKCS#12.
    :param key: the key, PEM or DER, if it is not in ``data``.
    :param now: when given, the certificate must be valid then.
    :raises BadCertificate: unreadable, no key or another certificate's, no
        topic in the subject, or not valid at ``now``.
    """
    held, certificate, chain = _parts(data, data if key is None else key, passphrase)
    if not certificates.matches(certificate, held):
        raise BadCertificate("the private key is not that of the push certificate")
    if now is not None:
        check_validity(certificate, now)
    return PushCertificate(topic_of(certificate), certificate, held, chain)


def read_key(data: bytes, passphrase: bytes | None = None) -> PrivateKey:
    """
    Read a private key, PEM or DER, encrypted or not.

    :raises BadCertificate: it can't be read, or the passphrase is wrong or missing.
    """
    if b"-----BEGIN" in data:
        return certificates.load_key(_untangle(data), passphrase)
    try:
        key = serialization.load_der_private_key(data, passphrase)
        return certificates.load_key(certificates.key_pem(key))  # type: ignore[arg-type]
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadCertificate(
            "the private key can't be read: damaged, or a wrong or missing passphrase"
        ) from error


def topic_of(certificate: x509.Certificate) -> str:
    """
    Read the topic, such as ``com.apple.mgmt.External.<UUID>``.

    :raises BadCertificate: the subject has no UID, or it is not an MDM topic.
    """
    for attribute in certificate.subject.get_attributes_for_oid(UID):
        topic = str(attribute.value)
        if topic.startswith(TOPIC_PREFIX) and topic.isascii() and topic.isprintable():
            return topic
    raise BadCertificate(
        f"not an MDM push certificate: its subject has no UID that starts with {TOPIC_PREFIX}"
    )


def describe(certificate: x509.Certificate) -> dict[str, str]:
    """
    Say what a push certificate is, for people.

    :raises BadCertificate: it is none.
    """
    return {
        "topic": topic_of(certificate),
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "valid from": _day(certificate.not_valid_before_utc),
        "valid until": _day(certificate.not_valid_after_utc),
    }


def check_validity(certificate: x509.Certificate, now: datetime) -> None:
    """
    Refuse a certificate that is not valid at ``now`` (aware).

    :raises BadCertificate: its validity is over, or has not begun.
    """
    if now > certificate.not_valid_after_utc:
        raise BadCertificate(
            f"the push certificate ended on {_day(certificate.not_valid_after_utc)}"
        )
    if now < certificate.not_valid_before_utc:
        raise BadCertificate(
            f"the push certificate is not valid before {_day(certificate.not_valid_before_utc)}"
        )


def _parts(
    data: bytes, key: bytes, passphrase: bytes | None
) -> tuple[PrivateKey, x509.Certificate, tuple[x509.Certificate, ...]]:
    if _PEM_CERTIFICATE in data:
        held = read_key(key, passphrase)
        return _leaf(held, certificates.load_chain(_untangle(data)))
    if key is not data:
        return read_key(key, passphrase), certificates.load_certificate(data), ()
    if b"-----BEGIN" in data or data[:1] != _SEQUENCE:
        raise BadCertificate("no PEM certificate found")
    return certificates.load_pkcs12(data, passphrase)


def _untangle(pem: bytes) -> bytes:
    """Part what was pasted together without a line's end between two parts."""
    return pem.replace(b"----------", b"-----\n-----")


def _leaf(
    key: PrivateKey, found: list[x509.Certificate]
) -> tuple[PrivateKey, x509.Certificate, tuple[x509.Certificate, ...]]:
    """Choose the key's certificate among them; the first, if the key is of none."""
    own = next((each for each in found if certificates.matches(each, key)), found[0])
    return key, own, tuple(each for each in found if each is not own)


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d")
