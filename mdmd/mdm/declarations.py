"""
Declarative management: the JSON that a device asks for at check-in.

So far every device's set of declarations is empty, and this module says so in
Apple's form: a device that asks gets a true answer and settles.
Source: ``protocol`` in Apple's schema: TokensResponse, DeclarationItemsResponse.
"""

import hashlib
import json

from mdmd.errors import BadMessage, NotHere

_NOTHING: dict[str, list[object]] = {
    "Activations": [],
    "Assets": [],
    "Configurations": [],
    "Management": [],
}
# It names the set's content, so it may change only when that does.
_TOKEN = hashlib.sha256(json.dumps(_NOTHING, sort_keys=True).encode()).hexdigest()
_TIMESTAMP = "1970-01-01T00:00:00Z"  # the empty set never changed


def answer(endpoint: str, data: bytes | None) -> bytes:
    """
    Answer one DeclarativeManagement exchange, as JSON (``b""`` for a status report).

    :raises NotHere: the declaration does not exist.
    :raises BadMessage: an endpoint that Apple's protocol does not have, or a
        status report that is no JSON object.
    """
    if endpoint == "tokens":
        return _json({"SyncTokens": {"Timestamp": _TIMESTAMP, "DeclarationsToken": _TOKEN}})
    if endpoint == "declaration-items":
        return _json({"Declarations": _NOTHING, "DeclarationsToken": _TOKEN})
    if endpoint.startswith("declaration/"):
        raise NotHere("no such declaration")
    if endpoint == "status":
        _check_status(data)
        return b""
    raise BadMessage("unknown Endpoint")


def _check_status(data: bytes | None) -> None:
    try:
        if isinstance(json.loads(data or b""), dict):
            return
    except (ValueError, RecursionError):
        pass
    raise BadMessage("the status report is not a JSON object")


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
