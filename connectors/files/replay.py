"""The replay: rows of files go through the door, each batch durable before it is published.

    entries -> batch -> ONE transaction {outbox rows, dead letters, position} -> publish in order -> settle

Killed anywhere, it goes on where the last transaction left off: the position says which rows are accepted,
and rows that were accepted but not published wait in the outbox under SOURCE.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple

from connectors.delivery import Log, OutboxRow, Publisher
from connectors.files.entries import Entry, FileRow, Order
from connectors.files.reading import OutOfScope
from connectors.postgres import dead_letters, outbox, sources
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.outgoing import Outgoing, Tell
from connectors.postgres.pool import Connection, Pool
from connectors.postgres.sources import Note
from schemas.dead_letter import DeadLetter
from schemas.envelope import Event

SOURCE: Final = "door/replay"
BATCH_EVENTS: Final = 1_000
BATCH_ROWS: Final = 20_000  # rows out of scope move the position too, in batches of this size at most
MOST_WAITING: Final = 100_000
"""Rows that a broker without a disk may hold unconsumed: more would only fill its memory."""
ROOM_EVERY_BATCHES: Final = 10  # counting them takes as long as publishing some hundreds
LOOK_EVERY_S: Final = 0.2

_BEGIN: Final = """
INSERT INTO replays AS r (replay_id, position) VALUES ($1, 0)
ON CONFLICT (replay_id) DO UPDATE
SET position = CASE WHEN r.finished THEN 0 ELSE r.position END, finished = false, recorded_at = now()
RETURNING position"""
_POSITION: Final = "SELECT position FROM replays WHERE replay_id = $1 FOR UPDATE"
_MOVE: Final = "UPDATE replays SET position = $2, recorded_at = now() WHERE replay_id = $1"
_FINISH: Final = "UPDATE replays SET finished = true, recorded_at = now() WHERE replay_id = $1"
_WAITING: Final = "SELECT count(*) FROM (SELECT FROM outbox WHERE source = $1 LIMIT $2) AS held"


@dataclass(slots=True)
class Counts:
    """What has become of the rows since this process began."""

    left_over: int = 0  # rows of an earlier replay that it had not published
    began_at: int = 0  # rows that were accepted by an earlier run of the same replay
    total: int | None = None  # rows of all files, where they are known before they are sent
    rows: int = 0
    accepted: int = 0  # reports that are durably ours
    published: int = 0
    defects: int = 0
    not_selected: int = 0
    out_of_scope: Counter[str] = field(default_factory=Counter)  # by type

    def add(self, batch: "Batch") -> None:
        """Count a batch that was accepted."""
        self.rows += batch.rows
        self.accepted += len(batch.events)
        self.defects += len(batch.letters)
        self.not_selected += batch.not_selected
        self.out_of_scope += batch.out_of_scope


class Batch(NamedTuple):
    """Entries that are accepted together."""

    rows: int
    events: list[Event]
    letters: list[DeadLetter]
    out_of_scope: Counter[str]
    not_selected: int


class Door(Outgoing):
    """The way in: the outbox and the replays' positions in PostgreSQL, and the broker behind them."""

    def __init__(
        self,
        pool: Pool,
        publisher: Publisher,
        source: Log,
        keep: frozenset[str] = frozenset(),
        tell: Tell = lambda _: None,
    ) -> None:
        super().__init__(PostgresLedger(pool, log=source, keep=keep), publisher, source, keep, tell)
        self._batches_until_look = 0

    async def begin(self, replay_id: str) -> int:
        """The rows of this replay that are already accepted; a finished one begins again."""
        return int(await self.patiently(lambda: self._value(_BEGIN, replay_id)))

    async def finish(self, replay_id: str) -> None:
        """Note that the replay is complete."""
        await self.patiently(lambda: self._value(_FINISH, replay_id))

    async def publish_left_over(self) -> int:
        """Publish what a killed replay accepted and did not publish; how many rows it was."""
        await self.patiently(lambda: self.unsend_stale(SOURCE))
        rows: list[OutboxRow] = await self.patiently(lambda: self.ledger.unsent(SOURCE))
        for start in range(0, len(rows), BATCH_EVENTS):
            await self.publish(rows[start : start + BATCH_EVENTS])
        return len(rows)

    async def accept(self, replay_id: str, before: int, batch: Batch) -> list[OutboxRow]:
        """Make a batch durable, with the position after it; returns what is to be published now."""
        return await self.patiently(lambda: self._accept(replay_id, before, batch))

    async def room(self) -> None:
        """Wait while a broker without a disk holds as much as it should."""
        self._batches_until_look -= 1
        if not self._keep or self._batches_until_look > 0:
            return
        self._batches_until_look = ROOM_EVERY_BATCHES
        while await self.patiently(self._is_full):
            self._tell("the agents have not taken in what was sent")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _accept(self, replay_id: str, before: int, batch: Batch) -> list[OutboxRow]:
        async with self.ledger.transaction() as connection:
            if await connection.fetchval(_POSITION, replay_id) == before + batch.rows:
                # an earlier try was committed, only its answer was lost
                return await outbox.unsent(connection, SOURCE)
            await connection.execute(_MOVE, replay_id, before + batch.rows)
            await dead_letters.bury(connection, batch.letters)
            await sources.note(connection, _notes(batch))
            return await outbox.add_rows(connection, SOURCE, batch.events)

    async def _is_full(self) -> bool:
        return bool(await self._value(_WAITING, SOURCE, MOST_WAITING) == MOST_WAITING)

    async def _value(self, query: str, *parameters: object) -> int:
        async with self.ledger.transaction() as connection:
            return await _fetch_value(connection, query, parameters)


