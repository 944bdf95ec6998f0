"""
The one place of key names and encodings; docs/store.md describes each key.

All of a device is under ``mdmd:{UDID}:``, so that it lives in one slot of a
cluster. Where a device and its user channels have a key each, the channel's
ends with ``:channel``: a script makes it by adding that to the device's.
"""

import re
import zlib
from hashlib import sha256

from mdmd.mdm.enrollment import EnrollmentID, EnrollmentType

EVENTS = b"mdmd:events"
AUDIT = b"mdmd:audit"
AUDIT_ENDED = b"mdmd:audit:ended"
IDS = b"mdmd:ids"
TOPICS = b"mdmd:topics"
SEQUENCE = b"mdmd:sequence"
TOTALS = b"mdmd:totals"
COMMANDS = b"mdmd:command:"
SERIALS = b"mdmd:serial:"
SERIAL_ORDER = b"mdmd:serials"  # all of them, to complete one that is being typed
CERTIFICATES = b"mdmd:pushcerts"
EXPIRY_WARNINGS = b"mdmd:pushcert-warnings"
GROUPS = b"mdmd:groups"
REFRESH = b"mdmd:refresh"
LIMITS = b"mdmd:limits"
ISSUED = b"mdmd:issued"
REGISTRATION = b"mdmd:registration"
SEALED = b"mdmd:sealed"
# What is around an id in the name of a device's record, for scripts that learn the id late.
RECORD = (b"mdmd:{", b"}:e")
WORK_SHARDS = 16
WORK = tuple(b"mdmd:work:%d" % shard for shard in range(WORK_SHARDS))
RENEWALS = tuple(b"mdmd:renewals:%d" % shard for shard in range(WORK_SHARDS))

# A score in a queue: band, then place, which is priority class, then sequence; of those that wait
# for their time it is the band, then the time, and the place is kept with the command.
PRIORITY_STEP = 2**44
NOT_NOW = 2**48
PARKED = 2**49
LATER = 2**50
FIRST_MOMENT = 10**12  # ms since the epoch, in 2001; no sequence number gets as high
LAST_MOMENT = PRIORITY_STEP - 1  # ms since the epoch, in 2527


def device_key(enrollment: EnrollmentID, name: str) -> bytes:
    """Name a key of the device, whichever of its channels is meant."""
    return f"mdmd:{{{enrollment.device}}}:{name}".encode()


def channel_key(enrollment: EnrollmentID, name: str) -> bytes:
    """Name a key that each channel has of its own."""
    if enrollment.channel:
        return f"mdmd:{{{enrollment.device}}}:{name}:{enrollment.channel}".encode()
    return f"mdmd:{{{enrollment.device}}}:{name}".encode()


def device_record(enrollment: EnrollmentID) -> bytes:
    """The hash of the device's own enrollment, which has the pin."""
    return device_key(enrollment, "e")


def record(enrollment: EnrollmentID) -> bytes:
    """The hash of this enrollment."""
    return channel_key(enrollment, "e")


def queue(enrollment: EnrollmentID) -> bytes:
    """The sorted set of packed CommandUUIDs."""
    return channel_key(enrollment, "q")


def sent(enrollment: EnrollmentID) -> bytes:
    """The hash of what was sent: packed CommandUUID to its deliveries."""
    return channel_key(enrollment, "s")


def kinds(enrollment: EnrollmentID) -> bytes:
    """The hash of the newest command of each kind of which only one is pending."""
    return channel_key(enrollment, "k")


def results(enrollment: EnrollmentID) -> bytes:
    """The list of results, newest first."""
    return channel_key(enrollment, "r")


def ended(enrollment: EnrollmentID) -> bytes:
    """The queue of a past generation, while it is moved into the results."""
    return channel_key(enrollment, "x")


def ended_sent(enrollment: EnrollmentID) -> bytes:
    """The deliveries of a past generation, as long."""
    return channel_key(enrollment, "xs")


def facts(enrollment: EnrollmentID) -> bytes:
    """The hash of what is known of the hardware."""
    return channel_key(enrollment, "f")


