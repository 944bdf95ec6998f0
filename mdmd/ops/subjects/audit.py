"""What operators did."""

from mdmd.ops import records
from mdmd.ops.method import Caller, Subject, Wire, method
from mdmd.ops.operators import Role
from mdmd.ops.subjects.enrollments import page_size, stream_id
from mdmd.ops.wire import PAGE


class AuditSubject(Subject):
    """The append-only record of every act and every read of a secret."""

    name = "audit"

    @method(Role.ADMIN)
    async def page(self, caller: Caller, before: str = "+", limit: int = PAGE) -> Wire:
        """Read up to ``limit`` entries older than the id ``before``, newest first."""
        if before != "+":
            stream_id(before)
        found = await self.desk.audit.read(before, page_size(limit))
        return [records.audit_entry(each) for each in found]
