"""Every command that Apple documents is in the catalogue, whole, and held to what it says."""

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import NotHere
from mdmd.mdm.catalogue.build import build_keys
from mdmd.mdm.catalogue.check import check_fit, check_form
from mdmd.mdm.catalogue.describe import describe
from mdmd.mdm.catalogue.detail import detail, detail_of
from mdmd.mdm.catalogue.entry import PLATFORMS, RIGHTS, read_entry
from mdmd.mdm.catalogue.facts import Facts
from mdmd.mdm.catalogue.load import COMMANDS, entries, entry, names, need, search
from mdmd.mdm.command import build_command
from mdmd.mdm.enrollment import EnrollmentType
from mdmd.ops.manhole.secretive import sounds

Raw = dict[str, Any]
Path = tuple[str | int, ...]

RAW: dict[str, Raw] = {
    path.stem: json.loads(path.read_text()) for path in sorted(COMMANDS.glob("*.json"))
}
# A value of each type, and one of another type that nothing else takes for it.
SAMPLES: dict[str, tuple[object, object]] = {
    "string": ("text", 7),
    "integer": (7, "seven"),
    "real": (0.5, "half"),
    "boolean": (True, 1),
    "date": (datetime(2026, 11, 24), "2026-11-24"),
    "data": (b"data", "data"),
    "array": ([], "text"),
    "dictionary": ({}, "text"),
}


def sample(key: Raw, full: bool) -> object:
    """Make a value that ``key`` takes; with all its parts if ``full``."""
    if key["type"] == "any":
        return "anything"
    if key["type"] == "dictionary":
        if "kinds" in key:
            kind = next(iter(key["kinds"]))
            return {key["told_by"]: kind, **parts(key["kinds"][kind].get("keys", {}), full)}
        return parts(key.get("keys", {}), full)
    if key["type"] == "array":
        of = key.get("of", {"type": "string"})
        if "kinds" in of:
            return [
                {of["told_by"]: kind, **parts(each.get("keys", {}), full)}
                for kind, each in of["kinds"].items()
            ]
        if full and "values" in of:
            return list(of["values"])
        return [sample(of, full)]
    if "values" in key:
        return next(iter(key["values"]))
    if "pattern" in key:
        return "123456"
    return key.get("min", SAMPLES[key["type"]][0])


def parts(keys: Raw, full: bool) -> Raw:
    """Make a dict of the required keys, or of all."""
    return {
        ("of any name" if name == "*" else name): sample(key, full)
        for name, key in keys.items()
        if full or key.get("required")
    }


def command(raw: Raw, full: bool) -> Raw:
    """Make a command's keys from the facts."""
    keys = parts(raw["keys"], full)
    for group in raw.get("one_of", []):
        keys.setdefault(group[0], sample(raw["keys"][group[0]], full))
    return keys


def walk(keys: Raw, value: Raw, path: Path = ()) -> Iterator[tuple[Path, Raw]]:
    """Give each key that is in ``value``, at any depth, with its facts."""
    for name, key in keys.items():
        if name == "*" or name not in value:
            continue
        here = (*path, name)
        yield here, key
        yield from _within(key, value[name], here)


def _within(key: Raw, value: object, here: Path) -> Iterator[tuple[Path, Raw]]:
    if isinstance(value, dict):
        if "kinds" in key:
            kind = value[key["told_by"]]
            yield (*here, key["told_by"]), {"type": "string", "required": True, "values": [kind]}
            key = key["kinds"][kind]
        yield from walk(key.get("keys", {}), value, here)
    elif isinstance(value, list) and "of" in key:
        for place, each in enumerate(value):
            if not isinstance(each, dict):
                yield (*here, place), key["of"]
            yield from _within(key["of"], each, (*here, place))


def at(value: Any, path: Path) -> Any:
    """Follow a path down."""
    for step in path:
        value = value[step]
    return value


