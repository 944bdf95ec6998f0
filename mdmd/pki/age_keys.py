"""
Keys that seal and open files: age's own (X25519), and RSA and EC keys as everybody has them.

RSA is what age does for SSH keys, so that ``age -d -i KEY.pem`` opens a file. For
EC keys age has nothing: theirs is its X25519 way with another curve.

Source: the age file format, https://age-encryption.org/v1; age's agessh for RSA.
"""

from collections.abc import Sequence
from hashlib import sha256

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from mdmd.errors import BadCertificate
from mdmd.pki.age_stanza import (
    MAGIC,
    ZERO_NONCE,
    CannotOpen,
    Opens,
    Random,
    Seals,
    body,
    decode,
    decrypt,
    encode,
    hkdf,
)
from mdmd.pki.bech32 import bech32_decode

_OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), MAGIC + b"/ssh-rsa")
_LEAST_RSA = 2048  # bits
_EC = b"mdmd-ecdh"
_CURVES: tuple[ec.EllipticCurve, ...] = (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())
_KINDS = "RSA (2048 bits up), EC (P-256, P-384, P-521) or X25519"


class LockedKey(BadCertificate):
    """A private key is itself encrypted; it takes a passphrase."""


@attrs.frozen
class X25519Recipient:
    """Somebody whose key opens the file: 32 bytes of an X25519 public key."""

    key: bytes

    def wrap(self, file_key: bytes, random: Random) -> bytes:
        """Write the stanza that lets the key's holder open a file."""
        ephemeral = X25519PrivateKey.from_private_bytes(random(32))
        share = ephemeral.public_key().public_bytes_raw()
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(self.key))
        wrap = hkdf(shared, share + self.key, MAGIC + b"/X25519")
        sealed = ChaCha20Poly1305(wrap).encrypt(ZERO_NONCE, file_key, None)
        return b"-> X25519 %b\n%b" % (encode(share), body(sealed))


