"""Simulated devices behave as Apple's do, on the wire; bad manners only when told to."""

import itertools
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mdmd.errors import BadSCEP
from mdmd.mdm import plist
from mdmd.mdm.checkin import TokenUpdate, decode_checkin
from mdmd.pki import cms
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import fingerprint
from mdmd.sim.answers import answer
from mdmd.sim.device import Device, Rejected, fetch_profile
from mdmd.sim.fleet import Fleet, KeyRing, Plan, turns
from mdmd.sim.hardware import MODELS, make_hardware
from mdmd.sim.installed import Installed, Malformed, Refused
from mdmd.sim.manners import Manners
from mdmd.sim.tally import Times
from mdmd.sim.wire import NoServer, Wire
from tests.simhelp import RunningSite, ScriptedServer, authority, error_of

KEYS = KeyRing(2)  # for all tests of this file: making one takes a tenth of a second


class SiteTestCase(TestCase):
    """A device, and a real site with a script behind it."""

    sign_message = False

    async def setUp(self) -> None:
        self.server = ScriptedServer()
        self.site = RunningSite(self.server, self.sign_message)
        await self.site.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.site.stop()))
        self.told: list[tuple[str, dict[str, Any]]] = []

    def device(self, kind: str = "iphone", **manners: Any) -> Device:
        device = Device(
            reactor,
            make_hardware(kind, "test", 1),
            self.site.profile(),
            manners=Manners(**manners),
            tell=lambda _, word, facts: self.told.append((word, dict(facts))),
            new_key=KEYS.new_key,
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(device.close()))
        return device

    async def enrolled(self, kind: str = "iphone", **manners: Any) -> Device:
        device = self.device(kind, **manners)
        await device.enroll()
        return device

    def words(self) -> list[str]:
        return [word for word, _ in self.told if word != "request"]

    async def until(self, condition: Any) -> None:
        for _ in range(500):
            if condition():
                return
            await deferLater(reactor, 0.01)
        self.fail("it did not come about")


class Mute(Protocol):
    """A server that hears and never answers."""

    def dataReceived(self, data: bytes) -> None:
        self.factory.heard.append(data)  # type: ignore[union-attr]


class WireTests(TestCase):
    """The road to the server, alone."""

    async def test_cancelled(self) -> None:
        """A request that is taken back is not sent again; the connection ends."""
        factory = Factory.forProtocol(Mute)
        factory.heard = heard = []  # type: ignore[attr-defined,var-annotated]
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        wire = Wire(reactor, [])
        asked = Deferred.fromCoroutine(wire.get(f"http://127.0.0.1:{port.getHost().port}/"))
        while not heard:
            await deferLater(reactor, 0.01)
        asked.cancel()
        await self.assertFailure(asked, CancelledError)
        await wire.close()
        self.assertEqual(len(heard), 1)