def lacks(name: str, raw: Raw) -> list[str]:
    """Say what a file of the catalogue still needs, a line each."""
    try:
        found = read_entry(name, raw)
    except ValueError as error:
        return [str(error)]
    missing = []
    if not 15 <= len(found.does) <= 160 or not found.does.endswith("."):
        missing.append("does: one sentence of 15 to 160 characters, with a full stop")
    if not found.platforms:
        missing.append("platforms: at least one")
    for platform, terms in found.platforms.items():
        if not terms.since:
            missing.append(f"platforms.{platform}.since: the version that brought it")
    if any(key.required for key in found.keys.values()) and not found.example:
        missing.append("example: words to type, as there are required keys")
    for path, key in _every_key(raw["keys"]):
        if key.get("right") and key["right"] not in RIGHTS:
            missing.append(f"{path}: no such right")
        if key["type"] == "array" and "of" not in key:
            missing.append(f"{path}: of")
        if "kinds" in key and not key.get("told_by"):
            missing.append(f"{path}: told_by")
    for secret in found.secrets:
        if secret.partition(".")[0] not in found.keys:
            missing.append(f"secrets: there is no {secret}")
    for group in found.one_of:
        missing += [f"one_of: there is no {key}" for key in group if key not in found.keys]
    if found.priority not in ("normal", "security"):
        missing.append("priority: normal or security")
    return missing


def _every_key(keys: Raw, path: str = "keys") -> Iterator[tuple[str, Raw]]:
    for name, key in keys.items():
        here = f"{path}.{name}"
        yield here, key
        inner = key.get("of", key)
        yield from _every_key(inner.get("keys", {}), here)
        for kind, each in inner.get("kinds", {}).items():
            yield from _every_key(each.get("keys", {}), f"{here}.{kind}")


class EntriesTests(SynchronousTestCase):
    """Each entry is whole; one that is not says what it lacks."""

    def test_nothing_is_lacking(self) -> None:
        """Whoever adds a command is told here what it still needs."""
        for name, raw in RAW.items():
            self.assertEqual(lacks(name, raw), [], name)

    def test_a_poor_entry_is_told_what_it_lacks(self) -> None:
        """The check above does find things."""
        poor: Raw = {
            "does": "Short",
            "platforms": {"iOS": {}},
            "secrets": ["PIN"],
            "keys": {"Names": {"type": "array", "required": True}},
        }
        self.assertEqual(len(lacks("Poor", poor)), 5)
        self.assertEqual(
            lacks("Poor", {**poor, "does": "It is ok as a text.", "new": 1})[0][:19],
            "Poor: unknown field",
        )
        for broken in ({"keys": {"A": {"type": "text"}}}, {"platforms": {"webOS": {}}}):
            self.assertEqual(len(lacks("Poor", {**poor, **broken})), 1)

    def test_every_documented_command_is_here(self) -> None:
        """66 commands of Apple's schema of autumn 2024, and what older devices were asked."""
        self.assertGreaterEqual(len(names()), 66)
        queries = need("DeviceInformation").keys["Queries"].of
        assert queries is not None
        assert queries.values is not None
        for old in ("Product", "UnlockToken", "DataRoaming", "VoiceRoaming", "JailbreakDetected"):
            self.assertIn(old, queries.values)
        self.assertIn("Queries", need("SecurityInfo").keys)

    def test_examples_can_be_typed(self) -> None:
        """The line that mdmctl shows makes a command in good form."""
        for each in entries():
            keys = build_keys(each, each.example, lambda _: b"content")
            self.assertEqual(check_form(each.name, keys).faults, (), each.name)
            self.assertIn(f"mdmctl send ID {each.name}", describe(each))

    def test_unknown_names_get_the_nearest_one(self) -> None:
        """A slip of the finger is answered with what was meant."""
        with self.assertRaisesRegex(NotHere, "did you mean DeviceInformation"):
            need("DeviceInformatoin")
        self.assertIsNone(entry("../entry"))
        self.assertEqual(
            [each.name for each in search("lost", "ios")][:2], ["DeviceLocation", "DisableLostMode"]
        )
        self.assertEqual(search("lost", "macOS"), [])

    def test_help_reads_no_entry(self) -> None:
        """The catalogue costs a program nothing until it asks."""
        program = (
            "import mdmd.mdm.catalogue.check, mdmd.mdm.catalogue.describe\n"
            "from mdmd.mdm.catalogue import load\n"
            "print(load._read.cache_info().currsize, load.names.cache_info().currsize)"
        )
        run = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        self.assertEqual(run.stdout.split(), ["0", "0"])


