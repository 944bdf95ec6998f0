"""
The shelf: apps that we serve to devices, each under a path that nobody can guess.

====================================  ===========================================
``GET /apps/TOKEN/manifest.plist``    what a device installs the app by
``GET /apps/TOKEN/app.ipa``, ``.pkg``  the app, whole or a range of it
====================================  ===========================================
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import attrs

from mdmd.errors import NotHere, TooLarge
from mdmd.mdm.app import CHUNK, App, manifest, read_app, tidy
from mdmd.web.request import LimitedRequest
from mdmd.web.respond import Answer, Edge, Facts, Refusal, method_not_allowed, wide_event

MOST = 16 << 30  # bytes of an app
UPLOADS = 8  # at the same time
LEFT_AFTER = 86_400  # seconds until an upload without an end is removed
PIECE = 64 << 10  # bytes read at once

_TOKEN = re.compile(r"[0-9a-f]{32}")
_ABOUT = "about.json"
_RANGE = re.compile(rb"bytes=(\d{0,18})-(\d{0,18})")
_XML = "application/xml; charset=UTF-8"


@attrs.frozen
class Shelved:
    """One app on the shelf."""

    token: str
    app: App
    size: int
    hashes: tuple[str, ...] = attrs.field(repr=False)
    added: int = 0  # ms since the epoch

    @property
    def file(self) -> str:
        """Name its file."""
        return f"app.{self.app.kind}"


@attrs.define
class _Upload:
    path: Path
    file: Any
    size: int = 0
    chunk: Any = attrs.field(factory=hashlib.sha256)
    hashes: list[str] = attrs.field(factory=list)

    def take(self, piece: bytes) -> None:
        """Write a piece, and hash it on the way: chunk by chunk."""
        unwritten = memoryview(piece)
        while unwritten:  # a disk that is all but full takes a part
            unwritten = unwritten[self.file.write(unwritten) :]
        while piece:
            left = CHUNK - self.size % CHUNK
            part, piece = piece[:left], piece[left:]
            self.chunk.update(part)
            self.size += len(part)
            if self.size % CHUNK == 0:
                self._end_chunk()

    def _end_chunk(self) -> None:
        self.hashes.append(self.chunk.hexdigest())
        self.chunk = hashlib.sha256()

    def end(self) -> None:
        """Close the file; the last chunk is as long as it is."""
        if self.size % CHUNK:
            self._end_chunk()
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()


class Shelf:
    """
    A folder of apps. Several daemons may share it.

    :param public_url: of the device site.
    :param now: ms since the epoch.
    """

    def __init__(self, folder: Path, public_url: str, now: Callable[[], int]) -> None:
        self._folder = folder
        self._url = public_url.rstrip("/")
        self._now = now
        self._uploads: dict[str, _Upload] = {}
        self._clean()

    def _clean(self) -> None:
        """Remove what a daemon that died left half done; another one's uploads are younger."""
        oldest = self._now() / 1000 - LEFT_AFTER
        for each in self._folder.glob(".*"):
            with contextlib.suppress(OSError):
                if each.stat().st_mtime < oldest:
                    shutil.rmtree(each) if each.is_dir() else each.unlink()

    def append(self, upload: str, piece: bytes) -> str:
        """
        Take a piece of an app; ``upload`` "" begins a new one. Give its name.

        :raises NotHere: there is no such upload any more.
        :raises TooLarge: the app is too large.
        :raises OSError: it can't be written; the upload is gone.
        """
        if not upload:
            upload = self._begin()
        found = self._uploads.get(upload)
        if found is None:
            raise NotHere("no such upload; it may have given way to others")
        if found.size + len(piece) > MOST:
            self._forget(upload)
            raise TooLarge(f"an app of more than {MOST >> 30} GiB")
        try:
            found.take(piece)
        except OSError:
            self._forget(upload)
            raise
        return upload

    def _begin(self) -> str:
        while len(self._uploads) >= UPLOADS:
            self._forget(next(iter(self._uploads)))
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        upload = secrets.token_hex(8)
        path = self._folder / f".{upload}"
        # Unbuffered: each piece is large enough.
        self._uploads[upload] = _Upload(path, path.open("wb", buffering=0))
        return upload

    def _forget(self, upload: str) -> None:
        gone = self._uploads.pop(upload)
        gone.file.close()
        gone.path.unlink(missing_ok=True)

    def finish(self, upload: str, title: str = "") -> Shelved:
        """
        Put an app on the shelf whose last piece has come.

        :raises NotHere: there is no such upload any more.
        :raises BadMessage: it is no app; the upload is gone.
        """
        found = self._uploads.get(upload)
        if found is None:
            raise NotHere("no such upload; it may have given way to others")
        try:
            found.end()
            with found.path.open("rb") as file:
                app = read_app(file)
            app = attrs.evolve(app, title=tidy(title) or app.title)
            # 128 bits of chance: the path is the secret.
            token = secrets.token_hex(16)
            shelved = Shelved(token, app, found.size, tuple(found.hashes), self._now())
            self._place(found.path, shelved)
        finally:
            self._forget(upload)
        return shelved

    def _place(self, path: Path, shelved: Shelved) -> None:
        folder = self._folder / f".{shelved.token}"
        folder.mkdir(mode=0o700)
        try:
            path.rename(folder / shelved.file)
            about = attrs.asdict(shelved)
            (folder / _ABOUT).write_text(json.dumps(about))
            # It is there whole or not at all.
            folder.rename(self._folder / shelved.token)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)  # a full disk needs what it takes
            raise

    def all(self) -> list[Shelved]:
        """List what is on the shelf, the newest first."""
        found = [self.find(each.name) for each in self._folder.glob("*") if each.is_dir()]
        return sorted((each for each in found if each is not None), key=lambda e: -e.added)

    def find(self, token: str) -> Shelved | None:
        """Find an app by its token."""
        if not _TOKEN.fullmatch(token):
            return None
        try:
            about = json.loads((self._folder / token / _ABOUT).read_text())
        except FileNotFoundError:
            return None
        app = App(**about.pop("app"))
        return Shelved(**{**about, "app": app, "hashes": tuple(about["hashes"])})

    def remove(self, token: str) -> Shelved:
        """
        Take an app off the shelf.

        :raises NotHere: there is none of this token.
        """
        found = self.find(token)
        if found is None:
            raise NotHere("no such app")
        gone = self._folder / f".{token}"
        (self._folder / token).rename(gone)
        shutil.rmtree(gone)
        return found

    def manifest_url(self, token: str) -> str:
        """Say where the manifest of an app is."""
        return f"{self._url}/apps/{token}/manifest.plist"

    def manifest(self, shelved: Shelved) -> bytes:
        """Write the manifest of an app."""
        url = f"{self._url}/apps/{shelved.token}/{shelved.file}"
        return manifest(shelved.app, url, shelved.hashes)

    def path(self, shelved: Shelved) -> Path:
        """Say where an app's file is."""
        return self._folder / shelved.token / shelved.file

    def words(self, shelved: Shelved) -> dict[str, object]:
        """Say of an app what operators see."""
        return {
            "token": shelved.token,
            "kind": shelved.app.kind,
            "identifier": shelved.app.identifier,
            "version": shelved.app.version,
            "title": shelved.app.title,
            "signed": shelved.app.signed,
            "size": shelved.size,
            "added": shelved.added,
            "manifest": self.manifest_url(shelved.token),
        }

    def show(self) -> list[dict[str, object]]:
        """Say of each app what operators see."""
        return [self.words(each) for each in self.all()]

    def put(self, upload: str, title: str) -> dict[str, object]:
        """Do as :meth:`finish`, and say of the app what operators see."""
        return self.words(self.finish(upload, title))

    def take_off(self, token: str) -> dict[str, object]:
        """Do as :meth:`remove`, and say of the app what operators saw."""
        return self.words(self.remove(token))