class EnrollTests(SiteTestCase):
    async def test_profile_to_token(self) -> None:
        """Profile by HTTPS, identity by SCEP, Authenticate, TokenUpdate with that identity."""
        wire = Wire(reactor, self.site.template.trust)
        profile = await fetch_profile(wire, self.site.url)
        await wire.close()
        self.assertEqual(profile, self.site.profile())
        device = await self.enrolled("iphone")
        self.assertEqual(
            [each["MessageType"] for each in self.server.checkins], ["Authenticate", "TokenUpdate"]
        )
        self.assertEqual(self.server.checkins[0]["SerialNumber"], device.hardware.serial)
        self.assertEqual(self.server.pins, [fingerprint(device.identity.certificate)])
        update = decode_checkin(plist.dumps(self.server.checkins[1]))
        assert isinstance(update, TokenUpdate)
        self.assertEqual((update.token, update.push_magic), (device.push.token, device.push.magic))
        self.assertIsNotNone(update.unlock_token)
        self.assertEqual(self.words(), ["identity", "enrolled"])

    async def test_mac_escrows_a_bootstrap_token(self) -> None:
        """A Mac has no unlock token, and gives its bootstrap token away."""
        await self.enrolled("mac")
        kinds = [each["MessageType"] for each in self.server.checkins]
        self.assertEqual(kinds, ["Authenticate", "TokenUpdate", "SetBootstrapToken"])
        self.assertNotIn("UnlockToken", self.server.checkins[1])

    async def test_wrong_challenge(self) -> None:
        """The CA's word reaches whoever started the device, and nothing was checked in."""
        scep = self.site.template.scep
        assert scep is not None
        wrong = attrs.evolve(scep, challenge="wrong")
        device = Device(
            reactor,
            make_hardware("mac", "test", 1),
            self.site.profile(scep=wrong),
            new_key=KEYS.new_key,
        )
        error = await self.failure(device.enroll())
        self.assertIsInstance(error, BadSCEP)
        self.assertIn("badRequest", str(error))
        self.assertEqual(self.server.checkins, [])

    async def test_wrong_fingerprint(self) -> None:
        """A CA that is not the one the profile names is not asked for anything."""
        scep = self.site.template.scep
        assert scep is not None
        wrong = attrs.evolve(scep, ca_fingerprint=b"\0" * 20)
        device = Device(reactor, make_hardware("mac", "test", 1), self.site.profile(scep=wrong))
        self.assertIsInstance(await self.failure(device.enroll()), BadSCEP)

    async def test_untrusted_server(self) -> None:
        """A server whose certificate is not from the profile's roots is not spoken to."""
        from mdmd.pki.authority import CertificateAuthority
        from mdmd.pki.certificates import certificate_der

        other = CertificateAuthority.create("Another", kind="ec")
        profile = self.site.profile(trust=[certificate_der(other.certificate)])
        device = Device(reactor, make_hardware("mac", "test", 1), profile, new_key=KEYS.new_key)
        error = await self.failure(device.enroll())
        self.assertIsInstance(error, NoServer)
        self.assertIn("certificate verify failed", str(error))

    async def test_nobody_there(self) -> None:
        """A closed port is one clear line."""
        wire = Wire(reactor, self.site.template.trust)
        error = await self.failure(fetch_profile(wire, "https://localhost:1"))
        self.assertIsInstance(error, NoServer)
        self.assertIn("https://localhost:1/enroll: no connection", str(error))

    async def failure(self, story: Any) -> BaseException:
        try:
            await story
        except (BadSCEP, NoServer, Rejected) as error:
            return error
        raise AssertionError("it went well")


