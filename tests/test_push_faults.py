"""Each push has one outcome, and is sent twice only if it says so, whatever happens."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mdmd.apns.line import DEADLINE
from mdmd.interfaces.push import Decision, PushOutcome
from tests.apnshelp import Apns, refused
from tests.test_conversation import TOPIC, notification

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(1, 12)),
        st.tuples(st.just("answer"), st.integers(0, 9), st.sampled_from([200, 200, 410, 429, 503])),
        st.tuples(st.just("alarm"), st.integers(0, 9)),
        st.tuples(st.just("reset"), st.integers(0, 9), st.sampled_from([2, 7])),
        st.tuples(st.just("cut")),
        st.tuples(st.just("lose")),
        st.tuples(st.just("goaway"), st.integers(0, 4)),
        st.tuples(st.just("silence")),
        st.tuples(st.just("time"), st.sampled_from([0.25, 1.0, 6.0, 40.0])),
        st.tuples(st.just("renew")),
        st.tuples(st.just("dial"), st.sampled_from(["well", "refuse", "alarm", "hang"])),
    ),
    max_size=40,
)
REASONS = {200: "", 410: "Unregistered", 429: "TooManyRequests", 503: "ServiceUnavailable"}


class AnyFaults(SynchronousTestCase):
    """Random pushes, answers and faults."""

    @settings(max_examples=150, deadline=None)
    @given(actions=ACTIONS, streams=st.sampled_from([1, 3, 100]))
    def test_one_outcome_each(self, actions: list[tuple], streams: int) -> None:  # type: ignore[type-arg]
        """In the end every push is reported, once; what may have come twice is marked."""
        self.apns = Apns(max_concurrent_streams=streams)
        self.outcomes: dict[int, list[PushOutcome]] = {}
        self.answered: Counter[int] = Counter()  # by push: how often a peer acted on it
        for name, *arguments in actions:
            getattr(self, f"do_{name}")(*arguments)
            self.apns.carry()
        self.do_dial("well")
        stopped = Deferred.fromCoroutine(self.apns.service.stop())
        self.apns.pass_time(DEADLINE + 10, 1.0)
        self.successResultOf(stopped)
        self.assertEqual({len(each) for each in self.outcomes.values()} - {1}, set())
        for number, (outcome,) in self.outcomes.items():
            if self.answered[number] > 1:
                self.assertTrue(outcome.maybe_twice, (number, outcome))
            if outcome.status:
                self.assertGreaterEqual(self.answered[number], 1)
        self.assertEqual(self.apns.clock.getDelayedCalls(), [])

    def do_push(self, count: int) -> None:
        for _ in range(count):
            number = len(self.outcomes)
            self.outcomes[number] = []
            (done,) = self.apns.push(notification(number))
            done.addCallback(self.outcomes[number].append)

    def open(self) -> list[tuple[object, int]]:
        """All streams that a peer could answer, oldest connection first."""
        return [
            (link, stream_id)
            for link in self.apns.links
            if not link.ended and not link.silent
            for stream_id in link.peer.open
        ]

    def act(self, index: int, status: int, reason: str) -> None:
        """Answer one stream; from here on the push has happened."""
        found = self.open()
        if found:
            link, stream_id = found[index % len(found)]
            self.happened(link, stream_id)
            body = b'{"reason":"%b"}' % reason.encode() if reason else b""
            link.peer.answer(stream_id, status, body)  # type: ignore[attr-defined]

    def happened(self, link: object, stream_id: int) -> None:
        """A device was woken by this push."""
        token = link.peer.requests[stream_id][":path"].rpartition("/")[2]  # type: ignore[attr-defined]
        self.answered[int(token, 16)] += 1

    def do_answer(self, index: int, status: int) -> None:
        self.act(index, status, REASONS[status])

    def do_alarm(self, index: int) -> None:
        self.act(index, 403, "BadCertificate")

    def do_reset(self, index: int, code: int) -> None:
        found = self.open()
        if found:
            link, stream_id = found[index % len(found)]
            link.peer.h2.reset_stream(stream_id, code)  # type: ignore[attr-defined]
            link.peer.open.remove(stream_id)  # type: ignore[attr-defined]

    def do_cut(self) -> None:
        for link in self.apns.links[-1:]:
            link.cut(ConnectionError("cut"))

    def do_lose(self) -> None:
        """The peer acts on all it has, and the connection is cut before it can say so."""
        for link, stream_id in self.open():
            if link is self.apns.link:
                self.happened(link, stream_id)
        self.do_cut()

    def do_goaway(self, last: int) -> None:
        for link in self.apns.links[-1:]:
            if not link.ended and not link.silent and not link.peer.said_goodbye:
                link.peer.said_goodbye = True
                number = 2 * last - 1 if last else 0
                link.peer.goaway(number)
                link.peer.open = [each for each in link.peer.open if each <= number]

    def do_silence(self) -> None:
        for link in self.apns.links[-1:]:
            link.silent = True

    def do_time(self, seconds: float) -> None:
        self.apns.pass_time(seconds, min(seconds, 0.5))

    def do_renew(self) -> None:
        self.apns.certificates.renew(TOPIC)

    def do_dial(self, how: str) -> None:
        decision = Decision.ALARM if how == "alarm" else Decision.RETRY
        self.apns.refuse = refused("no way", decision) if how in ("refuse", "alarm") else None
        self.apns.hang = how == "hang"
