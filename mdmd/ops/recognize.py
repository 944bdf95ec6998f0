"""Who is at the other end of a connection: by the kernel, a certificate, or a password."""

import socket
import struct
from typing import Any, Protocol

import attrs
from cryptography.hazmat.primitives.hashes import SHA256

from mdmd.errors import NotAllowed
from mdmd.ops.method import Caller
from mdmd.ops.operators import Operator, Operators
from mdmd.ops.passwords import Attempts, log_in


class Recognizes(Protocol):
    """Says who is at the other end of a connection, and where they come from."""

    @property
    def by(self) -> str:
        """Say what :meth:`by_transport` goes by."""

    def source(self, transport: Any) -> str:
        """Say where they come from, as the audit tells it."""

    def by_transport(self, transport: Any) -> tuple[Operator, str]:
        """
        Go by what the transport knows.

        :raises NotAllowed: it does not say, or nobody known.
        """

    async def by_password(self, transport: Any, name: str, password: str) -> tuple[Operator, str]:
        """
        Go by name and password.

        :raises NotAllowed: wrong, or too many attempts.
        """


def caller_now(operators: Operators, operator: Operator, source: str, by: str) -> Caller:
    """
    Say how far somebody who was let in reaches now.

    :param operator: as they were then, with the certificate that they showed only.
    :param by: what they were let in by.
    :raises NotAllowed: they were removed meanwhile, or what let them in was taken away.
    """
    now = operators.all().get(operator.name)
    if now is None:
        raise NotAllowed(f"{operator.name} is no operator any more")
    holds = {
        "uid": now.uid == operator.uid,
        "password": now.password == operator.password,
        "certificate": set(operator.certificates) <= set(now.certificates),
    }
    if not holds[by]:
        raise NotAllowed(f"the {by} that let {now.name} in is not theirs any more")
    return Caller(now.name, now.role, source)


@attrs.frozen
class ByUid:
    """On a unix socket the kernel says who calls."""

    operators: Operators
    by: str = "uid"

    def source(self, transport: Any) -> str:
        """Say which uid it is."""
        return f"unix uid {peer_uid(transport.socket)}"

    def by_transport(self, transport: Any) -> tuple[Operator, str]:
        """Go by the peer's uid."""
        return self.operators.by_uid(peer_uid(transport.socket)), self.source(transport)

    async def by_password(self, transport: Any, name: str, password: str) -> tuple[Operator, str]:
        """Refuse: a password has no business here."""
        raise NotAllowed("on the unix socket the kernel says who you are: enter(version)")


@attrs.frozen
class ByTLS:
    """Over TLS a client certificate says it, or name and password."""

    operators: Operators
    attempts: Attempts
    by: str = "certificate"

    def by_transport(self, transport: Any) -> tuple[Operator, str]:
        """Go by the fingerprint of the client certificate."""
        certificate = getattr(transport, "getPeerCertificate", lambda: None)()
        if certificate is None:
            raise NotAllowed("no client certificate: login(version, name, password)")
        fingerprint = certificate.to_cryptography().fingerprint(SHA256()).hex()
        operator = self.operators.by_certificate(fingerprint)
        return attrs.evolve(operator, certificates=(fingerprint,)), self.source(transport)

    async def by_password(self, transport: Any, name: str, password: str) -> tuple[Operator, str]:
        """Go by name and password."""
        if not (hasattr(transport, "getPeerCertificate") or _on_this_machine(transport)):
            raise NotAllowed("a password is taken over TLS only")
        source = self.source(transport)
        return await log_in(self.operators, self.attempts, name, password, source), source

    def source(self, transport: Any) -> str:
        """Say which address it is."""
        return f"tls {getattr(transport.getPeer(), 'host', '-')}"


def _on_this_machine(transport: Any) -> bool:
    return getattr(transport.getPeer(), "host", "") in ("127.0.0.1", "::1")


def peer_uid(peer: socket.socket) -> int:
    """
    Ask the kernel which user is at the other end of a unix socket.

    Source: unix(7), SO_PEERCRED: pid, uid, gid, three C ints.
    """
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)
