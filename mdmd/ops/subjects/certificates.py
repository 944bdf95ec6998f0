"""Push certificates."""

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
