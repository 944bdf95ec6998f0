"""
One HTTP/2 connection to APNs as a conversation: no sockets, no clock, no Twisted.

Notifications go in with :meth:`Conversation.send`, received bytes with
:meth:`Conversation.receive`; bytes to write come out of
:meth:`Conversation.data_to_send`, and each notification comes out exactly once
as an :class:`Ended`. More notifications than APNs allows streams for, or than
its flow control takes, wait inside.

The framing is our own: every request is the same few bytes but for token, magic
and stream number, and h2, made for anything, spends twenty times as long on it.
In the tests h2 is the other side of every conversation.

Source: RFC 9113; Apple, "Sending notification requests to APNs".
"""

from collections import OrderedDict

from mdmd.apns import frames
from mdmd.apns.frames import Code, Frame, Setting, Violation
from mdmd.apns.headers import MAX_BLOCK, AnswerHeaders, RequestHeaders
from mdmd.apns.message import Ended, Fate, payload, read_reason
from mdmd.apns.stream import Stream
from mdmd.interfaces.push import Notification

MAX_ANSWER = 4096  # bytes of a response's body that are read; more resets the stream

MOST_STREAMS = 5000  # in flight at once, even if APNs sets no limit

# Stream numbers end at 2**31 - 1. Leave the connection a little before.
LAST_STREAM = 2**31 - 1000

_REFILL = frames.WINDOW // 2  # bytes received until the peer may send as many again


