"""A daemon that may go away for a while: what is asked of it waits for the next one."""

import argparse
from typing import Any

from twisted.internet.task import deferLater

from mdmd.cli.client import NoDaemon, Remote, reactor
from mdmd.cli.roads import reach

_PATIENCE = 60.0  # seconds


class Patient:
    """The daemon, and if it goes away, the next one."""

    def __init__(self, remote: Remote, args: argparse.Namespace) -> None:
        self._remote = remote
        self._args = args

    async def call(self, name: str, /, **arguments: Any) -> Any:
        """Make one call, once more if the daemon goes away: all that is called here can be."""
        until = reactor.seconds() + _PATIENCE
        while True:
            try:
                return await self._remote.call(name, **arguments)
            except NoDaemon:
                if reactor.seconds() > until:
                    raise
            await deferLater(reactor, 0.5)
            try:
                self._remote = await reach(self._args)
            except NoDaemon:
                if reactor.seconds() > until:
                    raise
