"""Automated enrollment: what a device says of itself counts only with Apple's signature."""

import json
import plistlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import BadMessage, BadSignature, NotHere
from mdmd.flow.automated import Automated
from mdmd.flow.enroll import Guest
from mdmd.mdm.machine_info import minimum, read_machine_info, software_update_required
from mdmd.pki import certificates, cms
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import chains_to
from mdmd.web.door import Access, Door
from mdmd.web.respond import Refusal

ROOT = CertificateAuthority.create("Fruit root", kind="ec")
STRANGER = CertificateAuthority.create("Fruit root", kind="ec")
KEY = certificates.new_key()
FACTORY = ROOT.issue_identity(KEY.public_key(), "factory", 30)
INFO: dict[str, Any] = {
    "UDID": "0A1B2C3D",
    "SERIAL": "C02X",
    "PRODUCT": "Mac15,6",
    "VERSION": "24B83",
    "OS_VERSION": "15.1",
    "MDM_CAN_REQUEST_SOFTWARE_UPDATE": True,
}


def signed(info: Any = None, **changes: Any) -> bytes:
    """A MachineInfo as a device sends it."""
    body = info if isinstance(info, bytes) else plistlib.dumps({**INFO, **changes})
    return cms.sign_attached(body, FACTORY, KEY)


GENUINE = signed()


class AutomatedCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.guests: list[Guest] = []
        self.told: list[tuple[str, dict[str, str]]] = []

    def automated(self, *minimums: str, roots: Any = (ROOT.certificate,)) -> Automated:
        async def profile(guest: Guest) -> bytes:
            self.guests.append(guest)
            return b"profile"

        async def tell(topic: str, facts: dict[str, str]) -> None:
            self.told.append((topic, facts))

        return Automated(roots, list(map(minimum, minimums)), profile, tell)

    def invite(self, body: bytes, *minimums: str, **more: Any) -> Any:
        done = Deferred.fromCoroutine(self.automated(*minimums, **more).invite(body))
        return self.successResultOf(done)

    def refused(self, body: bytes, kind: type[Exception], **more: Any) -> None:
        done = Deferred.fromCoroutine(self.automated(**more).invite(body))
        self.failureResultOf(done, kind)
        self.assertEqual((self.guests, self.told), ([], []))


class InvitingTests(AutomatedCase):
    def test_profile(self) -> None:
        """The profile is for this very device; serial and UDID are told."""
        self.assertEqual(self.invite(GENUINE).profile, b"profile")
        self.assertEqual(self.guests, [Guest("0A1B2C3D", label="C02X")])
        ((topic, facts),) = self.told
        self.assertEqual(topic, "mdmd.MachineInfo")
        self.assertEqual((facts["serial"], facts["udid"]), ("C02X", "0A1B2C3D"))

    def test_minimum(self) -> None:
        """Older ones update first, by numbers and not by letters; others are not asked."""
        for version, product, demanded in (
            ("14.4", "Mac15,6", "14.10"),
            ("14.10", "Mac15,6", ""),
            ("14.10.1", "Mac15,6", ""),
            ("15", "Mac15,6", ""),
            ("9.9", "MacBookPro18,1", "14.10"),
            ("17.4.1", "iPad13,1", "17.5"),
            ("17.5", "iPhone14,2", ""),
            ("9.0", "AppleTV14,1", ""),
            ("", "Mac15,6", ""),
        ):
            body = signed(OS_VERSION=version, PRODUCT=product)
            invited = self.invite(body, "macOS 14.10", "iOS 17.5")
            self.assertEqual(invited.update_to, demanded, (version, product))
            self.assertEqual(bool(invited.profile), not demanded)

    def test_answer(self) -> None:
        """The answer is what Apple's systems read."""
        said = json.loads(software_update_required("17.5"))
        self.assertEqual(said["code"], "com.apple.softwareupdate.required")
        self.assertEqual(said["details"], {"OSVersion": "17.5"})