class AppFiles:
    """Serves what is on the shelf."""

    PREFIX = b"/apps/"

    def __init__(self, shelf: Shelf, edge: Edge) -> None:
        self._shelf = shelf
        self._edge = edge

    def render(self, request: LimitedRequest, facts: Facts) -> None:
        """Answer a request whose path begins with PREFIX."""
        token, _, name = request.path[len(self.PREFIX) :].decode("ascii", "replace").partition("/")
        facts["kind"] = "app"
        shelved = self._shelf.find(token)
        if shelved is not None and name == shelved.file and request.method in (b"GET", b"HEAD"):
            self._file(request, shelved, facts)
        else:
            request.path = self.PREFIX  # what is in the log must not open the door
            self._edge.answer(request, self._other(request, shelved, name), facts)

    async def _other(self, request: LimitedRequest, shelved: Shelved | None, name: str) -> Answer:
        if request.method not in (b"GET", b"HEAD"):
            raise method_not_allowed((b"GET", b"HEAD"))
        if shelved is None or name != "manifest.plist":
            raise Refusal(404, "not found")
        return Answer(self._shelf.manifest(shelved), _XML)

    def _file(self, request: LimitedRequest, shelved: Shelved, facts: Facts) -> None:
        tag = b'"%b"' % hashlib.sha256("".join(shelved.hashes).encode()).hexdigest()[:32].encode()
        headers = [
            (b"Content-Type", b"application/octet-stream"),
            (b"Accept-Ranges", b"bytes"),
            (b"ETag", tag),
        ]
        part = _range(request, shelved.size, tag)
        if _has_it(request, tag):
            status, begin, end = 304, 0, 0
        elif part is None:
            status, begin, end = 200, 0, shelved.size
        else:
            status, (begin, end) = 206, part
            whole = b"bytes %d-%d/%d" % (begin, end - 1, shelved.size)
            if begin >= end:
                status, begin, end = 416, 0, 0
                whole = b"bytes */%d" % shelved.size
            headers.append((b"Content-Range", whole))
        pieces = _pieces(self._shelf.path(shelved), begin, end)
        # Of what has not changed the length is told, and nothing follows.
        request.stream(status, headers, shelved.size if status == 304 else end - begin, pieces)
        facts["bytes_out"] = end - begin
        # The path is a secret: the log has its place only.
        wide_event(request.method, b"/apps/", status, facts)


