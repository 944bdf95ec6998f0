"""Every planted fault in a profile is named with its place; good profiles have none."""

import base64
import copy
import io
import json
import plistlib
import re
import shutil
import subprocess
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mdmd.cli.judge import judge
from mdmd.cli.main import main
from mdmd.mdm.profile import EnrollmentProfile, ScepPayload, enrollment_profile
from mdmd.pki import certificates, cms
from mdmd.pki.authority import CertificateAuthority
from tests.certhelp import push_pair
from tests.daemonhelp import BIN

NOW = datetime.now(UTC)
TOPIC = "com.apple.mgmt.External.1"
CA = CertificateAuthority.create("Profile CA", kind="ec")
OLD_CA = CertificateAuthority.create("Old CA", "ec", 10, NOW - timedelta(days=100))
KEY = certificates.new_key()
SIGNER = CA.issue_identity(KEY.public_key(), "Signer", 30)
EXPIRED_SIGNER = OLD_CA.issue_identity(KEY.public_key(), "Old signer", 5, NOW - timedelta(days=99))
DER = certificates.certificate_der(CA.certificate)
P12 = pkcs12.serialize_key_and_certificates(
    b"id", KEY, SIGNER, None, serialization.BestAvailableEncryption(b"pw")
)
EXPIRED_P12 = pkcs12.serialize_key_and_certificates(
    b"id", KEY, EXPIRED_SIGNER, None, serialization.BestAvailableEncryption(b"pw")
)
UUIDS = [f"0A1B2C3D-0000-4000-8000-{n:012d}" for n in range(20)]

Dict = dict[str, Any]


def payload(number: int, kind: str, **keys: Any) -> Dict:
    return {
        "PayloadType": kind,
        "PayloadVersion": 1,
        "PayloadIdentifier": f"org.example.p.{number}",
        "PayloadUUID": UUIDS[number],
        "PayloadDisplayName": f"Payload {number}",
        **keys,
    }


def profile(*payloads: Dict, **keys: Any) -> Dict:
    return {**payload(0, "Configuration"), "PayloadContent": list(payloads), **keys}


MDM: Dict = plistlib.loads(
    enrollment_profile(
        EnrollmentProfile(
            identifier="org.example.mdm",
            organization="Example",
            server_url="https://mdm.example.org/connect",
            checkin_url="https://mdm.example.org/checkin",
            topic=TOPIC,
            scep=ScepPayload("https://mdm.example.org/scep", "x", ca_fingerprint=b"1" * 32),
            trust=[DER],
        )
    )
)
ROOT, SCEP, MDM_PAYLOAD = 0, 1, 2
WIFI = profile(
    payload(1, "com.apple.security.root", PayloadContent=DER),
    payload(2, "com.apple.security.pkcs12", PayloadContent=P12, Password="pw"),
    payload(
        3,
        "com.apple.wifi.managed",
        SSID_STR="Office",
        EncryptionType="WPA2",
        AutoJoin=True,
        PayloadCertificateUUID=UUIDS[2],
        EAPClientConfiguration={
            "AcceptEAPTypes": [13],
            "PayloadCertificateAnchorUUID": [UUIDS[1]],
            "TLSTrustedServerNames": ["radius.example.org"],
        },
    ),
)

