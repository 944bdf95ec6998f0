"""
The device site: which path is which story.

=====================  =========================================================
``PUT /checkin``       a check-in or a report, by Content-Type
``PUT /connect``       the same
``GET, POST /scep``    SCEP
``GET /enroll``        the enrollment profile
``POST /enroll``       the same, for a device that shows a signed MachineInfo
``GET /ca``            the device CA's certificate, DER
=====================  =========================================================

and ``GET /.well-known/com.apple.remotemanagement``, which points to ``/enroll``,
and ``GET /apps/…``; see :mod:`mdmd.web.apps`.
"""

import base64
import binascii
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mdmd.errors import BadCertificate, BadMessage, BadSCEP, MdmdError, NoIdentity, WrongIdentity
from mdmd.interfaces.identity import Identity, Notes
from mdmd.mdm import plist
from mdmd.mdm.enrollment import EnrollmentID, enrollment_id
from mdmd.pki.scep import ScepAnswer
from mdmd.web.apps import AppFiles, Shelf
from mdmd.web.channel import Limits, peer_of
from mdmd.web.identity import Shows
from mdmd.web.limited import LimitedSite
from mdmd.web.request import LimitedRequest
from mdmd.web.respond import Answer, Clock, Edge, Facts, Refusal, Wall, method_not_allowed

log = Logger()

CHECKIN_TYPE = b"application/x-apple-aspen-mdm-checkin"
_XML = "application/xml; charset=UTF-8"
_TEXT = "text/plain; charset=utf-8"
_CERTIFICATE = "application/x-x509-ca-cert"
_PKI_MESSAGE = "application/x-pki-message"
_QUERY = 1000  # characters of a URL's query that an event tells
_TRANSACTION = 64  # characters of a transactionID that the log keeps
_CLAIMS = 16 << 10  # bytes of an unproven body that we read to see who it claims to be from

Refused = Callable[[str, str, EnrollmentID | None, str], Awaitable[None]]


class Story(Protocol):
    """CheckIns and Connect of :mod:`mdmd.flow`."""

    async def answer(self, identity: Identity, body: bytes, noted: Notes | None = None) -> bytes:
        """Take one message of a device, return what it gets."""


class AnswersScep(Protocol):
    """Scep of :mod:`mdmd.flow`."""

    def capabilities(self) -> bytes:
        """Say what SCEP clients may use."""

    def ca_certificate(self) -> tuple[bytes, str]:
        """Give body and content type."""

    def authority(self) -> bytes:
        """Give the CA's certificate, DER."""

    async def answer(self, message: bytes) -> ScepAnswer:
        """Answer a PKIOperation."""


class KeepsDoor(Protocol):
    """Door of :mod:`mdmd.web`."""

    async def get(self, link: str, authorization: bytes) -> Answer:
        """Give the enrollment profile, or not."""

    async def post(self, body: bytes) -> Answer:
        """Give it to a device that shows a signed MachineInfo."""

    def well_known(self) -> Answer:
        """Point to the door."""


class Identifies(Protocol):
    """Identities of :mod:`mdmd.web.identity`."""

    def identify(self, request: Shows, body: bytes) -> Identity:
        """Say whose request this is."""

    def knows(self, request: Shows) -> bool:
        """Say whether a certificate of ours comes with a request whose body is to come."""


class Refusals:
    """
    Write an event for each request turned away; nobody waits for it.

    Anybody can make us refuse, so there is a limit: a burst, then so many a
    second. What is beyond it is in the log only.

    :param write: such as ``IEnrollments.refused``.
    """

    BURST = 200
    PER_SECOND = 20

    def __init__(self, write: Refused, clock: Clock) -> None:
        self._write = write
        self._clock = clock
        self._left = float(self.BURST)
        self._counted = clock.seconds()

    def tell(
        self, kind: str, reason: str, enrollment: EnrollmentID | None = None, fingerprint: str = ""
    ) -> None:
        """Write one event, if the limit allows; never raises."""
        now = self._clock.seconds()
        self._left = min(self.BURST, self._left + (now - self._counted) * self.PER_SECOND)
        self._counted = now
        if self._left < 1:
            return
        self._left -= 1
        done = Deferred.fromCoroutine(self._tell(kind, reason, enrollment, fingerprint))
        done.addErrback(lambda failure: log.failure("could not write an event", failure))

    async def _tell(
        self, kind: str, reason: str, enrollment: EnrollmentID | None, fingerprint: str
    ) -> None:
        try:
            await self._write(kind, reason, enrollment, fingerprint)
        except MdmdError as error:
            log.warn(
                "no event for a refused request: {error}", error=type(error).__name__, kind=kind
            )


