"""What goes to webhooks, in which order and where to: the parts without a network."""

import base64
import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mdmd.interfaces.fleet import Event
from mdmd.webhook.lanes import LAST_RETRY, LONGEST_PAUSE, TROUBLE, Lanes, Waiting
from mdmd.webhook.message import message, signature
from mdmd.webhook.post import LONGEST_WAIT, retry_after
from mdmd.webhook.road import is_public
from mdmd.webhook.target import Target


def event(n: int, who: str = "U-1", topic: str = "mdm.Connect", **facts: str) -> Event:
    return Event(f"{1_790_000_000_000 + n}-0", topic, who, facts, b"<plist/>")


def told(one: Event) -> dict[str, object]:
    found = json.loads(message(one))
    assert isinstance(found, dict)
    return found


class MessageTests(SynchronousTestCase):
    """NanoMDM's JSON, field by field."""

    def test_connect(self) -> None:
        """A report is an acknowledge_event; nothing is there that NanoMDM would leave out."""
        one = event(7, status="Acknowledged", command_uuid="C-1", type="Device", not_now="0")
        self.assertEqual(
            told(one),
            {
                "topic": "mdm.Connect",
                "event_id": "01a0c4506c070000",
                "created_at": "2026-09-21T14:13:20.007Z",
                "sequence": "1790000000007-0",
                "acknowledge_event": {
                    "udid": "U-1",
                    "ids": {"id": "U-1", "type": "Device"},
                    "status": "Acknowledged",
                    "command_uuid": "C-1",
                    "raw_payload": base64.b64encode(b"<plist/>").decode(),
                },
            },
        )
        idle = told(event(7, status="Idle", type="Device"))["acknowledge_event"]
        self.assertEqual(
            set(idle),
            {"udid", "ids", "status", "raw_payload"},  # type: ignore[arg-type]
        )

    def test_query(self) -> None:
        """The query of a device's URL, the first value of each name."""
        one = event(7, status="Idle", type="Device", query="site=a%20b&x=&site=c")
        self.assertEqual(told(one)["acknowledge_event"]["url_params"], {"site": "a b", "x": ""})
        user = event(1, "U-1", "mdm.TokenUpdate", type="Device", tally="2", query="a=b")
        self.assertEqual(told(user)["checkin_event"]["url_params"], {"a": "b"})

    def test_check_ins(self) -> None:
        """All others are a checkin_event; only TokenUpdate has the tally."""
        user = event(1, "U-1:bob", "mdm.TokenUpdate", type="Shared iPad", tally="2")
        self.assertEqual(
            told(user)["checkin_event"],
            {
                "udid": "U-1",
                "ids": {"id": "U-1:bob", "type": "Shared iPad", "parent_id": "U-1"},
                "raw_payload": base64.b64encode(b"<plist/>").decode(),
                "token_update_tally": 2,
            },
        )
        byod = event(1, "E-1", "mdm.CheckOut", type="User Enrollment (Device)")
        checkin = told(byod)["checkin_event"]
        assert isinstance(checkin, dict)
        self.assertEqual(checkin["enrollment_id"], "E-1")
        self.assertNotIn("udid", checkin)
        self.assertNotIn("token_update_tally", checkin)

    def test_our_own(self) -> None:
        """mdmd's events have their facts and no message."""
        one = Event("5-0", "mdmd.Parked", "U-1", {"status": "stuck"}, b"")
        self.assertEqual(told(one)["mdmd_event"], {"id": "U-1", "status": "stuck"})

    def test_retry_after(self) -> None:
        """Seconds, or a date in any of HTTP's three forms; a day at most, the past is now."""
        now = 784111777.0  # of those dates
        for text, wait in (
            ("120", 120.0),
            (" 0 ", 0.0),
            ("999999999", LONGEST_WAIT),
            ("Sun, 06 Nov 1994 08:51:37 GMT", 120.0),
            ("Sunday, 06-Nov-94 08:50:37 GMT", 60.0),
            ("Sun Nov  6 08:49:38 1994", 1.0),
            ("Sun, 06 Nov 1994 08:49:30 GMT", 0.0),
            ("Sun, 06 Nov 2044 08:49:37 GMT", LONGEST_WAIT),
            *((text, None) for text in ("", "-5", "1.5", "soon", "\u0661", "9999999999")),
            *((text, None) for text in ("Sun, 06 Foo 1994 08:51:37 GMT", "Sun, 06 Nov")),
            ("Sun, 06 Nov 1994 8 GMT", None),
        ):
            self.assertEqual(retry_after(text, now), wait, text)

    def test_signature(self) -> None:
        """base64 of HMAC-SHA256, as openssl makes it."""
        # printf body | openssl dgst -sha256 -hmac key -binary | base64
        self.assertEqual(signature(b"key", b"body"), "UVquEztDXUAAlWcx9orlz164XU8NxqVG0r/NNZXsGuE=")

    def test_filter(self) -> None:
        """Topics by name, by the part before a star, or all."""
        one = Target("t", "https://h", ("mdm.Connect", "mdmd.*"))
        topics = ("mdm.Connect", "mdm.CheckOut", "mdmd.Parked")
        self.assertEqual([one.wants(each) for each in topics], [True, False, True])
        self.assertTrue(Target("t", "https://h", ("*",)).wants("mdm.CheckOut"))