@attrs.frozen
class X25519Identity:
    """The holder of an X25519 private key, 32 bytes."""

    key: bytes = attrs.field(repr=False)

    @property
    def recipient(self) -> X25519Recipient:
        """Whoever seals for this key needs that."""
        return X25519Recipient(self._private().public_key().public_bytes_raw())

    def unwrap(self, words: Sequence[bytes], sealed: bytes) -> bytes | None:
        """Open a stanza, None if it is not for this key."""
        if len(words) != 2 or words[0] != b"X25519":
            return None
        share = decode(words[1])
        if len(share) != 32:
            raise CannotOpen("the file's header is damaged")
        shared = self._private().exchange(X25519PublicKey.from_public_bytes(share))
        wrap = hkdf(shared, share + self.recipient.key, MAGIC + b"/X25519")
        return decrypt(wrap, sealed)

    def _private(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(self.key)


@attrs.frozen
class RSARecipient:
    """Somebody with an RSA key."""

    key: rsa.RSAPublicKey

    @property
    def tag(self) -> bytes:
        """Name the key, shortly; as age does."""
        numbers = self.key.public_numbers()
        parts = (b"ssh-rsa", _mpint(numbers.e), _mpint(numbers.n))
        wire = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return encode(sha256(wire).digest()[:4])

    def wrap(self, file_key: bytes, random: Random) -> bytes:
        """Write the stanza that lets the key's holder open a file."""
        return b"-> ssh-rsa %b\n%b" % (self.tag, body(self.key.encrypt(file_key, _OAEP)))


@attrs.frozen
class RSAIdentity:
    """The holder of an RSA private key."""

    key: rsa.RSAPrivateKey = attrs.field(repr=False)

    def unwrap(self, words: Sequence[bytes], sealed: bytes) -> bytes | None:
        """Open a stanza, None if it is not for this key."""
        if words != [b"ssh-rsa", RSARecipient(self.key.public_key()).tag]:
            return None
        try:
            return self.key.decrypt(sealed, _OAEP)
        except ValueError:
            return None


@attrs.frozen
class ECRecipient:
    """Somebody with a key on one of NIST's curves."""

    key: ec.EllipticCurvePublicKey

    def wrap(self, file_key: bytes, random: Random) -> bytes:
        """Write the stanza that lets the key's holder open a file."""
        ephemeral = ec.generate_private_key(self.key.curve)
        share = _point(ephemeral.public_key())
        wrap = _ec_key(ephemeral.exchange(ec.ECDH(), self.key), share, self.key)
        sealed = ChaCha20Poly1305(wrap).encrypt(ZERO_NONCE, file_key, None)
        curve = self.key.curve.name.encode()
        return b"-> %b %b %b\n%b" % (_EC, curve, encode(share), body(sealed))


@attrs.frozen
class ECIdentity:
    """The holder of a private key on one of NIST's curves."""

    key: ec.EllipticCurvePrivateKey = attrs.field(repr=False)

    def unwrap(self, words: Sequence[bytes], sealed: bytes) -> bytes | None:
        """Open a stanza, None if it is not for this key."""
        curve = self.key.curve
        if len(words) != 3 or words[:2] != [_EC, curve.name.encode()]:
            return None
        share = decode(words[2])
        try:
            other = ec.EllipticCurvePublicKey.from_encoded_point(curve, share)
        except ValueError:
            raise CannotOpen("the file's header is damaged") from None
        wrap = _ec_key(self.key.exchange(ec.ECDH(), other), share, self.key.public_key())
        return decrypt(wrap, sealed)


def _ec_key(shared: bytes, share: bytes, key: ec.EllipticCurvePublicKey) -> bytes:
    return hkdf(shared, share + _point(key), MAGIC + b"/" + _EC)


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    form = serialization.PublicFormat.CompressedPoint
    return key.public_bytes(serialization.Encoding.X962, form)


def _mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


# -- out of files -------------------------------------------------------------------------


def read_recipient(text: str) -> Seals:
    """
    Read ``age1…``, a PEM public key, or a PEM certificate, whose key counts.

    :raises BadCertificate: it is none of them, or of a kind that nothing is sealed for.
    """
    text = text.strip()
    if text.startswith("age1"):
        return X25519Recipient(_bech32(text, "age"))
    try:
        key = _public_key(text.encode("utf-8", "replace"))
    except ValueError:
        raise BadCertificate("expected age1…, or a PEM public key or certificate") from None
    match key:
        case X25519PublicKey():
            return X25519Recipient(key.public_bytes_raw())
        case rsa.RSAPublicKey() if key.key_size >= _LEAST_RSA:
            return RSARecipient(key)
        case ec.EllipticCurvePublicKey() if _is_usual(key.curve):
            return ECRecipient(key)
    raise BadCertificate(f"a key of this kind seals nothing; it is expected to be {_KINDS}")


def _public_key(pem: bytes) -> object:
    if b"-----BEGIN CERTIFICATE-----" in pem:
        return x509.load_pem_x509_certificate(pem).public_key()
    return serialization.load_pem_public_key(pem)


def read_identities(text: str, passphrase: str | None = None) -> list[Opens]:
    """
    Read the lines ``AGE-SECRET-KEY-1…`` of a file, or one PEM private key.

    :param passphrase: of a PEM key that is itself encrypted.
    :raises LockedKey: it is encrypted, and there is no passphrase, or it is another.
    :raises BadCertificate: there is no key, or one of a kind that opens nothing.
    """
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line.upper().startswith("AGE-SECRET-KEY-1")]
    if found:
        return [X25519Identity(_bech32(line.lower(), "age-secret-key-")) for line in found]
    match _private_key(text.encode("utf-8", "replace"), passphrase):
        case X25519PrivateKey() as key:
            return [X25519Identity(key.private_bytes_raw())]
        case rsa.RSAPrivateKey() as key:
            return [RSAIdentity(key)]
        case ec.EllipticCurvePrivateKey() as key if _is_usual(key.curve):
            return [ECIdentity(key)]
    raise BadCertificate(f"a key of this kind opens nothing; it is expected to be {_KINDS}")


def _private_key(pem: bytes, passphrase: str | None) -> object:
    if b"-----BEGIN " not in pem or b"PRIVATE KEY-----" not in pem:
        raise BadCertificate("expected AGE-SECRET-KEY-1…, or a PEM private key")
    locked = b"ENCRYPTED" in pem
    if locked and passphrase is None:
        raise LockedKey("the private key is itself encrypted")
    try:
        secret = passphrase.encode() if locked and passphrase is not None else None
        return serialization.load_pem_private_key(pem, secret)
    except (ValueError, TypeError):
        if locked:
            raise LockedKey("the private key is encrypted with another passphrase") from None
        raise BadCertificate("the PEM private key can't be read") from None


def _is_usual(curve: ec.EllipticCurve) -> bool:
    return curve.name in {each.name for each in _CURVES}


def _bech32(text: str, prefix: str) -> bytes:
    found = bech32_decode(text)
    if found is None or found[0] != prefix or len(found[1]) != 32:
        raise BadCertificate("an age key is mistyped")
    return found[1]
