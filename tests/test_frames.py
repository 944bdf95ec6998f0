"""Our own framing: every frame a server may send, each that it may not, and hpack as the judge."""

import struct

from hpack import Decoder, Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mdmd.apns import frames
from mdmd.apns.conversation import Conversation
from mdmd.apns.headers import AnswerHeaders, RequestHeaders
from mdmd.apns.message import Ended, Fate
from tests.test_conversation import TOPIC, notification


def spoken(data: bytes) -> list[Frame]:
    """Read what our side wrote, with hyperframe."""
    data = data.removeprefix(frames.PREFACE)
    found = []
    while data:
        frame, length = Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + length]))
        data = data[9 + length :]
        found.append(frame)
    return found


class Case(SynchronousTestCase):
    """A conversation with two pushes in flight, and a server made of single frames."""

    def setUp(self) -> None:
        self.talk = Conversation("api.push.apple.com", TOPIC)
        self.encoder = Encoder()
        self.say(SettingsFrame(0))
        self.talk.send(notification(1))
        self.talk.send(notification(2))
        self.talk.data_to_send()

    def say(self, *said: Frame) -> list[Ended]:
        """Say frames, one byte at a time."""
        ended: list[Ended] = []
        for byte in b"".join(each.serialize() for each in said):
            ended += self.talk.receive(bytes([byte]))
        return ended

    def headers(self, stream_id: int = 1, status: str = "200", **kw: object) -> HeadersFrame:
        """An answer's headers."""
        block = self.encoder.encode([(":status", status), ("apns-id", "A-1")])
        kw.setdefault("flags", ["END_HEADERS", "END_STREAM"])
        return HeadersFrame(stream_id, data=block, **kw)  # type: ignore[arg-type]

    def assertBroken(self, code: frames.Code, *said: Frame | bytes) -> None:
        """The server breaks a rule: it is told which, and every push has its end."""
        ended: list[Ended] = []
        for each in said:
            ended += self.talk.receive(each if isinstance(each, bytes) else each.serialize())
        self.assertTrue(self.talk.over)
        self.assertEqual([each.fate for each in ended], [Fate.UNKNOWN] * 2)
        (goaway,) = (each for each in spoken(self.talk.data_to_send()) if each.type == 7)
        self.assertEqual(goaway.error_code, code)  # type: ignore[attr-defined]


