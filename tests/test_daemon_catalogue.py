"""The catalogue, inventory, blueprints and apps in the running daemon, on real wires."""

import hashlib
import plistlib
import shutil
import subprocess
import time
from typing import Any, ClassVar
from unittest import SkipTest

from mdmd.doctor.redis import Client
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.store import keys
from mdmd.store.address import Address
from tests.daemonhelp import TOPIC, HandDevice
from tests.test_apps import ipa
from tests.test_daemon import DaemonCase, RunningDaemon

UDID = "0A1B2C3D-2222-5AC1-BDB2-00000000000{}"
BLUEPRINTS = """
[[blueprint]]
name = "phones"
platforms = ["iOS"]
enrolled = "automated"

[[blueprint.step]]
command = "InstallProfile"
words = ["Payload=@wifi.mobileconfig"]
"""


class CatalogueDaemonTests(DaemonCase):
    """What an operator types, down to the device and back."""

    daemon: ClassVar[RunningDaemon]

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = RunningDaemon(options={"enroll": "blueprints = STATE/blueprints.toml"})
        (cls.daemon.state / "blueprints.toml").write_text(BLUEPRINTS)
        (cls.daemon.state / "wifi.mobileconfig").write_bytes(b"<profile>")
        try:
            cls.daemon.start()
        except BaseException:
            cls.daemon.close()
            raise

    def mac(self, number: int, **facts: str) -> HandDevice:
        facts = {
            "SerialNumber": f"C02CAT{number}",
            "ProductName": "Mac14,7",
            "OSVersion": "15.1",
            **facts,
        }
        device = self.daemon.device(UDID.format(number), **facts)
        device.enroll()
        return device

    def store(self, *words: object) -> Any:
        client = Client(Address("unix", path=str(self.daemon.state / "store" / "store.sock")))
        self.addCleanup(client.close)
        return client.ask(*words)

    def inventory(self, serial: str, field: str, value: object = None) -> object:
        """What a field is, as soon as it is learnt (or is this value)."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            found = self.daemon.ask("device", serial)["inventory"]["fields"]
            if field in found and value in (None, found[field]["value"]):
                return found[field]["value"]
            time.sleep(0.1)
        raise AssertionError(f"{field} was not learnt")

    def test_info_becomes_inventory(self) -> None:
        """mdmctl info asks what a Mac can answer; the answer is shown, and can be asked for."""
        mac = self.mac(1)
        self.assertEqual(self.daemon.mdmctl("info", "C02CAT1").returncode, 0)
        status, uuid, kind = mac.connect()
        self.assertEqual((status, kind), (200, "DeviceInformation"))
        told = {
            "OSVersion": "15.2",
            "DeviceName": "Front desk",
            "BatteryLevel": 0.25,
            "IsSupervised": True,
        }
        self.assertEqual(mac.connect("Acknowledged", uuid, QueryResponses=told)[0], 200)
        self.assertEqual(self.inventory("C02CAT1", "OSVersion", "15.2"), "15.2")
        shown = self.daemon.mdmctl("device", "C02CAT1").stdout
        self.assertRegex(shown, "BatteryLevel +25%")
        self.assertIn("OSVersion", self.daemon.mdmctl("device", "C02CAT1", "--history").stdout)
        counted = self.daemon.ask("report", "os", "--where", "name='front desk' and supervised")
        self.assertEqual(counted, {"devices": 1, "counts": {"macOS 15.2": 1}})

    def test_another_system_at_the_next_enrollment(self) -> None:
        """What a device says when it enrolls again counts, not what it told before."""
        mac = self.mac(7, OSVersion="14.1")
        self.daemon.enqueue(mac.udid, "A")
        mac.connect()
        mac.connect("Acknowledged", "A", QueryResponses={"OSVersion": "14.2"})
        self.assertEqual(self.inventory("C02CAT7", "OSVersion", "14.2"), "14.2")
        mac.facts["OSVersion"] = "26.0"
        mac.enroll()
        self.assertEqual(self.inventory("C02CAT7", "OSVersion", "26.0"), "26.0")

    def test_what_a_mac_can_not_do_is_refused(self) -> None:
        """Before it is queued, with the reason; --force sends it."""
        mac = self.mac(2)
        done = self.daemon.mdmctl("send", "C02CAT2", "ClearPasscode", "UnlockToken=base64:AA==")
        self.assertEqual(done.returncode, 1)
        self.assertIn("ClearPasscode: not for macOS", done.stdout)
        done = self.daemon.mdmctl("send", "C02CAT2", "DeviceInformation", "Queries=IMEI,MEID")
        refused = [line.split("  ")[1] for line in done.stdout.splitlines()[:2]]
        self.assertEqual(
            refused, ["Queries.0=IMEI: not for macOS", "Queries.1=MEID: not for macOS"]
        )
        self.assertEqual(mac.connect(), (200, "", ""))
        command = {"RequestType": "ClearPasscode", "UnlockToken": b"\0"}
        body = plistlib.dumps({"CommandUUID": "S", "Command": command})
        status, told = self.daemon.api("PUT", f"/v1/enqueue/{mac.udid}?strict=1", body)
        self.assertEqual(status, 500)
        self.assertEqual(told["status"][mac.udid]["command_error"], "ClearPasscode: not for macOS")
        self.assertEqual(mac.connect(), (200, "", ""))
        done = self.daemon.mdmctl(
            "send", "C02CAT2", "ClearPasscode", "UnlockToken=base64:AA==", "--force"
        )
        self.assertEqual(done.returncode, 0)
        self.assertEqual(mac.connect()[2], "ClearPasscode")

    def test_lock_goes_first_and_once(self) -> None:
        """By mdmctl and by the API alike; the PIN can be read again."""
        mac = self.mac(3)
        self.daemon.mdmctl("send", "C02CAT3", "SecurityInfo")
        self.assertEqual(self.daemon.mdmctl("lock", "C02CAT3", "--pin", "123456").returncode, 0)
        again = self.daemon.mdmctl("lock", "C02CAT3", "--pin", "654321")
        (refusal,) = [line for line in again.stdout.splitlines() if "pending" in line]
        self.assertRegex(refusal, r"^C02CAT3  a lock is pending already, .* --cancel UUID$")
        self.assertNotIn("654321", again.stdout + again.stderr)
        self.daemon.enqueue(mac.udid, "API", "EraseDevice")
        _, lock, kind = mac.connect()
        self.assertEqual(kind, "DeviceLock")
        self.assertEqual(mac.connect("Acknowledged", lock)[1:], ("API", "EraseDevice"))
        self.assertEqual(mac.connect("Acknowledged", "API")[2], "SecurityInfo")
        self.assertIn("123456", [each["pin"] for each in self.daemon.ask("pins", "C02CAT3")])
        acts = [each["what"] for each in self.daemon.ask("audit")]
        self.assertIn("pins.show", acts)

    def test_a_lock_is_put_back_only_if_it_may_be(self) -> None:
        """Beside another one it stays where it is; without one it goes out once more."""
        mac = self.mac(12)
        self.daemon.mdmctl("lock", mac.udid, "--max-attempts", "1")
        (_, old, kind), _ = mac.connect(), mac.connect()
        self.assertEqual(kind, "DeviceLock")
        self.daemon.mdmctl("lock", mac.udid)
        refused = self.daemon.mdmctl("queue", mac.udid, "--requeue", old)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("a lock is pending already", refused.stderr)
        queue: Any = self.daemon.ask("queue", mac.udid)
        self.assertEqual([each["state"] for each in queue], ["waiting", "stuck"])
        self.daemon.mdmctl("queue", mac.udid, "--cancel", queue[0]["uuid"])
        put_back: Any = self.daemon.ask("queue", mac.udid, "--requeue", old)
        self.assertEqual(mac.connect()[1], put_back["uuid"])
        self.daemon.mdmctl("queue", mac.udid, "--requeue", put_back["uuid"])
        self.assertNotIn(mac.connect()[1], ("", put_back["uuid"]))
        self.daemon.mdmctl("send", mac.udid, "SecurityInfo")
        cleared = self.daemon.mdmctl("queue", mac.udid, "--clear").stdout
        self.assertEqual(cleared, "2 taken out; the device may have 1 of them already\n")

    def test_what_can_not_be_put_back_stays(self) -> None:
        """A send that fails after all takes nothing out of the queue."""
        mac = self.mac(13)
        self.daemon.mdmctl("send", mac.udid, "SecurityInfo", "--uuid", "BACK")
        self.store("HSET", keys.record(EnrollmentID(mac.udid)), "tally", "nonsense")
        refused = self.daemon.mdmctl("queue", mac.udid, "--requeue", "BACK")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("damaged", refused.stderr)
        self.store("HSET", keys.record(EnrollmentID(mac.udid)), "tally", "1")
        queue: Any = self.daemon.ask("queue", mac.udid)
        self.assertEqual([each["uuid"] for each in queue], ["BACK"])

    def test_the_name_of_what_was_queued(self) -> None:
        """A phone takes no PIN, so it has a lock of its own: that is named; of none no name."""
        phone = self.daemon.device(UDID.format("A"), ProductName="iPhone14,2", OSVersion="18.1")
        phone.enroll()
        locked = self.daemon.mdmctl("lock", phone.udid)
        name = locked.stdout.splitlines()[-1]
        end = time.monotonic() + 10
        while (given := phone.connect())[2] != "DeviceLock" and time.monotonic() < end:
            phone.connect("Acknowledged", given[1])
        self.assertEqual(name, f"DeviceLock {given[1]}")
        last: Any = self.daemon.ask("audit", "--limit", "1")
        self.assertEqual(last[0]["facts"]["command_uuid"], given[1])
        self.assertNotIn("PIN", locked.stderr)
        refused = self.daemon.mdmctl("lock", "nobody")
        self.assertEqual(refused.stdout, "nobody  no such enrollment\n")
        self.assertNotIn("PIN", refused.stderr)

    def test_a_damaged_unlock_token_fails_its_own_device(self) -> None:
        """The passcode of the other one is cleared; a token that is there is told from none."""
        ids = [UDID.format("B"), UDID.format("C")]
        for udid in ids:
            phone = self.daemon.device(udid, ProductName="iPhone14,2", OSVersion="18.1")
            phone.enroll()
            token = {"Topic": TOPIC, "Token": b"\1" * 32, "PushMagic": "m"}
            phone.check_in(MessageType="TokenUpdate", UnlockToken=b"unlock", **token)
        self.store("SET", keys.unlock(EnrollmentID(ids[0])), b"nonsense")
        done = self.daemon.mdmctl("clear-passcode", *ids)
        self.assertEqual(done.returncode, 1)
        damaged, queued, *_ = done.stdout.splitlines()
        self.assertEqual(damaged, f"{ids[0]}  its unlock token is damaged in the store")
        self.assertIn(f"{ids[1]}  queued", queued)

    def test_when_its_time_comes(self) -> None:
        """A command for later says so in the queue."""
        mac = self.mac(11)
        self.daemon.mdmctl("send", mac.udid, "SecurityInfo", "--not-before", "7205")
        self.assertIn("waiting, in 2 h", self.daemon.mdmctl("queue", mac.udid).stdout)

    def test_a_push_that_can_not_be(self) -> None:
        """Without a push certificate a command is queued, and a push is just not made."""
        self.mac(9)
        sent = self.daemon.mdmctl("send", "C02CAT9", "SecurityInfo")
        self.assertEqual(sent.returncode, 0)
        self.assertIn("C02CAT9  queued, but ", sent.stdout)
        pushed = self.daemon.mdmctl("push", "C02CAT9")
        self.assertEqual(pushed.returncode, 1)
        self.assertRegex(pushed.stdout, "^C02CAT9  not pushed: no push certificate ")

    def test_odd_answers_never_disturb(self) -> None:
        """A string for a dictionary, no QueryResponses, an invalid date: 200 and the next one."""
        mac = self.mac(4)
        date = plistlib.dumps(
            {
                "UDID": mac.udid,
                "Status": "Acknowledged",
                "CommandUUID": "D",
                "QueryResponses": {"When": 1},
            }
        )
        for uuid in ("A", "B", "D", "E"):
            self.daemon.enqueue(mac.udid, uuid)
        self.assertEqual(mac.connect()[1], "A")
        self.assertEqual(mac.connect("Acknowledged", "A", QueryResponses="x")[:2], (200, "B"))
        self.assertEqual(mac.connect("Acknowledged", "B")[:2], (200, "D"))
        status, body = mac.put(
            "/connect", date.replace(b"<integer>1</integer>", b"<date>2026-13-41T00:00:00Z</date>")
        )
        self.assertEqual((status, plistlib.loads(body)["CommandUUID"]), (200, "E"))
        self.assertEqual(
            mac.connect("Acknowledged", "E", QueryResponses={"OSVersion": "15.3"})[0], 200
        )
        self.assertEqual(self.inventory("C02CAT4", "OSVersion", "15.3"), "15.3")
        events = self.daemon.ask("events", "--limit", "1000")
        odd = [
            each["facts"]["oddities"]
            for each in events
            if each["topic"] == "mdmd.OddAnswer" and each["enrollment"] == mac.udid
        ]
        self.assertEqual(len(odd), 3)
        results = self.daemon.ask("results", "C02CAT4")
        self.assertEqual([each["status"] for each in results], ["Acknowledged"] * 4)

    def test_a_list_of_20_megabytes(self) -> None:
        """Taken whole from a device of ours, learnt, and kept; from strangers it is refused."""
        mac = self.mac(6)
        apps = [{"Identifier": f"com.example.{n}", "Name": "x" * 1000} for n in range(20_000)]
        self.daemon.enqueue(mac.udid, "APPS", "InstalledApplicationList")
        self.assertEqual(mac.connect()[1], "APPS")
        answer = mac.connect("Acknowledged", "APPS", InstalledApplicationList=apps)
        self.assertEqual(answer, (200, "", ""))
        listed = self.inventory("C02CAT6", "InstalledApplicationList")
        self.assertEqual(len(listed), 20_000)
        self.assertEqual(self.daemon.ask("results", "C02CAT6")[0]["status"], "Acknowledged")
        url = f"https://localhost:{self.daemon.port}/connect"
        path = self.daemon.state / "large"
        path.write_bytes(b"x" * (5 << 20))
        self.curl(url, "--upload-file", str(path), "--header", "Expect:", status=400)

    def test_a_phone_in_setup_assistant(self) -> None:
        """It gets its blueprint, and then is let go."""
        phone = self.daemon.device(UDID.format(5), ProductName="iPhone14,2", OSVersion="18.1")
        phone.check_in(MessageType="Authenticate", Topic=TOPIC, **phone.facts)
        phone.check_in(
            MessageType="TokenUpdate",
            Topic=TOPIC,
            Token=b"\1" * 32,
            PushMagic="m",
            AwaitingConfiguration=True,
        )
        end = time.monotonic() + 10
        while not (found := phone.connect())[1] and time.monotonic() < end:
            time.sleep(0.1)
        self.assertEqual(found[2], "InstallProfile")
        refused = [{"ErrorDomain": "MCInstallationErrorDomain", "ErrorCode": 4001}]
        following = phone.connect("Error", found[1], ErrorChain=refused)
        self.assertEqual(following[2], "DeviceConfigured")
        (result,) = self.daemon.ask("results", phone.udid)
        self.assertEqual(
            result["error"], "MCInstallationErrorDomain 4001 (the installation failed)"
        )

    def test_killed_after_the_answers(self) -> None:
        """kill -9 before it noted that the enrollment was dealt with: no step comes again."""
        newest = self.store("XREVRANGE", keys.EVENTS, "+", "-", "COUNT", 1)
        before = newest[0][0] if newest else b"0"
        phone = self.daemon.device(UDID.format(8), ProductName="iPhone14,2", OSVersion="18.1")
        phone.check_in(MessageType="Authenticate", Topic=TOPIC, **phone.facts)
        token = {"Topic": TOPIC, "Token": b"\1" * 32, "PushMagic": "m"}
        phone.check_in(MessageType="TokenUpdate", AwaitingConfiguration=True, **token)
        end = time.monotonic() + 10
        while not (given := phone.connect())[1] and time.monotonic() < end:
            time.sleep(0.1)
        while given[1]:
            given = phone.connect("Acknowledged", given[1])
        self.daemon.kill()
        self.store("SET", keys.place("inventory"), before)
        self.store("DEL", keys.lease("inventory"))
        self.daemon.start()
        phone.hang_up()
        end = time.monotonic() + 10
        while self.store("GET", keys.place("inventory")) == before and time.monotonic() < end:
            time.sleep(0.1)
        self.assertNotEqual(self.store("GET", keys.place("inventory")), before)
        self.assertEqual(phone.connect(), (200, "", ""))
        kinds = [each["request_type"] for each in self.daemon.ask("results", phone.udid)]
        self.assertEqual(kinds, ["DeviceConfigured", "InstallProfile"])

    def test_an_app_of_ours(self) -> None:
        """Put on the shelf by mdmctl, fetched by curl: whole, in part, and as the manifest says."""
        if shutil.which("curl") is None:
            raise SkipTest("curl is not installed")
        content = ipa(size=3 << 20)
        path = self.daemon.state / "A.ipa"
        path.write_bytes(content)
        shelved = self.daemon.ask("app", "add", str(path), "--title", "Our app")
        manifest = plistlib.loads(self.curl(shelved["manifest"]))
        asset = manifest["items"][0]["assets"][0]
        self.assertEqual(manifest["items"][0]["metadata"]["title"], "Our app")
        self.assertEqual(self.curl(asset["url"]), content)
        self.assertEqual(asset["sha256s"], [hashlib.sha256(content).hexdigest()])
        self.assertEqual(self.curl(asset["url"], "--range", "100-199"), content[100:200])
        half = self.daemon.state / "half.ipa"
        half.write_bytes(content[: 1 << 20])
        self.curl(asset["url"], "--continue-at", "-", "--output", str(half))
        self.assertEqual(half.read_bytes(), content)
        self.assertNotIn(shelved["token"], self.daemon.log.read_text())
        self.assertEqual(self.daemon.mdmctl("app", "remove", shelved["token"]).returncode, 0)
        self.assertEqual(self.curl(shelved["manifest"], status=404), b"not found\n")

    def curl(self, url: str, *options: str, status: int = 200) -> bytes:
        done = subprocess.run(
            [
                *("curl", "--silent", "--show-error", "--cacert", self.daemon.trust, *options),
                *("--write-out", "%{stderr}%{http_code}", url),
            ],
            capture_output=True, check=True, timeout=30,
        )  # fmt: skip
        code = int(done.stderr[-3:])
        self.assertIn(code, (status, 206) if status == 200 else (status,))
        return done.stdout

    def test_check_names_what_is_wrong_with_blueprints(self) -> None:
        """A mistake in the blueprints is one of the configuration."""
        config = self.daemon.state / "broken.conf"
        (self.daemon.state / "broken.toml").write_text(
            '[[blueprint]]\n[[blueprint.step]]\ncommand = "InstalProfile"\n'
        )
        text = self.daemon.config.read_text()
        config.write_text(
            text.replace("blueprints.toml", "broken.toml") + "[inventory]\ncommands = EraseDevice\n"
        )
        done = subprocess.run(
            [self.daemon.command[0], "-n", "mdmd", "--check", "--config", config],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        self.assertEqual(done.returncode, 1)
        self.assertIn("did you mean InstallProfile?", done.stderr)
        self.assertIn("EraseDevice is not a command that only asks", done.stderr)
        self.assertNotIn("Traceback", done.stderr)
