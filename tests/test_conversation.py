"""The HTTP/2 conversation, against h2 as the server, in memory."""

import json
from collections import Counter

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, SettingsAcknowledged, StreamReset
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame, RstStreamFrame
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mdmd.apns.conversation import MAX_ANSWER, Conversation
from mdmd.apns.message import Ended, Fate, payload, read_reason, unsendable
from mdmd.interfaces.push import Notification

TOPIC = "com.apple.mgmt.External.test"
MAGIC = "3C1A7E0B-5E63-4F2B-8F0C-000000000001"


def notification(
    number: int = 1, magic: str = MAGIC, expiration: int = 1_800_000_000
) -> Notification:
    """Make one whose token tells which it is."""
    return Notification(TOPIC, number.to_bytes(32, "big"), magic, expiration)


class Peer:
    """A server that does what the test says, and keeps count."""

    def __init__(self, **initial: int) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.local_settings = Settings(
            client=False,
            initial_values={SettingCodes[name.upper()]: value for name, value in initial.items()},
        )
        self.h2.initiate_connection()
        self.requests: dict[int, dict[str, str]] = {}
        self.bodies: Counter[int] = Counter()
        self.texts: dict[int, bytes] = {}
        self.reset: set[int] = set()
        self.open: list[int] = []
        self.refill = True
        self.said_goodbye = False
        self.extra = b""
        self.unacknowledged = 1

    def receive(self, data: bytes) -> None:
        """Take what the client wrote."""
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived):
                self.requests[event.stream_id] = dict(event.headers)
                self.texts[event.stream_id] = b""
                self.open.append(event.stream_id)
            elif isinstance(event, DataReceived):
                self.texts[event.stream_id] += event.data
                if self.refill:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, SettingsAcknowledged):
                self.unacknowledged -= 1
            elif isinstance(event, StreamReset):
                self.reset.add(event.stream_id)
                if event.stream_id in self.open:
                    self.open.remove(event.stream_id)

    def change(self, code: SettingCodes, value: int) -> None:
        """Change a setting, one at a time: h2 takes the first ACK for all that it has sent."""
        if not self.unacknowledged:
            self.unacknowledged += 1
            self.h2.update_settings({code: value})

    def answer(self, stream_id: int, status: int = 200, body: bytes = b"") -> None:
        """Answer one stream."""
        headers = [(":status", str(status)), ("apns-id", f"id-{stream_id}")]
        self.h2.send_headers(stream_id, headers, end_stream=not body)
        if body:
            self.h2.send_data(stream_id, body, end_stream=True)
        self.open.remove(stream_id)

    def goaway(self, last: int, code: int = 0, word: str = "") -> None:
        """Write a GOAWAY behind h2's back: it would say nothing more after its own."""
        self.extra += self.h2.data_to_send()
        data = json.dumps({"reason": word}).encode() if word else b""
        frame = GoAwayFrame(0, last_stream_id=last, error_code=code, additional_data=data)
        self.extra += frame.serialize()

    def take(self) -> bytes:
        """Take what to write to the client."""
        data, self.extra = self.extra + self.h2.data_to_send(), b""
        return data


class Case(SynchronousTestCase):
    """A conversation and its peer."""

    def begin(self, **initial: int) -> None:
        """Connect the two."""
        self.talk = Conversation("api.push.apple.com", TOPIC)
        self.peer = Peer(**initial)
        self.ended: list[Ended] = []

    def exchange(self) -> None:
        """Carry bytes both ways until nobody has anything to say."""
        while True:
            out, back = self.talk.data_to_send(), self.peer.take()
            if not out and not back:
                return
            self.peer.receive(out)
            self.ended += self.talk.receive(back)

    def fates(self) -> dict[int, Fate]:
        """Say the fate of each ticket, each ended once."""
        self.assertEqual(max(Counter(e.ticket for e in self.ended).values(), default=1), 1)
        return {each.ticket: each.fate for each in self.ended}