class SessionTests(SiteTestCase):
    async def test_does_all_there_is(self) -> None:
        """Woken, it connects and takes one command after the other until there is none."""
        device = await self.enrolled("iphone")
        self.server.queue("DeviceInformation", Queries=["OSVersion", "IMEI", "HostName"])
        self.server.queue("SecurityInfo")
        self.server.queue("EACS")
        device.wake(device.push.magic)
        await self.until(lambda: len(self.server.reports) == 4)
        idle, information, security, unknown = self.server.reports
        self.assertEqual(idle["Status"], "Idle")
        self.assertEqual(information["Status"], "Acknowledged")
        answers = information["QueryResponses"]
        assert isinstance(answers, dict)
        self.assertEqual(set(answers), {"OSVersion", "IMEI"})  # an iPhone has no HostName
        self.assertIn("SecurityInfo", security)
        self.assertEqual(unknown["Status"], "Error")
        chain = unknown["ErrorChain"]
        assert isinstance(chain, list)
        self.assertEqual(chain[0]["ErrorCode"], 12021)

    async def test_wrong_magic(self) -> None:
        """A push with another magic wakes nobody."""
        device = await self.enrolled()
        device.wake("another")
        self.assertEqual(self.words()[-1], "trouble")
        self.assertEqual(self.server.reports, [])

    async def test_woken_again_meanwhile(self) -> None:
        """A push that comes during a session is one more session, not two at once."""
        device = await self.enrolled()
        device.wake(device.push.magic)
        device.wake(device.push.magic)
        device.wake(device.push.magic)
        await self.until(lambda: len(self.server.reports) == 2)
        await deferLater(reactor, 0.05)
        self.assertEqual(len(self.server.reports), 2)

    async def test_busy_server(self) -> None:
        """503 is asked again; nothing is reported twice, nothing lost."""
        device = await self.enrolled()
        self.server.queue("SecurityInfo")
        self.server.busy = 1
        self.assertEqual(await device.session(), 1)
        self.assertEqual([each["Status"] for each in self.server.reports], ["Idle", "Acknowledged"])

    async def test_erased(self) -> None:
        """After EraseDevice it is gone: no check-out, no more sessions."""
        device = await self.enrolled()
        self.server.queue("EraseDevice")
        await device.session()
        self.assertFalse(device.enrolled)
        device.wake(device.push.magic)
        self.assertEqual(len(self.server.reports), 2)

    async def test_profile_removed(self) -> None:
        """Removing the enrollment profile ends in a CheckOut."""
        device = await self.enrolled()
        self.server.queue("RemoveProfile", Identifier="org.example.mdm")
        await device.session()
        await self.until(lambda: self.server.checkins[-1]["MessageType"] == "CheckOut")
        self.assertFalse(device.enrolled)

    async def test_renewal(self) -> None:
        """The enrollment profile again: a new identity by the old one, the same tokens."""
        device = await self.enrolled()
        first = device.identity
        self.server.queue("InstallProfile", Payload=self.site.profile(description="newer"))
        self.server.queue("CertificateList")
        await device.session()
        self.assertNotEqual(device.identity, first)
        self.assertEqual(len(set(self.server.pins)), 2)
        old, new = (each for each in self.server.checkins if each["MessageType"] == "TokenUpdate")
        self.assertEqual(old["Token"], new["Token"])
        listed = self.server.reports[-1]["CertificateList"]
        assert isinstance(listed, list)
        self.assertEqual(len(listed), 1)

    async def test_declarations(self) -> None:
        """DeclarativeManagement makes it ask for tokens, items, each declaration, and report."""
        device = await self.enrolled("mac")
        self.server.queue("DeclarativeManagement")
        await device.session()
        endpoints = [each["Endpoint"] for each in self.server.checkins if "Endpoint" in each]
        self.assertEqual(
            endpoints,
            [
                "tokens",
                "declaration-items",
                "declaration/configuration/org.example.one",
                "status",
            ],
        )


class SignatureTests(SiteTestCase):
    sign_message = True

    async def test_messages_are_signed(self) -> None:
        """With SignMessage each message carries a signature that the server accepts."""
        device = await self.enrolled()
        self.assertEqual(await device.session(), 0)
        self.assertEqual(len(self.server.checkins), 2)


class MannersTests(SiteTestCase):
    async def reports(self, fault: str, **more: Any) -> list[object]:
        device = await self.enrolled("mac", fault=fault, **more)
        self.server.queue("SecurityInfo")
        self.server.queue("SecurityInfo")
        device.connect_soon()
        await self.until(lambda: not self.server.commands or "trouble" in self.words())
        return [each["Status"] for each in self.server.reports]

    async def test_not_now(self) -> None:
        """NotNow once, and after a while it comes back by itself and does all of it."""
        found = await self.reports("notnow", delay=0.01)
        self.assertEqual(found, ["Idle", "NotNow", "Idle", "Acknowledged", "Acknowledged"])

    async def test_error(self) -> None:
        """Error for so many commands, then it behaves."""
        self.assertEqual(await self.reports("error"), ["Idle", "Error", "Acknowledged"])

    async def test_format_error(self) -> None:
        """times=0: at every command."""
        self.assertEqual(
            await self.reports("format-error", times=0),
            ["Idle", "CommandFormatError", "CommandFormatError"],
        )

    async def test_silent(self) -> None:
        """It takes the command and says nothing; the next time it is offered again."""
        device = await self.enrolled("mac", fault="silent")
        self.server.queue("SecurityInfo")
        self.assertEqual(await device.session(), 0)
        self.assertEqual((len(self.server.commands), self.server.sent), (1, 1))
        self.assertEqual(await device.session(), 1)

    async def test_slow(self) -> None:
        """It takes its time, and answers rightly."""
        found = await self.reports("slow", delay=0.01)
        self.assertEqual(found, ["Idle", "Acknowledged", "Acknowledged"])

    async def test_garbage(self) -> None:
        """What is no report gets a 400, changes nothing, and is told."""
        self.assertEqual(await self.reports("garbage"), ["Idle"])
        self.assertEqual(self.told[-1][0], "trouble")
        self.assertIn("400", self.told[-1][1]["why"])
        self.assertEqual(len(self.server.commands), 2)


