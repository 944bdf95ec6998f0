"""
The asking side of SCEP, without I/O: bytes to send out, bytes received in.

For simulated devices, and to look at the server with. The order is:
:func:`read_ca` on the answer to GetCACert, :func:`enrolment_request` or
:func:`renewal_request`, send the bytes as PKIOperation, :func:`read_reply`.

Source: RFC 8894.
"""

import hashlib
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mdmd.errors import BadCertificate, BadSCEP, BadSignature
from mdmd.pki import certificates, cms, envelope, scep_wire, signed_data
from mdmd.pki.certificates import PrivateKey
from mdmd.pki.scep_wire import Header, MessageType, Status


@attrs.frozen
class Ca:
    """Who issues, and whom to encrypt to: the same one, or a registration authority."""

    certificate: x509.Certificate
    recipient: x509.Certificate


@attrs.frozen
class Pending:
    """A request that waits for its reply."""

    ca: Ca
    transaction: str
    nonce: bytes
    signer: x509.Certificate
    signer_key: rsa.RSAPrivateKey = attrs.field(repr=False)
    public_key: certificates.PublicKey = attrs.field(repr=False)


def read_ca(body: bytes) -> Ca:
    """
    Read the answer to GetCACert: one certificate, or a bag with a registration authority.

    Whether to trust it is for the caller to say, by fingerprint.

    :raises BadCertificate: neither of both, or nobody in it can receive an envelope.
    """
    try:
        bag = signed_data.read_certs_only(body)
    except BadSignature:
        bag = [certificates.load_certificate(body)]
    issuers = [each for each in bag if certificates.is_issued_by(each, each)] or bag[-1:]
    others = [each for each in bag if each not in issuers]
    for candidate in (*others, *issuers):
        if isinstance(certificates.public_key(candidate), rsa.RSAPublicKey) and _encrypts(
            candidate
        ):
            return Ca(issuers[0], candidate)
    raise BadCertificate("no certificate of the CA has an RSA key that may encrypt")


def enrolment_request(
    ca: x509.Certificate | Ca,
    csr: x509.CertificateSigningRequest,
    key: PrivateKey,
    *,
    digest: cms.Digest = cms.SHA256,
    cipher: envelope.Cipher = envelope.AES256,
    random: Callable[[int], bytes] = os.urandom,
    now: datetime | None = None,
) -> tuple[bytes, Pending]:
    """
    Ask for a first certificate (PKCSReq).

    :param key: the request's own key, RSA: the reply is encrypted to it.
    :raises BadSCEP: the key is not RSA.
    """
    signer = _self_signed(csr.subject, key, now or datetime.now(UTC))
    return _request(MessageType.PKCS_REQ, ca, csr, signer, key, digest, cipher, random)


def renewal_request(
    ca: x509.Certificate | Ca,
    csr: x509.CertificateSigningRequest,
    certificate: x509.Certificate,
    key: PrivateKey,
    *,
    digest: cms.Digest = cms.SHA256,
    cipher: envelope.Cipher = envelope.AES256,
    random: Callable[[int], bytes] = os.urandom,
) -> tuple[bytes, Pending]:
    """
    Ask for a new certificate with an old one (RenewalReq).

    :param key: the key of ``certificate``, RSA; ``csr`` may be for a new one.
    :raises BadSCEP: the key is not RSA.
    """
    return _request(MessageType.RENEWAL_REQ, ca, csr, certificate, key, digest, cipher, random)


def read_reply(pending: Pending, body: bytes) -> x509.Certificate:
    """
    Read a CertRep and return the certificate.

    :raises BadSCEP: refused (``fail_info`` is the CA's), or not to be trusted.
    """
    try:
        return _read_reply(pending, body)
    except BadCertificate as error:
        raise BadSCEP(f"the reply does not hold: {error}", "badMessageCheck") from error


def _read_reply(pending: Pending, body: bytes) -> x509.Certificate:
    signed = signed_data.read(body)
    signer = cms.check(signed, signed.content or b"", legacy=True)
    if signer not in (pending.ca.certificate, pending.ca.recipient):
        raise BadSignature("signed by a stranger")
    if not signed.signer.signed_attributes:
        raise BadSignature("its attributes are missing")
    _check_header(pending, scep_wire.read_header(signed.signer.attributes))
    closed = envelope.read(signed.content or b"")
    bag = signed_data.read_certs_only(
        envelope.open_with(closed, pending.signer, pending.signer_key)
    )
    for each in bag:
        ours = certificates.public_key(each) == pending.public_key
        if ours and certificates.is_issued_by(each, pending.ca.certificate):
            return each
    raise BadCertificate("it holds no certificate for our key from this CA")


def _check_header(pending: Pending, header: Header) -> None:
    expected = (pending.transaction, pending.nonce)
    if header.status == Status.FAILURE and not header.transaction:
        expected = ("", header.recipient_nonce)  # it could not even read whom it answers
    found = (header.transaction, header.recipient_nonce)
    if header.message_type != MessageType.CERT_REP or found != expected:
        raise BadSignature("it answers another request")
    if header.status == Status.PENDING:
        raise BadSCEP("the CA wants to be asked again later")
    if header.status != Status.SUCCESS:
        word = scep_wire.FAIL_WORD.get(header.fail_info, "badRequest")
        raise BadSCEP(f"the CA refused: {word}", word)


def _request(
    kind: MessageType,
    ca: x509.Certificate | Ca,
    csr: x509.CertificateSigningRequest,
    signer: x509.Certificate,
    key: PrivateKey,
    digest: cms.Digest,
    cipher: envelope.Cipher,
    random: Callable[[int], bytes],
) -> tuple[bytes, Pending]:
    if not isinstance(key, rsa.RSAPrivateKey):
        raise BadSCEP("SCEP needs an RSA key: the reply is encrypted to it", "badAlg")
    both = ca if isinstance(ca, Ca) else Ca(ca, ca)
    header = Header(
        message_type=kind,
        transaction=_transaction(csr),
        sender_nonce=random(scep_wire.NONCE_SIZE),
    )
    content = envelope.seal_for(
        csr.public_bytes(serialization.Encoding.DER), both.recipient, cipher, random
    )
    message = cms.sign(content, signer, key, digest=digest, attributes=header.attributes())
    public_key = certificates.public_key(csr)
    return message, Pending(both, header.transaction, header.sender_nonce, signer, key, public_key)


def _transaction(csr: x509.CertificateSigningRequest) -> str:
    encoded = certificates.public_key(csr).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(encoded).hexdigest().upper()


def _self_signed(subject: x509.Name, key: PrivateKey, now: datetime) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )


def _encrypts(certificate: x509.Certificate) -> bool:
    usage = certificates.extension(certificate, x509.KeyUsage)
    return usage is None or usage.key_encipherment
