"""Values of mdmd as plain data for the wire; what each field means is in docs/pb.md."""

from typing import Any

import attrs

from mdmd.flow.enqueue import Reply, TargetReply
from mdmd.interfaces.audit import AuditEntry
from mdmd.interfaces.fleet import EnrollmentRecord, Event, QueuedCommand, Result
from mdmd.mdm.answers.decode import SECRETS
from mdmd.mdm.catalogue.load import entry

Record = dict[str, Any]

_SECRETS = tuple(name.encode() for name in SECRETS)


def enrollment(record: EnrollmentRecord) -> Record:
    """All that is known of an enrollment but its secrets."""
    fields = attrs.asdict(record, recurse=False)
    fields.pop("enrollment")
    return {
        "id": str(record.enrollment),
        "type": record.enrollment.type.value,
        "device": record.enrollment.device,
        **fields,
        "facts": dict(record.facts),
    }


def queued(command: QueuedCommand) -> Record:
    """One line of a queue."""
    return attrs.asdict(command)


def is_secret(value: Result) -> bool:
    """Say whether a secret can be in the report; of what is not in the catalogue nobody knows."""
    found = entry(value.request_type)
    # A Mac gives its escrowed key in any SecurityInfo, old devices their unlock token in any
    # DeviceInformation that asks for it.
    told = found is None or found.secret_answer or any(name in value.raw for name in _SECRETS)
    return bool(value.raw) and told


def result(value: Result, raw: bool) -> Record:
    """One result; the report itself only if asked for, it can be large."""
    fields = attrs.asdict(value)
    report = fields.pop("raw")
    about = {"size": len(report), "secret": is_secret(value)}
    return {**fields, **about, **({"raw": report} if raw else {})}


def event(value: Event, raw: bool) -> Record:
    """One event; the message itself only if asked for."""
    fields = attrs.asdict(value)
    message = fields.pop("raw")
    return {**fields, "size": len(message), **({"raw": message} if raw else {})}


def reply(value: Reply) -> Record:
    """What became of a send or a push, by id; of each only the words that say something."""
    fields = attrs.asdict(value, recurse=False)
    return {**fields, "status": {id: _words(each) for id, each in value.status.items()}}


def _words(value: TargetReply) -> Record:
    return {name: text for name, text in attrs.asdict(value).items() if text} if value.told else {}


def audit_entry(value: AuditEntry) -> Record:
    """One line of the audit."""
    return {**attrs.asdict(value), "enrollments": list(value.enrollments)}