GOOD: dict[str, Dict] = {
    "enrollment": MDM,
    "account driven": profile(
        payload(1, "com.apple.security.acme", DirectoryURL="https://acme.example.org",
                ClientIdentifier="x", KeySize=384, KeyType="ECSECPrimeRandom",
                HardwareBound=True, Subject=[[["CN", "x"]]]),
        payload(2, "com.apple.mdm", IdentityCertificateUUID=UUIDS[1], Topic=TOPIC,
                ServerURL="https://mdm.example.org", AssignedManagedAppleID="a@example.org",
                EnrollmentMode="BYOD"),
    ),
    "wifi": WIFI,
    "passcode": profile(
        payload(1, "com.apple.mobiledevice.passwordpolicy", forcePIN=True, minLength=8,
                maxInactivity=5, requireAlphanumeric=False),
    ),
    "restrictions": profile(
        payload(1, "com.apple.applicationaccess", allowCamera=False, ratingApps=600,
                blockedAppBundleIDs=["com.example.game"]),
        HasRemovalPasscode=True,
    ),
    "privacy": profile(
        payload(1, "com.apple.TCC.configuration-profile-policy", Services={
            "SystemPolicyAllFiles": [{
                "Identifier": "com.example.agent", "IdentifierType": "bundleID",
                "CodeRequirement": "anchor apple generic", "Authorization": "Allow"}]}),
        PayloadScope="System",
    ),
    "vpn": profile(
        payload(1, "com.apple.vpn.managed", VPNType="IKEv2", UserDefinedName="Office",
                IKEv2={"RemoteAddress": "vpn.example.org", "LocalIdentifier": "me",
                       "RemoteIdentifier": "vpn.example.org",
                       "AuthenticationMethod": "SharedSecret", "SharedSecret": "s"}),
    ),
    "home screen": profile(
        payload(1, "com.apple.homescreenlayout", Pages=[[
            {"Type": "App", "BundleID": "com.apple.mobilesafari"},
            {"Type": "Folder", "DisplayName": "Work", "Pages": [[
                {"Type": "WebClip", "URL": "http://example.org"}]]}]]),
        payload(2, "com.apple.webClip.managed", URL="http://example.org", Label="Example"),
    ),
    "preferences of others": profile(
        payload(1, "com.example.agent", anything={"goes": [1, "x"]}),
        payload(2, "com.apple.ManagedClient.preferences", PayloadContent={
            "com.example.app": {"Forced": [{"mcx_preference_settings": {"a": 1}}]}}),
    ),
    "encrypted": {key: value for key, value in profile(
        IsEncrypted=True, EncryptedPayloadContent=b"cms").items() if key != "PayloadContent"},
    "notifications and extensions": profile(
        payload(1, "com.apple.notificationsettings", NotificationSettings=[
            {"BundleIdentifier": "com.example.agent", "AlertType": 1}]),
        payload(2, "com.apple.system-extension-policy",
                AllowedSystemExtensions={"ABCDE12345": ["com.example.agent.ext"]}),
        payload(3, "com.apple.servicemanagement", Rules=[
            {"RuleType": "BundleIdentifier", "RuleValue": "com.example"}]),
        RemovalDate=datetime(2099, 1, 1),
    ),
}  # fmt: skip
GOOD["restrictions"]["PayloadContent"].append(
    payload(2, "com.apple.profileRemovalPassword", RemovalPassword="x")
)


@attrs.frozen
class Fault:
    """Something planted: a key of a profile, its new value (... takes it out), the word for it."""

    profile: str
    key: str  # a path such as PayloadContent.2.Topic
    value: Any
    code: str
    inside: str = ""  # where inside of the key it is found

    def plant(self) -> bytes:
        whole = copy.deepcopy(GOOD[self.profile])
        *steps, last = self.key.split(".")
        target: Any = whole
        for step in steps:
            target = target[int(step)] if step.isdigit() else target[step]
        if self.value is ...:
            del target[last]
        else:
            target[last] = self.value
        return plistlib.dumps(whole)

    @property
    def path(self) -> str:
        return re.sub(r"\.(\d+)", r"[\1]", self.key) + self.inside


def fault(key: str, value: Any, code: str, inside: str = "") -> Fault:
    """Plant into the enrollment profile."""
    return Fault("enrollment", key, value, code, inside)


R, S, M = (f"PayloadContent.{number}" for number in (ROOT, SCEP, MDM_PAYLOAD))
C = f"{S}.PayloadContent"
W = "PayloadContent.2"
ROOT_UUID = MDM["PayloadContent"][0]["PayloadUUID"]
SECOND = {**MDM["PayloadContent"][2], "PayloadUUID": UUIDS[3], "PayloadIdentifier": "other"}

