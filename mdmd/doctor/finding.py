"""What a check found, in one line, with what to do about it."""

from enum import StrEnum

import attrs


class Grade(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  # it works, but not for long, or not as well as it could
    FAILED = "failed"  # something does not work
    SKIPPED = "skipped"  # it could not be looked at


@attrs.frozen
class Finding:
    """
    One line of the doctor's.

    :ivar subject: what was looked at, one or two words.
    :ivar remedy: what to do, "" if there is nothing to do.
    """

    grade: Grade
    subject: str
    text: str
    remedy: str = ""


def ok(subject: str, text: str) -> Finding:
    """Say that all is well."""
    return Finding(Grade.OK, subject, text)


def warning(subject: str, text: str, remedy: str) -> Finding:
    """Say what will be trouble."""
    return Finding(Grade.WARNING, subject, text, remedy)


def failed(subject: str, text: str, remedy: str) -> Finding:
    """Say what does not work."""
    return Finding(Grade.FAILED, subject, text, remedy)


def skipped(subject: str, text: str) -> Finding:
    """Say what could not be looked at, and why."""
    return Finding(Grade.SKIPPED, subject, text)
