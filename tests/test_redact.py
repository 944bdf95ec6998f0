"""Secrets typed at the manhole: none gets into the audit or into the history."""

import ast
import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mdmd.ops.manhole.history import History
from mdmd.ops.manhole.redact import redacted

# None of them is a part of what is around it below; words are found by where they stand alone.
words = st.from_regex(r"zq[a-z ]{2,12}z", fullmatch=True)
odd = st.from_regex(r"Zq[a-zA-Z0-9!$%&+/=]{4,20}", fullmatch=True)
mixed = st.from_regex(r"Zq[a-z]{2,6}[0-9]{1,4}[!$&=a-z0-9]{0,8}x", fullmatch=True)
foreign = st.text(st.characters(min_codepoint=0x400, max_codepoint=0x4FF), min_size=4, max_size=9)
digits = st.from_regex(r"9[1-9]{3,11}", fullmatch=True)


@st.composite
def literals(draw: st.DrawFn) -> tuple[str, str]:
    """A secret, and an expression with it as somebody may type it."""
    secret = draw(words | odd | foreign | digits)
    forms = [
        "{0!r}",
        "'''{0}'''",
        "({0!r})",
        "(\n    {0!r}\n)",
        "[{0!r}]",
        "{0!r}.strip()",
        "str({0!r}).encode('utf-8')",
        "{0!r} if d else None",
        "'' + {0!r} + x",
        "f'{0}{{x}}'",
        "f'{{str({0!r})}}'".replace("'", '"', 1)[:-1] + '"',
        "{{'value': [{0!r}]}}",
        "[('a', {{'b': {0!r}}})]",
    ]
    if secret.isascii():
        forms.append("b{0!r}")
    if secret.isdigit():
        forms.append("{0}")
    return secret, draw(st.sampled_from(forms)).format(secret)


PLACES = (
    "pin = {}",
    "pin: str = {}",
    "user, new_pin = 'anna', {}",
    "d.password = {}",
    "x['UnlockToken'] = {}",
    "print(secret := {})",
    "await d.send('DeviceLock', PIN={}, Message='hello')",
    "await d.send('DeviceLock', {{'Message': 'hello', 'PIN': {}}})",
    "await d.send('DeviceLock', **{{'PIN': {}}})",
    "await d.call('commands.send', ids=['MAC-1'], keys={{'NewPassword': {}}})",
    "x = {{'a': [{{'passwordHash': {}}}]}}",
    "d.lock({})",
    "device('C02XL0THJGH5').lock({}, 'hello')",
    "operators.passwd('eve', {})",
    "setattr(d, 'pin', {})",
    "dict([('PIN', {})])",
    "dict(zip(['PIN'], [{}]))",
    "pin == ({})",
    "def f(a, *, pin={}):\n    return pin\n",
    "lambda token={}: token",
    "for pin in ({},):\n    print('x')\n",
    "[1 for pin in ({},)]",
    "with open('x') as token:\n    token.write('x')\npin = {}\n",
    "def key():\n    return {}\n",
    "match pin:\n    case 1:\n        pin = {}\n",
    "x = 1; api_key = {}; y = 2",
    "({}) in tokens",  # the last: what names it comes behind it
)