def _has_it(request: LimitedRequest, tag: bytes) -> bool:
    """Say whether the client names this version in If-None-Match."""
    lines = request.requestHeaders.getRawHeaders(b"If-None-Match", [])
    named = {each.strip().removeprefix(b"W/") for line in lines for each in line.split(b",")}
    return not named.isdisjoint((tag, b"*"))


def _range(request: LimitedRequest, size: int, tag: bytes) -> tuple[int, int] | None:
    """
    Say which part is asked for, None if it is the whole.

    A range of another version, several at once (which no device asks for) and
    what is no range of bytes mean the whole; begin beyond end: there is no such part.
    """
    ranges = request.requestHeaders.getRawHeaders(b"Range", [])
    versions = request.requestHeaders.getRawHeaders(b"If-Range", [])
    found = _RANGE.fullmatch(ranges[0].strip()) if len(ranges) == 1 else None
    if found is None or (versions and list(versions) != [tag]):
        return None
    first, last = found[1], found[2]
    if not first:
        if not last:
            return None
        return (max(0, size - int(last)), size) if int(last) else (size, size)
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1 if last else size)


def _pieces(path: Path, begin: int, end: int) -> Generator[bytes, None, None]:
    """Read a part of a file; it is closed when the reading ends, however it does."""
    with path.open("rb") as file:
        file.seek(begin)
        while begin < end:
            piece = file.read(min(PIECE, end - begin))
            if not piece:
                raise OSError(f"{path.name} is shorter than it was")
            begin += len(piece)
            yield piece
