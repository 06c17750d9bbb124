"""How many records a topic has. The embedded broker does not tell it: asked for the end of a log it names the
first record of the last batch, so that batch is read."""

from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition


def observer_of(broker: str, **options: Any) -> AIOKafkaConsumer:
    """A consumer without a group, to be started: it reads and moves nothing."""
    return AIOKafkaConsumer(
        bootstrap_servers=broker, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest",
        fetch_max_wait_ms=50, **options,
    )  # fmt: skip


async def partitions_of(consumer: AIOKafkaConsumer, topics: Sequence[str]) -> list[TopicPartition]:
    """Every partition of those topics that there are."""
    there = await consumer.topics()
    return [
        TopicPartition(topic, partition)
        for topic in topics
        if topic in there
        for partition in sorted(consumer.partitions_for_topic(topic) or ())
    ]


async def true_ends(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    """One past the last record of each partition. Nobody may write meanwhile. The consumer is left assigned."""
    ends: dict[TopicPartition, int] = dict(await consumer.end_offsets(partitions))
    consumer.assign(list(partitions))
    waiting = {partition for partition, end in ends.items() if end}
    for partition, end in ends.items():
        consumer.seek(partition, max(0, end - 1))
    while waiting:
        for partition, records in (await consumer.getmany(*waiting, timeout_ms=1_000)).items():
            ends[partition] = records[-1].offset + 1
            waiting.discard(partition)
    return ends
