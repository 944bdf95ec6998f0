"""The little language of --where means what it says, and can do nothing but compare."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import BadRequest
from mdmd.flow.where import FIELDS, Fields, parse

NOW = datetime(2026, 11, 24, 20, tzinfo=UTC)
IPAD: Fields = {
    "id": "00008030-001",
    "os": "17.10",
    "platform": "iOS",
    "model": ["iPad Pro", "iPad8,1"],
    "serial": "12345ABC",
    "name": "Front desk",
    "owner": "007",
    "group": ["sales", "berlin"],
    "supervised": False,
    "pending": 3,
    "last_seen": NOW - timedelta(days=8),
    "enrolled": datetime(2026, 1, 2, tzinfo=UTC),
    "BatteryLevel": 0.15,
    "location": None,
}


class MatchTests(SynchronousTestCase):
    """What holds for one iPad."""

    def test_what_holds(self) -> None:
        """Each line is true of it."""
        for text in (
            "os<18 and model~iPad and last_seen>7d",
            "os<17.11", "os>17.9", "os>=17.10", "os=17.10.0", "os!=17.1", "os<=17.10",
            "model=ipad8,1", "model!=iPhone", "model!~Mac", "model~PRO",
            "group=sales and group=berlin", "group!=munich",
            "not supervised", "supervised=no", "supervised!=yes",
            "pending>2", "pending=3", "pending<10", "pending>=3.0",
            "last_seen<2w", "last_seen>=691200s", "last_seen<2026-11-17", "enrolled>2026-01-01",
            "BatteryLevel<0.2", "name='Front desk'", 'name="front DESK"', "name~desk",
            "not location", "location!=Berlin", "not os<17", "not (os<17 or os>18)",
            "os<17 and pending>1 or name", "(os<17 or name) and pending", "owner=007", "os",
            "serial=12345abc", "Nothing!=1", "os == 17.10",
        ):  # fmt: skip
            self.assertTrue(parse(text).matches(IPAD, NOW), text)

    def test_what_does_not_hold(self) -> None:
        """Each line is false of it; values of another kind hold for nothing."""
        for text in (
            "os<17.9", "os=17", "model=iPad", "group~munich", "supervised",
            "last_seen>9d", "location~x", "BatteryLevel>full",
            "location<z", "Nothing", "Nothing=1", "Nothing<1", "serial=12345", "serial<0",
            "os<17 and (pending or name)", "group<a",
        ):  # fmt: skip
            self.assertFalse(parse(text).matches(IPAD, NOW), text)

    def test_and_binds_closer_than_or(self) -> None:
        """As everywhere."""
        self.assertTrue(parse("name or name and Nothing").matches(IPAD, NOW))
        self.assertFalse(parse("(name or name) and Nothing").matches(IPAD, NOW))

    def test_names(self) -> None:
        """It is known beforehand what has to be read."""
        self.assertEqual(parse("os<18 and not (app~x or owner)").names(), {"os", "app", "owner"})


class MistakeTests(SynchronousTestCase):
    """One line, and the place."""

    def refused(self, text: str, what: str, column: int) -> None:
        with self.assertRaises(BadRequest) as caught:
            parse(text)
        line, shown, pointer = str(caught.exception).split("\n")
        self.assertIn(what, line)
        self.assertEqual(shown, f"  {text}")
        self.assertEqual(len(pointer) - 3, column, str(caught.exception))

    def test_each_mistake_says_where(self) -> None:
        """The caret is under what is wrong."""
        self.refused("os< and model~iPad", "a value is needed after <", 4)
        self.refused("os<", "a value is needed", 3)
        self.refused("", "name of a field is needed, not the end", 0)
        self.refused("os<18 model~iPad", "'and' or 'or' is needed before model", 6)
        self.refused("os<18 and", "name of a field", 9)
        self.refused("(os<18", "never closed", 0)
        self.refused("os<18)", "'and' or 'or' is needed before )", 5)
        self.refused("name='Front", "quote is never closed", 5)
        self.refused("serail=1", "there is no field serail (did you mean serial?)", 0)

    def test_a_slip_of_capitals(self) -> None:
        """It is no field that nobody has, or its denial would mean the whole fleet."""
        for slip, meant in (
            ("Supervised", "supervised"), ("OS", "os"), ("OSversion", "OSVersion"),
            ("isSupervised", "IsSupervised"),
        ):  # fmt: skip
            text = f"there is no field {slip} (did you mean {meant}?)"
            self.refused(f"not {slip}", text, 4)
            self.refused(f"{slip}!=18", text, 0)
        for text in ("Model~iPad", "model~iPad", "NewInJune=1", "IsSupervised"):
            parse(text)
        self.refused("os<18 and 'name'=1", "name of a field", 10)
        self.refused("os=(1)", "a value is needed", 3)
        self.refused("os<x", "os < takes a version such as 18.1, not x", 3)
        self.refused("model~iPad and OSVersion>='18,1'", "takes a version", 26)
        self.refused("last_seen>yesterday", "an age such as 7d, or a date such as 2026-01-01", 10)
        self.refused("enrolled!=7", "an age", 10)
        self.refused("pending>few", "takes a number", 8)
        self.refused("supervised=perhaps", "takes yes or no", 11)
        self.refused("enabled<yes", "takes yes or no, with =", 8)
        self.refused("!os", "this is no word", 0)
        self.refused("and", "name of a field", 0)

    def test_clever_ones(self) -> None:
        """Nothing of Python is in it: each of these is one clear refusal."""
        for text in (
            "__import__('os').system('id')", "os.__class__", "os<18; import os", "os if os else os",
            "lambda: 1", "[x for x in os]", "os<18 and {}", "os<1 or 1=1", "f'{os}'", "os<18\0x",
            "exec", "name.__init__()", "os\n<\n18 or\n",
        ):  # fmt: skip
            with self.assertRaises(BadRequest) as caught:
                parse(text)
            self.assertTrue(str(caught.exception).splitlines()[0])

    def test_bounds(self) -> None:
        """Neither long nor deep ones can hurt."""
        for text, what in (
            ("os" * 501, "longer than 1000"),
            ("(" * 400 + "os" + ")" * 400, "more than 20 brackets"),
            ("not " * 200 + "os", "more than 20 brackets"),
            (" or ".join(["os"] * 101), "more than 100 comparisons"),
        ):
            with self.assertRaisesRegex(BadRequest, what):
                parse(text)
        self.assertTrue(parse("not " * 20 + "os").matches(IPAD, NOW))

    @given(
        st.text(max_size=80)
        | st.lists(
            st.sampled_from(
                [
                    "os",
                    "<",
                    "18",
                    "and",
                    "or",
                    "not",
                    "(",
                    ")",
                    "name",
                    "~",
                    "=",
                    "'x'",
                    "7d",
                    "Battery",
                ]
            ),
            max_size=12,
        ).map(" ".join)
    )
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        """There is nothing else that could happen; and what is read can be asked."""
        try:
            condition = parse(text)
        except BadRequest:
            return
        self.assertIsInstance(condition.matches(IPAD, NOW), bool)

    def test_every_field_is_described(self) -> None:
        """What can be typed is in docs/targets.md."""
        page = (Path(__file__).parent.parent / "docs" / "targets.md").read_text()
        for name in FIELDS:
            self.assertIn(f"`{name}`", page)
