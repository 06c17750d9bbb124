"""A broker with one topic, timers to arm, and what arrives."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.kafka.admin import KafkaAdmin
from connectors.kafka.stopping import stop_consumer
from connectors.ports import Timer
from infra.embedded.broker import EmbeddedBroker, start_broker
from schemas.base import NAMESPACE
from schemas.promise import Nudge
from schemas.topics import NUDGE_TYPE, WORK_ORDER_COMMANDS

LIMIT_S = 30.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    running = start_broker(tmp_path / "broker.log")
    yield running
    running.stop()


@pytest.fixture
async def address(broker: EmbeddedBroker) -> str:
    await KafkaAdmin([broker.address]).create([WORK_ORDER_COMMANDS])
    return broker.address


def order_id(number: int) -> UUID:
    return uuid5(NAMESPACE, f"timer {number}")


def timer(number: int, due_at: datetime) -> Timer:
    return Timer(order_id(number), f"street_light:repair:site-{number}", f"WO-00000-{number:05}", due_at)


async def now_of(connection: Any) -> datetime:
    found: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return found


async def seconds_from_now(connection: Any, seconds: float) -> datetime:
    return await now_of(connection) + timedelta(seconds=seconds)


async def until(condition: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.01)


async def until_true(condition: Callable[[], Awaitable[bool]], limit_s: float = LIMIT_S) -> None:
    """The same for a condition that has to be asked for."""
    async with asyncio.timeout(limit_s):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)


class Arrived(NamedTuple):
    """A nudge at the broker; `at`: the producer's time."""

    nudge: Nudge
    key: str
    at_s: float
    partition: int
    headers: dict[str, str]


class Arrivals:
    """What is on the topic, as it comes."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self.all: list[Arrived] = []

    async def read(self) -> None:
        while True:
            polled: dict[Any, Sequence[Any]] = await self._consumer.getmany(timeout_ms=50)
            for records in polled.values():
                self.all += map(_arrived, records)

    def of(self, number: int) -> list[Arrived]:
        return [one for one in self.all if one.nudge.order_id == order_id(number)]

    async def until(self, count: int, limit_s: float = LIMIT_S) -> None:
        await until(lambda: len(self.all) >= count, limit_s)


def _arrived(record: Any) -> Arrived:
    headers = {name: value.decode() for name, value in record.headers}
    assert headers["ce_type"] == NUDGE_TYPE
    nudge = Nudge.model_validate_json(record.value)
    return Arrived(nudge, record.key.decode(), record.timestamp / 1000, record.partition, headers)


@pytest.fixture
async def arrivals(address: str) -> AsyncIterator[Arrivals]:
    consumer = AIOKafkaConsumer(bootstrap_servers=address, group_id=None, enable_auto_commit=False)
    await consumer.start()
    topic = WORK_ORDER_COMMANDS
    places = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
    consumer.assign(places)
    await consumer.seek_to_beginning(*places)
    found = Arrivals(consumer)
    reading = asyncio.create_task(found.read())
    yield found
    reading.cancel()
    await asyncio.wait({reading})
    await stop_consumer(consumer)