FAULTS = [
    fault(f"{M}.IdentityCertificateUUID", UUIDS[9], "dangling"),
    fault(
        f"{M}.IdentityCertificateUUID", MDM["PayloadContent"][0]["PayloadUUID"], "not-an-identity"
    ),
    fault(f"{M}.IdentityCertificateUUID", ..., "missing"),
    fault(f"{M}.PayloadUUID", MDM["PayloadContent"][SCEP]["PayloadUUID"], "duplicate"),
    fault(f"{M}.PayloadUUID", MDM["PayloadUUID"].lower(), "duplicate"),
    fault(f"{M}.PayloadIdentifier", MDM["PayloadIdentifier"], "duplicate"),
    fault(f"{M}.Topic", ..., "missing"),
    fault(f"{M}.Topic", "com.example.app", "topic"),
    fault(f"{M}.Topic", "com.apple.mgmt.External.2", "topic"),
    fault(f"{M}.ServerURL", ..., "missing"),
    fault(f"{M}.ServerURL", "http://mdm.example.org/connect", "http"),
    fault(f"{M}.ServerURL", "mdm.example.org/connect", "url"),
    fault(f"{M}.ServerURL", "https://mdm.example.org:port/", "url"),
    fault(f"{M}.CheckInURL", "http://mdm.example.org", "http"),
    fault(f"{M}.AccessRights", 0, "range"),
    fault(f"{M}.AccessRights", 8192, "range"),
    fault(f"{M}.AccessRights", 2, "rights"),
    fault(f"{M}.AccessRights", 128 | 1, "rights"),
    fault(f"{M}.AccessRights", "8191", "wrong-type"),
    fault(f"{M}.AccessRights", ..., "missing"),
    fault(f"{M}.SignMessage", 1, "wrong-type"),
    fault(f"{M}.ServerCapabilities", "com.apple.mdm.token", "wrong-type"),
    fault(f"{M}.ServerURLPinningCertificateUUIDs", [UUIDS[9]], "dangling", "[0]"),
    fault(f"{M}.PayloadVersion", ..., "missing"),
    fault(f"{S}.PayloadType", ..., "missing"),
    fault(f"{S}.PayloadContent", ..., "missing"),
    fault(f"{C}.URL", ..., "missing"),
    fault(f"{C}.Subject", [["CN", "x"]], "value"),
    fault(f"{C}.CAFingerprint", b"123", "value"),
    fault(f"{C}.Keysize", "2048", "wrong-type"),
    fault(f"{R}.PayloadContent", certificates.certificate_der(OLD_CA.certificate), "certificate"),
    fault(f"{R}.PayloadContent", b"not a certificate", "certificate"),
    fault("PayloadContent", [*MDM["PayloadContent"], SECOND], "duplicate", "[3]"),
    fault("PayloadContent", {}, "wrong-type"),
    fault("PayloadType", "Profile", "not-a-profile"),
    fault("PayloadIdentifier", ..., "missing"),
    fault("PayloadUUID", "", "empty"),
    fault("PayloadVersion", 2, "value"),
    fault("PayloadExpirationDate", datetime(2020, 1, 1), "expired"),
    fault("DurationUntilRemoval", 0, "range"),
    fault("HasRemovalPasscode", True, "dangling"),
    Fault("wifi", f"{W}.PayloadCertificateUUID", UUIDS[9], "dangling"),
    Fault("wifi", f"{W}.EAPClientConfiguration.AcceptEAPTypes", ..., "missing"),
    Fault(
        "wifi",
        f"{W}.EAPClientConfiguration.PayloadCertificateAnchorUUID",
        [UUIDS[8]],
        "dangling",
        "[0]",
    ),
    Fault("wifi", f"{W}.AutoJoin", "yes", "wrong-type"),
    Fault("wifi", "PayloadContent.1.PayloadContent", EXPIRED_P12, "certificate"),
    Fault("wifi", "PayloadContent.1.PayloadContent", b"no p12", "certificate"),
    Fault("passcode", "PayloadContent.0.minLength", 99, "range"),
    Fault("vpn", "PayloadContent.0.VPNType", ..., "missing"),
    Fault(
        "privacy",
        "PayloadContent.0.Services.SystemPolicyAllFiles.0.CodeRequirement",
        ...,
        "missing",
    ),
    Fault("home screen", "PayloadContent.0.Pages.0.1.Pages.0.0.Type", ..., "missing"),
]

DOUBTS = [
    Fault("wifi", f"{W}.EncryptionType", "WPA9", "value"),
    Fault("wifi", f"{W}.AutoJoinn", True, "unknown-key"),
    Fault("wifi", f"{W}.PayloadType", "com.apple.wifi.manged", "unknown-payload"),
    Fault("wifi", "PayloadContent.1.Password", ..., "missing"),
    Fault("wifi", "PayloadUUID", "my profile", "not-a-uuid"),
    fault(f"{C}.URL", "http://mdm.example.org/scep", "http"),
    fault(f"{C}.Keysize", 1024, "weak"),
    fault("PayloadScope", "User", "value"),
    Fault("passcode", "PayloadContent", [], "empty"),
]
OTHER_TOPIC = fault(f"{M}.Topic", "com.apple.mgmt.External.2", "topic")