class Asking(Case):
    """What APNs gets to see, and what comes back."""

    def test_request(self) -> None:
        """Headers and body are those Apple asks for."""
        self.begin()
        self.talk.send(notification(7))
        self.exchange()
        (stream_id,) = self.peer.requests
        self.assertEqual(
            self.peer.requests[stream_id],
            {
                ":method": "POST",
                ":scheme": "https",
                ":path": "/3/device/" + "00" * 31 + "07",
                ":authority": "api.push.apple.com",
                "apns-topic": TOPIC,
                "apns-push-type": "mdm",
                "apns-priority": "10",
                "apns-expiration": "1800000000",
            },
        )
        self.assertEqual(json.loads(self.peer.texts[stream_id]), {"mdm": MAGIC})

    def test_tokens_stay_out_of_header_tables(self) -> None:
        """The second request is not longer for another token, and adds nothing to the table."""
        self.begin()
        self.exchange()
        sizes = []
        for number in range(1, 4):
            self.talk.send(notification(number, expiration=1_800_000_000 + number))
            out = self.talk.data_to_send()
            sizes.append(len(out))
            self.peer.receive(out)
        self.assertEqual(sizes[1], sizes[2])
        self.assertLess(sizes[1], sizes[0])

    def test_success(self) -> None:
        """A 200 gives the apns-id back."""
        self.begin()
        ticket = self.talk.send(notification())
        self.exchange()
        self.peer.answer(1)
        self.exchange()
        self.assertEqual(self.ended, [Ended(ticket, Fate.ANSWERED, 200, "", "id-1")])
        self.assertEqual(self.talk.held, 0)

    def test_refusal(self) -> None:
        """An error gives status and reason back."""
        self.begin()
        ticket = self.talk.send(notification())
        self.exchange()
        self.peer.answer(1, 410, b'{"reason":"Unregistered","timestamp":1700000000000}')
        self.exchange()
        self.assertEqual(self.ended, [Ended(ticket, Fate.ANSWERED, 410, "Unregistered", "id-1")])

    def test_early_refusal(self) -> None:
        """An answer before our body has left ends the push, and the stream is given back."""
        self.begin(initial_window_size=0, max_concurrent_streams=1)
        first, second = self.talk.send(notification(1)), self.talk.send(notification(2))
        self.exchange()
        self.peer.answer(1, 400, b'{"reason":"BadDeviceToken"}')
        self.exchange()
        self.assertEqual([e.ticket for e in self.ended], [first])
        self.assertIn(1, self.peer.reset)
        self.assertIn(3, self.peer.requests)
        self.assertEqual(
            self.talk.cancel(second), Ended(second, Fate.NOT_PROCESSED, 0, "cancelled")
        )

    def test_answer_then_no_error_reset(self) -> None:
        """A server may reset the rest of our request after its whole answer."""
        self.begin()
        self.talk.send(notification())
        self.exchange()
        self.peer.answer(1)
        self.peer.extra = self.peer.h2.data_to_send() + RstStreamFrame(1, error_code=0).serialize()
        self.exchange()
        self.assertEqual(list(self.fates().values()), [Fate.ANSWERED])

    def test_large_answer(self) -> None:
        """A body beyond the limit is not kept, and does not stall the connection."""
        self.begin()
        for number in range(40):
            self.talk.send(notification(number))
        self.exchange()
        for stream_id in list(self.peer.open):
            self.peer.answer(stream_id, 400, b"x" * (3 * MAX_ANSWER))
            self.exchange()
        self.assertEqual(set(self.fates().values()), {Fate.ANSWERED})
        self.assertEqual(len(self.ended), 40)

    def test_endless_answer(self) -> None:
        """A body that does not end is cut off by a reset."""
        self.begin()
        self.talk.send(notification())
        self.exchange()
        self.peer.h2.send_headers(1, [(":status", "400")])
        self.peer.h2.send_data(1, b"x" * (MAX_ANSWER + 1))
        self.exchange()
        self.assertEqual(self.fates(), {1: Fate.ANSWERED})
        self.assertEqual(self.peer.reset, {1})

    def test_strange_bodies(self) -> None:
        """Whatever the body is, reading it gives a short text and no error."""
        self.assertEqual(read_reason(b'{"reason":"Shutdown"}'), "Shutdown")
        for body in (
            b"", b"{", b"[]", b"[1]", b"3", b'"reason"', b"null", b"{}", b'{"reason":7}',
            b'{"reason":"a\\nb"}', b"\xff\xfe", b"[" * MAX_ANSWER, b'{"reason":null}',
        ):  # fmt: skip
            self.assertEqual(read_reason(body), "", body)
        self.assertEqual(len(read_reason(b'{"reason":"' + b"A" * 3000 + b'"}')), 100)

    def test_unsendable(self) -> None:
        """What a device said is not trusted to make a request."""
        good = notification()
        self.assertEqual(unsendable(good), "")
        for bad in (
            Notification(TOPIC, b"", MAGIC),
            Notification(TOPIC, b"x" * 101, MAGIC),
            Notification(TOPIC, b"x", ""),
            Notification(TOPIC, b"x", "m" * 4096),
            Notification("", b"x", MAGIC),
            Notification("a\r\nb: c", b"x", MAGIC),
            Notification("t\u00f6pic", b"x", MAGIC),
        ):
            self.assertNotEqual(unsendable(bad), "", bad)
        self.assertEqual(
            payload(Notification(TOPIC, b"x", '"\u00e9\n')), b'{"mdm":"\\"\\u00e9\\n"}'
        )