class Allowed(Case):
    """What a server may do."""

    def test_padding_and_priority(self) -> None:
        """Both are taken off; padding counts for flow control."""
        flags = ["END_HEADERS", "PADDED", "PRIORITY"]
        headers = self.headers(status="400", flags=flags, pad_length=9)
        data = DataFrame(1, b'{"reason":"BadTopic"}', flags=["PADDED", "END_STREAM"], pad_length=7)
        self.assertEqual(self.say(headers, data), [Ended(1, Fate.ANSWERED, 400, "BadTopic", "A-1")])
        self.assertEqual(self.talk._unrefilled, len(data.data) + 1 + 7)

    def test_continuation(self) -> None:
        """A header block in many pieces is one block."""
        block = self.encoder.encode([(":status", "503"), ("apns-id", "A-2"), ("x", "y" * 300)])
        pieces = [block[at : at + 50] for at in range(0, len(block), 50)]
        said = [
            HeadersFrame(3, data=pieces[0], flags=["END_STREAM"]),
            *(ContinuationFrame(3, data=piece) for piece in pieces[1:-1]),
            ContinuationFrame(3, data=pieces[-1], flags=["END_HEADERS"]),
        ]
        self.assertEqual(self.say(*said), [Ended(2, Fate.ANSWERED, 503, "", "A-2")])

    def test_informational_and_trailers(self) -> None:
        """A 1xx is no answer yet, and trailers are none any more."""
        first = self.headers(status="103", flags=["END_HEADERS"])
        second = self.headers(status="200", flags=["END_HEADERS"])
        trailers = HeadersFrame(
            1, data=self.encoder.encode([("x", "y")]), flags=["END_HEADERS", "END_STREAM"]
        )
        self.assertEqual(
            self.say(first, second, DataFrame(1, b"hm"), trailers),
            [Ended(1, Fate.ANSWERED, 200, "", "A-1")],
        )

    def test_meaningless_frames(self) -> None:
        """PRIORITY, and kinds that nobody knows, change nothing."""
        unknown = frames.frame(0xBE, 0xFF, 1, b"whatever")
        self.assertEqual(self.say(PriorityFrame(1), PriorityFrame(77)), [])
        self.assertEqual(self.talk.receive(unknown), [])
        self.assertEqual(len(self.say(self.headers())), 1)

    def test_unknown_settings(self) -> None:
        """Settings that mean nothing to us are acknowledged like the others."""
        said = SettingsFrame(0, settings={0x99: 7, 1: 0, 5: 20000, 6: 10})
        self.assertEqual(self.say(said), [])
        (answer,) = spoken(self.talk.data_to_send())
        self.assertEqual((answer.type, answer.flags), (4, {"ACK"}))

    def test_last_setting_wins(self) -> None:
        """A setting named twice in one frame has the second value."""
        content = struct.pack(">HLHL", 3, 1, 3, 2)
        self.talk.receive(frames.frame(frames.SETTINGS, 0, 0, content))
        self.assertEqual(self.talk._streams_allowed, 2)

    def test_closed_streams(self) -> None:
        """What comes late for a stream that has ended is not ours to complain of."""
        self.say(self.headers())
        late = [
            WindowUpdateFrame(1, 5),
            RstStreamFrame(1, 8),
            DataFrame(1, b"late"),
            self.headers(),
        ]
        self.assertEqual(self.say(*late), [])
        self.assertFalse(self.talk.over)

    def test_no_status(self) -> None:
        """An answer that is none ends its push alone."""
        nothing = HeadersFrame(
            1, data=self.encoder.encode([("x", "y")]), flags=["END_HEADERS", "END_STREAM"]
        )
        (ended,) = self.say(nothing)
        self.assertEqual(ended.fate, Fate.UNKNOWN)
        (ended,) = self.say(DataFrame(3, b"body first"))
        self.assertEqual(ended.fate, Fate.UNKNOWN)
        self.assertEqual([each.type for each in spoken(self.talk.data_to_send())], [3, 3])
        self.assertFalse(self.talk.over)

    def test_refill(self) -> None:
        """What bodies and padding use of the window is given back in full."""
        for _ in range(20):
            self.talk.send(notification(3))
            stream_id = self.talk._next_stream - 2
            self.say(self.headers(stream_id, "400", flags=["END_HEADERS"]))
            self.talk.receive(DataFrame(stream_id, b"x" * 9000, flags=["END_STREAM"]).serialize())
        given = sum(
            each.window_increment  # type: ignore[attr-defined]
            for each in spoken(self.talk.data_to_send())
            if each.type == 8 and not each.stream_id
        )
        self.assertEqual(given + self.talk._unrefilled, 20 * 9000)
        self.assertLess(self.talk._unrefilled, 40_000)


