"""
What can go wrong, by whose fault it is.

A class stands for a cause, not for a status: :mod:`mdmd.web.respond` holds the
one table that turns a cause into an HTTP status. Texts of these errors are
meant for the person or program that sent the bad input; they never carry a
secret and never tell of the inside.
"""


class MdmdError(Exception):
    """Anything mdmd refuses or fails at on purpose."""


class BadMessage(MdmdError):
    """A device or program sent bytes that are not a message we know."""


class TooLarge(BadMessage):
    """The message is larger than the configured limit."""


class NoIdentity(MdmdError):
    """The request shows no certificate, or one our CA did not issue."""


class WrongIdentity(MdmdError):
    """The certificate shown is not the one pinned to this enrollment."""


class NotEnrolled(WrongIdentity):
    """Nothing is pinned to this enrollment: it never sent Authenticate."""


class Gone(MdmdError):
    """The message kind is declined for good (UserAuthenticate by default)."""


class NotHere(MdmdError):
    """There is no such thing: enrollment, command, declaration, certificate."""


class BadRequest(MdmdError):
    """An operator or integrator asked for something that makes no sense."""


class Conflict(MdmdError):
    """The request contradicts what is stored (a duplicate CommandUUID, another topic)."""


class NotAllowed(MdmdError):
    """The operator's role does not reach this far."""


class InternalError(MdmdError):
    """mdmd itself failed; its log says how. Nothing of the inside is told to the caller."""


class StoreUnavailable(MdmdError):
    """
    The store did not answer in time, or the connection broke.

    Whether the step was applied is unknown: every script can be repeated
    safely, so the sender should try again.
    """


class Unreachable(MdmdError):
    """Another server that this needs (Apple's, for an escrow key) did not answer."""


class StoreCorrupt(MdmdError):
    """A stored value could not be read: wrong sealing key, or damaged data."""


class BadCertificate(MdmdError):
    """A certificate, key or request could not be read or does not hold up."""


class BadSignature(BadCertificate):
    """A signature, its digest or its chain does not hold."""


class BadSCEP(MdmdError):
    """
    A SCEP request is refused.

    :ivar fail_info: RFC 8894 failInfo, the word as in the RFC: ``badAlg``,
        ``badMessageCheck``, ``badRequest``, ``badTime`` or ``badCertId``.
    """

    def __init__(self, text: str, fail_info: str = "badRequest") -> None:
        super().__init__(text)
        self.fail_info = fail_info


class ConfigError(MdmdError):
    """
    The configuration file has mistakes.

    :ivar mistakes: one line each, naming file, section, key and what is expected.
    """

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes
