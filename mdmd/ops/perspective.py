"""
Every call of an operator goes through here: Perspective Broker's, and the manhole's.

The one place where a method is looked up, its arguments are held against its
annotations, the caller's role against the declared one, and the audit is written.
What is not declared with :func:`mdmd.ops.method.method` can't be called at all.
"""

import inspect
import types
from collections.abc import Mapping, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from mdmd.errors import BadRequest, InternalError, MdmdError, NotAllowed, StoreUnavailable
from mdmd.interfaces.audit import BEGUN, AuditEntry, on_refused
from mdmd.ops.desk import Desk
from mdmd.ops.method import Caller, Declared, Method, Subject, Wire
from mdmd.ops.subjects.apps import Apps
from mdmd.ops.subjects.audit import AuditSubject
from mdmd.ops.subjects.ca import Ca, EnrollSubject
from mdmd.ops.subjects.certificates import Certificates
from mdmd.ops.subjects.commands import Commands
from mdmd.ops.subjects.enrollments import Enrollments
from mdmd.ops.subjects.events import Events
from mdmd.ops.subjects.inventory import Groups, Inventory, Pins, TargetsSubject
from mdmd.ops.subjects.moving import Moving
from mdmd.ops.subjects.operators import OperatorsSubject
from mdmd.ops.subjects.push import Push
from mdmd.ops.subjects.queue import Queue, Results
from mdmd.ops.subjects.status import Status
from mdmd.ops.subjects.webhooks import Webhooks

log = Logger()

# A new group of methods: one module in subjects/, one name here, its table in docs/pb.md.
SUBJECTS: tuple[type[Subject], ...] = (
    Apps,
    AuditSubject,
    Ca,
    Certificates,
    Commands,
    EnrollSubject,
    Enrollments,
    Events,
    Groups,
    Inventory,
    Moving,
    OperatorsSubject,
    Pins,
    Push,
    Queue,
    Results,
    Status,
    TargetsSubject,
    Webhooks,
)

_INTEGERS = 2**63  # no store has larger ones, and nothing is counted so far
_AUDITED = 500  # characters of one fact
_MOST_AUDITED = 1000  # enrollments named in one entry


class Perspective:
    """All methods of all subjects, for whoever may call them."""

    def __init__(self, desk: Desk, subjects: Sequence[type[Subject]] = SUBJECTS) -> None:
        self.desk = desk
        self.methods: dict[str, Method] = {}
        for subject in subjects:
            made = subject(desk)
            self.methods.update(_methods(made))
            made.table = self.methods

    async def call(
        self, caller: Caller, name: str, args: Sequence[Wire] = (), kw: Mapping[str, Wire] = {}
    ) -> Wire:
        """
        Make one call.

        :raises BadRequest: no such method, or arguments that don't fit.
        :raises NotAllowed: the caller's role does not reach this far.
        :raises MdmdError: whatever the method refuses.
        :raises InternalError: it failed; the log has the traceback.
        """
        method = self.methods.get(name)
        if method is None:
            self.note_refused(caller.name, caller.source, name, "no such method")
            raise BadRequest(f"no method {name[:80]!r}; status.methods lists them")
        caller = attrs.evolve(caller, noted={}, on=[])
        begun: AuditEntry | None = None
        try:
            arguments = _bind(method, args, kw)
        except BadRequest:
            self.note_refused(caller.name, caller.source, name, "its arguments don't fit")
            raise
        try:
            needed = method.declared.role_for(self.desk, arguments)
            if caller.role < needed:
                raise NotAllowed(f"{name} needs the role {needed}; {caller.name} is {caller.role}")
            begun = await self._begin(caller, method, arguments)
            answer = await method.function(caller, **arguments)
        except CancelledError:
            await self._audit(caller, method, arguments, "cancelled", begun)
            raise
        except MdmdError as error:
            await self._audit(caller, method, arguments, type(error).__name__, begun)
            raise
        except Exception:
            log.failure("{method} failed", method=name)
            await self._audit(caller, method, arguments, "InternalError", begun)
            raise InternalError("mdmd failed here; its log says how") from None
        # Before the answer goes out: no secret is read without a trace.
        await self._audit(caller, method, arguments, _outcome(caller, answer), begun)
        return answer

    def note_refused(
        self, who: str, source: str, name: str, reason: str, outcome: str = "BadRequest"
    ) -> None:
        """Note a call that was refused before it was one, without what was given with it."""
        if self.desk.refusals is not None:
            self.desk.refusals.note_call(who, source, name, reason, outcome)

    async def _begin(
        self, caller: Caller, method: Method, arguments: Mapping[str, Wire]
    ) -> AuditEntry | None:
        """Note a call before it is made: the daemon may be killed before it ends."""
        if method.declared.audit is None:
            return None
        entry = _entry(caller, method, arguments, BEGUN)
        try:
            return attrs.evolve(entry, id=await self.desk.audit.write(entry))
        except StoreUnavailable as error:  # what needs no store can be done all the same
            _tell(entry)
            log.error("how a call began is in this log only: {reason}", reason=str(error))
            return None

    async def _audit(
        self,
        caller: Caller,
        method: Method,
        arguments: Mapping[str, Wire],
        outcome: str,
        begun: AuditEntry | None,
    ) -> None:
        if method.declared.audit is None:
            return
        entry = _entry(caller, method, arguments, outcome)
        _tell(entry)
        if begun is None:
            await self.desk.audit.write(entry)
        else:
            await self.desk.audit.end(begun, entry)


