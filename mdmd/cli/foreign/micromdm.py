"""
What MicroMDM keeps, as JSON lines: a device a line, with the names of its own JSON.

Needed are ``udid``, ``token`` and ``push_magic``; ``mdm_topic`` may be in the line,
in one of another bucket with the same ``udid``, or be given for all. ``cert_hash``
(of its udid-cert-auth bucket) becomes the pin.

Source: MicroMDM, platform/device/device.go, platform/apns.
"""

import base64
import json
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from mdmd.cli.foreign.building import Channel, Device, Faulty, Record, tried
from mdmd.errors import BadRequest

_FACTS = {
    "serial_number": "SerialNumber",
    "model": "Model",
    "model_name": "ModelName",
    "device_name": "DeviceName",
    "os_version": "OSVersion",
    "build_version": "BuildVersion",
    "product_name": "ProductName",
    "imei": "IMEI",
    "meid": "MEID",
}


def read_micromdm(path: Path, now: int, topic: str = "") -> Iterator[Record | Faulty]:
    """
    Give every device as a record, after the lines that are of none.

    :param topic: the push topic of devices whose lines name none.
    :raises BadRequest: no line is of a device.
    """
    devices: dict[str, dict[str, Any]] = {}
    faulty: list[Faulty] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            udid = fields["udid"]
        except (ValueError, KeyError, TypeError, RecursionError):
            faulty.append(Faulty(f"line {number}", "expected a JSON object with a udid"))
            continue
        devices.setdefault(str(udid), {}).update(
            {name: value for name, value in fields.items() if value not in ("", None)}
        )
    if not devices:
        first = faulty[0] if faulty else Faulty("the file", "it is empty")
        raise BadRequest(f"{first.what}: {first.why}")
    yield from faulty
    sequence = count(1)
    for udid, fields in devices.items():
        yield tried(udid, _record, udid, fields, topic, sequence, now)


def _record(
    udid: str, fields: dict[str, Any], topic: str, sequence: Iterator[int], now: int
) -> Record:
    return _device(udid, fields, topic).record(sequence, now)


def _device(udid: str, fields: dict[str, Any], topic: str) -> Device:
    channel = Channel("", "Device", str(fields.get("mdm_topic", topic)))
    channel.token = _data(fields, "token")
    channel.magic = str(fields.get("push_magic", ""))
    channel.enabled = bool(fields.get("enrolled")) and bool(channel.token)
    channel.awaiting = bool(fields.get("awaiting_configuration"))
    channel.seen = channel.enrolled = _time(fields.get("last_seen"))
    channel.facts = {
        fact: str(fields[name])[:255] for name, fact in _FACTS.items() if fields.get(name)
    }
    if channel.enabled and not channel.topic:
        raise BadRequest("no mdm_topic is in its lines, and --topic was not given")
    device = Device(udid, {"": channel}, _data(fields, "unlock_token"))
    device.bootstrap_token = _data(fields, "bootstrap_token")
    device.pin = _data(fields, "cert_hash").hex()
    return device


def _data(fields: dict[str, Any], name: str) -> bytes:
    """Read bytes, which MicroMDM writes in hexadecimal, or base64."""
    text = str(fields.get(name, ""))
    try:
        return bytes.fromhex(text)
    except ValueError:
        pass
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise BadRequest(f"{name} is neither hexadecimal nor base64") from None


def _time(value: Any) -> int:
    try:
        return max(0, int(datetime.fromisoformat(str(value)).timestamp() * 1000))
    except (ValueError, OverflowError):
        return 0
