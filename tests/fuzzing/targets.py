"""
Every reader of bytes from outside, as one function of bytes.

A target may raise what its reader promises to raise, and nothing else. The
tests let hypothesis at them, ``make fuzz`` lets atheris.
"""

import json
import plistlib
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock
from twisted.spread import banana

from mdmd.cli.judge import judge
from mdmd.config import parse
from mdmd.errors import BadSCEP, MdmdError
from mdmd.mdm import plist
from mdmd.mdm.checkin import decode_checkin
from mdmd.mdm.command import decode_command
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.mdm.profile import (
    EnrollmentProfile,
    ScepPayload,
    enrollment_profile,
    read_enrollment_profile,
)
from mdmd.mdm.report import decode_report
from mdmd.ops.broker import Broker
from mdmd.ops.method import Caller
from mdmd.ops.operators import Role
from mdmd.ops.perspective import Perspective
from mdmd.pki import certificates, cms, scep_client, signed_data
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.pushcert import read_push_certificate
from mdmd.sim.standin import make_push_certificate
from mdmd.store.address import read_address
from mdmd.web.channel import Limits
from mdmd.web.limited import LimitedSite
from tests.opshelp import make_desk, scratch, write_operators
from tests.scephelp import Deciding
from tests.wirehelp import Transport, Wire

DATA = Path(__file__).parent.parent / "data"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@attrs.frozen
class Target:
    """
    One reader.

    :ivar read: takes bytes; raises nothing, unless there is a mistake in the reader.
    :ivar seeds: bytes that it reads well, to begin with.
    """

    read: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    may_raise: tuple[type[Exception], ...] = (MdmdError,)

    def run(self, data: bytes) -> None:
        """Read; what may be raised is not."""
        try:
            self.read(data)
        except self.may_raise:
            return


def _messages(*names: str) -> Callable[[], list[bytes]]:
    return lambda: [(DATA / f"{name}.plist").read_bytes() for name in names]


def _plists() -> list[bytes]:
    seeds = _messages("acknowledged", "idle", "token-update")()
    seeds.append(plistlib.dumps({"a": [1, True, 1.5, b"x", {"b": "c"}]}, fmt=plistlib.FMT_BINARY))
    seeds.append(plistlib.dumps({"d": datetime(2020, 1, 1), "e": -5, "f": [[[]]]}))
    # A date with a fraction of a second, found by atheris.
    date = plistlib.dumps({"a": datetime(2001, 1, 1)}, fmt=plistlib.FMT_BINARY)
    seeds.append(date.replace(bytes.fromhex("330000"), bytes.fromhex("333ff8")))
    return seeds


def _as_xml_has_it(value: Any) -> Any:
    """Do without what binary plists have and XML has not: parts of a second, CR in texts."""
    if isinstance(value, datetime):
        return value.replace(microsecond=0)
    if isinstance(value, str):
        return value.replace("\r\n", "\n").replace("\r", "\n")
    if isinstance(value, dict):
        return {_as_xml_has_it(key): _as_xml_has_it(each) for key, each in value.items()}
    return [_as_xml_has_it(each) for each in value] if isinstance(value, list) else value


def _read_plist(data: bytes) -> None:
    read = _as_xml_has_it(plist.loads(data))
    again = plist.loads(plist.dumps(read))
    # A NaN is not itself; anything else comes back as it was.
    assert repr(again) == repr(dict(sorted(read.items()))) or again == read or "nan" in repr(read)


@cache
def _authority() -> CertificateAuthority:
    return CertificateAuthority.create("Fuzzed CA", kind="rsa")


@cache
def _identity() -> tuple[Any, Any]:
    key = certificates.new_key("rsa")
    return _authority().issue_identity(key.public_key(), "fuzz", days=10), key


def _signed() -> list[bytes]:
    certificate, key = _identity()
    bag = signed_data.certs_only([certificate])
    return [
        cms.sign_detached(b"x", certificate, key),
        cms.sign_attached(b"x", certificate, key),
        bag,
    ]


def _read_cms(data: bytes) -> None:
    for read in (
        lambda: cms.verify_detached(data, b"x"),
        lambda: cms.verify_attached(data),
        lambda: signed_data.read_certs_only(data),
    ):
        Target(lambda _, read=read: read(), list).run(data)  # type: ignore[misc]


@cache
def _responder() -> Deciding:
    def check(challenge: str, _: object) -> None:
        if challenge != "open sesame":
            raise BadSCEP("no")

    return Deciding(_authority(), 30, True, check_challenge=check)


@cache
def _scep_seeds() -> list[bytes]:
    certificate, key = _identity()
    csr = certificates.new_csr(key, "fuzz", "open sesame")
    ca = scep_client.read_ca(_responder().ca_certificate()[0])
    first, _ = scep_client.enrolment_request(ca, csr, key)
    again, _ = scep_client.renewal_request(ca, csr, certificate, key)
    return [first, again]


def _answer_scep(data: bytes) -> None:
    assert _responder().answer(data).body


class _Echo:
    """A site's resource: it reads what it is given, and answers."""

    def render(self, request: Any) -> None:
        assert isinstance(request.path, bytes)
        dict(request.args)
        request.requestHeaders.getRawHeaders(b"Content-Type", [b""])
        request.reply(200, [], request.body[:10])


