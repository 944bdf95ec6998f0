"""The push service against programs that nobody here wrote, over TLS: node's http2 and nghttpd."""

import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from mdmd.apns.client import PushService
from mdmd.apns.reasons import TABLE
from mdmd.interfaces.push import Decision, Notification, PushOutcome
from tests.peerhelp import (
    GO,
    NGHTTPD,
    NODE,
    OPENSSL,
    STOP,
    Authority,
    NodeApns,
    Program,
    listening,
    push,
    reactor,
    service,
)
from tests.storehelp import free_port
from tests.test_conversation import MAGIC, TOPIC

TINYPROXY = shutil.which("tinyproxy")
PUSHES = 10_000


def notification(number: int, topic: str = TOPIC, mark: str = "0000") -> Notification:
    """Make one; ``mark`` is what the stand-in answers by."""
    return Notification(topic, bytes.fromhex(mark) + number.to_bytes(30, "big"), MAGIC)


class Case(TestCase):
    """A throw-away CA, and everything ended at the end."""

    timeout = 60

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.authority = Authority(self.folder)

    async def node(self, **config: Any) -> NodeApns:
        """Start node's APNs."""
        apns = await NodeApns(self.authority, **config).start(self.told)
        self.addCleanup(lambda: Deferred.fromCoroutine(apns.program.kill()))
        return apns

    def told(self, line: Any) -> None:
        """Hear what the stand-in says."""

    def program(self, *argv: str) -> Program:
        """Start a program."""
        program = Program(*argv)
        self.addCleanup(lambda: Deferred.fromCoroutine(program.kill()))
        return program

    async def service(self, port: int, *topics: str, **settings: Any) -> PushService:
        """Start a push service towards it."""
        sender, self.certificates = service(self.authority, port, *topics, **settings)
        await sender.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(sender.stop()))
        return sender


class Nghttpd(Case):
    """nghttp2's server, which knows nothing of APNs: a file for a token is a success."""

    if NGHTTPD is None:
        skip = "nghttpd (Debian package nghttp2-server) is not installed"

    async def test_push(self) -> None:
        """A push gets through; what is no answer of APNs' costs no token."""
        device = self.folder / "3" / "device"
        device.mkdir(parents=True)
        (device / notification(1).token.hex()).write_text("")
        port, folder = free_port(), str(self.folder)
        files = str(self.folder / "localhost.key"), str(self.folder / "localhost.pem")
        self.program(NGHTTPD, "-m1", "-V", "-d", folder, str(port), *files)  # type: ignore[arg-type]
        await listening(port)
        sender = await self.service(port, TOPIC)
        delivered, strange, *many = await gatherResults(
            [push(sender, notification(n)) for n in [1, 2] + [1] * 50]
        )
        self.assertEqual((delivered.decision, delivered.status), (Decision.DELIVERED, 200))
        self.assertEqual((strange.decision, strange.status), (Decision.ALARM, 404))
        self.assertEqual({each.decision for each in many}, {Decision.DELIVERED})


