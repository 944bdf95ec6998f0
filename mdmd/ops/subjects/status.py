"""What runs, and what can be called."""

from mdmd.ops.method import Caller, Subject, Wire, method
from mdmd.ops.operators import Role
from mdmd.ops.wire import PROTOCOL


class Status(Subject):
    """The daemon itself."""

    name = "status"

    @method(Role.VIEWER)
    async def get(self, caller: Caller) -> Wire:
        """Say what the daemon knows of itself and of the fleet, and who is asking."""
        enrollments, with_work = await self.desk.fleet.totals()
        enrolled = await self.desk.certificates.enrolled()
        return {
            "version": self.desk.version,
            "protocol": PROTOCOL,
            "time": self.desk.now(),
            "operator": caller.name,
            "role": str(caller.role),
            "fleet": {
                "enrollments": enrollments,
                "enabled": sum(enrolled.values()),
                "with_work": with_work,
            },
            **self.desk.figures(),
        }

    @method(Role.VIEWER)
    async def methods(self, caller: Caller) -> Wire:
        """List every method there is: name, arguments, and what it does, in a line."""
        return [
            {
                "name": each.name,
                "arguments": each.spelled,
                "text": each.text.partition("\n")[0],
                "audited": each.declared.audit is not None,
            }
            for _, each in sorted(self.table.items())
        ]