class CheckTests(SynchronousTestCase):
    """The judgement itself."""

    def found(self, blob: bytes) -> list[tuple[str, str, bool]]:
        _, found = judge(blob, NOW, [TOPIC])
        return [(each.path, each.code, each.warning) for each in found]

    def test_good(self) -> None:
        """Nothing is found in good profiles: XML and binary, signed and not."""
        self.assertGreaterEqual(len(GOOD), 10)
        for name, whole in GOOD.items():
            for fmt in (plistlib.FMT_XML, plistlib.FMT_BINARY):
                blob = plistlib.dumps(whole, fmt=fmt)
                self.assertEqual(judge(blob, NOW, [TOPIC]), ("", []), name)
                signed = cms.sign_attached(blob, SIGNER, KEY)
                self.assertEqual(judge(signed, NOW, [TOPIC]), ("CN=Signer", []), name)

    def test_faults(self) -> None:
        """Each planted fault is an error, named with its place, and the only one."""
        self.assertGreaterEqual(len(FAULTS), 20)
        for each in FAULTS:
            found = self.found(each.plant())
            self.assertIn((each.path, each.code, False), found)
            # What points at the thing that is gone is wrong as well.
            others = {
                code
                for path, code, warning in found
                if not warning and not path.startswith(each.path)
            }
            self.assertLessEqual(others, {"dangling", "not-an-identity"}, each)

    def test_doubts(self) -> None:
        """What a device may take, or what may be newer than our facts, is a warning."""
        for each in DOUBTS:
            self.assertEqual(self.found(each.plant()), [(each.path, each.code, True)])

    def test_topic_unknown(self) -> None:
        """Without a push certificate to compare with, any topic for MDM will do."""
        self.assertEqual(judge(OTHER_TOPIC.plant(), NOW, ()), ("", []))

    def test_signatures(self) -> None:
        """A broken signature is an error, and the profile inside is judged all the same."""
        bad = fault(f"{M}.AccessRights", 0, "range")
        signed = cms.sign_attached(bad.plant(), SIGNER, KEY)
        changed = signed.replace(b"mdm.example.org", b"mdm.example.com")
        self.assertEqual(
            self.found(changed), [("", "signature", False), (bad.path, "range", False)]
        )
        self.assertEqual(self.found(signed[:-4])[0], ("", "signature", False))
        good = plistlib.dumps(GOOD["wifi"])
        for signature, code in (
            (cms.sign_attached(good, EXPIRED_SIGNER, KEY), "signature-expired"),
            (cms.sign(good, SIGNER, KEY, digest=cms.SHA1), "signature-weak"),
        ):
            self.assertEqual(self.found(signature), [("", code, True)])

    def test_unreadable(self) -> None:
        """What is no property list, or one that no device reads, is said to be so."""
        for blob in (b"", b"text", b"<plist><array/></plist>", b"bplist00", b"{ a = b; }"):
            self.assertEqual(self.found(blob), [("", "unreadable", False)])

    @settings(max_examples=60)
    @given(st.data())
    def test_whatever_comes(self, data: st.DataObject) -> None:
        """Any value anywhere ends in findings, never in an exception."""
        leaf = (
            st.none()
            | st.integers(-(2**40), 2**40)
            | st.text("ab1:/. ", max_size=9)
            | st.binary(max_size=9)
        )
        value = st.recursive(
            leaf.filter(lambda each: each is not None),
            lambda inside: (
                st.lists(inside, max_size=3)
                | st.dictionaries(st.sampled_from(["URL", "Type", "x"]), inside, max_size=3)
            ),
            max_leaves=6,
        )
        whole = copy.deepcopy(GOOD[data.draw(st.sampled_from(sorted(GOOD)))])
        places = [whole, *whole.get("PayloadContent", [])]
        place = data.draw(st.sampled_from(places))
        place[data.draw(st.sampled_from(sorted(place)))] = data.draw(value)
        _, found = judge(plistlib.dumps(whole), NOW, [TOPIC])
        self.assertIsInstance(found, list)


