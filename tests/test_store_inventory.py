"""What is known of devices besides their enrollment, on a real Valkey."""

from mdmd.errors import NotEnrolled
from mdmd.interfaces.inventory import Change, Pin
from tests.storecase import BEGIN, MS, StoreCase, Talker


class InventoryTests(StoreCase):
    """Fields, each with its time, and what changed."""

    async def told(self, mac: Talker, *names: str) -> dict[str, object]:
        ((fields, _),) = await self.store.inventory.known([mac.enrollment], names)
        return {name: known.value for name, known in fields.items()}

    async def test_the_newest_word_counts(self) -> None:
        """A late answer does not undo what was told after it; each field has its own time."""
        mac = await self.enrolled()
        learn = self.store.inventory.learn
        self.assertEqual(
            await learn(mac.enrollment, {"OSVersion": "18.0", "A": [1]}, MS), ["OSVersion", "A"]
        )
        self.assertEqual(await learn(mac.enrollment, {"OSVersion": "18.1"}, MS + 2), ["OSVersion"])
        self.assertEqual(await learn(mac.enrollment, {"OSVersion": "17.9", "A": [1]}, MS + 1), [])
        ((fields, _),) = await self.store.inventory.known([mac.enrollment])
        self.assertEqual(
            {name: (each.value, each.at) for name, each in fields.items()},
            {"OSVersion": ("18.1", MS + 2), "A": ([1], MS + 1)},
        )

    async def test_a_device_has_so_many_fields(self) -> None:
        """What it invents beyond that is let go; what is known stays up to date."""
        mac = await self.enrolled()
        for start in range(0, 1200, 300):
            fields = {f"N{n}": n for n in range(start, start + 300)}
            await self.store.inventory.learn(mac.enrollment, fields, MS)
        fields = {"N0": "new", "More": 1, "N1": "new"}
        self.assertEqual(await self.store.inventory.learn(mac.enrollment, fields, MS), ["N0", "N1"])
        told = await self.told(mac)
        self.assertEqual((len(told), told["N0"], told["N1"]), (1000, "new", "new"))
        self.assertNotIn("More", told)

    async def test_history(self) -> None:
        """Changes of small values, newest first, bounded; a large list has none."""
        mac = await self.enrolled()
        for n in range(250):
            await self.store.inventory.learn(mac.enrollment, {"Big": ["x" * n * 9], "N": n}, MS + n)
        changes = await self.store.inventory.history(mac.enrollment, 1000)
        self.assertEqual(len(changes), 200)
        self.assertEqual(changes[0], Change("N", 249, MS + 249))
        self.assertLess(max(len(str(each.value)) for each in changes), 400)

    async def test_a_damaged_line_of_the_history(self) -> None:
        """It is left out; the others are read."""
        mac = await self.enrolled()
        await self.store.inventory.learn(mac.enrollment, {"A\0jB": "x", "OSVersion": "18.1"}, MS)
        changes = await self.store.inventory.history(mac.enrollment)
        self.assertEqual(changes, [Change("OSVersion", "18.1", MS)])

    async def test_values_of_all_kinds(self) -> None:
        """What JSON has comes back as it was, large ones too."""
        mac = await self.enrolled()
        fields: dict[str, object] = {
            "Text": "Zoë\n", "No": False, "Zero": 0, "Half": 0.5, "None": None,
            "Apps": [{"Identifier": f"com.example.{n}"} for n in range(2000)],
        }  # fmt: skip
        await self.store.inventory.learn(mac.enrollment, fields, MS)
        self.assertEqual(await self.told(mac), fields)
        self.assertEqual(await self.told(mac, "Half", "Nothing"), {"Half": 0.5})
        size = await self.store.link.call("MEMORY", "USAGE", f"mdmd:{{{mac.enrollment}}}:i")
        self.assertLess(size, 20_000)

    async def test_the_record_tells_the_current_system(self) -> None:
        """What lists show is what the device told last, not only what it enrolled with."""
        mac = self.device()
        await mac.enroll(OSVersion="17.0", SerialNumber="C02")
        await self.store.inventory.learn(
            mac.enrollment, {"OSVersion": "18.1", "IsSupervised": True, "Flux": 1}, MS
        )
        record = await self.store.fleet.enrollment(mac.enrollment)
        assert record is not None
        self.assertEqual(
            record.facts, {"OSVersion": "18.1", "SerialNumber": "C02", "IsSupervised": "true"}
        )

    async def test_a_change_is_an_event(self) -> None:
        """Subscribers hear which fields changed, and nothing when none did."""
        mac = await self.enrolled()
        for _ in range(2):
            await self.store.inventory.learn(mac.enrollment, {"OSVersion": "18.1", "A": 1}, MS)
        events = [
            each for each in await self.store.fleet.events() if each.topic == "mdmd.Inventory"
        ]
        self.assertEqual([each.facts for each in events], [{"changed": "OSVersion,A"}])

    async def test_nobody_learns_of_strangers(self) -> None:
        """An enrollment that does not exist gets no inventory."""
        stranger = self.device(9)
        await self.store.inventory.learn(stranger.enrollment, {"A": 1}, MS)
        self.assertEqual(await self.store.inventory.known([stranger.enrollment]), [({}, {})])
        await self.assertRefused(
            self.store.inventory.note(stranger.enrollment, {"owner": "x"}), NotEnrolled
        )

    async def test_free_fields_outlive_a_generation(self) -> None:
        """What people wrote about a device stays with it; an empty text takes it away."""
        mac = await self.enrolled()
        await self.store.inventory.note(mac.enrollment, {"owner": "Zoë", "notes": "old"})
        await mac.enroll()
        await self.store.inventory.note(mac.enrollment, {"notes": ""})
        ((_, notes),) = await self.store.inventory.known([mac.enrollment])
        self.assertEqual(notes, {"owner": "Zoë"})


