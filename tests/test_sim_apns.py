"""The stand-in answers as Apple's push service does; asked by curl, which nobody here wrote."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.procutils import which
from twisted.trial.unittest import TestCase

from mdmd.sim.apns import Push, Reply
from mdmd.sim.courier import listen_to_courier
from mdmd.sim.standin import StandIn, make_push_certificate

CURL = which("curl")
TOPIC = "com.apple.mgmt.External.00000000-0000-4000-8000-000000000000"
TOKEN = "ab" * 32


class StandInTests(TestCase):
    """One stand-in on loopback for each test."""

    async def setUp(self) -> None:
        if not CURL:
            self.skipTest("curl is not installed")
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        self.reply = Reply()
        self.pushes: list[Push] = []
        self.standin = StandIn.make(reactor, TOPIC, lambda _: self.reply)
        self.standin.woken = self.pushes.append
        await self.standin.listen()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.standin.close()))
        (self.folder / "ca.pem").write_bytes(self.standin.trust)
        (self.folder / "push.pem").write_bytes(self.standin.push_certificate)

    async def curl(self, *arguments: str, http: str = "--http2") -> str:
        out, error, _ = await getProcessOutputAndValue(
            CURL[0],
            ["-sS", "-i", http, "--cacert", "ca.pem", "--max-time", "5", *arguments],
            env=dict(os.environ),
            path=str(self.folder),
        )
        return (out + error).decode()

    async def push(
        self, path: str = f"3/device/{TOKEN}", topic: str = TOPIC, body: str = '{"mdm":"M"}'
    ) -> tuple[int, Any]:
        """Push with curl; (status, reason)."""
        answer = await self.curl(
            *("--cert", "push.pem", "-H", f"apns-topic: {topic}", "-H", "apns-push-type: mdm"),
            *("-d", body, f"https://localhost:{self.standin.port}/{path}"),
        )
        head, _, rest = answer.partition("\r\n\r\n")
        status = int(head.split()[1])
        return status, json.loads(rest)["reason"] if rest else ""

    async def test_pushed(self) -> None:
        """200 with an apns-id, and whoever listens gets token and magic."""
        answer = await self.curl(
            *("--cert", "push.pem", "-H", f"apns-topic: {TOPIC}", "-H", "apns-expiration: 77"),
            *("-d", '{"mdm":"MAGIC"}', f"https://localhost:{self.standin.port}/3/device/{TOKEN}"),
        )
        self.assertIn("HTTP/2 200", answer)
        self.assertIn("apns-id: ", answer)
        (push,) = self.pushes
        self.assertEqual((push.topic, push.token.hex(), push.magic), (TOPIC, TOKEN, "MAGIC"))
        self.assertEqual((push.expiration, self.standin.service.pushes), (77, 1))

    async def test_refusals(self) -> None:
        """Apple's status and word for each thing that may be wrong; nobody is woken."""
        expected = {
            (404, "BadPath"): {"path": "4/device/x"},
            (400, "BadDeviceToken"): {"path": "3/device/xyz"},
            (400, "MissingDeviceToken"): {"path": "3/device/"},
            (400, "TopicDisallowed"): {"topic": "com.apple.mgmt.another"},
            (400, "PayloadEmpty"): {"body": "{}"},
            (413, "PayloadTooLarge"): {"body": json.dumps({"mdm": "x" * 5000})},
        }
        for answer, request in expected.items():
            self.assertEqual(await self.push(**request), answer)
        self.assertEqual(self.pushes, [])

    async def test_told_to(self) -> None:
        """It can be told to answer anything."""
        self.reply = Reply(410, "Unregistered")
        self.assertEqual(await self.push(), (410, "Unregistered"))
        self.reply = Reply(503, "Shutdown", delay=0.01, goodbye="")
        self.assertEqual(await self.push(), (503, "Shutdown"))
        self.assertEqual(self.pushes, [])

    async def test_no_certificate(self) -> None:
        """Without a client certificate the handshake fails; without HTTP/2 nothing is said."""
        url = f"https://localhost:{self.standin.port}/3/device/{TOKEN}"
        self.assertIn("curl: (", await self.curl("-d", "{}", url))
        answer = await self.curl("--cert", "push.pem", "-d", "{}", url, http="--http1.1")
        self.assertIn("curl: (", answer)

    async def test_another_topic(self) -> None:
        """Somebody else's push certificate is not for our topic."""
        other = make_push_certificate("com.apple.mgmt.other")
        (self.folder / "push.pem").write_bytes(other)
        self.assertEqual(await self.push(), (400, "TopicDisallowed"))

    async def test_courier(self) -> None:
        """A fleet in another process is told of each push."""
        heard: list[tuple[bytes, str]] = []
        service = listen_to_courier(
            reactor, "localhost", self.standin.courier_port, lambda *push: heard.append(push)
        )
        service.startService()
        self.addCleanup(service.stopService)
        await service.whenConnected()
        while not self.standin.courier.listeners:
            await deferLater(reactor, 0.01)
        await self.push()
        while not heard:
            await deferLater(reactor, 0.01)
        self.assertEqual(heard, [(bytes.fromhex(TOKEN), "M")])
