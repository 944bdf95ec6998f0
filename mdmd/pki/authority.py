"""
The device CA: it signs device identities and the server's own first certificate.

Source: RFC 5280 for the profile of each certificate.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from mdmd.errors import BadCertificate
from mdmd.pki import certificates
from mdmd.pki.certificates import PrivateKey, PublicKey

# Devices fresh out of the box have clocks that run behind.
_CLOCK_SKEW = timedelta(hours=1)

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*", re.IGNORECASE | re.ASCII)


@attrs.frozen
class CertificateAuthority:
    """
    A CA certificate and its key.

    ``random`` gives as many random bytes as asked for; serial numbers come from it.
    """

    certificate: x509.Certificate
    key: PrivateKey = attrs.field(repr=False)
    random: Callable[[int], bytes] = attrs.field(
        default=os.urandom, repr=False, eq=False, kw_only=True
    )

    @classmethod
    def create(
        cls,
        common_name: str,
        kind: str = "rsa",
        days: int = 3650,
        now: datetime | None = None,
    ) -> "CertificateAuthority":
        """
        Make a self-signed CA.

        :param kind: ``rsa`` (SCEP encrypts to the CA's own key) or ``ec`` (SCEP
            then needs a registration authority beside it).
        """
        key = certificates.new_key(kind)
        subject = certificates.name(common_name)
        usage = _key_usage(key_cert_sign=True, crl_sign=True, digital_signature=True)
        if kind == "rsa":
            usage = _key_usage(
                key_cert_sign=True, crl_sign=True, digital_signature=True, key_encipherment=True
            )
        start = _start(now)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(_serial(os.urandom))
            .not_valid_before(start)
            .not_valid_after(start + _CLOCK_SKEW + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(_authority_identifier(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(
        cls, certificate: bytes, key: bytes, passphrase: bytes | None = None
    ) -> "CertificateAuthority":
        """
        Read a CA from PEM.

        :raises BadCertificate: unreadable, not a pair, or not a CA certificate.
        """
        pair = cls(
            certificates.load_certificate(certificate), certificates.load_key(key, passphrase)
        )
        if not certificates.matches(pair.certificate, pair.key):
            raise BadCertificate("the CA's key does not belong to its certificate")
        if not certificates.is_ca(pair.certificate):
            raise BadCertificate("the CA's certificate does not say that it is a CA")
        return pair

    def issue_identity(
        self,
        public_key: PublicKey,
        subject: x509.Name | str,
        days: int,
        now: datetime | None = None,
    ) -> x509.Certificate:
        """
        Sign a device identity (clientAuth).

        :param subject: a text is taken as the common name.
        :param days: its life; it never outlives the CA.
        :raises BadCertificate: the subject can't be put into a certificate, or
            the CA is not valid now.
        """
        return self._issue(
            public_key, _as_name(subject), days, now, ExtendedKeyUsageOID.CLIENT_AUTH
        )

    def issue_server(
        self, names: Sequence[str], days: int, kind: str = "ec", now: datetime | None = None
    ) -> tuple[x509.Certificate, PrivateKey]:
        """
        Make a key and sign a TLS server certificate for it (serverAuth).

        :param names: DNS names and IP addresses, all of them alternative names;
            the first is the common name too.
        :param days: Apple's devices refuse more than 825 even from a CA that
            the user trusts.
        :raises BadCertificate: a name that can't be one.
        """
        if not names:
            raise BadCertificate("a server certificate needs at least one name")
        key = certificates.new_key(kind)
        alternatives = x509.SubjectAlternativeName([_general_name(each) for each in names])
        certificate = self._issue(
            key.public_key(),
            certificates.name(names[0][:64]),
            days,
            now,
            ExtendedKeyUsageOID.SERVER_AUTH,
            alternatives,
        )
        return certificate, key

    def issue_registration(
        self, days: int, now: datetime | None = None
    ) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
        """
        Make the registration authority that answers SCEP for an EC CA.

        Without extended key usage: it is no device and no TLS server.

        Source: RFC 8894, section 2.1.2.
        """
        key = certificates.new_key("rsa")
        assert isinstance(key, rsa.RSAPrivateKey)
        certificate = self._issue(key.public_key(), certificates.name("SCEP RA"), days, now, None)
        return certificate, key

    def _issue(
        self,
        public_key: PublicKey,
        subject: x509.Name,
        days: int,
        now: datetime | None,
        purpose: x509.ObjectIdentifier | None,
        alternatives: x509.SubjectAlternativeName | None = None,
    ) -> x509.Certificate:
        begin = self.certificate.not_valid_before_utc
        if _start(now) + _CLOCK_SKEW < begin:
            raise BadCertificate(f"the CA is valid from {begin:%Y-%m-%d %H:%M} on: set the clock")
        start = max(_start(now), begin)
        end = min(_start(now) + _CLOCK_SKEW + timedelta(days=days), self._end)
        if end <= start:
            raise BadCertificate("the CA's certificate has expired, or the life asked for is none")
        usage = _key_usage(
            digital_signature=True, key_encipherment=isinstance(public_key, rsa.RSAPublicKey)
        )
        try:
            builder = (
                x509.CertificateBuilder()
                .subject_name(subject)
                .issuer_name(self.certificate.subject)
                .public_key(public_key)
                .serial_number(_serial(self.random))
                .not_valid_before(start)
                .not_valid_after(end)
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(usage, critical=True)
                .add_extension(
                    x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False
                )
                .add_extension(self._own_identifier(), critical=False)
            )
            if purpose is not None:
                builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            if alternatives is not None:
                builder = builder.add_extension(alternatives, critical=False)
            return builder.sign(self.key, hashes.SHA256())
        except (ValueError, TypeError) as error:
            raise BadCertificate("the request can't be put into a certificate") from error

    @property
    def _end(self) -> datetime:
        return self.certificate.not_valid_after_utc

    def _own_identifier(self) -> x509.AuthorityKeyIdentifier:
        # A CA from elsewhere may name its key in its own way; ours must match it.
        named = certificates.extension(self.certificate, x509.SubjectKeyIdentifier)
        if named is None:
            return _authority_identifier(self.key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(named)


def _authority_identifier(key: PublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def _start(now: datetime | None) -> datetime:
    return (now or datetime.now(UTC)).replace(microsecond=0) - _CLOCK_SKEW


def _serial(random: Callable[[int], bytes]) -> int:
    return int.from_bytes(random(16), "big") or 1


def _as_name(subject: x509.Name | str) -> x509.Name:
    return certificates.name(subject) if isinstance(subject, str) else subject


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    if len(text) > 253 or not _DNS_NAME.fullmatch(text):
        raise BadCertificate(f"neither a DNS name (in ASCII) nor an IP address: {text!r}")
    return x509.DNSName(text)


def _key_usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