class CommandTests(SynchronousTestCase):
    """``mdmctl profile``, for people and scripts."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="profile"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.good = self.folder / "good.mobileconfig"
        self.good.write_bytes(plistlib.dumps(GOOD["enrollment"]))
        self.bad = self.folder / "bad.mobileconfig"
        self.bad.write_bytes(OTHER_TOPIC.plant())
        self.certificate, self.key = self.folder / "cert.pem", self.folder / "key.pem"
        self.certificate.write_bytes(
            certificates.certificate_pem(SIGNER) + certificates.certificate_pem(CA.certificate)
        )
        self.key.write_bytes(certificates.key_pem(KEY))

    def mdmctl(self, *words: object) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = main(["profile", *map(str, words)])
        return status, out.getvalue(), err.getvalue()

    def test_check(self) -> None:
        """Exit status 0 and 1; the topic may be given, or the push certificate."""
        self.assertEqual(self.mdmctl("check", self.good)[0], 0)
        self.assertEqual(self.mdmctl("check", self.bad)[0], 0)
        status, out, _ = self.mdmctl("check", self.bad, "--topic", TOPIC)
        self.assertEqual(status, 1)
        self.assertIn(f"error: {OTHER_TOPIC.path} is com.apple.mgmt.External.2, but", out)
        push = self.folder / "push.pem"
        push.write_bytes(push_pair(TOPIC)[1])
        self.assertEqual(self.mdmctl("check", self.bad, "--push-certificate", push)[0], 1)
        self.assertEqual(self.mdmctl("check", self.good, "--push-certificate", push)[0], 0)

    def test_no_daemon(self) -> None:
        """Without the daemon that --state names all the rest is still checked."""
        words = [BIN / "mdmctl", "--state", self.folder, "profile", "check"]
        for path, status in ((self.good, 0), (self.bad, 0), (self.key, 1)):
            ran = subprocess.run([*words, path], capture_output=True, text=True, check=False)
            self.assertEqual(ran.returncode, status, ran)
            self.assertIn("no daemon answers", ran.stderr)

    def test_json(self) -> None:
        """Scripts get the same as data."""
        status, out, _ = self.mdmctl("check", self.bad, "--topic", TOPIC, "--json")
        said = json.loads(out)
        self.assertEqual((status, said["ok"], said["signer"]), (1, False, None))
        (finding,) = said["findings"]
        self.assertEqual((finding["severity"], finding["code"]), ("error", "topic"))
        self.assertEqual(finding["path"], OTHER_TOPIC.path)

    def test_strict(self) -> None:
        """Warnings count when asked to."""
        doubtful = self.folder / "doubtful"
        doubtful.write_bytes(Fault("wifi", "PayloadUUID", "x", "").plant())
        self.assertEqual(self.mdmctl("check", doubtful)[0], 0)
        self.assertEqual(self.mdmctl("check", "--strict", doubtful)[0], 1)

    def test_sign(self) -> None:
        """A signed profile checks, keeps its chain, and is not signed twice."""
        signed = self.folder / "signed.mobileconfig"
        words = ("--certificate", self.certificate, "--key", self.key)
        self.assertEqual(self.mdmctl("sign", self.good, *words, "-o", signed)[0], 0)
        content, signer = cms.verify_attached(signed.read_bytes())
        self.assertEqual((content, signer), (self.good.read_bytes(), SIGNER))
        status, out, _ = self.mdmctl("check", signed)
        self.assertEqual((status, "signed by CN=Signer" in out), (0, True))
        status, _, err = self.mdmctl("sign", signed, *words, "-o", signed)
        self.assertEqual((status, "signed already" in err), (1, True))
        _, out, _ = self.mdmctl("sign", self.good, *words, "-o", signed, "--json")
        self.assertEqual(json.loads(out), {"file": str(signed), "size": signed.stat().st_size})
        found = json.loads(self.mdmctl("sign", self.good, *words, "--json")[1])
        content, _ = cms.verify_attached(base64.b64decode(found["profile"]))
        self.assertEqual(content, self.good.read_bytes())

    def test_refusals(self) -> None:
        """A key of another certificate, no profile, no file: one line, exit status 1."""
        other, nothing = self.folder / "other.pem", self.folder / "nothing"
        other.write_bytes(certificates.key_pem(certificates.new_key()))
        for words in (
            ("sign", self.good, "--certificate", self.certificate, "--key", other),
            ("sign", self.key, "--certificate", self.certificate, "--key", self.key),
            ("check", nothing),
            ("check", self.good, "--push-certificate", self.certificate),
        ):
            status, _, err = self.mdmctl(*words)
            self.assertEqual((status, err.count("\n")), (1, 1), err)
        _, _, err = self.mdmctl("check", nothing)
        self.assertEqual(err, f"mdmctl: {nothing}: No such file or directory\n")
