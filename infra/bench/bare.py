"""The yardstick: aiokafka alone, consuming and producing the same bytes at the same broker, deciding nothing."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from connectors.kafka.admin import KafkaAdmin
from infra.bench.ends import observer_of, partitions_of, true_ends
from infra.bench.pipeline import REPORTS
from schemas.base import Record
from schemas.topics import READ_BY_US, Topic

OUT: Final = Topic("bench-out", "as it was", Record, "bench", (), (), "internal")
BATCH: Final = 1_000


@dataclass(frozen=True, slots=True)
class Bare:
    """What it did, and how long it took in one process."""

    seconds: float
    records_in: int
    records_out: int
    bytes_out: int


async def run_bare(broker: str, published: Sequence[str]) -> Bare:
    """Read all that the workers read, and write all that they wrote, one after the other in batches.

    `published`: the topics that the pipeline wrote to. What is written is read beforehand, outside the clock.
    """
    await KafkaAdmin([broker]).create([OUT])
    outgoing = await _read_all(
        broker, [topic for topic in published if topic not in REPORTS and topic != OUT.name]
    )
    incoming = list(READ_BY_US)
    consumer, producer = observer_of(broker), _producer(broker)
    await consumer.start()
    await producer.start()
    try:
        total, read, written = await _assign(consumer, incoming), 0, 0
        began = time.monotonic()
        while read < total:
            polled = await consumer.getmany(timeout_ms=200, max_records=BATCH)
            read += sum(map(len, polled.values()))
            until = len(outgoing) * read // total
            await _write(producer, outgoing[written:until])
            written = until
        seconds = time.monotonic() - began
    finally:
        await consumer.stop()
        await producer.stop()
    return Bare(seconds, total, len(outgoing), sum(len(record.value or b"") for record in outgoing))


async def _write(producer: AIOKafkaProducer, records: Sequence[Any]) -> None:
    answers = [
        await producer.send(OUT.name, record.value, record.key, headers=list(record.headers))
        for record in records
    ]
    await asyncio.gather(*answers)


async def _read_all(broker: str, topics: Sequence[str]) -> list[Any]:
    consumer = observer_of(broker)
    await consumer.start()
    try:
        left = await _assign(consumer, topics)
        found: list[Any] = []
        while len(found) < left:
            polled = await consumer.getmany(timeout_ms=200)
            found += [record for records in polled.values() for record in records]
        return found
    finally:
        await consumer.stop()


async def _assign(consumer: AIOKafkaConsumer, topics: Sequence[str]) -> int:
    """Every partition from its beginning; how many records they hold."""
    ends = await true_ends(consumer, await partitions_of(consumer, topics))
    for partition in ends:
        consumer.seek(partition, 0)
    return sum(ends.values())


def _producer(broker: str) -> AIOKafkaProducer:
    """As the workers' own producer, but for the idempotence, which the embedded broker does not have."""
    return AIOKafkaProducer(
        bootstrap_servers=broker, acks="all", linger_ms=2, max_batch_size=262_144, max_request_size=1_048_576
    )
