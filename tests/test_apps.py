"""Apps on the device site: what they are, how they get there, how devices get them."""

import contextlib
import hashlib
import io
import os
import plistlib
import resource
import shutil
import struct
import tempfile
import time
import zipfile
import zlib
from pathlib import Path
from random import Random

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import BadMessage, NotHere
from mdmd.mdm import app as apps
from mdmd.mdm.app import App, manifest, read_app
from mdmd.web.apps import AppFiles, Shelf
from mdmd.web.channel import Limits
from mdmd.web.limited import LimitedSite
from mdmd.web.respond import Edge, wide_event

INFO = {"CFBundleIdentifier": "com.example.a", "CFBundleName": "A", "CFBundleVersion": "7"}
PACKAGE_INFO = b'<pkg-info identifier="com.example.p" version="1.2"/>'


def ipa(
    info: dict[str, object] | None = None,
    name: str = "Payload/A.app/Info.plist",
    size: int = 0,
    how: int = zipfile.ZIP_STORED,
) -> bytes:
    """Make an .ipa."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        archive.writestr(name, plistlib.dumps(info or INFO, fmt=plistlib.FMT_BINARY))
        archive.writestr("Payload/A.app/A", os.urandom(size))
    return file.getvalue()


def pkg(
    name: str = "PackageInfo",
    content: bytes = PACKAGE_INFO,
    signed: bool = True,
    toc: str = "",
    squeeze: bool = True,
) -> bytes:
    """Make a .pkg: a xar archive with one file."""
    heap = zlib.compress(content) if squeeze else content
    style = '<encoding style="application/x-gzip"/>' if squeeze else ""
    toc = toc or (
        f"<xar><toc>{'<signature/>' if signed else ''}<file id='1'><name>{name}</name><data>"
        f"<length>{len(heap)}</length><offset>0</offset>{style}</data></file></toc></xar>"
    )
    packed = zlib.compress(toc.encode())
    return struct.pack(">4sHHQQI", b"xar!", 28, 1, len(packed), len(toc), 0) + packed + heap


NEGATIVE = "<name>PackageInfo</name><data><length>-5</length><offset>-99999</offset></data>"


def encrypted() -> bytes:
    """Make an .ipa as if it had a password."""
    content = bytearray(ipa())
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + flags] |= 1
    return bytes(content)


class ReadTests(SynchronousTestCase):
    """What a file says it is."""

    def read(self, content: bytes) -> App:
        return read_app(io.BytesIO(content))

    def test_ipa_and_pkg(self) -> None:
        """Identifier, version and title come out of the file itself."""
        self.assertEqual(self.read(ipa()), App("ipa", "com.example.a", "7", "A"))
        self.assertEqual(self.read(pkg()), App("pkg", "com.example.p", "1.2", "com.example.p"))
        self.assertEqual(self.read(pkg(squeeze=False)).identifier, "com.example.p")
        self.assertFalse(self.read(pkg(signed=False)).signed)
        distribution = (
            b"<installer-gui-script><title>P</title><pkg-ref id='x'/>"
            b"<pkg-ref id='com.example.p' version='3'/></installer-gui-script>"
        )
        self.assertEqual(
            self.read(pkg("Distribution", distribution)), App("pkg", "com.example.p", "3", "P")
        )

    def test_what_is_no_app_is_refused(self) -> None:
        """With the reason, whatever the bytes are."""
        for content, why in (
            (b"", "neither"),
            (b"hello", "neither"),
            (b"PK\x03\x04broken", "can't be read"),
            (ipa(name="Payload/A.app/PlugIns/B.appex/Info.plist"), "exactly one"),
            (ipa({"CFBundleName": "A"}), "CFBundleIdentifier"),
            (b"xar!", "can't be read"),
            (pkg()[:40], "can't be read"),
            (pkg("Readme"), "no PackageInfo"),
            (pkg(content=b"<pkg-info/>"), "no PackageInfo"),
            (pkg(content=b"<pkg-info"), "can't be read"),
            (pkg(toc="<!DOCTYPE x [<!ENTITY a 'a'>]><xar/>"), "document type"),
            (
                pkg(
                    toc="<xar><toc><file><name>PackageInfo</name><data><length>x</length></data></file></toc></xar>"
                ),
                "can't be read",
            ),
            (b"xar!" + struct.pack(">HHQQI", 28, 1, 1 << 40, 1 << 40, 0), "too large"),
            (pkg(toc=f"<xar><toc><file>{NEGATIVE}</file></toc></xar>"), "can't be read"),
            (pkg(toc="<?xml version='1.0' encoding='none-such'?><xar/>"), "can't be read"),
            (encrypted(), "encrypted"),
            (ipa({"CFBundleIdentifier": "a" * 300}), "CFBundleIdentifier"),
            (ipa({"CFBundleIdentifier": "a\nb"}), "CFBundleIdentifier"),
            (
                struct.pack(">4sHHQQI", b"xar!", 28, 1, 30_000, 100, 0)
                + zlib.compress(b"a" * (20 << 20)),
                "too large",
            ),
        ):
            with self.assertRaisesRegex(BadMessage, why):
                self.read(content)

    def test_a_title_on_one_line(self) -> None:
        """Whatever the file says, a manifest can be made of it."""
        app = self.read(ipa({"CFBundleIdentifier": "a", "CFBundleName": "A\0\nB" + "x" * 900}))
        self.assertEqual(app.title, ("A B" + "x" * 900)[:255])
        self.assertIn(b"A B", manifest(app, "https://x/app.ipa", []))

    def test_any_damage(self) -> None:
        """It is an app, or it is refused; nothing else comes of it."""
        chance = Random(5)
        for _ in range(3000):
            content = bytearray(chance.choice((ipa(), pkg(), ipa(how=zipfile.ZIP_LZMA))))
            for _ in range(3):
                content[chance.randrange(4, len(content))] = chance.choice((0, 1, 255))
            with contextlib.suppress(BadMessage):
                self.assertIsInstance(self.read(bytes(content)), App)

    def test_manifest(self) -> None:
        """What Apple's schema asks for, the hashes by chunk."""
        made = plistlib.loads(
            manifest(App("ipa", "com.example.a", "7", "A"), "https://x/app.ipa", ["ab"])
        )
        (item,) = made["items"]
        self.assertEqual(
            item["metadata"],
            {
                "bundle-identifier": "com.example.a",
                "bundle-version": "7",
                "kind": "software",
                "title": "A",
            },
        )
        self.assertEqual(
            item["assets"],
            [
                {
                    "kind": "software-package",
                    "url": "https://x/app.ipa",
                    "sha256-size": 10 << 20,
                    "sha256s": ["ab"],
                }
            ],
        )


