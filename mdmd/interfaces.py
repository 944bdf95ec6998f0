"""
What one layer asks of another, cut by who uses it.

These are :class:`typing.Protocol` rather than zope interfaces: mypy holds every
implementation and every caller against them. All times are milliseconds since
the epoch unless a name says otherwise. Every coroutine of the store is one
round trip and one atomic step; it raises
:class:`~mdmd.errors.StoreUnavailable` when the outcome is unknown.
"""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from enum import IntEnum, StrEnum
from typing import Any, Protocol

import attrs

from mdmd.mdm.checkin import Authenticate, SetBootstrapToken, TokenUpdate
from mdmd.mdm.command import Command
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.mdm.report import Report

# -- who is asking ---------------------------------------------------------


@attrs.frozen
class Identity:
    """
    The certificate that came with a request, already verified against our CA.

    An empty fingerprint is for check-ins that an integrator vouches for
    (migration): no pin is asked for, and the first certificate that the
    enrollment shows later is pinned.
    """

    fingerprint: str  # lower-case hex SHA-256 of the DER
    serial: str = ""  # lower-case hex
    not_after: int = 0  # epoch seconds
    not_before: int = 0
    expired: bool = False  # let in all the same, to fetch its renewal


# What a story adds to the one log line of its request; never a secret.
Notes = MutableMapping[str, object]


# -- check-ins (flow/checkin asks the store) ---------------------------------


class IEnrollments(Protocol):
    """The life of enrollments. All of these refuse a wrong pin by raising."""

    async def authenticate(self, message: Authenticate, identity: Identity) -> None:
        """
        Begin a new generation of the enrollment and pin ``identity`` to the device.

        Disabled until TokenUpdate; pending commands of it and of its user
        channels end as ``superseded``; tally back to 0.

        :raises WrongIdentity: the certificate is pinned to another device.
        """

    async def token_update(self, message: TokenUpdate, identity: Identity) -> int:
        """
        Store where to push to, enable, and return the new tally (1: just enrolled).

        :raises WrongIdentity: another certificate is pinned.
        :raises NotEnrolled: none is pinned.
        """

    async def check_out(self, enrollment: EnrollmentID, identity: Identity, raw: bytes) -> None:
        """Disable it, and its user channels if it is a device; keep queue and history."""

    async def set_bootstrap_token(self, message: SetBootstrapToken, identity: Identity) -> None:
        """Store the token sealed; an empty one forgets it."""

    async def get_bootstrap_token(
        self, enrollment: EnrollmentID, identity: Identity, raw: bytes
    ) -> bytes | None:
        """Give the token back, None if there is none."""

    async def other_checkin(
        self, enrollment: EnrollmentID, identity: Identity, topic: str, raw: bytes
    ) -> None:
        """Check the pin and write the event ``topic`` (such as ``mdm.GetToken``)."""

    async def refused(
        self, kind: str, reason: str, enrollment: EnrollmentID | None, fingerprint: str
    ) -> None:
        """Write an event for a request that was turned away (``mdmd.Refused``)."""


# -- connect (flow/connect asks the store) -----------------------------------


class IQueue(Protocol):
    """The queue as a device sees it."""

    async def report_and_next(self, report: Report, identity: Identity) -> Command | None:
        """
        Record the report and take the next command, in one step.

        Rules: docs/store.md, "connect". An orphan result is kept and makes an
        event; the answer is the next command all the same.

        :raises WrongIdentity: another certificate is pinned.
        :raises NotEnrolled: none is pinned.
        """


# -- operators (flow/enqueue, ops/, web/api ask the store) ----------------------


class Priority(IntEnum):
    """Priority classes; the lower goes first."""

    SECURITY = 0  # lock, wipe, lost mode
    NORMAL = 4
    BACKGROUND = 6  # inventory on a schedule