class Forbidden(Case):
    """What a server may not do."""

    def test_settings_come_first(self) -> None:
        """Nothing else begins a connection."""
        talk = Conversation("api.push.apple.com", TOPIC)
        talk.receive(PingFrame(0).serialize())
        self.assertTrue(talk.over)

    def test_streams(self) -> None:
        """Streams that we have not opened, or that are no streams, are not answered."""
        error = frames.Code.PROTOCOL_ERROR
        for said in (
            self.headers(5),
            self.headers(2),
            DataFrame(7, b"x"),
            RstStreamFrame(9),
            WindowUpdateFrame(2, 1),
            frames.frame(frames.DATA, 0, 0, b"x"),
            frames.frame(frames.HEADERS, 4, 0, b"\x88"),
            frames.frame(frames.PING, 0, 1, bytes(8)),
            frames.frame(frames.SETTINGS, 0, 1, b""),
            frames.frame(frames.GOAWAY, 0, 1, bytes(8)),
            PushPromiseFrame(1, promised_stream_id=2, flags=["END_HEADERS"]),
        ):
            self.setUp()
            self.assertBroken(error, said)

    def test_sizes(self) -> None:
        """Frames of a length that their kind can't have."""
        error = frames.Code.FRAME_SIZE_ERROR
        for kind, length, stream_id in (
            (frames.PING, 7, 0),
            (frames.RST_STREAM, 5, 1),
            (frames.WINDOW_UPDATE, 3, 0),
            (frames.SETTINGS, 7, 0),
            (frames.GOAWAY, 7, 0),
            (frames.DATA, 16385, 1),
        ):
            self.setUp()
            self.assertBroken(error, frames.frame(kind, 0, stream_id, bytes(length)))
        self.setUp()
        self.assertBroken(error, frames.frame(frames.SETTINGS, frames.ACK, 0, bytes(6)))
        self.setUp()
        self.assertBroken(error, frames.frame(frames.DATA, frames.PADDED, 1, b""))

    def test_padding(self) -> None:
        """More padding than there is."""
        error = frames.Code.PROTOCOL_ERROR
        self.assertBroken(error, frames.frame(frames.DATA, frames.PADDED, 1, b"\x05abcd"))
        self.setUp()
        flags = frames.PADDED | frames.HAS_PRIORITY | frames.END_HEADERS
        self.assertBroken(error, frames.frame(frames.HEADERS, flags, 1, b"\x01abcd"))

    def test_header_blocks(self) -> None:
        """Blocks that don't end, that are interrupted, or that go on after their end."""
        error = frames.Code.PROTOCOL_ERROR
        begun = HeadersFrame(1, data=b"\x88")
        self.assertBroken(error, begun, PingFrame(0))
        self.setUp()
        self.assertBroken(error, begun, ContinuationFrame(3, data=b"", flags=["END_HEADERS"]))
        self.setUp()
        self.assertBroken(error, ContinuationFrame(1, data=b"", flags=["END_HEADERS"]))
        self.setUp()
        pieces = [ContinuationFrame(1, data=b"\x88" * 16000) for _ in range(5)]
        self.assertBroken(frames.Code.ENHANCE_YOUR_CALM, begun, *pieces)

    def test_compression(self) -> None:
        """Blocks that can't be read, before and after the table is gone."""
        error = frames.Code.COMPRESSION_ERROR
        for gone in (b"", b"\x20"):
            for block in (
                b"\xff\xff\xff\xff\xff\xff",
                b"\xbf\xbe",
                b"\x80",
                b"\x00\x05ab",
                b"\x10",
            ):
                self.setUp()
                if gone:
                    self.say(HeadersFrame(1, data=gone + b"\x88", flags=["END_HEADERS"]))
                self.assertBroken(error, HeadersFrame(3, data=block, flags=["END_HEADERS"]))

    def test_windows(self) -> None:
        """Windows beyond what there can be, and bodies beyond ours."""
        error = frames.Code.FLOW_CONTROL_ERROR
        self.assertBroken(error, WindowUpdateFrame(0, 2**31 - 1))
        self.setUp()
        self.assertBroken(error, frames.frame(frames.WINDOW_UPDATE, 0, 0, bytes(4)))
        self.setUp()
        self.assertBroken(error, SettingsFrame(0, settings={4: 2**31}))

    def test_settings(self) -> None:
        """Values that are not allowed."""
        self.assertBroken(frames.Code.PROTOCOL_ERROR, SettingsFrame(0, settings={5: 1000}))
        self.setUp()
        self.assertBroken(frames.Code.PROTOCOL_ERROR, SettingsFrame(0, settings={2: 1}))

    def test_stream_window(self) -> None:
        """A stream's impossible window is that stream's end only."""
        while not self.talk._blocked:  # until the connection's window is used up
            ticket = self.talk.send(notification(1))
        (stream_id,) = self.talk._blocked
        (ended,) = self.say(WindowUpdateFrame(stream_id, 2**31 - 1))
        self.assertEqual((ended.ticket, ended.fate), (ticket, Fate.NOT_PROCESSED))
        self.assertFalse(self.talk.over)

    def test_goaway_first(self) -> None:
        """A server that only says goodbye is heard."""
        talk = Conversation("api.push.apple.com", TOPIC)
        talk.receive(GoAwayFrame(0, 0, 0, b'{"reason":"BadCertificate"}').serialize())
        self.assertEqual(talk.goodbye, "BadCertificate")


