"""
A simulated device: it enrolls, waits to be woken, connects, and does as it is told.

It knows the wire and nothing of the server. What it answers is in
:mod:`mdmd.sim.answers`, what may be wrong with it in :mod:`mdmd.sim.manners`.

Source: Apple, "Implementing device management"; MDM protocol reference.
"""

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import uuid4

import attrs
from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from mdmd.errors import MdmdError
from mdmd.mdm import plist
from mdmd.mdm.profile import EnrollmentProfile, read_enrollment_profile
from mdmd.pki import cms
from mdmd.sim import declarative
from mdmd.sim.answers import answer
from mdmd.sim.deeds import LARGEST, read_payload
from mdmd.sim.hardware import Hardware
from mdmd.sim.identity import NewKey, get_identity
from mdmd.sim.installed import Installed, Malformed, Refused
from mdmd.sim.manners import GARBAGE, Manners, Mood
from mdmd.sim.wire import CHECKIN_TYPE, REPORT_TYPE, Identity, NoServer, Response, Wire

Report = dict[str, object]

TRIES = 5  # at a message that the server was too busy or not there for
_PAUSE = 1.0  # seconds before the second try; doubled for each further one


class Rejected(MdmdError):
    """
    The server does not take what a device says.

    :ivar status: the HTTP status.
    """

    def __init__(self, what: str, response: Response) -> None:
        super().__init__(f"{what}: {response.text()}")
        self.status = response.status


async def new_key(bits: int) -> rsa.RSAPrivateKey:
    """Make a key off the reactor's thread: it takes a tenth of a second."""
    return await deferToThread(rsa.generate_private_key, public_exponent=65537, key_size=bits)


async def fetch_profile(wire: Wire, url: str) -> bytes:
    """
    Fetch the enrollment profile from a server, out of its signature if it has one.

    :param url: the server's, without a path.
    :raises NoServer: no answer.
    :raises Rejected: there is no profile for us.
    """
    response = await wire.get(f"{url.rstrip('/')}/enroll")
    if response.status != 200:
        raise Rejected("the enrollment profile", response)
    return unsigned(response.body)


def unsigned(profile: bytes) -> bytes:
    """
    Take a profile out of its signature, if it has one.

    :raises BadSignature: the signature does not hold.
    """
    return cms.verify_attached(profile)[0] if profile.startswith(b"\x30") else profile


Tell = Callable[["Device", str, Mapping[str, object]], object]


@attrs.frozen
class Push:
    """Where a device is pushed to; kept when it renews its enrollment."""

    token: bytes = attrs.field(factory=lambda: os.urandom(32), repr=False)
    magic: str = attrs.field(factory=lambda: str(uuid4()).upper(), repr=False)


