"""Host names are looked up by threads of their own: a DNS that hangs holds nothing else up."""

import socket
from functools import partial
from threading import Thread
from typing import Any

from twisted.internet._resolver import GAIResolver  # Twisted has no other name for it
from twisted.python.threadpool import ThreadPool

MOST = 64  # lookups at the same time; webhooks of a dead name must not keep the store's waiting


class _Lookups(ThreadPool):
    # Nobody waits for one at the end: without an answer it takes half a minute.
    threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]


def look_up_apart(reactor: Any, getaddrinfo: Any = socket.getaddrinfo) -> None:
    """
    Leave the reactor's own threads to what has to be done for devices and operators.

    :param getaddrinfo: as in :mod:`socket`.
    """
    pool = _Lookups(0, MOST, "lookups")
    pool.start()
    reactor.installNameResolver(GAIResolver(reactor, lambda: pool, getaddrinfo))