class Node(Case):
    """node's http2, as Apple describes APNs."""

    if NODE is None:
        skip = "node is not installed"

    async def test_topics(self) -> None:
        """Two topics, each with its own certificate; requests are as Apple wants them."""
        apns = await self.node()
        other = "com.apple.mgmt.External.other"
        sender = await self.service(apns.port, TOPIC, other)
        outcomes = await gatherResults(
            [push(sender, notification(n, topic)) for n in range(20) for topic in (TOPIC, other)]
        )
        self.assertEqual({each.decision for each in outcomes}, {Decision.DELIVERED})
        self.assertEqual(outcomes[2].apns_id, f"id-{notification(1).token.hex()}")
        report = await apns.report()
        self.assertEqual(report["bad"], [])
        self.assertEqual(report["topics"], {TOPIC: TOPIC, other: other})
        self.assertEqual(report["sessions"], 2)

    async def test_every_reason(self) -> None:
        """Each answer in Apple's table leads to its decision, and comes back by its name."""
        marks = {f"{0xA000 + n:04x}": key for n, key in enumerate(TABLE)}
        topics = {mark: f"com.apple.mgmt.External.{mark}" for mark in marks}
        apns = await self.node(answers=marks)
        sender = await self.service(apns.port, *topics.values())
        outcomes = await gatherResults(
            [push(sender, notification(1, topics[mark], mark)) for mark in marks]
        )
        self.assertEqual(
            [(each.status, each.reason, each.decision) for each in outcomes],
            [(status, reason, TABLE[status, reason]) for status, reason in marks.values()],
        )
        self.assertTrue(all(each.apns_id for each in outcomes))

    async def test_hot_swap(self) -> None:
        """A renewed certificate is used by the next push, on a new connection."""
        apns = await self.node()
        sender = await self.service(apns.port, TOPIC)
        await push(sender, notification(1))
        certificate, key, not_after = self.authority.push_pair(TOPIC)
        self.certificates.held[TOPIC] = (2, certificate, key, not_after)
        await sender._check()
        await push(sender, notification(2))
        self.assertEqual([each.version for each in sender.status()], [2])
        self.assertEqual((await apns.report())["sessions"], 2)


