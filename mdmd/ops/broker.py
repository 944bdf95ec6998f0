"""
Perspective Broker's own protocol, with limits that hold.

Twisted's Banana bounds each string and each list, but not what they add up to,
and its Jelly makes objects of some classes that mdmd has no use for. Here one
expression has a bounded size and depth, only plain values and references are
read, and whatever is not Perspective Broker ends the connection with one line.
"""

from io import BytesIO
from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.spread import jelly, pb

from mdmd.ops.spelling import Spelled, begin_list

log = Logger()

STRANGER = 8 * 1024  # bytes of one expression before the caller is known
LARGEST = 1024 * 1024  # and after
DEEPEST = 50  # lists in lists

# How CopyableFailure spells itself: what a client's own method ended with.
_FAILURE = b"twisted.spread.pb.CopyableFailure"


class PlainValues(jelly.SecurityOptions):
    """Let plain values, references and failures in, nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.allowTypes("dictionary", "list", "tuple", "long_int", "long", "dict")
        self.allowTypes("remote", "local", _FAILURE.decode())
        for each in (b"set", b"frozenset", b"decimal", b"time", b"timedelta"):
            del self.allowedTypes[each]
        # On the way out types go by their full names.
        for plain in ("bool", "int", "float", "str", "bytes", "NoneType", "list", "tuple", "dict"):
            self.allowTypes(f"builtins.{plain}")

    def isTypeAllowed(self, typeName: Any) -> bool:
        """Twisted's own lets any name with a dot pass."""
        name = typeName.encode() if isinstance(typeName, str) else typeName
        return name in self.allowedTypes


class Refused(Exception):
    """What came is more, or deeper, than anything mdmd reads."""


class Broker(pb.Broker):
    """One connection of an operator's program."""

    transport: Any
    largest = STRANGER
    _expression = 0  # bytes of the one that is being received

    def dataReceived(self, chunk: bytes) -> None:
        """Read what came; anything that can't be read ends the connection."""
        self._expression += len(chunk)
        try:
            if self._expression > self.largest:
                raise Refused(f"an expression of more than {self.largest} bytes")
            super().dataReceived(chunk)
            self._check_depth()
        except Exception as error:
            self._refuse(error)

    def sendEncoded(self, obj: Any) -> None:
        """Send an expression; an answer may be spelled already."""
        if not (isinstance(obj, tuple) and obj and isinstance(obj[-1], Spelled)):
            super().sendEncoded(obj)
            return
        stream = BytesIO()
        begin_list(len(obj), stream.write)
        for each in obj[:-1]:
            self._encode(each, stream.write)
        stream.write(obj[-1].content)
        self.transport.write(stream.getvalue())

    def callExpressionReceived(self, obj: object) -> None:
        """Take a whole expression; the next one is counted anew."""
        self._expression = 0
        super().callExpressionReceived(obj)

    def gotItem(self, item: object) -> None:
        """Take one item; how deep it is in lists is bounded."""
        self._check_depth()
        super().gotItem(item)

    def _check_depth(self) -> None:
        if len(self.listStack) > DEEPEST:
            raise Refused(f"lists in lists, deeper than {DEEPEST}")

    def _refuse(self, error: Exception) -> None:
        log.info(
            "closed a Perspective Broker connection: {reason}",
            reason=str(error)[:200] or type(error).__name__,
        )
        self.buffer, self.listStack = b"", []
        self.transport.abortConnection()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        """Forget what was half received."""
        self.buffer, self.listStack = b"", []
        super().connectionLost(reason)