def _read_http(data: bytes) -> None:
    site = LimitedSite(_Echo(), Clock(), Limits(body=1000))  # type: ignore[arg-type]
    wire = Wire(site)
    half = len(data) // 2
    for part in (data[:half], data[half:]):
        if not wire.transport.ended:
            wire.send(part)
    wire.lose()


_HTTP = [
    b"PUT /connect HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    b"GET /ca?x=%41&y=+ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /scep?operation=PKIOperation HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;a=b\r\nabc\r\n0\r\n\r\n",
    b"GET http://x/enroll HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n",
]


def _read_config(data: bytes) -> None:
    parse(data.decode("utf-8", "surrogateescape"), "fuzz.conf")


_CONFIG = [
    b"[mdmd]\nstate = /x\npublic_url = https://x.example\n[site]\nlisten = tcp:443:interface=::1\n"
    b" unix:/x\nbody_limit = 4M\nproxies = 10.0.0.0/8, unix\n[push]\nrepeat = 1s, 2m\n"
    b"[store]\nredis = sentinel://u:p@a:1,b/m\n[webhook x]\nurl = https://y\n",
]


class _PlainPeer(Transport):
    """Whom a Broker talks to."""

    def abortConnection(self) -> None:
        self.aborted = True


def _read_banana(data: bytes) -> None:
    broker = Broker(isClient=False)
    broker.makeConnection(_PlainPeer())
    half = len(data) // 2
    for part in (data[:half], data[half:]):
        if not broker.transport.aborted:
            broker.dataReceived(part)


def _banana() -> list[bytes]:
    call = [b"message", 1, b"root", b"enter", 1, [b"tuple", 1], [b"dictionary", [b"a", 2.5]]]
    whole = banana.encode(b"pb") + banana.encode([b"version", 6]) + banana.encode(call)
    return [whole, banana.encode(b"none") + banana.encode([[[[-1, 1 << 70]]]])]


@cache
def _perspective() -> Perspective:
    operators = scratch() / "operators.json"
    write_operators(operators, admin={"role": "admin"})
    return Perspective(make_desk(operators, clock=Clock()))


def _call_perspective(data: bytes) -> None:
    """``name`` and arguments as JSON: what Perspective Broker would have handed on."""
    try:
        name, arguments = json.loads(data)
    except (ValueError, TypeError, RecursionError):
        return
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return
    caller = Caller("fuzz", Role.ADMIN, "here")
    done = ensureDeferred(_perspective().call(caller, name, (), arguments))
    found: list[Any] = []
    done.addErrback(found.append)
    if found and found[0].type.__name__ == "InternalError":
        raise AssertionError(f"{name} {arguments}: {found[0].value}")


def _calls() -> list[bytes]:
    calls: list[tuple[str, dict[str, object]]] = [
        ("enrollments.page", {"after": "", "limit": 5}),
        ("commands.send", {"ids": ["MAC-1"], "request_type": "DeviceInformation", "keys": {}}),
        ("queue.list", {"id": "MAC-1"}),
        ("results.show", {"id": "MAC-1", "limit": 2}),
        ("audit.page", {"before": "+", "limit": 1}),
        ("push.send", {"ids": ["MAC-1", ""]}),
    ]
    return [json.dumps(each).encode() for each in calls]


def _profiles() -> list[bytes]:
    values = EnrollmentProfile(
        "org.example.mdm",
        "Example",
        "https://x/connect",
        "https://x/checkin",
        "com.apple.mgmt.External.x",
        scep=ScepPayload("https://x/scep", challenge="c"),
        trust=[certificates.certificate_der(_authority().certificate)],
    )
    return [enrollment_profile(values)]


def _read_profile(data: bytes) -> None:
    Target(read_enrollment_profile, list).run(data)
    judge(data, NOW, [])


def _text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: read(data.decode("utf-8", "replace"))


TARGETS: dict[str, Target] = {
    "plist": Target(_read_plist, _plists),
    "checkin": Target(decode_checkin, _messages("token-update")),
    "report": Target(decode_report, _messages("acknowledged", "idle")),
    "command": Target(
        decode_command,
        lambda: [plistlib.dumps({"CommandUUID": "U", "Command": {"RequestType": "R"}})],
    ),
    "profile": Target(_read_profile, _profiles),
    "cms": Target(_read_cms, _signed),
    "scep": Target(_answer_scep, _scep_seeds),
    "certificate": Target(
        certificates.load_certificate,
        lambda: [certificates.certificate_der(_identity()[0]), make_push_certificate("x")],
    ),
    "pushcert": Target(read_push_certificate, lambda: [make_push_certificate("com.apple.mgmt.x")]),
    "http": Target(_read_http, lambda: list(_HTTP), may_raise=()),
    "config": Target(_read_config, lambda: list(_CONFIG)),
    "store-url": Target(
        _text(read_address), lambda: [b"rediss://u:p@[::1]:1/2", b"unix:///x?db=1"]
    ),
    "banana": Target(_read_banana, _banana, may_raise=()),
    "perspective": Target(_call_perspective, _calls),
    "id": Target(_text(EnrollmentID.parse), lambda: [b"UDID:user"]),
}

__all__ = ["TARGETS", "Target"]
