"""A request is whose certificate says so, and nobody else's."""

import base64
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import quote

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from mdmd.errors import BadCertificate, BadSignature, NoIdentity
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import certificate_der, certificate_pem, fingerprint, new_key
from mdmd.pki.cms import SHA1, sign, sign_detached
from mdmd.web.identity import Identities, read_header

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
BODY = b"<plist>the body</plist>"
PROXY = IPv4Address("TCP", "10.1.2.3", 4711)
STRANGER = IPv4Address("TCP", "192.0.2.1", 4711)


def authority(name: str = "Device CA") -> CertificateAuthority:
    return make_authority(name)


@cache
def make_authority(name: str) -> CertificateAuthority:
    return CertificateAuthority.create(name, kind="ec", days=100, now=NOW - timedelta(days=1))


def device(name: str = "device", ca: str = "Device CA") -> tuple[x509.Certificate, Any]:
    return make_device(name, ca)


@cache
def make_device(name: str, ca: str) -> tuple[x509.Certificate, Any]:
    key = new_key()
    return authority(ca).issue_identity(key.public_key(), name, days=10, now=NOW), key


@attrs.define
class FakeRequest:
    """What one request shows."""

    tls: x509.Certificate | None = None
    headers: dict[str, bytes | list[bytes]] = attrs.field(factory=dict)
    address: object = STRANGER

    @property
    def requestHeaders(self) -> Headers:
        return Headers(
            {
                name: value if isinstance(value, list) else [value]
                for name, value in self.headers.items()
            }
        )

    def peer_certificate(self) -> bytes | None:
        return None if self.tls is None else certificate_der(self.tls)

    def getClientAddress(self) -> object:
        return self.address


def signed(body: bytes, name: str = "device", ca: str = "Device CA") -> bytes:
    certificate, key = device(name, ca)
    return base64.b64encode(sign_detached(body, certificate, key))


def rfc9440(certificate: x509.Certificate) -> bytes:
    return b":" + base64.b64encode(certificate.public_bytes(Encoding.DER)) + b":"


class IdentityTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = NOW.timestamp()

    def identities(self, *sources: str, **more: Any) -> Identities:
        return Identities([authority().certificate], lambda: self.now, sources, **more)

    def test_tls(self) -> None:
        """The certificate of the TLS connection, issued by the device CA."""
        certificate, _ = device()
        identity = self.identities("tls").identify(FakeRequest(certificate), BODY)
        self.assertEqual(identity.fingerprint, fingerprint(certificate))
        self.assertEqual(identity.serial, f"{certificate.serial_number:x}")
        self.assertEqual(identity.not_after, certificate.not_valid_after_utc.timestamp())

    def test_none(self) -> None:
        """Nothing shown is no identity, and neither is what is switched off."""
        request = FakeRequest(device()[0], {"Mdm-Signature": signed(BODY)})
        for sources in ((), ("header",)):
            with self.assertRaises(NoIdentity):
                self.identities(*sources).identify(request, BODY)
        with self.assertRaises(NoIdentity):
            self.identities("tls", "mdm-signature", "header").identify(FakeRequest(), BODY)

    def test_other_authority(self) -> None:
        """Another CA's certificate is refused, even if that CA has the same name."""
        certificate, _ = device(ca="Other CA")
        namesake = CertificateAuthority.create("Device CA", kind="ec", now=NOW)
        forged = namesake.issue_identity(new_key().public_key(), "device", days=10, now=NOW)
        for shown in (certificate, forged, authority().certificate):
            with self.assertRaises(NoIdentity):
                self.identities("tls").identify(FakeRequest(shown), BODY)

    def test_server_certificate(self) -> None:
        """The CA's TLS server certificates are no identities."""
        certificate, _ = authority().issue_server(["mdm.example.org"], days=10, now=NOW)
        with self.assertRaises(NoIdentity):
            self.identities("tls").identify(FakeRequest(certificate), BODY)

    def test_two_authorities(self) -> None:
        """While one CA replaces another, both count."""
        both = Identities(
            [authority("Other CA").certificate, authority().certificate], lambda: self.now
        )
        for ca in ("Device CA", "Other CA"):
            both.identify(FakeRequest(device(ca=ca)[0]), BODY)

    def test_expiry_is_always_looked_at(self) -> None:
        """A certificate that was good a moment ago is refused when its time is over."""
        certificate, _ = device()
        identities = self.identities("tls")
        identities.identify(FakeRequest(certificate), BODY)
        self.now += 11 * 86400
        with self.assertRaises(NoIdentity):
            identities.identify(FakeRequest(certificate), BODY)
        self.now -= 20 * 86400
        with self.assertRaises(NoIdentity):
            identities.identify(FakeRequest(certificate), BODY)

    def test_expired_by_option(self) -> None:
        """By option an expired one is let in, marked; whether it is known first or only now."""
        certificate, _ = device()
        late = NOW + timedelta(days=400)
        for first in (NOW, late):
            moment = [first.timestamp()]
            lenient = Identities(
                [authority().certificate], lambda moment=moment: moment[0], ["tls"], expired=True
            )
            identity = lenient.identify(FakeRequest(certificate), BODY)
            self.assertEqual(identity.expired, first is late)
            moment[0] = late.timestamp()
            self.assertTrue(lenient.identify(FakeRequest(certificate), BODY).expired)

    def test_expired_is_still_checked(self) -> None:
        """Expired and of another CA, or not valid yet, is no identity even then."""
        stranger, _ = device(ca="Other CA")
        late, early = NOW + timedelta(days=400), NOW - timedelta(days=1)
        for certificate, moment in ((stranger, late), (device()[0], early)):
            lenient = Identities([authority().certificate], moment.timestamp, ["tls"], expired=True)
            with self.assertRaises(NoIdentity):
                lenient.identify(FakeRequest(certificate), BODY)

    def test_memory_is_bounded(self) -> None:
        """Only so many certificates are remembered, the one used last longest."""
        identities = self.identities("tls", remembered=2)
        for name in ("a", "b", "a", "c"):
            identities.identify(FakeRequest(device(name)[0]), BODY)
        kept = {fingerprint(device(name)[0]) for name in ("a", "c")}
        self.assertEqual(set(identities._known), kept)

    def test_signature(self) -> None:
        """Mdm-Signature, over exactly this body."""
        request = FakeRequest(headers={"Mdm-Signature": signed(BODY)})
        identity = self.identities("mdm-signature").identify(request, BODY)
        self.assertEqual(identity.fingerprint, fingerprint(device()[0]))

    def test_bad_signature(self) -> None:
        """Another body, another CA, damaged, not base64, empty, twice."""
        cases: list[tuple[Any, type[Exception]]] = [
            (signed(BODY + b" "), BadSignature),
            (signed(BODY, ca="Other CA"), NoIdentity),
            (signed(BODY)[:-8], BadSignature),
            (b"%%%", BadSignature),
            (b"", BadSignature),
            ([signed(BODY), signed(BODY)], NoIdentity),
        ]
        for value, error in cases:
            with self.assertRaises(error):
                request = FakeRequest(headers={"Mdm-Signature": value})
                self.identities("mdm-signature").identify(request, BODY)

    def test_sha1(self) -> None:
        """A signature over SHA-1 counts by option only; a changed body never does."""
        certificate, key = device()
        old = sign(BODY, certificate, key, digest=SHA1, detached=True)
        request = FakeRequest(headers={"Mdm-Signature": base64.b64encode(old)})
        with self.assertRaises(BadSignature):
            self.identities("mdm-signature").identify(request, BODY)
        lenient = self.identities("mdm-signature", sha1=True)
        self.assertEqual(lenient.identify(request, BODY).fingerprint, fingerprint(certificate))
        with self.assertRaises(BadSignature):
            lenient.identify(request, BODY + b" ")

    def test_strongest_decides(self) -> None:
        """A TLS certificate decides over a signature, and is not made good by one."""
        both = self.identities("mdm-signature", "tls")
        headers: Any = {"Mdm-Signature": signed(BODY)}
        identity = both.identify(FakeRequest(device("other")[0], headers), BODY)
        self.assertEqual(identity.fingerprint, fingerprint(device("other")[0]))
        with self.assertRaises(NoIdentity):
            both.identify(FakeRequest(device(ca="Other CA")[0], headers), BODY)

    def test_header(self) -> None:
        """A listed proxy passes the certificate on, in either spelling."""
        identities = self.identities("header", proxies=["10.0.0.0/8", "fd00::/8", "unix"])
        certificate, _ = device()
        addresses = (
            PROXY,
            IPv6Address("TCP", "::ffff:10.1.2.3", 4711),
            IPv6Address("TCP", "fd00::1%eth0", 4711),
            UNIXAddress(b"/run/mdmd.sock"),
        )
        for value in (rfc9440(certificate), quote(certificate_pem(certificate)).encode()):
            for address in addresses:
                request = FakeRequest(headers={"Client-Cert": value}, address=address)
                self.assertEqual(
                    identities.identify(request, BODY).fingerprint, fingerprint(certificate)
                )

    def test_header_of_a_stranger(self) -> None:
        """Anybody can send a header; nobody but a proxy is believed."""
        identities = self.identities("header", proxies=["10.0.0.0/8"])
        headers: Any = {"Client-Cert": rfc9440(device()[0])}
        for address in (STRANGER, UNIXAddress(b"x"), IPv6Address("TCP", "::1", 1), object()):
            with self.assertRaises(NoIdentity):
                identities.identify(FakeRequest(headers=headers, address=address), BODY)

    def test_bad_header(self) -> None:
        """What a proxy passes on is checked like anything else."""
        identities = self.identities("header", proxies=["10.0.0.0/8"])
        good = rfc9440(device()[0])
        cases: list[tuple[Any, type[Exception]]] = [
            ([good, good], NoIdentity),
            (b"", NoIdentity),
            (rfc9440(device(ca="Other CA")[0]), NoIdentity),
            (good[:-1], BadCertificate),
            (b":", BadCertificate),
            (b":%%%:", BadCertificate),
            (b":AAAA:", BadCertificate),
            (b"-----BEGIN%20CERTIFICATE-----%0A", BadCertificate),
        ]
        for value, error in cases:
            with self.assertRaises(error):
                request = FakeRequest(headers={"Client-Cert": value}, address=PROXY)
                identities.identify(request, BODY)

    def test_header_by_another_name(self) -> None:
        """The header is the one that the configuration names."""
        identities = self.identities("header", proxies=["10.1.2.3"], header="X-Ssl-Cert")
        request = FakeRequest(headers={"X-Ssl-Cert": rfc9440(device()[0])}, address=PROXY)
        identities.identify(request, BODY)

    def test_mistakes_of_the_administrator(self) -> None:
        """An unknown source or proxy does not pass unnoticed."""
        with self.assertRaises(ValueError):
            self.identities("tsl")
        with self.assertRaises(ValueError):
            self.identities("header", proxies=["10.0.0.0/40"])

    def test_read_header(self) -> None:
        """PEM as nginx escapes it: with plus signs left alone."""
        certificate, _ = device()
        escaped = quote(certificate_pem(certificate), safe="+/=").encode()
        self.assertEqual(read_header(escaped), certificate)