class Conversation:
    """
    The client's side of one HTTP/2 connection, for one topic.

    :param authority: host, with the port unless it is 443.
    :param topic: the push topic of every notification here.
    """

    def __init__(self, authority: str, topic: str) -> None:
        self._output: list[bytes] = [
            frames.PREFACE,
            frames.settings(
                {
                    Setting.HEADER_TABLE_SIZE: 0,
                    Setting.ENABLE_PUSH: 0,
                    Setting.MAX_HEADER_LIST_SIZE: MAX_BLOCK,
                }
            ),
        ]
        self._reader = frames.Reader(MAX_BLOCK)
        self._requests = RequestHeaders(authority, topic)
        self._answers = AnswerHeaders()
        self._waiting: OrderedDict[int, Notification] = OrderedDict()  # by ticket
        self._streams: dict[int, Stream] = {}
        self._stream_of: dict[int, int] = {}  # by ticket
        self._blocked: dict[int, None] = {}  # streams with an unsent rest, in order
        self._window = frames.WINDOW  # bytes of bodies that the peer takes
        self._stream_window = frames.WINDOW  # the same, of each new stream
        self._unrefilled = 0  # bytes of bodies received since our last WINDOW_UPDATE
        self._streams_allowed = MOST_STREAMS
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
        return max(0, self._streams_allowed - self.held)

    @property
    def draining(self) -> bool:
        """Say whether it takes nothing new, and is to be closed when :attr:`held` is 0."""
        return self._draining or self.over

    def data_to_send(self) -> bytes:
        """Take the bytes to write now."""
        output, self._output = self._output, []
        return b"".join(output)

    def send(self, notification: Notification) -> int:
        """
        Take a notification that is not :func:`unsendable`; return its ticket.

        Not allowed when :attr:`draining`.
        """
        assert not self.draining, "a draining conversation takes nothing new"
        self._last_ticket += 1
        if not self._waiting and self._may_open():
            self._open(self._last_ticket, notification)
        else:
            self._waiting[self._last_ticket] = notification
        return self._last_ticket

    def receive(self, data: bytes) -> list[Ended]:
        """Take received bytes; return the notifications that ended with them."""
        if self.over:
            return []
        ended: list[Ended] = []
        try:
            for frame in self._reader.read(data):
                self._take(frame, ended)
        except Violation as violation:
            self._output.append(frames.goaway(violation.code))
            return ended + self.lost(f"APNs sent bad HTTP/2: {violation}")
        if self._blocked or self._waiting:
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
        self._output.append(frames.rst_stream(stream_id, Code.CANCEL))
        self._pump()
        return Ended(ticket, stream.fate, reason="cancelled")

    def ping(self) -> None:
        """Ask the peer for a sign of life; any received byte is one."""
        if not self.over:
            self._output.append(frames.frame(frames.PING, 0, 0, b"mdmd\0\0\0\0"))

    def drain(self) -> list[Ended]:
        """Begin to end: nothing new, unsent notifications come back, answers are awaited."""
        self._draining = True
        return self._unsent()

    def close(self) -> list[Ended]:
        """Say goodbye with a GOAWAY, and end whatever is unanswered."""
        if not self.over:
            self._output.append(frames.goaway(Code.NO_ERROR))
        return self.lost("the connection was closed on our side")

    def lost(self, reason: str) -> list[Ended]:
        """End everything: the connection is gone. The reason is for people."""
        self.over = True
        ended = self._unsent()
        for stream in self._streams.values():
            ended.append(Ended(stream.ticket, stream.fate, reason=reason))
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
        return len(self._streams) < self._streams_allowed and self._window > 0

    def _open(self, ticket: int, notification: Notification) -> None:
        stream_id = self._next_stream
        self._next_stream += 2
        block = self._requests.block(notification.token, notification.expiration)
        self._output.append(frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, block))
        body = payload(notification)
        stream = self._streams[stream_id] = Stream(ticket)
        self._stream_of[ticket] = stream_id
        if len(body) <= self._window and len(body) <= self._stream_window:
            self._window -= len(body)
            self._output.append(frames.frame(frames.DATA, frames.END_STREAM, stream_id, body))
        else:
            stream.unsent, stream.window = body, self._stream_window
            self._send_body(stream_id, stream)

    def _send_body(self, stream_id: int, stream: Stream) -> None:
        room = max(0, min(self._window, stream.window))
        now, stream.unsent = stream.unsent[:room], stream.unsent[room:]
        if now:
            self._window -= len(now)
            stream.window -= len(now)
            flags = 0 if stream.unsent else frames.END_STREAM
            self._output.append(frames.frame(frames.DATA, flags, stream_id, now))
        if stream.unsent:
            self._blocked[stream_id] = None
        else:
            self._blocked.pop(stream_id, None)

    # -- in -------------------------------------------------------------------

    def _take(self, frame: Frame, ended: list[Ended]) -> None:
        kind, flags, stream_id, content, size = frame
        # Frequent ones first.
        if kind == frames.HEADERS:
            self._take_headers(flags, stream_id, content, ended)
        elif kind == frames.DATA:
            self._take_data(flags, stream_id, content, size, ended)
        elif kind == frames.WINDOW_UPDATE:
            self._take_window_update(stream_id, content, ended)
        elif kind == frames.RST_STREAM:
            self._take_reset(stream_id, content, ended)
        elif kind in _ABOUT_CONNECTION:
            if stream_id:
                raise Violation(Code.PROTOCOL_ERROR, "a stream where there must be none")
            _ABOUT_CONNECTION[kind](self, flags, content, ended)
        elif kind == frames.PUSH_PROMISE:
            raise Violation(Code.PROTOCOL_ERROR, "a promise that we forbade")
        # PRIORITY, and what nobody knows, means nothing to us.

    def _check_opened(self, stream_id: int) -> None:
        if not stream_id & 1 or stream_id >= self._next_stream:
            raise Violation(Code.PROTOCOL_ERROR, "a stream that we have not opened")

    def _take_headers(self, flags: int, stream_id: int, block: bytes, ended: list[Ended]) -> None:
        self._check_opened(stream_id)
        # Also of streams that we have given up: hpack's table would be wrong otherwise.
        status, apns_id = self._answers.read(block)
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if not stream.status:  # else these are trailers
            if not status:
                ended.append(self._give_up(stream_id, "APNs answered without a status"))
                return
            if status < 200:  # more is to come
                return
            stream.status, stream.apns_id = status, apns_id
        if flags & frames.END_STREAM:
            ended.append(self._answered(stream_id))

    def _take_data(
        self, flags: int, stream_id: int, content: bytes, size: int, ended: list[Ended]
    ) -> None:
        self._check_opened(stream_id)
        self._unrefilled += size
        if self._unrefilled > frames.WINDOW:
            raise Violation(Code.FLOW_CONTROL_ERROR, "more than the window allows")
        if self._unrefilled > _REFILL:
            self._output.append(frames.window_update(0, self._unrefilled))
            self._unrefilled = 0
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if not stream.status:
            ended.append(self._give_up(stream_id, "APNs answered without a status"))
            return
        # Below the window of a stream by far: it needs no refill.
        stream.body += content[: MAX_ANSWER + 1 - len(stream.body)]
        if flags & frames.END_STREAM:
            ended.append(self._answered(stream_id))
        elif len(stream.body) > MAX_ANSWER:
            ended.append(self._answered(stream_id))
            self._output.append(frames.rst_stream(stream_id, Code.CANCEL))

    def _answered(self, stream_id: int) -> Ended:
        stream = self._forget(stream_id)
        if stream.unsent:  # APNs did not want to hear all of it
            self._output.append(frames.rst_stream(stream_id, Code.NO_ERROR))
        return stream.answer()

    def _give_up(self, stream_id: int, reason: str) -> Ended:
        stream = self._forget(stream_id)
        self._output.append(frames.rst_stream(stream_id, Code.PROTOCOL_ERROR))
        return Ended(stream.ticket, stream.fate, reason=reason)

    def _take_reset(self, stream_id: int, content: bytes, ended: list[Ended]) -> None:
        self._check_opened(stream_id)
        if len(content) != 4:
            raise Violation(Code.FRAME_SIZE_ERROR, "RST_STREAM of a wrong length")
        code = int.from_bytes(content, "big")
        if stream_id not in self._streams:
            return
        stream = self._forget(stream_id)
        if stream.status and code == Code.NO_ERROR:
            # The whole answer came before it (RFC 9113, section 8.1), or enough of it.
            reason = "" if stream.status == 200 else read_reason(stream.body)
            ended.append(Ended(stream.ticket, Fate.ANSWERED, stream.status, reason, stream.apns_id))
            return
        fate = Fate.NOT_PROCESSED if code == Code.REFUSED_STREAM else stream.fate
        ended.append(Ended(stream.ticket, fate, reason=f"APNs reset it ({frames.name_of(code)})"))

    def _take_window_update(self, stream_id: int, content: bytes, ended: list[Ended]) -> None:
        if len(content) != 4:
            raise Violation(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong length")
        increment = int.from_bytes(content, "big") & 0x7FFFFFFF
        if not stream_id:
            self._window += increment
            if not increment or self._window > frames.MAX_WINDOW:
                raise Violation(Code.FLOW_CONTROL_ERROR, "an impossible window")
            return
        self._check_opened(stream_id)
        if stream_id not in self._blocked:
            return  # all of it is sent
        stream = self._streams[stream_id]
        stream.window += increment
        if not increment or stream.window > frames.MAX_WINDOW:
            ended.append(self._give_up(stream_id, "APNs gave it an impossible window"))

    # -- about the connection as a whole ------------------------------------------

    def _take_settings(self, flags: int, content: bytes, ended: list[Ended]) -> None:
        if flags & frames.ACK:
            if content or not self.ready:
                raise Violation(Code.FRAME_SIZE_ERROR, "an acknowledgement that is none")
            return
        for name, value in frames.read_settings(content):
            if name == Setting.MAX_CONCURRENT_STREAMS:
                self._streams_allowed = min(MOST_STREAMS, value)
            elif name == Setting.INITIAL_WINDOW_SIZE:
                self._resize(value - self._stream_window)
                self._stream_window = value
            # Our blocks use no table, and our frames are short: the others change nothing.
        self._output.append(frames.frame(frames.SETTINGS, frames.ACK, 0, b""))
        self.ready = True

    def _resize(self, change: int) -> None:
        """Change the window of each stream that waits for it; it may go below zero."""
        for stream_id in self._blocked:
            stream = self._streams[stream_id]
            stream.window += change
            if stream.window > frames.MAX_WINDOW:
                raise Violation(Code.FLOW_CONTROL_ERROR, "an impossible window")

    def _take_ping(self, flags: int, content: bytes, ended: list[Ended]) -> None:
        if len(content) != 8:
            raise Violation(Code.FRAME_SIZE_ERROR, "PING of a wrong length")
        if not flags & frames.ACK:
            self._output.append(frames.frame(frames.PING, frames.ACK, 0, content))

    def _take_goaway(self, flags: int, content: bytes, ended: list[Ended]) -> None:
        if len(content) < 8:
            raise Violation(Code.FRAME_SIZE_ERROR, "GOAWAY of a wrong length")
        last = int.from_bytes(content[:4], "big") & 0x7FFFFFFF
        code = int.from_bytes(content[4:8], "big")
        self.goodbye = read_reason(content[8 : 8 + MAX_ANSWER]) or frames.name_of(code)
        self._draining = True
        for stream_id in [each for each in self._streams if each > last]:
            ticket = self._forget(stream_id).ticket
            ended.append(Ended(ticket, Fate.NOT_PROCESSED, reason=f"GOAWAY ({self.goodbye})"))

    # -- books ------------------------------------------------------------------

    def _forget(self, stream_id: int) -> Stream:
        stream = self._streams.pop(stream_id)
        del self._stream_of[stream.ticket]
        self._blocked.pop(stream_id, None)
        return stream

    def _unsent(self) -> list[Ended]:
        ended = [Ended(ticket, Fate.UNSENT) for ticket in self._waiting]
        self._waiting.clear()
        return ended


_ABOUT_CONNECTION = {
    frames.SETTINGS: Conversation._take_settings,
    frames.PING: Conversation._take_ping,
    frames.GOAWAY: Conversation._take_goaway,
}
