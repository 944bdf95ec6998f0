"""Records as mdmd moves them, made of what other servers keep; docs/moving.md."""

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import attrs

from mdmd.errors import MdmdError
from mdmd.mdm.checkin import Authenticate, TokenUpdate, decode_checkin
from mdmd.mdm.command import decode_command

Record = dict[str, Any]

# A place in a queue, as docs/moving.md says: the class, then the sequence; a NotNow'd one apart.
_NORMAL = 4 * 2**44
_NOT_NOW = 2**48


@attrs.frozen
class Faulty:
    """What another server kept of something, and why it can't be used."""

    what: str
    why: str


@attrs.define
class Channel:
    """One enrollment of a device; ``name`` is "" for the device's own."""

    name: str
    type: str
    topic: str = ""
    token: bytes = attrs.field(default=b"", repr=False)
    magic: str = attrs.field(default="", repr=False)
    enabled: bool = True
    tally: int = 1
    seen: int = 0  # milliseconds
    enrolled: int = 0
    awaiting: bool = False
    user: str = ""
    facts: dict[str, str] = attrs.field(factory=dict)
    queue: list[tuple[str, bool]] = attrs.field(factory=list)  # CommandUUID, and whether NotNow'd

    def record(self, sequence: Iterator[int], now: int) -> Record:
        """Write it; its queue takes the next numbers of ``sequence``."""
        seen = str(self.seen or now)
        record = {
            "type": self.type,
            "enabled": str(int(self.enabled)),
            "tally": str(self.tally if self.enabled else 0),
            "generation": "1",
            "topic": self.topic,
            "seen": seen,
            "enrolled": str(self.enrolled or now),
            "awaiting": str(int(self.awaiting)),
            "pushes": "0",
        }
        if self.name:
            record["user"] = self.user
        parts: Record = {"record": record, "facts": self.facts}
        if self.token:
            parts["push"] = {"token": self.token, "magic": self.magic}
        places = [(uuid, next(sequence), not_now) for uuid, not_now in self.queue]
        parts["queue"] = [
            [uuid, _NORMAL + place + (_NOT_NOW if not_now else 0), _delivery(not_now, seen)]
            for uuid, place, not_now in sorted(places, key=lambda each: (each[2], each[1]))
        ]
        if self.enabled and places:
            parts["push_due"] = 0  # soon, but not at once
        return {name: value for name, value in parts.items() if value or name == "push_due"}

    def take_token_update(self, raw: bytes) -> None:
        """
        Fill in what a TokenUpdate says.

        :raises MdmdError: it is none.
        """
        message = decode_checkin(raw)
        if isinstance(message, TokenUpdate):
            self.type = message.enrollment.type.value
            self.topic = self.topic or message.topic
            self.token = self.token or message.token
            self.magic = self.magic or message.push_magic
            self.awaiting = message.awaiting_configuration
            self.user = message.user_short_name


def _delivery(not_now: bool, seen: str) -> str | None:
    # attempts, last sent, NotNow's count, first and last NotNow, state
    return f"1 {seen} 1 {seen} {seen} notnow" if not_now else None


@attrs.define
class Device:
    """A device with its channels."""

    id: str
    channels: dict[str, Channel] = attrs.field(factory=dict)
    unlock_token: bytes = attrs.field(default=b"", repr=False)
    bootstrap_token: bytes = attrs.field(default=b"", repr=False)
    pin: str = ""  # SHA-256 of its certificate; "": the first that it shows will be it
    ends: int = 0  # when that certificate ends (s)

    def record(self, sequence: Iterator[int], now: int) -> Record:
        """Write it."""
        channels = {
            name: each.record(sequence, now) for name, each in sorted(self.channels.items())
        }
        own = channels[""]["record"]
        if self.pin:
            own["pin"] = self.pin
            if self.ends:
                own["ends"] = str(self.ends)
        else:
            own["migrated"] = "1"
        record: Record = {"kind": "device", "id": self.id, "channels": channels}
        record["types"] = {name: each.type for name, each in self.channels.items() if name}
        record["unlock_token"] = self.unlock_token
        record["bootstrap_token"] = self.bootstrap_token
        return {name: value for name, value in record.items() if value}

    def take_authenticate(self, raw: bytes) -> None:
        """
        Fill in what an Authenticate says.

        :raises MdmdError: it is none.
        """
        message = decode_checkin(raw)
        if isinstance(message, Authenticate):
            self.channels[""].facts |= message.facts
            self.channels[""].type = message.enrollment.type.value
            self.channels[""].topic = self.channels[""].topic or message.topic

    def take_certificate(self, pem: bytes) -> None:
        """
        Pin a certificate.

        :raises MdmdError: it can't be read.
        """
        from mdmd.pki.certificates import certificate_der, load_certificate

        certificate = load_certificate(pem)
        self.pin = sha256(certificate_der(certificate)).hexdigest()
        self.ends = int(certificate.not_valid_after_utc.timestamp())


def command_record(raw: bytes) -> Record:
    """
    Write a command.

    :raises MdmdError: it is none.
    """
    command = decode_command(raw)
    return {
        "kind": "command",
        "uuid": command.uuid,
        "type": command.request_type,
        "body": command.raw,
    }


def push_certificate_record(certificate: bytes, key: bytes) -> Record:
    """
    Write a push certificate.

    :raises MdmdError: the two can't be read, or are no pair.
    """
    from mdmd.pki.pushcert import read_push_certificate

    pair = read_push_certificate(certificate + b"\n" + key)
    return {
        "kind": "push_certificate",
        "topic": pair.topic,
        "certificate": pair.certificate_pem.decode(),
        "key": pair.key_pem,
        "not_after": pair.not_after,
    }


def tried(what: str, make: Callable[..., Record], *arguments: Any) -> Record | Faulty:
    """Make a record, or say why it can't be."""
    try:
        return make(*arguments)
    except (MdmdError, OSError) as error:
        return Faulty(what, str(error))
