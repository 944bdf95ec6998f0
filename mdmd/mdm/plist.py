"""
Property lists, XML and binary: bytes in, a dict out, and back.

What comes in is from strangers, so reading is strict. The prolog is matched by
a pattern here; :mod:`mdmd.mdm.plist_xml` reads from the root element on,
:mod:`mdmd.mdm.plist_scan` skims what devices usually send, and
:mod:`mdmd.mdm.plist_binary` reads the binary form.

Source: Apple, plist(5) and the PropertyList-1.0 DTD.
"""

import plistlib
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from mdmd.errors import BadMessage, TooLarge
from mdmd.mdm import plist_binary, plist_scan, plist_xml

LIMIT = 4 << 20  # bytes
DEPTH = 32  # dicts and arrays inside one another

_PROLOG = re.compile(
    rb"""
    (?:\xef\xbb\xbf)?
    (?:<\?xml \s+version\s*=\s*["']1\.[0-9]["']
        (?:\s+encoding\s*=\s*["'](?i:utf-?8|us-ascii)["'])?
        (?:\s+standalone\s*=\s*["'](?:yes|no)["'])?
        \s*\?>)?
    (?:\s|<!--[^-]*(?:-[^-]+)*-->)*
    (?:<!DOCTYPE \s+plist
        (?:\s+(?:PUBLIC\s+(?:"[^"<>]*"|'[^'<>]*')|SYSTEM)\s+(?:"[^"<>]*"|'[^'<>]*'))?
        \s*>)?
    (?:\s|<!--[^-]*(?:-[^-]+)*-->)*
    (?=<plist(?:\s|>))
    """.replace(rb"\s", rb"[ \t\r\n]"),
    re.VERBOSE,
)
_PROLOG_LIMIT = 4096
_NOT_XML = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]"
    "|&#(?:0*(?:[0-8]|1[124-9]|2[0-9]|3[01])|x0*(?:[0-8bBcCeEfF]|1[0-9a-fA-F]));"
)
# What Apple's systems write, to the byte: no need to match it.
_USUAL = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN"'
    b' "http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n<plist '
)


def loads(body: bytes, limit: int = LIMIT, depth: int = DEPTH) -> dict[str, object]:
    """
    Read a property list whose top is a dict.

    Values are str, int, float, bool, bytes, list, dict and naive UTC datetime.

    :param limit: bytes.
    :param depth: how many dicts and arrays may be inside one another.
    :raises TooLarge: ``body`` is longer than ``limit``.
    :raises BadMessage: anything else that keeps it from being exactly one
        plist: a document type of its own, an entity, a key twice in a dict, a
        value that is not of its type.
    """
    _measure(body, limit)
    if body.startswith(b"bplist"):
        return plist_binary.read(body, limit, depth)
    return plist_xml.read(body, _root(body), depth)


def pick(
    body: bytes, keys: Collection[str], limit: int = LIMIT, depth: int = DEPTH
) -> dict[str, object]:
    """
    Read only some keys of the top dict, much faster than :func:`loads`.

    The rest has to be a plist in form, but its values are not looked at: a date
    out of range, or a key twice in an inner dict, does no harm there. Of a binary
    plist the other values are not read at all.

    :raises TooLarge: ``body`` is longer than ``limit``.
    :raises BadMessage: it is no plist with a dict at the top.
    """
    _measure(body, limit)
    if body.startswith(b"bplist"):
        message = plist_binary.read(body, limit, depth, keys)
    else:
        start = _root(body)
        found = plist_scan.scan(body, start, keys, depth)
        if found is not None:
            return {key: plist_xml.LEAVES[tag](text) for key, tag, text in found}
        message = plist_xml.read(body, start, depth, keys)
    return {key: message[key] for key in keys if key in message}


def mended(body: bytes) -> bytes:
    """
    Put U+FFFD where an XML plist has what no XML has: devices write such names as they are.

    Those are control characters, references to them, and what is not UTF-8.
    """
    if body.startswith(b"bplist"):
        return body
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", body.decode("utf-8", "replace")).encode()


def dumps(value: Mapping[str, object]) -> bytes:
    """
    Write an XML property list, keys in order: the same value gives the same bytes.

    Times with a zone are turned to UTC.

    :raises BadMessage: a value that a plist can't hold.
    """
    try:
        return plistlib.dumps(_in_utc(value), fmt=plistlib.FMT_XML, sort_keys=True)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadMessage(f"a property list can't hold this: {error}") from error


def _in_utc(value: Any) -> Any:
    if isinstance(value, datetime):
        return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
    if isinstance(value, Mapping):
        return {key: _in_utc(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_in_utc(each) for each in value]
    return value


def _measure(body: bytes, limit: int) -> None:
    if len(body) > limit:
        raise TooLarge(f"the message is larger than {limit} bytes")
    if not body:
        raise BadMessage("the body is empty")


def _root(body: bytes) -> int:
    """Say where the root element begins."""
    if body.startswith(_USUAL):
        return len(_USUAL) - len(b"<plist ")
    prolog = _PROLOG.match(body, 0, _PROLOG_LIMIT)
    if prolog is None:
        raise BadMessage("not a property list")
    return prolog.end()
