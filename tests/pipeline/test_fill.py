"""A broker that begins empty is filled: departments read versions going up, whatever the outbox still holds."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.ports import Told
from connectors.postgres import feed, outbox
from infra.embedded import installation
from infra.embedded.broker import EmbeddedBroker, start_broker
from infra.settings import Settings
from schemas.envelope import Event
from schemas.topics import department_topic

TOPIC = department_topic("cdot")
AT = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    running = start_broker(tmp_path / "broker.log")
    yield running
    running.stop()


async def tell(connection: Any, order: str, version: int, *, published: bool) -> None:
    """As the orders' writer does in one transaction; the outbox row of what is published is settled."""
    body = f'{{"reference":"{order}","version":{version}}}'
    event = Event(TOPIC.name, order, body.encode(), TOPIC.type, order, version)
    rows = await outbox.add_rows(connection, "rapid/work-order-commands/0", [event])
    if published:
        await outbox.delete(connection, [row.seq for row in rows])
    await feed.add(connection, [Told("cdot", "work-order", order, version, body)])


async def test_a_department_reads_versions_going_up_and_the_last_of_each_order(
    connection: Any, database_url: str, broker: EmbeddedBroker, tmp_path: Path
) -> None:
    await tell(connection, "WO-1", 1, published=True)
    for version in (2, 3, 4):  # decided while the broker was dying
        await tell(connection, "WO-1", version, published=False)
    await tell(connection, "WO-2", 1, published=True)
    place = Settings(home=tmp_path, brokers=broker.address, database_url=database_url, embedded=True)
    await installation.create_topics(place)
    assert await installation.fill(place, broker.boot_id) == (3, 2)
    read = await all_of(broker.address)
    assert [version for order, version in read if order == "WO-1"] == [2, 3, 4, 4]
    assert [version for order, version in read if order == "WO-2"] == [1]


async def all_of(address: str) -> list[tuple[str, int]]:
    """Order and version of each record, in the order of its partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=address, group_id=None)
    await consumer.start()
    try:
        places = [TopicPartition(TOPIC.name, one) for one in consumer.partitions_for_topic(TOPIC.name) or ()]
        ends = await consumer.end_offsets(places)
        consumer.assign(places)
        await consumer.seek_to_beginning()
        read: list[tuple[str, int]] = []
        async with asyncio.timeout(30):
            while [place for place in places if await consumer.position(place) < ends[place]]:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    read += [(record.key.decode(), json.loads(record.value)["version"]) for record in records]
        return read
    finally:
        await consumer.stop()
