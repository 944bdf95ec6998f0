"""
What NanoMDM keeps with ``-storage file``, its older file store: a folder for each enrollment.

Source: NanoMDM, storage/file.
"""

from collections import defaultdict
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


class FileStore:
    """A folder with a folder for each enrollment."""

    def __init__(self, path: Path, now: int) -> None:
        self._path = path
        self._now = now
        self._commands_told: set[str] = set()

    def records(self) -> Iterator[Record | Faulty]:
        for pem in sorted(self._path.glob("*.pem")):
            yield tried(pem.name, _push_certificate, pem)
        folders = sorted(each for each in self._path.iterdir() if each.is_dir())
        devices = {each.name: each for each in folders if (each / "Authenticate.plist").exists()}
        users: dict[str, list[Path]] = defaultdict(list)
        for each in folders:
            device, colon, _ = each.name.partition(":")
            if colon:
                users[device].append(each)
        for folder in [*devices.values(), *(one for some in users.values() for one in some)]:
            yield from self._commands(folder)
        for name, folder in devices.items():
            yield tried(name, self._device, folder, users[name])
        for name in sorted(set(users) - set(devices)):
            yield Faulty(name, "there is no Authenticate.plist of the device")

    def _commands(self, folder: Path) -> Iterator[Record | Faulty]:
        for path in _waiting(folder):
            record = tried(f"{folder.name} {path.name}", _command, path)
            if isinstance(record, Faulty):
                yield record
            elif record["uuid"] not in self._commands_told:
                self._commands_told.add(record["uuid"])
                yield record

    def _device(self, folder: Path, users: list[Path]) -> Record:
        device = Device(folder.name, {"": self._channel(folder, "", "Device")})
        device.take_authenticate((folder / "Authenticate.plist").read_bytes())
        device.unlock_token = _file(folder / "UnlockToken.dat")
        device.bootstrap_token = _file(folder / "BootstrapToken.dat")
        if certificate := _file(folder / "Identity.pem"):
            device.take_certificate(certificate)
        # The newest association counts, whatever certificate came with the enrollment.
        associated = (
            _file(folder / "CertAuth.sha256.txt").decode("ascii", "replace").strip().lower()
        )
        if associated and associated != device.pin:
            device.pin, device.ends = associated, 0
        for each in users:
            channel = each.name.partition(":")[2]
            device.channels[channel] = self._channel(each, channel, "User")
        return device.record(count(1), self._now)

    def _channel(self, folder: Path, name: str, kind: str) -> Channel:
        channel = Channel(name, kind, enabled=not (folder / "Disabled").exists())
        update = _file(folder / "TokenUpdate.plist")
        if update:
            channel.take_token_update(update)
            channel.seen = channel.enrolled = _changed(folder / "TokenUpdate.plist")
        else:
            channel.enabled = False
            channel.seen = channel.enrolled = _changed(folder / "Authenticate.plist")
        if (tally := _file(folder / "TokenUpdate.tally.txt").strip()).isdigit():
            channel.tally = int(tally)
        for path in _waiting(folder):
            uuid = path.name.removesuffix(".plist")
            if uuid in self._commands_told:
                channel.queue.append((uuid, path.parent.name == "QueueNotNow"))
        return channel


def _push_certificate(pem: Path) -> Record:
    return push_certificate_record(pem.read_bytes(), _file(pem.with_suffix(".key")))


def _command(path: Path) -> Record:
    return command_record(path.read_bytes())


def _waiting(folder: Path) -> list[Path]:
    """Give a queue's commands in their order: in the file store that is by name."""
    found = []
    for name in ("QueueNotNow", "Queue"):
        each = folder / name
        if each.is_dir():
            found += sorted(p for p in each.glob("*.plist") if not p.name.endswith(".result.plist"))
    return found


def _file(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _changed(path: Path) -> int:
    """Say when a file was written, milliseconds; 0 if it is not there."""
    return int(path.stat().st_mtime * 1000) if path.exists() else 0
