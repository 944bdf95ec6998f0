"""The push service on a clock, with h2 as APNs."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mdmd.apns.line import DEADLINE, MOST_WAITING
from mdmd.interfaces.push import Decision, PushOutcome
from tests.apnshelp import Apns, refused, told
from tests.test_conversation import TOPIC, notification

OTHER = "com.apple.mgmt.External.other"


class Case(SynchronousTestCase):
    """A push service and its peers."""

    def begin(self, *topics: str, **limits: int) -> None:
        """Start one."""
        self.apns = Apns(*topics, **limits)

    def push(self, count: int = 1) -> list[PushOutcome]:
        """Begin so many pushes; the list fills with their outcomes."""
        outcomes: list[PushOutcome] = []
        for done in self.apns.push(*(notification(number) for number in range(count))):
            done.addCallback(outcomes.append)
        return outcomes

    def decisions(self, outcomes: list[PushOutcome]) -> set[Decision]:
        """Say what kinds of outcome there are."""
        return {each.decision for each in outcomes}


class Sending(Case):
    """Pushes that go well."""

    def test_one_connection(self) -> None:
        """All pushes of a topic share one connection, made when the first one comes."""
        self.begin()
        self.assertEqual(self.apns.dials, 0)
        outcomes = self.push(50)
        self.assertEqual(len(self.apns.link.peer.requests), 50)
        self.apns.answer_all()
        self.assertEqual(self.decisions(outcomes), {Decision.DELIVERED})
        self.assertEqual((len(outcomes), self.apns.dials), (50, 1))
        self.assertTrue(all(each.apns_id for each in outcomes))

    def test_one_certificate(self) -> None:
        """However many pushes come first, the key is read once: that takes long."""
        self.begin()
        self.apns.certificates.slow = Deferred()
        outcomes = self.push(50)
        self.apns.certificates.slow.callback(None)
        self.apns.answer_all()
        self.assertEqual(self.decisions(outcomes), {Decision.DELIVERED})
        self.assertEqual((len(outcomes), self.apns.certificates.reads), (50, 1))

    def test_one_bad_certificate(self) -> None:
        """So it is with one that is of no use, and all hear why."""
        self.begin()
        version, certificate, _, not_after = self.apns.certificates.held[TOPIC]
        self.apns.certificates.held[TOPIC] = version, certificate, b"no key", not_after
        self.apns.certificates.slow = Deferred()
        outcomes = self.push(50)
        self.apns.certificates.slow.callback(None)
        self.assertEqual(self.decisions(outcomes), {Decision.ALARM})
        self.assertEqual((len(outcomes), self.apns.certificates.reads), (50, 1))

    def test_expiration(self) -> None:
        """A notification without an expiration gets the configured week."""
        self.begin()
        done = self.apns.push(notification(1, expiration=0))
        (request,) = self.apns.link.peer.requests.values()
        self.assertEqual(request["apns-expiration"], str(1_700_000_000 + 7 * 86400))
        self.apns.answer_all()
        self.assertEqual(self.successResultOf(done[0]).decision, Decision.DELIVERED)

    def test_streams_run_out(self) -> None:
        """Beyond the peer's streams pushes wait; if that lasts, a second connection helps."""
        self.begin(max_concurrent_streams=2)
        outcomes = self.push(10)
        self.assertEqual(len(self.apns.link.peer.open), 2)
        self.apns.pass_time(3)
        self.assertGreaterEqual(len(self.apns.links), 2)
        self.assertLessEqual(len(self.apns.links), 4)
        self.apns.answer_all()
        self.assertEqual(len(outcomes), 10)
        self.apns.pass_time(2000, 1.0)
        (status,) = self.apns.service.status()
        self.assertEqual(status.connections, 1)

    def test_topics(self) -> None:
        """Each topic has its own connection and certificate, and fails alone."""
        self.begin(TOPIC, OTHER)
        one = notification(1)
        (first,) = self.apns.push(one)
        (second,) = self.apns.push(type(one)(OTHER, one.token, one.push_magic, 1))
        self.assertEqual([each.certificate.topic for each in self.apns.links], [TOPIC, OTHER])
        self.apns.links[1].peer.answer(1, 403, b'{"reason":"BadCertificate"}')
        self.apns.answer_all()
        self.assertEqual(self.successResultOf(first).decision, Decision.DELIVERED)
        self.assertEqual(self.successResultOf(second).decision, Decision.ALARM)
        self.assertEqual(self.apns.alarms, [(OTHER, "BadCertificate")])

    def test_no_certificate(self) -> None:
        """A topic without a certificate is said so at once, and works once it has one."""
        self.begin(OTHER)
        outcomes = self.push()
        self.assertIn("no push certificate", outcomes[0].reason)
        self.push(5)
        self.assertEqual(self.apns.alarms, [(TOPIC, outcomes[0].reason)])
        self.apns.certificates.renew(TOPIC)
        self.apns.pass_time(1)
        outcomes = self.push()
        self.apns.answer_all()
        self.assertEqual(self.decisions(outcomes), {Decision.DELIVERED})
        self.assertEqual(self.apns.alarms[1:], [(TOPIC, "")])

    def test_unusable_certificate(self) -> None:
        """One that can't be read is an alarm, not a crash; the next one is used."""
        self.begin()
        version, certificate, _, not_after = self.apns.certificates.held[TOPIC]
        self.apns.certificates.held[TOPIC] = version, certificate, b"no key", not_after
        (outcome,) = self.push()
        self.assertIs(outcome.decision, Decision.ALARM)
        self.assertEqual(len(self.apns.alarms), 1)
        self.apns.certificates.renew(TOPIC)
        self.apns.pass_time(1)
        outcomes = self.push()
        self.apns.answer_all()
        self.assertEqual(self.decisions(outcomes), {Decision.DELIVERED})
        self.apns.certificates.held[TOPIC] = 9, certificate, b"no key", not_after
        self.apns.pass_time(1)
        outcomes = self.push()
        self.apns.answer_all()
        self.assertEqual(self.decisions(outcomes), {Decision.DELIVERED})  # with the one before

    def test_unsendable(self) -> None:
        """What can't be a notification never gets to APNs."""
        self.begin()
        (done,) = self.apns.push(notification(1, magic=""))
        self.assertEqual(self.successResultOf(done).decision, Decision.GIVE_UP)
        self.assertEqual(self.apns.dials, 0)

    def test_memory_is_bounded(self) -> None:
        """More than a line can hold is turned away, to be tried later."""
        self.begin()
        self.apns.hang = True
        outcomes = self.push(MOST_WAITING + 5)
        self.assertEqual(self.decisions(outcomes), {Decision.RETRY})
        self.assertEqual(len(outcomes), 5)
        self.apns.pass_time(DEADLINE + 2)
        self.assertEqual(len(outcomes), MOST_WAITING + 5)


