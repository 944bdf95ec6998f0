"""
CMS EnvelopedData for one RSA recipient, as SCEP uses it.

A fresh content key is encrypted to the recipient with RSA (PKCS#1 v1.5) and the
content under it in CBC mode: SCEP clients know nothing newer. The envelope
proves nothing of its sender; the signature around it does.

Source: RFC 5652, section 6; RFC 3565 for AES.
"""

import os
from collections.abc import Callable

import attrs
from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from mdmd.errors import BadCertificate
from mdmd.pki import certificates, der
from mdmd.pki.signed_data import DATA, issuer_and_serial

_ENVELOPED_DATA = der.identifier("1.2.840.113549.1.7.3")
_RSA = der.identifier("1.2.840.113549.1.1.1")
_MOST_RECIPIENTS = 8


@attrs.frozen
class Cipher:
    """A content cipher, in CBC mode."""

    name: str
    oid: bytes
    key_size: int  # bytes
    block_size: int  # bytes
    legacy: bool = False

    def machine(self, key: bytes, vector: bytes) -> BlockCipher[modes.CBC]:
        """Return the cipher ready for one message."""
        if not self.legacy:
            return BlockCipher(algorithms.AES(key), modes.CBC(vector))
        # Single DES is triple DES with the same key three times.
        return BlockCipher(TripleDES(key * (24 // self.key_size)), modes.CBC(vector))


_AES = "2.16.840.1.101.3.4.1"
AES128 = Cipher("aes128-cbc", der.identifier(f"{_AES}.2"), 16, 16)
AES192 = Cipher("aes192-cbc", der.identifier(f"{_AES}.22"), 24, 16)
AES256 = Cipher("aes256-cbc", der.identifier(f"{_AES}.42"), 32, 16)
DES3 = Cipher("des-ede3-cbc", der.identifier("1.2.840.113549.3.7"), 24, 8, legacy=True)
DES = Cipher("des-cbc", der.identifier("1.3.14.3.2.7"), 8, 8, legacy=True)
_CIPHERS = {each.oid: each for each in (AES128, AES192, AES256, DES3, DES)}


@attrs.frozen
class Envelope:
    """An EnvelopedData as read, still closed."""

    keys: tuple[tuple[bytes, int, bytes], ...] = attrs.field(repr=False)  # issuer, serial, key
    cipher: Cipher | None  # None: one that we don't know
    vector: bytes = attrs.field(repr=False)
    ciphertext: bytes = attrs.field(repr=False)


def seal_for(
    content: bytes,
    recipient: x509.Certificate,
    cipher: Cipher = AES256,
    random: Callable[[int], bytes] = os.urandom,
) -> bytes:
    """
    Encrypt ``content`` to the recipient, DER.

    :raises BadCertificate: its key is not RSA.
    """
    public_key = certificates.public_key(recipient)
    if not isinstance(public_key, rsa.RSAPublicKey):
        raise BadCertificate("an envelope needs a recipient with an RSA key")
    key, vector = random(cipher.key_size), random(cipher.block_size)
    padder = PKCS7(cipher.block_size * 8).padder()
    encryptor = cipher.machine(key, vector).encryptor()
    ciphertext = encryptor.update(padder.update(content) + padder.finalize())
    issuer, serial = issuer_and_serial(certificates.certificate_der(recipient))
    body = der.sequence(
        der.integer(0),
        der.set_of(
            der.sequence(
                der.integer(0),
                der.sequence(issuer, der.integer(serial)),
                der.sequence(der.oid(_RSA), der.null()),
                der.octets(public_key.encrypt(key, padding.PKCS1v15())),
            )
        ),
        der.sequence(
            der.oid(DATA),
            der.sequence(der.oid(cipher.oid), der.octets(vector)),
            der.element(der.CONTEXT_0_PRIMITIVE, ciphertext + encryptor.finalize()),
        ),
    )
    return der.sequence(der.oid(_ENVELOPED_DATA), der.element(der.CONTEXT_0, body))


def read(blob: bytes) -> Envelope:
    """
    Read an EnvelopedData without opening it.

    :raises BadCertificate: it is not one.
    """
    try:
        if blob[1:2] == b"\x80":
            blob = der.from_ber(blob)
        return _read(blob)
    except der.DerError as error:
        raise BadCertificate("not a CMS EnvelopedData") from error


def open_with(envelope: Envelope, certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> bytes:
    """
    Decrypt what :func:`read` returned, as the recipient that ``certificate`` names.

    :raises BadCertificate: it is for someone else, or it does not open. The text
        never says why: that would help to guess at the content.
    """
    named = issuer_and_serial(certificates.certificate_der(certificate))
    encrypted = [each for *who, each in envelope.keys if tuple(who) == named]
    cipher = envelope.cipher
    if cipher is None or len(encrypted) != 1:
        raise BadCertificate("the envelope is for another recipient")
    try:
        content_key = key.decrypt(encrypted[0], padding.PKCS1v15())
        if len(content_key) != cipher.key_size:
            raise ValueError("length")
        decryptor = cipher.machine(content_key, envelope.vector).decryptor()
        padded = decryptor.update(envelope.ciphertext) + decryptor.finalize()
        unpadder = PKCS7(cipher.block_size * 8).unpadder()
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError as error:
        raise BadCertificate("the envelope does not open") from error


def _read(blob: bytes) -> Envelope:
    outside = der.Reader(blob)
    info = outside.open(der.SEQUENCE)
    outside.end()
    if info.value(der.OID) != _ENVELOPED_DATA:
        raise der.DerError("another content type")
    wrapped = info.open(der.CONTEXT_0)
    info.end()
    body = wrapped.open(der.SEQUENCE)
    wrapped.end()
    body.integer()  # version
    if body.peek() == der.CONTEXT_0:
        body.element()  # originator: certificates we don't need
    recipients = body.open(der.SET)
    keys: list[tuple[bytes, int, bytes]] = []
    while recipients.peek() != -1 and len(keys) < _MOST_RECIPIENTS:
        keys.append(_read_recipient(recipients.open(der.SEQUENCE)))
    encrypted = body.open(der.SEQUENCE)
    encrypted.value(der.OID)
    algorithm = encrypted.open(der.SEQUENCE)
    cipher = _CIPHERS.get(algorithm.value(der.OID))
    vector = algorithm.value(der.OCTETS) if cipher is not None else b""
    return Envelope(tuple(keys), cipher, vector, _read_ciphertext(encrypted))


def _read_recipient(reader: der.Reader) -> tuple[bytes, int, bytes]:
    reader.integer()  # version
    both = reader.open(der.SEQUENCE)
    issuer, serial = both.element(), both.integer()
    if reader.open(der.SEQUENCE).value(der.OID) != _RSA:
        raise der.DerError("another key encryption than RSA")
    key = reader.value(der.OCTETS)
    reader.end()
    return issuer, serial, key


def _read_ciphertext(reader: der.Reader) -> bytes:
    if reader.peek() == der.CONTEXT_0_PRIMITIVE:
        return reader.value(der.CONTEXT_0_PRIMITIVE)
    chunks, parts = reader.open(der.CONTEXT_0), []
    while chunks.peek() != -1:
        parts.append(chunks.value(der.OCTETS))
    return b"".join(parts)
