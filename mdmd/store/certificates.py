"""Push certificates, one a topic, shared by every daemon of the store."""

from collections.abc import Mapping

import attrs

from mdmd.store import keys
from mdmd.store.subject import Tools


@attrs.frozen
class PushCertificates:
    """Implements :class:`mdmd.interfaces.push.IPushCertificates` and ``IExpiryWarnings``."""

    _tools: Tools

    async def put(self, topic: str, certificate: bytes, key: bytes, not_after: int) -> int:
        """Store a PEM pair, the key sealed; return its new version (counts up per topic)."""
        place = keys.certificate(topic)
        sealed = self._tools.sealer.seal(key, place)
        args = (topic, certificate, sealed, not_after)
        return int(await self._tools.change("put_certificate", (place, keys.CERTIFICATES), args))

    async def get(self, topic: str) -> tuple[int, bytes, bytes] | None:
        """Read (version, certificate PEM, key PEM)."""
        place = keys.certificate(topic)
        version, certificate, sealed = await self._tools.link.call(
            "HMGET", place, "version", "certificate", "key"
        )
        if version is None:
            return None
        return int(version), certificate, self._tools.sealer.unseal(sealed, place)

    async def versions(self) -> Mapping[str, tuple[int, int]]:
        """Say the version and not_after (epoch seconds) of each topic."""
        found = await self._tools.link.call("HGETALL", keys.CERTIFICATES)
        return {
            topic.decode(): (int(version), int(not_after))
            for topic, (version, not_after) in zip(
                found[::2], (each.split(b" ") for each in found[1::2]), strict=True
            )
        }

    async def enrolled(self) -> Mapping[str, int]:
        """Count enabled enrollments by topic."""
        found = await self._tools.link.call("HGETALL", keys.TOPICS)
        counts = zip(found[::2], found[1::2], strict=True)
        return {topic.decode(): int(count) for topic, count in counts if int(count)}

    async def warn_expiry(self, topic: str, version: int, days: int, not_after: int) -> bool:
        """
        Write the event of a warning, once for all daemons; say whether it was written.

        Not if one as grave (as few days) was written for this version.
        """
        args = (topic, version, days, not_after)
        return bool(await self._tools.change("warn_expiry", (keys.EXPIRY_WARNINGS,), args))