class FleetTests(SiteTestCase):
    async def test_many(self) -> None:
        """All kinds enroll side by side, are woken by token, and are counted."""
        fleet = Fleet(reactor, Plan(count=8, at_once=4, keys=2), self.site.profile())
        self.addCleanup(lambda: Deferred.fromCoroutine(fleet.close()))
        await fleet.enroll()
        self.assertEqual((fleet.enrolled, fleet.failed), (8, 0))
        self.assertEqual(len({device.hardware.udid for device in fleet.devices}), 8)
        for device in fleet.devices:
            fleet.woken(device.push.token, device.push.magic)
        fleet.woken(b"somebody else's", "magic")
        await self.until(lambda: len(self.server.reports) == 8)
        summary = fleet.tally.summary()
        counts = summary["counts"]
        assert isinstance(counts, dict)
        self.assertEqual((counts["enrolled"], counts["woken"]), (8, 8))

    async def test_failures_are_counted(self) -> None:
        """A device that can't enroll does not keep the others; what went wrong is told."""
        plan = Plan(count=2, kinds=["mac"], keys=1)
        fleet = Fleet(reactor, plan, self.site.profile(checkin_url=f"{self.site.url}/nowhere"))
        self.addCleanup(lambda: Deferred.fromCoroutine(fleet.close()))
        await fleet.enroll()
        self.assertEqual((fleet.enrolled, fleet.failed), (0, 2))
        self.assertEqual(fleet.troubles, {"Authenticate: 404 not found": 2})


class TurnTests(SynchronousTestCase):
    def test_once_a_poll(self) -> None:
        """Each device has one turn, and no moment has many more than another."""
        for count in (1, 2, 19, 20, 21, 45):
            devices: Any = list(range(count))
            made = turns(devices)
            self.assertEqual(sorted(itertools.chain(*made)), devices)
            self.assertEqual(len(made), min(count, 20))
            self.assertLessEqual(max(map(len, made)) - min(map(len, made)), 1)