class DetailTests(SynchronousTestCase):
    """What the audit says of a command besides its RequestType."""

    def test_what_it_is_about(self) -> None:
        """The profile, the app, the user; numbers and truths too; of a URL where it leads."""
        for name, keys, told in (
            (
                "RemoveProfile",
                {"Identifier": "org.example.wifi"},
                {"Identifier": "org.example.wifi"},
            ),
            ("InstallApplication", {"iTunesStoreID": 1234567}, {"iTunesStoreID": "1234567"}),
            (
                "InstallApplication",
                {"ManifestURL": "https://me:pw@mdm.example.org/app/70k3n/x?key=s"},
                {"ManifestURL": "https://mdm.example.org/…"},
            ),
            ("InstallApplication", {"ManifestURL": "https://[::1"}, {}),
            (
                "DeleteUser",
                {"UserName": "grüße", "ForceDeletion": True, "DeleteAllUsers": False},
                {"UserName": "grüße", "ForceDeletion": "true", "DeleteAllUsers": "false"},
            ),
        ):
            self.assertEqual(detail(name, keys), told, name)
            self.assertEqual(detail_of(build_command(name, keys)), told, name)

    def test_no_payload_and_no_secret(self) -> None:
        """Neither texts, nor what is long or of another type, nor what is not in the catalogue."""
        for name, keys in (
            ("DeviceLock", {"PIN": "123456", "Message": "your code is 123456"}),
            ("EraseDevice", {"PIN": "123456"}),
            ("RequestMirroring", {"Password": "hunter2"}),
            ("ApplyRedemptionCode", {"RedemptionCode": "hunter2"}),
            ("RemoveProfile", {"Identifier": "x" * 101}),
            ("RemoveProfile", {"Identifier": "a\nb"}),
            ("RemoveProfile", {"Identifier": ["x"]}),
            ("RemoveProfile", {"Identifier": ""}),
            ("RemoveProfile", {"Secret": "hunter2"}),
            ("InstallProfile", {"Payload": b"hunter2"}),
            ("NoSuchCommand", {"Identifier": "x"}),
        ):
            self.assertEqual(detail(name, keys), {}, name)
            self.assertEqual(detail_of(build_command(name, keys)), {}, name)

    def test_what_sounds_like_a_secret_is_marked(self) -> None:
        """A key that is forgotten there would be told."""
        harmless = {("RotateFileVaultKey", "KeyType")}
        for each in entries():
            for name, key in each.keys.items():
                if key.type in ("boolean", "integer", "string") and name not in each.secrets:
                    self.assertTrue(
                        not (sounds(name) or name.endswith("Code"))
                        or (each.name, name) in harmless,
                        (each.name, name),
                    )