@attrs.frozen
class Policy:
    """How long and how often a command is offered."""

    priority: Priority = Priority.NORMAL
    expires: int | None = None  # ms since the epoch; then it is parked as ``expired``
    max_attempts: int | None = None  # deliveries without an answer; then parked as ``stuck``
    wake: bool = True  # False: no push at once, the first repeat is the first one
    not_before: int | None = None  # ms since the epoch; until then it is not offered
    # Of one kind, such as "lock" or a RequestType, only one is pending in a queue: a new one
    # is refused, or takes the place of one that the device has not been sent.
    kind: str = ""
    replaces: bool = False
    partial: bool = False  # its answer is not the whole: it asks for some apps only


class Enqueued(StrEnum):
    """What became of one target of an enqueue."""

    QUEUED = "queued"
    UNKNOWN = "unknown"  # no such enrollment
    DISABLED = "disabled"  # queued, but the enrollment is disabled: nothing will be pushed
    DUPLICATE = "duplicate"  # this CommandUUID is in its queue already
    PENDING = "pending"  # refused: one of the policy's kind is in its queue already


@attrs.frozen
class QueuedCommand:
    """One line of a queue, as an operator sees it, in delivery order."""

    uuid: str
    request_type: str
    priority: int
    sequence: int
    state: str  # "waiting" | "sent" | "notnow" | "expired" | "stuck"
    queued_at: int
    attempts: int  # deliveries so far
    last_sent: int | None
    not_now_count: int
    first_not_now: int | None
    last_not_now: int | None
    expires: int | None
    max_attempts: int | None
    not_before: int | None = None


@attrs.frozen
class Result:
    """One final report (or an orphan), newest first in listings."""

    uuid: str
    request_type: str  # "" for an orphan
    # Acknowledged | Error | CommandFormatError | Malformed | superseded | cancelled | orphan
    status: str
    error: str
    received_at: int
    queued_at: int | None
    attempts: int
    raw: bytes = attrs.field(repr=False)  # the whole report plist; b"" if none came


@attrs.frozen
class EnrollmentRecord:
    """All that is known of an enrollment but its secrets."""

    enrollment: EnrollmentID
    enabled: bool
    tally: int
    generation: int
    topic: str
    facts: dict[str, str]  # of Authenticate, plus those learnt from answers
    enrolled_at: int | None
    last_seen: int | None
    awaiting_configuration: bool
    pin: str  # fingerprint
    pending: int  # commands in the queue
    has_token: bool
    has_unlock_token: bool
    has_bootstrap_token: bool
    next_push: int | None  # None: nothing to push for
    last_push: int | None
    last_push_result: str  # "" | apns-id | reason


class IFleet(Protocol):
    """Reads and acts for operators."""

    async def enqueue(
        self, command: Command, targets: Sequence[EnrollmentID], policy: Policy
    ) -> list[Enqueued]:
        """
        Queue one command on many enrollments; the body is stored once.

        The answer is in the order of ``targets``. Large lists are cut into
        batches that let device requests pass in between.

        :raises Conflict: the CommandUUID is known with another body.
        """

    async def enrollment(self, enrollment: EnrollmentID) -> EnrollmentRecord | None:
        """Read one record; the type in the answer is the stored one."""

    async def enrollments(self, after: str = "", limit: int = 100) -> list[EnrollmentRecord]:
        """Page through all enrollments in id order, ``after`` an id, devices and channels."""

    async def describe(self, enrollments: Sequence[EnrollmentID]) -> list[EnrollmentRecord | None]:
        """Read records in the order asked, None for each that does not exist."""

    async def find(self, text: str) -> EnrollmentID | None:
        """Find by enrollment id or by serial number."""

    async def find_all(self, texts: Sequence[str]) -> list[EnrollmentRecord | None]:
        """Find each by enrollment id or by serial number, None for each that is unknown."""

    async def totals(self) -> tuple[int, int]:
        """Count all enrollments ever seen, and those in the push work set."""

    async def complete(self, begun: str, limit: int = 100) -> list[str]:
        """List enrollment ids and serial numbers that begin like this, so many of each."""

    async def queue(self, enrollment: EnrollmentID) -> list[QueuedCommand]:
        """List pending and parked commands in delivery order."""

    async def command(self, uuid: str) -> Command | None:
        """Read a command that is in some queue, None if it is in none."""

    async def cancel(self, enrollment: EnrollmentID, uuid: str) -> QueuedCommand:
        """
        Take one command out; the answer says whether it was ever sent.

        :raises NotHere: it is not in the queue.
        """

    async def clear(self, enrollment: EnrollmentID) -> int:
        """Take all commands out, return how many."""

    async def results(self, enrollment: EnrollmentID, limit: int = 20) -> list[Result]:
        """Read the newest results, newest first."""

    async def events(self, after: str = "0", limit: int = 100) -> list["Event"]:
        """Read events after the given stream id, oldest first."""

    async def newest_event(self) -> str:
        """Say the id of the newest event, "0" if there is none."""