class ShelfCase(SynchronousTestCase):
    """A shelf in a scratch folder."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.shelf = Shelf(self.folder / "apps", "https://mdm.example.org/", lambda: 5)

    def put(self, content: bytes, piece: int = 1 << 19):
        upload = ""
        for at in range(0, len(content), piece):
            upload = self.shelf.append(upload, content[at : at + piece])
        return self.shelf.finish(upload)


class ShelfTests(ShelfCase):
    """Apps come in pieces and are there whole or not at all."""

    def test_put_find_remove(self) -> None:
        """Under a path that nobody can guess, with the hash of each chunk."""
        content = ipa(size=25 << 20)
        shelved = self.put(content)
        chunks = [content[at : at + apps.CHUNK] for at in range(0, len(content), apps.CHUNK)]
        self.assertEqual(shelved.hashes, tuple(hashlib.sha256(each).hexdigest() for each in chunks))
        self.assertEqual(len(chunks), 3)
        self.assertEqual(len(shelved.token), 32)
        self.assertEqual(self.shelf.find(shelved.token), shelved)
        self.assertEqual(self.shelf.path(shelved).read_bytes(), content)
        self.assertEqual(
            self.shelf.manifest_url(shelved.token),
            f"https://mdm.example.org/apps/{shelved.token}/manifest.plist",
        )
        self.assertEqual([each["title"] for each in self.shelf.show()], ["A"])
        self.shelf.remove(shelved.token)
        self.assertIsNone(self.shelf.find(shelved.token))
        self.assertRaises(NotHere, self.shelf.remove, shelved.token)
        self.assertEqual(list((self.folder / "apps").iterdir()), [])

    def test_no_app_leaves_nothing(self) -> None:
        """What can't be read is gone, and so are uploads that give way to others."""
        self.assertRaises(BadMessage, self.put, b"no app")
        self.assertEqual(list((self.folder / "apps").iterdir()), [])
        first = self.shelf.append("", b"x")
        for _ in range(8):
            self.shelf.append("", b"x")
        self.assertRaises(NotHere, self.shelf.append, first, b"x")
        self.assertRaises(NotHere, self.shelf.finish, first)
        self.assertEqual(len(list((self.folder / "apps").iterdir())), 8)
        self.assertEqual(self.shelf.show(), [])

    def test_a_full_disk(self) -> None:
        """An upload that was not written whole is gone: nobody gets a part of an app."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
        content = ipa(size=300_000)
        upload = self.shelf.append("", content[:200_000])
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) - 1000, limits[1]))
        self.assertRaises(OSError, self.shelf.append, upload, content[200_000:])
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        self.assertRaises(NotHere, self.shelf.append, upload, content[200_000:])
        self.assertRaises(NotHere, self.shelf.finish, upload)
        self.assertEqual(list((self.folder / "apps").iterdir()), [])

    def test_a_disk_full_at_the_end(self) -> None:
        """An app that can only not be put on the shelf takes no room either."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
        upload = self.shelf.append("", ipa())
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        self.assertRaises(OSError, self.shelf.finish, upload)
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        self.assertEqual(list((self.folder / "apps").iterdir()), [])

    def test_what_a_dead_daemon_left_is_removed(self) -> None:
        """A day later; an upload of another daemon that lives is left alone."""
        shelved = self.put(ipa())
        self.shelf.append("", b"x")
        later = int((time.time() + 90_000) * 1000)
        Shelf(self.folder / "apps", "https://x", lambda: int(time.time() * 1000))
        self.assertEqual(len(list((self.folder / "apps").iterdir())), 2)
        Shelf(self.folder / "apps", "https://x", lambda: later)
        self.assertEqual([each.name for each in (self.folder / "apps").iterdir()], [shelved.token])

    def test_tokens_are_no_paths(self) -> None:
        """Nothing outside the shelf can be named."""
        for token in ("", ".", "..", "../apps", "a" * 31, "a" * 31 + "/", "%2e%2e"):
            self.assertIsNone(self.shelf.find(token))


