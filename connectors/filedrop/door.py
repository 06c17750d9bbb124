"""The way in for dropped files: some rows are accepted in one transaction with the place after them, then published.

rows -> ONE transaction {place, outbox rows, dead letters, counts} -> publish in order -> settle
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

from connectors.delivery import Log, OutboxRow, Publisher
from connectors.mapping.taking import Taken
from connectors.postgres import dead_letters, outbox, sources
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.outgoing import Outgoing, Tell
from connectors.postgres.pool import Connection, Pool
from connectors.postgres.sources import MOST_REFUSALS, FileMove, FileState, Note

MOST_WAITING: Final = 100_000
"""Rows that a broker without a disk may hold unconsumed: more would only fill its memory."""
LOOK_EVERY_S: Final = 0.2

_WAITING: Final = "SELECT count(*) FROM (SELECT FROM outbox WHERE source = $1 LIMIT $2) AS held"
_LOCK: Final = "SELECT pg_try_advisory_lock($1)"
_UNLOCK: Final = "SELECT pg_advisory_unlock($1)"

T = TypeVar("T")


class Overtaken(Exception):
    """Another process has taken this file over: it goes on there."""


class Door(Outgoing):
    """One source's way in. See `Outgoing` for the broker's side."""

    def __init__(
        self,
        source: str,
        pool: Pool,
        publisher: Publisher,
        log: Log,
        *,
        keep: frozenset[str] = frozenset(),
        tell: Tell = lambda _: None,
    ) -> None:
        super().__init__(PostgresLedger(pool, log=log, keep=keep), publisher, log, keep, tell)
        self.source = source
        self._line = f"door/folder/{source}"

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Whether it is our turn: one process at a time works on a source. Who dies gives its turn back."""
        number = _lock_id(self.source)
        async with self.ledger.connection() as connection:
            mine = bool(await connection.fetchval(_LOCK, number))
            try:
                yield mine
            finally:
                if mine:
                    with suppress(Exception):  # a session that is gone holds no lock
                        await connection.fetchval(_UNLOCK, number)

    async def begin(self, name: str) -> FileState:
        """Take a file over: where it stands."""
        return await self.patiently(
            lambda: self._with(lambda held: sources.begin_file(held, self.source, name))
        )

    async def accept(self, name: str, state: FileState, taken: Taken) -> list[OutboxRow]:
        """Make some rows durable, with the place after them; what is to be published now. Raises Overtaken."""
        tried: list[list[OutboxRow]] = []
        return await self.patiently(lambda: self._accept(self._move(name, state, taken), taken, tried))

    async def finish(self, name: str) -> None:
        """The file is put away, and nothing is wrong."""
        await self.patiently(lambda: self._with(lambda held: sources.finish_file(held, self.source, name)))

    async def well(self) -> None:
        """A file was taken in as it should be."""
        await self.patiently(lambda: self._with(lambda held: sources.well(held, self.source, "folder")))

    async def failed(self, sentence: str) -> None:
        """Keep what went wrong."""
        await self.patiently(
            lambda: self._with(lambda held: sources.failed(held, self.source, "folder", sentence))
        )

    async def send_left_over(self) -> int:
        """Publish what a killed process accepted and did not publish; how many rows it was."""
        rows: list[OutboxRow] = await self.patiently(lambda: self.ledger.unsent(self._line))
        await self.send(rows)
        return len(rows)

    async def unsend(self) -> None:
        """Forget that rows were sent to a broker that is no more."""
        await self.patiently(lambda: self.unsend_stale(self._line))

    async def room(self) -> None:
        """Wait while a broker without a disk holds as much as it should."""
        if not self._keep:
            return
        while await self.patiently(lambda: self._with(self._is_full)):
            self._tell("the agents have not taken in what was sent")
            await asyncio.sleep(LOOK_EVERY_S)

    def _move(self, name: str, state: FileState, taken: Taken) -> FileMove:
        return FileMove(
            self.source, name, state.pass_, state.position, state.position + taken.rows, len(taken.events),
            len(taken.refusals), taken.skipped, listed(state, taken),
        )  # fmt: skip

    async def _accept(self, to: FileMove, taken: Taken, tried: list[list[OutboxRow]]) -> list[OutboxRow]:
        async with self.ledger.transaction() as held:
            if not await sources.move_file(held, to):
                if tried and await sources.file_stands_at(held, to.source, to.name) == (to.pass_, to.after):
                    return tried[-1]  # the earlier try was committed, only its answer was lost
                raise Overtaken("another process reads this file now, and goes on with it")
            await dead_letters.bury(held, taken.letters)
            rows = await outbox.add_rows(held, self._line, taken.events)
            await sources.note(
                held, [Note(to.source, "folder", len(taken.events), len(taken.refusals), taken.newest)]
            )
            tried.append(rows)
            return rows

    async def _is_full(self, held: Connection) -> bool:
        return bool(await held.fetchval(_WAITING, self._line, MOST_WAITING) == MOST_WAITING)

    async def _with(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self.ledger.transaction() as held:
            return await work(held)


def listed(state: FileState, taken: Taken) -> list[dict[str, Any]]:
    """The refused rows that the file's report still has room for."""
    room = max(0, MOST_REFUSALS - len(state.refusals))
    return [
        {"row": one.row, "field": one.field or None, "reason": one.reason, "expected": one.expected}
        for one in taken.refusals[:room]
    ]


def _lock_id(source: str) -> int:
    digest = hashlib.sha256(f"folder\n{source}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
