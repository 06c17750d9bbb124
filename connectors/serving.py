"""A loop that leases work and serves several pieces at once, until it is stopped: webhook endpoints, channels."""

import asyncio
from collections.abc import Awaitable, Callable

Task = asyncio.Task[None]
TakeOver = Callable[[int], Awaitable[set[Task]]]
"""Starts serving up to so many more."""


class Serving:
    """Looks every `look_every_s` seconds for more to serve, `most` at once."""

    def __init__(self, take_over: TakeOver, look_every_s: float, most: int) -> None:
        self._take_over = take_over
        self._look_every_s = look_every_s
        self._most = most
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """End after what is under way."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    async def run(self) -> None:
        """Serve until `stop`; what is under way then is finished. What nobody foresaw is raised."""
        serving: set[Task] = set()
        try:
            while not self.stopping:
                serving |= await self._take_over(self._most - len(serving))
                await self._pause(serving)
                serving = _still_running(serving)
        finally:
            if serving:
                await asyncio.wait(serving)
        _still_running(serving)

    async def _pause(self, serving: set[Task]) -> None:
        """Until it is time to look again, a piece is served, or we are to stop."""
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait(
            {stopped, *serving}, timeout=self._look_every_s, return_when=asyncio.FIRST_COMPLETED
        )
        stopped.cancel()


def _still_running(tasks: set[Task]) -> set[Task]:
    """Those that are not done. What ended with an error nobody foresaw ends the loop with it."""
    for task in tasks:
        if task.done():
            task.result()
    return {task for task in tasks if not task.done()}
