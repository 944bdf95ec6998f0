"""What a person types becomes the command that was meant, or a line that says why not."""

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import BadRequest
from mdmd.mdm import plist
from mdmd.mdm.catalogue.build import build_keys
from mdmd.mdm.catalogue.check import check_form
from mdmd.mdm.catalogue.entry import read_entry
from mdmd.mdm.catalogue.facts import facts_of, parse_version, platform_of
from mdmd.mdm.catalogue.load import entry
from mdmd.mdm.enrollment import EnrollmentType

FILES = {
    "wifi.mobileconfig": b"<profile>",
    "apps.txt": b"com.example.a\n\n com.example.b \n",
    "manifest.plist": plist.dumps({"items": [1, 2]}),
    "message.txt": b"Please call us\n",
}


def read(path: str) -> bytes:
    if path not in FILES:
        raise FileNotFoundError(2, "No such file or directory", path)
    return FILES[path]


def build(request_type: str, *words: str) -> dict[str, object]:
    return build_keys(entry(request_type), words, read)


class BuildTests(SynchronousTestCase):
    """key=value words."""

    def refused(self, text: str, request_type: str, *words: str) -> None:
        with self.assertRaises(BadRequest) as caught:
            build(request_type, *words)
        self.assertIn(text, str(caught.exception))

    def test_types_come_from_the_catalogue(self) -> None:
        """The same word is text for one key and a number or a boolean for another."""
        self.assertEqual(
            build("DeviceInformation", "Queries=OSVersion,SerialNumber"),
            {"Queries": ["OSVersion", "SerialNumber"]},
        )
        self.assertEqual(
            build("InstallApplication", "iTunesStoreID=361309726"),
            {"iTunesStoreID": 361309726},
        )
        self.assertEqual(build("DeviceLock", "PIN=012345"), {"PIN": "012345"})
        self.assertEqual(build("RestartDevice", "NotifyUser=On"), {"NotifyUser": True})

    def test_nested_keys_and_places(self) -> None:
        """Dots go down into dictionaries, numbers into arrays."""
        self.assertEqual(
            build(
                "Settings",
                "Settings.1.Item=Bluetooth",
                "Settings.0.Item=DeviceName",
                "Settings.0.DeviceName=Front, desk=1",
                "Settings.1.Enabled=no",
            ),
            {
                "Settings": [
                    {"Item": "DeviceName", "DeviceName": "Front, desk=1"},
                    {"Item": "Bluetooth", "Enabled": False},
                ]
            },
        )
        self.assertEqual(
            build(
                "InstallApplication",
                r"Configuration.com\.example\.port=8080",
                "Configuration.on=yes",
                "Configuration.pin=007",
            ),
            {"Configuration": {"com.example.port": 8080, "on": True, "pin": "007"}},
        )

    def test_files(self) -> None:
        """@FILE gives data, a dictionary from a plist, lines, or text."""
        self.assertEqual(
            build("InstallProfile", "Payload=@wifi.mobileconfig"), {"Payload": b"<profile>"}
        )
        self.assertEqual(
            build(
                "InstallEnterpriseApplication",
                "Manifest=@manifest.plist",
                "ManifestURLPinningCerts=@wifi.mobileconfig,base64:AAEC",
            ),
            {"Manifest": {"items": [1, 2]}, "ManifestURLPinningCerts": [b"<profile>", b"\0\1\2"]},
        )
        self.assertEqual(
            build("ManagedApplicationAttributes", "Identifiers=@apps.txt"),
            {"Identifiers": ["com.example.a", "com.example.b"]},
        )
        self.assertEqual(build("DeviceLock", "Message=@message.txt"), {"Message": "Please call us"})
        self.assertEqual(build("DeviceLock", "Message=@@home"), {"Message": "@home"})

    def test_dates(self) -> None:
        """Dates are UTC unless they say otherwise."""
        later = read_entry("Later", {"does": "", "platforms": {}, "keys": {"At": {"type": "date"}}})
        for typed, meant in {
            "2026-11-24": datetime(2026, 11, 24),
            "2026-11-24T20:00:00Z": datetime(2026, 11, 24, 20),
            "2026-11-24T20:00:00+01:00": datetime(2026, 11, 24, 19),
        }.items():
            self.assertEqual(build_keys(later, [f"At={typed}"], read), {"At": meant})
        with self.assertRaisesRegex(BadRequest, "At: takes a date such as .*, not 'tomorrow'"):
            build_keys(later, ["At=tomorrow"], read)

    def test_an_unknown_command_is_guessed(self) -> None:
        """With --force people send what the catalogue does not have yet."""
        self.assertEqual(
            build_keys(None, ["A.0=1", "A.1=x", "B=yes", "C=@message.txt", "D.e=1.5"], read),
            {"A": [1, "x"], "B": True, "C": b"Please call us\n", "D": {"e": "1.5"}},
        )

    def test_each_mistake_has_its_line(self) -> None:
        """All of them at once, by key, never a traceback."""
        self.refused("not of the form key=value", "DeviceLock", "PIN")
        self.refused("not of the form", "DeviceLock", "=1")
        self.refused("not of the form", "Settings", "Settings..Item=1")
        self.refused("PIN: given twice", "DeviceLock", "PIN=1", "PIN=2")
        self.refused("has a value already", "Settings", "Settings=1", "Settings.0.Item=x")
        self.refused("given twice", "Settings", "Settings.0.Item=x", "Settings=1")
        self.refused("takes an integer, not 'many'", "InstallApplication", "iTunesStoreID=many")
        self.refused("takes yes or no", "RestartDevice", "NotifyUser=perhaps")
        self.refused("which has no parts", "DeviceLock", "PIN.0=1")
        self.refused("none left out", "Settings", "Settings.1.Item=Bluetooth")
        self.refused("none left out", "Settings", "Settings.x.Item=Bluetooth")
        self.refused(
            "Payload: nothing.mobileconfig: No such file",
            "InstallProfile",
            "Payload=@nothing.mobileconfig",
        )
        self.refused("@FILE, or base64", "InstallProfile", "Payload=text")
        self.refused("not base64", "InstallProfile", "Payload=base64:*")
        self.refused("not a property list", "InstallEnterpriseApplication", "Manifest=@message.txt")
        self.refused("give its keys as", "InstallEnterpriseApplication", "Manifest=text")
        self.refused("more than 16 parts", "Settings", ".".join("a" * 17) + "=1")
        with self.assertRaises(BadRequest) as caught:
            build("InstallApplication", "iTunesStoreID=x", "Options.PurchaseMethod=y")
        self.assertEqual(len(str(caught.exception).splitlines()), 2)

    @given(
        st.lists(st.text(max_size=40), max_size=5),
        st.sampled_from(["Settings", "EraseDevice", "Nothing"]),
    )
    def test_any_words_build_or_are_refused(self, words: list[str], name: str) -> None:
        """Whatever is typed, there is a command or a BadRequest; and the check takes either."""
        try:
            keys = build_keys(entry(name), words, read)
        except BadRequest as error:
            self.assertTrue(str(error))
        else:
            check_form(name, keys)


