"""Topics are made by us alone: a client that only asks for one makes none, and a stranger's is made anew."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from connectors.delivery import OutboxRow
from connectors.errors import Transient
from connectors.kafka.admin import KafkaAdmin
from connectors.kafka.publisher import KafkaPublisher
from infra.embedded.broker import EmbeddedBroker, start_broker
from infra.embedded.installation import create_topics, remove_strangers_topics
from infra.settings import Settings
from schemas.topics import INCIDENTS, WORK_ORDER_COMMANDS


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    running = start_broker(tmp_path / "broker.log")
    yield running
    running.stop()


def row(number: int) -> OutboxRow:
    return OutboxRow(number, INCIDENTS.name, f"{number}".encode(), b"{}", [])


async def test_a_producer_waits_for_its_topic_and_creates_none(broker: EmbeddedBroker) -> None:
    admin = KafkaAdmin([broker.address])
    publisher = KafkaPublisher([broker.address], idempotent=False)
    publishing = asyncio.create_task(publisher.publish([row(number) for number in range(40)]))
    await asyncio.sleep(1)
    assert not publishing.done()
    assert await admin.partitions() == {}
    await admin.create([replace(INCIDENTS, partitions=2)])
    assert {position.partition for position in await asyncio.wait_for(publishing, 10)} == {0, 1}
    await publisher.stop()


async def test_in_vain_is_told_as_what_passes(broker: EmbeddedBroker) -> None:
    publisher = KafkaPublisher([broker.address], idempotent=False, request_timeout_s=0.5)
    with pytest.raises(Transient, match="UnknownTopicOrPartitionError"):
        await asyncio.wait_for(publisher.publish([row(1)]), 10)
    await publisher.stop()


async def test_topics_that_a_stranger_asked_for_first_are_made_anew(broker: EmbeddedBroker) -> None:
    settings = Settings(brokers=broker.address, partitions=2, database_url="", embedded=True)
    admin = KafkaAdmin([broker.address])
    assert await remove_strangers_topics(settings) == []
    await asyncio.to_thread(_ask_as_a_stranger, broker.address, [INCIDENTS.name, WORK_ORDER_COMMANDS.name])
    assert {name: len(there) for name, there in (await admin.partitions()).items()} == {
        INCIDENTS.name: 4, WORK_ORDER_COMMANDS.name: 4,
    }  # fmt: skip
    assert set(await remove_strangers_topics(settings)) == {INCIDENTS.name, WORK_ORDER_COMMANDS.name}
    await create_topics(settings)
    assert {len(there) for there in (await admin.partitions()).values()} == {2}
    assert await remove_strangers_topics(settings) == []


def _ask_as_a_stranger(address: str, topics: list[str]) -> None:
    """As a consumer does that lets the broker create what it asks about."""
    stranger = Consumer({"bootstrap.servers": address, "group.id": "x", "allow.auto.create.topics": True})
    stranger.subscribe(topics)
    stranger.poll(2)
    for topic in topics:
        stranger.list_topics(topic, timeout=4)
    stranger.close()
