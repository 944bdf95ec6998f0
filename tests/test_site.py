"""The device site keeps its limits and its statuses, whatever comes in."""

import plistlib
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mdmd import errors
from mdmd.flow.checkin import CheckIns
from mdmd.flow.connect import Connect
from mdmd.interfaces.identity import Identity
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.pki.scep import ScepAnswer
from mdmd.web.channel import LINGER, Limits
from mdmd.web.respond import Answer, status_of
from mdmd.web.site import Refusals, make_site
from tests.wirehelp import Wire, request

CHECKIN = "application/x-apple-aspen-mdm-checkin"
ME = Identity(fingerprint="ab" * 32)
REPORT = plistlib.dumps({"UDID": "U-1", "Status": "Idle"})
LIMITS = Limits(body=1000, request_timeout=10, idle_timeout=60, connections=3)


@attrs.define
class FakeStory:
    """Answers, raises, or waits, as told; remembers what it was asked."""

    gives: Any = b"<plist/>"
    asked: list[tuple[Identity, bytes]] = attrs.field(factory=list)

    async def answer(self, identity: Identity, body: bytes, noted: object = None) -> bytes:
        self.asked.append((identity, body))
        if isinstance(self.gives, BaseException):
            raise self.gives
        if isinstance(self.gives, Deferred):
            return await self.gives
        return self.gives


class FakeScep:
    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.answers = ScepAnswer(b"certrep")

    def capabilities(self) -> bytes:
        return b"AES\n"

    def ca_certificate(self) -> tuple[bytes, str]:
        return b"ca", "application/x-x509-ca-cert"

    def authority(self) -> bytes:
        return b"der"

    async def answer(self, message: bytes) -> ScepAnswer:
        self.messages.append(message)
        return self.answers


class FakeDoor:
    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []
        self.refuses: Exception | None = None

    async def get(self, link: str, authorization: bytes) -> Answer:
        self.asked.append((link, authorization))
        return Answer(b"profile", "application/x-apple-aspen-config")

    async def post(self, body: bytes) -> Answer:
        if self.refuses is not None:
            raise self.refuses
        return Answer(body, "application/x-apple-aspen-config")

    def well_known(self) -> Answer:
        return Answer(b"{}", "application/json")


@attrs.define
class FakeIdentities:
    gives: Any = ME

    def identify(self, request: object, body: bytes) -> Identity:
        if isinstance(self.gives, BaseException):
            raise self.gives
        return self.gives

    def knows(self, request: object) -> bool:
        return False


