"""
The play of ``mdmctl demo``: a real daemon, and around it everything that is usually
far away: devices, and Apple's push service.
"""

import argparse
import json
import os
import random
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout

from mdmd.cli.init import make_state
from mdmd.cli.running import run
from mdmd.cli.stage import (
    DaemonProcess,
    Stage,
    StepFailed,
    end_orphan,
    fold,
    program,
    run_program,
    shown,
    table,
)
from mdmd.mdm.plist import loads
from mdmd.sim.apns import Push
from mdmd.sim.device import Device, fetch_profile
from mdmd.sim.hardware import make_hardware
from mdmd.sim.standin import StandIn
from mdmd.sim.wire import Wire

QUERIES = ["DeviceName", "ModelName", "ProductName", "OSVersion", "BuildVersion", "SerialNumber"]
TOPIC = "com.apple.mgmt.External.7faed215-0000-4618-a210-000000000000"
_MARK = ".mdmd-demo"  # in a state folder that a demo made
_UNKNOWN_HOST = ("UserKnownHostsFile=/dev/null", "StrictHostKeyChecking=no")
_KINDS = {"mac": "Mac", "iphone": "iPhone"}


def perform(args: argparse.Namespace) -> int:
    """Play it; return the exit status."""

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    return run("mdmctl demo", lambda reactor: _Play(reactor, args, Stage(write)).perform())