class Limits(Case):
    """What the peer allows is kept."""

    def test_nothing_before_settings(self) -> None:
        """No stream is opened before APNs has said how many it takes."""
        self.begin()
        self.talk.send(notification())
        self.peer.receive(self.talk.data_to_send())
        self.assertEqual(self.peer.requests, {})
        self.exchange()
        self.assertEqual(list(self.peer.requests), [1])

    def test_max_concurrent_streams(self) -> None:
        """What is beyond the limit waits, in order."""
        self.begin(max_concurrent_streams=3)
        for number in range(10):
            self.talk.send(notification(number))
        self.exchange()
        self.assertEqual((len(self.peer.open), self.talk.in_flight, self.talk.held), (3, 3, 10))
        while self.peer.open:
            self.assertLessEqual(len(self.peer.open), 3)
            self.peer.answer(self.peer.open[0])
            self.exchange()
        self.assertEqual([each.ticket for each in self.ended], list(range(1, 11)))

    def test_settings_change_in_flight(self) -> None:
        """A lowered limit holds for what comes next; a raised one lets the rest go."""
        self.begin(max_concurrent_streams=5)
        for number in range(10):
            self.talk.send(notification(number))
        self.exchange()
        self.peer.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        self.exchange()
        for _ in range(4):
            self.peer.answer(self.peer.open[0])
            self.exchange()
        self.assertEqual(len(self.peer.open), 1)
        self.peer.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 100})
        self.exchange()
        self.assertEqual(len(self.peer.open), 6)

    def test_connection_window(self) -> None:
        """With the connection's window used up pushes wait, and go on when it is refilled."""
        self.begin(max_concurrent_streams=5000)
        self.peer.refill = False
        for number in range(2000):
            self.talk.send(notification(number))
        self.exchange()
        sent = sum(len(text) for text in self.peer.texts.values())
        self.assertEqual(sent, 65535)
        self.peer.h2.increment_flow_control_window(1_000_000)
        self.exchange()
        self.assertEqual(len(self.peer.requests), 2000)
        self.assertEqual(set(self.peer.texts.values()), {payload(notification())})

    def test_stream_window(self) -> None:
        """A body is cut to what the stream's window takes."""
        self.begin(initial_window_size=10)
        self.peer.refill = False
        self.talk.send(notification())
        self.exchange()
        self.assertEqual(len(self.peer.texts[1]), 10)
        self.peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 20})
        self.exchange()
        self.assertEqual(len(self.peer.texts[1]), 20)
        self.peer.h2.increment_flow_control_window(1000, 1)
        self.exchange()
        self.assertEqual(self.peer.texts[1], payload(notification()))

    def test_window_for_answers(self) -> None:
        """Many answers with bodies do not use up our own window."""
        self.begin()
        body = b'{"reason":"' + b"x" * 3000 + b'"}'
        for number in range(100):
            self.talk.send(notification(number))
            self.exchange()
            self.peer.answer(self.peer.open[0], 400, body)
            self.exchange()
        self.assertEqual(len(self.ended), 100)
        self.assertGreater(self.peer.h2.outbound_flow_control_window, 0)

    def test_last_stream_number(self) -> None:
        """A connection whose stream numbers run out is drained, and the rest comes back."""
        self.begin()
        self.talk._next_stream = 2**31 - 1003
        tickets = [self.talk.send(notification(number)) for number in range(4)]
        self.exchange()
        self.assertTrue(self.talk.draining)
        self.assertEqual(self.fates(), dict.fromkeys(tickets[2:], Fate.UNSENT))