@attrs.frozen
class _Device:
    """The resource: one leaf that reads the path itself."""

    checkins: Story
    connect: Story
    scep: AnswersScep
    door: KeepsDoor
    identities: Identifies
    refusals: Refusals

    async def answer(self, request: LimitedRequest, facts: Facts) -> Answer:
        """Find the story by path and method, and tell it."""
        body = request.body
        facts["bytes_in"] = len(body)
        match request.path:
            case b"/connect" | b"/checkin":
                _allow(request, b"PUT", b"POST")
                return await self._message(request, body, facts)
            case b"/scep":
                _allow(request, b"GET", b"HEAD", b"POST")
                return await self._scep(request, body, facts)
            case b"/enroll":
                _allow(request, b"GET", b"POST")
                return await self._enroll(request, body, facts)
            case b"/ca":
                _allow(request, b"GET", b"HEAD")
                return Answer(self.scep.authority(), _CERTIFICATE)
            case b"/.well-known/com.apple.remotemanagement":
                _allow(request, b"GET", b"HEAD")
                return self.door.well_known()
        raise Refusal(404, "not found")

    async def _message(self, request: LimitedRequest, body: bytes, facts: Facts) -> Answer:
        content_type = request.requestHeaders.getRawHeaders(b"Content-Type", [b""])[0]
        is_checkin = content_type.lower().startswith(CHECKIN_TYPE)
        kind = facts["kind"] = "checkin" if is_checkin else "connect"
        story = self.checkins if is_checkin else self.connect
        fingerprint = ""
        try:
            identity = self.identities.identify(request, body)
            if request.query:
                identity = attrs.evolve(identity, query=request.query.decode("ascii")[:_QUERY])
            fingerprint = identity.fingerprint
            facts["identity"] = fingerprint[:16]
            return _document(await story.answer(identity, body, facts))
        except (BadMessage, NoIdentity, BadCertificate, WrongIdentity) as error:
            claimed = _claimed(body)
            if claimed is not None:
                facts["enrollment"] = str(claimed)
            self.refusals.tell(kind, f"{type(error).__name__}: {error}", claimed, fingerprint)
            raise

    async def _scep(self, request: LimitedRequest, body: bytes, facts: Facts) -> Answer:
        operation = _argument(request, b"operation")
        facts["kind"] = "scep"
        match operation:
            case b"GetCACaps":
                return Answer(self.scep.capabilities(), _TEXT)
            case b"GetCACert":
                certificate, content_type = self.scep.ca_certificate()
                return Answer(certificate, content_type)
            case b"PKIOperation":
                # Some clients put the message into the query of a POST too.
                message = body or _query_message(request)
                return await self._pki_operation(message, facts)
        raise BadSCEP("unknown operation")

    async def _pki_operation(self, message: bytes, facts: Facts) -> Answer:
        answer = await self.scep.answer(message)
        facts["transaction"] = answer.transaction[:_TRANSACTION]
        if answer.issued is not None:
            facts["serial"] = f"{answer.issued.serial_number:x}"
        else:
            facts["error"], facts["reason"] = answer.fail_info, answer.refusal
            self.refusals.tell("scep", f"{answer.fail_info}: {answer.refusal}")
        return Answer(answer.body, _PKI_MESSAGE)

    async def _enroll(self, request: LimitedRequest, body: bytes, facts: Facts) -> Answer:
        facts["kind"] = "enroll"
        if request.method == b"GET":
            link = _argument(request, b"link").decode("ascii", "replace")
            authorization = _only(request, b"Authorization")
            return await self.door.get(link, authorization)
        try:
            return await self.door.post(body)
        except (BadMessage, BadCertificate) as error:
            self.refusals.tell("enroll", f"{type(error).__name__}: {error}")
            raise


class _Leaf:
    def __init__(
        self, device: _Device, edge: Edge, name: str, apps: AppFiles | None = None
    ) -> None:
        self._apps = apps
        self._device = device
        self._edge = edge
        self._name = name
        self._number = 0

    def render(self, request: LimitedRequest) -> None:
        self._number += 1
        facts: Facts = {
            "request": f"{self._name}-{self._number:x}",
            "peer": peer_of(request.client),
        }
        if self._apps is not None and request.path.startswith(AppFiles.PREFIX):
            self._apps.render(request, facts)
        else:
            self._edge.answer(request, self._device.answer(request, facts), facts)


def make_site(
    reactor: Clock,
    checkins: Story,
    connect: Story,
    scep: AnswersScep,
    door: KeepsDoor,
    identities: Identifies,
    limits: Limits,
    refused: Refused,
    jitter: Callable[[], float] = random.random,
    shelf: Shelf | None = None,
    *,
    wall: Wall,
) -> LimitedSite:
    """
    Make the device site.

    :param refused: writes an event for a request that was turned away.
    :param jitter: 0 <= float < 1, for Retry-After.
    :param shelf: apps to serve; None serves none.
    :param wall: the time of day.
    """
    refusals = Refusals(refused, reactor)
    device = _Device(checkins, connect, scep, door, identities, refusals)
    # The name tells the requests of one run from those of the next.
    edge = Edge(reactor, wall, jitter)
    apps = None if shelf is None else AppFiles(shelf, edge)
    leaf = _Leaf(device, edge, f"{int(wall()):x}", apps)

    def too_large(peer: str) -> None:
        refusals.tell("oversized", f"TooLarge: a body beyond {limits.body} bytes from {peer}")

    return LimitedSite(leaf, reactor, limits, too_large, identities.knows)


def _allow(request: LimitedRequest, *methods: bytes) -> None:
    if request.method not in methods:
        raise method_not_allowed(methods)


def _document(body: bytes) -> Answer:
    """Say what an answer to a device is: a plist, or JSON of declarative management."""
    if not body:
        return Answer()
    if body.startswith(b"{"):
        return Answer(body, "application/json")
    if body.startswith(b"bplist"):
        return Answer(body, "application/x-plist")
    return Answer(body, _XML)


def _claimed(body: bytes) -> EnrollmentID | None:
    """Say which enrollment a refused body names; it may be anybody's word."""
    if len(body) > _CLAIMS:
        return None
    try:
        return enrollment_id(plist.loads(body))
    except MdmdError:
        return None


def _argument(request: LimitedRequest, name: bytes) -> bytes:
    values = request.args.get(name, [])
    return values[0] if values else b""


def _only(request: LimitedRequest, name: bytes) -> bytes:
    values = request.requestHeaders.getRawHeaders(name, [])
    return values[0] if len(values) == 1 else b""


def _query_message(request: LimitedRequest) -> bytes:
    # Many clients leave the "+" of base64 as it is, and a query reads that as a space.
    text = _argument(request, b"message").replace(b" ", b"+")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return b""  # which is no message either, and is refused as SCEP refuses