class FormTests(SynchronousTestCase):
    """What an entry says of its keys is what is checked."""

    def test_minimal_and_full_commands_are_in_form(self) -> None:
        """A command with just what is needed, and one with everything there is, both go."""
        for name, raw in RAW.items():
            for full in (False, True):
                keys = command(raw, full)
                self.assertEqual(check_form(name, keys).faults, (), f"{name} {full}")
                self.assertEqual(build_command(name, keys, "1").request_type, name)

    def test_each_required_key_is_missed(self) -> None:
        """Without it, the one fault names it; at every depth."""
        tried = 0
        for name, raw in RAW.items():
            full = command(raw, full=True)
            for path, key in walk(raw["keys"], full):
                if not key.get("required") or isinstance(path[-1], int):
                    continue
                keys = copy.deepcopy(full)
                del at(keys, path[:-1])[path[-1]]
                dotted = ".".join(map(str, path))
                self.assertEqual(
                    [
                        fault
                        for fault in check_form(name, keys).faults
                        if "one of these" not in fault
                    ],
                    [f"{dotted}: needed, but missing"],
                    name,
                )
                tried += 1
        self.assertGreater(tried, 75)

    def test_each_wrong_type_is_refused(self) -> None:
        """A value of another type is refused, naming the key; at every depth."""
        tried = 0
        for name, raw in RAW.items():
            full = command(raw, full=True)
            for path, key in walk(raw["keys"], full):
                if key["type"] == "any":
                    continue
                keys = copy.deepcopy(full)
                at(keys, path[:-1])[path[-1]] = SAMPLES[key["type"]][1]
                dotted = ".".join(map(str, path))
                faults = check_form(name, keys).faults
                self.assertEqual(len(faults), 1, f"{name} {dotted} {faults}")
                self.assertRegex(faults[0], rf"^{dotted}: takes .*, not ")
                tried += 1
        self.assertGreater(tried, 250)

    def test_values_out_of_range_are_refused(self) -> None:
        """Only the values that the facts list go, and only within the limits."""
        tried = 0
        for name, raw in RAW.items():
            full = command(raw, full=True)
            for path, key in walk(raw["keys"], full):
                if "values" not in key and "pattern" not in key:
                    continue
                keys = copy.deepcopy(full)
                at(keys, path[:-1])[path[-1]] = 99 if key["type"] == "integer" else "nonsense"
                faults = check_form(name, keys).faults
                self.assertEqual(
                    [each.partition(":")[0] for each in faults], [".".join(map(str, path))]
                )
                tried += 1
        self.assertGreater(tried, 100)
        self.assertTrue(
            check_form("RequestMirroring", {"DestinationName": "x", "ScanTime": 9}).faults
        )
        self.assertTrue(
            check_form(
                "DeviceInformation", {"Queries": [], "DeviceAttestationNonce": b"x" * 33}
            ).faults
        )

    def test_unknown_keys_get_the_nearest_one(self) -> None:
        """A misspelt key, at any depth, is answered with the right one."""
        faults = check_form(
            "Settings", {"Settings": [{"Item": "DeviceNam"}, {"Item": "Bluetooth", "Enable": True}]}
        ).faults
        self.assertEqual(
            faults,
            (
                "Settings.0.Item: there is no DeviceNam (did you mean DeviceName?)",
                "Settings.1.Enable: no such key (did you mean Enabled?)",
                "Settings.1.Enabled: needed, but missing",
            ),
        )
        unnamed = check_form("Settings", {"Settings": [{"Item": ""}]}).faults
        self.assertEqual(unnamed, ('Settings.0.Item: there is no ""',))
        self.assertIn(
            "no such key (did you mean Message?)",
            check_form("DeviceLock", {"message": "x"}).faults[0],
        )

    def test_a_pin_is_never_in_a_fault(self) -> None:
        """What is refused may be a secret all the same."""
        faults = check_form("DeviceLock", {"PIN": "hunter2"}).faults
        self.assertEqual(faults, ("PIN: not of the form [0-9]{6}",))


def best(platform: str, **change: Any) -> Facts:
    """A device that can do whatever its platform can."""
    able = Facts(EnrollmentType.DEVICE, platform, (99,), True, True, False, 8191)
    return attrs.evolve(able, **change)


