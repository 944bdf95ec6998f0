"""What a device answers becomes inventory; what is odd is kept, named, and does no harm."""

import plistlib
import struct
from datetime import datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import BadMessage
from mdmd.mdm.answers.chain import line, read_chain
from mdmd.mdm.answers.decode import SECRETS, Answer, decode_answer, is_partial
from mdmd.mdm.catalogue.load import names
from mdmd.mdm.report import Status, decode_report

APPS = [{"Identifier": "com.example.a", "Name": "A", "Version": "1", "BundleSize": 5}]


def report(**keys: Any) -> bytes:
    """Write a report as a device does."""
    return plistlib.dumps({"Status": "Acknowledged", "CommandUUID": "1", "UDID": "U", **keys})


def decode(request_type: str, partial: bool = False, **keys: Any) -> Answer:
    return decode_answer(request_type, report(**keys), partial)


class FieldsTests(SynchronousTestCase):
    """Each kind of answer updates the fields that it tells."""

    def test_device_information(self) -> None:
        """Each query that was answered is a field, the unknown ones too."""
        answer = decode(
            "DeviceInformation",
            QueryResponses={
                "OSVersion": "18.1",
                "BatteryLevel": 0.5,
                "IsSupervised": True,
                "LastCloudBackupDate": datetime(2026, 11, 24, 20),
                "OrganizationInfo": {"OrganizationName": "Example"},
                "Shiny": b"\0\1",
            },
        )
        self.assertEqual(
            answer.fields,
            {
                "OSVersion": "18.1",
                "BatteryLevel": 0.5,
                "IsSupervised": True,
                "LastCloudBackupDate": "2026-11-24T20:00:00Z",
                "OrganizationInfo": {"OrganizationName": "Example"},
                "Shiny": "base64:AAE=",
            },
        )
        self.assertEqual((answer.oddities, answer.details), ((), {}))

    def test_security_info_tells_how_it_is_managed(self) -> None:
        """ManagementStatus is spread, so that it can be asked for in --where."""
        answer = decode(
            "SecurityInfo",
            SecurityInfo={"PasscodePresent": True, "ManagementStatus": {"EnrolledViaDEP": False}},
        )
        self.assertEqual(answer.fields["PasscodePresent"], True)
        self.assertEqual(answer.fields["EnrolledViaDEP"], False)

    def test_lists(self) -> None:
        """A list that is whole becomes a field of its name."""
        for request_type, key, value in (
            ("InstalledApplicationList", "InstalledApplicationList", APPS),
            ("ProfileList", "ProfileList", [{"PayloadIdentifier": "a"}]),
            ("CertificateList", "CertificateList", [{"CommonName": "a", "IsIdentity": False}]),
            ("ProvisioningProfileList", "ProvisioningProfileList", [{"Name": "a"}]),
            ("ManagedApplicationList", "ManagedApplicationList", {"com.a": {"Status": "Managed"}}),
            ("AvailableOSUpdates", "AvailableOSUpdates", [{"Version": "18.2"}]),
            ("OSUpdateStatus", "OSUpdateStatus", [{"Status": "Idle"}]),
            ("UserList", "Users", [{"UserName": "jane"}]),
            ("Restrictions", "GlobalRestrictions", {"restrictedBool": {}}),
            ("ManagedMediaList", "Books", [{"Title": "a"}]),
            ("ContentCachingInformation", "StatusResponse", {"Active": True}),
            ("LOMSetupRequest", "PrimaryIPv6AddressList", ["fe80::1"]),
        ):
            answer = decode(request_type, **{key: value})
            self.assertEqual((answer.fields, answer.oddities), ({key: value}, ()), request_type)

    def test_two_lists_of_one_name_are_two_fields(self) -> None:
        """Apple calls both Extensions; one does not undo the other."""
        for request_type in ("ActiveNSExtensions", "NSExtensionMappings"):
            answer = decode(request_type, Extensions=[{"Identifier": "a"}])
            self.assertEqual(answer.fields, {request_type: [{"Identifier": "a"}]})

    def test_settings_without_a_word_on_each(self) -> None:
        """Apple's schema lets a device acknowledge them without the list."""
        self.assertEqual(decode("Settings").oddities, ())

    def test_a_limited_list_is_not_the_whole(self) -> None:
        """Asked for managed apps only, a device does not lose the others in the inventory."""
        answer = decode(
            "InstalledApplicationList",
            is_partial({"ManagedAppsOnly": True}),
            InstalledApplicationList=APPS,
        )
        self.assertEqual(answer.fields, {})
        self.assertEqual(answer.details, {"InstalledApplicationList": APPS})

    def test_location_and_parts(self) -> None:
        """A place is one field; each setting and update says what became of it."""
        place = decode(
            "DeviceLocation", Latitude=52.5, Longitude=13.4, Timestamp="2026-11-24T20:00:00Z"
        )
        self.assertEqual(
            place.fields["DeviceLocation"],
            {"Latitude": 52.5, "Longitude": 13.4, "Timestamp": "2026-11-24T20:00:00Z"},
        )
        refused = [{"ErrorDomain": "MCMDMErrorDomain", "ErrorCode": 12021}]
        settings = decode(
            "Settings",
            Settings=[
                {"Item": "DeviceName", "Status": "Acknowledged"},
                {"Item": "Bluetooth", "Status": "Error", "ErrorChain": refused},
            ],
        )
        self.assertEqual(
            [(part.name, part.status) for part in settings.parts],
            [("DeviceName", "Acknowledged"), ("Bluetooth", "Error")],
        )
        self.assertEqual(settings.parts[1].errors[0].meaning, "it does not know this RequestType")
        update = decode(
            "ScheduleOSUpdate",
            UpdateResults=[
                {"ProductKey": "18.2", "InstallAction": "InstallASAP", "Status": "Idle"}
            ],
        )
        self.assertEqual(update.parts[0].status, "Idle")

    def test_secrets_stay_out(self) -> None:
        """What unlocks a device is in the sealed report only, wherever it stood."""
        for request_type in ("DeviceInformation", "SecurityInfo", "Unknown"):
            inner = dict.fromkeys(SECRETS, b"secret")
            answer = decode(
                request_type, QueryResponses=inner, SecurityInfo=inner, UnlockToken=b"secret"
            )
            self.assertNotIn("c2VjcmV0", str(answer.fields) + str(answer.details))

    def test_an_error_changes_nothing(self) -> None:
        """A refused command tells nothing of the device."""
        answer = decode_answer(
            "DeviceInformation", report(Status="Error", QueryResponses={"OSVersion": "1"})
        )
        self.assertEqual((answer.fields, answer.status), ({}, "Error"))


