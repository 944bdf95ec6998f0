"""Long work in pieces: whoever is waiting has a turn between them."""

from twisted.internet.defer import Deferred

from mdmd.web.respond import Clock


async def breathe(clock: Clock) -> None:
    """Let everybody else have a turn."""
    turn: Deferred[None] = Deferred()
    clock.callLater(0, turn.callback, None)
    await turn
