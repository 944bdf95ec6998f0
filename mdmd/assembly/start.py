"""Start one part so that it is ended whatever happens."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack


async def begin(
    stack: AsyncExitStack,
    start: Callable[[], Awaitable[object]],
    stop: Callable[[], Awaitable[object]],
) -> None:
    # First its ending: a start that is cut short has something to end, too.
    stack.push_async_callback(stop)
    await start()