class OddTests(SynchronousTestCase):
    """Nothing that a device says can raise here."""

    def test_wrong_shapes_are_named(self) -> None:
        """One line each; what came is in the details and in the report."""
        for request_type, keys, oddity in (
            ("DeviceInformation", {}, "QueryResponses is missing, not a dictionary"),
            (
                "DeviceInformation",
                {"QueryResponses": "x"},
                "QueryResponses is a string, not a dictionary",
            ),
            (
                "InstalledApplicationList",
                {"InstalledApplicationList": {}},
                "InstalledApplicationList is a dictionary, not a list",
            ),
            (
                "InstalledApplicationList",
                {"InstalledApplicationList": [1]},
                "InstalledApplicationList has elements that are no dictionaries",
            ),
            (
                "ProfileList",
                {"ProfileList": ["org.example"]},
                "ProfileList has elements that are no dictionaries",
            ),
            (
                "DeviceInformation",
                {"QueryResponses": {"OSVersion": {"Major": 18}}},
                "OSVersion is a dictionary, not a string",
            ),
            (
                "DeviceInformation",
                {"QueryResponses": {"ServiceSubscriptions": "none"}},
                "ServiceSubscriptions is a string, not a list",
            ),
            (
                "SecurityInfo",
                {"SecurityInfo": {"ManagementStatus": {"EnrolledViaDEP": [True]}}},
                "EnrolledViaDEP is a list, not a boolean",
            ),
            ("Settings", {"Settings": 7}, "Settings is a number, not a list"),
            ("Settings", {"Settings": [1]}, "Settings has elements that are no dictionaries"),
            ("DeviceLocation", {"Latitude": 1}, "Latitude or Longitude is missing"),
        ):
            self.assertEqual(decode(request_type, **keys).oddities, (oddity,))

    def test_a_value_of_the_wrong_shape_takes_no_place(self) -> None:
        """What the rest of us compares and counts stays comparable; the others are learnt."""
        told = {"OSVersion": ["18.1"], "BatteryLevel": 1, "IsSupervised": "yes", "DeviceName": "a"}
        answer = decode("DeviceInformation", QueryResponses=told)
        self.assertEqual(
            answer.fields, {"BatteryLevel": 1, "IsSupervised": "yes", "DeviceName": "a"}
        )
        self.assertEqual(answer.details["OSVersion"], ["18.1"])
        self.assertEqual(
            answer.oddities,
            ("IsSupervised is a string, not a boolean", "OSVersion is a list, not a string"),
        )

    def test_names_that_no_line_can_hold(self) -> None:
        """A NUL parts the lines of the history; such a field is left out."""
        body = {"Status": "Acknowledged", "QueryResponses": {"A\0jB": "x", "OSVersion": "18.1"}}
        answer = decode_answer("DeviceInformation", plistlib.dumps(body, fmt=plistlib.FMT_BINARY))
        self.assertEqual(answer.fields, {"OSVersion": "18.1"})
        self.assertIn("bad names", answer.oddities[0])

    def test_numbers_that_json_has_not(self) -> None:
        """They become words, or every reader of our JSON would stumble over them."""
        told = {"BatteryLevel": float("nan"), "DeviceCapacity": float("inf")}
        answer = decode("DeviceInformation", QueryResponses=told)
        self.assertEqual(answer.fields, {"BatteryLevel": "nan", "DeviceCapacity": "inf"})

    def test_characters_that_xml_has_not(self) -> None:
        """Devices write them as they are: the rest of the answer is read all the same."""
        for bad in (b"\x0b", b"&#11;", b"&#xB;", b"\xff", b"\xef\xbf\xbf"):
            raw = report(QueryResponses={"DeviceName": "NAME", "OSVersion": "18.1"})
            answer = decode_answer("DeviceInformation", raw.replace(b"NAME", b"a" + bad + b"b"))
            self.assertEqual(answer.fields["DeviceName"], "a\N{REPLACEMENT CHARACTER}b", bad)
            self.assertIn("U+FFFD", answer.oddities[0])

    def test_what_a_device_invents_is_bounded(self) -> None:
        """A million fields, or names of a kilometre, do not fill the store."""
        invented = {f"N{n}": n for n in range(2000)} | {"x" * 101: 1}
        answer = decode("DeviceInformation", QueryResponses=invented)
        self.assertEqual(len(answer.fields), 500)
        self.assertIn("not all are kept", answer.oddities[0])

    def test_an_unreadable_report(self) -> None:
        """A date that is none, a cut off plist: told, not raised."""
        bad = report(QueryResponses={"When": datetime(2026, 1, 1)}).replace(
            b"2026-01-01", b"2026-13-41"
        )
        self.assertIn("can't be read", decode_answer("DeviceInformation", bad).oddities[0])
        self.assertIn("can't be read", decode_answer("DeviceInformation", b"<plist").oddities[0])

    def test_an_unknown_command(self) -> None:
        """Its answer is kept whole, as details."""
        answer = decode("FromTheFuture", Flux={"Capacity": 1.21})
        self.assertEqual((answer.fields, answer.details), ({}, {"Flux": {"Capacity": 1.21}}))

    @given(
        st.sampled_from(names()),
        st.recursive(
            st.integers(-9, 9) | st.booleans() | st.text("abc", max_size=3) | st.binary(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["Status", "ErrorChain", "Identifier", "ManagementStatus"]),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=8,
        ),
    )
    def test_any_shape_decodes(self, request_type: str, value: Any) -> None:
        """Whatever stands where Apple's keys stand."""
        keys = (
            "QueryResponses",
            "SecurityInfo",
            "Settings",
            "UpdateResults",
            "Users",
            "ErrorChain",
            "Latitude",
            "Longitude",
            request_type,
        )
        decode(request_type, **dict.fromkeys(keys, value))

    def test_a_large_binary_list(self) -> None:
        """More values than 4 MiB of XML could hold, in less than the site takes."""
        app = {"Name": "a", "Version": "1", "ShortVersion": "1", "BundleSize": 5}
        apps = [{"Identifier": f"com.example.{n}", **app} for n in range(40_000)]
        body = {"Status": "Acknowledged", "InstalledApplicationList": apps}
        raw = plistlib.dumps(body, fmt=plistlib.FMT_BINARY)
        fields = decode_answer("InstalledApplicationList", raw).fields
        self.assertEqual(fields["InstalledApplicationList"], apps)

    def test_a_20_mb_list(self) -> None:
        """It takes its time, off the reactor, and comes out whole."""
        apps = [{"Identifier": f"com.example.{n}", "Name": "x" * 1000} for n in range(20_000)]
        answer = decode("InstalledApplicationList", InstalledApplicationList=apps)
        self.assertEqual(len(answer.fields["InstalledApplicationList"]), 20_000)  # type: ignore[arg-type]