class SiteTests(SynchronousTestCase):
    """A site, its stories made up, time by hand."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.checkins = FakeStory()
        self.connect = FakeStory()
        self.scep, self.door = FakeScep(), FakeDoor()
        self.identities = FakeIdentities()
        self.refused: list[tuple[str, str, EnrollmentID | None, str]] = []
        self.refused_raises: Exception | None = None
        self.site = make_site(
            self.clock,
            self.checkins,
            self.connect,
            self.scep,
            self.door,
            self.identities,
            LIMITS,
            self._refused,
            jitter=lambda: 0.5,
            wall=self.clock.seconds,
        )
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    async def _refused(self, *what: Any) -> None:
        self.refused.append(what)
        if self.refused_raises is not None:
            raise self.refused_raises

    def requests_logged(self) -> list[LogEvent]:
        return [each for each in self.events if each["log_format"] == "{method} {path} {status}"]

    def put(self, path: str = "/connect", body: bytes = REPORT, **headers: str) -> Any:
        wire = Wire(self.site)
        try:
            return wire.ask("PUT", path, body, **headers)
        finally:
            wire.lose()


class PathTests(SiteTests):
    def test_both_paths_take_both_kinds(self) -> None:
        """Content-Type decides, and not the path."""
        for path in ("/checkin", "/connect"):
            self.put(path, Content_Type=CHECKIN)
            self.put(path, Content_Type="application/xml")
        self.assertEqual((len(self.checkins.asked), len(self.connect.asked)), (2, 2))
        self.assertEqual(self.connect.asked[0], (ME, REPORT))

    def test_content_type_is_a_prefix_in_any_case(self) -> None:
        """Parameters such as a charset change nothing; no Content-Type is a report."""
        self.put(Content_Type="Application/X-Apple-Aspen-MDM-Checkin; charset=utf-8")
        self.put()
        self.assertEqual((len(self.checkins.asked), len(self.connect.asked)), (1, 1))

    def test_answer_is_xml(self) -> None:
        """A command goes out as XML, byte for byte, with its length."""
        reply = self.put()
        self.assertEqual((reply.status, reply.body), (200, b"<plist/>"))
        self.assertEqual(reply.headers["content-type"], "application/xml; charset=UTF-8")

    def test_other_kinds_of_answers(self) -> None:
        """Declarative management is JSON; nothing at all is an empty 200 without a type."""
        self.connect.gives = b'{"SyncTokens":{}}'
        self.assertEqual(self.put().headers["content-type"], "application/json")
        self.connect.gives = b"bplist00..."
        self.assertEqual(self.put().headers["content-type"], "application/x-plist")
        self.connect.gives = b""
        reply = self.put()
        self.assertEqual(
            (reply.status, reply.body, reply.headers["content-length"]), (200, b"", "0")
        )
        self.assertNotIn("content-type", reply.headers)

    def test_post_is_put(self) -> None:
        """Some clients POST."""
        self.assertEqual(Wire(self.site).ask("POST", "/connect", REPORT).status, 200)

    def test_wrong_method(self) -> None:
        """405 names what there is."""
        reply = Wire(self.site).ask("GET", "/connect")
        self.assertEqual((reply.status, reply.headers["allow"]), (405, "PUT, POST"))

    def test_unknown_path(self) -> None:
        """Anything else is a short 404."""
        for path in ("/", "/connect/", "/connectx", "/.well-known/x", "/../etc/passwd", "*"):
            reply = self.put(path)
            self.assertEqual((reply.status, reply.body), (404, b"not found\n"), path)

    def test_nothing_about_the_inside(self) -> None:
        """No Server header, errors are short plain text."""
        reply = self.put("/nowhere")
        self.assertNotIn("server", reply.headers)
        self.assertEqual(reply.headers["content-type"], "text/plain; charset=utf-8")

    def test_scep(self) -> None:
        """The RFC's operations and types."""
        wire = Wire(self.site)
        reply = wire.ask("GET", "/scep?operation=GetCACaps&message=x")
        self.assertEqual((reply.status, reply.body), (200, b"AES\n"))
        reply = wire.ask("GET", "/scep?operation=GetCACert")
        self.assertEqual(reply.headers["content-type"], "application/x-x509-ca-cert")
        reply = wire.ask("POST", "/scep?operation=PKIOperation", b"\x30\x00")
        self.assertEqual(
            (reply.body, reply.headers["content-type"]), (b"certrep", "application/x-pki-message")
        )
        self.assertEqual(wire.ask("GET", "/scep?operation=Other").status, 400)
        self.assertEqual(wire.ask("GET", "/scep").status, 400)
        self.assertEqual(self.scep.messages, [b"\x30\x00"])

    def test_scep_by_get(self) -> None:
        """The message is base64, escaped or with a bare plus, padded or not."""
        wire = Wire(self.site)
        for text in ("%2B%2F8%3D", "+/8=", "+/8"):
            for method in ("GET", "POST"):
                wire.ask(method, f"/scep?operation=PKIOperation&message={text}")
        self.assertEqual(self.scep.messages, [b"\xfb\xff"] * 6)

    def test_scep_refuses_in_its_own_words(self) -> None:
        """What is no base64 or not there is no HTTP error: SCEP has an answer to it."""
        for query in ("&message=***", "&message=", ""):
            reply = Wire(self.site).ask("GET", f"/scep?operation=PKIOperation{query}")
            self.assertEqual((reply.status, reply.body), (200, b"certrep"))
        self.assertEqual(self.scep.messages, [b""] * 3)

    def test_long_request_line(self) -> None:
        """A request line may have 16 kB, and headers besides; one byte more is refused."""
        start, end = "GET /scep?operation=PKIOperation&message=", " HTTP/1.1"
        headers = "\r\nHost: x\r\nMdm-Signature: " + "x" * 8000 + "\r\n\r\n"
        for size, status in ((16384, 200), (16385, 400)):
            wire = Wire(self.site)
            message = "A" * (size - len(start) - len(end))
            wire.send((start + message + end + headers).encode())
            self.assertEqual([each.status for each in wire.replies()], [status])
            wire.lose()

    def test_enroll_and_ca(self) -> None:
        """The door gets what it asks for: the link, the password, the signed body."""
        wire = Wire(self.site)
        reply = wire.ask("GET", "/enroll?link=abc", Authorization="Basic eA==")
        self.assertEqual(reply.body, b"profile")
        self.assertEqual(reply.headers["content-type"], "application/x-apple-aspen-config")
        self.assertEqual(self.door.asked, [("abc", b"Basic eA==")])
        self.assertEqual(wire.ask("POST", "/enroll", b"signed").body, b"signed")
        reply = wire.ask("GET", "/ca")
        self.assertEqual(
            (reply.body, reply.headers["content-type"]), (b"der", "application/x-x509-ca-cert")
        )
        reply = wire.ask("GET", "/.well-known/com.apple.remotemanagement")
        self.assertEqual((reply.body, reply.headers["content-type"]), (b"{}", "application/json"))

    def test_refused_invitations_make_events(self) -> None:
        """A refusal by SCEP is its own answer, one of a MachineInfo a 400; each makes an event."""
        self.scep.answers = ScepAnswer(
            b"no", refusal="the challenge has expired", fail_info="badRequest"
        )
        reply = Wire(self.site).ask("POST", "/scep?operation=PKIOperation", b"x")
        self.assertEqual((reply.status, reply.body), (200, b"no"))
        self.door.refuses = errors.BadSignature("the signer is no device of Apple's")
        self.assertEqual(Wire(self.site).ask("POST", "/enroll", b"x").status, 400)
        self.assertEqual(
            self.refused,
            [
                ("scep", "badRequest: the challenge has expired", None, ""),
                ("enroll", "BadSignature: the signer is no device of Apple's", None, ""),
            ],
        )

    def test_head(self) -> None:
        """HEAD is GET without the body."""
        reply = Wire(self.site).ask("HEAD", "/ca")
        self.assertEqual(
            (reply.status, reply.headers["content-length"], reply.body), (200, "3", b"")
        )


