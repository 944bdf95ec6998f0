"""
What NanoMDM keeps with ``-storage filekv``, its default: keys and values, a file each.

Source: NanoMDM, storage/kv and storage/diskv.
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

from mdmd.cli.foreign.building import (
    Channel,
    Device,
    Faulty,
    Record,
    command_record,
    push_certificate_record,
    tried,
)

_USER = ".user_ch."  # between a device and a user of it
_MILLISECOND = 1000  # microseconds, as its times are


def is_filekv(path: Path) -> bool:
    """Say whether a folder is one of these."""
    return (path / "devices").is_dir() and (path / "enrollments").is_dir()


class _Bucket:
    """Keys and values; what else lies in the folder has other names, and is passed over."""

    def __init__(self, path: Path) -> None:
        self._files = {each.name: each for each in sorted(path.rglob("*")) if each.is_file()}

    def get(self, *parts: str) -> bytes:
        """Give the value of a key; b"" if there is none."""
        file = self._files.get(".".join(parts))
        return b"" if file is None else file.read_bytes()

    def text(self, *parts: str) -> str:
        """Give a value that is text."""
        return self.get(*parts).decode("utf-8", "replace").strip()

    def number(self, *parts: str) -> int:
        """Give a value that is a number; 0 if it is none."""
        text = self.text(*parts)
        return int(text) if text.isdecimal() else 0

    def ending(self, end: str) -> list[str]:
        """Give the beginnings of the keys that end so."""
        return [each.removesuffix(end) for each in self._files if each.endswith(end)]

    def beginning(self, begin: str) -> list[str]:
        """Give the ends of the keys that begin so."""
        return [each.removeprefix(begin) for each in self._files if each.startswith(begin)]


class FileKV:
    """
    A folder with a folder for each bucket.

    :param now: milliseconds since the epoch, where NanoMDM has no time.
    """

    def __init__(self, path: Path, now: int) -> None:
        self._now = now
        self._devices = _Bucket(path / "devices")
        self._users = _Bucket(path / "users")
        self._enrollments = _Bucket(path / "enrollments")
        self._pins = _Bucket(path / "cert_auth")
        self._queue = _Bucket(path / "queue")
        self._push = _Bucket(path / "push_cert")
        self._commands_told: set[str] = set()

    def records(self) -> Iterator[Record | Faulty]:
        """Give push certificates, commands that wait, devices."""
        for topic in self._push.ending(".pem"):
            yield tried(topic, self._push_certificate, topic)
        devices = self._devices.ending(".auth")
        for id in devices:
            for each in (id, *self._enrollments.beginning(f"{id}{_USER}")):
                yield from self._commands(each)
        for id in devices:
            yield tried(id, self._device, id)

    def _push_certificate(self, topic: str) -> Record:
        return push_certificate_record(self._push.get(topic, "pem"), self._push.get(topic, "key"))

    def _waiting(self, id: str) -> Iterator[tuple[str, bool]]:
        """Give what waits, in order, and whether it was NotNow'd; a list that is linked."""
        seen: set[str] = set()
        uuid = self._queue.text(id, "queuekey.queue.first")
        while uuid and uuid not in seen:
            seen.add(uuid)
            yield uuid, self._queue.text(id, uuid, "queueitem.status") == "NotNow"
            uuid = self._queue.text(id, uuid, "queueitem.next")

    def _commands(self, id: str) -> Iterator[Record | Faulty]:
        for uuid, _ in self._waiting(id):
            if uuid in self._commands_told:
                continue
            record = tried(f"{id} {uuid}", command_record, self._queue.get(uuid, "raw"))
            if not isinstance(record, Faulty):
                self._commands_told.add(uuid)
            yield record

    def _device(self, id: str) -> Record:
        device = Device(id, {"": self._channel(id, "", self._devices.get(id, "tok_upd"))})
        device.take_authenticate(self._devices.get(id, "auth"))
        device.unlock_token = self._enrollments.get(id, "unl_tok")
        device.bootstrap_token = self._devices.get(id, "bstoken")
        if certificate := self._devices.get(id, "cert"):
            device.take_certificate(certificate)
        # The newest association counts, whatever certificate came with the enrollment.
        associated = self._pins.text(id, "cert_hash").lower()
        if associated and associated != device.pin:
            device.pin, device.ends = associated, 0
        for user in self._enrollments.beginning(f"{id}{_USER}"):
            name = user.removeprefix(f"{id}:")
            device.channels[name] = self._channel(user, name, self._users.get(user, "tok_upd"))
        return device.record(count(1), self._now)

    def _channel(self, id: str, name: str, update: bytes) -> Channel:
        known = self._enrollments
        channel = Channel(
            name,
            known.text(id, "type") or "Device",
            known.text(id, "topic"),
            known.get(id, "token"),
            known.text(id, "push_magic"),
            bool(update) and not known.get(id, "disabled"),
            known.number(id, "tok_tal") or 1,
            known.number(id, "last_seen_at") // _MILLISECOND,
            known.number(id, "enrolled_at") // _MILLISECOND,
        )
        if update:
            channel.take_token_update(update)
        channel.queue = [each for each in self._waiting(id) if each[0] in self._commands_told]
        return channel