@attrs.frozen
class Event:
    """Something that happened. ``topic`` is NanoMDM's (``mdm.*``) or ours (``mdmd.*``)."""

    id: str  # the stream's id, "ms-n": ordered, replayable from
    topic: str
    enrollment: str  # "" when it is about none
    facts: dict[str, str]  # clear text: status, command_uuid, tally, reason...
    raw: bytes = attrs.field(repr=False)  # the message's plist, unsealed; may be b""


# -- inventory (flow/learn, flow/targets, ops/ ask the store) --------------------------


@attrs.frozen
class Known:
    """One field of an inventory: a value as JSON has it, and when the device told it."""

    value: object
    at: int


@attrs.frozen
class Change:
    """One line of an inventory's history: from ``at`` on the field had this value."""

    field: str
    value: object
    at: int


@attrs.frozen
class Pin:
    """A PIN that a device was sent, to unlock it with."""

    uuid: str
    request_type: str
    pin: str = attrs.field(repr=False)
    at: int


class IInventory(Protocol):
    """What is known of devices besides their enrollment."""

    async def learn(
        self, enrollment: EnrollmentID, fields: Mapping[str, object], at: int
    ) -> list[str]:
        """Take in what a device told at a time, unless newer is there; say what changed."""

    async def known(
        self, enrollments: Sequence[EnrollmentID], fields: Sequence[str] = ()
    ) -> list[tuple[dict[str, Known], dict[str, str]]]:
        """Read inventories (only these fields, or all) and free fields, in the order asked."""

    async def history(self, enrollment: EnrollmentID, limit: int = 100) -> list[Change]:
        """Read what changed, newest first."""

    async def note(self, enrollment: EnrollmentID, notes: Mapping[str, str]) -> None:
        """
        Set free fields; an empty text takes one away.

        :raises NotEnrolled: there is no such enrollment.
        """

    async def keep_pin(self, enrollment: EnrollmentID, pin: Pin) -> None:
        """Keep a PIN sealed, before its command is queued; safe to repeat."""

    async def pins(self, enrollment: EnrollmentID) -> list[Pin]:
        """Read the PINs that were sent, newest first."""

    async def unlock_token(self, enrollment: EnrollmentID) -> bytes | None:
        """Read the device's unlock token, None if it never gave one."""


class IGroups(Protocol):
    """Named sets of enrollments."""

    async def add(self, name: str, enrollments: Sequence[EnrollmentID]) -> int:
        """Put enrollments into a group, say how many are new in it."""

    async def remove(self, name: str, enrollments: Sequence[EnrollmentID]) -> int:
        """Take enrollments out of a group, say how many were in it."""

    async def sizes(self) -> dict[str, int]:
        """Say which groups there are, and how many are in each."""

    async def members(
        self, name: str, cursor: int = 0, limit: int = 1000
    ) -> tuple[int, list[EnrollmentID]]:
        """Read about ``limit`` members and the cursor to go on with; 0: that was all."""

    async def of(self, enrollments: Sequence[EnrollmentID]) -> list[list[str]]:
        """Say of each enrollment in which groups it is."""