class Endings(Case):
    """Connections end; each notification is told apart by what is known of it."""

    def test_goaway(self) -> None:
        """Above the last stream: safe to send again. Below: the answers are awaited."""
        self.begin(max_concurrent_streams=4)
        tickets = [self.talk.send(notification(number)) for number in range(6)]
        self.exchange()
        self.peer.goaway(3, word="Shutdown")
        self.exchange()
        self.assertEqual(
            self.fates(),
            {
                tickets[2]: Fate.NOT_PROCESSED,
                tickets[3]: Fate.NOT_PROCESSED,
                tickets[4]: Fate.UNSENT,
                tickets[5]: Fate.UNSENT,
            },
        )
        self.assertEqual(self.talk.goodbye, "Shutdown")
        self.assertTrue(self.talk.draining)
        self.peer.answer(1)
        self.peer.answer(3, 500, b'{"reason":"InternalServerError"}')
        self.exchange()
        self.assertEqual(self.fates()[tickets[0]], Fate.ANSWERED)
        self.assertEqual(self.ended[-1].reason, "InternalServerError")
        self.assertEqual(self.talk.held, 0)

    def test_second_goaway(self) -> None:
        """A graceful shutdown sends two; the second one's number counts."""
        self.begin()
        tickets = [self.talk.send(notification(number)) for number in range(3)]
        self.exchange()
        self.peer.goaway(2**31 - 1)
        self.exchange()
        self.assertEqual(self.ended, [])
        self.assertTrue(self.talk.draining)
        self.peer.goaway(1)
        self.exchange()
        self.assertEqual(self.fates(), dict.fromkeys(tickets[1:], Fate.NOT_PROCESSED))

    def test_resets(self) -> None:
        """REFUSED_STREAM is safe to send again; of others the fate is unknown."""
        self.begin()
        refused, broken = self.talk.send(notification(1)), self.talk.send(notification(2))
        self.exchange()
        self.peer.h2.reset_stream(1, ErrorCodes.REFUSED_STREAM)
        self.peer.h2.reset_stream(3, ErrorCodes.INTERNAL_ERROR)
        self.exchange()
        self.assertEqual(self.fates(), {refused: Fate.NOT_PROCESSED, broken: Fate.UNKNOWN})
        self.assertIn("INTERNAL_ERROR", self.ended[1].reason)

    def test_lost(self) -> None:
        """A lost connection: what left is unknown, what waited is not."""
        self.begin(max_concurrent_streams=2)
        tickets = [self.talk.send(notification(number)) for number in range(3)]
        self.exchange()
        self.ended += self.talk.lost("connection reset")
        self.assertEqual(
            self.fates(),
            {tickets[0]: Fate.UNKNOWN, tickets[1]: Fate.UNKNOWN, tickets[2]: Fate.UNSENT},
        )
        self.assertEqual(self.talk.lost("again"), [])

    def test_bad_http2(self) -> None:
        """A peer that breaks the protocol ends the conversation, with a GOAWAY to it."""
        self.begin()
        self.talk.send(notification())
        self.exchange()
        self.ended += self.talk.receive(b"\x00\x00\x05\x00\x00\x00\x00\x00\x00hello")
        self.assertEqual(list(self.fates().values()), [Fate.UNKNOWN])
        self.assertTrue(self.talk.over)
        self.assertIn(b"\x07\x00\x00\x00\x00\x00", self.talk.data_to_send())

    def test_overlong_frame(self) -> None:
        """A frame longer than allowed is refused by its length, without reading it."""
        self.begin()
        self.talk.send(notification())
        self.exchange()
        self.ended += self.talk.receive(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01abc")
        self.assertTrue(self.talk.over)

    def test_cancel(self) -> None:
        """Nobody waits any more: the stream is reset, or the push was never sent."""
        self.begin(max_concurrent_streams=1)
        first, second, third = (self.talk.send(notification(number)) for number in range(3))
        self.exchange()
        self.assertEqual(self.talk.cancel(second), Ended(second, Fate.UNSENT, 0, "cancelled"))
        self.assertEqual(self.talk.cancel(first), Ended(first, Fate.UNKNOWN, 0, "cancelled"))
        self.assertIsNone(self.talk.cancel(first))
        self.exchange()
        self.assertEqual(self.peer.reset, {1})
        self.assertEqual(self.peer.requests[3][":path"][-2:], "02")
        self.peer.answer(3)
        self.exchange()
        self.assertEqual(self.fates(), {third: Fate.ANSWERED})

    def test_late_answer_to_a_cancelled_push(self) -> None:
        """An answer that crosses our reset does no harm."""
        self.begin()
        first = self.talk.send(notification(1))
        second = self.talk.send(notification(2))
        self.exchange()
        self.peer.answer(1, 400, b"{}")
        self.talk.cancel(first)
        self.ended += self.talk.receive(self.peer.take())
        self.peer.answer(3)
        self.ended += self.talk.receive(self.peer.take())
        self.assertEqual(self.fates(), {second: Fate.ANSWERED})
        self.assertFalse(self.talk.over)

    def test_drain_and_close(self) -> None:
        """Draining takes nothing new and waits for answers; closing ends the rest."""
        self.begin(max_concurrent_streams=1)
        tickets = [self.talk.send(notification(number)) for number in range(2)]
        self.exchange()
        self.assertEqual(self.talk.drain(), [Ended(tickets[1], Fate.UNSENT)])
        self.assertRaises(AssertionError, self.talk.send, notification())
        self.assertEqual([each.fate for each in self.talk.close()], [Fate.UNKNOWN])
        self.assertIn(b"\x07\x00\x00\x00\x00\x00", self.talk.data_to_send())

    def test_ping(self) -> None:
        """Both sides' PINGs are answered."""
        self.begin()
        self.exchange()
        self.talk.ping()
        self.peer.receive(self.talk.data_to_send())
        self.assertEqual(self.talk.receive(self.peer.take()), [])
        self.peer.h2.ping(b"apns\0\0\0\0")
        self.talk.receive(self.peer.take())
        self.assertIn(b"apns", self.talk.data_to_send())


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 6)),
        st.tuples(st.just("carry"), st.integers(1, 400)),
        st.tuples(st.just("answer"), st.integers(0, 9), st.sampled_from([200, 400, 410, 503])),
        st.tuples(st.just("long"), st.integers(0, 9)),
        st.tuples(st.just("reset"), st.integers(0, 9), st.sampled_from([0, 2, 7, 8, 99])),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("streams"), st.integers(0, 5)),
        st.tuples(st.just("window"), st.integers(0, 100)),
        st.tuples(st.just("grant"), st.integers(1, 200)),
        st.tuples(st.just("ping")),
        st.tuples(st.just("goaway"), st.integers(-3, 3)),
        st.tuples(st.just("drain")),
    ),
    max_size=60,
)


