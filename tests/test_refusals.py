"""Failed log-ins in the audit: seen at once, and never a flood."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import StoreUnavailable
from mdmd.interfaces.audit import AuditEntry
from mdmd.ops.refusals import NAMED, WINDOW, Refusals


class Audit:
    """Keeps entries, or is away."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.away = False

    async def write(self, entry: AuditEntry) -> None:
        if self.away:
            raise StoreUnavailable("away")
        self.entries.append(entry)


class RefusalsTests(SynchronousTestCase):
    """What an attacker can write into the audit, and what not."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.audit = Audit()
        self.refusals = Refusals(self.audit, self.clock)

    def knock(self, source: str = "tls 192.0.2.1", name: str = "eve", times: int = 1) -> None:
        """Fail to log in."""
        for _ in range(times):
            self.refusals.note(source, "password", "wrong name or password", name)

    def attempts(self) -> list[tuple[str, str]]:
        """From where, how many."""
        return [(each.source, each.facts["attempts"]) for each in self.audit.entries]

    def test_the_first_is_there_at_once(self) -> None:
        """With all that is known of it."""
        self.knock()
        (entry,) = self.audit.entries
        self.assertEqual((entry.who, entry.what, entry.outcome), ("unknown", "login", "NotAllowed"))
        self.assertEqual(
            entry.facts,
            {
                "by": "password",
                "reason": "wrong name or password",
                "attempts": "1",
                "name": "eve",
            },
        )

    def test_what_follows_is_counted(self) -> None:
        """One entry a minute, however often somebody tries; quiet ones are forgotten."""
        self.knock(times=500)
        self.clock.advance(WINDOW)
        self.knock(times=300)
        self.clock.advance(WINDOW)
        self.clock.advance(WINDOW)
        self.assertEqual([n for _, n in self.attempts()], ["1", "499", "300"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.knock()
        self.assertEqual(self.attempts()[-1][1], "1")

    def test_many_addresses_share_an_entry(self) -> None:
        """Whoever has a million addresses writes a handful of lines a minute."""
        for minute in range(5):
            for number in range(2000):
                self.knock(f"api 10.{minute}.{number // 250}.{number % 250}", times=2)
            self.clock.advance(WINDOW)
        self.assertLessEqual(len(self.audit.entries), 5 * (2 * NAMED + 1))
        self.assertEqual(sum(int(n) for _, n in self.attempts()), 20_000)
        self.assertIn("many addresses", [source for source, _ in self.attempts()])

    def test_a_network_of_ipv6_is_one_address(self) -> None:
        """A customer has a /64; addresses of IPv4 that look like IPv6 stay apart."""
        for number in range(100):
            self.knock(f"ssh 2001:db8::{number:x}")
        self.assertEqual(len(self.audit.entries), 1)
        self.knock("ssh ::ffff:192.0.2.1")
        self.knock("ssh ::ffff:192.0.2.2")
        self.assertEqual(len(self.audit.entries), 3)

    def test_names_are_bounded_and_harmless(self) -> None:
        """No line breaks, no escape sequences, no book."""
        self.knock(name="\x1b[2J\n" + "x" * 1000)
        self.assertEqual(self.audit.entries[0].facts["name"], "?[2J?" + "x" * 59)
        for number in range(1000):
            self.knock(name=f"name{number}")
        self.clock.advance(WINDOW)
        self.assertEqual(self.audit.entries[1].facts["name"], "name0, name1, name2 …")

    def test_what_was_counted_is_not_lost_when_the_daemon_stops(self) -> None:
        """It is written first."""
        self.knock(times=3)
        self.successResultOf(Deferred.fromCoroutine(self.refusals.close()))
        self.assertEqual([n for _, n in self.attempts()], ["1", "2"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def call(self, who: str, method: str, source: str = "tls 192.0.2.1", times: int = 1) -> None:
        """Make a call that is refused."""
        for _ in range(times):
            self.refusals.note_call(who, source, method, "no such method", "BadRequest")

    def test_a_refused_call(self) -> None:
        """Who, from where, what; those that follow become one entry that names some of them."""
        self.call("eve", "devices.wipe")
        for number in range(1000):
            self.call("eve", f"guess.{number}\n")
        self.clock.advance(WINDOW)
        first, second = self.audit.entries
        self.assertEqual(
            (first.who, first.source, first.what, first.outcome),
            ("eve", "tls 192.0.2.1", "call", "BadRequest"),
        )
        self.assertEqual(
            first.facts, {"method": "devices.wipe", "reason": "no such method", "attempts": "1"}
        )
        self.assertEqual(second.facts["attempts"], "1000")
        self.assertEqual(second.facts["method"], "guess.0?, guess.1?, guess.2? …")

    def test_a_flood_of_calls(self) -> None:
        """From however many addresses, it is a handful of lines a minute; nothing is uncounted."""
        for minute in range(5):
            for number in range(2000):
                self.call("eve", "x", f"tls 10.{minute}.{number // 250}.{number % 250}", 2)
            self.clock.advance(WINDOW)
        self.assertLessEqual(len(self.audit.entries), 5 * (2 * NAMED + 1))
        self.assertEqual(sum(int(n) for _, n in self.attempts()), 20_000)

    def test_neither_hides_the_other(self) -> None:
        """Whoever knocks at a thousand doors takes no place of an operator's calls."""
        for number in range(1000):
            self.knock(f"tls 10.0.{number // 250}.{number % 250}")
        self.call("eve", "devices.wipe")
        self.assertEqual(self.audit.entries[-1].who, "eve")

    def test_a_store_that_is_away(self) -> None:
        """Costs an entry, and nothing else; the log has it."""
        self.audit.away = True
        self.knock()
        self.audit.away = False
        self.knock()
        self.clock.advance(WINDOW)
        self.assertEqual([n for _, n in self.attempts()], ["1"])
