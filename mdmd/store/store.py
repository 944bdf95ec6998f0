"""The store, put together."""

from typing import Any

from mdmd.errors import StoreCorrupt
from mdmd.pki.sealing import Sealer
from mdmd.store import keys
from mdmd.store.audit import Audit
from mdmd.store.certificates import PushCertificates
from mdmd.store.deliveries import Deliveries
from mdmd.store.enrollments import Enrollments
from mdmd.store.events import Events
from mdmd.store.fleet import Fleet
from mdmd.store.following import Due, Following
from mdmd.store.groups import Groups
from mdmd.store.identities import Identities
from mdmd.store.inventory import Inventory
from mdmd.store.link import Link
from mdmd.store.moving import Moving
from mdmd.store.push import PushWork
from mdmd.store.queue import Queue
from mdmd.store.renewals import Renewals
from mdmd.store.subject import Settings, Tools
from mdmd.store.totals import Totals

__all__ = ["Settings", "Store"]


class Store:
    """
    All subjects over one link.

    :param sealer: seals secrets and messages before they leave.
    :param clock: the time of day; what ``seconds()`` says is what is stored as the time.
    """

    def __init__(
        self, link: Link, sealer: Sealer, clock: Any, settings: Settings | None = None
    ) -> None:
        self.link = link
        self.tools = Tools.of(link, sealer, clock, settings or Settings())
        self.enrollments = Enrollments(self.tools)
        self.queue = Queue(self.tools)
        self.events = Events(self.tools)
        self.audit = Audit(self.tools)
        self.fleet = Fleet(self.tools, self.events)
        self.push = PushWork(self.tools)
        self.inventory = Inventory(self.tools)
        self.groups = Groups(self.tools)
        self.following = Following(self.tools, self.events)
        self.refresh = Due(self.tools, keys.REFRESH)
        self.limits = Due(self.tools, keys.LIMITS)
        self.certificates = PushCertificates(self.tools)
        self.moving = Moving(self.tools)
        self.deliveries = Deliveries(self.tools, self.events)
        self.identities = Identities(self.tools)
        self.renewals = Renewals(self.tools)
        self.totals = Totals(self.tools)

    async def fits(self, sealer: Sealer) -> bool:
        """
        Say whether this is the key that secrets here are sealed with; the first one is.

        :raises StoreUnavailable: no answer.
        """
        await self.link.call("SET", keys.SEALED, sealer.seal(b"", keys.SEALED), "NX")
        try:
            sealer.unseal(await self.link.call("GET", keys.SEALED) or b"", keys.SEALED)
        except StoreCorrupt:
            return False
        return True

    def __repr__(self) -> str:
        return f"<Store over {self.link!r}>"
