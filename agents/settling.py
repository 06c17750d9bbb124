"""What the broker has is noted in the outbox for all lanes together, some moments after it was published.

A note of its own for each batch would cost a second flush to disk. What is not noted when the process dies is
published once more by the next owner: the same events, in the same order, with the same ids.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, Final, NamedTuple

import structlog

from connectors.delivery import Incarnations, Ledger, OutboxRow, Position
from connectors.errors import Transient

log = structlog.get_logger(__name__)

PAUSE_MOST_S: Final = 10.0


class Published(NamedTuple):
    """Rows of one lane that the broker has. `again` is called when it was replaced by one that has not."""

    rows: Sequence[OutboxRow]
    positions: Sequence[Position]
    incarnations: Incarnations
    again: Callable[[], None]


class Settling:
    """Settles what was published, all lanes in one statement, in the order in which they published it."""

    def __init__(self, ledger: Ledger, pause_s: float, die: Callable[[BaseException], Any]) -> None:
        self._ledger = ledger
        self._pause_s = pause_s
        self._die = die
        self._published: list[Published] = []
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def note(self, published: Published) -> None:
        """Settle this soon; nobody waits for it."""
        self._published.append(published)
        if self._task is None or self._task.done():
            # a context of its own: the logs of all lanes' work must not bear the ids of one of them
            self._task = asyncio.create_task(self._settle_soon(), name="settling", context=Context())

    async def settle(self) -> None:
        """Settle everything that was noted before. Raises Transient; then it is tried again later."""
        async with self._one_at_a_time:
            while self._published:
                group = _together(self._published)
                same = await self._ledger.settle(*_joined(group))
                del self._published[: len(group)]  # not before: it is to be settled, whatever happens
                if not same:
                    for one in group:
                        one.again()

    async def _settle_soon(self) -> None:
        pause_s = self._pause_s
        while self._published:
            await asyncio.sleep(pause_s)
            try:
                await self.settle()
                pause_s = self._pause_s
            except Transient as error:
                pause_s = min(2 * pause_s, PAUSE_MOST_S)
                log.warning(
                    "tried again", what="settling the outbox", error=str(error), in_s=round(pause_s, 2)
                )
            except Exception as error:
                log.critical("unexpected, the process ends", exc_info=error)
                self._die(error)
                return


def _together(published: Sequence[Published]) -> list[Published]:
    """The first ones, as far as the broker was the same all the while."""
    group: list[Published] = []
    known: dict[str, str] = {}
    for one in published:
        if any(
            known.get(topic, incarnation) != incarnation for topic, incarnation in one.incarnations.items()
        ):
            break
        known.update(one.incarnations)
        group.append(one)
    return group


def _joined(group: Sequence[Published]) -> tuple[list[OutboxRow], list[Position], Incarnations]:
    """Of all of them, as if they were one; what was known of the log is as old as the oldest of it."""
    incarnations = Incarnations()
    for one in group:
        incarnations.update(one.incarnations)
    incarnations.asked_s = min(one.incarnations.asked_s for one in group)
    rows = [row for one in group for row in one.rows]
    return rows, [position for one in group for position in one.positions], incarnations
