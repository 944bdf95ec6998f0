"""Webhooks between a real Valkey and a target that may misbehave."""

import random
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet import ssl as twisted_ssl
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.web.server import Site

from mdmd.errors import BadRequest, NotHere
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import certificate_pem, key_pem
from mdmd.store import keys
from mdmd.store.feed import Feed, read_id
from mdmd.store.store import Store
from mdmd.webhook.message import signature
from mdmd.webhook.target import Target
from mdmd.webhook.webhooks import Webhooks
from tests.hookhelp import Rude, answer, babble, dawdle, hang_up, later, silence
from tests.hookhelp import Target as Receiver
from tests.storecase import SEALER, StoreCase
from tests.storehelp import REDIS


class HookCase(StoreCase):
    """One target, and daemons that send to it."""

    async def setUp(self) -> None:
        await super().setUp()
        self.store = Store(self.link, SEALER, reactor, self.settings)
        self.receiver = Receiver()
        self.port = self.receiver.listen()
        self.addCleanup(lambda: later(self.receiver.close()))
        self.wall = time.time

    async def daemon(self, daemon: str = "d1", **options: Any) -> Webhooks:
        """A daemon's webhooks, started; what happens from then on goes to the target."""
        given = {"url": f"http://127.0.0.1:{self.port}/hook", "private": True, **options}
        target = Target(given.pop("name", "t"), **given)
        feed = await Feed.start(reactor, self.link)
        self.addCleanup(lambda: later(feed.stop()))
        hooks = Webhooks(
            *(reactor, [target], self.store.deliveries, feed, daemon, "1"),
            *(random.random, self.wall),
        )
        self.addCleanup(lambda: later(hooks.stop()))
        await hooks.start()
        self.assertTrue((await hooks.standings())[0].state.sender)
        return hooks

    async def happen(self, *whos: str, topic: str = "mdm.Connect") -> None:
        """Let events happen, one for each enrollment named."""
        for number, who in enumerate(whos):
            raw = b"<plist/>"
            sealed = self.store.tools.payloads.seal(raw, b"message of " + who.encode())
            facts = ("type", "Device", "status", "Idle", "number", number)
            await self.store.tools.change("tell", (), (topic, who, sealed, *facts))

    async def got(self, count: int) -> list[str]:
        """Wait until the target has so many; whom they are about, in order."""
        await self.receiver.until(lambda: len(self.receiver.got) >= count)
        return [each["acknowledge_event"]["ids"]["id"] for each in self.receiver.got]

    async def drained(self, hooks: Webhooks, left: int = 0) -> None:
        """Wait until no more are unsettled: they would come again from the next daemon."""
        while (await hooks.standings())[0].state.unsettled > left:
            await deferLater(reactor, 0.01)


