"""Property lists from strangers: read like plistlib reads them, refused without harm."""

import contextlib
import plistlib
import struct
import time
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import BadMessage, TooLarge
from mdmd.mdm import plist, plist_scan, plist_xml

XML, BINARY = plistlib.FMT_XML, plistlib.FMT_BINARY
HEAD = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN"'
    b' "http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n<plist version="1.0">\n'
)
TAIL = b"\n</plist>\n"

# XML has no control characters, turns \r into \n, and lacks U+FFFE and U+FFFF.
texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
    | st.sampled_from("\t\n&<>]\"'")
)
leaves = (
    texts
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.booleans()
    | st.binary()
    | st.floats(allow_nan=False)
    | st.datetimes().map(lambda when: when.replace(microsecond=0))
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4)
)
messages = st.dictionaries(texts, values, max_size=5)
few = settings(max_examples=60, deadline=None)


def xml(inside: bytes) -> bytes:
    """One dict with ``inside`` in it, as devices frame it."""
    return HEAD + b"<dict>" + inside + b"</dict>" + TAIL


def nested(levels: int, tag: bytes = b"array") -> bytes:
    """A dict that holds arrays or dicts inside one another, ``levels`` of all of them."""
    opening = b"<array>" if tag == b"array" else b"<dict><key>k</key>"
    inner = opening * (levels - 2) + b"<%s/>" % tag
    return xml(b"<key>k</key>" + inner + (b"</%s>" % tag) * (levels - 2))


def binary(objects: list[bytes], top: int = 0) -> bytes:
    """A binary plist of objects written by hand, with references of one byte."""
    body, offsets = b"bplist00", []
    for each in objects:
        offsets.append(len(body))
        body += each
    table = b"".join(struct.pack(">H", offset) for offset in offsets)
    return body + table + struct.pack(">6xBBQQQ", 2, 1, len(objects), top, len(body))


class ReadingTests(SynchronousTestCase):
    """What is a plist is read as plistlib reads it."""

    @given(messages)
    @few
    def test_xml_reads_as_plistlib_wrote(self, message: dict[str, object]) -> None:
        """plistlib is the oracle for XML."""
        self.assertEqual(plist.loads(plistlib.dumps(message)), message)

    @given(messages)
    @few
    def test_binary_reads_as_plistlib_wrote(self, message: dict[str, object]) -> None:
        """plistlib is the oracle for binary."""
        self.assertEqual(plist.loads(plistlib.dumps(message, fmt=BINARY)), message)

    @given(messages)
    @few
    def test_what_we_write_reads_back(self, message: dict[str, object]) -> None:
        """``dumps`` and ``loads`` are inverse."""
        self.assertEqual(plist.loads(plist.dumps(message)), message)

    def test_data_may_be_indented_and_wrapped(self) -> None:
        """Apple wraps base64 in tabs and line ends."""
        body = xml(b"<key>Token</key>\n\t<data>\n\tAQID\r\n\t BAUG\n\t</data>")
        self.assertEqual(plist.loads(body), {"Token": b"\1\2\3\4\5\6"})

    def test_a_large_value_is_one_value(self) -> None:
        """Text that reaches expat in several pieces is not torn."""
        text, data = "é" * 400_000, bytes(range(256)) * 2000
        message = {"t": text, "d": data}
        self.assertEqual(plist.loads(plistlib.dumps(message)), message)

    def test_comments_and_cdata_are_xml(self) -> None:
        """What a person writes by hand is read too."""
        inner = b"<key>a<!-- b -->c</key><string><![CDATA[<&]]>x</string>"
        body = b"<!-- by\n- hand --><plist><dict>" + inner + b"</dict></plist><!-- end -->"
        self.assertEqual(plist.loads(body), {"ac": "<&x"})

    def test_prologs(self) -> None:
        """With and without BOM, declaration and document type."""
        for prolog in (
            b"",
            b"\xef\xbb\xbf",
            b"\xef\xbb\xbf" + HEAD[: HEAD.index(b"<plist")],
            b"<?xml version='1.0'?>",
            b'<?xml version="1.0" encoding="utf-8" standalone="no" ?>\r\n',
            b'<!DOCTYPE plist SYSTEM "file://localhost/System/Library/DTDs/PropertyList.dtd">',
            b"<!DOCTYPE plist>",
        ):
            body = prolog + b'<plist version="1.0"><dict/></plist>'
            self.assertEqual(plist.loads(body), {}, prolog)

    def test_numbers_and_dates(self) -> None:
        """Every spelling that Apple's own reader takes."""
        for inner, value in {
            b"<integer> 7 </integer>": 7,
            b"<integer>+7</integer>": 7,
            b"<integer>0x1F</integer>": 31,
            b"<integer>-9223372036854775808</integer>": -(1 << 63),
            b"<integer>18446744073709551615</integer>": (1 << 64) - 1,
            b"<real>1.5e3</real>": 1500.0,
            b"<real>-infinity</real>": float("-inf"),
            b"<date>2015-11-14T11:59:40Z</date>": datetime(2015, 11, 14, 11, 59, 40),
            b"<true></true>": True,
            b"<data/>": b"",
            b"<string/>": "",
        }.items():
            self.assertEqual(plist.loads(xml(b"<key>k</key>" + inner)), {"k": value}, inner)

    def test_depth_is_counted_in_containers(self) -> None:
        """As deep as allowed is read, one more is not."""
        for tag in (b"array", b"dict"):
            self.assertIn("k", plist.loads(nested(32, tag)))
            self.assertRaises(BadMessage, plist.loads, nested(33, tag))
            deepest = plistlib.dumps(plistlib.loads(nested(32, tag)), fmt=BINARY)
            deeper = plistlib.dumps(plistlib.loads(nested(33, tag)), fmt=BINARY)
            self.assertIn("k", plist.loads(deepest))
            self.assertRaises(BadMessage, plist.loads, deeper)