def _notes(batch: Batch) -> list[Note]:
    """What each source gave: who it is begins the key."""
    given = Counter(event.key.partition(":")[0] for event in batch.events)
    return [Note(source, "replay", count, 0) for source, count in given.items()]


async def _fetch_value(connection: Connection, query: str, parameters: Sequence[object]) -> int:
    return int(await connection.fetchval(query, *parameters) or 0)


async def replay(
    door: Door,
    replay_id: str,
    rows: Iterator[FileRow],
    read: Callable[[FileRow], Entry],
    counts: Counts,
    *,
    speed: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Send every row through the door, and count as it goes.

    `speed`: how many seconds of the source's time pass in one of ours, None for as fast as it goes. With a
    speed all rows are read first and sent in the order in which they became known.
    Cancelled at any moment it can go on later. Raises FileProblem when a file turns out to be broken.
    """
    counts.left_over = await door.publish_left_over()
    counts.began_at = position = await door.begin(replay_id)
    if speed is None:
        await _skip(rows, position)
        batches = _batches(map(read, rows))
    else:
        entries = await _sorted(map(read, rows))
        counts.total = len(entries)
        batches = _paced(iter(entries[position:]), speed, clock)
    async with aclosing(batches):
        async for batch in batches:
            await door.room()
            accepted = await door.accept(replay_id, position, batch)
            position += batch.rows
            counts.add(batch)
            await door.publish(accepted)
            counts.published += len(batch.events)
    await door.finish(replay_id)


def order_of(speed: float | None) -> Order:
    """The order in which `replay` sends at this speed."""
    return Order.AS_GIVEN if speed is None else Order.AS_KNOWN


async def _sorted(entries: Iterator[Entry]) -> list[Entry]:
    """All entries by the time at which they became known; those of one time in the order of the files."""
    loaded: list[Entry] = []
    while chunk := await asyncio.to_thread(lambda: list(islice(entries, BATCH_ROWS))):
        loaded += chunk
    await asyncio.to_thread(lambda: loaded.sort(key=lambda entry: entry.known_at))
    return loaded


async def _skip(rows: Iterator[FileRow], count: int) -> None:
    """Pass over what is accepted already, without looking at it; in steps, so that Ctrl-C is heard."""
    for start in range(0, count, BATCH_ROWS):
        await asyncio.to_thread(_pass_over, rows, min(BATCH_ROWS, count - start))


def _pass_over(rows: Iterator[FileRow], count: int) -> None:
    for _ in islice(rows, count):
        pass


async def _batches(entries: Iterator[Entry]) -> AsyncGenerator[Batch, None]:
    """Batches as large as they may be, each read while the one before it is sent."""
    reading = asyncio.create_task(asyncio.to_thread(_take, entries))
    try:
        while (batch := await reading).rows:
            reading = asyncio.create_task(asyncio.to_thread(_take, entries))
            yield batch
    finally:
        reading.cancel()


def _take(entries: Iterator[Entry]) -> Batch:
    batch = _Growing()
    for entry in entries:
        if batch.add(entry):
            break
    return batch.done()


async def _paced(
    entries: Iterator[Entry], speed: float, clock: Callable[[], float]
) -> AsyncGenerator[Batch, None]:
    """Batches of what is due. The source's time begins with the first entry that becomes known."""
    started_at, first = clock(), None
    batch = _Growing()
    for entry in entries:
        if isinstance(entry.outcome, Event):
            first = first or entry.known_at
            due_at = started_at + (entry.known_at - first).total_seconds() / speed
            if batch.rows and clock() < due_at:
                yield batch.done()
                batch = _Growing()
            await asyncio.sleep(max(0.0, due_at - clock()))
        if batch.add(entry):
            yield batch.done()
            batch = _Growing()
    if batch.rows:
        yield batch.done()


@dataclass(slots=True)
class _Growing:
    """A batch in the making."""

    rows: int = 0
    events: list[Event] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    out_of_scope: Counter[str] = field(default_factory=Counter)
    not_selected: int = 0

    def add(self, entry: Entry) -> bool:
        """Whether it is full now."""
        self.rows += 1
        outcome = entry.outcome
        if isinstance(outcome, Event):
            self.events.append(outcome)
        elif isinstance(outcome, DeadLetter):
            self.letters.append(outcome)
        elif isinstance(outcome, OutOfScope):
            self.out_of_scope[outcome.type] += 1
        else:
            self.not_selected += 1
        return self.rows >= BATCH_ROWS or len(self.events) + len(self.letters) >= BATCH_EVENTS

    def done(self) -> Batch:
        """The batch."""
        return Batch(self.rows, self.events, self.letters, self.out_of_scope, self.not_selected)
