"""The real device site and SCEP over TLS, with a script where the store would be."""

import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint

from mdmd.errors import MdmdError, StoreUnavailable, WrongIdentity
from mdmd.flow.scep import Challenges, Scep
from mdmd.interfaces.certificates import IssuedCertificate
from mdmd.interfaces.identity import Identity
from mdmd.mdm import plist
from mdmd.mdm.checkin import Authenticate, DeclarativeManagement, decode_checkin
from mdmd.mdm.command import build_command
from mdmd.mdm.profile import EnrollmentProfile, ScepPayload, enrollment_profile
from mdmd.mdm.report import Status, decode_report
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import certificate_der, certificate_pem, key_pem
from mdmd.pki.scep import Responder
from mdmd.web.channel import Limits
from mdmd.web.identity import Identities
from mdmd.web.respond import Answer
from mdmd.web.site import make_site
from mdmd.web.tls import ServerContext, wrap

TOPIC = "com.apple.mgmt.External.00000000-0000-4000-8000-000000000000"


@cache
def authority() -> CertificateAuthority:
    return CertificateAuthority.create("Device CA", kind="rsa")


@attrs.define
class ScriptedServer:
    """
    What a device meets: it pins, hands out commands in order, and keeps what it is told.

    ``busy`` answers are 503.
    """

    checkins: list[dict[str, object]] = attrs.field(factory=list)
    reports: list[dict[str, object]] = attrs.field(factory=list)
    commands: list[tuple[str, dict[str, object]]] = attrs.field(factory=list)
    pins: list[str] = attrs.field(factory=list)  # all of them, in order
    pinned: dict[str, str] = attrs.field(factory=dict)  # the last one of each device
    busy: int = 0
    sent: int = 0
    refused: list[str] = attrs.field(factory=list)

    def queue(self, request_type: str, **keys: object) -> None:
        self.commands.append((request_type, keys))

    def check_in(self, identity: Identity, body: bytes) -> bytes:
        message = decode_checkin(body)
        if isinstance(message, Authenticate):
            self.pins.append(identity.fingerprint)
            self.pinned[str(message.enrollment)] = identity.fingerprint
        self._check(identity, str(message.enrollment))
        self.checkins.append(plist.loads(body))
        if isinstance(message, DeclarativeManagement):
            return self.declare(message.endpoint)
        return b""

    def declare(self, endpoint: str) -> bytes:
        item = {"Identifier": "org.example.one", "ServerToken": "1"}
        match endpoint.split("/"):
            case ["tokens"]:
                return json.dumps({"SyncTokens": {"DeclarationsToken": "t"}}).encode()
            case ["declaration-items"]:
                listed = {"Activations": [], "Configurations": [item]}
                return json.dumps({"Declarations": listed, "DeclarationsToken": "t"}).encode()
            case ["declaration", kind, identifier]:
                return json.dumps({"Type": kind, "Identifier": identifier}).encode()
        return b""

    def report(self, identity: Identity, body: bytes) -> bytes:
        report = decode_report(body)
        self._check(identity, str(report.enrollment))
        if self.busy:
            self.busy -= 1
            raise StoreUnavailable("busy")
        self.reports.append(plist.loads(body))
        if report.status not in (Status.IDLE, Status.NOT_NOW):
            self.commands.pop(0)
        if not self.commands or report.status is Status.NOT_NOW:
            return b""
        self.sent += 1
        request_type, keys = self.commands[0]
        return build_command(request_type, keys).raw

    def _check(self, identity: Identity, enrollment: str) -> None:
        if self.pinned.get(enrollment) != identity.fingerprint:
            raise WrongIdentity("another certificate is pinned")


@attrs.frozen
class _Story:
    tell: Callable[[Identity, bytes], bytes]

    async def answer(self, identity: Identity, body: bytes, noted: object = None) -> bytes:
        return self.tell(identity, body)


class _Ledger:
    """Every certificate may be given out."""

    async def issued(
        self, certificate: IssuedCertificate, request: str, name: str = "", challenge: str = ""
    ) -> None:
        return None


@attrs.frozen
class _Door:
    """Everybody gets the profile."""

    site: "RunningSite"

    async def get(self, link: str, authorization: bytes) -> Answer:
        return Answer(self.site.profile(), "application/x-apple-aspen-config")

    async def post(self, body: bytes) -> Answer:
        return await self.get("", b"")

    def well_known(self) -> Answer:
        return Answer(b"{}", "application/json")


class RunningSite:
    """The site on a port of loopback."""

    def __init__(self, server: ScriptedServer, sign_message: bool = False) -> None:
        self.server = server
        self._sign = sign_message
        self._folder = tempfile.TemporaryDirectory()
        self.ca = Path(self._folder.name, "ca.pem")
        self.ca.write_bytes(certificate_pem(authority().certificate))

    async def start(self) -> None:
        folder = Path(self._folder.name)
        certificate, key = authority().issue_server(["localhost"], days=10)
        (folder / "site.pem").write_bytes(certificate_pem(certificate))
        (folder / "site.key").write_bytes(key_pem(key))
        trust = [authority().certificate]
        context = ServerContext(folder / "site.pem", folder / "site.key", trust)
        sources = ["mdm-signature"] if self._sign else ["tls"]
        self._site = make_site(
            reactor,
            _Story(self.server.check_in),
            _Story(self.server.report),
            self._scep(),
            _Door(self),
            Identities(trust, reactor.seconds, sources),
            Limits(),
            self._refused,
            jitter=lambda: 0.0,
            wall=time.time,
        )
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        self._port = await endpoint.listen(wrap(context, self._site))
        self.url = f"https://localhost:{self._port.getHost().port}"
        self.template = attrs.evolve(
            self.template,
            server_url=f"{self.url}/connect",
            checkin_url=f"{self.url}/checkin",
            scep=ScepPayload(f"{self.url}/scep", challenge="open sesame"),
        )

    def _scep(self) -> Scep:
        responder = Responder(authority(), 365)
        self.template = EnrollmentProfile(
            identifier="org.example.mdm",
            organization="Example",
            server_url="https://localhost/connect",
            checkin_url="https://localhost/checkin",
            topic=TOPIC,
            scep=ScepPayload("https://localhost/scep"),
            trust=[certificate_der(authority().certificate)],
            sign_message=self._sign,
        )
        return Scep(responder, _Ledger(), Challenges("open sesame"), os.urandom)

    async def _refused(self, kind: str, reason: str, _: Any, __: str) -> None:
        self.server.refused.append(reason)

    def profile(self, **changes: Any) -> bytes:
        return enrollment_profile(attrs.evolve(self.template, **changes))

    async def stop(self) -> None:
        await self._port.stopListening()
        await self._site.drain(1)
        self._folder.cleanup()


def error_of(call: Callable[[], object]) -> MdmdError | None:
    try:
        call()
    except MdmdError as error:
        return error
    return None
