"""
A daemon's waker as a process of its own, to be killed.

``python -m tests.wakerproc '{"redis": …, "apns": port, "trust": file, "lease": …, "most": …}'``
prints one JSON line when it could look for work, and does when its standard input ends.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO

from mdmd.apns.client import PushService, Settings
from mdmd.apns.waker import Waker
from mdmd.store.link import Link
from mdmd.store.store import Settings as StoreSettings
from mdmd.store.store import Store
from tests.storecase import SEALER

reactor: Any = installed_reactor


class Told(Protocol):
    """Waits for the end of standard input."""

    def __init__(self) -> None:
        self.to_go: Deferred[None] = Deferred()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        """Go."""
        self.to_go.callback(None)


async def main(config: dict[str, Any], trust: bytes) -> None:
    """Run until killed."""
    link = await Link.open(reactor, config["redis"], timeout=30.0)
    store = Store(link, SEALER, reactor, StoreSettings())
    settings = Settings("localhost", config["apns"], trust)
    service = PushService(reactor, settings, store.certificates, wall=time.time)
    await service.start()
    waker = Waker(
        *(reactor, store.push, service),
        lease=config["lease"],
        most_flying=config["most"],
        wall=time.time,
    )
    told = Told()
    StandardIO(told)
    print('{"ready": true}', flush=True)
    await told.to_go
    await waker.start()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    running = Deferred.fromCoroutine(main(given, Path(given["trust"]).read_bytes()))
    running.addErrback(lambda failure: (failure.printTraceback(sys.stderr), reactor.stop()))
    reactor.run()