class ChainTests(SynchronousTestCase):
    """An ErrorChain says domain, code, what that means, and the device's words."""

    def test_known_and_unknown_codes(self) -> None:
        """The known ones are named."""
        chain = [
            {
                "ErrorDomain": "MCMDMErrorDomain",
                "ErrorCode": 12021,
                "LocalizedDescription": "Ungültig",
                "USEnglishDescription": "Invalid",
            },
            {"ErrorDomain": "MCMDMErrorDomain", "ErrorCode": 99, "USEnglishDescription": "New"},
            {"ErrorDomain": "NSCocoaErrorDomain", "ErrorCode": 4097},
        ]
        self.assertEqual(
            line(chain),
            "MCMDMErrorDomain 12021 (it does not know this RequestType): Ungültig; "
            "MCMDMErrorDomain 99: New; NSCocoaErrorDomain 4097",
        )
        self.assertEqual(decode_report(report(Status="Error", ErrorChain=chain)).error, line(chain))
        self.assertIn("RequestType", line([{"ErrorDomain": "MDMErrorDomain", "ErrorCode": 12021}]))

    def test_any_shape(self) -> None:
        """A chain that is none is nothing."""
        for chain in (None, "x", {}, [None, True, {}, {"ErrorCode": [1]}]):
            self.assertEqual(line(chain), "")
        self.assertEqual(line(["broken\nline", {"ErrorCode": "text"}]), "broken line; text")
        self.assertEqual(len(line([{"ErrorDomain": "x" * 900}] * 900)), 500)
        self.assertEqual(len(read_chain(["x"] * 900)), 50)


