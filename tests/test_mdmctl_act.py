"""mdmctl's verbs over the catalogue, against a daemon's desk in a process of its own."""

import plistlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mdmd.cli.known import bars, lines_of
from mdmd.cli.main import make_parser
from mdmd.cli.portrait import portrait
from mdmd.errors import BadRequest
from mdmd.mdm.catalogue.check import check_form
from mdmd.pki import cms
from mdmd.pki.authority import CertificateAuthority
from tests.opshelp import MAC, NOW, PHONE
from tests.test_mdmctl import MDMCTL, CommandLine


class CatalogueTests(CommandLine):
    """Looking commands up needs no daemon."""

    def test_commands(self) -> None:
        """By platform and by word; a slip is answered with what was meant."""
        listed = self.mdmctl("commands", "--platform", "tvos", "--search", "lock").stdout
        self.assertIn("RestartDevice", self.mdmctl("commands").stdout)
        self.assertNotIn("DeviceLock", listed)
        everything = self.data("commands")
        self.assertGreaterEqual(len(everything), 66)
        done = self.mdmctl("commands", "--platform", "macSO", status=1)
        self.assertIn("did you mean macOS?", done.stderr)

    def test_command(self) -> None:
        """One is described with a line to type."""
        done = self.mdmctl("command", "EraseDevice").stdout
        self.assertIn("mdmctl send ID EraseDevice", done)
        self.assertIn("ObliterationBehavior", done)
        self.assertEqual(self.data("command", "EraseDevice")["single"], "wipe")
        done = self.mdmctl("command", "EraseDevise", status=1)
        self.assertEqual(
            done.stderr, "mdmctl: no command 'EraseDevise' (did you mean EraseDevice?)\n"
        )

    def test_help_stays_quick(self) -> None:
        """Neither the catalogue nor Twisted is loaded to show the help."""
        begun = time.process_time()
        run = subprocess.run([*MDMCTL, "--help"], capture_output=True, text=True, check=True)
        self.assertLess(time.process_time() - begun, 1)
        for verb in ("commands", "lock", "wipe", "report", "group", "lost-mode"):
            self.assertIn(verb, run.stdout)
        program = (
            "import sys\nfrom mdmd.cli.main import make_parser\nmake_parser()\n"
            "print([m for m in sys.modules if m.startswith(('mdmd.mdm', 'twisted'))])"
        )
        run = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        self.assertEqual(run.stdout.strip(), "[]")


