"""How simulated devices misbehave, when they are told to."""

import attrs

FAULTS = ("notnow", "error", "format-error", "silent", "slow", "garbage")

GARBAGE = b"<plist><dict><key>Status</key><string>Acknow"


@attrs.frozen
class Manners:
    """
    What is wrong with a device; nothing by default.

    :ivar fault: one of :data:`FAULTS`: it reports NotNow, Error or CommandFormatError, takes a
        command without a word, takes ``delay`` for each, or sends what is no report.
    :ivar times: at how many commands; 0: at all of them.
    :ivar delay: seconds; for ``slow``, and until a device that said NotNow comes back.
    """

    fault: str = ""
    times: int = 1
    delay: float = 2.0


@attrs.define
class Mood:
    """A device's manners, and how often it has misbehaved."""

    manners: Manners = attrs.field(factory=Manners)
    done: int = 0

    def misbehaves(self) -> str:
        """Say how it misbehaves at the next command, "" if it does not."""
        if not self.manners.fault or (self.manners.times and self.done >= self.manners.times):
            return ""
        self.done += 1
        return self.manners.fault