class StatusTests(SiteTests):
    def test_statuses(self) -> None:
        """Each cause has its status, and none of them is 401."""
        expected = {
            errors.BadMessage: 400,
            errors.TooLarge: 400,
            errors.NoIdentity: 400,
            errors.BadSignature: 400,
            errors.BadCertificate: 400,
            errors.WrongIdentity: 403,
            errors.NotEnrolled: 403,
            errors.NotHere: 404,
            errors.Gone: 410,
            errors.StoreUnavailable: 503,
            errors.StoreCorrupt: 500,
        }
        for cause, status in expected.items():
            self.connect.gives = cause("why")
            self.assertEqual(self.put().status, status, cause)
        self.flushLoggedErrors(errors.StoreCorrupt)

    def test_every_error_has_a_status(self) -> None:
        """A class added to mdmd.errors is met here first; 500 means our fault, on purpose."""
        ours = {errors.StoreCorrupt, errors.ConfigError, errors.InternalError, errors.MdmdError}
        for name in dir(errors):
            kind = getattr(errors, name)
            if isinstance(kind, type) and issubclass(kind, errors.MdmdError):
                self.assertEqual(status_of(kind.__new__(kind)) == 500, kind in ours, name)
                self.assertNotEqual(status_of(kind.__new__(kind)), 401)

    def test_bug(self) -> None:
        """A bug of ours is logged as one, and its text stays here."""
        self.connect.gives = KeyError("secret inside")
        reply = self.put()
        self.assertEqual((reply.status, reply.body), (500, b"internal error\n"))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_come_back_later(self) -> None:
        """Devices are spread when the store is away, and not told why."""
        self.connect.gives = errors.StoreUnavailable("redis://secret@10.0.0.1 refused")
        reply = self.put()
        self.assertEqual((reply.status, reply.headers["retry-after"]), (503, "18"))
        self.assertEqual(reply.body, b"try again later\n")

    def test_refused_makes_an_event(self) -> None:
        """Whoever is turned away is told of, with who it claims to be."""
        self.identities.gives = errors.NoIdentity("no client certificate")
        self.assertEqual(self.put().status, 400)
        self.identities.gives = ME
        self.connect.gives = errors.WrongIdentity("pinned to another")
        self.assertEqual(self.put().status, 403)
        self.assertEqual(
            self.refused,
            [
                ("connect", "NoIdentity: no client certificate", EnrollmentID("U-1"), ""),
                (
                    "connect",
                    "WrongIdentity: pinned to another",
                    EnrollmentID("U-1"),
                    ME.fingerprint,
                ),
            ],
        )

    def test_event_that_fails(self) -> None:
        """The answer does not hang on the event."""
        self.connect.gives = errors.BadMessage("not a plist")
        self.refused_raises = errors.StoreUnavailable("gone")
        self.assertEqual(self.put(body=b"garbage").status, 400)
        self.refused_raises = ValueError("bug")
        self.assertEqual(self.put(body=b"garbage").status, 400)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_no_event_for_a_declined_kind(self) -> None:
        """410 and 404 are answers, not refusals."""
        self.connect.gives = errors.Gone("no users")
        self.put()
        self.assertEqual(self.refused, [])

    def test_events_are_bounded(self) -> None:
        """Somebody who hammers does not fill the event stream; the limit recovers."""
        told: list[str] = []

        async def write(kind: str, *_: object) -> None:
            told.append(kind)

        refusals = Refusals(write, self.clock)
        for _ in range(1000):
            refusals.tell("connect", "x")
        self.assertEqual(len(told), Refusals.BURST)
        self.clock.advance(1)
        for _ in range(1000):
            refusals.tell("connect", "x")
        self.assertEqual(len(told), Refusals.BURST + Refusals.PER_SECOND)

    def test_one_line_per_request(self) -> None:
        """With facts, and without the body."""
        waiting: Deferred[bytes] = Deferred()
        self.connect.gives = waiting
        wire = Wire(self.site)
        wire.send(request("PUT", "/connect?token=secret", REPORT))
        self.clock.advance(0.25)
        waiting.callback(b"<plist/>")
        (line,) = self.requests_logged()
        self.assertEqual((line["method"], line["path"], line["status"]), ("PUT", "/connect", 200))
        self.assertEqual((line["ms"], line["bytes_in"], line["bytes_out"]), (250, len(REPORT), 8))
        self.assertEqual((line["kind"], line["peer"]), ("connect", "192.0.2.1"))
        self.assertNotIn("secret", repr(line))

    def test_client_that_does_not_wait(self) -> None:
        """It is logged as gone, and nothing breaks."""
        waiting: Deferred[bytes] = Deferred()
        self.connect.gives = waiting
        wire = Wire(self.site)
        wire.send(request("PUT", "/connect", REPORT))
        wire.lose()
        waiting.callback(b"<plist/>")
        self.assertTrue(self.requests_logged()[0]["gone"])
        self.assertEqual(self.site.channels, set())


class ReadingTests(SiteTests):
    def assert_refused(self, wire: Wire, text: bytes) -> None:
        (reply,) = wire.replies()
        self.assertEqual((reply.status, reply.body), (400, text + b"\n"))
        self.assertEqual(reply.headers["connection"], "close")
        self.assertTrue(wire.transport.ended)
        self.assertEqual(self.connect.asked, [])

    def test_oversized_by_length(self) -> None:
        """Refused by the head alone, before a byte of the body, with an event."""
        wire = Wire(self.site)
        wire.send(b"PUT /connect HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n")
        self.assert_refused(wire, b"the body is too large")
        self.assertEqual(self.refused[0][0], "oversized")
        wire.send(b"x" * 1001)
        self.assertEqual(wire.replies(), [])

    def test_oversized_is_not_invited(self) -> None:
        """A client that asks first gets no 100 Continue."""
        wire = Wire(self.site)
        head = b"PUT /connect HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        wire.send(head + b"Content-Length: 1001\r\n\r\n")
        self.assert_refused(wire, b"the body is too large")
        wire = Wire(self.site)
        wire.send(head + b"Content-Length: 1000\r\n\r\n")
        self.assertEqual(wire.transport.value(), b"HTTP/1.1 100 Continue\r\n\r\n")

    def test_oversized_in_chunks(self) -> None:
        """A body that does not say its length is refused while it is read."""
        wire = Wire(self.site)
        wire.send(b"PUT /connect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        self.assertFalse(wire.transport.ended)
        wire.send(b"1\r\nx")
        self.assert_refused(wire, b"the body is too large")
        self.assertEqual(self.refused[0][0], "oversized")

    def test_chunks_within_the_limit(self) -> None:
        """Chunked is fine."""
        wire = Wire(self.site)
        wire.send(b"PUT /connect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n")
        wire.send(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        self.assertEqual(wire.replies()[0].status, 200)
        self.assertEqual(self.connect.asked, [(ME, b"abcde")])

    def test_smuggling(self) -> None:
        """Where a body ends is beyond doubt, or the request is refused and the connection ended."""
        heads = (
            b"Content-Length: 3\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nContent-Length: 3",
            b"Content-Length: 3\r\nContent-Length: 3",
            b"Content-Length: 3, 3",
            b"Content-Length: +3",
            b"Content-Length: -3",
            b"Content-Length: 0x3",
            b"Content-Length: " + b"9" * 5000,
            b"Content-Length: ",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: identity",
            b"Transfer-Encoding: xchunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            b"Content-Length : 3",
            b"Bad\nHeader: x",
            b"no colon",
            b"Host: second",
        )
        for head in heads:
            wire = Wire(self.site)
            wire.send(b"PUT /connect HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\nabc")
            replies = wire.replies()
            self.assertEqual([each.status for each in replies], [400], head)
            self.assertTrue(wire.transport.ended, head)
            wire.lose()
        self.assertEqual(self.connect.asked, [])

    def test_chunked_in_1_0(self) -> None:
        """HTTP/1.0 has no chunks, and something on the way may know that."""
        wire = Wire(self.site)
        wire.send(b"PUT /connect HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        self.assert_refused(wire, b"bad Transfer-Encoding")

    def test_bad_chunks(self) -> None:
        """Sizes that are no hexadecimal numbers, and chunks that do not end where they say."""
        for body in (b"-1\r\n", b"0x3\r\nabc\r\n", b"3\r\nabcX\r\n", b"zz\r\n", b"1" * 2000):
            wire = Wire(self.site)
            wire.send(b"PUT /connect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            wire.send(body)
            self.assertEqual([each.status for each in wire.replies()], [400], body)
            wire.lose()

    def test_garbage(self) -> None:
        """What is no HTTP gets one answer and an end, and no traceback."""
        lines = (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
            b"GET\r\n",
            b"GET / HTTP/3.0\r\n",
            b"G\x00T / HTTP/1.1\r\n",
            b"GET /\xff\xfe HTTP/1.1\r\n",
            b"x" * 20000,
            b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5000,
        )
        for line in lines:
            wire = Wire(self.site)
            wire.send(line)
            self.assertEqual([each.status for each in wire.replies()], [400], line[:20])
            self.assertTrue(wire.transport.ended)
            wire.lose()

    def test_linger(self) -> None:
        """What follows a refused head is read and dropped, so that the answer arrives."""
        wire = Wire(self.site)
        wire.send(b"nonsense\r\n")
        self.assertTrue(wire.transport.half_closed)
        wire.send(b"x" * 100000)
        self.clock.pump([LINGER / 10] * 11)
        self.assertTrue(wire.transport.aborted)

    def test_pipelining(self) -> None:
        """Requests in one write are answered one after the other, in order."""
        wire = Wire(self.site)
        wire.send(b"".join(request("PUT", "/connect", b"%d" % n) for n in range(500)))
        self.assertEqual([each.status for each in wire.replies()], [200] * 500)
        self.assertEqual([body for _, body in self.connect.asked], [b"%d" % n for n in range(500)])

    def test_pipelining_waits(self) -> None:
        """The second is begun when the first is answered; a flood behind it is not read."""
        first: Deferred[bytes] = Deferred()
        self.connect.gives = first
        wire = Wire(self.site)
        wire.send(request("PUT", "/connect", b"1") + request("PUT", "/connect", b"2"))
        wire.send(b"x" * 100000)
        self.assertEqual(wire.transport.producerState, "paused")
        self.assertEqual(len(self.connect.asked), 1)
        self.connect.gives = b"second"
        first.callback(b"first")
        self.assertEqual([each.body for each in wire.replies()][:2], [b"first", b"second"])

    def test_close(self) -> None:
        """A client that says close gets it said and done."""
        reply_wire = Wire(self.site)
        reply = reply_wire.ask("PUT", "/connect", REPORT, Connection="close")
        self.assertEqual((reply.status, reply.headers["connection"]), (200, "close"))
        self.assertTrue(reply_wire.transport.ended)

    def test_form_is_not_parsed(self) -> None:
        """A body that calls itself a form arrives as it is."""
        self.put(body=b"a=b", Content_Type="application/x-www-form-urlencoded")
        self.assertEqual(self.connect.asked[0][1], b"a=b")


class RealStoryTests(SiteTests):
    """The real decoders behind the site, and a store that nothing may reach."""

    def setUp(self) -> None:
        super().setUp()
        self.site = make_site(
            self.clock,
            CheckIns(None, None),  # type: ignore[arg-type]
            Connect(None),  # type: ignore[arg-type]
            self.scep,
            self.door,
            self.identities,
            Limits(body=1 << 20),
            self._refused,
            wall=self.clock.seconds,
        )

    def test_undecodable(self) -> None:
        """400, a short text, an event, and nothing else: the store is never asked."""
        nested = b"<dict><key>a</key>" * 10_000 + b"</dict>" * 10_000
        bodies = (
            b"",
            b"\x00" * 100,
            b"UDID=1",
            b"{}",
            REPORT[:-20],
            b"\xff\xfe" + REPORT,
            plistlib.dumps([1, 2, 3]),
            plistlib.dumps({}),
            plistlib.dumps({"UDID": "U-1"}),
            plistlib.dumps({"MessageType": "Unknown", "UDID": "U-1"}),
            plistlib.dumps({"UDID": {"a": 1}, "Status": "Idle", "MessageType": "CheckOut"}),
            plistlib.dumps({"Status": "Idle", "MessageType": "CheckOut"}),
            b"<plist version='1.0'>" + nested + b"</plist>",
            b"bplist00" + b"\xff" * 40,
            b'<!DOCTYPE plist [<!ENTITY a "aaaa">]><plist><string>&a;</string></plist>',
        )
        for content_type in ("application/xml", CHECKIN):
            for body in bodies:
                self.refused.clear()
                reply = self.put(body=body, Content_Type=content_type)
                self.assertEqual(reply.status, 400, body[:60])
                self.assertLess(len(reply.body), 200)
                self.assertEqual(len(self.refused), 1, body[:60])

    def test_wrong_content_type(self) -> None:
        """A check-in that calls itself a report is no report, and the other way round."""
        check_in = plistlib.dumps({"MessageType": "CheckOut", "UDID": "U-1"})
        self.assertEqual(self.put(body=check_in, Content_Type="text/xml").status, 400)
        self.assertEqual(self.put(body=REPORT, Content_Type=CHECKIN).status, 400)


class TimeTests(SiteTests):
    def drip(self, wire: Wire, data: bytes) -> int:
        """Send a byte a second until the connection is ended; say how many went."""
        for sent in range(len(data)):
            if wire.transport.ended:
                return sent
            wire.send(data[sent : sent + 1])
            self.clock.advance(1)
        return len(data)

    def test_slow_client(self) -> None:
        """A byte a second never ends; the connection does, in request_timeout."""
        wire = Wire(self.site)
        self.assertEqual(self.drip(wire, request("PUT", "/connect", REPORT)), 10)
        self.assertEqual(self.site.counts.cut, 1)

    def test_slow_body(self) -> None:
        """The time is that of the whole request, head and body."""
        wire = Wire(self.site)
        wire.send(request("PUT", "/connect", REPORT)[:-50])
        self.assertEqual(self.drip(wire, b"x" * 49), 10)
        self.assertEqual(self.connect.asked, [])

    def test_second_request_has_its_own_time(self) -> None:
        """From its own first byte on, after a rest, and exactly."""
        wire = Wire(self.site)
        wire.ask("PUT", "/connect", REPORT)
        self.clock.pump([1] * 33)
        self.assertEqual(self.drip(wire, request("PUT", "/connect", REPORT)), 10)

    def test_pipelined_rest_has_its_own_time(self) -> None:
        """Half a request that came with the one before starts to count when that is answered."""
        waiting: Deferred[bytes] = Deferred()
        self.connect.gives = waiting
        wire = Wire(self.site)
        wire.send(request("PUT", "/connect", REPORT) + b"PUT /conn")
        self.clock.pump([1] * 100)
        self.assertFalse(wire.transport.ended)
        waiting.callback(b"")
        self.clock.pump([1] * 9)
        self.assertFalse(wire.transport.ended)
        self.clock.pump([1] * 2)
        self.assertTrue(wire.transport.ended)

    def test_silent_client(self) -> None:
        """A connection without any request is given up after request_timeout."""
        wire = Wire(self.site)
        self.clock.advance(9.9)
        self.assertFalse(wire.transport.ended)
        self.clock.advance(0.2)
        self.assertTrue(wire.transport.ended)
        self.assertEqual(self.site.counts.cut, 0)

    def test_idle(self) -> None:
        """Between requests a connection may rest for idle_timeout."""
        wire = Wire(self.site)
        wire.ask("PUT", "/connect", REPORT)
        self.clock.pump([1] * 59)
        self.assertEqual(wire.ask("PUT", "/connect", REPORT).status, 200)
        self.clock.pump([1] * 59)
        self.assertFalse(wire.transport.ended)
        self.clock.pump([1] * 2)
        self.assertTrue(wire.transport.ended)

    def test_stubborn_client(self) -> None:
        """One that does not close when we do is ended by force."""
        wire = Wire(self.site)
        self.clock.pump([1] * 11)
        self.assertFalse(wire.transport.aborted)
        self.clock.pump([1] * 6)
        self.assertTrue(wire.transport.aborted)

    def test_no_timer_is_left(self) -> None:
        """A connection that is gone leaves nothing behind."""
        wire = Wire(self.site)
        wire.ask("PUT", "/connect", REPORT)
        wire.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class NumberTests(SiteTests):
    def test_too_many_connections(self) -> None:
        """Beyond the limit a connection is ended at once, counted, and logged once a second."""
        wires = [Wire(self.site) for _ in range(3)]
        for _ in range(5):
            self.assertIsNone(Wire(self.site).channel)
        self.clock.advance(1.5)
        Wire(self.site)
        self.assertEqual(self.site.counts.turned_away, 6)
        lines = [each for each in self.events if "too many connections" in each["log_format"]]
        self.assertEqual([each["turned_away"] for each in lines], [1, 6])
        wires[0].lose()
        self.assertEqual(self.put().status, 200)

    def test_drain(self) -> None:
        """Going down ends those at rest, and lets an answer go out first."""
        waiting: Deferred[bytes] = Deferred()
        resting, busy = Wire(self.site), Wire(self.site)
        self.connect.gives = b""
        resting.send(request("PUT", "/connect", REPORT))
        self.connect.gives = waiting
        busy.send(request("PUT", "/connect", REPORT))
        done = Deferred.fromCoroutine(self.site.drain(10))
        self.assertTrue(resting.transport.ended)
        self.assertFalse(busy.transport.ended)
        resting.lose()
        waiting.callback(b"<plist/>")
        (reply,) = busy.replies()
        self.assertEqual((reply.status, reply.headers["connection"]), (200, "close"))
        self.assertNoResult(done)
        busy.lose()
        self.successResultOf(done)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_drain_answers_who_has_just_come(self) -> None:
        """Whoever has not asked yet, or only half, gets an answer and leaves."""
        whole = request("PUT", "/connect", REPORT)
        new, half, silent = Wire(self.site), Wire(self.site), Wire(self.site)
        half.send(whole[:30])
        done = Deferred.fromCoroutine(self.site.drain(10))
        self.clock.advance(1)
        for wire, rest in ((new, whole), (half, whole[30:])):
            wire.send(rest)
            (reply,) = wire.replies()
            self.assertEqual((reply.status, reply.headers["connection"]), (200, "close"))
            self.assertTrue(wire.transport.ended)
            wire.lose()
        self.assertFalse(silent.transport.ended)
        self.clock.advance(1)
        self.assertTrue(silent.transport.ended)
        silent.lose()
        self.successResultOf(done)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_drain_does_not_wait_for_ever(self) -> None:
        """What is not done in time is ended by force."""
        self.connect.gives = Deferred()
        wire = Wire(self.site)
        wire.send(request("PUT", "/connect", REPORT))
        done = Deferred.fromCoroutine(self.site.drain(10))
        self.clock.advance(10)
        self.assertTrue(wire.transport.aborted)
        wire.lose()
        self.successResultOf(done)

    def test_drain_of_nothing(self) -> None:
        """Nothing to wait for."""
        self.successResultOf(Deferred.fromCoroutine(self.site.drain(10)))