class DeliveryTests(HookCase):
    """What arrives."""

    async def test_arrives_signed(self) -> None:
        """As JSON with the signature over the body; only what the filter lets through."""
        hooks = await self.daemon(key=b"secret")
        await self.happen("U-1")
        await self.happen("U-2", topic="mdmd.Own")
        self.assertEqual(await self.got(1), ["U-1"])
        event, headers, body = self.receiver.asked[0]
        self.assertEqual(headers["content-type"], "application/json; charset=utf-8")
        self.assertEqual(headers["x-hmac-signature"], signature(b"secret", body))
        self.assertEqual(event["acknowledge_event"]["status"], "Idle")
        await self.drained(hooks)
        self.assertEqual(len(self.receiver.asked), 1)

    async def test_a_new_target_begins_now(self) -> None:
        """A target that was not there before is not flooded with the past; replay sends that."""
        await self.happen("U-0")
        hooks = await self.daemon()
        await self.happen("U-1")
        self.assertEqual(await self.got(1), ["U-1"])
        await self.drained(hooks)
        await hooks.replay("t", "0")
        self.assertEqual(await self.got(3), ["U-1", "U-0", "U-1"])
        with self.assertRaises(BadRequest):
            await hooks.replay("t", "yesterday")
        with self.assertRaisesRegex(BadRequest, "no event has come after"):
            await hooks.replay("t", "99999999999999-0")  # a digit too many
        await self.happen("U-3")
        self.assertEqual((await self.got(4))[-1], "U-3")
        with self.assertRaises(NotHere):
            await hooks.replay("other", "0")

    async def test_half_fail(self) -> None:
        """Each event arrives, in order within its enrollment, though half of the tries fail."""
        luck = random.Random(1)
        self.receiver.behaviour = lambda request, event: answer(luck.choice([200, 500]))(
            request, event
        )
        hooks = await self.daemon(at_once=32)
        whos = [f"U-{n % 50}" for n in range(200)]
        await self.happen(*whos)
        await self.got(200)
        await self.drained(hooks)
        numbers: dict[str, list[str]] = {}
        for each in self.receiver.got:
            who = each["acknowledge_event"]["ids"]["id"]
            numbers.setdefault(who, []).append(each["sequence"])
        self.assertEqual(sum(map(len, numbers.values())), 200)
        for sequences in numbers.values():
            self.assertEqual(sequences, sorted(set(sequences)))

    async def test_a_slow_enrollment_delays_no_other(self) -> None:
        """While an event of one enrollment hangs, those of others arrive."""
        self.receiver.behaviour = lambda request, event: (
            silence(request, event)
            if event["acknowledge_event"]["ids"]["id"] == "slow"
            else answer()(request, event)
        )
        await self.daemon(timeout=30)
        await self.happen("slow", *(f"U-{n}" for n in range(30)))
        await self.receiver.until(lambda: len(self.receiver.asked) >= 31)

    async def test_a_refused_event_delays_no_other(self) -> None:
        """However many wait behind one that is never taken, those of others arrive, later too."""
        bad = {"bad"}
        self.receiver.behaviour = lambda request, event: answer(
            500 if event["acknowledge_event"]["ids"]["id"] in bad else 200
        )(request, event)
        one = await self.daemon("d1")
        await self.happen(*["bad"] * 450, "U-1")
        self.assertEqual(await self.got(1), ["U-1"])
        await self.drained(one, left=450)
        await one.stop()
        await self.daemon("d2")
        await self.happen("U-2")
        self.assertEqual(await self.got(2), ["U-1", "U-2"])
        bad.clear()
        await self.got(452)
        sequences = [read_id(each["sequence"]) for each in self.receiver.got[2:]]
        self.assertEqual(sequences, sorted(sequences))

    async def test_a_slow_target_delays_no_other(self) -> None:
        """A target that hangs does not hold up another one's events."""
        other = Receiver()
        port = other.listen()
        self.addCleanup(lambda: later(other.close()))
        self.receiver.behaviour = silence
        await self.daemon(timeout=30, at_once=1)
        await self.daemon("d2", name="other", url=f"http://127.0.0.1:{port}/")
        await self.happen(*(f"U-{n}" for n in range(30)))
        await other.until(lambda: len(other.got) >= 30)
        self.assertEqual(len(self.receiver.asked), 1)

    async def test_bad_manners(self) -> None:
        """Whatever a target does instead of 200, the event comes again and gets through."""
        hooks = await self.daemon(timeout=0.5)
        elsewhere = answer(302, location=f"http://127.0.0.1:{self.port}/elsewhere")
        for manner, said in (
            (answer(500), "HTTP status 500"),
            (answer(410), "HTTP status 410"),
            (elsewhere, "redirects are not followed"),
            (hang_up, "lost"),
            (silence, "no answer within 0.5 s"),
        ):
            self.receiver.behaviour = manner
            asked = len(self.receiver.asked)
            await self.happen("U-1")
            await self.receiver.until(lambda asked=asked: len(self.receiver.asked) > asked)
            while not (await hooks.standings())[0].trouble:
                await deferLater(reactor, 0.01)
            self.assertIn(
                said, (await hooks.standings())[0].trouble.lower().replace("http ", "HTTP ")
            )
            self.receiver.behaviour = answer()
            await self.drained(hooks)
        self.assertTrue(all("elsewhere" not in str(h) for _, h, _ in self.receiver.asked))

    async def test_endless_bodies(self) -> None:
        """200 counts when it comes; a body without an end is cut and costs nothing."""
        hooks = await self.daemon(timeout=1)
        for manner in (babble, dawdle):
            self.receiver.behaviour = manner
            asked = len(self.receiver.asked)
            await self.happen("U-1")
            await self.receiver.until(lambda asked=asked: len(self.receiver.asked) > asked)
            await self.drained(hooks)
            self.assertEqual((await hooks.standings())[0].trouble, "")
            self.assertEqual(len(self.receiver.asked), asked + 1)

    async def rude(self, begin: bytes, again: bytes) -> str:
        """Say what becomes of a delivery to a target with such an answer."""
        port = type("Port", (Rude,), {"begin": begin, "again": again}).listen()
        self.addCleanup(port.stopListening)
        url = f"http://127.0.0.1:{port.getHost().port}/"
        hooks = await self.daemon(url=url, timeout=60, name=f"t{port.getHost().port}")
        return await hooks.test(f"t{port.getHost().port}")

    async def test_endless_headers(self) -> None:
        """An answer that never gets to its body is cut too, long before it is a burden."""
        ok = b"HTTP/1.1 200 OK\r\n"
        for begin, again in (
            (ok, Rude.again),
            (ok + b"X-More: ", b"y" * 1000),
            (b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n" * 40),
        ):
            self.assertNotEqual(await self.rude(begin, again), "")
            self.assertLess(Rude.said, 20 << 20)

    async def test_no_http(self) -> None:
        """What is no HTTP at all is said in words."""
        self.assertEqual(await self.rude(b"SSH-2.0-mdmd\r\n", b""), "what it answers is not HTTP")

    async def test_counted(self) -> None:
        """Each delivery is counted by what came of it; the oldest event that waits is known."""
        hooks = await self.daemon()
        self.assertIsNone((await hooks.standings())[0].state.oldest)
        self.receiver.behaviour = answer(500)
        await self.happen("U-1", "U-2")
        await self.receiver.until(lambda: len(self.receiver.asked) >= 3)
        (first, _) = [int(e.id.partition("-")[0]) for e in await self.store.fleet.events()]
        self.assertEqual((await hooks.standings())[0].state.oldest, first)
        self.receiver.behaviour = answer()
        await self.drained(hooks)
        self.assertIsNone((await hooks.standings())[0].state.oldest)
        counts = hooks.counts()
        self.assertEqual(counts["t", "taken"], 2)
        self.assertEqual(sum(counts.values()), len(self.receiver.asked))

    async def test_unread_counts_as_waiting(self) -> None:
        """While no daemon sends, the oldest event is the first that nobody read."""
        hooks = await self.daemon()
        await hooks.stop()
        await self.happen("U-1", "U-2")
        (first, _) = [int(e.id.partition("-")[0]) for e in await self.store.fleet.events()]
        self.assertEqual((await self.store.deliveries.state("t")).oldest, first)

    async def test_retry_after(self) -> None:
        """429 with Retry-After leaves the target alone so long."""
        hooks = await self.daemon()
        self.receiver.behaviour = answer(429, retry_after="1")
        await self.happen("U-1", "U-2", "U-3")
        await self.receiver.until(lambda: len(self.receiver.asked) >= 1)
        began = reactor.seconds()
        await self.receiver.until(lambda: len(self.receiver.asked) >= 3)
        self.receiver.behaviour = answer()
        asked = len(self.receiver.asked)
        await self.drained(hooks)
        self.assertGreater(reactor.seconds() - began, 0.9)
        self.assertLessEqual(asked, 4)


class LeaseTests(HookCase):
    """One daemon sends to a target."""

    async def test_lease_by_a_clock_that_was_ahead(self) -> None:
        """The store's clock was set back: whoever died holds on no longer than any other."""
        claim = self.store.deliveries.claim
        await claim("t", "d1", 3_600_000)
        self.assertFalse(await claim("t", "d2", 6000))
        self.assertLessEqual(await self.link.call("PTTL", keys.sender("t")), 6000)


class DeadLetterTests(HookCase):
    """What never got through."""

    async def test_dead_and_sent_again(self) -> None:
        """After the time given an event is set aside; an operator sees it and sends it again."""
        hooks = await self.daemon(keep_trying=0.0)
        self.receiver.behaviour = answer(500)
        await self.happen("U-1", "U-2")
        while (await hooks.standings())[0].state.dead < 2:
            await deferLater(reactor, 0.01)
        letters = await hooks.dead("t", "0", 10)
        # Only the events of one enrollment have an order.
        self.assertEqual(sorted(each.event.enrollment for each in letters), ["U-1", "U-2"])
        self.assertEqual((letters[0].reason, letters[0].attempts), ("HTTP status 500", 1))
        self.assertEqual(letters[0].event.raw, b"<plist/>")
        topics = await self.topics()
        self.assertEqual(topics.count("mdmd.DeadLetter"), 2)
        again = await hooks.resend("t", 10)
        self.assertEqual((again.taken, again.failed, again.trouble), (0, 2, "HTTP status 500"))
        self.receiver.behaviour = answer()
        self.assertEqual((await hooks.resend("t", 10)).taken, 2)
        self.assertEqual(sorted(await self.got(2)), ["U-1", "U-2"])
        self.assertEqual(await hooks.dead("t", "0", 10), [])

    async def test_dead_by_a_clock_that_was_ahead(self) -> None:
        """An event of a clock that was set back since is not tried for as long as it was ahead."""
        self.wall = lambda: time.time() - 3600
        hooks = await self.daemon(keep_trying=0.5)
        self.receiver.behaviour = answer(500)
        await self.happen("U-1")
        while not (letters := await hooks.dead("t", "0", 10)):
            await deferLater(reactor, 0.01)
        self.assertGreater(letters[0].attempts, 1)

    async def test_dead_letters_beget_none(self) -> None:
        """That one is dead is told once, also to a target of all topics that takes none."""
        self.receiver.behaviour = answer(500)
        hooks = await self.daemon(topics=("*",), keep_trying=0)
        await self.happen("U-1")
        while len(await hooks.dead("t", "0", 9)) < 2:
            await deferLater(reactor, 0.01)
        await self.drained(hooks)
        self.assertEqual(await self.topics(), ["mdm.Connect", "mdmd.DeadLetter"])

    async def test_try_out(self) -> None:
        """An operator can send a test event and sees what the target says."""
        hooks = await self.daemon()
        self.assertEqual(await hooks.test("t"), "")
        self.assertEqual(self.receiver.got[0]["topic"], "mdmd.Test")
        self.receiver.behaviour = answer(404)
        self.assertEqual(await hooks.test("t"), "HTTP status 404")


class DaemonsTests(HookCase):
    """Several daemons, and those that end."""

    async def test_two_daemons(self) -> None:
        """Two daemons share a store: each event is sent once, by one of them."""
        one, two = await self.daemon("d1"), await self.daemon("d2")
        await self.happen(*(f"U-{n % 7}" for n in range(60)))
        await self.got(60)
        await self.drained(one)
        self.assertEqual(len(self.receiver.asked), 60)
        self.assertEqual((await two.standings())[0].state.sender, "d1")

    async def test_the_other_goes_on(self) -> None:
        """When one ends the other sends on, beginning with what the first had not settled."""
        one = await self.daemon("d1")
        self.receiver.behaviour = silence
        await self.happen("U-1", "U-1", "U-2")
        await self.receiver.until(lambda: len(self.receiver.asked) >= 2)
        await one.stop()
        self.receiver.behaviour = answer()
        await self.daemon("d2")
        got = await self.got(3)
        self.assertEqual(sorted(got), ["U-1", "U-1", "U-2"])
        sequences = [
            each["sequence"]
            for each in self.receiver.got
            if each["acknowledge_event"]["ids"]["id"] == "U-1"
        ]
        self.assertEqual(sequences, sorted(sequences))

    async def test_a_target_that_asked_to_wait(self) -> None:
        """The other daemon leaves it alone as long, until an operator wants otherwise."""
        self.receiver.behaviour = answer(503, retry_after="3600")
        one = await self.daemon("d1")
        await self.happen("U-1")
        await self.receiver.until(lambda: len(self.receiver.asked) == 1)
        while await self.link.call("PTTL", keys.asked_wait("t")) < 0:
            await deferLater(reactor, 0.01)
        await one.stop()
        self.receiver.behaviour = answer()
        two = await self.daemon("d2")
        await self.happen("U-2")
        while (await two.standings())[0].state.unsettled < 2:
            await deferLater(reactor, 0.01)
        self.assertEqual(self.receiver.got, [])
        await two.replay("t", (await two.standings())[0].state.reached)
        self.assertEqual(sorted(await self.got(2)), ["U-1", "U-2"])

    async def test_what_the_stream_has_lost(self) -> None:
        """What was trimmed before the target took it is told, and holds nothing up."""
        one = await self.daemon("d1")
        self.receiver.behaviour = silence
        await self.happen("U-1", "U-2")
        await self.receiver.until(lambda: len(self.receiver.asked) >= 2)
        await one.stop()
        await self.link.call("XTRIM", "mdmd:events", "MAXLEN", 0)
        self.receiver.behaviour = answer()
        two = await self.daemon("d2")
        await self.drained(two)
        self.assertIn("mdmd.WebhookLost", await self.topics())
        await self.happen("U-3")
        self.assertEqual(await self.got(1), ["U-3"])

    async def lost(self) -> list[str]:
        """Read how many events were told as lost, each time."""
        events = await self.store.events.read("0", 1000)
        return [each.facts["events"] for each in events if each.topic == "mdmd.WebhookLost"]

    async def test_what_was_dropped_unread(self) -> None:
        """What the stream drops before it was even read for a target is told, and counted."""
        one = await self.daemon("d1")
        await self.happen("U-1")
        await self.got(1)
        await self.drained(one)
        await one.stop()
        await self.happen(*(f"U-{n}" for n in range(5)))
        await self.link.call("XTRIM", "mdmd:events", "MAXLEN", 2)
        stream = await self.link.call("XINFO", "STREAM", "mdmd:events")
        two = await self.daemon("d2")
        self.assertEqual(sorted(await self.got(3)), ["U-1", "U-3", "U-4"])
        await self.drained(two)
        # Before version 7 the store does not count.
        self.assertEqual(await self.lost(), ["3" if b"entries-added" in stream else "unknown"])

    async def test_dropped_but_not_lost(self) -> None:
        """What is dropped after the target took it is no loss, nor what a replay finds no more."""
        one = await self.daemon("d1")
        await self.happen("U-1", "U-2")
        await self.got(2)
        await self.drained(one)
        await self.happen("U-3")
        await self.got(3)
        await self.drained(one)
        await self.link.call("XTRIM", "mdmd:events", "MAXLEN", 1)
        await one.replay("t", "0")
        self.assertEqual((await self.got(4))[3:], ["U-3"])
        self.assertEqual(await self.lost(), [])

    async def test_dropped_while_it_was_tried(self) -> None:
        """An event that the stream drops while its last try fails is told as lost."""
        self.receiver.behaviour = silence
        hooks = await self.daemon(timeout=1, keep_trying=0)
        await self.happen("U-1")
        await self.receiver.until(lambda: len(self.receiver.asked) >= 1)
        await self.link.call("XTRIM", "mdmd:events", "MAXLEN", 0)
        await self.drained(hooks)
        self.assertEqual((await self.lost(), await hooks.dead("t", "0", 9)), (["1"], []))

    async def test_the_place_is_gone(self) -> None:
        """A target whose consumer group was removed gets what it had not, and goes on."""
        self.receiver.behaviour = answer(503)
        await self.daemon()
        await self.happen("U-1", "U-1")
        await self.receiver.until(lambda: len(self.receiver.asked) >= 1)
        await self.link.call("XGROUP", "DESTROY", "mdmd:events", "t")
        await self.happen("U-1")
        await deferLater(reactor, 0.5)
        self.receiver.behaviour = answer()

        def sequences() -> list[tuple[int, int]]:
            return list(dict.fromkeys(read_id(each["sequence"]) for each in self.receiver.got))

        await self.receiver.until(lambda: len(sequences()) >= 3)
        self.assertEqual(sequences(), sorted(sequences()))

    async def test_damaged_messages(self) -> None:
        """An event whose message can't be read is a dead letter, and holds nobody up."""
        sealed = self.store.tools.payloads.seal(b"<plist/>", b"another place")
        hooks = await self.daemon()
        await self.store.tools.change("tell", (), ("mdm.Connect", "U-1", sealed, "status", "Idle"))
        await self.happen("U-1", "U-2")
        self.assertEqual(sorted(await self.got(2)), ["U-1", "U-2"])
        await self.drained(hooks)
        (letter,) = await hooks.dead("t", "0", 9)
        self.assertTrue(letter.event.damaged)
        self.assertEqual(await self.store.moving.dead_letters("t", "", 9), ([], ""))
        again = await hooks.resend("t", 9)
        self.assertEqual((again.taken, again.failed), (0, 1))
        self.assertEqual(len(self.receiver.asked), 2)

    async def test_unspeakable_events(self) -> None:
        """An event that nobody can spell in JSON is a dead letter, however many there are."""
        hooks = await self.daemon(at_once=2)
        for _ in range(3):
            facts = ("type", "Device", "tally", "many")
            await self.store.tools.change("tell", (), ("mdm.TokenUpdate", "U-1", b"", *facts))
        await self.happen("U-1")
        self.assertEqual(await self.got(1), ["U-1"])
        self.assertEqual(len(await hooks.dead("t", "0", 9)), 3)
        self.flushLoggedErrors(ValueError)

    async def test_the_store_comes_back(self) -> None:
        """A store that is away for a while delays events, and loses none."""
        hooks = await self.daemon()
        self.server.kill()
        self.server.start()
        for n in range(20):
            try:
                await self.happen(f"U-{n}")
            except Exception:
                await deferLater(reactor, 0.1)
        happened = len(await self.topics())
        await self.got(happened)
        await self.drained(hooks)


class TLSTests(HookCase):
    """https, and addresses."""

    def serve(self, name: str) -> tuple[int, bytes]:
        """Open an https port; its number and the CA."""
        ca = CertificateAuthority.create("Hook CA", kind="ec")
        certificate, key = ca.issue_server([name], days=9)
        pair = twisted_ssl.PrivateCertificate.loadPEM(certificate_pem(certificate) + key_pem(key))
        receiver = Receiver()
        port = receiver.listen(pair.options())
        self.addCleanup(lambda: later(receiver.close()))
        return port, certificate_pem(ca.certificate)

    async def test_verified(self) -> None:
        """The given CA is trusted for the right name; another name, or another CA, is not."""
        port, ca = self.serve("localhost")
        hooks = await self.daemon(url=f"https://localhost:{port}/", roots=ca)
        self.assertEqual(await hooks.test("t"), "")
        hooks = await self.daemon("d2", url=f"https://127.0.0.1:{port}/", roots=ca)
        self.assertNotEqual(await hooks.test("t"), "")
        hooks = await self.daemon("d3", url=f"https://localhost:{port}/")
        self.assertEqual(await hooks.test("t"), "TLS failed: certificate verify failed")

    async def test_ipv6(self) -> None:
        """A target may be named by its IPv6 address; a private one is refused like any other."""
        port = reactor.listenTCP(0, Site(self.receiver), interface="::1")
        self.addCleanup(port.stopListening)
        url = f"http://[::1]:{port.getHost().port}/hook"
        hooks = await self.daemon(url=url)
        self.assertEqual(await hooks.test("t"), "")
        self.assertEqual(self.receiver.got[0]["topic"], "mdmd.Test")
        hooks = await self.daemon("d2", url=url, private=False)
        self.assertIn("private = yes", await hooks.test("t"))

    async def test_private_addresses(self) -> None:
        """A name that stands for loopback is refused unless the target may be private."""
        hooks = await self.daemon(url=f"http://localhost:{self.port}/", private=False)
        self.assertIn("private = yes", await hooks.test("t"))
        self.assertEqual(self.receiver.asked, [])


class DebianDeliveryTests(DeliveryTests):
    """The same with Debian's redis-server."""

    binary = REDIS


class DebianDeadLetterTests(DeadLetterTests):
    """The same with Debian's redis-server."""

    binary = REDIS


class FeedTests(HookCase):
    """Waiting for what comes."""

    async def test_wait(self) -> None:
        """Who waits is woken by what comes, at once if it is there already, or not at all."""
        feed = await Feed.start(reactor, self.link)
        self.addCleanup(lambda: later(feed.stop()))
        self.assertFalse(await feed.wait("0", 0.05))
        waiting = [later(feed.wait("0", 10)) for _ in range(5)]
        await self.happen("U-1")
        for each in waiting:
            self.assertTrue(await each)
        self.assertTrue(await feed.wait("0", 10))
        newest = await self.store.events.newest()
        self.assertFalse(await feed.wait(newest, 0.05))
        gone: Deferred[Any] = later(feed.wait(newest, 10))
        gone.addErrback(lambda _: None)
        await feed.stop()
        await gone