class Renewing(Case):
    """A new push certificate is used at once."""

    def test_hot_swap(self) -> None:
        """The next push goes out with it; the old connection ends after its last answer."""
        self.begin()
        before = self.push(2)
        old = self.apns.link
        self.apns.certificates.renew(TOPIC)
        self.apns.pass_time(1)
        after = self.push(2)
        self.assertIsNot(self.apns.link, old)
        self.assertNotEqual(
            self.apns.link.certificate.certificate.serial_number,
            old.certificate.certificate.serial_number,
        )
        self.assertEqual((len(old.peer.open), len(self.apns.link.peer.open)), (2, 2))
        self.apns.answer_all()
        self.assertEqual(self.decisions(before + after), {Decision.DELIVERED})
        self.assertEqual(len(before + after), 4)
        self.assertTrue(old.ended)
        self.assertEqual(self.apns.service.status()[0].version, 2)

    def test_while_connecting(self) -> None:
        """A connection that is still coming up with the old one is not waited for."""
        self.begin()
        self.apns.hang = True
        before = self.push()
        self.apns.hang = False
        self.apns.certificates.renew(TOPIC)
        self.apns.pass_time(1)
        after = self.push()
        self.apns.answer_all()
        self.assertEqual(self.decisions(before + after), {Decision.DELIVERED})
        self.assertEqual(self.apns.service.status()[0].version, 2)
        self.assertEqual((self.apns.dials, len(self.apns.links)), (2, 1))
        self.apns.pass_time(20)
        self.assertEqual(len(self.apns.links), 1)

    def test_cheap(self) -> None:
        """Versions are compared once a second, not once a push."""
        self.begin()
        for _ in range(20):
            self.push(5)
        self.assertEqual(self.apns.certificates.looks, 1)

    def test_store_away(self) -> None:
        """While the store is away pushes go on with the certificate that is there."""
        self.begin()
        self.push()
        self.apns.certificates.away = True
        self.apns.pass_time(2)
        outcomes = self.push()
        self.apns.answer_all()
        self.assertEqual(self.decisions(outcomes), {Decision.DELIVERED})

    def test_ends_an_alarm(self) -> None:
        """A renewed certificate is tried at once, whatever the old one came to."""
        self.begin()
        self.apns.refuse = refused("certificate expired", Decision.ALARM)
        self.assertEqual(self.decisions(self.push()), {Decision.ALARM})
        self.apns.refuse = None
        self.assertEqual(self.decisions(self.push()), {Decision.ALARM})
        self.assertEqual(self.apns.dials, 1)
        self.apns.certificates.renew(TOPIC)
        self.apns.pass_time(1)
        outcomes = self.push()
        self.apns.answer_all()
        self.assertEqual(self.decisions(outcomes), {Decision.DELIVERED})


