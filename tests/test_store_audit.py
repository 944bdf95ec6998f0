"""The audit in a real Valkey: appended, read back newest first, bounded."""

from unittest.mock import patch

from attrs import evolve

from mdmd.interfaces.audit import BEGUN, AuditEntry
from mdmd.store import audit, keys
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

    async def test_how_it_ended_is_added(self) -> None:
        """To the entry that it is about, on whatever page that is; what has not says so."""
        begun = AuditEntry("boss", "ssh 192.0.2.1", "manhole", outcome=BEGUN)
        ids = [await self.store.audit.write(begun) for _ in range(4)]
        for id, outcome in ((ids[2], "ok"), (ids[0], "ZeroDivisionError")):
            await self.store.audit.end(evolve(begun, id=id), evolve(begun, outcome=outcome))
        page = await self.store.audit.read(limit=2)
        rest = await self.store.audit.read(before=page[-1].id)
        self.assertEqual(
            [(each.id, each.outcome) for each in [*page, *rest]],
            [
                (ids[3], BEGUN),
                (ids[2], "ok"),
                (ids[1], BEGUN),
                (ids[0], "ZeroDivisionError"),
            ],
        )

    async def test_what_became_known_is_added(self) -> None:
        """Facts, and the enrollments that serial numbers stood for; what began stays."""
        begun = AuditEntry("boss", "unix uid 0", "push.send", ("C02",), {"force": "True"}, BEGUN)
        begun = evolve(begun, id=await self.store.audit.write(begun))
        facts = {"force": "True", "refused": "1 of 2: Müller X"}
        ended = evolve(begun, enrollments=("U-1", "U-2"), facts=facts, outcome="partly")
        await self.store.audit.end(begun, ended)
        self.assertEqual(await self.store.audit.read(), [ended])

    async def test_what_is_kept_of_ends_is_bounded(self) -> None:
        """As the entries are: those of the oldest go."""
        begun = AuditEntry("boss", "ssh 192.0.2.1", "manhole", outcome=BEGUN)
        with patch.object(audit, "KEPT", 3), patch.object(audit, "_TRIM", 1):
            for _ in range(5):
                at = await self.store.audit.write(begun)
                await self.store.audit.end(evolve(begun, id=at), evolve(begun, outcome="ok"))
        self.assertEqual(await self.store.link.call("ZCARD", keys.AUDIT_ENDED), 3)
