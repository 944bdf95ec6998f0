"""
One HTTP/2 connection to APNs as a conversation: no sockets, no clock, no Twisted.

Notifications go in with :meth:`Conversation.send`, received bytes with
:meth:`Conversation.receive`; bytes to write come out of
:meth:`Conversation.data_to_send`, and each notification comes out exactly once
as an :class:`Ended`. More notifications than APNs allows streams for, or than
its flow control takes, wait inside.

The framing is h2's, but for GOAWAY: h2 refuses everything that comes after it,
while the answers to earlier notifications are still to come. So GOAWAY frames
are read here and h2 never sees them.

Source: RFC 9113; Apple, "Sending notification requests to APNs".
"""

import contextlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from enum import StrEnum

import attrs
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import FrameTooLargeError, ProtocolError, StreamClosedError
from h2.settings import SettingCodes, Settings
from hpack import HeaderTuple, NeverIndexedHeaderTuple
from hpack.struct import Header

from mdmd.interfaces import Notification

MAX_PAYLOAD = 4096  # bytes, Apple's limit
MAX_TOKEN = 100  # bytes; Apple's are 32 and say they may grow
MAX_ANSWER = 4096  # bytes of a response's body that are read; more resets the stream
MAX_REASON = 100  # characters

MOST_STREAMS = 5000  # in flight at once, even if APNs sets no limit

# Stream numbers end at 2**31 - 1. Leave the connection a little before.
LAST_STREAM = 2**31 - 1000

_FRAME_HEAD = 9
_GOAWAY = 7
_MAX_FRAME = 16384  # the largest frame a peer may send us, as we never allow more


class Fate(StrEnum):
    """What is known of a notification when the conversation is done with it."""

    ANSWERED = "answered"
    UNSENT = "unsent"  # it never left: send it elsewhere
    NOT_PROCESSED = "not-processed"  # APNs says it did nothing with it: safe to send again
    UNKNOWN = "unknown"  # it left, and no answer came


@attrs.frozen
class Ended:
    """The one end of one notification."""

    ticket: int
    fate: Fate
    status: int = 0  # HTTP status, for ANSWERED
    reason: str = ""  # APNs' word for ANSWERED, else ours for what happened
    apns_id: str = ""


@attrs.define
class _Stream:
    ticket: int
    unsent: bytes  # what the peer's flow control did not take yet
    status: int = 0
    apns_id: str = ""
    body: bytearray = attrs.Factory(bytearray)


def payload(notification: Notification) -> bytes:
    """Write the JSON body that an MDM client expects."""
    return json.dumps({"mdm": notification.push_magic}, separators=(",", ":")).encode()


def unsendable(notification: Notification) -> str:
    """
    Say why APNs could not take this notification; empty if it can be sent.

    Token, magic and topic are what a device said; nothing of it is trusted.
    """
    if not 0 < len(notification.token) <= MAX_TOKEN:
        return "the device token has an impossible length"
    if not notification.push_magic:
        return "there is no push magic"
    if len(payload(notification)) > MAX_PAYLOAD:
        return "the push magic is longer than a notification may be"
    topic = notification.topic
    if not (0 < len(topic) <= 255 and topic.isascii() and topic.isprintable() and " " not in topic):
        return "the topic is not one"
    return ""


