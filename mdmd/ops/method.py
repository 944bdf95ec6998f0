"""
How a method for operators is declared: who may call it, and what the audit keeps of it.

.. code-block:: python

    class Queue(Subject):
        name = "queue"

        @method(Role.OPERATOR, audit=("id", "uuid"))
        async def cancel(self, caller: Caller, id: str, uuid: str) -> Wire:
            ...

The annotations are held against what arrives; see :mod:`mdmd.ops.perspective`.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from mdmd.interfaces.audit import on_some
from mdmd.ops.operators import Role

if TYPE_CHECKING:
    from mdmd.ops.desk import Desk

Wire = Any  # None, bool, int, float, str, bytes, datetime, and lists and dicts of them
Arguments = Mapping[str, Any]
Facts = Callable[[Arguments], Mapping[str, str]]
NeededRole = Role | Callable[["Desk", Arguments], Role]
Function = TypeVar("Function", bound=Callable[..., Awaitable[Wire]])


@attrs.frozen
class Caller:
    """
    Who calls.

    :ivar source: from where, as the audit tells it: ``unix uid 0``, ``tls 192.0.2.1``,
        ``ssh 192.0.2.1``.
    :ivar noted: what a method adds to the audit's entry of this call.
    :ivar on: the ids of the enrollments that the call turned out to be about; while
        there are none, the entry has what was typed.
    """

    name: str
    role: Role
    source: str
    noted: dict[str, str] = attrs.field(factory=dict, eq=False)
    on: list[str] = attrs.field(factory=list, eq=False)

    def note_page(self, enrollments: Iterable[str], **facts: str) -> None:
        """Note whom a page is about, the first ones by name, and what is said of it."""
        named, more = on_some(enrollments)
        self.on.extend(named)
        self.noted.update(facts | more)


@attrs.frozen
class Declared:
    """What :func:`method` says of a method."""

    role: NeededRole
    audit: tuple[str, ...] | None
    facts: Facts | None = None

    def role_for(self, desk: "Desk", arguments: Arguments) -> Role:
        """Say who may make this very call."""
        return self.role if isinstance(self.role, Role) else self.role(desk, arguments)


def method(
    role: NeededRole, audit: tuple[str, ...] | None = None, facts: Facts | None = None
) -> Callable[[Function], Function]:
    """
    Declare a method that operators may call.

    :param role: the least role; or what says it from the desk and the call's arguments.
    :param audit: the names of the arguments that the audit keeps. None: a plain
        read, not audited. Acts and reads of secrets are always audited; name no
        argument that carries a secret.
    :param facts: makes of the arguments what else the audit keeps, of a refused call too.
    """

    def declare(function: Function) -> Function:
        function.declared = Declared(role, audit, facts)  # type: ignore[attr-defined]
        return function

    return declare


@attrs.frozen
class Method:
    """One method as it can be called; ``spelled`` are its arguments, for people."""

    name: str
    function: Callable[..., Awaitable[Wire]] = attrs.field(repr=False)
    signature: inspect.Signature
    hints: Mapping[str, Any] = attrs.field(repr=False)
    declared: Declared
    text: str

    @property
    def spelled(self) -> list[str]:
        """Spell each argument as it may be given, such as ``limit=100``."""
        parameters = list(self.signature.parameters.values())[1:]
        return [
            each.name if each.default is each.empty else f"{each.name}={each.default!r}"
            for each in parameters
        ]


class Subject:
    """
    A group of methods about one thing; ``NAME.METHOD`` is how a client calls them.

    :ivar table: every method of every subject, once all are there.
    """

    name = ""
    table: Mapping[str, Method] = {}

    def __init__(self, desk: "Desk") -> None:
        self.desk = desk