class IFollowing(Protocol):
    """A place in the event stream that outlives the daemon, held by one daemon at a time."""

    async def follow(self, name: str, who: str, lease_ms: int, done: str = "") -> str | None:
        """Hold the lease and move the place on to ``done``; None while another one holds it."""

    async def events(
        self,
        after: str,
        limit: int,
        wants: Callable[[str, Mapping[str, str]], bool] | None = None,
    ) -> list["Event"]:
        """
        Read events after the given stream id, oldest first.

        :param wants: says by topic and facts whose message is read; None: all.
        """


class IDue(Protocol):
    """When something is to be done about each enrollment."""

    async def plan(self, due: Mapping[EnrollmentID, int | None], only_new: bool = False) -> None:
        """Say when (ms since the epoch), None: not any more."""

    async def take(self, limit: int, lease_ms: int) -> list[EnrollmentID]:
        """Take those that are due; they come again after the lease unless planned anew."""


# -- push -----------------------------------------------------------------------


class Decision(StrEnum):
    """What to do after APNs answered; decided by the table in :mod:`mdmd.apns.reasons`."""

    DELIVERED = "delivered"
    DROP_TOKEN = "drop-token"  # noqa: S105  (no secret): no push to this token until the next TokenUpdate
    RETRY = "retry"  # with back-off, on a fresh stream
    ALARM = "alarm"  # something is wrong with the topic or its certificate
    GIVE_UP = "give-up"  # this notification can't be sent; our bug


@attrs.frozen
class Notification:
    """One push, ready to be sent."""

    topic: str
    token: bytes = attrs.field(repr=False)
    push_magic: str = attrs.field(repr=False)
    expiration: int = 0  # epoch seconds; 0: as the push service is set


@attrs.frozen
class PushOutcome:
    """What became of one push."""

    decision: Decision
    status: int = 0  # HTTP status, 0 if none came
    reason: str = ""  # APNs' word, or ours in words when there was no answer
    apns_id: str = ""
    maybe_twice: bool = False  # a first sending got no answer: APNs may have both


class IPushService(Protocol):
    """The road to APNs."""

    async def push(self, notification: Notification) -> PushOutcome:
        """Send one notification; never raises for what APNs or the network does."""


@attrs.frozen
class DuePush:
    """One enrollment claimed for a push; the claim ends by itself after the lease."""

    enrollment: EnrollmentID
    notification: Notification
    attempt: int  # delivered pushes since the enrollment last connected
    failures: int = 0  # pushes since the last delivered one
    claim: object = attrs.field(default=None, repr=False)  # the store's, for ``pushed``


@attrs.frozen
class NoPush:
    """Why an enrollment asked for by name can't be pushed."""

    enrollment: EnrollmentID
    reason: str  # "unknown" | "disabled" | "no token" | "token dropped: REASON"


class IPushWork(Protocol):
    """The work set: enrollments with work, by the time of their next push."""

    async def claim_due(self, limit: int, lease_ms: int) -> list[DuePush]:
        """Take up to ``limit`` due enrollments; those without work leave the set."""

    async def claim(self, targets: Sequence[EnrollmentID], lease_ms: int) -> list[DuePush | NoPush]:
        """Take the named enrollments now, due or not; answers in order."""

    async def pushed(self, due: DuePush, outcome: PushOutcome, next_push: int | None) -> None:
        """
        Record the outcome and when to push next if the device does not connect.

        ``next_push`` None: no more until something new happens. DROP_TOKEN marks
        the token dead, unless a TokenUpdate replaced it meanwhile.
        """

    async def next_due(self) -> int | None:
        """Say when the earliest entry is due, None if there is none."""

    async def waiting(self) -> tuple[int, int]:
        """Count the enrollments in the set, and those of them that are due."""