class SecretsTests(SynchronousTestCase):
    """Whatever way they are typed."""

    @given(literals(), st.sampled_from(PLACES))
    def test_whatever_is_given_to_a_secret(self, literal: tuple[str, str], place: str) -> None:
        """It is in neither; what was not secret can still be read."""
        secret, spelled = literal
        source = place.format(spelled)
        ast.parse(source)  # it is a line that runs
        self.assertNotIn(secret, redacted(source))
        self.assertNotIn(secret, self.kept(source))

    @given(literals(), st.sampled_from(PLACES[:-1]), st.data())
    @example(("zqabcz", "'zqabcz'"), "pin = {}", None)
    def test_lines_that_are_broken_off(
        self, literal: tuple[str, str], place: str, data: st.DataObject | None
    ) -> None:
        """A line with a mistake in it was typed all the same."""
        secret, spelled = literal
        source = place.format(spelled)
        least = source.index(secret) + len(secret)
        end = least if data is None else data.draw(st.integers(least, len(source)))
        tail = "" if data is None else data.draw(st.sampled_from(["", ")", " x y", '"', "\n ]"]))
        broken = source[:end] + tail
        self.assertNotIn(secret, redacted(broken))
        self.assertNotIn(secret, self.kept(broken))

    @given(digits | mixed)
    def test_what_looks_like_one(self, secret: str) -> None:
        """Where nothing says what it is for, its kind and length are kept."""
        for place in ("x = {!r}", "print({!r})", "store.link.call('SET', 'x', {!r})", "1  # {}"):
            self.assertNotIn(secret, redacted(place.format(secret)))
        self.assertEqual(redacted(f"x = {secret!r}"), f"x = <text of {len(secret)}>")

    @given(st.text(max_size=300))
    def test_any_text(self, text: str) -> None:
        """Something comes back, whatever was typed, and the same when it is asked again."""
        self.assertIsInstance(redacted(text), str)

    def test_a_line_that_never_ends(self) -> None:
        """A megabyte, and brackets in brackets, are no trouble."""
        self.assertNotIn("hidden", redacted("pin = '" + "hidden" * 200_000))
        self.assertNotIn("hidden", redacted("(" * 5000 + "pin = 'hidden'"))
        self.assertNotIn("hidden", redacted("pin = " + "-" * 50_000 + "'hidden'"))

    def kept(self, source: str) -> str:
        """What the history has after a source was typed."""
        with tempfile.TemporaryDirectory() as folder:
            history = History(Path(folder), "boss")
            history.add(source)
            return "\n".join(history.read())


class KeptTests(SynchronousTestCase):
    """What is no secret is what the audit is for."""

    def test_lines_of_every_day(self) -> None:
        """They are kept as they are."""
        for line in (
            'd = device("C02XL0THJGH5")',
            'await d.send("DeviceInformation", Queries=["OSVersion", "SerialNumber"])',
            'await d.send("Settings", Settings=[{"Item": "DeviceName", "DeviceName": "Anna\'s"}])',
            'push("C02XL0THJGH5", "F2LX10ABCD")',
            'devices.page("0A1B2C3D-0000-5AC1-BDB2-0000000000F1", 1000)',
            'events.tail("C02XL0THJGH5", topics=["mdm.Connect"])',
            'await d.cancel("C-1234567")',
            "await store.inventory.pins(EnrollmentID('MAC-1'))",
            "[d.serial async for d in devices if d.os.startswith('26.1')]",
            "async def serials():\n    return [d.serial async for d in devices]\n",
            "for key, value in d.facts.items():\n    print(key, '=', value)\n",
            "sorted(found, key=lambda d: d.facts['OSVersion'])",
            "import time; time.sleep(123456)",
            'open("/etc/passwd").read()',
            "1 / 0  # just to see",
            "(await d.results)[0].answer",
        ):
            self.assertEqual(redacted(line), line)

    def test_around_a_secret(self) -> None:
        """Only the value goes, in lines of any language and any number."""
        for typed, kept in (
            (
                'await d.send("DeviceLock", PIN="123456", Message="hello")',
                'await d.send("DeviceLock", PIN=…, Message="hello")',
            ),
            (
                'await d.send("DeviceLock", {"PIN": "123456"})',
                'await d.send("DeviceLock", {"PIN": …})',
            ),
            ('grüße = "schöne"; pin = "grün"', 'grüße = "schöne"; pin = …'),
            ('d.send("DeviceLock",\n  PIN="12"\n)', 'd.send("DeviceLock",\n  PIN=…\n)'),
            ("x = b'" + "a" * 80 + "'", "x = <bytes of 80>"),
            ("x = 1  # the pin is 1234", "x = 1  # …"),
            ("mdmctl lock C02XL0THJGH5 --pin 123456", "mdmctl lock …"),
            ('d.send("DeviceLock", PIN="123456"', "d.send(… …"),
        ):
            self.assertEqual(redacted(typed), kept)