class AnswerTests(SynchronousTestCase):
    """What each platform answers."""

    def installed(self, kind: str) -> Installed:
        return Installed(make_hardware(kind, "test", 1), authority().certificate)

    def ask(self, device: Installed, request_type: str, **keys: object) -> dict[str, object]:
        return answer(device, {"RequestType": request_type, **keys})

    def test_platforms(self) -> None:
        """Each knows its own commands and refuses the others'."""
        for kind, yes, no in (
            ("mac", "SetRecoveryLock", "EnableLostMode"),
            ("iphone", "EnableLostMode", "UserConfigured"),
            ("ipad", "Restrictions", "EnableRemoteDesktop"),
            ("appletv", "RestartDevice", "DeviceLock"),
        ):
            self.ask(self.installed(kind), yes, NewPassword="new", Message="lost")
            with self.assertRaises(Refused):
                self.ask(self.installed(kind), no)

    def test_every_answer_is_a_plist(self) -> None:
        """Whatever is asked of whichever model, the answer can be sent."""
        for kind in MODELS:
            device = self.installed(kind)
            queries = list(device.hardware.properties)
            for request_type in (
                *("DeviceInformation", "SecurityInfo", "ProfileList", "CertificateList"),
                *("InstalledApplicationList", "ManagedApplicationList", "AvailableOSUpdates"),
            ):
                plist.dumps(self.ask(device, request_type, Queries=queries))

    def test_profiles(self) -> None:
        """Installed, listed, replaced by the same identifier, removed; not removed twice."""
        device = self.installed("mac")
        signer = CertificateAuthority.create("other", "ec", 5).issue_server(["example.org"], 5)
        for name in ("one", "two"):
            payload = {
                "PayloadType": "Configuration",
                "PayloadIdentifier": "org.example.x",
                "PayloadDisplayName": name,
                "PayloadContent": [{"PayloadType": "com.apple.dock", "secret": b"x" * (5 << 20)}],
            }
            profile = plist.dumps(payload)
            if name == "two":
                profile = cms.sign_attached(profile, *signer)
            self.ask(device, "InstallProfile", Payload=profile)
        (listed,) = self.ask(device, "ProfileList")["ProfileList"]  # type: ignore[misc]
        self.assertEqual(listed["PayloadDisplayName"], "two")
        self.assertEqual(listed["PayloadContent"], [{"PayloadType": "com.apple.dock"}])
        self.ask(device, "RemoveProfile", Identifier="org.example.x")
        error = error_of(lambda: self.ask(device, "RemoveProfile", Identifier="org.example.x"))
        self.assertIsInstance(error, Refused)

    def test_nonsense(self) -> None:
        """A key that is missing or of another type is a CommandFormatError, no crash."""
        device = self.installed("iphone")
        for request_type in (
            *("DeviceInformation", "InstallProfile", "RemoveProfile", "Settings"),
            *("ClearPasscode", "RemoveApplication", "ScheduleOSUpdate", "InstallApplication"),
        ):
            with self.assertRaises(Malformed, msg=request_type):
                self.ask(device, request_type)
        for payload in (b"no profile", b"\x30 no signature"):
            with self.assertRaises(Refused):
                self.ask(device, "InstallProfile", Payload=payload)

    def test_lost_mode(self) -> None:
        """A location is only told in lost mode."""
        device = self.installed("iphone")
        with self.assertRaises(Refused):
            self.ask(device, "DeviceLocation")
        self.ask(device, "EnableLostMode", Message="call me")
        self.assertIn("Latitude", self.ask(device, "DeviceLocation"))
        query = self.ask(device, "DeviceInformation", Queries=["IsMDMLostModeEnabled"])
        self.assertEqual(query, {"QueryResponses": {"IsMDMLostModeEnabled": True}})

    def test_names(self) -> None:
        """A name that Settings gave is what it is called from then on."""
        device = self.installed("ipad")
        settings = [{"Item": "DeviceName", "DeviceName": "Kiosk"}]
        self.ask(device, "Settings", Settings=settings)
        query = self.ask(device, "DeviceInformation", Queries=["DeviceName"])
        self.assertEqual(query, {"QueryResponses": {"DeviceName": "Kiosk"}})

    def test_hardware(self) -> None:
        """The same seed and number make the same device, others another; forms are Apple's."""
        one, same = (make_hardware("iphone", "a", 1) for _ in range(2))
        self.assertEqual(one, same)
        self.assertNotEqual(one.udid, make_hardware("iphone", "b", 1).udid)
        self.assertRegex(one.udid, r"\A[0-9A-F]{8}-[0-9A-F]{16}\Z")
        self.assertRegex(make_hardware("mac", "a", 1).udid, r"\A[0-9A-F]{8}(-[0-9A-F]{4}){3}-")
        digits = [int(d) for d in one.facts["IMEI"] if d.isdigit()]
        luhn = sum(d * (1 + i % 2) - 9 * (d * (1 + i % 2) > 9) for i, d in enumerate(digits))
        self.assertEqual((len(digits), luhn % 10), (15, 0))

    def test_quantiles(self) -> None:
        """Times are told to a fifth."""
        times = Times()
        for number in range(1, 101):
            times.add(number / 1000)
        self.assertLess(0.05 / 1.2, times.quantile(0.5))
        self.assertLess(times.quantile(0.5), 0.05 * 1.2)
        self.assertLess(0.099 / 1.2, times.quantile(0.99))
        self.assertLess(times.quantile(0.99), 0.099 * 1.2)
        self.assertEqual(Times().quantile(0.5), 0.0)
