"""Where events go, and which."""

import attrs


@attrs.frozen
class Target:
    """
    One webhook.

    :ivar topics: such as ``mdm.Connect``; ``mdm.*`` is all that begin so, ``*`` all.
    :ivar key: of the HMAC; empty for no signature.
    :ivar timeout: seconds for one delivery.
    :ivar roots: PEM of the CAs to trust, None for the system's.
    :ivar private: it may be at a loopback or private address.
    :ivar keep_trying: seconds after which an event becomes a dead letter.
    :ivar at_once: deliveries at the same time, each of another enrollment.
    """

    name: str
    url: str
    topics: tuple[str, ...] = ("mdm.*",)
    key: bytes = attrs.field(default=b"", repr=False)
    timeout: float = 10.0
    roots: bytes | None = attrs.field(default=None, repr=False)
    private: bool = False
    keep_trying: float = 3 * 86400.0
    at_once: int = 8

    def wants(self, topic: str) -> bool:
        """Say whether events of a topic go there."""
        return any(
            topic == each or (each.endswith("*") and topic.startswith(each[:-1]))
            for each in self.topics
        )
