"""How a device gets its identity: from SCEP, or out of the profile."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import AttributeOID, NameOID

from mdmd.errors import BadMessage, BadSCEP
from mdmd.mdm.profile import EnrollmentProfile, ScepPayload
from mdmd.pki import certificates, scep_client
from mdmd.sim.wire import PKI_TYPE, Identity, NoServer, Response, Wire

NewKey = Callable[[int], Awaitable[rsa.RSAPrivateKey]]  # of so many bits

_ATTRIBUTES = {
    "CN": NameOID.COMMON_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "C": NameOID.COUNTRY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
}
_DIGESTS = {16: "md5", 20: "sha1", 32: "sha256"}  # of a CAFingerprint, by its length


async def get_identity(
    wire: Wire,
    profile: EnrollmentProfile,
    words: Mapping[str, str],
    new_key: NewKey,
    old: Identity | None = None,
) -> Identity:
    """
    Get the identity that a profile asks for.

    :param words: values for such words as ``%SerialNumber%`` in the subject.
    :param old: the identity to renew.
    :raises NoServer: SCEP does not answer.
    :raises BadSCEP: it refused, or its answer can't be trusted.
    """
    if profile.scep is None:
        assert profile.pkcs12 is not None  # read_enrollment_profile has seen to it
        packed = profile.pkcs12
        key, certificate, _ = certificates.load_pkcs12(packed.data, packed.password.encode())
        return Identity(certificate, key)
    scep = profile.scep
    ca = scep_client.read_ca(_body(await wire.get(_operation(scep, "GetCACert"))))
    _check_fingerprint(scep, ca.certificate)
    key = await new_key(scep.key_size)
    csr = make_request(key, scep, words)
    if old is None:
        message, pending = scep_client.enrolment_request(ca, csr, key)
    else:
        message, pending = scep_client.renewal_request(ca, csr, old.certificate, old.key)
    answer = await wire.post(_operation(scep, "PKIOperation"), message, PKI_TYPE)
    return Identity(scep_client.read_reply(pending, _body(answer)), key)


def make_request(
    key: rsa.RSAPrivateKey, scep: ScepPayload, words: Mapping[str, str]
) -> x509.CertificateSigningRequest:
    """
    Make the certificate request of a SCEP payload.

    :raises BadMessage: its subject can't be one.
    """
    try:
        name = x509.Name(
            [x509.NameAttribute(_oid(kind), _fill(value, words)) for kind, value in scep.subject]
        )
    except ValueError as error:
        raise BadMessage("the subject of the SCEP payload can't be one") from error
    builder = x509.CertificateSigningRequestBuilder(name)
    if scep.challenge:
        challenge = scep.challenge.encode()
        builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, challenge)
    return builder.sign(key, hashes.SHA256())


def _oid(kind: str) -> x509.ObjectIdentifier:
    return _ATTRIBUTES.get(kind) or x509.ObjectIdentifier(kind)


def _fill(value: str, words: Mapping[str, str]) -> str:
    for word, text in words.items():
        value = value.replace(f"%{word}%", text)
    return value


def _operation(scep: ScepPayload, name: str) -> str:
    joint = "&" if "?" in scep.url else "?"
    message = "&message=" + scep.name if name == "GetCACert" and scep.name else ""
    return f"{scep.url}{joint}operation={name}{message}"


def _body(response: Response) -> bytes:
    if response.status != 200:
        raise NoServer(f"SCEP answers {response.text()}")
    return response.body


def _check_fingerprint(scep: ScepPayload, ca: x509.Certificate) -> None:
    expected = scep.ca_fingerprint
    if not expected:
        return
    kind = _DIGESTS.get(len(expected))
    der = certificates.certificate_der(ca)
    if kind is None or not hmac.compare_digest(
        hashlib.new(kind, der, usedforsecurity=False).digest(), expected
    ):
        raise BadSCEP("the CA is not the one that the profile names", "badMessageCheck")