class RefusalTests(SynchronousTestCase):
    """What is no plist is BadMessage, whatever it is, and costs little."""

    def refused(self, body: bytes, why: str = "", **limits: int) -> None:
        """Both ways of reading refuse it."""
        for read in (plist.loads, lambda b, **kw: plist.pick(b, {"Status"}, **kw)):
            error = self.assertRaises(BadMessage, read, body, **limits)
            self.assertIn(why, str(error))

    def test_not_a_plist_at_all(self) -> None:
        """Empty, text, JSON, HTML, other encodings, other versions."""
        good = xml(b"")
        for body in (
            b"",
            b" ",
            b"\0",
            b"hello",
            b'{"Status": "Idle"}',
            b"<html><body/></html>",
            b"<plist",
            b"<plistx><dict/></plistx>",
            b" " + good,
            good.decode().encode("utf-16"),
            good.replace(b"UTF-8", b"UTF-16"),
            good.replace(b"UTF-8", b"ISO-8859-1"),
            b"<!-- " + b"x" * 5000 + b" -->" + good[good.index(b"<plist") :],
            b"bplist00",
            b"bplist15" + plistlib.dumps({}, fmt=BINARY)[8:],
        ):
            self.refused(body)

    def test_top_has_to_be_one_dict(self) -> None:
        """An array, a string, nothing, two."""
        for inner in (b"", b"<array/>", b"<string>x</string>", b"<dict/><dict/>", b"<plist/>"):
            self.refused(HEAD + inner + TAIL, "top" if b"plist" not in inner else "")
        for value in ([], "x", 5):
            self.refused(plistlib.dumps(value, fmt=BINARY), "top")

    def test_structure(self) -> None:
        """Keys before values, nothing but elements between them, only its own elements."""
        for inner in (
            b"<string>x</string>",
            b"<dict/>",
            b"<key>a</key>",
            b"<key>a</key><key>b</key><true/>",
            b"<key>a</key><true/><true/>",
            b"<key>a</key>stray<true/>",
            b"stray",
            b"<key>a</key><array><key>b</key></array>",
            b"<key>a</key><array>stray</array>",
            b"<key>a</key><string><b/></string>",
            b"<key>a</key><float>1</float>",
            b"<key>a</key><plist/>",
            b"<key>a</key><string>x</string><key>a</key><string>y</string>",
            b"<key>Status</key><dict><key>a</key><true/><key>a</key><true/></dict>",
            b"<key>a</key><string>]]></string>",
            b"<key>a</key><string>\x01</string>",
            b"<key>a</key><string>&#1;</string>",
        ):
            self.refused(xml(inner))

    def test_values_that_are_not_of_their_type(self) -> None:
        """Each is refused where it is asked for."""
        for inner in (
            b"<integer></integer>",
            b"<integer>1_000</integer>",
            b"<integer>\xd9\xa3</integer>",
            b"<integer>18446744073709551616</integer>",
            b"<integer>-9223372036854775809</integer>",
            b"<integer>" + b"9" * 5000 + b"</integer>",
            b"<integer>0x</integer>",
            b"<integer>-0x1</integer>",
            b"<real>1_0</real>",
            b"<real>one</real>",
            b"<real>" + b"1" * 70 + b"e</real>",
            b"<date>2015-11-14</date>",
            b"<date>2015-02-30T00:00:00Z</date>",
            b"<date>0000-01-01T00:00:00Z</date>",
            b"<date>2015-11-14T11:59:40+01:00</date>",
            b"<data>AQI</data>",
            b"<data>AQID*</data>",
            b"<data>AQ=D</data>",
            b"<data>AQI=AQI=</data>",
            "<data>AQI\u00a0D</data>".encode(),
            b"<true>yes</true>",
            b"<false>no</false>",
        ):
            self.refused(xml(b"<key>Status</key>" + inner))

    def test_wrong_utf8(self) -> None:
        """Overlong, cut off, surrogates, Latin-1: in a key or value, wanted or not."""
        for text in (
            b"\xff",
            b"\xc0\xaf",
            b"\xe2\x82",
            b"\xed\xa0\x80",
            b"caf\xe9",
            b"\xef\xbf\xbf",
        ):
            self.refused(xml(b"<key>a</key><string>%s</string>" % text))
            self.refused(xml(b"<key>Status</key><string>%s</string>" % text))
            self.refused(xml(b"<key>%s</key><string/>" % text))

    def test_larger_than_the_limit(self) -> None:
        """Size is looked at first."""
        body = xml(b"")
        self.assertEqual(plist.loads(body, limit=len(body)), {})
        self.assertRaises(TooLarge, plist.loads, body, limit=len(body) - 1)
        self.assertRaises(TooLarge, plist.loads, b"bplist00" * 100, limit=799)
        self.assertRaises(TooLarge, plist.pick, body, {"Status"}, limit=len(body) - 1)

    def test_truncated(self) -> None:
        """Cut off anywhere, it is refused."""
        message = {"Status": "Idle", "x": [1, {"y": b"z"}], "when": datetime(2020, 1, 1)}
        for fmt, tail in ((XML, 1), (BINARY, 0)):
            body = plistlib.dumps(message, fmt=fmt)
            for length in range(len(body) - tail):
                self.refused(body[:length])

    def test_billion_laughs(self) -> None:
        """No document type of the sender's own, no entity of any kind."""
        laughs = b"".join(
            b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 12)
        )
        value = b"<dict><key>Status</key><string>%s</string></dict></plist>"
        started = time.process_time()
        for doctype in (
            b'<!DOCTYPE plist [<!ENTITY l0 "ha">%s]>' % laughs,
            b"<!DOCTYPE plist []>",
            b"<!DOCTYPE plist PUBLIC \"a\" 'b' [<!ATTLIST dict a CDATA 'b'>]>",
            b'<!DOCTYPE plist SYSTEM "x"><!DOCTYPE plist [<!ENTITY l0 "ha">]>',
            b'<!-- <plist> --><!DOCTYPE plist [<!ENTITY l0 "ha">]>',
            b'<!DOCTYPE html SYSTEM "x">',
        ):
            self.refused(doctype + b"<plist>" + value % b"&l11;")
        self.refused(HEAD.rstrip() + b'<!DOCTYPE plist [<!ENTITY l0 "ha">]>' + value % b"&l0;")
        for reference in (b"&l0;", b"&nbsp;", b"&xxe;", b"%xxe;&amp"):
            self.refused(HEAD + value % reference)
        self.assertLess(time.process_time() - started, 2)

    def test_deep_nesting(self) -> None:
        """Hundreds of thousands of open tags are refused at the thirty-third."""
        for tag in (b"<array>", b"<dict><key>k</key>", b"<string>", b"<x>", b"<plist>"):
            body = xml(b"<key>k</key>" + tag * (3_000_000 // len(tag)))
            started = time.process_time()
            self.refused(body)
            self.assertLess(time.process_time() - started, 2)

    def test_text_in_a_million_pieces(self) -> None:
        """Joining is linear in what was sent."""
        started = time.process_time()
        body = xml(b"<key>Status</key><string>" + b"a<!---->" * 200_000 + b"</string>")
        self.assertEqual(plist.loads(body), {"Status": "a" * 200_000})
        self.assertLess(time.process_time() - started, 4)

    @given(st.data())
    @settings(max_examples=150, deadline=None)
    def test_mutations_raise_nothing_else(self, data: st.DataObject) -> None:
        """A real message with bytes changed, cut or doubled: a dict or BadMessage."""
        fmt = data.draw(st.sampled_from([XML, BINARY]))
        message = {
            "Status": "Idle",
            "n": [1, 2.5, True, "ü"],
            "d": b"x" * 20,
            "t": datetime(2020, 1, 1),
        }
        body = bytearray(plistlib.dumps(message, fmt=fmt))
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(body) - 1))
            size = data.draw(st.integers(0, 8))
            body[at : at + size] = data.draw(st.binary(max_size=8) | st.just(bytes(body[:at])))
            if not body:
                break
        for read in (plist.loads, lambda b: plist.pick(b, {"Status", "d"})):
            with contextlib.suppress(BadMessage):
                self.assertIsInstance(read(bytes(body)), dict)

    @given(st.binary(max_size=200))
    @few
    def test_any_bytes_after_the_binary_header(self, noise: bytes) -> None:
        """Noise that claims to be a binary plist."""
        with contextlib.suppress(BadMessage):
            self.assertIsInstance(plist.loads(b"bplist00" + noise), dict)