class FitTests(SynchronousTestCase):
    """What a device can't take is known before it is queued."""

    def fits(self, name: str, facts: Facts, keys: Raw | None = None) -> tuple[str, ...]:
        return check_fit(name, command(RAW[name], False) if keys is None else keys, facts).faults

    def channel(self, name: str, platform: str) -> Facts:
        """The kind of enrollment by which the command goes, if there is one."""
        terms = need(name).platforms[platform]
        if platform == "macOS" and "device" not in terms.channels:
            return best(platform, type=EnrollmentType.USER)
        if platform == "iOS" and "device" not in terms.shared_ipad and terms.shared_ipad:
            return best(platform, type=EnrollmentType.SHARED_IPAD, shared_ipad=True)
        return best(platform, shared_ipad=terms.shared_ipad_only)

    def test_a_device_that_can_gets_it(self) -> None:
        """No fault where platform, version, supervision, rights and channel are right."""
        for name in RAW:
            minimal = {} if name in ("DeviceInformation", "Settings") else command(RAW[name], False)
            for platform, terms in need(name).platforms.items():
                if terms.removed:
                    continue
                facts = self.channel(name, platform)
                known = {
                    key: value
                    for key, value in minimal.items()
                    if platform in need(name).keys[key].platforms
                }
                self.assertEqual(self.fits(name, facts, known), (), f"{name} {platform}")

    def test_each_condition_is_held(self) -> None:
        """Each of them alone, turned around, is one fault that says so."""
        for name in RAW:
            terms = need(name).platforms
            for platform in PLATFORMS:
                if platform in terms:
                    self.conditions(name, platform)
                else:
                    faults = self.fits(name, best(platform), {})
                    self.assertEqual(faults, (f"{name}: not for {platform}",))

    def conditions(self, name: str, platform: str) -> None:
        """Turn each condition of one command on one platform around."""
        terms, able = need(name).platforms[platform], self.channel(name, platform)
        turned: list[tuple[bool, str, dict[str, Any]]] = [
            (True, f"needs {platform} {terms.since}", {"version": (0, 1)}),
            (terms.supervised, "supervision", {"supervised": False}),
            (terms.automated, "automated", {"automated": False}),
            (
                bool(terms.right),
                terms.right,
                {"access_rights": 8191 & ~RIGHTS.get(terms.right, 0)},
            ),
            (terms.shared_ipad_only, "only for Shared iPads", {"shared_ipad": False}),
            (
                platform == "iOS" and not terms.shared_ipad,
                "not for Shared iPads",
                {"shared_ipad": True},
            ),
            (
                not terms.user_enrollment and able.channel == "device",
                "User Enrollment",
                {"type": EnrollmentType.USER_ENROLLMENT_DEVICE},
            ),
        ]
        for applies, word, change in turned:
            if applies:
                faults = self.fits(name, attrs.evolve(able, **change), {})
                self.assertEqual(len(faults), 1, f"{name} {platform} {change} {faults}")
                self.assertIn(word, faults[0])

    def test_channels_are_held(self) -> None:
        """A command of the device does not go to a user, nor the other way round."""
        user = best("macOS", type=EnrollmentType.USER)
        self.assertEqual(
            self.fits("EraseDevice", user, {}), ("EraseDevice: not on the user channel",)
        )
        self.assertEqual(self.fits("ProfileList", user), ())
        self.assertEqual(
            self.fits("NSExtensionMappings", best("macOS"), {}),
            ("NSExtensionMappings: not on the device channel",),
        )

    def test_shared_ipads_have_what_is_of_a_user(self) -> None:
        """Accessibility and the user's push token are on the user channel, and only there."""
        device = best("iOS", shared_ipad=True)
        user = attrs.evolve(device, type=EnrollmentType.SHARED_IPAD)
        text_size = {"Settings": [{"Item": "AccessibilitySettings", "TextSize": 4}]}
        for name, keys in (
            ("DeviceInformation", {"Queries": ["PushToken"]}),
            ("DeviceInformation", {"Queries": ["AccessibilitySettings"]}),
            ("Settings", text_size),
        ):
            self.assertEqual(self.fits(name, user, keys), ())
            (fault,) = self.fits(name, device, keys)
            self.assertIn("not on the device channel", fault)

    def test_keys_and_values_have_conditions_of_their_own(self) -> None:
        """The fault names the key or the value that does not go."""
        phone = best("iOS", version=(16, 4))
        self.assertEqual(
            self.fits(
                "EraseDevice", phone, {"PIN": "123456", "ReturnToService": {"Enabled": True}}
            ),
            (
                "PIN: not for iOS",
                "ReturnToService: needs iOS 17.0 or later, this one has 16.4",
            ),
        )
        self.assertEqual(
            self.fits("DeviceInformation", phone, {"Queries": ["OSVersion", "HostName"]}),
            ("Queries.1=HostName: not for iOS",),
        )
        settings = {
            "Settings": [
                {"Item": "HostName", "HostName": "x"},
                {"Item": "Bluetooth", "Enabled": True},
            ]
        }
        self.assertEqual(
            self.fits("Settings", best("iOS", supervised=False), settings),
            (
                "Settings.0.HostName: not for iOS",
                "Settings.1.Bluetooth: needs supervision, and there is none",
            ),
        )

    def test_what_is_not_known_warns(self) -> None:
        """Nobody is kept from acting on a device because it has not told all yet."""
        for name, raw in RAW.items():
            nothing = check_fit(name, command(raw, True), Facts())
            self.assertEqual(nothing.faults, ())
            self.assertEqual(len(nothing.warnings), 1)
        half = check_fit("ShutDownDevice", {}, Facts(platform="iOS"))
        self.assertEqual(half.faults, ())
        self.assertEqual(len(half.warnings), 3)

    def test_deprecated_and_obsolete_warn(self) -> None:
        """It may still work, so it goes; but whoever sends it hears of it."""
        old = check_fit(
            "DeviceInformation", {"Queries": ["IMEI", "JailbreakDetected"]}, best("iOS")
        )
        self.assertEqual(old.faults, ())
        self.assertEqual(
            old.warnings,
            (
                "Queries.0=IMEI: deprecated since iOS 16.0",
                "Queries.1=JailbreakDetected: only older devices know it",
            ),
        )