class Faults(Case):
    """What is promised when everything goes wrong."""

    timeout = 100
    if NODE is None:
        skip = "node is not installed"

    def told(self, line: Any) -> None:
        """Stop the stand-in in its tracks when it says so, for a while."""
        if "freeze" in line:
            self.apns.program.signal(STOP)
            reactor.callLater(1.2, self.apns.program.signal, GO)

    async def test_none_lost_none_twice(self) -> None:
        """
        10,000 pushes through GOAWAYs, cuts, resets, refused streams, a stall, a stream limit
        lowered to 1, and every answer that does not speak of the topic as a whole.
        """
        answers = {key: decision for key, decision in TABLE.items() if decision != Decision.ALARM}
        marks = {f"{0xA000 + n:04x}": key for n, key in enumerate(answers)}
        each_fault = [
            {"do": "goaway"},
            {"do": "destroy"},
            {"do": "refuse"},
            {"do": "break"},
            {"do": "streams", "value": 1},
            {"do": "streams", "value": 200},
        ]
        plan = [{"at": 200 + 180 * n, **each_fault[n % 6]} for n in range(48)]
        plan.append({"at": 5555, "do": "freeze"})
        apns = await self.node(streams=200, answers=marks, delay=2, plan=plan)
        self.apns = apns
        sender = await self.service(apns.port, TOPIC, ping=0.5, connect_timeout=5.0)
        spread_marks = [*marks, *["0000"] * 60]
        sent = [notification(n, TOPIC, spread_marks[n % len(spread_marks)]) for n in range(PUSHES)]
        reports: Counter[int] = Counter()
        outcomes: dict[int, PushOutcome] = {}

        def reported(outcome: PushOutcome, number: int) -> None:
            reports[number] += 1
            outcomes[number] = outcome

        waiting = iter(enumerate(sent))

        async def one_after_the_other() -> None:
            for number, each in waiting:
                await push(sender, each).addCallback(reported, number)

        await gatherResults([Deferred.fromCoroutine(one_after_the_other()) for _ in range(500)])
        report = await apns.report()
        seen = Counter(report["seen"])

        self.assertEqual(set(reports.values()), {1})
        self.assertEqual(len(reports), PUSHES)
        unknown = twice = gave_up = 0
        for number, outcome in outcomes.items():
            token = sent[number].token.hex()
            answered = outcome.status != 0
            gave_up += not answered
            unknown += outcome.maybe_twice
            twice += seen[token] > 1
            expected = marks.get(token[:4], (200, ""))
            if answered:
                self.assertEqual((outcome.status, outcome.reason), expected)
                self.assertGreaterEqual(seen[token], 1)
            else:  # not lost: whoever asked knows that it has to be asked again
                self.assertIs(outcome.decision, Decision.RETRY)
                self.assertTrue(outcome.reason)
            if not outcome.maybe_twice:
                self.assertLessEqual(seen[token], 1)
        self.assertEqual(report["bad"], [])
        self.assertLessEqual(report["most"], 4 * 200)
        self.assertGreater(report["sessions"], 10)
        told = (
            f"{PUSHES} pushes over {report['sessions']} connections: each reported once, "
            f"{unknown} of unknown fate sent again ({twice} of them came twice), "
            f"{gave_up} handed back to be tried later"
        )
        print(f"told: {told}", file=sys.stderr)
        self.assertLess(gave_up, PUSHES // 10)


class Tls(Case):
    """Connections that must not come up say why."""

    if OPENSSL is None:
        skip = "openssl is not installed"

    async def s_server(self, name: str, *options: str) -> int:
        """Start openssl's server with the pair of that name."""
        port = free_port()
        pair = ("-key", str(self.folder / f"{name}.key"), "-cert", str(self.folder / f"{name}.pem"))
        self.program(OPENSSL, "s_server", "-quiet", "-accept", str(port), *pair, *options)  # type: ignore[arg-type]
        await listening(port)
        return port

    async def refusal(self, port: int, **settings: Any) -> PushOutcome:
        """Push once; it has to be an alarm."""
        sender = await self.service(port, TOPIC, **settings)
        outcome = await push(sender, notification(1))
        self.assertIs(outcome.decision, Decision.ALARM, outcome)
        return outcome

    async def test_not_trusted(self) -> None:
        """A server of another CA gets nothing."""
        other = self.folder / "other"
        other.mkdir()
        trust = Authority(other).pem
        outcome = await self.refusal(await self.s_server("localhost", "-alpn", "h2"), trust=trust)
        self.assertIn("not trusted", outcome.reason)

    async def test_wrong_name(self) -> None:
        """A server with a certificate for another name gets nothing."""
        self.authority.server("elsewhere.example")
        outcome = await self.refusal(await self.s_server("elsewhere.example", "-alpn", "h2"))
        self.assertIn("not for localhost", outcome.reason)

    async def test_no_http2(self) -> None:
        """A server that does not speak HTTP/2 is said so."""
        outcome = await self.refusal(await self.s_server("localhost", "-alpn", "http/1.1"))
        self.assertRegex(outcome.reason, "HTTP/2|no application protocol")

    async def test_old_tls(self) -> None:
        """Nothing older than TLS 1.2 is spoken."""
        outcome = await self.refusal(
            await self.s_server(
                "localhost", "-alpn", "h2", "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"
            )
        )
        self.assertIn("protocol version", outcome.reason)

    async def test_expired_push_certificate(self) -> None:
        """APNs' refusal of an expired client certificate is told in its words."""
        ca = str(self.folder / "ca.pem")
        port = await self.s_server(
            "localhost", "-alpn", "h2", "-Verify", "1", "-CAfile", ca, "-verify_return_error"
        )
        sender = await self.service(port, TOPIC)
        certificate, key, not_after = self.authority.push_pair(TOPIC, days=10, ago=20)
        self.certificates.held[TOPIC] = (1, certificate, key, not_after)
        outcome = await push(sender, notification(1))
        self.assertIs(outcome.decision, Decision.ALARM, outcome)
        self.assertIn("refused the push certificate", outcome.reason)
        self.assertIn("expired", outcome.reason)


class BadProxy(Case):
    """A proxy that does not do what it is there for: each push says so, in time."""

    async def outcome(self, *answer: bytes, close: bool = False) -> PushOutcome:
        """Push through a proxy that answers these bytes, whatever it is asked."""

        class Answer(Protocol):
            def dataReceived(self, data: bytes) -> None:
                for each in answer:
                    self.transport.write(each)
                if close:
                    self.transport.loseConnection()

        port = reactor.listenTCP(0, Factory.forProtocol(Answer), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"http://127.0.0.1:{port.getHost().port}"
        sender = await self.service(9, TOPIC, proxy=url, connect_timeout=0.2)
        return await self.trouble(sender)

    async def trouble(self, sender: PushService) -> PushOutcome:
        """Push; what comes of it, or why the first try failed while it waits for another."""
        outcome = push(sender, notification(1))
        while not outcome.called:
            (line,) = sender._lines.values()
            if line.status().last_error:
                return line._trouble
            await deferLater(reactor, 0.01)
        return await outcome

    async def test_answers(self) -> None:
        """Refusals, garbage, silence, an end, and a way that leads nowhere."""
        for answer, close, decision, words in (
            (b"HTTP/1.1 503 Busy\r\n\r\n", False, Decision.RETRY, "the proxy refused: 503 Busy"),
            (b"HTTP/1.1 403 No\r\nA: b\r\n\r\n", False, Decision.ALARM, "refused: 403 No"),
            (b"SSH-2.0-whatever\r\n\r\n", False, Decision.RETRY, "does not speak HTTP"),
            (b"HTTP/1.1 200 " + b"x" * 9000, False, Decision.RETRY, "does not speak HTTP"),
            (b"HTTP/1.1 200 OK", True, Decision.RETRY, "the proxy closed the connection"),
            (b"", False, Decision.RETRY, "no connection to APNs in time"),
            (b"HTTP/1.1 200 OK\r\n\r\nnot TLS", False, Decision.ALARM, "TLS with APNs failed"),
            (b"HTTP/1.1 200 OK\r\n\r\n", True, Decision.RETRY, "closed the connection"),
        ):
            outcome = await self.outcome(answer, close=close)
            self.assertIs(outcome.decision, decision, (answer[:30], outcome))
            self.assertIn(words, outcome.reason)

    async def test_nobody_there(self) -> None:
        """A proxy that does not listen is told apart from an APNs that does not."""
        sender = await self.service(9, TOPIC, proxy=f"http://127.0.0.1:{free_port()}")
        self.assertIn("no connection to the proxy", (await self.trouble(sender)).reason)


class Proxy(Case):
    """The road through an HTTP proxy that wants a password."""

    if TINYPROXY is None:
        skip = "tinyproxy is not installed"
    elif NODE is None:
        skip = "node is not installed"

    async def proxy(self, apns_port: int) -> int:
        """Start tinyproxy, which lets CONNECT through to the stand-in only."""
        port = free_port()
        lines = [
            f"Port {port}",
            "Listen 127.0.0.1",
            "BasicAuth mdmd passw0rd",
            f"ConnectPort {apns_port}",
            "LogLevel Connect",
        ]
        file = self.authority.file("proxy", "\n".join(lines).encode())
        self.program(TINYPROXY, "-d", "-c", file)  # type: ignore[arg-type]
        await listening(port)
        return port

    async def test_through(self) -> None:
        """Pushes reach APNs through it."""
        apns = await self.node()
        url = f"http://mdmd:pass%770rd@127.0.0.1:{await self.proxy(apns.port)}"
        sender = await self.service(apns.port, TOPIC, proxy=url)
        outcomes = await gatherResults([push(sender, notification(n)) for n in range(100)])
        self.assertEqual({each.decision for each in outcomes}, {Decision.DELIVERED})
        self.assertNotIn("0rd", repr(sender._settings))

    async def test_wrong_password(self) -> None:
        """A proxy that refuses is said so, by its own words; somebody has to change something."""
        apns = await self.node()
        url = f"http://mdmd:wrong@127.0.0.1:{await self.proxy(apns.port)}"
        sender = await self.service(apns.port, TOPIC, proxy=url)
        outcome = await push(sender, notification(1))
        self.assertIs(outcome.decision, Decision.ALARM, outcome)
        self.assertIn("the proxy refused: 40", outcome.reason)
        self.assertNotIn("wrong", outcome.reason)