NAMES = st.sampled_from(
    [b"apns-id", b"apns-unique-id", b"date", b"server", b"content-type", b"x-1"]
)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200).map(str.encode)


class Hpack(SynchronousTestCase):
    """hpack writes what we read, and reads what we write."""

    @settings(max_examples=200, deadline=None)
    @given(
        answers=st.lists(
            st.tuples(
                st.sampled_from([100, 200, 204, 400, 404, 410, 429, 500, 503]),
                st.lists(st.tuples(NAMES, VALUES), max_size=6),
            ),
            max_size=6,
        ),
        table=st.booleans(),
        huffman=st.booleans(),
    )
    def test_answers(self, answers: list, table: bool, huffman: bool) -> None:  # type: ignore[type-arg]
        """With a table and without, compressed and not: status and apns-id are hpack's."""
        encoder, ours, theirs = Encoder(), AnswerHeaders(), Decoder()
        if not table:
            encoder.header_table_size = 0
        for status, headers in answers:
            block = encoder.encode([(b":status", b"%d" % status), *headers], huffman)
            said = theirs.decode(block, raw=True)
            ids = [value for name, value in said if name == b"apns-id"]
            expected = ids[-1][:100].decode() if ids else ""
            self.assertEqual(ours.read(block), (status, expected))
        if answers and not table:
            self.assertIsNone(ours._decoder)

    @given(
        tokens=st.lists(st.binary(min_size=1, max_size=100), max_size=5),
        topic=st.text("abc.", min_size=1, max_size=255),
        limit=st.sampled_from([0, 64, 4096, 65536]),
    )
    def test_requests(self, tokens: list[bytes], topic: str, limit: int) -> None:
        """Whatever table the peer allows, it reads the same headers."""
        requests, theirs = RequestHeaders("api.push.apple.com:2197", topic), Decoder()
        theirs.max_allowed_table_size = limit
        for token in tokens:
            self.assertEqual(
                theirs.decode(requests.block(token, 1_800_000_000)),
                [
                    (":method", "POST"),
                    (":scheme", "https"),
                    (":path", f"/3/device/{token.hex()}"),
                    (":authority", "api.push.apple.com:2197"),
                    ("apns-topic", topic),
                    ("apns-push-type", "mdm"),
                    ("apns-priority", "10"),
                    ("apns-expiration", "1800000000"),
                ],
            )


FRAMES = st.lists(
    st.builds(
        frames.frame,
        st.sampled_from([*range(10), 0xBE]),
        st.sampled_from([0, 1, 4, 5, 8, 0x0C, 0x2D, 0xFF]),
        st.integers(0, 7),
        st.one_of(
            st.binary(max_size=40),
            st.just(b"\x20\x88"),
            st.just(b'{"reason":"Shutdown"}'),
            st.builds(lambda n, v: struct.pack(">HL", n, v), st.integers(1, 6), st.integers(0, 9)),
            st.builds(lambda last, code: struct.pack(">LL", last, code), *[st.integers(0, 9)] * 2),
        ),
    ),
    max_size=20,
)


class Fuzz(SynchronousTestCase):
    """A peer may say anything."""

    @settings(max_examples=400, deadline=None)
    @given(said=FRAMES, noise=st.binary(max_size=30), cut=st.integers(1, 60))
    def test_anything(self, said: list[bytes], noise: bytes, cut: int) -> None:
        """It ends in an error of the connection at worst, and each push ends once."""
        talk = Conversation("api.push.apple.com", TOPIC)
        data = SettingsFrame(0).serialize() + b"".join(said) + noise
        ended = talk.receive(data[:9])
        tickets = [talk.send(notification(number)) for number in range(4)]
        for at in range(9, len(data), cut):
            ended += talk.receive(data[at : at + cut])
            if not talk.draining:
                tickets.append(talk.send(notification(9)))
            talk.data_to_send()
        ended += talk.close()
        self.assertEqual(sorted(each.ticket for each in ended), tickets)
        self.assertEqual(talk.held, 0)