class IPushCertificates(Protocol):
    """Push certificates, one a topic, sealed; shared by every daemon of the store."""

    async def put(self, topic: str, certificate: bytes, key: bytes, not_after: int) -> int:
        """Store a PEM pair, return its new version (counts up per topic)."""

    async def get(self, topic: str) -> tuple[int, bytes, bytes] | None:
        """Read (version, certificate PEM, key PEM)."""

    async def versions(self) -> Mapping[str, tuple[int, int]]:
        """Say the version and not_after (epoch seconds) of each topic in one cheap step."""

    async def enrolled(self) -> Mapping[str, int]:
        """Count enabled enrollments by topic."""


class IEventWriter(Protocol):
    """Events that go with no change of the store."""

    async def tell(self, topic: str, enrollment: EnrollmentID | None, **facts: str) -> None:
        """Write one; no secrets in it."""


class IExpiryWarnings(Protocol):
    """What is known of push certificates' ends, and who has been warned."""

    async def versions(self) -> Mapping[str, tuple[int, int]]:
        """Say the version and not_after (epoch seconds) of each topic in one cheap step."""

    async def warn_expiry(self, topic: str, version: int, days: int, not_after: int) -> bool:
        """Write the event of a warning, once for all daemons; say whether it was written."""


class IWaker(Protocol):
    """Pushes on behalf of flow."""

    async def push(self, targets: Sequence[EnrollmentID]) -> list[PushOutcome | NoPush]:
        """Push now and wait for the outcomes, in the order of ``targets``."""

    def nudge(self) -> None:
        """Say that the work set has something new."""


# -- audit (ops/ and web/api write, operators read) --------------------------------


@attrs.frozen
class AuditEntry:
    """One act of an operator, or one read of a secret. No secret's value is ever in it."""

    who: str
    source: str  # "unix uid 0", "tls 192.0.2.1", "ssh 192.0.2.1", "api 192.0.2.1"
    what: str  # the method, such as "commands.send"
    enrollments: tuple[str, ...] = ()
    facts: dict[str, str] = attrs.field(factory=dict)
    outcome: str = "ok"  # or the name of the error
    id: str = ""  # the stream's id, "ms-n"; "" until written


class IAudit(Protocol):
    """The append-only record of what operators did."""

    async def write(self, entry: AuditEntry) -> None:
        """Append one entry."""

    async def read(self, before: str = "+", limit: int = 100) -> list[AuditEntry]:
        """Read the newest entries that are older than the id ``before``, newest first."""


# -- webhooks (webhook/ asks the store) ----------------------------------------------


@attrs.frozen
class DeadLetter:
    """An event that a webhook's target never took."""

    id: str  # its place among the dead letters of its target
    event: Event
    reason: str
    attempts: int
    at: int  # when it was given up


@attrs.frozen
class DeliveryState:
    """How far a target is."""

    target: str
    reached: str  # the newest event that was read for it
    unsettled: int  # read, not yet taken by the target
    behind: int | None  # events that are still to be read; None: the store can't say
    dead: int
    sender: str  # the daemon that sends to it; "" for none right now


class IFeed(Protocol):
    """Tells when something new is in the event stream."""

    async def wait(self, after: str, seconds: float) -> bool:
        """Wait for an event after ``after``; False if none came in time."""