class Faults(Case):
    """Whatever happens, each notification has exactly one end."""

    @settings(max_examples=300, deadline=None)
    @given(actions=ACTIONS, cut=st.integers(1, 50), start=st.integers(0, 4))
    def test_each_ends_once(self, actions: list[tuple], cut: int, start: int) -> None:  # type: ignore[type-arg]
        """Random traffic, limits, faults and cuts of the stream of bytes."""
        self.begin(max_concurrent_streams=start)
        self.gone = False
        self.answered: set[int] = set()
        tickets: list[int] = []
        for name, *arguments in actions:
            if name == "send":
                if not self.talk.draining:
                    tickets += [self.talk.send(notification(n)) for n in range(arguments[0])]
            elif name == "cancel":
                end = self.talk.cancel(arguments[0])
                self.ended += [end] if end else []
            elif name == "drain":
                self.ended += self.talk.drain()
            elif name == "carry":
                self.carry(cut)
            else:
                getattr(self, f"do_{name}")(*arguments)
            self.assertEqual(self.talk.held + len(self.ended), len(tickets))
        self.carry(cut)
        self.assertFalse(self.talk.over)
        self.ended += self.talk.lost("the end")
        self.assertEqual(set(self.fates()), set(tickets))
        for each in self.ended:
            if each.fate is Fate.ANSWERED:
                self.assertIn(int(each.apns_id.removeprefix("id-")), self.answered)

    def carry(self, cut: int) -> None:
        """Carry bytes, the answers in pieces."""
        for _ in range(3):
            self.peer.receive(self.talk.data_to_send())
            back = self.peer.take()
            for at in range(0, len(back), cut):
                self.ended += self.talk.receive(back[at : at + cut])

    def pick(self, number: int) -> int | None:
        """Choose one of the streams that are open at the peer."""
        return self.peer.open[number % len(self.peer.open)] if self.peer.open else None

    def do_answer(self, number: int, status: int) -> None:
        """Answer one."""
        stream_id = self.pick(number)
        if stream_id is not None:
            self.answered.add(stream_id)
            self.peer.answer(stream_id, status, b"" if status == 200 else b'{"reason":"X"}')

    def do_long(self, number: int) -> None:
        """Answer one with too much, and reset it when that is cut off."""
        stream_id = self.pick(number)
        if stream_id is not None and self.peer.h2.local_flow_control_window(stream_id) > 9000:
            self.answered.add(stream_id)
            self.peer.answer(stream_id, 400, b"z" * 9000)

    def do_reset(self, number: int, code: int) -> None:
        """Reset one."""
        stream_id = self.pick(number)
        if stream_id is not None:
            self.peer.h2.reset_stream(stream_id, code)
            self.peer.open.remove(stream_id)

    def do_streams(self, count: int) -> None:
        """Change the limit."""
        self.peer.change(SettingCodes.MAX_CONCURRENT_STREAMS, count)

    def do_window(self, size: int) -> None:
        """Change the window of every stream."""
        self.peer.change(SettingCodes.INITIAL_WINDOW_SIZE, size)

    def do_grant(self, size: int) -> None:
        """Grant more."""
        self.peer.h2.increment_flow_control_window(size)
        for stream_id in self.peer.open:
            self.peer.h2.increment_flow_control_window(size, stream_id)

    def do_ping(self) -> None:
        """Both ping."""
        self.talk.ping()
        self.peer.h2.ping(b"12345678")

    def do_goaway(self, back: int) -> None:
        """Say goodbye somewhere near the last stream."""
        last = max([*self.peer.requests, 0]) + 2 * back
        self.peer.goaway(max(0, last))

    @settings(max_examples=300, deadline=None)
    @given(
        noise=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=12),
        raw=st.binary(max_size=60),
    )
    def test_damage(self, noise: list[tuple[int, int]], raw: bytes) -> None:
        """Damaged or random bytes end the conversation or pass; never another exception."""
        self.begin()
        tickets = [self.talk.send(notification(number)) for number in range(4)]
        first = bytearray(self.peer.take())
        self.talk.receive(bytes(first))
        self.peer.receive(self.talk.data_to_send())
        self.peer.answer(1, 400, b'{"reason":"BadDeviceToken"}')
        self.peer.answer(5)
        data = bytearray(self.peer.take())
        for at, value in noise:
            data[at % len(data)] = value
        self.ended += self.talk.receive(bytes(data))
        self.ended += self.talk.receive(raw)
        self.talk.data_to_send()
        self.ended += self.talk.lost("the end")
        self.assertEqual(set(self.fates()), set(tickets))