class RefusingTests(AutomatedCase):
    def test_signatures(self) -> None:
        """A stranger's chain, a changed body, no signature at all: nothing is made or told."""
        stranger = STRANGER.issue_identity(KEY.public_key(), "factory", 30)
        body = plistlib.dumps(INFO)
        self.refused(cms.sign_attached(body, stranger, KEY, [STRANGER.certificate]), BadSignature)
        self.refused(GENUINE.replace(b"C02X", b"C02Y"), BadSignature)
        self.refused(cms.sign_detached(body, FACTORY, KEY), BadSignature)
        self.refused(body, BadSignature)
        self.refused(b"", BadSignature)

    def test_contents(self) -> None:
        """What is signed but no MachineInfo."""
        for info in (b"", b"text", plistlib.dumps({"x": 1}), plistlib.dumps({**INFO, "UDID": 7})):
            self.refused(signed(info), BadMessage)
        self.refused(signed(UDID="", SERIAL=""), BadMessage)
        self.refused(signed(SERIAL="x" * 300), BadMessage)

    def test_no_roots(self) -> None:
        """Without Apple's roots nobody enrolls like this."""
        self.refused(GENUINE, NotHere, roots=())

    def test_chain(self) -> None:
        """A device may not sign for another: only CAs are between it and the root."""
        other = certificates.new_key()
        fake = CertificateAuthority(FACTORY, KEY)  # a device that plays CA
        leaf = fake.issue_identity(other.public_key(), "victim", 1)
        roots = [ROOT.certificate]
        self.assertFalse(chains_to(leaf, [FACTORY], roots))
        self.refused(cms.sign_attached(plistlib.dumps(INFO), leaf, other, [FACTORY]), BadSignature)
        self.assertTrue(chains_to(FACTORY, [], roots))

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_mutated(self, data: st.DataObject) -> None:
        """Whatever happens to it on its way: refused as one of two things, or the same device."""
        self.setUp()
        body = bytearray(GENUINE)
        at = data.draw(st.integers(0, len(body) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "noise"])):
            case "flip":
                body[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del body[at : at + data.draw(st.integers(1, 60))]
            case "noise":
                body[at:at] = data.draw(st.binary(min_size=1, max_size=30))
        self.judge(bytes(body))

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=200), st.booleans())
    def test_noise(self, noise: bytes, inside: bool) -> None:
        """Noise, as it is or under a genuine signature."""
        self.setUp()
        self.judge(signed(noise) if inside else noise)

    def judge(self, body: bytes) -> None:
        outcome: list[Any] = []
        Deferred.fromCoroutine(self.automated().invite(body)).addBoth(outcome.append)
        if (failure := getattr(outcome[0], "value", None)) is not None:
            self.assertIsInstance(failure, BadSignature | BadMessage)
            self.assertEqual(self.guests, [])
        else:
            self.assertEqual(outcome[0].info, read_machine_info(plistlib.dumps(INFO)))


class DoorTests(AutomatedCase):
    """Who gets the profile by GET."""

    def door(self, access: Access, kinds: Any = ()) -> Door:
        class Enroll:
            async def profile(self) -> bytes:
                return b"profile"

            async def by_link(self, secret: str) -> bytes:
                if secret != "good":
                    raise NotHere("this link is unknown")
                return b"by link"

        url = "https://x/enroll"
        return Door(Enroll(), self.automated(), access, "sesame", url, kinds)

    def get(self, door: Door, link: str = "", authorization: bytes = b"") -> Any:
        outcome: list[Any] = []
        Deferred.fromCoroutine(door.get(link, authorization)).addBoth(outcome.append)
        return getattr(outcome[0], "value", outcome[0])

    def test_access(self) -> None:
        """open: everybody; link: with one; basic: with that or the password; off: nobody."""
        right, wrong = b"Basic eDpzZXNhbWU=", b"Basic eDpzZXNhbQ=="
        for access, plain, by_link, known in (
            (Access.OPEN, True, True, True),
            (Access.LINK, False, True, False),
            (Access.BASIC, False, True, True),
            (Access.OFF, False, False, False),
        ):
            door = self.door(access)
            answers = (
                self.get(door),
                self.get(door, "good"),
                self.get(door, "", right),
            )
            passed = tuple(getattr(each, "status", 0) == 200 for each in answers)
            self.assertEqual(passed, (plain, by_link, known), access)
            self.assertIsInstance(self.get(door, "bad"), NotHere)
            if access is Access.BASIC:
                for header in (b"", wrong, b"Basic ***", b"Bearer eDpzZXNhbWU="):
                    refusal = self.get(door, "", header)
                    self.assertIsInstance(refusal, Refusal)
                    self.assertEqual(refusal.status, 401)

    def test_never_401_for_a_device(self) -> None:
        """A device that shows a MachineInfo gets a profile or no, but is never asked to log in."""
        for access in Access:
            outcome: list[Any] = []
            Deferred.fromCoroutine(self.door(access).post(b"x")).addBoth(outcome.append)
            self.assertIsInstance(outcome[0].value, BadSignature | NotHere)

    def test_not_kept(self) -> None:
        """Nothing on the way may keep a profile."""
        answer = self.get(self.door(Access.OPEN))
        self.assertIn((b"Cache-Control", b"no-store"), answer.headers)

    def test_sign(self) -> None:
        """The way to the door is told unless there is none."""
        self.assertRaises(NotHere, self.door(Access.OPEN).well_known)
        self.assertRaises(NotHere, self.door(Access.OFF, ["mdm-byod"]).well_known)
        said = json.loads(self.door(Access.OPEN, ["mdm-byod"]).well_known().body)
        self.assertEqual(
            said, {"Servers": [{"Version": "mdm-byod", "BaseURL": "https://x/enroll"}]}
        )