class IDeliveries(Protocol):
    """What each webhook's target still has to get; one daemon at a time sends to a target."""

    async def claim(self, target: str, daemon: str, lease_ms: int) -> bool:
        """Become, or stay, the one that sends; the claim ends by itself after the lease."""

    async def release(self, target: str, daemon: str) -> None:
        """Let another daemon send."""

    async def unsettled(self, target: str, after: str, limit: int) -> list[Event]:
        """Read what was read before and is not settled, after the event id ``after``."""

    async def more(self, target: str, limit: int) -> list[Event]:
        """Read on in the stream; what comes is unsettled until it is settled or buried."""

    async def again(self, id: str) -> Event | None:
        """Read one event once more; None if the stream has lost it."""

    async def settle(self, target: str, ids: Sequence[str]) -> None:
        """Note that these need not be sent (any more)."""

    async def bury(self, target: str, id: str, reason: str, attempts: int) -> None:
        """Make one a dead letter, with an event."""

    async def dead(self, target: str, after: str = "0", limit: int = 100) -> list[DeadLetter]:
        """Read dead letters after the dead letter ``after``, oldest first."""

    async def exhume(self, target: str, id: str) -> None:
        """Forget a dead letter, because the target has it now."""

    async def rewind(self, target: str, to: str) -> None:
        """Make the target get everything after the event ``to`` (once more)."""

    async def state(self, target: str) -> DeliveryState:
        """Say how far a target is."""


@attrs.frozen
class WebhookStanding:
    """One webhook as an operator sees it."""

    name: str
    where: str  # scheme and host of the target; the rest of a URL may be a secret
    topics: tuple[str, ...]
    state: DeliveryState
    trouble: str  # what the target said to this daemon when it did not take the last event


@attrs.frozen
class Resent:
    """What became of dead letters that were sent again."""

    taken: int
    failed: int
    trouble: str


class IWebhooks(Protocol):
    """What operators ask of webhooks; a name that is in no configuration raises NotHere."""

    async def standings(self) -> list[WebhookStanding]:
        """Say how far each target is."""

    async def test(self, name: str) -> str:
        """Send an event that says it is a test, now; "" if it was taken, else why not."""

    async def dead(self, name: str, after: str, limit: int) -> list[DeadLetter]:
        """Read dead letters after the dead letter ``after``, oldest first."""

    async def resend(self, name: str, limit: int) -> Resent:
        """Send the oldest dead letters again; those taken are dead no more."""

    async def replay(self, name: str, after: str) -> None:
        """
        Send everything after the event ``after`` once more.

        :raises BadRequest: ``after`` is no event id.
        """


# -- device certificates (flow/enroll, flow/renew, ops/) ------------------------------


@attrs.frozen
class IssuedCertificate:
    """A certificate of the device CA, as it is recorded."""

    fingerprint: str  # lower-case hex SHA-256
    serial: str  # lower-case hex
    subject: str  # RFC 4514
    not_before: int  # epoch seconds
    not_after: int
    via: str  # "static" | "one-time" | "none" | "renewal" | "pkcs12"
    label: str = ""  # of the challenge
    enrollment: str = ""  # whose it is; "" until it enrolls
    renews: str = ""  # fingerprint
    issued_at: int = 0  # milliseconds, as all that follow
    revoked_at: int | None = None
    reason: str = ""


@attrs.frozen
class Challenge:
    """A one-time challenge: lets one request have one certificate."""

    secret: str = attrs.field(repr=False)
    expires: int  # milliseconds
    name: str = ""  # the common name that the request has to have; "" any
    enrollment: str = ""  # whose renewal it is for
    label: str = ""  # for people


@attrs.frozen
class Link:
    """A one-time link to the enrollment profile."""

    secret: str = attrs.field(repr=False)
    expires: int  # milliseconds
    name: str = ""  # the common name of the identity; "" one is made up
    label: str = ""