class Slow(StringTransport):
    """A client that takes what it is given only when asked to."""

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.producer is not None and len(self.value()) > self.most:
            self.producer.pauseProducing()

    most = 1 << 40


class ServeTests(ShelfCase):
    """Devices get manifests and files, whole or in ranges."""

    def setUp(self) -> None:
        super().setUp()
        self.content = ipa(size=300_000)
        self.shelved = self.put(self.content)
        self.clock = Clock()
        files = AppFiles(self.shelf, Edge(self.clock, self.clock.seconds, lambda: 0.0))

        class Root:
            def render(self, request) -> None:
                files.render(request, {})

        self.site = LimitedSite(Root(), self.clock, Limits(), lambda _: None)

    def connect(self) -> Slow:
        transport = Slow()
        self.channel = self.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        self.channel.makeConnection(transport)
        return transport

    def ask(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        transport = self.connect()
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        self.channel.dataReceived(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
        head, _, body = transport.value().partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body

    @property
    def path(self) -> str:
        return f"/apps/{self.shelved.token}/app.ipa"

    def test_manifest_and_file(self) -> None:
        """The manifest names the file, and its hashes are those of the file."""
        status, _, body = self.ask(f"/apps/{self.shelved.token}/manifest.plist")
        (asset,) = plistlib.loads(body)["items"][0]["assets"]
        self.assertEqual((status, asset["url"]), (200, f"https://mdm.example.org{self.path}"))
        status, headers, body = self.ask(self.path)
        self.assertEqual((status, body), (200, self.content))
        self.assertEqual(headers["Accept-Ranges"], "bytes")
        self.assertEqual([hashlib.sha256(body).hexdigest()], asset["sha256s"])
        status, headers, body = self.ask(self.path, "HEAD")
        self.assertEqual(
            (status, headers["Content-Length"], body), (200, str(len(self.content)), b"")
        )

    def test_ranges(self) -> None:
        """Each form of one range; several, or nonsense, mean the whole."""
        size = len(self.content)
        for text, begin, end in (
            ("bytes=0-99", 0, 100),
            ("bytes=100-", 100, size),
            ("bytes=-50", size - 50, size),
            (f"bytes=-{size * 2}", 0, size),
            (f"bytes=5-{size * 2}", 5, size),
        ):
            status, headers, body = self.ask(self.path, Range=text)
            self.assertEqual((status, body), (206, self.content[begin:end]), text)
            self.assertEqual(headers["Content-Range"], f"bytes {begin}-{end - 1}/{size}")
        for text in ("bytes=9-5", "bytes=-", "bytes=0-1,5-6", "lines=1-2", "bytes=x-y"):
            self.assertEqual(self.ask(self.path, Range=text)[0], 200, text)
        for text in (f"bytes={size}-", "bytes=-0"):
            status, headers, body = self.ask(self.path, Range=text)
            self.assertEqual(
                (status, headers["Content-Range"], body), (416, f"bytes */{size}", b"")
            )

    def test_a_range_of_another_version_is_the_whole(self) -> None:
        """If-Range with the right tag gives the part, with another one the whole."""
        tag = self.ask(self.path)[1]["ETag"]
        self.assertEqual(self.ask(self.path, Range="bytes=0-1", If_Range=tag)[0], 206)
        self.assertEqual(self.ask(self.path, Range="bytes=0-1", If_Range='"x"')[0], 200)

    def test_what_the_client_has_is_not_sent_again(self) -> None:
        """If-None-Match with the tag, among others, weak or any: 304 and nothing more."""
        tag = self.ask(self.path)[1]["ETag"]
        for text in (tag, f'"x", W/{tag}', "*"):
            status, headers, body = self.ask(self.path, If_None_Match=text)
            self.assertEqual((status, headers["ETag"], body), (304, tag, b""))
        self.assertEqual(self.ask(self.path, If_None_Match='"x"')[0], 200)

    def test_what_is_not_there(self) -> None:
        """Another token, another name, another method, a way out: refused in plain words."""
        token = self.shelved.token
        for path in (
            "/apps/",
            f"/apps/{token}",
            f"/apps/{token}/about.json",
            f"/apps/{token}/app.pkg",
            f"/apps/{'a' * 32}/app.ipa",
            "/apps/../apps",
            f"/apps/{token}/../{token}/app.ipa",
        ):
            self.assertEqual(self.ask(path)[0], 404, path)
        self.assertEqual(self.ask(self.path, "PUT")[0], 405)

    def test_the_path_is_not_logged(self) -> None:
        """Whoever reads the log does not get the app by it."""
        from twisted.logger import globalLogPublisher

        lines = []
        globalLogPublisher.addObserver(lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, lines.append)
        self.ask(self.path)
        self.ask(f"/apps/{self.shelved.token}/manifest.plist")
        self.ask(f"/apps/{self.shelved.token}/nothing")
        # Nor by the lines of requests that are mistyped, or can't be read.
        for start in ("/", "//", "/scep/", "https://mdm.example.org/", "/x\r/"):
            wide_event(b"GET", f"{start}Apps/{self.shelved.token}/app.ipa".encode(), 404, {})
        self.assertEqual(len(lines), 8)
        self.assertNotIn(self.shelved.token, repr(lines))

    def test_a_slow_client_fills_no_memory(self) -> None:
        """It gets as much as it takes; when it takes nothing any more, it is cut off."""
        transport = self.connect()
        transport.most = 100_000
        self.channel.dataReceived(f"GET {self.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self.assertLess(len(transport.value()), 300_000)
        transport.most = 1 << 40
        self.channel.resumeProducing()
        self.assertEqual(transport.value().partition(b"\r\n\r\n")[2], self.content)
        transport = self.connect()
        transport.most = 100_000
        self.channel.dataReceived(f"GET {self.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self.clock.pump([10] * 7)
        self.assertTrue(transport.disconnecting or transport.disconnected)

    def test_the_connection_goes_on(self) -> None:
        """A second request on the same connection is answered after the first."""
        transport = self.connect()
        line = f"GET {self.path} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-0\r\n\r\n".encode()
        self.channel.dataReceived(line * 2)
        self.assertEqual(transport.value().count(b"HTTP/1.1 206"), 2)

    def test_a_file_that_shrank_breaks_off(self) -> None:
        """Rather than promise bytes that are not there."""
        self.shelf.path(self.shelved).write_bytes(b"x")
        transport = self.connect()
        self.channel.dataReceived(f"GET {self.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self.assertTrue(transport.disconnected or transport.disconnecting)
