"""The way in: a page is accepted in one transaction with the place after it, then published.

page -> ONE transaction {place, known ids, outbox rows, dead letters, findings} -> publish in order -> settle
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final, NamedTuple, TypeVar

from connectors.delivery import Log, OutboxRow, Publisher
from connectors.portal.feeds import Feed
from connectors.portal.rows import Taken
from connectors.postgres import dead_letters, outbox, portal, sources
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.outgoing import Outgoing, Tell
from connectors.postgres.pool import Connection, Pool
from connectors.postgres.portal import Finding, Mark, Move
from connectors.postgres.sources import Note

MOST_WAITING: Final = 100_000
"""Rows that a broker without a disk may hold unconsumed: more would only fill its memory."""
LOOK_EVERY_S: Final = 0.2

_WAITING: Final = "SELECT count(*) FROM (SELECT FROM outbox WHERE source = $1 LIMIT $2) AS held"

T = TypeVar("T")


class Overtaken(Exception):
    """Another process has begun a pass over this dataset: it goes on there."""


class Accepted(NamedTuple):
    """What of a page was new to us: rows to publish now, dead letters, and what was found of the dataset."""

    rows: list[OutboxRow]
    letters: int
    findings: list[Finding]


class Door(Outgoing):
    """One dataset's way in. See `Outgoing` for the broker's side."""

    def __init__(
        self,
        feed: Feed,
        pool: Pool,
        publisher: Publisher,
        source: Log,
        *,
        keep: frozenset[str] = frozenset(),
        tell: Tell = lambda _: None,
    ) -> None:
        super().__init__(PostgresLedger(pool, log=source, keep=keep), publisher, source, keep, tell)
        self._feed = feed

    async def begin(self) -> Mark:
        """Begin a pass: where the dataset stands."""
        return await self.patiently(lambda: self._with(lambda held: portal.begin(held, self._feed.id)))

    async def unchanged(self, pass_: int) -> None:
        """End a pass in which nothing was new."""
        await self.patiently(lambda: self._with(lambda held: portal.unchanged(held, self._feed.id, pass_)))

    async def failed(self, sentence: str) -> None:
        """Keep why a pass ended before its end."""
        await self.patiently(lambda: self._with(lambda held: portal.failed(held, self._feed.id, sentence)))

    async def find(self, findings: Collection[Finding]) -> list[Finding]:
        """Keep findings that come with no page; each with whether it is new."""
        dataset, found = self._feed.id, list(findings)
        return await self.patiently(lambda: self._with(lambda held: portal.find(held, dataset, found)))

    async def accept(self, to: Move, taken: Taken, findings: Collection[Finding]) -> Accepted:
        """Make a page durable, with the place after it. Raises Overtaken."""
        tried: list[Accepted] = []
        return await self.patiently(lambda: self._accept(to, taken, list(findings), tried))

    async def send_left_over(self) -> int:
        """Publish what a killed process accepted and did not publish; how many rows it was."""
        source = self._feed.source
        await self.patiently(lambda: self.unsend_stale(source))
        rows: list[OutboxRow] = await self.patiently(lambda: self.ledger.unsent(source))
        await self.send(rows)
        return len(rows)

    async def room(self) -> None:
        """Wait while a broker without a disk holds as much as it should."""
        if not self._keep:
            return

        async def full() -> bool:
            return await self._with(self._is_full)

        while await self.patiently(full):
            self._tell("the agents have not taken in what was sent")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _accept(
        self, to: Move, taken: Taken, findings: list[Finding], tried: list[Accepted]
    ) -> Accepted:
        async with self.ledger.transaction() as held:
            if not await portal.move(held, to):
                if tried and await portal.stands_at(held, to.dataset) == (to.pass_, to.pages + 1):
                    return tried[-1]  # the earlier try was committed, only its answer was lost
                raise Overtaken("another process reads this dataset now, and goes on with it")
            new = await portal.remember(held, [*taken.events, *taken.letters])
            letters = [letter for known_as, letter in taken.letters.items() if known_as in new]
            await dead_letters.bury(held, letters)
            events = [event for known_as, event in taken.events.items() if known_as in new]
            rows = await outbox.add_rows(held, self._feed.source, events)
            await sources.note(held, [Note(self._feed.name, "portal", len(events), len(letters), to.mark)])
            told = await portal.find(held, to.dataset, findings)
            tried.append(Accepted(rows, len(letters), told))
            return tried[-1]

    async def _is_full(self, held: Connection) -> bool:
        return bool(await held.fetchval(_WAITING, self._feed.source, MOST_WAITING) == MOST_WAITING)

    async def _with(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self.ledger.transaction() as held:
            return await work(held)
