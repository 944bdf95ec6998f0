"""Device certificates: which were issued, which are revoked, and what lets a device have one."""

from collections.abc import Sequence

import attrs

from mdmd.errors import BadSCEP, NotHere, WrongIdentity
from mdmd.interfaces.certificates import Challenge, IssuedCertificate, Link
from mdmd.store import keys
from mdmd.store.link import ScriptError
from mdmd.store.subject import Tools, Word

KEPT = 30 * 86400  # seconds that a certificate is known after its end
_REMEMBERED = 86400_000  # ms that a challenge or link is known after its use or its end

_CHALLENGES = {
    "unknown": "the challenge is not known",
    "used": "the challenge has been used",
    "expired": "the challenge has expired",
    "name": "the challenge is for another name than the request's",
}


@attrs.frozen
class Identities:
    """Implements :class:`mdmd.interfaces.certificates.IIdentities`."""

    _tools: Tools

    async def issued(
        self, certificate: IssuedCertificate, request: str, name: str = "", challenge: str = ""
    ) -> None:
        """
        Record a certificate and use up its challenge; see ``IIdentities``.

        :raises BadSCEP: the challenge is not good for it, or what it renews is revoked.
        """
        it, settings = certificate, self._tools.settings
        names = (
            *(keys.identity(it.fingerprint), keys.pin(it.fingerprint)),
            *(keys.identity_serial(it.serial), keys.ISSUED, keys.challenge(challenge)),
            *(keys.pin(it.renews), keys.identity(it.renews)),
        )
        args: tuple[Word, ...] = (
            *(it.fingerprint, it.serial, it.not_before, it.not_after, it.subject, name, it.via),
            *(request, it.renews, int(settings.refuse_unknown), it.enrollment, *keys.RECORD, KEPT),
            *(it.label, keys.from_hex(it.fingerprint)),
        )
        try:
            await self._tools.change("issue", names, args)
        except WrongIdentity as error:
            raise BadSCEP(str(error), "badCertId") from None
        except ScriptError as error:
            if error.code != "CHALLENGE":
                raise
            raise BadSCEP(_CHALLENGES[error.text]) from None

    async def revoke(self, fingerprint: str, reason: str) -> bool:
        """
        Revoke a certificate, at once and everywhere; False if it was already.

        One that it was renewed to goes with it, as long as the device has not shown it.
        """
        names = (keys.identity(fingerprint), keys.pin(fingerprint))
        args = (fingerprint, reason, *keys.RECORD, keys.identity(""), keys.pin(""))
        return bool(await self._tools.change("revoke", names, args))

    async def find(self, text: str) -> IssuedCertificate:
        """
        Read a certificate by fingerprint or serial number, hex.

        :raises NotHere: none is known by it.
        """
        text = text.lower().replace(":", "")
        if len(text) != 64:
            number = text.lstrip("0")
            found = await self._tools.link.call("GET", keys.identity_serial(number))
            text = found.hex() if found else ""
        (found,) = await self._read([text]) if text else (None,)
        if found is None:
            raise NotHere("no certificate is known by this serial number or fingerprint")
        return found

    async def page(self, after: str = "", limit: int = 100) -> list[IssuedCertificate]:
        """Read certificates by their end, those that end first; ``after`` a fingerprint."""
        start = 0
        if after:
            rank = await self._tools.link.call("ZRANK", keys.ISSUED, keys.from_hex(after))
            start = 0 if rank is None else rank + 1
        members = await self._tools.link.call(
            "ZRANGE", keys.ISSUED, start, start + max(1, min(limit, 1000)) - 1
        )
        found = await self._read([member.hex() for member in members])
        return [each for each in found if each is not None]

    async def _read(self, fingerprints: Sequence[str]) -> list[IssuedCertificate | None]:
        answers = [
            await self._tools.link.call("HGETALL", keys.identity(each)) for each in fingerprints
        ]
        return [
            _certificate(fingerprint, answer) if answer else None
            for fingerprint, answer in zip(fingerprints, answers, strict=True)
        ]

    # -- challenges and links --------------------------------------------------

    async def put_challenge(self, challenge: Challenge) -> None:
        """Store a one-time challenge under its digest."""
        it = challenge
        await self._put(
            keys.challenge(it.secret),
            it.expires,
            ("name", it.name, "enrollment", it.enrollment, "label", it.label),
        )

    async def put_link(self, link: Link) -> None:
        """Store a one-time link under its digest."""
        facts = ("name", link.name, "label", link.label)
        await self._put(keys.link(link.secret), link.expires, facts)

    async def _put(self, place: bytes, expires: int, facts: Sequence[Word]) -> None:
        life = max(0, expires - self._tools.now()) + _REMEMBERED
        await self._tools.link.script("put_challenge", (place,), (expires, life, *facts))

    async def take_link(self, secret: str, request: str) -> Link:
        """
        Use up a one-time link.

        :raises NotHere: it is not known, used, or expired.
        """
        try:
            label, name = await self._tools.change("take_link", (keys.link(secret),), (request,))
        except ScriptError as error:
            if error.code != "LINK":
                raise
            raise NotHere(f"this link is {error.text}") from None
        return Link(secret, 0, name.decode(), label.decode())

    # -- the registration authority ----------------------------------------------

    async def registration(self, authority: str) -> bytes | None:
        """Read the registration authority of a CA (its fingerprint), PEM; None if there is none."""
        sealed = await self._tools.link.call("HGET", keys.REGISTRATION, authority)
        return None if sealed is None else self._tools.sealer.unseal(sealed, keys.REGISTRATION)

    async def put_registration(self, authority: str, pem: bytes) -> bytes:
        """Store one, sealed, unless another daemon was first; return the one that counts."""
        sealed = self._tools.sealer.seal(pem, keys.REGISTRATION)
        await self._tools.link.call("HSETNX", keys.REGISTRATION, authority, sealed)
        return await self.registration(authority) or pem


def _certificate(fingerprint: str, answer: list[bytes]) -> IssuedCertificate:
    it = {
        name.decode(): value.decode("utf-8", "replace")
        for name, value in zip(answer[::2], answer[1::2], strict=True)
    }
    return IssuedCertificate(
        fingerprint=fingerprint,
        serial=it["serial"],
        subject=it["subject"],
        not_before=int(it["begins"]),
        not_after=int(it["ends"]),
        via=it["via"],
        label=it.get("label", ""),
        enrollment=it.get("enrollment", ""),
        renews=it.get("renews", ""),
        issued_at=int(it["at"]),
        revoked_at=int(it["revoked"]) if "revoked" in it else None,
        reason=it.get("reason", ""),
    )
