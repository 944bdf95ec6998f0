"""The enrollment profile: what is written is what a device reads, and never half of it."""

import plistlib

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import BadMessage, BadRequest
from mdmd.mdm.profile import (
    EnrollmentProfile,
    Pkcs12Payload,
    ScepPayload,
    enrollment_profile,
    read_enrollment_profile,
)

SCEP = ScepPayload(
    "https://mdm.example.org/scep",
    challenge="s3cret",
    subject=[("O", "Example"), ("CN", "%SerialNumber%")],
    ca_fingerprint=b"\x01" * 32,
)
VALUES = EnrollmentProfile(
    identifier="org.example.mdm",
    organization="Example",
    server_url="https://mdm.example.org/connect",
    checkin_url="https://mdm.example.org/checkin",
    topic="com.apple.mgmt.External.1",
    scep=SCEP,
    trust=[b"root"],
    intermediates=[b"one", b"two"],
    description="Manages this device",
)


def payload(profile: bytes, kind: str) -> dict[str, object]:
    """Find the one payload of a type."""
    (found,) = [
        each for each in plistlib.loads(profile)["PayloadContent"] if each["PayloadType"] == kind
    ]
    return found


class WritingTests(SynchronousTestCase):
    """What a device gets."""

    def test_mdm_payload(self) -> None:
        """The MDM payload has all its keys, and points at the identity beside it."""
        written = enrollment_profile(VALUES)
        mdm = payload(written, "com.apple.mdm")
        identity = payload(written, "com.apple.security.scep")
        self.assertEqual(mdm["IdentityCertificateUUID"], identity["PayloadUUID"])
        self.assertEqual(
            {key: value for key, value in mdm.items() if not key.startswith("Payload")},
            {
                "IdentityCertificateUUID": identity["PayloadUUID"],
                "ServerURL": "https://mdm.example.org/connect",
                "CheckInURL": "https://mdm.example.org/checkin",
                "Topic": "com.apple.mgmt.External.1",
                "AccessRights": 8191,
                "SignMessage": False,
                "CheckOutWhenRemoved": True,
                "ServerCapabilities": [
                    "com.apple.mdm.per-user-connections",
                    "com.apple.mdm.bootstraptoken",
                ],
            },
        )

    def test_scep_payload(self) -> None:
        """The subject is a list of lists of pairs, as devices want it."""
        content = payload(enrollment_profile(VALUES), "com.apple.security.scep")["PayloadContent"]
        self.assertEqual(content["Subject"], [[["O", "Example"]], [["CN", "%SerialNumber%"]]])
        self.assertEqual(content["Challenge"], "s3cret")
        self.assertEqual(content["CAFingerprint"], b"\x01" * 32)

    def test_round_trip(self) -> None:
        """What is written reads as it was meant, with either kind of identity."""
        pkcs12 = attrs.evolve(VALUES, scep=None, pkcs12=Pkcs12Payload(b"p12", "pass"))
        for values in (VALUES, pkcs12):
            self.assertEqual(read_enrollment_profile(enrollment_profile(values)), values)

    def test_stable(self) -> None:
        """A newer profile replaces the installed one: identifiers and UUIDs stay, each its own."""
        old, new = (
            plistlib.loads(enrollment_profile(each))
            for each in (VALUES, attrs.evolve(VALUES, scep=None, pkcs12=Pkcs12Payload(b"", "p")))
        )

        def names(profile: dict[str, object]) -> list[tuple[object, object]]:
            return [
                (each["PayloadIdentifier"], each["PayloadUUID"])
                for each in (profile, *profile["PayloadContent"])
            ]

        self.assertEqual(names(old), names(new))
        self.assertEqual(len(set(names(old))), 6)

    def test_refused(self) -> None:
        """Half a profile is not written."""
        for change in (
            {"identifier": ""},
            {"topic": " "},
            {"server_url": ""},
            {"scep": None},
            {"pkcs12": Pkcs12Payload(b"", "")},
            {"access_rights": 0},
            {"access_rights": 8192},
            {"access_rights": 2},
            {"access_rights": 128},
        ):
            with self.assertRaises(BadRequest):
                enrollment_profile(attrs.evolve(VALUES, **change))

    def test_secrets_hidden(self) -> None:
        """Neither challenge nor key shows in a repr, which ends up in tracebacks."""
        shown = repr(VALUES) + repr(Pkcs12Payload(b"keybytes", "passw0rd"))
        for secret in ("s3cret", "keybytes", "passw0rd"):
            self.assertNotIn(secret, shown)


class ReadingTests(SynchronousTestCase):
    """What a device refuses."""

    def changed(self, **changes: object) -> bytes:
        """Write the profile with some keys of the MDM payload changed; None takes one out."""
        profile = plistlib.loads(enrollment_profile(VALUES))
        mdm = profile["PayloadContent"][-1] | changes
        profile["PayloadContent"][-1] = {k: v for k, v in mdm.items() if v is not None}
        return plistlib.dumps(profile)

    def test_defaults(self) -> None:
        """A check-in goes to ServerURL unless CheckInURL is there; capabilities may be missing."""
        read = read_enrollment_profile(self.changed(CheckInURL=None, ServerCapabilities=None))
        self.assertEqual(read.checkin_url, VALUES.server_url)
        self.assertEqual(read.server_capabilities, ())

    def test_refused(self) -> None:
        """A missing identity, a missing key, a wrong type, no profile at all."""
        for bad in (
            self.changed(IdentityCertificateUUID="00000000-0000-0000-0000-000000000000"),
            self.changed(IdentityCertificateUUID=None),
            self.changed(Topic=7),
            self.changed(ServerURL=None),
            self.changed(PayloadType="com.apple.other"),
            plistlib.dumps({"PayloadType": "Configuration"}),
            plistlib.dumps({"PayloadType": "Configuration", "PayloadContent": ["text"]}),
            plistlib.dumps({"PayloadType": "Other"}),
            b"no plist",
        ):
            with self.assertRaises(BadMessage):
                read_enrollment_profile(bad)