class Failing(Case):
    """Connections that fail, and answers that are no success."""

    def test_goaway(self) -> None:
        """What APNs did not process goes out again; what it did is awaited."""
        self.begin()
        outcomes = self.push(10)
        old = self.apns.link
        old.peer.goaway(5, word="Shutdown")
        self.apns.carry()
        self.assertEqual(len(self.apns.link.peer.requests), 7)
        self.apns.answer_all()
        self.assertEqual(self.decisions(outcomes), {Decision.DELIVERED})
        self.assertEqual(len(outcomes), 10)
        self.assertFalse(any(each.maybe_twice for each in outcomes))
        self.assertTrue(old.ended)

    def test_cut(self) -> None:
        """Hundreds in flight when the connection is cut: each is sent again once, and marked."""
        self.begin()
        outcomes = self.push(300)
        self.apns.link.peer.answer(1)
        self.apns.carry()
        self.apns.link.cut(ConnectionError("cut"))
        self.apns.carry()
        self.assertEqual(len(self.apns.links), 2)
        self.assertEqual(len(self.apns.link.peer.requests), 299)
        self.apns.answer_all()
        self.assertEqual(sum(each.maybe_twice for each in outcomes), 299)
        self.assertEqual(self.decisions(outcomes), {Decision.DELIVERED})

    def test_cut_twice(self) -> None:
        """A push whose fate is unknown a second time is not sent a third time."""
        self.begin()
        outcomes = self.push()
        for _ in range(2):
            self.apns.link.cut(ConnectionError("cut"))
            self.apns.pass_time(2)
        self.assertEqual(self.decisions(outcomes), {Decision.RETRY})
        self.assertTrue(outcomes[0].maybe_twice)
        self.assertEqual(len(self.apns.links), 2)

    def test_silence(self) -> None:
        """A peer that says nothing any more is found by a PING, and its pushes sent elsewhere."""
        self.begin()
        self.push()
        self.apns.answer_all()
        outcomes = self.push(3)
        dead = self.apns.link
        dead.silent = True
        self.apns.pass_time(9)
        self.assertTrue(dead.ended)
        self.apns.answer_all()
        self.assertEqual(self.decisions(outcomes), {Decision.DELIVERED})

    def test_idle_silence(self) -> None:
        """An idle connection is tested too, after the configured time."""
        self.begin()
        self.push()
        self.apns.answer_all()
        dead = self.apns.link
        self.apns.pass_time(120, 1.0)
        self.assertFalse(dead.ended)
        dead.silent = True
        self.apns.pass_time(70, 1.0)
        self.assertTrue(dead.ended)

    def test_stalled_push(self) -> None:
        """A push that APNs leaves unanswered, PINGs and all, ends by its deadline."""
        self.begin()
        outcomes = self.push()
        self.apns.pass_time(DEADLINE + 2)
        self.assertEqual(self.decisions(outcomes), {Decision.RETRY})
        self.assertTrue(outcomes[0].maybe_twice)
        self.assertFalse(self.apns.link.ended)

    def test_back_off(self) -> None:
        """Connecting is tried again later and later; pushes that would wait long are told so."""
        self.begin()
        self.apns.refuse = refused("no route to host")
        outcomes = self.push()
        self.assertEqual(outcomes, [])
        self.apns.pass_time(12)
        self.assertIn("no route", outcomes[0].reason)
        self.assertEqual(self.apns.dials, 3)
        for _ in range(4):
            self.push()
            self.apns.pass_time(8)
        tried = self.apns.dials
        self.assertEqual(self.decisions(self.push()), {Decision.RETRY})
        self.assertEqual(self.apns.dials, tried)
        self.apns.refuse = None
        self.apns.pass_time(60)
        outcomes = self.push()
        self.apns.answer_all()
        self.assertEqual(self.decisions(outcomes), {Decision.DELIVERED})

    def test_short_trouble(self) -> None:
        """A push waits through a connection that fails once."""
        self.begin()
        self.apns.refuse = refused("connection refused")
        outcomes = self.push()
        self.apns.refuse = None
        self.apns.pass_time(2)
        self.apns.answer_all()
        self.assertEqual(self.decisions(outcomes), {Decision.DELIVERED})

    def test_slow_connect(self) -> None:
        """A connection that does not come up in time is given up, and the push handed back."""
        self.begin()
        self.apns.hang = True
        outcomes = self.push()
        self.apns.hang = False
        self.apns.pass_time(12)
        self.assertEqual(self.decisions(outcomes), {Decision.RETRY})
        self.assertIn("in time", outcomes[0].reason)
        outcomes = self.push()
        self.apns.answer_all()
        self.assertEqual(self.decisions(outcomes), {Decision.DELIVERED})
        self.assertEqual(self.apns.dials, 2)

    def test_useless_connections(self) -> None:
        """A peer that ends each connection without an answer is not hammered."""
        self.begin()
        outcomes = self.push()
        for _ in range(40):
            if not self.apns.link.ended:
                self.apns.link.peer.goaway(0, word="Shutdown")
            self.apns.pass_time(0.5)
        self.assertEqual(self.decisions(outcomes), {Decision.RETRY})
        self.assertLess(self.apns.dials, 6)

    def test_retries_are_reported(self) -> None:
        """Every other answer comes back as it is, with its decision."""
        self.begin()
        outcomes = self.push(2)
        peer = self.apns.link.peer
        peer.answer(1, 410, b'{"reason":"Unregistered","timestamp":1}')
        peer.answer(3, 429, b'{"reason":"TooManyRequests"}')
        self.apns.carry()
        self.assertEqual(
            [(each.decision, each.status, each.reason, each.apns_id) for each in outcomes],
            [
                (Decision.DROP_TOKEN, 410, "Unregistered", "id-1"),
                (Decision.RETRY, 429, "TooManyRequests", "id-3"),
            ],
        )
        (status,) = self.apns.service.status()
        self.assertEqual((status.refused, status.last_error), (2, "TooManyRequests"))

    def test_alarm_shuts_the_line(self) -> None:
        """After a 403 nothing is sent but one push now and then, until it succeeds."""
        self.begin()
        outcomes = self.push()
        self.apns.answer_all(403, b'{"reason":"BadCertificateEnvironment"}')
        self.assertEqual(self.decisions(outcomes), {Decision.ALARM})
        outcomes = self.push(20)
        self.assertEqual(
            set(outcomes), {PushOutcome(Decision.ALARM, 0, "not sent: BadCertificateEnvironment")}
        )
        self.assertEqual(len(self.apns.link.peer.requests), 1)
        self.apns.pass_time(31)
        outcomes = self.push(20)
        self.assertEqual((len(outcomes), len(self.apns.link.peer.open)), (19, 1))
        self.apns.answer_all(403, b'{"reason":"BadCertificateEnvironment"}')
        self.apns.pass_time(31)
        self.assertEqual(len(self.push(20)), 20)
        self.apns.pass_time(30)
        outcomes = self.push()
        self.apns.answer_all()
        self.assertEqual(self.decisions(outcomes), {Decision.DELIVERED})
        self.assertEqual(self.apns.alarms, [(TOPIC, "BadCertificateEnvironment"), (TOPIC, "")])
        self.push(20)
        self.assertEqual(len(self.apns.link.peer.open), 20)

    def test_strange_answers(self) -> None:
        """One odd answer is one device's; many in a row shut the line."""
        self.begin()
        self.push()
        self.apns.answer_all(400, b'{"reason":"BadMood"}')
        self.assertEqual(self.apns.alarms, [])
        self.push(10)
        self.apns.answer_all(400, b'{"reason":"BadMood"}')
        self.assertEqual(self.apns.alarms, [(TOPIC, "BadMood")])

    def test_draining_without_answers(self) -> None:
        """A connection that said goodbye and then nothing is closed with its last push's time."""
        self.begin()
        outcomes = self.push(3)
        old = self.apns.link
        old.peer.goaway(2**31 - 1)
        self.apns.pass_time(DEADLINE + 2)
        self.assertEqual(self.decisions(outcomes), {Decision.RETRY})
        self.assertTrue(old.ended)

    def test_what_is_over_is_forgotten(self) -> None:
        """Pushes that ran out of time while nothing could be reached leave no memory behind."""
        self.begin()
        self.apns.hang = True
        self.push(1000)
        self.apns.pass_time(DEADLINE + 2)
        (line,) = self.apns.service._lines.values()
        self.assertEqual((len(line._queue), line._by_second), (0, {}))

    def test_goodbye_alarm(self) -> None:
        """A GOAWAY that speaks of the certificate is an alarm for all that waited."""
        self.begin()
        outcomes = self.push(3)
        self.apns.link.peer.goaway(0, word="BadCertificate")
        self.apns.carry()
        self.assertEqual(self.decisions(outcomes), {Decision.ALARM})
        self.assertEqual(len(self.apns.links), 1)


