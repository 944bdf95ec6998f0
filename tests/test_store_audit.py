"""The audit in a real Valkey: appended, read back newest first, bounded."""

from mdmd.interfaces.audit import AuditEntry
from tests.storecase import StoreCase


class AuditTests(StoreCase):
    """What operators did stays."""

    async def test_written_and_read(self) -> None:
        """Every field comes back, newest first, page by page; names may be in any language."""
        entries = [
            AuditEntry("jürgen", "unix uid 0", "push.send", ("A", "B"), {"n": str(n)}, "ok")
            for n in range(5)
        ]
        for each in entries:
            await self.store.audit.write(each)
        page = await self.store.audit.read(limit=2)
        rest = await self.store.audit.read(before=page[-1].id, limit=10)
        found = [*page, *rest]
        self.assertEqual([each.facts["n"] for each in found], ["4", "3", "2", "1", "0"])
        self.assertEqual(found[0].who, "jürgen")
        self.assertEqual(found[0].enrollments, ("A", "B"))
        self.assertEqual(await self.store.audit.read(before=found[-1].id), [])
