"""What is measured: a burst until it is drained, then a steady stream, report to department topic."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from aiokafka import AIOKafkaConsumer
from confluent_kafka import Producer

from infra.bench.ends import observer_of, partitions_of, true_ends
from infra.bench.load import Load, Record
from infra.bench.stage import cpu_seconds, memory_mb
from infra.cli.errors import Oops
from infra.embedded.installation import one_connection
from infra.embedded.state import State
from schemas.topics import CONSUMER, INCIDENT_REPORTS, ISSUE_REPORTS, WORK_ORDERS
from schemas.work_order import DepartmentWorkOrder

LOOK_EVERY_S: Final = 0.2
GIVE_UP_S: Final = 600.0
TICK_S: Final = 0.005
REPORTS: Final = frozenset({INCIDENT_REPORTS.name, ISSUE_REPORTS.name})

# Reports that are taken in, and rows of the outbox that are not published or not read. One statement, one moment.
_PROGRESS: Final = """
SELECT (SELECT coalesce(sum(next_offset), 0)::bigint FROM fences
        WHERE consumer = $1 AND topic = ANY($2::text[])) AS taken_in,
       (SELECT count(*) FROM outbox o
        LEFT JOIN fences f ON f.consumer = $1 AND f.topic = o.topic AND f.partition = o.sent_partition
        WHERE o.sent_offset IS NULL OR o.sent_offset >= coalesce(f.next_offset, 0)) AS on_the_way"""
_COUNTS: Final = """
SELECT (SELECT count(*) FROM incidents) AS incidents, (SELECT count(*) FROM responses) AS responses,
       (SELECT count(*) FROM work_orders) AS orders, (SELECT count(*) FROM dead_letters) AS dead_letters"""
# From which version on each order is also about an incident.
# Incidents that one report told of, with the orders that nothing else asked for: what a department hears first of
# such an order is the answer to that report.
_ANSWERS: Final = """
SELECT min(incident_id::text)::uuid AS incident_id, reference
FROM order_causes JOIN work_orders USING (order_key)
GROUP BY reference
HAVING count(DISTINCT incident_id) = 1 AND min(incident_id::text)::uuid IN (
  SELECT incident_id FROM incidents WHERE version = 1 AND incident_id = ANY($1::uuid[]))"""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Burst:
    """Everything at once, until nothing is left to do. `published`: records by topic; CPU seconds by part."""

    seconds: float
    reports: int
    incidents: int
    orders: int
    order_snapshots: int
    dead_letters: int
    published: dict[str, int]
    cpu_s: dict[str, float]
    memory_mb: list[float]


@dataclass(frozen=True, slots=True)
class Steady:
    """At a constant rate. Seconds from the send of an incident's first report to its first department record."""

    rate: float
    seconds: float
    incidents: int
    with_order: int
    latencies_s: list[float]
    cpu_s: dict[str, float]
    memory_mb: list[float]


@dataclass(slots=True)
class _Sightings:
    """When the first record about each order reached its department's topic, by reference."""

    first: dict[str, float] = field(default_factory=dict)

    def note(self, value: bytes, at: float) -> None:
        self.first.setdefault(DepartmentWorkOrder.model_validate_json(value).reference, at)