class ReportTests(SynchronousTestCase):
    """A value that we can't read must not make a device say its report for ever."""

    def decoded(self, raw: bytes) -> tuple[object, object]:
        read = decode_report(raw)
        return read.status, read.command_uuid

    def test_values_of_a_binary_report(self) -> None:
        """A date that is none, half a character, a key twice, more than its size."""
        when = datetime(2026, 1, 1)
        seconds = struct.pack(">d", (when - datetime(2001, 1, 1)).total_seconds())
        for value, old, new in (
            (when, seconds, struct.pack(">d", float("nan"))),
            (when, seconds, struct.pack(">d", 1e12)),
            ("\u20ac", "\u20ac".encode("utf-16-be"), b"\xd8\x00"),
            ({"KEYA": 1, "KEYB": 2}, b"KEYB", b"KEYA"),
            ([{"a": [1] * 40}] * 300, b"", b""),
        ):
            body = {"UDID": "U", "Status": "Acknowledged", "CommandUUID": "C", "Told": value}
            raw = plistlib.dumps(body, fmt=plistlib.FMT_BINARY).replace(old, new)
            self.assertEqual(self.decoded(raw), (Status.ACKNOWLEDGED, "C"))

    def test_characters_that_xml_has_not(self) -> None:
        """A name with a control character, or in another encoding; the report is kept raw."""
        body = {"UDID": "U", "Status": "Acknowledged", "CommandUUID": "C", "Told": "NAME"}
        for bad in (b"\x0b", b"&#11;", b"\xff"):
            raw = plistlib.dumps(body).replace(b"NAME", bad)
            self.assertEqual(self.decoded(raw), (Status.ACKNOWLEDGED, "C"))
            self.assertEqual(decode_report(raw).raw, raw)
        self.assertRaises(BadMessage, decode_report, raw[:-20])

    def test_a_chain_that_can_not_be_read(self) -> None:
        """The error stays an error, without words."""
        chain = [{"ErrorCode": 1, "When": datetime(2026, 1, 1)}]
        raw = report(UDID="U", CommandUUID="C", Status="Error", ErrorChain=chain)
        read = decode_report(raw.replace(b"2026-01-01", b"2026-13-41"))
        self.assertEqual((read.status, read.error), (Status.ERROR, ""))
