"""Logging in to the manhole: which keys are let in, and a note of what was refused."""

from typing import Any

import attrs
from twisted.conch.error import IgnoreAuthentication, ValidPublicKey
from twisted.conch.ssh import userauth
from twisted.conch.ssh.keys import Key
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ISSHPrivateKey
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mdmd.errors import MdmdError
from mdmd.ops.manhole.admission import Admission

log = Logger()

HURRY = 20  # seconds to log in


@implementer(ICredentialsChecker)
class KeyChecker:
    """Lets in who can sign with a key that is an admin's; the user name does not matter."""

    credentialInterfaces = (ISSHPrivateKey,)

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def requestAvatarId(self, credentials: Any) -> "Deferred[str]":
        """Say whose key signed, as ``TYPE BASE64``; Conch calls this."""
        try:
            key = Key.fromString(credentials.blob)
            spelled = key.public().toString("OPENSSH").decode()
            spelled = " ".join(spelled.split()[:2])
            self._admission.admin(spelled)
        except MdmdError as error:
            log.warn("the manhole turned somebody away: {reason}", reason=str(error))
            raise UnauthorizedLogin(str(error)) from None
        except Exception as error:  # whatever Conch makes of a damaged key
            log.warn("the manhole turned a key away: {reason}", reason=str(error)[:200])
            raise UnauthorizedLogin("not a key") from None
        if not credentials.signature:
            raise ValidPublicKey
        if not key.verify(credentials.signature, credentials.sigData):
            raise UnauthorizedLogin("the signature is wrong")
        return succeed(spelled)


@attrs.frozen
class Refused:
    """What somebody showed that does not let them in, and why it does not."""

    by: str
    reason: str
    name: str


class Authentication(userauth.SSHUserAuthServer):
    """Logging in, with fewer attempts than Conch gives."""

    loginTimeout = HURRY
    attemptsBeforeDisconnect = 6
    passwordDelay = 0  # keys can't be guessed; a client with many of them need not wait
    transport: Any

    def tryAuth(self, kind: bytes, user: bytes, data: bytes) -> "Deferred[Any]":
        """Let Conch look at what is shown, and remember what was refused."""
        trying: Deferred[Any] = super().tryAuth(kind, user, data)
        return trying.addErrback(self._refused, kind, user)

    def _refused(self, failure: Failure, kind: bytes, user: bytes) -> Failure:
        # "none" asks what there is; what is ignored was answered: the key will do, sign with it.
        if kind != b"none" and not failure.check(IgnoreAuthentication):
            name = user[:256].decode("utf-8", "replace")
            told = failure.check(UnauthorizedLogin)
            reason = failure.getErrorMessage() if told else "public keys only"
            by = "SSH key" if kind == b"publickey" else "SSH, no key"
            self.transport.refused.append(Refused(by, reason, name))
        return failure
