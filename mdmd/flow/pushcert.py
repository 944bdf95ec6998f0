"""The push certificate comes in: read it, check it, keep it, sealed, for every daemon."""

from datetime import datetime

from mdmd.errors import Conflict
from mdmd.interfaces.push import IPushCertificates
from mdmd.pki.pushcert import read_push_certificate


async def install(
    certificates: IPushCertificates, pem: bytes, now: datetime, force: bool = False
) -> tuple[str, int]:
    """
    Install a push certificate with its key; return (topic, not_after in epoch seconds).

    Every daemon of the store uses it from its next push on.

    :param pem: certificate and unencrypted key together, PEM, in any order.
    :raises BadCertificate: unreadable, the key of another certificate, no
        topic, or not valid now.
    :raises Conflict: enrolled devices are on other topics only, so none of
        them could be pushed to with it; ``force`` installs it all the same.
    """
    pair = read_push_certificate(pem, now=now)
    enrolled = await certificates.enrolled()
    others = {topic: count for topic, count in enrolled.items() if topic != pair.topic and count}
    if others and not enrolled.get(pair.topic) and not force:
        devices = sum(others.values())
        raise Conflict(
            f"this certificate is for topic {pair.topic}, but {devices} enrolled devices "
            f"are on {', '.join(sorted(others))}: it can't reach them. Renew the old "
            "certificate under the same Apple Account, or force it for a new set of devices"
        )
    await certificates.put(pair.topic, pair.certificate_pem, pair.key_pem, pair.not_after)
    return pair.topic, pair.not_after
