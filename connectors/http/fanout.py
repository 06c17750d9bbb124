"""The live feed: one reader per process, many listeners. Each hears its audience's rows, in order, each once.

    feed (PostgreSQL) -> one poll -> a bounded queue per listener -> its connection

Who is slow is dropped when its queue is full; it comes back with the id of the last event it has, and reads what it
missed from the table.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import structlog

from connectors.errors import Transient
from connectors.postgres import feed
from connectors.postgres.feed import Cursor, FeedRow
from connectors.postgres.http_reads import order_bodies
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.pool import Connection

log = structlog.get_logger(__name__)

POLL_S: Final = 0.05
PAUSE_S: Final = 1.0
"""How long to wait when the database is away."""
ROWS: Final = 500
SUPERVISORS: Final = ""
"""The audience of those who see all."""
ALERT: Final = "alert"
"""The kind of what is told of alerts. To a department, without the centre's own words."""


class Change(NamedTuple):
    """One event, as it is sent."""

    cursor: Cursor
    audience: str
    kind: str
    event: bytes


class Closed(Exception):
    """The listener hears no more: it was too slow, or we are stopping."""


class Listener:
    """A bounded queue of what one connection has still to be told."""

    def __init__(self, audience: str, most: int) -> None:
        self.audience = audience
        self._queue: asyncio.Queue[Change | None] = asyncio.Queue(most)
        self._closed = False

    def offer(self, change: Change) -> None:
        """Put a change in line; the listener is dropped when its line is full."""
        if self._closed:
            return
        if self._queue.full():
            self.close()
        else:
            self._queue.put_nowait(change)

    def close(self) -> None:
        """Nothing comes after what is in line; of a full line, the last is given up for the word that it ends."""
        self._closed = True
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def next(self) -> list[Change]:
        """At least one change, and all others that wait. Raises Closed."""
        changes = [await self._queue.get()]
        while not self._queue.empty():
            changes.append(self._queue.get_nowait())
        if changes[-1] is None:
            raise Closed
        return [change for change in changes if change is not None]


class Fanout:
    """Reads the feed once for all listeners of this process. `most_waiting`: changes in line before one is dropped."""

    def __init__(
        self, ledger: PostgresLedger, *, most_listeners: int = 1_000, most_waiting: int = 256
    ) -> None:
        self._ledger = ledger
        self._most_listeners = most_listeners
        self._most_waiting = most_waiting
        self._listeners: set[Listener] = set()
        self._position: Cursor | None = None
        self._stopping = False

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return len(self._listeners)

    @property
    def is_full(self) -> bool:
        """Whether there are as many listeners as there may be."""
        return len(self._listeners) >= self._most_listeners

    def close(self) -> None:
        """End every stream; they go on elsewhere, or when we are back."""
        self._stopping = True
        for listener in self._listeners:
            listener.close()

    async def run(self) -> None:
        """Read the feed for as long as the process lives."""
        while True:
            try:
                full = await self._poll()
                await asyncio.sleep(0 if full else POLL_S)
            except Transient as error:
                log.warning("the feed is read later", reason=str(error))
                await asyncio.sleep(PAUSE_S)

    async def changes(self, audience: str, after: Cursor | None) -> AsyncGenerator[list[Change]]:
        """What is told to an audience after a place; None: from now on. Raises Closed, Transient."""
        if after is None:
            after = await self._end()
        else:
            async for missed in self._missed(audience, after):
                after = missed[-1].cursor
                yield missed
        with self._listening(audience) as listener:
            async for missed in self._missed(audience, after):  # what came before we listened
                after = missed[-1].cursor
                yield missed
            while True:
                news = [change for change in await listener.next() if change.cursor > after]
                if news:
                    yield news

    async def _missed(self, audience: str, after: Cursor) -> AsyncGenerator[list[Change]]:
        while True:
            async with self._ledger.connection() as connection:
                rows = await feed.read(connection, after, audience, ROWS)
                changes = await _changes(connection, rows)
            if not changes:
                return
            yield changes
            after = changes[-1].cursor
            if len(rows) < ROWS:
                return

    async def _end(self) -> Cursor:
        async with self._ledger.connection() as connection:
            return await feed.end(connection)

    @contextmanager
    def _listening(self, audience: str) -> Iterator[Listener]:
        listener = Listener(audience, self._most_waiting)
        self._listeners.add(listener)
        if self._stopping:
            listener.close()
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    async def _poll(self) -> bool:
        """Tell everybody what is new; whether there may be more."""
        async with self._ledger.connection() as connection:
            if self._position is None:
                self._position = await feed.end(connection)
            rows = await feed.read(connection, self._position, None, ROWS)
            wanted = {listener.audience for listener in self._listeners}
            changes = await _changes(connection, [row for row in rows if row.told.audience in wanted])
        for change in changes:
            for listener in [one for one in self._listeners if one.audience == change.audience]:
                listener.offer(change)
        if rows:
            self._position = rows[-1].cursor
        return len(rows) == ROWS


async def _changes(connection: Connection, rows: Sequence[FeedRow]) -> list[Change]:
    """Rows as events. A row without a body is of an order that supervisors read as it is now."""
    bare = {row.told.subject for row in rows if row.told.body is None}
    bodies = await order_bodies(connection, bare) if bare else {}
    return [Change(row.cursor, row.told.audience, row.told.kind, _event(row, bodies)) for row in rows]


def _event(row: FeedRow, bodies: Mapping[str, str]) -> bytes:
    """https://html.spec.whatwg.org/multipage/server-sent-events.html; canonical JSON has no line breaks."""
    body = row.told.body or bodies.get(row.told.subject, "{}")
    return f"id: {row.cursor}\nevent: {row.told.kind}\ndata: {body}\n\n".encode()