class IIdentities(Protocol):
    """What the device CA did."""

    async def issued(
        self, certificate: IssuedCertificate, request: str, name: str = "", challenge: str = ""
    ) -> None:
        """
        Record a certificate before it is given away, and use up its challenge, in one step.

        If it belongs to an enrolled device it becomes its next pin.

        :param request: names this request; repeated with it, it is applied once.
        :param name: the common name asked for.
        :param challenge: the secret, if ``via`` is ``one-time``.
        :raises BadSCEP: the challenge is not good for it, or what it renews is revoked.
        """

    async def revoke(self, fingerprint: str, reason: str) -> bool:
        """Revoke a certificate, at once and for every daemon; False if it was already."""

    async def find(self, text: str) -> IssuedCertificate:
        """
        Read one by fingerprint or serial number.

        :raises NotHere: none is known by it.
        """

    async def page(self, after: str = "", limit: int = 100) -> list[IssuedCertificate]:
        """Read them by their end, those that end first; ``after`` a fingerprint."""

    async def put_challenge(self, challenge: Challenge) -> None:
        """Store a one-time challenge."""

    async def put_link(self, link: Link) -> None:
        """Store a one-time link."""

    async def take_link(self, secret: str, request: str) -> Link:
        """
        Use up a one-time link.

        :raises NotHere: it is not known, used, or expired.
        """


@attrs.frozen
class Renewal:
    """How far the renewal of a device's identity is; docs/identities.md has the states."""

    enrollment: EnrollmentID
    state: str  # "" | "sent" | "failed" | "renewed"
    at: int  # milliseconds, when it got there
    attempts: int
    uuid: str  # of the InstallProfile
    pin: str  # fingerprint
    next_pin: str  # fingerprint of the new certificate, once it is issued
    not_before: int  # epoch seconds, of the pinned certificate
    not_after: int
    enabled: bool


class IRenewals(Protocol):
    """The work of renewing identities."""

    async def claim_due(self, limit: int, lease_ms: int) -> list[Renewal]:
        """Take up to ``limit`` that are due; they are due again when the lease ends."""

    async def get(self, enrollment: EnrollmentID) -> Renewal:
        """Say how far one is; without a pin there is nothing to renew."""

    async def move(
        self,
        renewal: Renewal,
        state: str,
        next_step: int | None,
        attempts: int = 0,
        uuid: str = "",
        reason: str = "",
    ) -> bool:
        """
        Move it on, and say when to look at it again (ms; None: never).

        False if it has moved meanwhile, and then nothing is changed.
        """


# -- apps that we serve ------------------------------------------------------------


class IShelf(Protocol):
    """Apps on the device site, as operators see them: plain words of each."""

    def append(self, upload: str, piece: bytes) -> str:
        """
        Take a piece of an app's file; ``upload`` "" begins one. Give the upload's name.

        :raises NotHere: there is no such upload any more.
        :raises TooLarge: the app is too large.
        """

    def put(self, upload: str, title: str) -> dict[str, object]:
        """
        Put an app on the shelf whose last piece has come.

        :raises NotHere: there is no such upload any more.
        :raises BadMessage: it is no app.
        """

    def show(self) -> list[dict[str, object]]:
        """Say of each app what operators see, the newest first."""

    def take_off(self, token: str) -> dict[str, object]:
        """
        Take an app off the shelf.

        :raises NotHere: there is none of this token.
        """


# -- moving (ops/ asks the store) ------------------------------------------------------


class Moved(StrEnum):
    """What became of a record that was put."""

    NEW = "new"
    SAME = "same"  # it was here already, just so


class IMoving(Protocol):
    """Everything of enrollments out of one store and into another; docs/moving.md."""

    async def devices(self, after: str, limit: int) -> tuple[list[dict[str, Any]], str]:
        """Read devices with their channels in id order; "" in the answer is the end."""

    async def commands(self, uuids: Sequence[str]) -> list[dict[str, Any]]:
        """Read commands that are in queues."""

    async def push_certificates(self) -> list[dict[str, Any]]:
        """Read every push certificate with its key."""

    async def groups(self) -> list[dict[str, Any]]:
        """Read every group with its members."""

    async def put(self, record: dict[str, Any], dry_run: bool = False) -> Moved:
        """
        Write a record unless it is here already.

        :raises Conflict: it is here, but not the same; nothing was changed.
        :raises BadRequest: it is no record.
        """