class Stopping(Case):
    """The end of the daemon."""

    def test_settles(self) -> None:
        """What is in flight is awaited; then the connections close, with a goodbye."""
        self.begin(max_concurrent_streams=2)
        outcomes = self.push(3)
        stopped = Deferred.fromCoroutine(self.apns.service.stop())
        self.assertNoResult(stopped)
        self.assertEqual(self.decisions(self.push()), {Decision.RETRY})
        self.apns.answer_all()
        self.successResultOf(stopped)
        self.assertEqual(
            sorted(each.decision for each in outcomes),
            [Decision.DELIVERED, Decision.DELIVERED, Decision.RETRY],
        )
        self.assertTrue(self.apns.link.ended)
        self.assertEqual(self.apns.clock.getDelayedCalls(), [])

    def test_bounded(self) -> None:
        """A peer that does not answer does not keep the daemon from ending."""
        self.begin()
        outcomes = self.push(3)
        stopped = Deferred.fromCoroutine(self.apns.service.stop())
        self.apns.pass_time(6)
        self.successResultOf(stopped)
        self.assertEqual(self.decisions(outcomes), {Decision.RETRY})
        self.assertEqual(len(outcomes), 3)

    def test_while_the_certificate_is_read(self) -> None:
        """A push that comes too late for its connection makes none after the end."""
        self.begin()
        self.apns.certificates.slow = Deferred()
        outcomes = self.push(2)
        told(self.apns.service.stop())
        self.apns.certificates.slow.callback(None)
        self.apns.carry()
        self.assertEqual(self.decisions(outcomes), {Decision.RETRY})
        self.assertEqual((len(outcomes), self.apns.dials), (2, 0))

    def test_never_used(self) -> None:
        """A service without a push ends at once."""
        self.begin()
        told(self.apns.service.stop())
        self.assertEqual(self.apns.clock.getDelayedCalls(), [])
