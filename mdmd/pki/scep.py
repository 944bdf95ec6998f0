"""
The answering side of SCEP: a certificate request in, a certificate or a refusal out.

Nothing is stored and no door is opened here; :mod:`mdmd.flow.scep` does that. A
request is judged in this order:

1. the signature around it, and who signed;
2. the envelope, which only we can open;
3. the certificate request: its own signature, its key, its subject.

What is left is the challenge, which may be good for one use only, or for a renewal
the certificate that it renews: the caller decides, between :meth:`Responder.judge`
and :meth:`Responder.grant` or :meth:`Responder.refuse`.

Source: RFC 8894.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AttributeOID, NameOID

from mdmd.errors import BadCertificate, BadSCEP, BadSignature
from mdmd.pki import certificates, cms, envelope, scep_wire, signed_data
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import PublicKey
from mdmd.pki.scep_wire import Header, MessageType, Status

# A request is some 3 kB; one with long keys and chains stays well under this.
LARGEST_MESSAGE = 64 * 1024

_LONGEST_SUBJECT = 1024  # bytes; it is kept with each certificate
_BMP_STRING = 30
_CURVES = (ec.SECP256R1, ec.SECP384R1)


@attrs.frozen
class ScepAnswer:
    """What to send back, and what became of the request."""

    body: bytes = attrs.field(repr=False)  # CertRep, DER
    issued: x509.Certificate | None = None
    renewed: x509.Certificate | None = None  # the certificate that ``issued`` takes the place of
    refusal: str = ""  # for the log; the device gets the failInfo only
    fail_info: str = ""  # "" when issued
    transaction: str = ""


@attrs.frozen
class _Request:
    """A message that could be read; nothing of it is verified."""

    signed: signed_data.Signed
    header: Header


@attrs.frozen
class Judged:
    """A request that holds up; whether it may have a certificate is still open."""

    csr: x509.CertificateSigningRequest
    public_key: PublicKey
    challenge: str = attrs.field(repr=False)  # "" if there is none
    renewed: x509.Certificate | None  # the certificate to renew, None in a first request
    header: Header
    signer: x509.Certificate
    cipher: envelope.Cipher
    digest: cms.Digest

    @property
    def common_name(self) -> str:
        """Say whom the request is for, "" if its subject has no common name."""
        names = self.csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(names[-1].value) if names else ""


@attrs.frozen
class Responder:
    """
    Answer SCEP for one CA.

    :param days: the life of the identities it issues.
    :param legacy: take SHA-1, triple DES and single DES as well.
    :param expired: take a renewal that an expired certificate asks for, too.
    :param registration: certificate and RSA key of the registration authority,
        issued by the CA. Made anew when the CA's key is EC and none is given:
        several daemons behind one address have to share one.
    """

    authority: CertificateAuthority
    days: int
    legacy: bool = False
    expired: bool = attrs.field(default=False, kw_only=True)
    registration: tuple[x509.Certificate, rsa.RSAPrivateKey] | None = attrs.field(
        default=None, kw_only=True, repr=False
    )
    now: Callable[[], datetime] = attrs.field(
        default=lambda: datetime.now(UTC), kw_only=True, repr=False
    )
    random: Callable[[int], bytes] = attrs.field(default=os.urandom, kw_only=True, repr=False)
    _own: tuple[x509.Certificate, rsa.RSAPrivateKey] = attrs.field(init=False, repr=False)

    @_own.default
    def _choose_own(self) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
        if self.registration is not None:
            certificate, key = self.registration
            if not certificates.matches(certificate, key):
                raise BadCertificate("the registration authority's key is another one's")
            if not certificates.is_issued_by(certificate, self.authority.certificate):
                raise BadCertificate("the registration authority is not issued by the CA")
            return certificate, key
        if isinstance(self.authority.key, rsa.RSAPrivateKey):
            return self.authority.certificate, self.authority.key
        return self.authority.issue_registration(days=3650, now=self.now())

    def capabilities(self) -> bytes:
        """Answer GetCACaps, text/plain."""
        words = ["AES", "POSTPKIOperation", "Renewal", "SCEPStandard", "SHA-256", "SHA-512"]
        if self.legacy:
            words += ["DES3", "SHA-1"]
        return "".join(f"{word}\n" for word in words).encode()

    def ca_certificate(self) -> tuple[bytes, str]:
        """Answer GetCACert: body and content type."""
        own, root = self._own[0], self.authority.certificate
        if own == root:
            return certificates.certificate_der(root), scep_wire.CA_CERTIFICATE_TYPE
        return signed_data.certs_only([own, root]), scep_wire.CA_RA_CERTIFICATE_TYPE

    def judge(self, message: bytes) -> Judged | ScepAnswer:
        """Read a PKIOperation and judge it, but for its challenge; or refuse it."""
        header, digest = Header(), cms.SHA256
        try:
            request = _read(message)
            header = request.header
            digest = self._reply_digest(request)
            return self._accept(request)
        except BadSCEP as refusal:
            return self._failure(header, digest, refusal)

    def issue(self, judged: Judged) -> x509.Certificate:
        """
        Sign the certificate that is asked for.

        :raises BadSCEP: it can't be.
        """
        try:
            return self.authority.issue_identity(
                judged.public_key, judged.csr.subject, self.days, self.now()
            )
        except BadCertificate as error:
            raise BadSCEP(str(error)) from error

    def grant(self, judged: Judged, issued: x509.Certificate) -> ScepAnswer:
        """Answer with the certificate."""
        bag = signed_data.certs_only([issued, self.authority.certificate])
        content = envelope.seal_for(bag, judged.signer, judged.cipher, self.random)
        body = self._reply(judged.header, judged.digest, content, Status.SUCCESS)
        return ScepAnswer(body, issued, judged.renewed, transaction=judged.header.transaction)

    def refuse(self, judged: Judged, refusal: BadSCEP) -> ScepAnswer:
        """Answer that there is no certificate, and why."""
        return self._failure(judged.header, judged.digest, refusal)

    # -- judging ---------------------------------------------------------------

    def _accept(self, request: _Request) -> Judged:
        signer = self._verified_signer(request)
        self._check_header(request.header)
        renewal = self._is_renewal(request.header, signer)
        self._check_signer(signer, renewal)
        content, cipher = self._opened(request)
        csr = _read_csr(content)
        public_key = _checked_key(csr)
        challenge = _challenge(csr)
        if renewal:
            if csr.subject != signer.subject:
                raise BadSCEP("a renewal asks for another subject than its certificate has")
        elif public_key != certificates.public_key(signer):
            raise BadSCEP("the request is signed with another key than it asks for")
        return Judged(
            csr,
            public_key,
            challenge,
            signer if renewal else None,
            request.header,
            signer,
            cipher,
            self._reply_digest(request),
        )

    def _verified_signer(self, request: _Request) -> x509.Certificate:
        digest = cms.digest_of(request.signed)
        if digest is None or (digest.legacy and not self.legacy):
            raise BadSCEP("the digest algorithm is not accepted", "badAlg")
        if not request.signed.signer.signed_attributes or request.signed.content is None:
            raise BadSCEP("not a SCEP message: attributes or content missing", "badMessageCheck")
        try:
            return cms.check(request.signed, request.signed.content, legacy=self.legacy)
        except BadSignature as error:
            raise BadSCEP(str(error), "badMessageCheck") from error

    def _check_header(self, header: Header) -> None:
        kind = header.message_type
        if not header.transaction or not header.sender_nonce:
            raise BadSCEP("transactionID or senderNonce is missing or malformed")
        if kind in (MessageType.CERT_POLL, MessageType.GET_CERT):
            raise BadSCEP("no certificate is kept here, and none is pending", "badCertId")
        if kind not in (MessageType.PKCS_REQ, MessageType.RENEWAL_REQ):
            raise BadSCEP(f"messageType {kind!r} is not served")

    def _is_renewal(self, header: Header, signer: x509.Certificate) -> bool:
        # Before RFC 8894 a renewal was a PKCSReq signed with the old certificate; certmonger
        # still does it like that.
        return header.message_type == MessageType.RENEWAL_REQ or (
            certificates.is_issued_by(signer, self.authority.certificate)
        )

    def _check_signer(self, signer: x509.Certificate, renewal: bool) -> None:
        if not isinstance(certificates.public_key(signer), rsa.RSAPublicKey):
            raise BadSCEP("the answer can only be enveloped to an RSA key", "badAlg")
        if not renewal:
            if not certificates.is_issued_by(signer, signer):
                raise BadSCEP("a first request has to be self-signed", "badMessageCheck")
            return
        now, last = self.now(), signer.not_valid_after_utc
        moment = min(now, last) if self.expired else now
        if not certificates.is_issued_by(signer, self.authority.certificate):
            raise BadSCEP("a renewal has to be signed with a certificate of ours", "badCertId")
        if not certificates.in_validity(signer, moment):
            raise BadSCEP("the certificate to renew is not valid now", "badTime")
        if not certificates.chain_ok(signer, self.authority.certificate, moment):
            raise BadSCEP("the certificate to renew is no device identity", "badCertId")

    def _opened(self, request: _Request) -> tuple[bytes, envelope.Cipher]:
        try:
            closed = envelope.read(request.signed.content or b"")
            if closed.cipher is None or (closed.cipher.legacy and not self.legacy):
                raise BadSCEP("the cipher is not accepted", "badAlg")
            return envelope.open_with(closed, *self._own), closed.cipher
        except BadCertificate as error:
            raise BadSCEP(str(error), "badMessageCheck") from error

    # -- answering ---------------------------------------------------------------

    def _reply_digest(self, request: _Request) -> cms.Digest:
        # What the requester signs with, it can verify; never one that we refuse.
        digest = cms.digest_of(request.signed)
        return digest if digest and (self.legacy or not digest.legacy) else cms.SHA256

    def _failure(self, header: Header, digest: cms.Digest, refusal: BadSCEP) -> ScepAnswer:
        number = scep_wire.FAIL_INFO.get(refusal.fail_info, scep_wire.FAIL_INFO["badRequest"])
        # The RFC leaves the content out, but certmonger and PyScep can't read that; empty
        # content is what most servers send.
        body = self._reply(header, digest, b"", Status.FAILURE, number)
        return ScepAnswer(
            body,
            refusal=str(refusal),
            fail_info=scep_wire.FAIL_WORD[number],
            transaction=header.transaction,
        )

    def _reply(
        self,
        header: Header,
        digest: cms.Digest,
        content: bytes,
        status: Status,
        fail_info: str = "",
    ) -> bytes:
        reply = Header(
            message_type=MessageType.CERT_REP,
            transaction=header.transaction,
            sender_nonce=self.random(scep_wire.NONCE_SIZE),
            recipient_nonce=header.sender_nonce,
            status=status,
            fail_info=fail_info,
        )
        return cms.sign(content, *self._own, digest=digest, attributes=reply.attributes())


def _read(message: bytes) -> _Request:
    if len(message) > LARGEST_MESSAGE:
        raise BadSCEP("the message is too large", "badMessageCheck")
    try:
        signed = signed_data.read(message)
        return _Request(signed, scep_wire.read_header(signed.signer.attributes))
    except BadSignature as error:
        raise BadSCEP(str(error), "badMessageCheck") from error


def _read_csr(content: bytes) -> x509.CertificateSigningRequest:
    # The same failInfo as for an envelope that does not open: the difference
    # would let a stranger decrypt a recorded request guess by guess.
    try:
        csr = x509.load_der_x509_csr(content)
        subject = csr.subject
    except (ValueError, TypeError, x509.InvalidVersion) as error:
        raise BadSCEP("the certificate request can't be read", "badMessageCheck") from error
    if not list(subject):
        raise BadSCEP("the certificate request names no subject")
    if len(subject.public_bytes()) > _LONGEST_SUBJECT:
        raise BadSCEP("the certificate request's subject is too long")
    return csr


def _checked_key(csr: x509.CertificateSigningRequest) -> PublicKey:
    try:
        key = certificates.public_key(csr)
    except BadCertificate as error:
        raise BadSCEP(str(error), "badAlg") from error
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < 2048:
            raise BadSCEP(f"an RSA key of {key.key_size} bits is too short", "badAlg")
    elif not isinstance(key.curve, _CURVES):
        raise BadSCEP("the curve is neither P-256 nor P-384", "badAlg")
    try:
        holds = csr.is_signature_valid
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise BadSCEP("the request's signature algorithm is not known", "badAlg") from error
    if not holds:
        raise BadSCEP("the request's own signature does not hold", "badMessageCheck")
    return key


def _challenge(csr: x509.CertificateSigningRequest) -> str:
    try:
        found = csr.attributes.get_attribute_for_oid(AttributeOID.CHALLENGE_PASSWORD)
        return found.value.decode("utf-16-be" if found._type == _BMP_STRING else "utf-8")
    except x509.AttributeNotFound:
        return ""
    except (ValueError, TypeError) as error:
        raise BadSCEP("the request's attributes can't be read") from error