def _tell(entry: AuditEntry) -> None:
    log.info(
        "audit: {who} from {source}: {what} {facts} on {enrollments}: {outcome}",
        who=entry.who,
        source=entry.source,
        what=entry.what,
        facts=entry.facts,
        enrollments=len(entry.enrollments) if len(entry.enrollments) > 3 else entry.enrollments,
        outcome=entry.outcome,
    )


def _methods(subject: Subject) -> dict[str, Method]:
    found = {}
    for name, function in inspect.getmembers(subject, inspect.ismethod):
        declared = getattr(function, "declared", None)
        if isinstance(declared, Declared):
            full = f"{subject.name}.{name}"
            found[full] = Method(
                full,
                function,
                inspect.signature(function),
                get_type_hints(function),
                declared,
                inspect.getdoc(function) or "",
            )
    return found


def _outcome(caller: Caller, answer: Wire) -> str:
    """Say how a call went that may have gone well for some enrollments only; note for which not."""
    status = answer.get("status") if isinstance(answer, dict) else None
    if not isinstance(status, dict) or not status:
        return "ok"
    sent = bool(answer.get("command_uuid"))  # not only a push
    refused = [
        name
        for name, told in status.items()
        if "command_error" in told
        or ("push_error" in told and not sent and "command_uuid" not in told)
    ]
    outcome, note = on_refused(refused, len(status))
    caller.noted.update(note)
    return outcome


# -- arguments -----------------------------------------------------------------------


def _bind(method: Method, args: Sequence[Wire], kw: Mapping[str, Wire]) -> dict[str, Wire]:
    try:
        bound = method.signature.bind(None, *args, **kw)
    except TypeError as error:
        raise BadRequest(f"{method.name}: {error}") from None
    arguments = dict(bound.arguments)
    arguments.pop("caller")
    for name, value in arguments.items():
        if not _fits(value, method.hints[name]):
            raise BadRequest(
                f"{method.name}: {name} is expected to be {_spell(method.hints[name])}"
            )
    return arguments


def _fits(value: Wire, hint: Any) -> bool:
    """Say whether a value from outside is what a method's annotation says."""
    origin, inside = get_origin(hint), get_args(hint)
    if hint is Any or hint is object:
        return True
    if hint is None or hint is types.NoneType:
        return value is None
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in inside)
    if origin is list:
        return isinstance(value, list) and all(_fits(each, inside[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(key, inside[0]) and _fits(each, inside[1]) for key, each in value.items()
        )
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _INTEGERS
    return isinstance(value, hint)


def _spell(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)


def _entry(
    caller: Caller, method: Method, arguments: Mapping[str, Wire], outcome: str
) -> AuditEntry:
    kept = {name: arguments[name] for name in method.declared.audit or () if name in arguments}
    typed: list[str] = []
    for name in ("id", "ids"):
        value = kept.pop(name, [])
        typed += [value] if isinstance(value, str) else value
    enrollments = caller.on or typed
    made = method.declared.facts(arguments) if method.declared.facts is not None else {}
    facts = {
        name: str(value)[:_AUDITED]
        for name, value in {**kept, **made, **caller.noted}.items()
        if value not in (None, "")
    }
    if len(enrollments) > _MOST_AUDITED:
        facts["enrollments"] = str(len(enrollments))
    return AuditEntry(
        caller.name,
        caller.source,
        method.name,
        tuple(each[:_AUDITED] for each in enrollments[:_MOST_AUDITED]),
        facts,
        outcome,
    )
