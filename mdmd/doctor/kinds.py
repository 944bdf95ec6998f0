"""Which type each key of the store has, as in docs/store.md: nothing can be read from another."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from mdmd.doctor.redis import Client

_BATCH = 500  # keys in one question
_DEVICE = re.compile(rb"mdmd:\{[^}]*\}:([a-z]+)(?::|$)", re.DOTALL)

# By the part after the braces.
OF_DEVICE = {
    **dict.fromkeys(("e", "f", "s", "k", "xs", "i", "channels", "archive", "notes"), b"hash"),
    **dict.fromkeys(("q", "x"), b"zset"),
    **dict.fromkeys(("r", "h", "pins"), b"list"),
    **dict.fromkeys(("p", "unlock", "bootstrap"), b"string"),
}
_ACROSS = {
    **dict.fromkeys((b"topics", b"totals", b"pushcerts"), b"hash"),
    **dict.fromkeys((b"ids", b"serials", b"issued", b"refresh", b"limits"), b"zset"),
    **dict.fromkeys((b"events", b"audit"), b"stream"),
    **dict.fromkeys((b"sequence", b"sealed"), b"string"),
}
# More follows: mdmd:command:UUID.
_MANY = {
    **dict.fromkeys((b"command:", b"identity:", b"challenge:", b"link:"), b"hash"),
    **dict.fromkeys((b"work:", b"renewals:"), b"zset"),
    **dict.fromkeys((b"pin:", b"serial:", b"idserial:"), b"string"),
}


def kind_of(key: bytes) -> bytes | None:
    """Say which type a key has to have; None: nobody here knows."""
    match = _DEVICE.match(key)
    if match:
        return OF_DEVICE.get(match[1].decode())
    name = key.removeprefix(b"mdmd:")
    first, colon, _ = name.partition(b":")
    return _MANY.get(first + colon) if colon else _ACROSS.get(name)


def wrong_kinds(client: Client) -> Iterator[tuple[bytes, bytes, bytes]]:
    """
    Go through all keys for those of another type: (key, its type, the right one).

    :raises StoreUnavailable: the store does not answer.
    """
    cursor: Any = b"0"
    while True:
        cursor, part = client.ask("SCAN", cursor, "MATCH", "mdmd:*", "COUNT", _BATCH)
        yield from _wrong(client, [(key, kind) for key in part if (kind := kind_of(key))])
        if cursor == b"0":
            return


def _wrong(
    client: Client, known: Sequence[tuple[bytes, bytes]]
) -> Iterator[tuple[bytes, bytes, bytes]]:
    types = client.ask_all([("TYPE", key) for key, _ in known]) if known else ()
    for (key, right), text in zip(known, types, strict=True):
        found = text if isinstance(text, bytes) else str(text).encode()
        if found not in (right, b"none"):  # none: it went meanwhile
            yield key, found, right