class BinaryTests(SynchronousTestCase):
    """Binary plists that no honest writer makes."""

    def refused(self, body: bytes, why: str) -> None:
        """Say why, soon."""
        started = time.process_time()
        self.assertIn(why, str(self.assertRaises(BadMessage, plist.loads, body)))
        self.assertLess(time.process_time() - started, 1)

    def test_written_by_hand(self) -> None:
        """The helper of these tests writes what both readers read."""
        body = binary([b"\xd1\x01\x02", b"\x51a", b"\xa2\x01\x03", b"\x11\x01\x00"])
        self.assertEqual(plist.loads(body), {"a": ["a", 256]})
        self.assertEqual(plistlib.loads(body), {"a": ["a", 256]})

    def test_cycles(self) -> None:
        """A dict in itself, an array in itself many times, a ring."""
        self.refused(binary([b"\xd1\x01\x00", b"\x51a"]), "not a property list")
        self.refused(
            binary([b"\xd1\x01\x02", b"\x51a", b"\xae" + b"\2" * 14]), "not a property list"
        )
        ring = binary([b"\xd1\x01\x02", b"\x51a", b"\xa1\x03", b"\xa1\x02"])
        self.refused(ring, "not a property list")

    def test_exponential_expansion(self) -> None:
        """Thirty arrays, each twice the one after it: a billion nodes in 100 bytes."""
        arrays = [b"\xa2" + bytes([n + 1]) * 2 for n in range(2, 31)]
        self.refused(binary([b"\xd1\x01\x02", b"\x51a", *arrays, b"\x51x"]), "expands")

    def test_one_string_a_thousand_times(self) -> None:
        """What is shared counts wherever it appears."""
        long = b"\x4f\x12" + struct.pack(">I", 60_000) + b"x" * 60_000
        many = b"\xaf\x11" + struct.pack(">H", 1000) + b"\x01" * 1000
        objects = [b"\xd1\x03\x02", long, many, b"\x51a"]
        body, offsets = b"bplist00", []
        for each in objects:
            offsets.append(len(body))
            body += each
        table = b"".join(struct.pack(">I", offset) for offset in offsets)
        body += table + struct.pack(">6xBBQQQ", 4, 1, 4, 0, len(body))
        self.assertEqual(len(plistlib.loads(body)["a"]), 1000)
        self.refused(body, "expands")

    def test_sizes_and_places_that_lie(self) -> None:
        """Counts of milliards, offsets and references to nowhere, an impossible trailer."""
        huge = b"\xaf\x13" + b"\x7f" + b"\xff" * 7
        self.refused(binary([b"\xd1\x01\x02", b"\x51a", huge]), "expands")
        self.refused(binary([b"\xd1\x01\x02", b"\x51a", b"\x4f\x13" + b"\x7f" * 8]), "damaged")
        self.refused(binary([b"\xd1\x01\x09", b"\x51a"]), "damaged")
        self.refused(binary([b"\xd1\x01\x02", b"\x51a"], top=7), "damaged")
        good = binary([b"\xd1\x01\x01", b"\x51a"])
        for trailer in (
            struct.pack(">6xBBQQQ", 0, 1, 2, 0, 13),
            struct.pack(">6xBBQQQ", 2, 0, 2, 0, 13),
            struct.pack(">6xBBQQQ", 2, 200, 2, 0, 13),
            struct.pack(">6xBBQQQ", 2, 1, 1 << 63, 0, 13),
            struct.pack(">6xBBQQQ", 2, 1, 2, 0, 1 << 63),
            struct.pack(">6xBBQQQ", 2, 1, 2, 1 << 63, 13),
            struct.pack(">6xBBQQQ", 2, 1, 0, 0, 13),
        ):
            self.refused(good[:-32] + trailer, "damaged")

    def test_values_that_xml_has_not(self) -> None:
        """Null, UID, set, a date that is not a number, an integer of 128 bits, a key of 1."""
        for value in (b"\x00", b"\x0f", b"\x80\x01", b"\xc0", b"\x33\x7f\xf8" + bytes(6)):
            self.refused(binary([b"\xd1\x01\x02", b"\x51a", value]), "not a property list")
        far = b"\x33" + struct.pack(">d", 1e300)
        self.refused(binary([b"\xd1\x01\x02", b"\x51a", far]), "date")
        self.refused(binary([b"\xd1\x01\x02", b"\x51a", b"\x14" + b"\x7f" * 16]), "integer")
        self.refused(binary([b"\xd1\x01\x01", b"\x10\x01"]), "key")
        self.refused(binary([b"\xd2\x01\x02\x01\x02", b"\x51a", b"\x51a"]), "twice")
        self.refused(binary([b"\xd1\x01\x02", b"\x51a", b"\x51\xff"]), "damaged")
        self.refused(binary([b"\xd1\x01\x02", b"\x51a", b"\x61\xd8\x00"]), "damaged")