class Device:
    """
    One device and its enrollment.

    :param reactor: its time and its network.
    :param profile: the enrollment profile, unsigned.
    :param trust: DER of roots to trust if the profile brings none.
    :param tell: told of each step: ``identity``, ``enrolled``, ``woken``, ``command``,
        ``report``, ``request`` (with ``kind``, ``status`` and ``seconds``), ``trouble``,
        ``erased``, ``left``.
    """

    def __init__(
        self,
        reactor: Any,
        hardware: Hardware,
        profile: bytes,
        trust: tuple[bytes, ...] = (),
        manners: Manners | None = None,
        tell: Tell = lambda *_: None,
        new_key: NewKey = new_key,
    ) -> None:
        self.hardware = hardware
        self.push = Push()
        self.enrolled = False
        self._reactor = reactor
        self._trust = trust
        self._mood = Mood(manners or Manners())
        self._tell = tell
        self._new_key = new_key
        self._read(profile)
        self._wire = Wire(reactor, self._roots)
        self._installed: Installed | None = None
        self._identity: Identity | None = None
        self._unlock_token = b"" if hardware.is_mac else os.urandom(64)
        self._session: Deferred[None] | None = None
        self._leaving: Deferred[None] | None = None
        self._again = False

    def _read(self, profile: bytes) -> None:
        self._profile: EnrollmentProfile = read_enrollment_profile(profile)
        self._raw_profile = profile
        self._roots = self._profile.trust or self._trust

    @property
    def identity(self) -> Identity:
        """Its certificate and key; only after :meth:`enroll`."""
        assert self._identity is not None
        return self._identity

    # -- enrolling -------------------------------------------------------------------

    async def enroll(self) -> None:
        """
        Get an identity, check in, and say where to push to.

        :raises NoServer: no answer.
        :raises BadSCEP: no certificate.
        :raises Rejected: the check-in was not taken.
        """
        await self._get_identity()
        installed = Installed(self.hardware, self.identity.certificate)
        installed.unlock_token = self._unlock_token
        installed.installs(plist.loads(self._raw_profile))
        self._installed = installed
        await self._check_in_again()
        if self.hardware.is_mac and self._wants("com.apple.mdm.bootstraptoken"):
            await self.check_in("SetBootstrapToken", BootstrapToken=os.urandom(32))
        self.enrolled = True
        self._tell(self, "enrolled", {})

    async def _get_identity(self, old: Identity | None = None) -> None:
        words = {"SerialNumber": self.hardware.serial, "HardwareUUID": self.hardware.udid}
        plain = Wire(self._reactor, self._roots)
        try:
            began = time.monotonic()
            self._identity = await get_identity(plain, self._profile, words, self._new_key, old)
        finally:
            await plain.close()
        await self._wire.close()
        self._wire = Wire(self._reactor, self._roots, self._identity, self._profile.sign_message)
        serial = f"{self.identity.certificate.serial_number:x}"
        took = time.monotonic() - began
        self._tell(self, "identity", {"serial": serial, "seconds": took})

    async def _check_in_again(self) -> None:
        await self.check_in("Authenticate", Topic=self._profile.topic, **self.hardware.facts)
        await self.update_token()

    async def update_token(self) -> None:
        """Say where to push to."""
        keys: dict[str, object] = {"AwaitingConfiguration": False}
        if self._unlock_token:
            keys["UnlockToken"] = self._unlock_token
        await self.check_in(
            "TokenUpdate",
            Topic=self._profile.topic,
            Token=self.push.token,
            PushMagic=self.push.magic,
            **keys,
        )

    async def check_out(self) -> None:
        """Leave, as when the profile is removed."""
        self.enrolled = False
        if self._profile.check_out_when_removed:
            await self.check_in("CheckOut", Topic=self._profile.topic)
        self._tell(self, "left", {})

    async def check_in(self, message_type: str, **keys: object) -> bytes:
        """
        Send a check-in of any kind; return what was answered.

        :raises NoServer: no answer.
        :raises Rejected: another status than 200.
        """
        message = {"MessageType": message_type, "UDID": self.hardware.udid, **keys}
        return await self._put(
            message_type, self._profile.checkin_url, plist.dumps(message), CHECKIN_TYPE
        )

    def _wants(self, capability: str) -> bool:
        return capability in self._profile.server_capabilities

    # -- being woken -----------------------------------------------------------------

    def wake(self, magic: str) -> None:
        """Be pushed: connect, unless the magic is not ours."""
        if not self.enrolled or magic != self.push.magic:
            self._tell(self, "trouble", {"why": "pushed with a wrong magic"})
            return
        self._tell(self, "woken", {})
        self.connect_soon()

    def connect_soon(self) -> None:
        """Connect now; after the session that is under way, if there is one."""
        if self._session is not None:
            self._again = True
            return
        self._session = Deferred.fromCoroutine(self._connect())

    async def close(self) -> None:
        """Be switched off."""
        for each in (self._session, self._leaving):
            if each is not None:
                each.cancel()
        await self._wire.close()

    async def _connect(self) -> None:
        try:
            self._again = True
            while self._again and self.enrolled:
                self._again = False
                await self.session()
        except CancelledError:
            return
        except MdmdError as error:
            self._tell(self, "trouble", {"why": str(error)})
        finally:
            self._session = None

    async def session(self) -> int:
        """
        Connect and do all there is to do; return how many commands were reported on.

        :raises NoServer: no answer.
        :raises Rejected: a report was not taken.
        """
        reported = 0
        command = await self._report({"Status": "Idle"})
        while command:
            report = await self._obey(plist.loads(command, LARGEST))
            if report is None:
                break
            command = await self._report(report)
            reported += 1
        return reported

    async def _obey(self, message: Mapping[str, object]) -> Report | None:
        """Do one command; None: nothing is reported."""
        inner = message.get("Command")
        command = inner if isinstance(inner, dict) else {}
        request_type, uuid = str(command.get("RequestType")), str(message.get("CommandUUID"))
        self._tell(self, "command", {"request_type": request_type, "uuid": uuid})
        fault = self._mood.misbehaves()
        if fault == "silent":
            return None
        if fault == "garbage":
            await self._report_bytes(GARBAGE)
            return None
        report = await self._misreport(fault) or await self._do(request_type, command)
        report["CommandUUID"] = uuid
        self._tell(self, "report", {"request_type": request_type, "status": report["Status"]})
        return report

    async def _misreport(self, fault: str) -> Report | None:
        match fault:
            case "notnow":
                self._reactor.callLater(self._mood.manners.delay, self._come_back)
                return {"Status": "NotNow"}
            case "error":
                return _error(Refused(12000, "The device was told to fail."))
            case "format-error":
                return {"Status": "CommandFormatError"}
            case "slow":
                await self._sleep(self._mood.manners.delay)
        return None

    def _come_back(self) -> None:
        if self.enrolled:
            self.connect_soon()

    async def _do(self, request_type: str, command: Mapping[str, object]) -> Report:
        assert self._installed is not None
        try:
            if request_type == "InstallProfile" and self._is_enrollment(command):
                await self._renew(command)
                return {"Status": "Acknowledged"}
            answered = answer(self._installed, command)
        except Malformed:
            return {"Status": "CommandFormatError"}
        except Refused as refused:
            return _error(refused)
        await self._after(request_type, command)
        return {"Status": "Acknowledged", **answered}

    async def _after(self, request_type: str, command: Mapping[str, object]) -> None:
        match request_type:
            case "DeclarativeManagement":
                await declarative.synchronize(self.check_in)
            case "EraseDevice":
                self.enrolled = False
                self._tell(self, "erased", {})
            case "RemoveProfile" if command["Identifier"] == self._profile.identifier:
                self._reactor.callLater(0, self._leave)

    def _leave(self) -> None:
        self._leaving = Deferred.fromCoroutine(self._try_to_leave())

    async def _try_to_leave(self) -> None:
        try:
            await self.check_out()
        except CancelledError:
            return
        except MdmdError as error:
            self._tell(self, "trouble", {"why": str(error)})

    # -- renewing --------------------------------------------------------------------

    def _is_enrollment(self, command: Mapping[str, object]) -> bool:
        identifier = read_payload(command).get("PayloadIdentifier")
        return identifier == self._profile.identifier

    async def _renew(self, command: Mapping[str, object]) -> None:
        """Take a newer enrollment profile: a new identity by the old one, the same tokens."""
        assert self._installed is not None
        raw = command["Payload"]
        assert isinstance(raw, bytes)
        try:
            self._read(unsigned(raw))
            await self._get_identity(self.identity)
        except MdmdError as error:
            raise Refused(4001, f"The profile could not be installed: {error}") from error
        self._installed.identity = self.identity.certificate
        self._installed.installs(plist.loads(self._raw_profile))
        await self._check_in_again()

    # -- the wire --------------------------------------------------------------------

    async def _report(self, report: Report) -> bytes:
        return await self._report_bytes(plist.dumps({"UDID": self.hardware.udid, **report}))

    async def _report_bytes(self, body: bytes) -> bytes:
        return await self._put("connect", self._profile.server_url, body, REPORT_TYPE)

    async def _put(self, kind: str, url: str, body: bytes, content_type: str) -> bytes:
        """Say one thing until it is heard, or it is certain that it never will be."""
        for attempt in range(TRIES):
            if attempt:
                await self._sleep(_PAUSE * 2 ** (attempt - 1))
            try:
                response = await self._timed(kind, self._wire.put(url, body, content_type))
            except NoServer:
                if attempt == TRIES - 1:
                    raise
                continue
            if response.status != 503 or attempt == TRIES - 1:
                break
        if response.status != 200:
            raise Rejected(kind, response)
        return response.body

    async def _timed(self, kind: str, asked: Awaitable[Response]) -> Response:
        began = time.monotonic()
        status = 0
        try:
            response = await asked
            status = response.status
        finally:
            took = time.monotonic() - began
            self._tell(self, "request", {"kind": kind, "status": status, "seconds": took})
        return response

    async def _sleep(self, seconds: float) -> None:
        await deferLater(self._reactor, seconds)


def _error(refused: Refused) -> Report:
    return {"Status": "Error", "ErrorChain": list(refused.chain)}
