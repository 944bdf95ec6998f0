"""A store on a real Valkey for tests, with a clock of its own, and devices that talk to it."""

import plistlib
from typing import Any
from unittest import SkipTest

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from mdmd.interfaces.fleet import Policy
from mdmd.interfaces.identity import Identity
from mdmd.mdm.checkin import Authenticate, SetBootstrapToken, TokenUpdate
from mdmd.mdm.command import Command, build_command
from mdmd.mdm.enrollment import EnrollmentID, EnrollmentType
from mdmd.mdm.report import Report, Status
from mdmd.pki.sealing import Sealer
from mdmd.store.link import Link
from mdmd.store.store import Settings, Store
from tests.storehelp import VALKEY, Server

BEGIN = 1_790_000_000.0
MS = int(BEGIN * 1000)
TOPIC = "com.apple.mgmt.External.t"
SEALER = Sealer(b"k" * 32)


def udid(number: int) -> str:
    """A Mac's UDID."""
    return f"0A1B2C3D-0000-5AC1-BDB2-{number:012X}"


def certificate(number: int) -> Identity:
    """The identity of a device."""
    return Identity(f"{number:064x}", f"{number:x}", int(BEGIN) + 86_400 * 365)


def command(uuid: str, request_type: str = "DeviceInformation", **keys: object) -> Command:
    """A command with a name of our choice."""
    return build_command(request_type, keys, uuid)


@attrs.define
class Talker:
    """A device, or one of its user channels, as the store meets it."""

    store: Store
    enrollment: EnrollmentID
    identity: Identity

    async def authenticate(self, identity: Identity | None = None, **facts: str) -> None:
        self.identity = identity or self.identity
        message = Authenticate(self.enrollment, TOPIC, facts, b"<plist>authenticate</plist>")
        await self.store.enrollments.authenticate(message, self.identity)

    async def token_update(self, token: bytes = b"t" * 32, **more: Any) -> int:
        told = {
            "topic": TOPIC,
            "push_magic": "magic",
            "unlock_token": None,
            "awaiting_configuration": False,
            "user_short_name": "",
        } | more
        raw = plistlib.dumps({"Token": token, "PushMagic": told["push_magic"]})
        message = TokenUpdate(self.enrollment, token=token, raw=raw, **told)
        return await self.store.enrollments.token_update(message, self.identity)

    async def enroll(self, **facts: str) -> None:
        await self.authenticate(**facts)
        await self.token_update()

    async def escrow(self, token: bytes) -> None:
        message = SetBootstrapToken(self.enrollment, token, b"<plist>escrow</plist>")
        await self.store.enrollments.set_bootstrap_token(message, self.identity)

    async def escrowed(self) -> bytes | None:
        return await self.store.enrollments.get_bootstrap_token(
            self.enrollment, self.identity, b"<plist>get</plist>"
        )

    async def check_out(self) -> None:
        await self.store.enrollments.check_out(
            self.enrollment, self.identity, b"<plist>bye</plist>"
        )

    async def says(self, status: Status, uuid: str | None = None, raw: bytes = b"") -> str | None:
        """Connect; what the next command's UUID is, or None."""
        raw = raw or f"<plist>{status.value} {uuid}</plist>".encode()
        error = "it broke" if status is Status.ERROR else ""
        report = Report(self.enrollment, status, uuid, error, raw)
        command = (await self.store.queue.report_and_next(report, self.identity)).command
        return None if command is None else command.uuid

    async def idle(self) -> str | None:
        return await self.says(Status.IDLE)

    async def acknowledges(self, uuid: str) -> str | None:
        return await self.says(Status.ACKNOWLEDGED, uuid)

    async def not_now(self, uuid: str) -> str | None:
        return await self.says(Status.NOT_NOW, uuid)

    async def is_sent(self, *uuids: str, policy: Policy | None = None, **keys: object) -> list[str]:
        """Queue commands; what became of each."""
        return [
            (
                await self.store.fleet.enqueue(
                    command(uuid, **keys), [self.enrollment], policy or Policy()
                )
            )[0].value
            for uuid in uuids
        ]

    async def queue(self) -> list[tuple[str, str]]:
        """The queue: UUID and state."""
        lines = await self.store.fleet.queue(self.enrollment)
        return [(line.uuid, line.state) for line in lines]

    async def results(self) -> list[tuple[str, str]]:
        """The results, newest first: UUID and status."""
        found = await self.store.fleet.results(self.enrollment, 1000)
        return [(result.uuid, result.status) for result in found]


class StoreCase(TestCase):
    """One Valkey for all tests of a class, emptied before each."""

    timeout = 60
    binary = VALKEY
    settings = Settings()
    server: Server

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        if not cls.binary:
            raise SkipTest("redis-server is not installed")
        cls.server = Server(cls.binary)
        cls.server.start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.server.close()
        super().tearDownClass()

    async def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = BEGIN
        self.link = await Link.open(reactor, self.server.url, timeout=30.0)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.link.close()))
        await self.link.call("FLUSHALL")
        self.store = Store(self.link, SEALER, self.clock, self.settings)

    def device(self, number: int = 1) -> Talker:
        return Talker(self.store, EnrollmentID(udid(number)), certificate(number))

    def user(self, number: int = 1, name: str = "U-1") -> Talker:
        one = EnrollmentID(udid(number), name, EnrollmentType.USER)
        return Talker(self.store, one, certificate(number))

    async def enrolled(self, number: int = 1) -> Talker:
        one = self.device(number)
        await one.enroll()
        return one

    async def assertRefused(self, coroutine: Any, kind: type[Exception]) -> None:
        """It ends with just this exception."""
        try:
            await coroutine
        except kind as error:
            self.assertIs(type(error), kind)
        else:
            self.fail(f"no {kind.__name__}")

    async def topics(self) -> list[str]:
        """The topics of all events so far."""
        return [event.topic for event in await self.store.fleet.events(limit=10_000)]