class Bench:
    """Sends to one running installation and looks at it from outside."""

    def __init__(self, state: State, connection: Any, observer: AIOKafkaConsumer, tell: Tell) -> None:
        self._state = state
        self._connection = connection
        self._observer = observer
        self._tell = tell
        self._sent = 0
        self._producer = Producer(
            {
                "bootstrap.servers": state.broker_address,
                "partitioner": "murmur2_random",
                "linger.ms": 1,
                "queue.buffering.max.messages": 1_000_000,
            }
        )

    async def burst(self, load: Load) -> Burst:
        """Send everything as fast as the broker takes it and wait until it is drained."""
        before, cpu, began = await self._published(), cpu_seconds(self._state), time.monotonic()
        counts = await self._counts()
        for record in load.records:
            self._send(record)
        self._producer.flush()
        await self._drained()
        seconds = time.monotonic() - began
        used = _since(cpu, cpu_seconds(self._state))
        published = _since(before, await self._published())
        after = await self._counts()
        return Burst(
            seconds=seconds,
            reports=len(load.records),
            incidents=after["incidents"] - counts["incidents"],
            orders=after["orders"] - counts["orders"],
            order_snapshots=int(published.get(WORK_ORDERS.name, 0)),
            dead_letters=after["dead_letters"] - counts["dead_letters"],
            published={topic: int(count) for topic, count in published.items()},
            cpu_s=used,
            memory_mb=memory_mb(self._state),
        )

    async def steady(self, load: Load, rate: float) -> Steady:
        """Send so many new incidents a second, with the other reports where they lie between them."""
        sent: dict[UUID, float] = {}
        sightings = _Sightings()
        cpu, began = cpu_seconds(self._state), time.monotonic()
        async with self._departments() as departments:
            watching = asyncio.create_task(_watch(departments, sightings))
            began = time.monotonic()
            for record in load.records:
                if record.incident_id is not None:
                    await self._until(began + len(sent) / rate)
                    sent[record.incident_id] = time.monotonic()
                self._send(record)
                self._producer.poll(0)
            seconds = time.monotonic() - began
            await asyncio.to_thread(self._producer.flush)
            await self._drained()
            await asyncio.sleep(1.0)  # the last records are on their way to us
            watching.cancel()
        used = _since(cpu, cpu_seconds(self._state))
        latencies = await self._latencies(sent, sightings)
        return Steady(rate, seconds, len(sent), len(latencies), latencies, used, memory_mb(self._state))

    async def _until(self, at: float) -> None:
        while (left := at - time.monotonic()) > 0:
            self._tell(f"steady, {left:.1f} s")
            await asyncio.sleep(min(left, TICK_S))

    def _send(self, record: Record) -> None:
        self._sent += 1
        self._producer.produce(record.topic, record.value, record.key, headers=list(record.headers))

    async def _latencies(self, sent: Mapping[UUID, float], sightings: _Sightings) -> list[float]:
        arrived: dict[UUID, float] = {}
        for incident_id, reference in await self._connection.fetch(_ANSWERS, list(sent)):
            at = sightings.first.get(reference)
            if at is not None:
                arrived[incident_id] = min(at, arrived.get(incident_id, at))
        return sorted(at - sent[incident_id] for incident_id, at in arrived.items())

    async def _drained(self) -> None:
        """Wait until every report is taken in and nothing that followed from one is on its way."""
        until = time.monotonic() + GIVE_UP_S
        while time.monotonic() < until:
            taken_in, on_the_way = await self._connection.fetchrow(_PROGRESS, CONSUMER, sorted(REPORTS))
            if taken_in == self._sent and not on_the_way:
                return
            self._tell(f"{self._sent - taken_in:,} reports to take in, {on_the_way:,} records on their way")
            await asyncio.sleep(LOOK_EVERY_S)
        raise Oops(f"The installation has not handled the load after {GIVE_UP_S:.0f} s.")

    async def _published(self) -> dict[str, float]:
        """Records by topic, while nobody writes."""
        topics = sorted(await self._observer.topics())
        counts = dict.fromkeys(topics, 0.0)
        ends = await true_ends(self._observer, await partitions_of(self._observer, topics))
        for partition, end in ends.items():
            counts[partition.topic] += end
        return counts

    async def _counts(self) -> dict[str, int]:
        return dict(await self._connection.fetchrow(_COUNTS))

    @asynccontextmanager
    async def _departments(self) -> AsyncIterator[AIOKafkaConsumer]:
        """A consumer of all departments' topics, at their ends."""
        names = [name for name in await self._observer.topics() if name.startswith(f"{WORK_ORDERS.name}.")]
        consumer = observer_of(self._state.broker_address)
        await consumer.start()
        try:
            for partition, end in (await true_ends(consumer, await partitions_of(consumer, names))).items():
                consumer.seek(partition, end)
            yield consumer
        finally:
            await consumer.stop()


@asynccontextmanager
async def bench(state: State, tell: Tell) -> AsyncIterator[Bench]:
    """The bench at a running installation."""
    observer = observer_of(state.broker_address)
    await observer.start()
    try:
        async with one_connection(state.database_url) as connection:
            yield Bench(state, connection, observer, tell)
    finally:
        await observer.stop()


async def _watch(consumer: AIOKafkaConsumer, sightings: _Sightings) -> None:
    async for record in consumer:
        sightings.note(record.value, time.monotonic())


def _since(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {name: value - before.get(name, 0) for name, value in after.items()}


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of them does not exceed (nearest rank)."""
    if not ordered:
        return None
    rank = -(-len(ordered) * share // 1)
    return ordered[max(0, int(rank) - 1)]
