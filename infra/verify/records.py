"""Every record that some topics of a broker hold now."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from connectors.errors import Transient
from connectors.kafka.admin import KafkaAdmin
from connectors.kafka.security import PLAINTEXT, Security
from connectors.kafka.stopping import stop_consumer
from infra.verify.world import Read, Records
from schemas.envelope import header

ANSWER_S: Final = 20.0
"""Longest wait for the broker, in seconds; not for the whole, which may be long."""

PROBE_MS: Final = 400
MOST_PROBES: Final = 20
"""Asked for the end of a log, the embedded broker names the first record of the last batch. So after the end we look
for more until none comes, so many times at most: somebody may be writing all the time."""


def records_of(brokers: Sequence[str], security: Security = PLAINTEXT) -> Records:
    """Read from these brokers. What it returns raises Transient where they are away."""

    async def read(topics: Sequence[str]) -> AsyncIterator[Read]:
        places = await _places(brokers, security, topics)
        if not places:
            return
        consumer = AIOKafkaConsumer(
            bootstrap_servers=list(brokers), group_id=None, enable_auto_commit=False,
            request_timeout_ms=int(ANSWER_S * 1000), fetch_max_wait_ms=100, **security.for_aiokafka(),
        )  # fmt: skip
        try:
            async with asyncio.timeout(ANSWER_S):
                await consumer.start()
            async for record in _all(consumer, places):
                yield read_of(record)
        except (KafkaError, TimeoutError, OSError) as error:
            raise Transient(f"The broker does not answer ({type(error).__name__})") from error
        finally:
            await stop_consumer(consumer)

    return read


async def _all(consumer: AIOKafkaConsumer, places: Sequence[TopicPartition]) -> AsyncIterator[Any]:
    ends = await consumer.end_offsets(places)
    consumer.assign(places)
    await consumer.seek_to_beginning(*places)
    probes = silent = 0
    while probes < MOST_PROBES:
        fetched = await consumer.getmany(timeout_ms=PROBE_MS)
        silent = 0 if fetched else silent + PROBE_MS
        if silent > ANSWER_S * 1000:
            raise TimeoutError("no record comes, and the end is not reached")
        for records in fetched.values():
            for record in records:
                yield record
        if not [place for place in places if await consumer.position(place) < ends[place]]:
            probes = probes + 1 if fetched else MOST_PROBES


async def _places(brokers: Sequence[str], security: Security, topics: Sequence[str]) -> list[TopicPartition]:
    """Their partitions; of topics that are not there, none. The consumer knows only those that it has read."""
    there = await KafkaAdmin(brokers, security=security).partitions()
    return [TopicPartition(topic, number) for topic in topics for number in there.get(topic, ())]


def read_of(record: Any) -> Read:
    """A record of the client library."""
    key, value = record.key or b"", record.value or b""
    headers = b"\n".join(name.encode() + b": " + (text or b"") for name, text in record.headers)
    return Read(
        record.topic, key.decode("utf-8", "replace"), header(record.headers, "ce_id"),
        value.decode("utf-8", "replace"), b"\n".join((key, value, headers)),
    )  # fmt: skip
