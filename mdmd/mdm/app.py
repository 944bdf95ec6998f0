"""
Apps that we serve ourselves: what an .ipa or .pkg is, and the manifest devices install it by.

Source: Apple's schema, ``other/manifesturl``; the kind ``software-package``,
which the schema lacks, from its documentation of InstallApplication.
"""

import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from typing import BinaryIO
from xml.etree import ElementTree

import attrs

from mdmd.errors import BadMessage
from mdmd.mdm import plist

CHUNK = 10 << 20  # bytes that one hash of a manifest covers

_INFO = re.compile(r"Payload/[^/]+\.app/Info\.plist")
_MOST = 16 << 20  # bytes of any description inside
_LONGEST = 255  # characters of an identifier, version or title
# What the readers of archives and XML raise for a file that is damaged, encrypted or made up.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, ElementTree.ParseError,
    RuntimeError, LookupError, ValueError, OverflowError, EOFError, OSError,
)  # fmt: skip
_XAR = struct.Struct(">4sHHQQI")


@attrs.frozen
class App:
    """What an app's file says of itself."""

    kind: str  # "ipa" or "pkg"
    identifier: str
    version: str
    title: str
    signed: bool = True  # of a package: whether there is a signature, good or not


def read_app(file: BinaryIO) -> App:
    """
    Read what an app is, by its content.

    :raises BadMessage: neither an .ipa nor a .pkg, or without an identifier.
    """
    begin = file.read(4)
    file.seek(0)
    if begin == b"xar!":
        return _read_package(file)
    if begin == b"PK\x03\x04":
        return _read_ipa(file)
    raise BadMessage("neither an .ipa nor a .pkg")


def manifest(app: App, url: str, hashes: Sequence[str]) -> bytes:
    """
    Write the manifest of an app.

    :param url: of the app's file, https.
    :param hashes: SHA-256 of each CHUNK of it, lower-case hex.
    """
    asset = {
        "kind": "software-package",
        "url": url,
        "sha256-size": CHUNK,
        "sha256s": list(hashes),
    }
    metadata = {
        "bundle-identifier": app.identifier,
        "bundle-version": app.version,
        "kind": "software",
        "title": app.title,
    }
    return plist.dumps({"items": [{"assets": [asset], "metadata": metadata}]})


def _read_ipa(file: BinaryIO) -> App:
    try:
        with zipfile.ZipFile(file) as archive:
            found = [each for each in archive.infolist() if _INFO.fullmatch(each.filename)]
            if len(found) != 1:
                raise BadMessage("an .ipa without exactly one Payload/….app/Info.plist")
            with archive.open(found[0]) as info:
                content = info.read(_MOST)
    except _DAMAGE as error:
        raise BadMessage(f"the .ipa can't be read: {error}") from error
    keys = plist.loads(content, limit=_MOST)
    identifier = _text(keys.get("CFBundleIdentifier"))
    if not identifier:
        raise BadMessage("the app has no CFBundleIdentifier that can be one")
    names = [keys.get("CFBundleDisplayName"), keys.get("CFBundleName")]
    title = next(filter(None, (tidy(each) for each in names if isinstance(each, str))), "")
    version = _text(keys.get("CFBundleVersion")) or _text(keys.get("CFBundleShortVersionString"))
    return App("ipa", identifier, version or "0", title or identifier)


def _read_package(file: BinaryIO) -> App:
    try:
        return _package(file)
    except _DAMAGE as error:
        raise BadMessage(f"the .pkg can't be read: {error}") from error


def _package(file: BinaryIO) -> App:
    _, header, _, packed, size, _ = _XAR.unpack(file.read(_XAR.size))
    if max(packed, size) > _MOST:
        raise BadMessage("the .pkg has a table of contents that is too large")
    file.seek(header)
    contents = _xml(_inflate(file.read(packed)))
    heap = header + packed
    signed = (
        contents.find(".//signature") is not None or contents.find(".//x-signature") is not None
    )
    for each in contents.iter("file"):
        name, data = each.findtext("name"), each.find("data")
        if name not in ("PackageInfo", "Distribution") or data is None:
            continue
        length = int(data.findtext("length") or 0)
        if length > _MOST:
            raise BadMessage("the .pkg has a description that is too large")
        file.seek(heap + int(data.findtext("offset") or 0))
        content = file.read(length)
        style = data.find("encoding")
        if style is not None and "gzip" in style.get("style", ""):
            content = _inflate(content)
        found = _described(_xml(content), signed)
        if found is not None:
            return found
    raise BadMessage("the .pkg has no PackageInfo or Distribution that names it")


def _described(root: ElementTree.Element, signed: bool) -> App | None:
    if root.tag == "pkg-info":
        named = [root]
        key = "identifier"
    else:
        named = [each for each in root.iter("pkg-ref") if each.get("version")]
        key = "id"
    for each in named:
        identifier = _text(each.get(key))
        if identifier:
            title = tidy(root.findtext("title") or "") or identifier
            return App("pkg", identifier, _text(each.get("version")) or "0", title, signed)
    return None


def _inflate(packed: bytes) -> bytes:
    machine = zlib.decompressobj()
    content = machine.decompress(packed, _MOST)
    if machine.unconsumed_tail:
        raise BadMessage("the .pkg has a description that is too large")
    return content


def _xml(content: bytes) -> ElementTree.Element:
    # Without a document type there are no entities to blow up.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise BadMessage("the .pkg has a description with a document type of its own")
    return ElementTree.fromstring(content)  # noqa: S314


def tidy(title: str) -> str:
    """Put a title on one line of which a manifest can be made."""
    text = "".join(each if each.isprintable() else " " for each in title)
    return " ".join(text.split())[:_LONGEST]


def _text(value: object) -> str:
    """Take a text that may be an identifier or a version, nothing for anything else."""
    sound = isinstance(value, str) and len(value) <= _LONGEST and value.isprintable()
    return str(value) if sound else ""
