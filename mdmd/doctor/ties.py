"""What an enrollment's keys say of one another, of others' keys, and of the sealing key."""

import time
from collections.abc import Callable, Iterator, Sequence

import attrs

from mdmd.doctor.redis import Client, Value
from mdmd.errors import BadMessage, StoreCorrupt
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.pki.sealing import Sealer
from mdmd.store import keys

_REVOKED = b"!"


@attrs.frozen
class Tie:
    """
    Something that does not fit.

    :ivar odd: it breaks no rule.
    """

    subject: str
    text: str
    odd: bool = False


def broken_ties(client: Client, ids: Sequence[str], sealer: Sealer | None) -> Iterator[Tie]:
    """
    Look at enrollments that may change meanwhile: what is wrong is wrong twice.

    :param sealer: None: whether sealed values open is not looked at.
    :raises StoreUnavailable: the store does not answer.
    """
    first = list(_look(client, ids, sealer))
    if first:
        suspects = sorted({each.subject for each in first})
        again = set(_look(client, suspects, sealer))
        yield from (each for each in first if each in again)


def _look(client: Client, ids: Sequence[str], sealer: Sealer | None) -> Iterator[Tie]:
    ones = [one for text in ids for one in _parse(text)]
    questions = [each for one in ones for each in _questions(one)]
    answers = client.ask_all(questions) if questions else []
    size = len(questions) // max(1, len(ones))
    parts = [answers[start : start + size] for start in range(0, len(answers), size or 1)]
    owners = _owners(client, [(part[0][0], part[1]) for part in parts])
    for one, part, (pinned, known) in zip(ones, parts, owners, strict=True):
        (pin, ends, *numbers), serial, *sealed = part
        yield from _numbers(str(one), numbers)
        if not one.channel:
            yield from _pin(str(one), pin, ends, pinned)
            if serial and known is None:
                text = f"nobody has its serial number {serial.decode(errors='replace')}"
                yield Tie(str(one), text, odd=True)
        if sealer is not None:
            yield from _sealed(one, sealed, sealer.unseal)


def _parse(text: str) -> Iterator[EnrollmentID]:
    try:
        yield EnrollmentID.parse(text)
    except BadMessage:
        yield from ()  # said elsewhere


def _questions(one: EnrollmentID) -> list[tuple[object, ...]]:
    return [
        ("HMGET", keys.record(one), "pin", "ends", "enabled", "tally", "generation"),
        ("HGET", keys.facts(one), "SerialNumber"),
        ("GET", keys.push(one)),
        ("GET", keys.unlock(one)),
        ("GET", keys.bootstrap(one)),
    ]


def _owners(client: Client, told: Sequence[tuple[Value, Value]]) -> Iterator[tuple[Value, Value]]:
    """Say who has a fingerprint, and who has a serial number."""
    asked = [
        each
        for pin, serial in told
        for each in (
            ("GET", keys.pin("") + (pin or b"")),
            ("GET", keys.SERIALS + (serial or b"")),
        )
    ]
    answers = client.ask_all(asked) if asked else []
    return zip(answers[::2], answers[1::2], strict=True)


def _numbers(name: str, numbers: Sequence[bytes | None]) -> Iterator[Tie]:
    for what, text in zip(("state", "tally", "generation"), numbers, strict=True):
        if text is not None and not text.isdigit():
            yield Tie(name, f"its {what} is no number")


def _pin(name: str, pin: bytes | None, ends: bytes | None, owner: bytes | None) -> Iterator[Tie]:
    """A pin and the key of the certificate say the same, for as long as the certificate lasts."""
    if not pin or pin.startswith(_REVOKED) or owner == name.encode():
        return
    if owner and not owner.startswith(_REVOKED):
        yield Tie(name, f"its certificate is pinned to {owner.decode(errors='replace')}")
    elif not owner and ends and ends.isdigit() and int(ends) > time.time():
        yield Tie(name, "its certificate is pinned to nobody")


def _sealed(
    one: EnrollmentID, values: Sequence[bytes | None], unseal: Callable[[bytes, bytes], bytes]
) -> Iterator[Tie]:
    places = (keys.push(one), keys.unlock(one), keys.bootstrap(one))
    names = ("push token", "unlock token", "bootstrap token")
    its_own = 1 if one.channel else 3  # the other tokens are its device's
    for name, place, value in list(zip(names, places, values, strict=True))[:its_own]:
        try:
            if value:
                unseal(value, place)
        except StoreCorrupt:
            yield Tie(str(one), f"its {name} does not open: damaged, or of another sealing key")