def push(enrollment: EnrollmentID) -> bytes:
    """The sealed push token and magic."""
    return channel_key(enrollment, "p")


def channels(enrollment: EnrollmentID) -> bytes:
    """The hash of the device's user channels: channel to type."""
    return device_key(enrollment, "channels")


def inventory(enrollment: EnrollmentID) -> bytes:
    """The hash of what the device told of itself: field to time and value."""
    return channel_key(enrollment, "i")


def history(enrollment: EnrollmentID) -> bytes:
    """The list of changes of the inventory, newest first."""
    return channel_key(enrollment, "h")


def notes(enrollment: EnrollmentID) -> bytes:
    """The hash of the device's free fields."""
    return device_key(enrollment, "notes")


def pins(enrollment: EnrollmentID) -> bytes:
    """The list of sealed PINs that were sent, newest first."""
    return device_key(enrollment, "pins")


def unlock(enrollment: EnrollmentID) -> bytes:
    """The sealed unlock token."""
    return device_key(enrollment, "unlock")


def bootstrap(enrollment: EnrollmentID) -> bytes:
    """The sealed bootstrap token."""
    return device_key(enrollment, "bootstrap")


def archive(enrollment: EnrollmentID) -> bytes:
    """The hash of the last generation's sealed tokens."""
    return device_key(enrollment, "archive")


def pin(fingerprint: str) -> bytes:
    """Whose certificate this is."""
    return b"mdmd:pin:" + fingerprint.encode()


def identity(fingerprint: str) -> bytes:
    """The hash of a certificate that the device CA issued."""
    return b"mdmd:identity:" + from_hex(fingerprint)


def identity_serial(number: str) -> bytes:
    """The fingerprint of the certificate with this serial number."""
    return b"mdmd:idserial:" + from_hex(number.zfill(len(number) + len(number) % 2))


def challenge(secret: str) -> bytes:
    """The hash of a one-time challenge; its name is a digest, so the store can't give it away."""
    return b"mdmd:challenge:" + sha256(secret.encode()).hexdigest().encode()


def link(secret: str) -> bytes:
    """The hash of a one-time link to the enrollment profile, named likewise."""
    return b"mdmd:link:" + sha256(secret.encode()).hexdigest().encode()


def renewals(enrollment: EnrollmentID) -> bytes:
    """The shard of those whose identity is to be renewed, by the time of the next step (ms)."""
    return RENEWALS[zlib.crc32(enrollment.device.encode()) % WORK_SHARDS]


def serial(number: str) -> bytes:
    """Which device has this serial number."""
    return SERIALS + number.encode()


def command(uuid: str) -> bytes:
    """The hash of a command: its body, stored once."""
    return COMMANDS + pack(uuid)


def group(name: str) -> bytes:
    """The set of a group's members."""
    return b"mdmd:group:" + name.encode()


def lease(name: str) -> bytes:
    """Who follows the event stream for this."""
    return b"mdmd:follow:" + name.encode() + b":lease"


def place(name: str) -> bytes:
    """The id of the last event that was dealt with for this."""
    return b"mdmd:follow:" + name.encode() + b":place"


def certificate(topic: str) -> bytes:
    """The hash of a topic's push certificate."""
    return b"mdmd:pushcert:" + topic.encode()


def sender(target: str) -> bytes:
    """Which daemon sends to a webhook's target; ends by itself."""
    return f"mdmd:webhook:{target}:sender".encode()


def asked_wait(target: str) -> bytes:
    """That a webhook's target asked to be left alone; ends with the time it asked for."""
    return f"mdmd:webhook:{target}:wait".encode()


def dead_letters(target: str) -> bytes:
    """The stream of what a webhook's target never took."""
    return f"mdmd:webhook:{target}:dead".encode()


def work(enrollment: EnrollmentID) -> bytes:
    """The shard of the push work set, the same for all channels of a device."""
    return WORK[zlib.crc32(enrollment.device.encode()) % WORK_SHARDS]


