"""Records as the API spells them in JSON: times in RFC 3339, bytes in base64, no secrets."""

import base64
from datetime import UTC, datetime

from mdmd.interfaces.fleet import EnrollmentRecord, Event, QueuedCommand, Result

Json = dict[str, object]


def seconds(moment: int) -> str:
    """Spell seconds since the epoch."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def milliseconds(moment: int | None) -> str | None:
    """Spell milliseconds since the epoch, None as it is."""
    if moment is None:
        return None
    whole, rest = divmod(moment, 1000)
    return f"{seconds(whole)[:-1]}.{rest:03}Z"


def enrollment(record: EnrollmentRecord) -> Json:
    """Tell an enrollment."""
    who = record.enrollment
    told: Json = {"id": str(who), "type": who.type.value}
    if who.parent is not None:
        told["parent_id"] = who.parent
    return {
        **told,
        "enabled": record.enabled,
        "tally": record.tally,
        "generation": record.generation,
        "topic": record.topic,
        "facts": record.facts,
        "enrolled_at": milliseconds(record.enrolled_at),
        "last_seen": milliseconds(record.last_seen),
        "awaiting_configuration": record.awaiting_configuration,
        "certificate_sha256": record.pin,
        "pending": record.pending,
        "has_token": record.has_token,
        "has_unlock_token": record.has_unlock_token,
        "has_bootstrap_token": record.has_bootstrap_token,
        "next_push": milliseconds(record.next_push),
        "last_push": milliseconds(record.last_push),
        "last_push_result": record.last_push_result,
        **({"unreadable": True} if record.unreadable else {}),
    }


def queued(command: QueuedCommand) -> Json:
    """Tell a command in a queue."""
    return {
        "command_uuid": command.uuid,
        "request_type": command.request_type,
        "state": command.state,
        "priority": command.priority,
        "sequence": command.sequence,
        "queued_at": milliseconds(command.queued_at),
        "attempts": command.attempts,
        "last_sent": milliseconds(command.last_sent),
        "not_now_count": command.not_now_count,
        "first_not_now": milliseconds(command.first_not_now),
        "last_not_now": milliseconds(command.last_not_now),
        "expires": milliseconds(command.expires),
        "max_attempts": command.max_attempts,
    }


def result(one: Result) -> Json:
    """Tell a result, with the whole report as it came."""
    return {
        "command_uuid": one.uuid,
        "request_type": one.request_type,
        "status": one.status,
        "error": one.error,
        "received_at": milliseconds(one.received_at),
        "queued_at": milliseconds(one.queued_at),
        "attempts": one.attempts,
        "raw_payload": base64.b64encode(one.raw).decode(),
    }


def event(one: Event, raw: bool) -> Json:
    """Tell an event; its message only if asked for, because that may have tokens in it."""
    told: Json = {
        "event_id": one.id,
        "topic": one.topic,
        "enrollment": one.enrollment,
        "facts": one.facts,
    }
    if raw:
        told["raw_payload"] = base64.b64encode(one.raw).decode()
    if one.damaged:
        told["damaged"] = True
    return told
