"""The push work set on a real Valkey: who is due, who has claimed it, when it is due again."""

from mdmd.interfaces.fleet import Policy
from mdmd.interfaces.push import Decision, DuePush, NoPush, PushOutcome
from mdmd.store import keys
from mdmd.store.push import UNREADABLE
from tests.storecase import BEGIN, MS, TOPIC, StoreCase, command, udid

LEASE = 30_000
DELIVERED = PushOutcome(Decision.DELIVERED, 200, "", "apns-1")
UNREGISTERED = PushOutcome(Decision.DROP_TOKEN, 410, "Unregistered")


class PushWorkTests(StoreCase):
    """What product.md says of pushing again."""

    async def due(self) -> list[DuePush]:
        return await self.store.push.claim_due(100, LEASE)

    async def next_push(self, number: int = 1) -> float | None:
        """Seconds from the beginning until the enrollment's next push."""
        record = await self.store.fleet.enrollment(self.device(number).enrollment)
        return None if record.next_push is None else (record.next_push - MS) / 1000

    async def ready(self, number: int = 1):
        """A Mac that enrolled a while ago, with nothing to do."""
        mac = await self.enrolled(number)
        self.clock.advance(60)
        return mac

    async def test_work_is_due_at_once(self) -> None:
        """With all that a push needs; a claim is nobody else's until its lease ends."""
        mac = await self.ready()
        await mac.is_sent("A")
        (due,) = await self.due()
        self.assertEqual((due.enrollment, due.attempt), (mac.enrollment, 0))
        notification = due.notification
        self.assertEqual(
            (notification.topic, notification.token, notification.push_magic),
            (TOPIC, b"t" * 32, "magic"),
        )
        self.assertEqual(await self.due(), [])
        self.clock.advance(LEASE / 1000)
        self.assertEqual(len(await self.due()), 1)

    async def test_a_damaged_token_keeps_back_no_other(self) -> None:
        """By time and by name it is dead until the next TokenUpdate, with an event; others go."""
        macs = [await self.ready(n) for n in range(1, 5)]
        for mac in macs:
            await mac.is_sent("A")
        first, second, third, fourth = [each.enrollment for each in macs]
        await self.store.link.call("SET", keys.push(first), b"\1" + b"nonsense" * 9)
        await self.store.link.call("SET", keys.push(second), b"")
        self.assertEqual({each.enrollment for each in await self.due()}, {third, fourth})
        await self.store.link.call("SET", keys.push(third), b"nonsense")
        await self.store.link.call("DEL", keys.push(fourth))
        await self.store.link.call("HSET", keys.push(fourth), "another", "type")
        claims = await self.store.push.claim([first, second, third, fourth], LEASE)
        dead = f"token dropped: {UNREADABLE}"
        self.assertEqual(
            claims, [*(NoPush(one, dead) for one in (first, second, third)),
                     NoPush(fourth, "damaged")],
        )  # fmt: skip
        failed = [each for each in await self.store.fleet.events() if "Failed" in each.topic]
        self.assertEqual([each.facts["reason"] for each in failed], [UNREADABLE] * 3)
        await macs[0].token_update()
        (due,) = await self.store.push.claim([first], LEASE)
        self.assertIsInstance(due, DuePush)

    async def test_who_is_damaged_is_not_claimed_for_ever(self) -> None:
        """It leaves the work set, until it is mended and gets work again."""
        mac = await self.ready()
        await mac.is_sent("A")
        key = keys.push(mac.enrollment)
        push = await self.store.link.call("GET", key)
        await self.store.link.call("DEL", key)
        await self.store.link.call("HSET", key, "another", "type")
        self.assertEqual(await self.due(), [])
        self.assertEqual((await self.store.fleet.totals())[1], 0)
        await self.store.link.call("DEL", key)
        await self.store.link.call("SET", key, push)
        await mac.is_sent("B")
        self.assertEqual(len(await self.due()), 1)

    async def test_nobody_is_woken_for_what_has_expired(self) -> None:
        """It is set aside, with an event, though the device never comes; the rest is pushed for."""
        mac, other = await self.ready(), await self.ready(2)
        ends = Policy(expires=int((self.clock.seconds() + 10) * 1000))
        await mac.is_sent("A", "B", policy=ends)
        await other.is_sent("A2", policy=ends)
        await other.is_sent("B2")
        self.assertEqual(len(await self.due()), 2)
        self.clock.advance(LEASE / 1000)
        (due,) = await self.due()
        self.assertEqual(due.enrollment, other.enrollment)
        self.assertEqual(await mac.queue(), [("A", "expired"), ("B", "expired")])
        self.assertEqual(await other.queue(), [("B2", "waiting"), ("A2", "expired")])
        parked = [e for e in await self.store.fleet.events() if e.topic == "mdmd.Parked"]
        self.assertEqual({e.facts["command_uuid"] for e in parked}, {"A", "B", "A2"})
        self.assertEqual(await self.next_push(), None)
        self.clock.advance(LEASE / 1000)
        self.assertEqual(len(await self.due()), 1)

    async def test_what_has_expired_in_a_damaged_queue_keeps_back_nobody(self) -> None:
        """It can't be set aside; its device is pushed, and so are the others."""
        mac, other = await self.ready(), await self.ready(2)
        await mac.is_sent("A", policy=Policy(expires=int((self.clock.seconds() + 10) * 1000)))
        await other.is_sent("B")
        await self.store.link.call("SET", keys.sent(mac.enrollment), "another type")
        self.clock.advance(10)
        self.assertEqual(len(await self.due()), 2)

    async def test_the_first_push_after_enrollment_waits(self) -> None:
        """A few seconds, or the device may not be ready."""
        mac = await self.enrolled()
        await mac.is_sent("A")
        self.assertEqual(await self.next_push(), 5.0)
        self.assertEqual(await self.due(), [])
        self.assertEqual(await self.store.push.next_due(), MS + 5000)

    async def test_enrolled_by_a_clock_that_was_ahead(self) -> None:
        """Since it was set back what comes waits as long as after any enrollment, no longer."""
        self.clock.advance(3600)
        mac = await self.enrolled()
        self.clock.advance(-3600)
        await mac.is_sent("A")
        self.assertEqual(await self.next_push(), 5.0)

    async def test_a_push_right_after_enrollment_is_repeated_soon(self) -> None:
        """Whoever asks by name is served at once; the device gets its first push all the same."""
        mac = await self.enrolled()
        await mac.is_sent("A")
        (due,) = await self.store.push.claim([mac.enrollment], LEASE)
        assert isinstance(due, DuePush)
        await self.store.push.pushed(due, DELIVERED, MS + 120_000)
        self.assertEqual(await self.next_push(), 5.0)
        self.clock.advance(5)
        (due,) = await self.due()
        await self.store.push.pushed(due, DELIVERED, MS + 125_000)
        self.assertEqual(await self.next_push(), 125.0)

    async def test_pushed_again_later_and_later(self) -> None:
        """While it does not connect: the waker says when, the store counts."""
        mac = await self.ready()
        await mac.is_sent("A")
        for attempt in range(4):
            (due,) = await self.due()
            self.assertEqual(due.attempt, attempt)
            again = int((self.clock.seconds() + 100) * 1000)
            await self.store.push.pushed(due, DELIVERED, again)
            self.assertEqual(await self.due(), [])
            self.clock.advance(100)
        record = await self.store.fleet.enrollment(mac.enrollment)
        self.assertEqual(record.last_push_result, "apns-1")

    async def test_connect_ends_it(self) -> None:
        """Nothing left: out of the set. Something left: pushed again if it does not go on."""
        mac = await self.ready()
        await mac.is_sent("A", "B")
        (due,) = await self.due()
        await self.store.push.pushed(due, DELIVERED, MS + 999_000)
        await mac.idle()
        self.assertEqual(await self.next_push(), 60 + 120)
        await mac.acknowledges("A")
        await mac.acknowledges("B")
        self.assertEqual(await self.next_push(), None)

    async def test_a_late_outcome_changes_nothing(self) -> None:
        """The device connected and got new work before its push was recorded."""
        mac = await self.ready()
        await mac.is_sent("A")
        (due,) = await self.due()
        await mac.idle()
        await mac.acknowledges("A")
        await self.store.push.pushed(due, DELIVERED, MS + 999_000)
        self.assertEqual(await self.next_push(), None)
        await mac.is_sent("B")
        await self.store.push.pushed(due, DELIVERED, MS + 999_000)
        self.assertEqual(await self.next_push(), 60)

    async def test_not_now_backs_off(self) -> None:
        """From minutes to a day, as often as the device says NotNow."""
        mac = await self.ready()
        await mac.is_sent("A")
        waits = []
        for _ in range(7):
            self.assertEqual(await mac.idle(), "A")
            self.assertEqual(await mac.not_now("A"), None)
            waits.append(await self.next_push() - 60)
        self.assertEqual(waits, [120, 600, 3600, 21600, 86400, 86400, 86400])

    async def test_a_dead_token_is_not_pushed_to(self) -> None:
        """Until the next TokenUpdate, which makes the waiting work due again."""
        mac = await self.ready()
        await mac.is_sent("A")
        (due,) = await self.due()
        await self.store.push.pushed(due, UNREGISTERED, None)
        (claim,) = await self.store.push.claim([mac.enrollment], LEASE)
        self.assertEqual(claim, NoPush(mac.enrollment, "token dropped: Unregistered"))
        await mac.is_sent("B")
        self.assertEqual(await self.due(), [])
        await mac.token_update(token=b"new")
        self.clock.advance(5)
        (due,) = await self.due()
        self.assertEqual(due.notification.token, b"new")
        self.assertIn("mdmd.PushFailed", await self.topics())

    async def test_a_token_that_was_replaced_meanwhile_lives(self) -> None:
        """The bad answer was for the old one."""
        mac = await self.ready()
        await mac.is_sent("A")
        (due,) = await self.due()
        await mac.token_update(token=b"new")
        await self.store.push.pushed(due, UNREGISTERED, None)
        (claim,) = await self.store.push.claim([mac.enrollment], LEASE)
        self.assertIsInstance(claim, DuePush)

    async def test_by_name(self) -> None:
        """Due or not, with work or without; or why not."""
        mac, gone, early = await self.ready(1), await self.ready(2), self.device(3)
        await gone.check_out()
        await early.authenticate()
        targets = [each.enrollment for each in (mac, gone, early, self.device(4))]
        answers = await self.store.push.claim(targets, LEASE)
        self.assertIsInstance(answers[0], DuePush)
        self.assertEqual([each.reason for each in answers[1:]], ["disabled", "disabled", "unknown"])
        self.assertEqual([each.enrollment for each in answers], targets)

    async def test_nobody_is_pushed_for_nothing(self) -> None:
        """A check-out, a cancelled command: they leave the set."""
        macs = [await self.ready(n) for n in range(1, 4)]
        for mac in macs:
            await mac.is_sent("A")
        await macs[0].check_out()
        await self.store.fleet.cancel(macs[1].enrollment, "A")
        await self.store.fleet.clear(macs[2].enrollment)
        self.assertEqual(await self.store.push.next_due(), None)

    async def test_quiet_enqueue(self) -> None:
        """Nobody is woken for it at once; the first repeat is its first push."""
        mac = await self.ready()
        await mac.is_sent("A", policy=Policy(wake=False))
        self.assertEqual(await self.next_push(), 60 + 120)

    async def test_many(self) -> None:
        """All of a large set are claimed once, by two wakers in turns, in bounded bites."""
        targets = [(await self.enrolled(n)).enrollment for n in range(1, 61)]
        self.clock.advance(60)
        await self.store.fleet.enqueue(command("S"), targets, Policy())
        seen: list[str] = []
        while some := await self.store.push.claim_due(7, LEASE):
            self.assertLessEqual(len(some), 7)
            seen += [str(due.enrollment) for due in some]
        self.assertEqual(sorted(seen), sorted(udid(n) for n in range(1, 61)))

    async def test_user_channels_are_pushed_to_with_their_own_token(self) -> None:
        """Token and magic are the channel's."""
        await self.ready()
        user = self.user()
        await user.token_update(token=b"user", push_magic="theirs")
        await user.is_sent("A")
        self.clock.rightNow = BEGIN + 100
        (due,) = await self.due()
        self.assertEqual(due.enrollment, user.enrollment)
        self.assertEqual((due.notification.token, due.notification.push_magic), (b"user", "theirs"))

    async def test_failures_are_counted_apart(self) -> None:
        """An outage does not make the repeats of the push after it rarer."""
        mac = await self.ready()
        await mac.is_sent("A")
        for failures in range(3):
            (due,) = await self.due()
            self.assertEqual((due.attempt, due.failures), (0, failures))
            await self.store.push.pushed(due, PushOutcome(Decision.RETRY), MS)
        (due,) = await self.due()
        await self.store.push.pushed(due, DELIVERED, MS)
        (due,) = await self.due()
        self.assertEqual((due.attempt, due.failures), (1, 0))

    async def test_waiting(self) -> None:
        """How many have work, and how many of them are due."""
        for number in (1, 2, 3):
            mac = await self.ready(number)
            await mac.is_sent("A")
        self.assertEqual(await self.store.push.waiting(), (3, 3))
        await self.due()
        self.assertEqual(await self.store.push.waiting(), (3, 0))

    async def test_what_passes_is_no_event(self) -> None:
        """An outage of APNs must not push everything else out of the event stream."""
        mac = await self.ready()
        await mac.is_sent("A")
        before = await self.topics()
        for decision in (Decision.RETRY, Decision.ALARM):
            (due,) = await self.due()
            await self.store.push.pushed(due, PushOutcome(decision, 503, "Shutdown"), MS)
        self.assertEqual(await self.topics(), before)
        record = await self.store.fleet.enrollment(mac.enrollment)
        self.assertEqual(record.last_push_result, "Shutdown")