def of_connect(enrollment: EnrollmentID) -> tuple[str, str, str, str, str, bytes]:
    """Name device, record, queue, sent, results and work shard at once: each request asks."""
    device, channel = enrollment.device, enrollment.channel
    base = f"mdmd:{{{device}}}:"
    end = f":{channel}" if channel else ""
    shard = WORK[zlib.crc32(device.encode()) % WORK_SHARDS]
    return f"{base}e", f"{base}e{end}", f"{base}q{end}", f"{base}s{end}", f"{base}r{end}", shard


def of_target(enrollment: EnrollmentID) -> tuple[str, str, bytes]:
    """Name record, queue and work shard at once: an enqueue asks for those of a million."""
    device, channel = enrollment.device, enrollment.channel
    end = f":{channel}" if channel else ""
    shard = WORK[zlib.crc32(device.encode()) % WORK_SHARDS]
    return f"mdmd:{{{device}}}:e{end}", f"mdmd:{{{device}}}:q{end}", shard


def place_in_queue(score: float, not_before: int | None, kept: int | None) -> int:
    """
    Say the place of a command that has this score in a queue.

    :param not_before: of the command, ms since the epoch.
    :param kept: its place as it is kept with the command. One that an older
        daemon queued for later has its place in its score.
    """
    if score >= LATER and kept is not None and score - LATER == not_before:
        return kept
    return int(score) % NOT_NOW


# -- encodings -----------------------------------------------------------------

_UUID = r"{0}{{8}}-{0}{{4}}-{0}{{4}}-{0}{{4}}-{0}{{12}}"
_UPPER = re.compile(_UUID.format("[0-9A-F]"), re.ASCII)
_LOWER = re.compile(_UUID.format("[0-9a-f]"), re.ASCII)
_UDID = re.compile(r"[0-9A-F]{8}-[0-9A-F]{16}", re.ASCII)  # since the A12 chip


def pack(text: str) -> bytes:
    """
    Shorten UUIDs and UDIDs: a tag of 1 to 3, then the bytes their digits stand for.

    Anything else is its UTF-8; being printable it never begins with a tag.
    """
    size = len(text)
    if size == 36:
        if _UPPER.fullmatch(text):
            return b"\x01" + bytes.fromhex(text.replace("-", ""))
        if _LOWER.fullmatch(text):
            return b"\x02" + bytes.fromhex(text.replace("-", ""))
    elif size == 25 and _UDID.fullmatch(text):
        return b"\x03" + bytes.fromhex(text.replace("-", ""))
    return text.encode()


def unpack(packed: bytes) -> str:
    """Undo :func:`pack`."""
    return _unpack(packed)[0]


def _unpack(packed: bytes) -> tuple[str, bytes]:
    """Read a packed text at the beginning; what follows it comes back too."""
    tag = packed[:1]
    if tag in (b"\x01", b"\x02"):
        digits = packed[1:17].hex()
        text = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
        return (text.upper() if tag == b"\x01" else text), packed[17:]
    if tag == b"\x03":
        digits = packed[1:13].hex().upper()
        return f"{digits[:8]}-{digits[8:]}", packed[13:]
    return packed.decode(), b""


def from_hex(digits: str) -> bytes:
    """Halve a fingerprint or serial number; what is none stays its text."""
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return digits.encode()


def member(enrollment: EnrollmentID) -> bytes:
    """Spell an enrollment in the work set: the packed device, and ``:channel``."""
    packed = pack(enrollment.device)
    return packed + b":" + enrollment.channel.encode() if enrollment.channel else packed


def read_member(packed: bytes) -> EnrollmentID:
    """Undo :func:`member`; the type comes out as Device or User."""
    if packed[:1] in (b"\x01", b"\x02", b"\x03"):
        device, rest = _unpack(packed)
        channel = rest[1:].decode()
    else:
        device, _, channel = packed.decode().partition(":")
    kind = EnrollmentType.USER if channel else EnrollmentType.DEVICE
    return EnrollmentID(device, channel, kind)


def payload_place(enrollment: EnrollmentID) -> bytes:
    """Say for where messages of this enrollment are sealed: its events and its results."""
    return b"message of " + str(enrollment).encode()