class PickTests(SynchronousTestCase):
    """Reading a few keys is reading all and forgetting the rest."""

    @given(messages, st.lists(texts, max_size=3), st.sampled_from([XML, BINARY]))
    @example({"a": "\u00e9", "b": [{"c": True, "d": []}]}, ["a"], XML)
    @few
    def test_as_loads(self, message: dict[str, object], others: list[str], fmt: object) -> None:
        """Of the keys that are there; the others are left out."""
        keys = {*list(message)[:2], *others}
        whole = {key: value for key, value in message.items() if key in keys}
        self.assertEqual(plist.pick(plistlib.dumps(message, fmt=fmt), keys), whole)

    @given(st.data())
    @settings(max_examples=150, deadline=None)
    def test_skimming_never_takes_what_reading_refuses(self, data: st.DataObject) -> None:
        """The pattern and expat agree on each mutation that the pattern takes."""
        body = bytearray(
            xml(
                b"<key>a</key><dict><key>b</key><array><true/></array></dict>"
                b"<key>Status</key><string>Idle</string><key>n</key><integer>5</integer>"
            )
        )
        start = len(HEAD) - len(b'<plist version="1.0">\n')
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(start, len(body) - 1))
            chunk = st.sampled_from(
                [b"<", b">", b"/", b"&amp;", b"<true/>", b"</dict>", b"]]>", b"\r"]
            )
            body[at : at + data.draw(st.integers(0, 9))] = data.draw(chunk | st.binary(max_size=3))
        found = plist_scan.scan(bytes(body), start, {"Status"}, 32)
        if found is not None:
            picked = plist_xml.read(bytes(body), start, 32, {"Status"})
            expected = [picked["Status"]] if "Status" in picked else []
            self.assertEqual([text for _, _, text in found], expected)

    def test_usual_messages_are_skimmed(self) -> None:
        """The fast way is taken for what devices send."""
        message = {
            "Status": "Idle",
            "UDID": "X",
            "Answers": {"a": [{"b": 1, "c": datetime(2020, 1, 1)}]},
        }
        body = plistlib.dumps(message)
        start = body.index(b"<plist")
        self.assertEqual(
            plist_scan.scan(body, start, {"Status"}, 32), [("Status", "string", "Idle")]
        )

    def test_values_nobody_asked_for_are_not_looked_at(self) -> None:
        """A date of the year 0 in an answer must not make a device repeat itself."""
        odd = b"<key>x</key><dict><key>d</key><date>0000-12-30T00:00:00Z</date></dict>"
        status = b"<key>Status</key><string>Idle</string>"
        for inner in (odd + status, odd + status.replace(b"Idle", b"&#73;dle")):
            self.assertEqual(plist.pick(xml(inner), {"Status"}), {"Status": "Idle"})

    def test_a_key_twice_at_the_top(self) -> None:
        """Two readers could take two different ones."""
        twice = b"<key>UDID</key><string>a</string>" * 2
        self.assertRaises(BadMessage, plist.pick, xml(twice), {"UDID"})
        self.assertRaises(BadMessage, plist.pick, xml(twice), {"Status"})


class WritingTests(SynchronousTestCase):
    """What we send."""

    def test_same_value_same_bytes(self) -> None:
        """Order of keys does not matter."""
        self.assertEqual(plist.dumps({"b": 1, "a": 2}), plist.dumps({"a": 2, "b": 1}))

    def test_times_with_a_zone(self) -> None:
        """A plist knows only UTC."""
        zone = timezone(timedelta(hours=2))
        body = plist.dumps({"at": [datetime(2026, 1, 1, 1, tzinfo=zone)]})
        self.assertEqual(plist.loads(body), {"at": [datetime(2025, 12, 31, 23)]})
        body = plist.dumps({"at": datetime(2026, 1, 1, tzinfo=UTC)})
        self.assertEqual(plist.loads(body), {"at": datetime(2026, 1, 1)})

    def test_what_a_plist_cannot_hold(self) -> None:
        """None, a set, a huge number, a control character, a key that is no string, itself."""
        endless: list[object] = []
        endless.append(endless)
        for value in (
            None,
            {1},
            1 << 64,
            "\x00",
            "\ud800",
            object(),
            {5: 1},
            {5: 1, "a": 2},
            endless,
        ):
            self.assertRaises(BadMessage, plist.dumps, {"k": value})