class AddressTests(SynchronousTestCase):
    """Who may be talked to."""

    def test_private(self) -> None:
        """Loopback, private, link-local, mapped and multicast addresses are not the Internet's."""
        for each in (
            *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0"),
            *("100.64.0.1", "224.0.0.1", "::1", "fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1"),
            *("::ffff:127.0.0.1", "255.255.255.255", "::"),
        ):
            self.assertFalse(is_public(each), each)
        for each in ("8.8.8.8", "17.253.144.10", "2620:149:af0::10", "::ffff:8.8.8.8"):
            self.assertTrue(is_public(each), each)

    def test_within_another(self) -> None:
        """An IPv6 address that leads to a private IPv4 one is no way round."""
        for each in (
            *("::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::a00:1"),
            *("2002:7f00:1::", "2002:c0a8:101::5", "fec0::1", "192.88.99.1", "3fff::1", "5f00::1"),
        ):
            self.assertFalse(is_public(each), each)
        for each in ("64:ff9b::8.8.8.8", "2002:808:808::1"):
            self.assertTrue(is_public(each), each)


class LanesTests(SynchronousTestCase):
    """Order within an enrollment, no waiting between them."""

    def lanes(self, most: int = 8) -> Lanes:
        return Lanes(most, lambda: 0.5)

    def all_next(self, lanes: Lanes, now: float = 0) -> list[Waiting]:
        found = []
        while one := lanes.next(now):
            found.append(one)
        return found

    def test_one_at_a_time_of_an_enrollment(self) -> None:
        """The second event of an enrollment waits for the first, another enrollment's does not."""
        lanes = self.lanes()
        lanes.add([event(1, "a"), event(2, "a"), event(3, "b")])
        first, other = self.all_next(lanes)
        self.assertEqual((first.lane, other.lane), ("a", "b"))
        lanes.settled(first)
        (second,) = self.all_next(lanes)
        self.assertEqual(second.id, event(2).id)
        lanes.settled(second)
        lanes.settled(other)
        self.assertEqual(len(lanes), 0)
        self.assertEqual(lanes.loaded, 0)

    def test_a_failure_holds_its_lane_only(self) -> None:
        """The failed one comes again first, later; meanwhile others go."""
        lanes = self.lanes()
        lanes.add([event(1, "a"), event(2, "a"), event(3, "b"), event(4, "b")])
        a, b = self.all_next(lanes)
        lanes.failed(a, 0.0)
        lanes.settled(b)
        (b2,) = self.all_next(lanes)
        self.assertEqual(b2.id, event(4).id)
        due = lanes.due()
        assert due is not None
        self.assertEqual(self.all_next(lanes, due - 0.01), [])
        (again,) = self.all_next(lanes, due)
        self.assertEqual((again.id, again.attempts, again.event), (event(1).id, 1, None))

    def test_back_off(self) -> None:
        """Retries of one that is not taken are further and further apart, to an hour, for ever."""
        lanes = self.lanes()
        lanes.add([event(1, "bad")])
        now, gaps = 0.0, []
        for number in range(40):
            lanes.add([event(number + 2, "good")])
            for one in self.all_next(lanes, now):
                if one.lane == "good":
                    lanes.settled(one)
                else:
                    lanes.failed(one, now)
            due = lanes.due()
            assert due is not None
            gaps.append(due - now)
            now = due
        self.assertEqual(gaps[0], 0.2)
        self.assertEqual(sorted(map(round, gaps)), list(map(round, gaps)))
        self.assertEqual(round(gaps[-1]), LAST_RETRY)

    def test_a_target_that_is_back(self) -> None:
        """However long it took nothing, and however few wait: one tries within half a minute."""
        lanes = Lanes(8, lambda: 0.999)
        lanes.add([event(1, "a"), event(2, "a"), event(3, "b")])
        now, tries = 0.0, []
        while now < 5 * 3600:
            for one in self.all_next(lanes, now):
                tries.append(now)
                lanes.failed(one, now)
            due = lanes.due()
            assert due is not None
            self.assertGreater(due, now)
            now = due
        late = [after - before for before, after in pairwise(tries)]
        self.assertLessEqual(max(late), 30.0)
        self.assertGreater(min(late[TROUBLE * 2 :]), 10.0)
        first = lanes.next(now)
        assert first is not None
        self.assertIsNone(lanes.due())  # until it is known what became of it
        lanes.settled(first)
        # The others had failed for hours, and each would have waited for long by itself.
        both = self.all_next(lanes, now)
        self.assertEqual(len(both), 2 if first.lane == "a" else 1)

    def test_a_target_in_trouble(self) -> None:
        """After many failures in a row one event at a time tries; a success opens all lanes."""
        lanes = self.lanes(most=50)
        lanes.add(event(n, f"d{n}") for n in range(50))
        for one in self.all_next(lanes):
            lanes.failed(one, 0.0)
        self.assertTrue(lanes.in_trouble)
        self.assertEqual(self.all_next(lanes, 0.25), [])
        (only,) = self.all_next(lanes, LONGEST_PAUSE * 2)
        self.assertEqual(self.all_next(lanes, LONGEST_PAUSE * 2), [])
        lanes.settled(only)
        self.assertEqual(len(self.all_next(lanes, LONGEST_PAUSE * 2)), 49)

    def test_retry_after(self) -> None:
        """A target that asks to wait is left alone so long, by all."""
        lanes = self.lanes()
        lanes.add([event(1, "a"), event(2, "b")])
        one = lanes.next(0.0)
        assert one is not None
        lanes.failed(one, 0.0, 120.0)
        self.assertEqual(self.all_next(lanes, 119.0), [])
        self.assertEqual(len(self.all_next(lanes, 120.0)), 2)
        self.assertLess(1, TROUBLE)

    def test_retry_after_while_others_are_taken(self) -> None:
        """What was on its way when the target asked to wait, and is taken, ends no waiting."""
        lanes = self.lanes(2)
        lanes.add([event(1, "a"), event(2, "b"), event(3, "c")])
        one, other = self.all_next(lanes)
        lanes.failed(one, 0.0, 120.0)
        lanes.settled(other)
        self.assertEqual(self.all_next(lanes, 119.0), [])
        self.assertEqual(lanes.due(), 120.0)
        self.assertEqual(len(self.all_next(lanes, 120.0)), 2)

    def test_many_behind_one(self) -> None:
        """However many wait behind one that is not taken: there is room for other lanes'."""
        lanes = self.lanes()
        lanes.add(event(n, "bad") for n in range(1000))
        self.assertLess(lanes.loaded, 20)
        (first,) = self.all_next(lanes)
        lanes.failed(first, 0.0)
        self.assertEqual(lanes.loaded, 0)
        lanes.add([event(1000, "bad"), event(1001, "good")])
        self.assertEqual(lanes.loaded, 1)
        (good,) = self.all_next(lanes)
        lanes.settled(good)
        tried = []
        for _ in range(1001):
            (one,) = self.all_next(lanes, 1.0)
            tried.append(one.id)
            lanes.settled(one)
        self.assertEqual(tried, [event(n).id for n in range(1001)])
        self.assertEqual((lanes.loaded, len(lanes)), (0, 0))

    def test_many_that_are_never_taken(self) -> None:
        """Though so many enrollments' events are refused that it looks like trouble: others go."""
        lanes = self.lanes()
        lanes.add(event(n, f"bad{n}") for n in range(50))
        now = 0.0
        for _ in range(60):
            for one in self.all_next(lanes, now):
                lanes.failed(one, now)
            now += 60
        lanes.add([event(99, "good")])
        now += 60
        (one,) = self.all_next(lanes, now)
        self.assertEqual(one.lane, "good")

    def test_added_twice(self) -> None:
        """An event that is in is not taken again."""
        lanes = self.lanes()
        lanes.add([event(1), event(1)])
        lanes.add([event(1)])
        self.assertEqual(len(lanes), 1)
        self.assertIn(event(1).id, lanes)

    @given(st.data())
    def test_any_luck(self, data: st.DataObject) -> None:
        """Whatever fails: each event is taken exactly once, in order within its enrollment."""
        lanes = self.lanes(data.draw(st.integers(1, 4)))
        events = [event(n, data.draw(st.sampled_from("abc"))) for n in range(12)]
        lanes.add(events)
        now, taken, flying = 0.0, [], []
        for _ in range(2000):
            flying += self.all_next(lanes, now)
            if not flying:
                due = lanes.due()
                if due is None:
                    break
                now = max(now, due)
                continue
            one = flying.pop(data.draw(st.integers(0, len(flying) - 1)))
            if one.attempts < 3 and data.draw(st.booleans()):
                lanes.failed(one, now)
            else:
                lanes.settled(one)
                taken.append(one)
        self.assertEqual(len(lanes), 0)
        for who in "abc":
            got = [one.id for one in taken if one.lane == who]
            self.assertEqual(got, [one.id for one in events if one.enrollment == who])
