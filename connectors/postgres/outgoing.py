"""What was accepted through a door of ours goes out: rows of the outbox, in order, for as long as it takes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from connectors.delivery import Incarnations, Log, OutboxRow, Position, Publisher
from connectors.errors import Transient
from connectors.postgres import outbox
from connectors.postgres.ledger import PostgresLedger

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
PUBLISH_ROWS: Final = 1_000

T = TypeVar("T")
Tell = Callable[[str], None]
"""Is told what is waited for, "" when it goes on."""


class Outgoing:
    """Publishes and settles. `keep`: the topics whose rows stay in the outbox until they are consumed, because the
    broker has no disk; `ledger` must know the same ones."""

    def __init__(
        self,
        ledger: PostgresLedger,
        publisher: Publisher,
        source: Log,
        keep: frozenset[str] = frozenset(),
        tell: Tell = lambda _: None,
    ) -> None:
        self.ledger = ledger
        self._publisher = publisher
        self._source = source
        self._keep = keep
        self._tell = tell

    async def publish(self, rows: Sequence[OutboxRow]) -> None:
        """Publish rows in order and settle them; tries for as long as it takes."""
        while rows and not await self._published(rows):
            self._tell("the broker was replaced")

    async def send(self, rows: Sequence[OutboxRow]) -> None:
        """The same for as many rows as there are, in parts."""
        for start in range(0, len(rows), PUBLISH_ROWS):
            await self.publish(rows[start : start + PUBLISH_ROWS])

    async def unsend_stale(self, prefix: str) -> None:
        """Forget that rows of the sources whose name starts so were sent to a broker that is no more."""
        if self._keep:
            cluster_id = await self._source.cluster_id()
            async with self.ledger.transaction() as connection:
                await outbox.forget_other_boots(connection, cluster_id, prefix)

    async def patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until it works; pauses grow from FIRST_PAUSE_S to LONGEST_PAUSE_S seconds."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                result = await attempt()
            except Transient as reason:
                self._tell(str(reason))
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            else:
                self._tell("")
                return result

    async def _published(self, rows: Sequence[OutboxRow]) -> bool:
        """Whether the broker that has the rows is still the one that was there before."""
        before, positions = await self.patiently(lambda: self._send(rows))
        return await self.patiently(lambda: self.ledger.settle(rows, positions, before))

    async def _send(self, rows: Sequence[OutboxRow]) -> tuple[Incarnations, list[Position]]:
        before = await self.ledger.incarnations(rows)
        return before, await self._publisher.publish(rows)
