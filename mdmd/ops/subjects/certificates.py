"""Push certificates."""

from datetime import UTC, datetime

from mdmd.flow import pushcert
from mdmd.ops.method import Caller, Subject, Wire, method
from mdmd.ops.operators import Role


class Certificates(Subject):
    """Which push certificates there are."""

    name = "certificates"

    @method(Role.VIEWER)
    async def show(self, caller: Caller) -> Wire:
        """List each topic with its version, not_after (epoch seconds) and enrolled devices."""
        enrolled = await self.desk.certificates.enrolled()
        versions = await self.desk.certificates.versions()
        return [
            {
                "topic": topic,
                "version": versions.get(topic, (0, 0))[0],
                "not_after": versions.get(topic, (0, 0))[1],
                "enrolled": enrolled.get(topic, 0),
            }
            for topic in sorted({*versions, *enrolled})
        ]

    @method(Role.ADMIN, audit=("force",))
    async def install(self, caller: Caller, pem: bytes, force: bool = False) -> Wire:
        """
        Install a push certificate with its key, PEM together, for every daemon of the store.

        A certificate of a topic that no enrolled device is on, while there are
        devices on others, is a Conflict unless ``force``.
        """
        now = datetime.fromtimestamp(self.desk.now() / 1000, UTC)
        topic, not_after = await pushcert.install(self.desk.certificates, pem, now, force)
        caller.noted["topic"] = topic
        self.desk.waker.nudge()
        enrolled = await self.desk.certificates.enrolled()
        return {"topic": topic, "not_after": not_after, "enrolled": enrolled.get(topic, 0)}