class FactsTests(SynchronousTestCase):
    """What a device told is enough to know what it is."""

    def test_platform_by_product(self) -> None:
        """Apple's product names begin with what the device is."""
        for product, platform in {
            "iPhone14,2": "iOS", "iPad8,1": "iOS", "iPod9,1": "iOS", "MacBookPro18,3": "macOS",
            "Mac14,7": "macOS", "iMac21,1": "macOS", "VirtualMac2,1": "macOS",
            "AppleTV11,1": "tvOS", "RealityDevice14,1": "visionOS", "Watch6,1": "watchOS",
        }.items():  # fmt: skip
            self.assertEqual(platform_of({"ProductName": product}), platform)
        self.assertEqual(platform_of({"ModelName": "Apple TV"}), "tvOS")
        self.assertIsNone(platform_of({"ProductName": "Toaster1,1", "Model": 7}))
        self.assertIsNone(platform_of({}))

    def test_versions_compare_as_numbers(self) -> None:
        """10.10 is after 10.9, and 17 is 17.0."""
        self.assertLess(parse_version("10.9"), parse_version("10.10"))
        self.assertEqual(parse_version("17.0"), parse_version("17"))
        self.assertEqual(parse_version("17.4.1 (a)"), (17, 4, 1))
        self.assertEqual(parse_version("new"), ())

    def test_flags_as_they_came_or_as_text(self) -> None:
        """The store keeps text; a plist has booleans."""
        for yes in (True, "true", "1", "yes"):
            self.assertIs(facts_of(EnrollmentType.DEVICE, {"IsSupervised": yes}).supervised, True)
        for unknown in ({}, {"IsSupervised": "perhaps"}, {"IsSupervised": [1]}):
            self.assertIsNone(facts_of(EnrollmentType.DEVICE, unknown).supervised)
        self.assertIs(facts_of(EnrollmentType.SHARED_IPAD, {}).shared_ipad, True)
