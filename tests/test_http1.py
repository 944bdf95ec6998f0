"""Requests are cut out of bytes without doubt, however the bytes arrive."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from mdmd.web.http1 import MAX_HEADERS, MalformedError, OversizedError, Reader

Told = list[tuple[bytes, bytes, dict[bytes, list[bytes]], bytes]]

names = st.sampled_from([b"X-A", b"x-b", b"Mdm-Signature", b"User-Agent", b"Accept"])
values = st.binary(max_size=20).map(
    lambda raw: bytes(byte for byte in raw if 0x21 <= byte < 0x7F or byte >= 0x80)
)
bodies = st.binary(max_size=200)
targets = st.sampled_from([b"/connect", b"/scep?operation=PKIOperation&message=a%2Bb", b"/"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request that nobody could object to."""
    body = draw(bodies)
    head = [b"%b %b HTTP/1.1" % (draw(st.sampled_from([b"PUT", b"POST"])), draw(targets))]
    head.append(b"Host: mdm.example.org")
    head += [b"%b: %b" % (draw(names), draw(values)) for _ in range(draw(st.integers(0, 4)))]
    if draw(st.booleans()):
        head.append(b"Content-Length: %d" % len(body))
    else:
        head.append(b"Transfer-Encoding: chunked")
        cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=3)))
        parts = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part]
        body = b"".join([*chunks, b"0\r\n\r\n"])
    return b"\r\n".join([*head, b"", b""]) + body


def read(stream: bytes, cuts: list[int]) -> Told:
    """What our reader makes of a stream that arrives in pieces."""
    reader, told = Reader(1000), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[start:end])
        while True:
            head = reader.head or reader.read_head()
            if head is None:
                break
            body = reader.read_body()
            if body is None:
                break
            told.append((head.method, head.target, head.headers, body))
    return told


def twisted_reads(stream: bytes) -> Told:
    """What twisted.web makes of it."""
    told: Told = []

    class Listener(Resource):
        isLeaf = True

        def render(self, request):
            headers = {
                name.lower(): list(found)
                for name, found in request.requestHeaders.getAllRawHeaders()
            }
            told.append((request.method, request.uri, headers, request.content.read()))
            return b""

    site = Site(Listener(), timeout=None, parsePOSTFormSubmission=False)
    channel = site.buildProtocol(None)
    channel.makeConnection(StringTransport())
    channel.dataReceived(stream)
    return told


class ReaderTests(SynchronousTestCase):
    """Where a request ends, and which bytes are none."""

    @settings(max_examples=150, deadline=None, database=None)
    @given(st.lists(requests(), min_size=1, max_size=4), st.data())
    def test_like_twisted_however_it_arrives(self, many: list[bytes], data: st.DataObject) -> None:
        """The same requests as twisted.web reads, whatever the pieces that they come in."""
        stream = b"".join(many)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
        self.assertEqual(read(stream, cuts), twisted_reads(stream))

    @settings(max_examples=200, deadline=None, database=None)
    @given(st.binary(max_size=300), st.lists(requests(), max_size=1), st.data())
    def test_any_bytes_end_well(self, noise: bytes, one: list[bytes], data: st.DataObject) -> None:
        """Garbage, also in the middle of a request, is refused or waited for; nothing else."""
        stream = b"".join(one)
        at = data.draw(st.integers(0, len(stream)))
        with contextlib.suppress(MalformedError, OversizedError):
            read(stream[:at] + noise + stream[at:], [])

    def test_byte_by_byte(self) -> None:
        """One that sends each byte by itself is understood."""
        stream = b"PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        stream += b"3;x=y\r\nabc\r\n0\r\nTrailer: z\r\n\r\n"
        ((_, target, _, body),) = read(stream, list(range(1, len(stream))))
        self.assertEqual((target, body), (b"/a", b"abc"))

    def test_persistence(self) -> None:
        """HTTP/1.1 stays unless close is said, in any case and among others; 1.0 does not."""
        cases = (
            (b"1", b"Connection: keep-alive", True),
            (b"1", b"Connection: Foo, CLOSE", False),
            (b"1", b"X: close", True),
            (b"0", b"Connection: keep-alive", False),
        )
        for version, header, stays in cases:
            reader = Reader(10)
            reader.feed(b"GET / HTTP/1.%b\r\nHost: x\r\n%b\r\n\r\n" % (version, header))
            head = reader.read_head()
            assert head is not None
            self.assertEqual(head.persistent, stays, header)

    def test_absolute_form(self) -> None:
        """A target with scheme and host is that path on that host, whatever the header says."""
        for target, path, host in (
            (b"http://mdm.example.org/version", b"/version", b"mdm.example.org"),
            (b"HTTPS://h:9000/a?b=http://c/", b"/a?b=http://c/", b"h:9000"),
            (b"http://[::1]:80", b"/", b"[::1]:80"),
            (b"http://h?x=1", b"/?x=1", b"h"),
        ):
            ((_, found, headers, _),) = read(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % target, [])
            self.assertEqual((found, headers[b"host"]), (path, [host]))
        for target in (b"http://u:p@h/", b"http:///version", b"ftp://h/", b"http://h/#x"):
            with self.assertRaises(MalformedError):
                read(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % target, [])
        with self.assertRaises(MalformedError):
            read(b"GET http://h/ HTTP/1.1\r\n\r\n", [])
        for target in (b"*", b"h:80", b"/a://b"):
            ((_, found, _, _),) = read(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % target, [])
            self.assertEqual(found, target)

    def test_what_others_understand_otherwise(self) -> None:
        """Each of these has led two servers to see different requests in the same bytes."""
        heads = (
            b"GET / HTTP/1.1\nHost: x\n\n",
            b"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rContent-Length: 5\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1_0\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: \xb2\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\x0bchunked\r\n\r\n",
            b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nA\x00: b\r\n\r\n",
            b" GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\n: x\r\n\r\n",
        )
        for head in heads:
            with self.assertRaises(MalformedError, msg=head):
                read(head + b"\r\n\r\n", [])

    def test_chunks_that_are_none(self) -> None:
        """A size is up to eight hexadecimal digits, and its chunk ends where it says."""
        head = b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        bodies = (
            b"3\nabc\r\n0\r\n\r\n",
            b"3\r\nabc0\r\n\r\n",
            b"3\r\nabc\n0\r\n\r\n",
            b"+3\r\nabc\r\n",
            b"3_0\r\nabc\r\n",
            b" 3\r\nabc\r\n",
            b"000000003\r\nabc\r\n",
            b"3;" + b"x" * 2000,
            b"0\r\n" + b"a: b\r\n" * 20,
        )
        for body in bodies:
            with self.assertRaises(MalformedError, msg=body):
                read(head + body, [])

    def test_too_many_headers(self) -> None:
        """A head has a limit, known before its end."""
        with self.assertRaises(MalformedError):
            read(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (MAX_HEADERS + 2), [])