class Conversation:
    """
    The client's side of one HTTP/2 connection, for one topic.

    :param authority: host, with the port unless it is 443.
    :param topic: the push topic of every notification here.
    """

    def __init__(self, authority: str, topic: str) -> None:
        self._h2 = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                # Our own header blocks are the same each time: checked in the tests.
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self._h2.local_settings = Settings(
            client=True,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.MAX_HEADER_LIST_SIZE: self._h2.DEFAULT_MAX_HEADER_LIST_SIZE,
            },
        )
        self._h2.initiate_connection()
        self._before = [HeaderTuple(b":method", b"POST"), HeaderTuple(b":scheme", b"https")]
        self._after = [
            HeaderTuple(b":authority", authority.encode("ascii")),
            HeaderTuple(b"apns-topic", topic.encode("ascii")),
            HeaderTuple(b"apns-push-type", b"mdm"),
            HeaderTuple(b"apns-priority", b"10"),
        ]
        self._input = bytearray()
        self._waiting: OrderedDict[int, Notification] = OrderedDict()  # by ticket
        self._streams: dict[int, _Stream] = {}
        self._stream_of: dict[int, int] = {}  # by ticket
        self._blocked: dict[int, None] = {}  # streams with an unsent rest, in order
        self._last_ticket = 0
        self._next_stream = 1
        self._draining = False
        self.ready = False  # APNs' settings have come
        self.over = False  # no byte goes in or out any more
        self.goodbye = ""  # the word or error code of a GOAWAY

    @property
    def held(self) -> int:
        """Count the notifications that have not ended."""
        return len(self._waiting) + len(self._streams)

    @property
    def in_flight(self) -> int:
        """Count the notifications that left and are not answered."""
        return len(self._streams)

    @property
    def room(self) -> int:
        """Count the notifications that would leave at once."""
        if not self.ready or self.draining:
            return 0
        return max(0, self._most_streams() - self.held)

    @property
    def draining(self) -> bool:
        """Say whether it takes nothing new, and is to be closed when :attr:`held` is 0."""
        return self._draining or self.over

    def data_to_send(self) -> bytes:
        """Take the bytes to write now."""
        return self._h2.data_to_send()

    def send(self, notification: Notification) -> int:
        """
        Take a notification that is not :func:`unsendable`; return its ticket.

        Not allowed when :attr:`draining`.
        """
        assert not self.draining, "a draining conversation takes nothing new"
        self._last_ticket += 1
        self._waiting[self._last_ticket] = notification
        self._pump()
        return self._last_ticket

    def receive(self, data: bytes) -> list[Ended]:
        """Take received bytes; return the notifications that ended with them."""
        if self.over:
            return []
        ended: list[Ended] = []
        try:
            for frames, goaway in self._split(data):
                for event in self._h2.receive_data(frames):
                    self._take(event, ended)
                if goaway is not None:
                    self._take_goaway(goaway, ended)
        except ProtocolError as error:
            return ended + self.lost(f"APNs sent bad HTTP/2 ({type(error).__name__})")
        self._pump()
        if self._draining:
            ended += self._unsent()
        return ended

    def cancel(self, ticket: int) -> Ended | None:
        """End a notification that nobody waits for any more; None if it has ended."""
        if self._waiting.pop(ticket, None) is not None:
            return Ended(ticket, Fate.UNSENT, reason="cancelled")
        stream_id = self._stream_of.get(ticket)
        if stream_id is None:
            return None
        stream = self._forget(stream_id)
        self._reset_stream(stream_id, ErrorCodes.CANCEL)
        self._pump()
        return Ended(ticket, _fate_without_answer(stream), reason="cancelled")

    def ping(self) -> None:
        """Ask the peer for a sign of life; any received byte is one."""
        if not self.over:
            self._h2.ping(b"mdmd\0\0\0\0")

    def drain(self) -> list[Ended]:
        """Begin to end: nothing new, unsent notifications come back, answers are awaited."""
        self._draining = True
        return self._unsent()

    def close(self) -> list[Ended]:
        """Say goodbye with a GOAWAY, and end whatever is unanswered."""
        if not self.over:
            self._h2.close_connection()
        return self.lost("the connection was closed on our side")

    def lost(self, reason: str) -> list[Ended]:
        """End everything: the connection is gone. The reason is for people."""
        self.over = True
        ended = self._unsent()
        for stream in self._streams.values():
            ended.append(Ended(stream.ticket, _fate_without_answer(stream), reason=reason))
        self._streams.clear()
        self._stream_of.clear()
        self._blocked.clear()
        return ended

    # -- out ------------------------------------------------------------------

    def _pump(self) -> None:
        """Send whatever the peer's limits allow now."""
        for stream_id in list(self._blocked):
            self._send_body(stream_id, self._streams[stream_id])
        while self._waiting and self._may_open():
            self._open(*self._waiting.popitem(last=False))

    def _may_open(self) -> bool:
        # Before its settings we do not know how many streams APNs takes: it can be 1.
        if not self.ready or self.draining:
            return False
        if self._next_stream > LAST_STREAM:
            self._draining = True
            return False
        return (
            len(self._streams) < self._most_streams() and self._h2.outbound_flow_control_window > 0
        )

    def _most_streams(self) -> int:
        return min(MOST_STREAMS, self._h2.remote_settings.max_concurrent_streams)

    def _open(self, ticket: int, notification: Notification) -> None:
        stream_id, self._next_stream = self._next_stream, self._next_stream + 2
        # What differs from push to push would push the rest out of the header table,
        # and a token has no place in one.
        path = NeverIndexedHeaderTuple(
            b":path", b"/3/device/%s" % notification.token.hex().encode()
        )
        expires = NeverIndexedHeaderTuple(b"apns-expiration", b"%d" % notification.expiration)
        self._h2.send_headers(stream_id, [*self._before, path, *self._after, expires])
        stream = self._streams[stream_id] = _Stream(ticket, payload(notification))
        self._stream_of[ticket] = stream_id
        self._send_body(stream_id, stream)

    def _send_body(self, stream_id: int, stream: _Stream) -> None:
        room = max(0, self._h2.local_flow_control_window(stream_id))
        now, stream.unsent = stream.unsent[:room], stream.unsent[room:]
        if now:
            self._h2.send_data(stream_id, now, end_stream=not stream.unsent)
        if stream.unsent:
            self._blocked[stream_id] = None
        else:
            self._blocked.pop(stream_id, None)

    # -- in -------------------------------------------------------------------

    def _split(self, data: bytes) -> Iterator[tuple[bytes, bytes | None]]:
        """Cut whole frames off the input, in pieces that end where a GOAWAY comes."""
        self._input += data
        view, start, at = self._input, 0, 0
        while len(view) - at >= _FRAME_HEAD:
            length = int.from_bytes(view[at : at + 3], "big")
            end = at + _FRAME_HEAD + length
            if end > len(view):
                if length > _MAX_FRAME:  # h2 would read all of it before it refuses
                    self._h2.close_connection(ErrorCodes.FRAME_SIZE_ERROR)
                    raise FrameTooLargeError("a frame longer than we allow")
                break
            if view[at + 3] == _GOAWAY and length >= 8:
                yield bytes(view[start:at]), bytes(view[at + _FRAME_HEAD : end])
                start = end
            at = end
        pieces = bytes(view[start:at])
        del view[:at]
        if pieces:
            yield pieces, None

    def _take(self, event: Event, ended: list[Ended]) -> None:
        # Frequent ones first. Streams that we have reset are not known here any more.
        if isinstance(event, ResponseReceived):
            stream = self._streams.get(event.stream_id)
            if stream is not None:
                stream.status, stream.apns_id = _read_headers(event.headers)
        elif isinstance(event, StreamEnded):
            if event.stream_id in self._streams:
                ended.append(self._answered(event.stream_id))
        elif isinstance(event, DataReceived):
            self._take_data(event, ended)
        elif isinstance(event, StreamReset):
            if event.stream_id in self._streams:
                ended.append(self._reset(event))
        elif isinstance(event, RemoteSettingsChanged):
            self.ready = True

    def _take_data(self, event: DataReceived, ended: list[Ended]) -> None:
        self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        stream.body += event.data[: MAX_ANSWER + 1 - len(stream.body)]
        if len(stream.body) > MAX_ANSWER:
            ended.append(self._answered(event.stream_id))
            self._reset_stream(event.stream_id, ErrorCodes.CANCEL)

    def _answered(self, stream_id: int) -> Ended:
        stream = self._forget(stream_id)
        if stream.unsent:  # APNs did not want to hear all of it
            self._reset_stream(stream_id, ErrorCodes.NO_ERROR)
        reason = "" if stream.status == 200 else read_reason(bytes(stream.body))
        return Ended(stream.ticket, Fate.ANSWERED, stream.status, reason, stream.apns_id)

    def _reset(self, event: StreamReset) -> Ended:
        stream = self._forget(event.stream_id)
        if stream.status and event.error_code == ErrorCodes.NO_ERROR:
            # The whole answer came before it (RFC 9113, section 8.1), or enough of it.
            reason = "" if stream.status == 200 else read_reason(bytes(stream.body))
            return Ended(stream.ticket, Fate.ANSWERED, stream.status, reason, stream.apns_id)
        fate = _fate_without_answer(stream)
        if event.error_code == ErrorCodes.REFUSED_STREAM:
            fate = Fate.NOT_PROCESSED
        return Ended(stream.ticket, fate, reason=f"APNs reset it ({_code(event.error_code)})")

    def _take_goaway(self, frame: bytes, ended: list[Ended]) -> None:
        last = int.from_bytes(frame[:4], "big") & 0x7FFFFFFF
        code = int.from_bytes(frame[4:8], "big")
        self.goodbye = read_reason(frame[8 : 8 + MAX_ANSWER]) or _code(code)
        self._draining = True
        for stream_id in [each for each in self._streams if each > last]:
            ticket = self._forget(stream_id).ticket
            ended.append(Ended(ticket, Fate.NOT_PROCESSED, reason=f"GOAWAY ({self.goodbye})"))

    # -- books ------------------------------------------------------------------

    def _reset_stream(self, stream_id: int, code: ErrorCodes) -> None:
        # h2 reads a whole packet before we see its events: the stream may be closed by now.
        with contextlib.suppress(StreamClosedError):
            self._h2.reset_stream(stream_id, code)

    def _forget(self, stream_id: int) -> _Stream:
        stream = self._streams.pop(stream_id)
        del self._stream_of[stream.ticket]
        self._blocked.pop(stream_id, None)
        return stream

    def _unsent(self) -> list[Ended]:
        ended = [Ended(ticket, Fate.UNSENT) for ticket in self._waiting]
        self._waiting.clear()
        return ended


def read_reason(body: bytes) -> str:
    """Read the ``reason`` of an answer's JSON body; empty if there is none to be read."""
    try:
        reason = json.loads(body)["reason"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return ""
    if not isinstance(reason, str) or not reason.isprintable():
        return ""
    return reason[:MAX_REASON]


def _read_headers(headers: Iterable[Header]) -> tuple[int, str]:
    status, apns_id = 0, ""
    for name, value in headers:
        if name == b":status":
            status = int(value) if value.isdigit() and len(value) == 3 else 0
        elif name == b"apns-id":
            apns_id = value[:MAX_REASON].decode("ascii", "replace")
    return status, apns_id


def _fate_without_answer(stream: _Stream) -> Fate:
    """A request whose end never left can't have been acted upon."""
    return Fate.NOT_PROCESSED if stream.unsent else Fate.UNKNOWN


def _code(code: int) -> str:
    return ErrorCodes(code).name if code in ErrorCodes._value2member_map_ else f"error {code}"
