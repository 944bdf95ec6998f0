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
from cryptography.hazmat import asn1
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.x509 import ObjectIdentifier

from mdmd.errors import BadCertificate
from mdmd.pki import ber, certificates, structures
from mdmd.pki.structures import NotDer, issuer_and_serial

_RSA = ObjectIdentifier("1.2.840.113549.1.1.1")
_MOST_RECIPIENTS = 8


@attrs.frozen
class Cipher:
    """A content cipher, in CBC mode."""

    name: str
    oid: ObjectIdentifier
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
AES128 = Cipher("aes128-cbc", ObjectIdentifier(f"{_AES}.2"), 16, 16)
AES192 = Cipher("aes192-cbc", ObjectIdentifier(f"{_AES}.22"), 24, 16)
AES256 = Cipher("aes256-cbc", ObjectIdentifier(f"{_AES}.42"), 32, 16)
DES3 = Cipher("des-ede3-cbc", ObjectIdentifier("1.2.840.113549.3.7"), 24, 8, legacy=True)
DES = Cipher("des-cbc", ObjectIdentifier("1.3.14.3.2.7"), 8, 8, legacy=True)
_CIPHERS = {each.oid: each for each in (AES128, AES192, AES256, DES3, DES)}


@attrs.frozen
class Envelope:
    """An EnvelopedData as read, still closed."""

    recipients: tuple[structures.Recipient, ...] = attrs.field(repr=False)
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
    recipient_info = structures.Recipient(
        version=0,
        name=issuer_and_serial(certificates.certificate_der(recipient)),
        algorithm=structures.Algorithm(oid=_RSA, parameters=asn1.Null()),
        encrypted_key=public_key.encrypt(key, padding.PKCS1v15()),
    )
    body = structures.EnvelopedData(
        version=0,
        originator=None,
        recipients=asn1.SetOf([recipient_info]),
        encrypted=structures.EncryptedContent(
            content_type=structures.DATA,
            algorithm=structures.AlgorithmWith(oid=cipher.oid, parameters=structures.tlv(vector)),
            whole=ciphertext + encryptor.finalize(),
            pieces=None,
        ),
        attributes=None,
    )
    return structures.encode(
        structures.EnvelopedMessage(content_type=structures.ENVELOPED_DATA, content=body)
    )


def read(blob: bytes) -> Envelope:
    """
    Read an EnvelopedData without opening it.

    :raises BadCertificate: it is not one.
    """
    try:
        return _read(ber.to_der(blob) if ber.is_streamed(blob) else blob)
    except NotDer as error:
        raise BadCertificate("not a CMS EnvelopedData") from error


def open_with(envelope: Envelope, certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> bytes:
    """
    Decrypt what :func:`read` returned, as the recipient that ``certificate`` names.

    :raises BadCertificate: it is for someone else, or it does not open. The text
        never says why: that would help to guess at the content.
    """
    named = structures.encode(issuer_and_serial(certificates.certificate_der(certificate)))
    encrypted = [
        each.encrypted_key for each in envelope.recipients if structures.encode(each.name) == named
    ]
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
    message = structures.decode(structures.EnvelopedMessage, blob)
    if message.content_type != structures.ENVELOPED_DATA:
        raise NotDer("another content type")
    recipients, encrypted = message.content.recipients.as_list(), message.content.encrypted
    if any(each.algorithm.oid != _RSA for each in recipients[:_MOST_RECIPIENTS]):
        raise NotDer("another key encryption than RSA")
    cipher = _CIPHERS.get(encrypted.algorithm.oid)
    vector = b"" if cipher is None else structures.parse(bytes, encrypted.algorithm.parameters)
    ciphertext = b"".join(encrypted.pieces or ()) if encrypted.whole is None else encrypted.whole
    return Envelope(tuple(recipients[:_MOST_RECIPIENTS]), cipher, vector, ciphertext)