class SendTests(CommandLine):
    """What is typed is checked here, and again by the daemon for each device."""

    def test_a_mistake_costs_nothing(self) -> None:
        """One line each, before anybody is asked."""
        for words, text in (
            (
                ("DeviceInformation", "Querys=OSVersion"),
                "Querys: no such key (did you mean Queries?)",
            ),
            (
                ("DeviceInformation", "Queries=OSVersoin"),
                "Queries.0: there is no OSVersoin (did you mean OSVersion?)",
            ),
            (("DeviceInfo",), "did you mean DeviceInformation?"),
            (("RestartDevice", "NotifyUser=perhaps"), "NotifyUser: takes yes or no"),
            (("RestartDevice", "--expires=-1"), "'-1' is not a number of seconds"),
            (("RestartDevice", "--not-before", "inf"), "'inf' is not a number of seconds"),
            (("RestartDevice", "--expires", "0"), "'0' is too short: it would never be sent"),
            (
                ("InstallProfile", "Payload=@/nowhere"),
                "Payload: /nowhere: No such file or directory",
            ),
        ):
            usage = any(word.startswith("--") for word in words)
            done = self.mdmctl("send", MAC, *words, status=2 if usage else 1)
            self.assertIn(text, done.stderr)

    def test_options_anywhere(self) -> None:
        """Also between the words of a verb, as people type them."""
        for kind, words in (
            ("EnableLostMode", ("lost-mode", "on", "--message", "Call us", MAC, "--force")),
            (
                "InstallEnterpriseApplication",
                ("install-app", "https://example.org/m", "--mac-package", MAC, "--no-push"),
            ),
            ("ProfileList", ("send", MAC, "--no-push", "ProfileList", "--keep", "ManagedOnly=no")),
        ):
            sent = self.data(*words)
            self.assertEqual((sent["request_type"], list(sent["status"])), (kind, [MAC]))
        self.mdmctl("group", "add", "--", "-odd", MAC)
        left = self.mdmctl("group", "remove", "--", "-odd", MAC).stdout
        self.assertEqual(left, "1 out of -odd\n")
        done = self.mdmctl("lost-mode", "on", "--mesage", "x", PHONE, status=2)
        self.assertIn("--mesage", done.stderr)
        done = self.mdmctl("results", MAC, "--limit", "1", "NOT-THERE", status=1)
        self.assertIn("no result of this command", done.stderr)

    def test_targets(self) -> None:
        """Ids, everybody, those for which an expression holds; a mistake in it has its place."""
        both = self.data("send", "--all", "SecurityInfo")
        self.assertEqual(sorted(both["status"]), [MAC, PHONE])
        one = self.data("send", "SecurityInfo", "--where", "serial~C02")
        self.assertEqual(list(one["status"]), [MAC])
        whole = self.data("send", MAC, "SecurityInfo", "--where", "serial~C02")
        self.assertEqual(list(whole["status"]), [MAC])
        twice = self.data("info", "C02XL0THJGH5", "--all")
        self.assertEqual(sorted(twice["status"]), sorted(["C02XL0THJGH5", PHONE]))
        blank = self.mdmctl("send", "SecurityInfo", "--where", " ", status=1).stderr
        self.assertIn("the name of a field is needed, not the end", blank)
        done = self.mdmctl("send", "SecurityInfo", "--where", "os<", status=1)
        self.assertEqual(done.stderr, "mdmctl: a value is needed after <\n  os<\n     ^\n")
        done = self.mdmctl("send", "SecurityInfo", "--where", "os<1", status=1)
        self.assertIn("nobody is meant", done.stderr)

    def test_a_whole_command_has_its_own_name(self) -> None:
        """Another one beside it is no word that nobody reads."""
        path = self.folder / "whole.plist"
        whole = {"CommandUUID": "W-1", "Command": {"RequestType": "ProfileList"}}
        path.write_bytes(plistlib.dumps(whole))
        refused = self.mdmctl("send", MAC, "--plist", str(path), "--uuid", "W-2", status=1)
        self.assertIn("leave --uuid out", refused.stderr)
        sent = self.data("send", MAC, "--plist", str(path), "--where", "serial~C02")
        self.assertEqual((sent["command_uuid"], list(sent["status"])), ("W-1", [MAC]))

    def test_groups(self) -> None:
        """Who is in a group gets what is sent to it."""
        self.mdmctl("group", "add", "sales", f"{MAC},C02XL0THJGH5")
        self.assertEqual(self.data("group", "list"), {"sales": 1})
        self.assertEqual(self.mdmctl("group", "list", "sales").stdout, f"{MAC}\n")
        unknown = self.mdmctl("group", "list", "sails", status=1).stderr
        self.assertEqual(unknown, "mdmctl: there is no group 'sails'\n")
        self.assertEqual(list(self.data("send", "--group", "sales", "UserList")["status"]), [MAC])
        done = self.mdmctl("group", "remove", "sales", MAC, "nobody", status=1)
        self.assertIn("nobody: no such enrollment", done.stderr)

    def test_daily_verbs(self) -> None:
        """They reach the daemon; what can't be is refused here or there."""
        profile = self.folder / "wifi.mobileconfig"
        profile.write_bytes(plistlib.dumps({"PayloadIdentifier": "org.example.wifi"}))
        sent = self.data("install-profile", str(profile), MAC)
        self.assertEqual(sent["request_type"], "InstallProfile")
        refused = self.mdmctl("lost-mode", "on", PHONE, status=1)
        self.assertIn("Message or PhoneNumber", refused.stderr)
        cleared = self.mdmctl("clear-passcode", MAC, PHONE, status=1).stdout
        self.assertIn("never gave an unlock token", cleared)

    def test_what_is_no_profile(self) -> None:
        """It is only sent with --force; a profile may be binary, and signed by whomever."""
        file, name = self.folder / "x.mobileconfig", {"PayloadIdentifier": "org.example.x"}
        signer = CertificateAuthority.create("other", "ec", 5).issue_server(["example.org"], 5)
        binary = plistlib.dumps(name, fmt=plistlib.FMT_BINARY)
        file.write_bytes(cms.sign_attached(binary, *signer))
        for verb in ("install-profile", "remove-profile"):
            self.mdmctl(verb, str(file), MAC)
        for content, why in (
            (b"random", "not a property list"),
            (b"", "empty"),
            (b"\x30\x82broken", "empty"),
            (plistlib.dumps({"PayloadType": "Configuration"}), "it needs a PayloadIdentifier"),
            (plistlib.dumps({"PayloadType": "com.apple.dock", **name}), "Configuration as its"),
        ):
            file.write_bytes(content)
            refused = self.mdmctl("install-profile", str(file), MAC, status=1).stderr
            self.assertIn(f"{file}: no configuration profile: ", refused)
            self.assertIn(why, refused)
            self.assertIn("; --force sends it anyway\n", refused)
            self.mdmctl("install-profile", str(file), MAC, "--force")

    def wipe(self, typed: str, *words: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [*MDMCTL, "--state", str(self.folder), "wipe", *words],
            input=typed, capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        self.assertEqual(done.returncode, status, done)
        return done

    def test_wipe_asks_for_the_serial_number(self) -> None:
        """Another one, or none, erases nothing; a fleet needs --yes."""
        refused = self.wipe("C02\n", MAC, status=1).stderr
        self.assertIn("nothing was erased", refused)
        self.assertNotIn("PIN", refused)
        self.assertIn("nothing was erased", self.wipe("", MAC, status=1).stderr)
        self.assertIn("say --yes", self.wipe("", "--all", status=1).stderr)
        self.assertIn("EraseDevice", self.wipe("C02XL0THJGH5\n", MAC, "--pin", "123456").stdout)
        self.assertIn("EraseDevice", self.wipe("", MAC, "--yes").stdout)

    def test_pins(self) -> None:
        """The PIN that was made up is told, and can be read again."""
        done = self.mdmctl("lock", MAC)
        pin = done.stderr.partition("PIN for Macs: ")[2][:6]
        self.assertRegex(pin, "[0-9]{6}")
        self.assertIn(pin, self.mdmctl("pins", MAC).stdout)

    def test_requeue(self) -> None:
        """A command that waits goes to the end under a new name."""
        self.mdmctl("send", MAC, "Restart", "--force", "--uuid", "C-9")
        new = self.data("queue", MAC, "--requeue", "C-9")
        self.assertEqual([each["uuid"] for each in self.data("queue", MAC)], [new["uuid"]])
        self.mdmctl("queue", MAC, "--clear")

    def test_notes_and_portrait(self) -> None:
        """What people write about a device is shown with what it told."""
        self.mdmctl("note", MAC, "owner=John Doe")
        told = self.data("note", MAC, "owner=Jane Doe")
        self.assertEqual(told, {"id": MAC, "notes": {"owner": "Jane Doe"}})
        shown = self.mdmctl("device", MAC).stdout
        self.assertRegex(shown, r"Owner +Jane Doe")
        self.assertRegex(shown, r"BatteryLevel +50%")
        self.assertIn("BatteryLevel", self.mdmctl("device", MAC, "--history").stdout)
        self.assertIn(
            "there is no field 'colour'", self.mdmctl("note", MAC, "colour=red", status=1).stderr
        )

    def test_report(self) -> None:
        """Counts with a bar for each; they add up."""
        told = self.data("report", "os")
        self.assertEqual(told, {"devices": 2, "counts": {"26.1": 2}})
        self.assertIn("█", self.mdmctl("report", "models").stdout)


class DailyTests(SynchronousTestCase):
    """Each daily verb makes the command that is meant, in good form."""

    def made(self, *words: str) -> tuple[str, dict[str, object]]:
        """What a verb would send."""
        args = make_parser().parse_args(words)
        request_type, keys = args.makes(args)
        given = {key: value for key, value in keys.items() if value is not None}
        self.assertEqual(check_form(request_type, given).faults, (), words)
        return request_type, given

    def test_a_url_is_no_identifier(self) -> None:
        """Of another scheme it is a slip, and a package for Macs has a URL."""
        for words in (("http://example.org/m.plist",), ("org.example.app", "--mac-package")):
            args = make_parser().parse_args(("install-app", *words, "X"))
            with self.assertRaisesRegex(BadRequest, "begins with https://"):
                args.makes(args)

    def test_each_verb(self) -> None:
        """Under the name that people know."""
        url = "https://example.org/m.plist"
        for words, request_type, keys in (
            (
                ("lock", "X", "--pin", "123456", "--message", "hi"),
                "DeviceLock",
                {"PIN": "123456", "Message": "hi"},
            ),
            (("wipe", "X", "--pin", "123456"), "EraseDevice", {"PIN": "123456"}),
            (("restart", "X"), "RestartDevice", {}),
            (("restart", "X", "--ask"), "RestartDevice", {"NotifyUser": True}),
            (("shutdown", "X"), "ShutDownDevice", {}),
            (
                ("remove-profile", "org.example.wifi", "X"),
                "RemoveProfile",
                {"Identifier": "org.example.wifi"},
            ),
            (("install-app", "361309726", "X"), "InstallApplication", {"iTunesStoreID": 361309726}),
            (
                ("install-app", "com.example.a", "X", "--removable"),
                "InstallApplication",
                {"Identifier": "com.example.a", "ManagementFlags": 1},
            ),
            (("install-app", url, "X"), "InstallApplication", {"ManifestURL": url}),
            (
                ("install-app", url, "X", "--mac-package"),
                "InstallEnterpriseApplication",
                {"ManifestURL": url},
            ),
            (
                ("update-os", "X", "--version", "26.2"),
                "ScheduleOSUpdate",
                {"Updates": [{"InstallAction": "InstallASAP", "ProductVersion": "26.2"}]},
            ),
            (("lost-mode", "on", "X", "--message", "lost"), "EnableLostMode", {"Message": "lost"}),
            (("lost-mode", "locate", "X"), "DeviceLocation", {}),
            (("lost-mode", "sound", "X"), "PlayLostModeSound", {}),
            (("lost-mode", "off", "X"), "DisableLostMode", {}),
        ):
            self.assertEqual(self.made(*words), (request_type, keys))
        self.assertIn("OSVersion", self.made("info", "X")[1]["Queries"])

    def test_a_profile_is_removed_by_its_file(self) -> None:
        """Signed or not: the identifier is read from it."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "wifi.mobileconfig"
            plain = plistlib.dumps({"PayloadIdentifier": "org.example.wifi"})
            signer = CertificateAuthority.create("other", "ec", 5).issue_server(["a"], 5)
            for content in (plain, cms.sign_attached(plain, *signer)):
                path.write_bytes(content)
                made = self.made("remove-profile", str(path), "X")
                self.assertEqual(made[1], {"Identifier": "org.example.wifi"})


class ReportTests(SynchronousTestCase):
    """Which lines a device counts in, and how they look."""

    def test_lines(self) -> None:
        """By system, model, app and update; what is not known says so."""
        fields = {
            "OSVersion": "18.1", "ProductName": "iPad8,1", "ModelName": "iPad Pro",
            "InstalledApplicationList": [{"Identifier": "a", "ShortVersion": "2"}] * 2 + [7],
            "AvailableOSUpdates": [{"HumanReadableName": "iPadOS", "Version": "18.2"}],
        }  # fmt: skip
        self.assertEqual(lines_of("os", fields), {"iOS 18.1"})
        self.assertEqual(lines_of("models", fields), {"iPad Pro"})
        self.assertEqual(lines_of("apps", fields), {"a 2"})
        self.assertEqual(lines_of("updates", fields), {"iPadOS 18.2"})
        for what in ("os", "models", "apps", "updates"):
            self.assertEqual(lines_of(what, {}), {"unknown"})
        # Asked, and there is nothing: that is known.
        self.assertEqual(lines_of("updates", {"AvailableOSUpdates": []}), {"none"})
        self.assertEqual(lines_of("apps", {"InstalledApplicationList": [7]}), {"none"})

    def test_bars(self) -> None:
        """As long as their share, and never nothing."""
        lines = bars([("iOS 18.1", 900), ("macOS 15.1", 1)], 1000)
        self.assertEqual([line.count("█") for line in lines], [27, 1])
        for most in (80, 40, 20):
            lines = bars([("org.example." + "x" * 100, 1000), ("macOS 15.1", 500)], 1000, most)
            self.assertLessEqual(max(map(len, lines)), max(most, 28))
            self.assertIn("…", lines[0])
            self.assertEqual(lines[0].count("█"), 2 * lines[1].count("█"))

    def test_portrait_of_odd_values(self) -> None:
        """Lists that are none and control characters do no harm on a terminal."""
        record = {
            "id": "X", "type": "Device", "enabled": True, "tally": 1,
            "awaiting_configuration": False, "enrolled_at": NOW, "last_seen": None,
            "pending": 0, "topic": "t", "last_push": None,
            "last_push_result": "", "has_unlock_token": False, "has_bootstrap_token": False,
            "facts": {"DeviceName": "a\x1b[31m"},
        }  # fmt: skip
        fields = {
            "InstalledApplicationList": [{"Identifier": f"a.{n}"} for n in range(20)] + [3],
            "ProfileList": "x", "Users": {}, "BatteryLevel": "full", "Odd": {"a": [1, {"b": None}]},
        }  # fmt: skip
        inventory = {
            "fields": {n: {"value": v, "at": NOW} for n, v in fields.items()},
            "notes": {},
            "groups": [],
        }
        text = "\n".join(portrait(record, inventory))
        self.assertNotIn("\x1b[31m", text)
        self.assertIn("Apps (21)", text)
        self.assertIn("and 9 more", text)
