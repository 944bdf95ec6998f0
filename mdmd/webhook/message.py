"""An event as NanoMDM's webhook spells it, field by field, and its signature."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from urllib.parse import parse_qs

from mdmd.interfaces.fleet import Event
from mdmd.mdm.enrollment import EnrollmentID

Json = dict[str, object]

_OF_A_UDID = {"Device", "User", "Shared iPad"}


def message(event: Event) -> bytes:
    """
    Spell an event in JSON.

    ``mdm.Connect`` has an ``acknowledge_event``, the other ``mdm.`` topics a
    ``checkin_event``, mdmd's own an ``mdmd_event`` with the facts. Beyond
    NanoMDM's, ``sequence`` is the event's id in the stream: it grows, ``GET
    /v1/events?after=`` takes it, and a repeated delivery has the same one.

    Source: NanoMDM's service/webhook/event.json.
    """
    told: Json = {
        "topic": event.topic,
        "event_id": event_id(event.id),
        "created_at": created_at(event.id),
        "sequence": event.id,
    }
    if event.topic == "mdm.Connect":
        told["acknowledge_event"] = _acknowledge(event)
    elif event.topic.startswith("mdm."):
        told["checkin_event"] = _checkin(event)
    else:
        about = {"id": event.enrollment} if event.enrollment else {}
        told["mdmd_event"] = {**about, **event.facts}
    return json.dumps(told, ensure_ascii=False).encode("utf-8", "replace")


def event_id(at: str) -> str:
    """Make 16 hex digits of a stream id, as NanoMDM's trace ids have."""
    milliseconds, _, nth = at.partition("-")
    return f"{int(milliseconds):012x}{int(nth or 0) & 0xFFFF:04x}"


def created_at(at: str) -> str:
    """Spell the time in a stream id as RFC 3339 with the fraction that is known."""
    milliseconds = int(at.partition("-")[0])
    whole = datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{milliseconds % 1000:03}Z"


def signature(key: bytes, body: bytes) -> str:
    """Make the value of X-Hmac-Signature: base64 of HMAC-SHA256."""
    return base64.b64encode(hmac.digest(key, body, hashlib.sha256)).decode()


def _checkin(event: Event) -> Json:
    told = _who(event)
    told["raw_payload"] = base64.b64encode(event.raw).decode()
    if event.topic == "mdm.TokenUpdate" and event.facts.get("tally"):
        told["token_update_tally"] = int(event.facts["tally"])
    return told


def _acknowledge(event: Event) -> Json:
    told = _who(event)
    told["status"] = event.facts.get("status", "")
    if event.facts.get("command_uuid"):
        told["command_uuid"] = event.facts["command_uuid"]
    told["raw_payload"] = base64.b64encode(event.raw).decode()
    return told


def _who(event: Event) -> Json:
    one = EnrollmentID.parse(event.enrollment)
    kind = event.facts.get("type") or one.type.value
    ids: Json = {"id": event.enrollment, "type": kind}
    if one.parent is not None:
        ids["parent_id"] = one.parent
    told: Json = {("udid" if kind in _OF_A_UDID else "enrollment_id"): one.device, "ids": ids}
    if event.facts.get("query"):
        values = parse_qs(event.facts["query"], keep_blank_values=True)
        told["url_params"] = {name: first for name, (first, *_) in values.items()}
    return told