class PinTests(StoreCase):
    """PINs are kept sealed, so that a locked Mac can be unlocked."""

    async def test_kept_once_newest_first_and_bounded(self) -> None:
        """A second lock does not lose the first one's PIN; a repeat adds none."""
        mac = await self.enrolled()
        pins = [Pin(f"{n}", "DeviceLock", f"{n:06}", MS + n) for n in range(60)]
        for pin in (*pins, pins[-1]):
            await self.store.inventory.keep_pin(mac.enrollment, pin)
        self.assertEqual(await self.store.inventory.pins(mac.enrollment), pins[:9:-1])
        self.assertNotIn("pin=", repr(pins[-1]))
        for entry in await self.store.link.call("LRANGE", f"mdmd:{{{mac.enrollment}}}:pins", 0, -1):
            self.assertNotIn(b"0000", entry)

    async def test_unlock_token(self) -> None:
        """What clears a passcode is read back as it came."""
        mac = self.device()
        await mac.authenticate()
        self.assertIsNone(await self.store.inventory.unlock_token(mac.enrollment))
        await mac.token_update(unlock_token=b"unlock")
        self.assertEqual(await self.store.inventory.unlock_token(mac.enrollment), b"unlock")


class GroupTests(StoreCase):
    """Groups of enrollments."""

    async def test_life_of_a_group(self) -> None:
        """It is there as long as somebody is in it."""
        ones = [self.device(n).enrollment for n in range(5)] + [self.user().enrollment]
        groups = self.store.groups
        self.assertEqual(await groups.add("sales", ones[:3]), 3)
        self.assertEqual(await groups.add("sales", ones), 3)
        self.assertEqual(await groups.add("münchen", ones[:1]), 1)
        self.assertEqual(await groups.sizes(), {"münchen": 1, "sales": 6})
        self.assertEqual(await groups.of(ones[:2]), [["münchen", "sales"], ["sales"]])
        cursor, members = await groups.members("sales")
        self.assertEqual((cursor, members), (0, sorted(ones, key=str)))
        self.assertEqual(await groups.remove("sales", ones), 6)
        self.assertEqual(await groups.remove("sales", ones), 0)
        self.assertEqual(await groups.sizes(), {"münchen": 1})
        topics = await self.topics()
        self.assertEqual(topics.count("mdmd.Group"), 4)


class FollowingTests(StoreCase):
    """One daemon at a time follows the events, from a place that outlives it."""

    async def test_place_and_lease(self) -> None:
        """Another one waits until the lease ends, and goes on where the first one was."""
        follow = self.store.following.follow
        self.assertEqual(await follow("x", "one", 50), "0")
        self.assertIsNone(await follow("x", "two", 50, "99-9"))
        self.assertEqual(await follow("x", "one", 50, "5-1"), "5-1")
        self.assertEqual(await follow("y", "two", 50), "0")
        await self.store.link.call("PEXPIRE", b"mdmd:follow:x:lease", 0)
        self.assertEqual(await follow("x", "two", 50), "5-1")

    async def test_lease_by_a_clock_that_was_ahead(self) -> None:
        """The store's clock was set back: whoever died holds on no longer than any other."""
        follow = self.store.following.follow
        await follow("x", "one", 3_600_000)
        self.assertIsNone(await follow("x", "two", 50))
        left = await self.store.link.call("PTTL", b"mdmd:follow:x:lease")
        self.assertLessEqual(left, 50)

    async def test_refresh_is_taken_once(self) -> None:
        """Who is due is taken by one; who was not planned anew comes again after the lease."""
        one, two = self.device(1).enrollment, self.device(2).enrollment
        refresh = self.store.refresh
        await refresh.plan({one: MS, two: MS + 10_000})
        self.assertEqual(await refresh.take(10, 5000), [one])
        self.assertEqual(await refresh.take(10, 5000), [])
        self.clock.rightNow = BEGIN + 5
        self.assertEqual(await refresh.take(10, 5000), [one])
        await refresh.plan({one: None})
        self.clock.rightNow = BEGIN + 20
        self.assertEqual(await refresh.take(10, 5000), [two])