class _Play:
    """One demo, from the empty folder to the last process gone."""

    def __init__(self, reactor: Any, args: argparse.Namespace, stage: Stage) -> None:
        self._reactor = reactor
        self._args = args
        self._stage = stage
        self._stack = AsyncExitStack()
        self._devices: dict[str, Device] = {}
        self._pushed: set[str] = set()
        self._site, self._api_port, self._ssh = _free_ports(3)

    @property
    def _url(self) -> str:
        return f"https://localhost:{self._site}"

    async def perform(self) -> int:
        """Every act in order; what was started is ended whatever happens."""
        async with self._stack:
            try:
                await self._open()
                await self._enroll()
                await self._ask()
                if not self._args.once:
                    await self._stay()
            except StepFailed as failure:
                self._stage.tell("demo", f"failed: {failure}")
                return 1
            except CancelledError:
                self._stage.show("\n")
                self._stage.tell("demo", "ending everything …")
        self._stage.tell("demo", "nothing is left running")
        return 0

    # -- first act: the house ------------------------------------------------------------

    async def _open(self) -> None:
        self._make_state()
        standin = StandIn.make(self._reactor, TOPIC)
        standin.woken = self._wake
        await standin.listen()
        self._stack.push_async_callback(standin.close)
        self._stage.tell("apns", f"stand-in for Apple's push service on port {standin.port}")
        (self._state / "apns-ca.pem").write_bytes(standin.trust)
        self._write_secret("push.pem", standin.push_certificate)
        self._config.write_text(self._configuration(standin.port))
        await self._start_daemon()
        await self._mdmctl("pushcert", "install", str(self._state / "push.pem"))
        self._stage.tell("mdmctl", "pushcert install push.pem: one for the stand-in")

    def _make_state(self) -> None:
        if self._args.state:
            self._state = Path(self._args.state).absolute()
            used = self._state.is_dir() and any(self._state.iterdir())
            if used and not (self._state / _MARK).exists():
                raise StepFailed(f"{self._state} is not empty, and no demo made it")
        else:
            # Short: a unix socket's path may have 107 characters at most.
            self._state = Path(tempfile.mkdtemp(prefix="mdmd-", dir=_short_folder()))
            self._stack.callback(shutil.rmtree, self._state, ignore_errors=True)
        key = Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        made = make_state(
            self._state, "localhost", organization="mdmd demo", ssh_keys=f"{public.decode()} demo\n"
        )
        (self._state / _MARK).touch()
        self._config = self._state / "mdmd.conf"
        self._write_secret("ssh_key", _openssh(key))
        self._stage.tell("mdmctl", f"init: {len(made)} files in {self._state}")

    def _write_secret(self, name: str, content: bytes) -> None:
        path = self._state / name
        path.touch(mode=0o600)
        path.write_bytes(content)

    def _configuration(self, apns_port: int) -> str:
        here = "interface=127.0.0.1"
        sections = {
            "mdmd": [
                f"state = {self._state}",
                f"public_url = {self._url}",
                "organization = mdmd demo",
            ],
            "site": [f"listen = tcp:{self._site}:{here}"],
            "api": [f"listen = tcp:{self._api_port}:{here}"],
            "manhole": [f"listen = tcp:{self._ssh}:{here}"],
            "store": [f"redis = {self._args.redis}"],
            "apns": ["host = localhost", f"port = {apns_port}", "trust = STATE/apns-ca.pem"],
        }
        text = "".join(f"[{name}]\n{_lines(lines)}\n" for name, lines in sections.items())
        return text.replace("STATE", str(self._state))

    async def _start_daemon(self) -> None:
        self._daemon = DaemonProcess(self._reactor, self._state / "daemon.log")
        self._stage.tell("mdmd", "twistd -n mdmd --config mdmd.conf")
        self._stack.push_async_callback(end_orphan, self._reactor, self._state / "store")
        self._daemon.start(self._config)
        self._stack.push_async_callback(self._daemon.stop)
        await self._in_time("the daemon to be ready", self._daemon.ready)
        self._stage.tell("mdmd", f"ready: {self._url}")

    # -- second act: the devices ------------------------------------------------------------

    async def _enroll(self) -> None:
        trust = [_der(self._state / "ca" / "ca.pem")]
        wire = Wire(self._reactor, trust)
        profile = await self._in_time("the profile", _async(fetch_profile(wire, self._url)))
        await wire.close()
        payloads = loads(profile)["PayloadContent"]
        count = len(payloads) if isinstance(payloads, list) else 0
        self._stage.tell("devices", f"GET /enroll: a profile of {count} payloads")
        for kind, name in _KINDS.items():
            hardware = make_hardware(kind, str(self._state), 1)
            device = Device(self._reactor, hardware, profile, tell=self._told)
            self._devices[name] = device
            self._stack.push_async_callback(device.close)
        for name, device in self._devices.items():
            await self._in_time(f"the {name} to enroll", _async(device.enroll()))

    def _name(self, device: Device) -> str:
        return next(name for name, each in self._devices.items() if each is device)

    def _told(self, device: Device, word: str, facts: Mapping[str, Any]) -> None:
        name = self._name(device)
        match word:
            case "identity":
                text = f"identity by SCEP over TLS: serial {facts['serial'][:16]}…"
            case "enrolled":
                text = "enrolled: Authenticate, TokenUpdate"
            case "woken":
                text = "woken by the push, connects with its certificate"
            case "command":
                text = f"takes {facts['request_type']}"
            case "report":
                text = f"reports {facts['status']}"
            case "trouble":
                text = f"has trouble: {facts['why']}"
            case "erased" | "left":
                text = f"is {word}" if word == "erased" else "has left"
            case _:
                return
        self._stage.tell(name, text)

    def _wake(self, push: Push) -> None:
        for name, device in self._devices.items():
            if device.push.token == push.token:
                self._stage.tell("apns", f"200: push for the {name}")
                self._pushed.add(name)
                device.wake(push.magic)

    # -- third act: the question -----------------------------------------------------------

    async def _ask(self) -> None:
        ids = ",".join(device.hardware.udid for device in self._devices.values())
        words = ["send", ids, "DeviceInformation", f"Queries={','.join(QUERIES)}", "--wait"]
        self._stage.tell("mdmctl", "send MAC,IPHONE DeviceInformation Queries=… --wait")
        found = json.loads(await self._mdmctl("--json", *words))
        answers = {each["id"]: each for each in found["answers"]}
        columns = [
            self._check(name, device, answers.get(device.hardware.udid))
            for name, device in self._devices.items()
        ]
        rows = [[query, *(shown(each[query]) for each in columns)] for query in QUERIES]
        self._stage.show("\n" + table(["DeviceInformation", *self._devices], rows) + "\n")

    def _check(self, name: str, device: Device, found: Any) -> dict[str, Any]:
        """See that what came is what this very device says, and that it was pushed for."""
        if found is None or found["status"] != "Acknowledged":
            raise StepFailed(f"the {name} did not answer: {found}")
        if name not in self._pushed:
            raise StepFailed(f"the {name} answered, but was not pushed")
        responses: dict[str, Any] = found["answer"].get("QueryResponses", {})
        for query in QUERIES:
            if responses.get(query) != device.hardware.properties[query]:
                raise StepFailed(f"the server has another {query} than the {name} says")
        return responses

    # -- then --------------------------------------------------------------------------------

    async def _stay(self) -> None:
        self._stage.show(self._what_next())
        status = await self._daemon.ended()
        raise StepFailed(f"the daemon ended with status {status}:\n{self._daemon.tail()}")

    def _what_next(self) -> str:
        state = self._state
        mac = self._devices["Mac"].hardware.serial
        phone = self._devices["iPhone"].hardware.serial
        mdmctl = [_short(program("mdmctl")), "--state", str(state)]
        ssh = ["ssh", "-p", str(self._ssh), "-i", f"{state}/ssh_key"]
        curl = ["curl", "-u", f"nanomdm:$(cat {state}/api.key)"]
        tries = [
            [*mdmctl, "devices"],
            [*mdmctl, "send", mac, "ProfileList", "--wait"],
            [*mdmctl, "send", phone, "DeviceLock", "--wait"],
            [*mdmctl, "results", mac],
            ["# a Python prompt inside the server"],
            [*ssh, *(f"-o {each}" for each in _UNKNOWN_HOST), "demo@localhost"],
            ["# the HTTP API"],
            [*curl, f"http://localhost:{self._api_port}/v1/enrollments"],
            ["# what the server says"],
            ["tail", "-f", f"{state}/daemon.log"],
        ]
        lines = "".join(map(fold, tries))
        ending = "." if self._args.state else " and removes the folder."
        return f"""All of it is running. Try, in another terminal:

{lines}
Ctrl-C ends everything{ending}
"""

    async def _mdmctl(self, *words: str) -> bytes:
        """Run an operator's command; what it prints."""
        ran = run_program(program("mdmctl"), "--state", str(self._state), *words)
        verb = next(word for word in words if not word.startswith("-"))
        return bytes(await self._in_time(f"mdmctl {verb}", _async(ran)))

    async def _in_time(self, what: str, waited: "Deferred[Any]", more: float = 0.0) -> Any:
        waited.addTimeout(self._args.timeout + more, self._reactor)
        try:
            return await waited
        except DeferredTimeout:
            said = f"\n{self._daemon.tail()}" if hasattr(self, "_daemon") else ""
            raise StepFailed(f"waited in vain for {what}{said}") from None


def _async(story: Any) -> "Deferred[Any]":
    return Deferred.fromCoroutine(story)


def _free_ports(count: int) -> list[int]:
    """Say ports that were free a moment ago, and that no connection gets before the daemon has."""
    found: list[int] = []
    while len(found) < count:
        # Linux gives connections those from 32,768 on.
        port = random.randrange(10_000, 32_000)  # noqa: S311  (nobody is to be kept from it)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            found += [port] if port not in found else []
    return found


def _short_folder() -> str | None:
    return "/tmp" if os.access("/tmp", os.W_OK) else None  # noqa: S108  (mkdtemp makes it safe)


def _short(path: str) -> str:
    """Say a path from here, if that is shorter."""
    try:
        near = os.path.relpath(path)
    except ValueError:
        return path
    return near if len(near) < len(path) else path


def _openssh(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )


def _der(path: Path) -> bytes:
    from mdmd.pki.certificates import certificate_der, load_certificate

    return certificate_der(load_certificate(path.read_bytes()))


def _lines(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
