"""Timers: how many are armed and nudged in a second, beside the plainest way there is to do it.

The plain way polls: it selects a batch of what is due FOR UPDATE SKIP LOCKED, produces it, deletes it, in one
transaction, again and again. It knows no lease: it holds its locks while the broker answers, and what the worker did
not handle never comes again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple
from uuid import UUID

from connectors.kafka.admin import KafkaAdmin
from connectors.kafka.publisher import KafkaPublisher
from connectors.ports import Timer
from connectors.postgres.migrate import migrate
from connectors.postgres.pool import Pool, create_pool
from connectors.postgres.timers import Lease, arm
from connectors.timers.nudger import Nudger, Pace, Sent, rows_of
from infra.embedded.broker import start_broker
from infra.embedded.database import start_database
from schemas.topics import WORK_ORDER_COMMANDS

BATCH: Final = 1_000
ROUNDS: Final = 3
FIRST_DUE: Final = datetime(2026, 1, 1, tzinfo=UTC)

_PLAIN_DUE: Final = """
SELECT due_at AS at, subject_id, key, reference, due_at, 1 AS nudges, due_at AS leased_until FROM timers
WHERE due_at <= now() ORDER BY nudge_at LIMIT $1 FOR UPDATE SKIP LOCKED"""
_PLAIN_DONE: Final = "DELETE FROM timers WHERE subject_id = ANY($1::uuid[])"


class TimerFigures(NamedTuple):
    """All in one process, in batches of a thousand; the median of three rounds, in which they take turns."""

    armed_per_s: float
    nudged_per_s: float
    plain_polling_per_s: float


async def measure_alone(timers: int) -> TimerFigures:
    """On a database and a broker of its own, in a temporary folder that is removed."""
    with TemporaryDirectory(prefix="rapid-bench-", ignore_cleanup_errors=True) as folder:
        database = start_database(Path(folder) / "database", Path(folder) / "database.log")
        try:
            broker = start_broker(Path(folder) / "broker.log")
            try:
                await migrate(database.url)
                return await measure(database.url, [broker.address], timers)
            finally:
                broker.stop()
        finally:
            database.stop()


async def measure(database_url: str, brokers: list[str], timers: int) -> TimerFigures:
    """On a migrated database and a broker that nobody else uses: every timer in it is removed."""
    await KafkaAdmin(brokers).create([WORK_ORDER_COMMANDS])
    async with await create_pool(database_url, min_size=1, max_size=2) as pool, publishing(brokers) as out:
        await out.publish(rows_of([_warm_up()], FIRST_DUE))
        rounds = [await _round(pool, out, timers) for _ in range(ROUNDS)]
    return TimerFigures(*map(median, zip(*rounds, strict=True)))


async def _round(pool: Pool, out: KafkaPublisher, timers: int) -> TimerFigures:
    armed_s = await _timed(lambda: _arm(pool, timers))
    nudged_s = await _timed(lambda: _nudge(pool, out, timers))
    await _arm(pool, timers)
    polled_s = await _timed(lambda: _poll(pool, out))
    return TimerFigures(timers / armed_s, timers / nudged_s, timers / polled_s)


@asynccontextmanager
async def publishing(brokers: Sequence[str]) -> AsyncIterator[KafkaPublisher]:
    """A producer as the embedded broker takes it."""
    publisher = KafkaPublisher(brokers, idempotent=False)
    try:
        yield publisher
    finally:
        await publisher.stop()


async def _timed(work: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def _arm(pool: Pool, timers: int) -> None:
    """Due in the order of their numbers, all long ago."""
    async with pool.acquire() as connection:
        await connection.execute("TRUNCATE timers")
        for first in range(0, timers, BATCH):
            await arm(connection, [_timer(number) for number in range(first, min(first + BATCH, timers))])


def _timer(number: int) -> Timer:
    due_at = FIRST_DUE + timedelta(milliseconds=number)
    return Timer(
        UUID(int=number), f"street_light:repair:bench-{number}", f"WO-00000-{number % 100_000:05}", due_at
    )


def _warm_up() -> Lease:
    """The first record finds its broker, its topic and its partition."""
    one = _timer(0)
    return Lease(one.due_at, one.subject_id, one.key, one.reference, one.due_at, 1, one.due_at)


async def _nudge(pool: Pool, out: KafkaPublisher, timers: int) -> None:
    """Until each was nudged once: the leases are longer than this takes."""
    sent = 0

    def count(batch: Sequence[Sent]) -> None:
        nonlocal sent
        sent += len(batch)
        if sent >= timers:
            nudger.stop()

    pace = Pace(batch=BATCH, first_lease_s=3_600.0, longest_lease_s=3_600.0)
    nudger = Nudger(pool, out, pace=pace, monotonic=time.monotonic, tell=count)
    await nudger.run()


async def _poll(pool: Pool, out: KafkaPublisher) -> None:
    """Until nothing is due."""
    async with pool.acquire() as connection:
        while await _poll_once(connection, out):
            pass


async def _poll_once(connection: Any, out: KafkaPublisher) -> bool:
    async with connection.transaction():
        due = [Lease(*row) for row in await connection.fetch(_PLAIN_DUE, BATCH)]
        await out.publish(rows_of(due, FIRST_DUE))
        await connection.execute(_PLAIN_DONE, [one.subject_id for one in due])
    return bool(due)


if __name__ == "__main__":
    print(asyncio.run(measure_alone(50_000)))
