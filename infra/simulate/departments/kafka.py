"""A department on Kafka: it reads `work-orders.<d>` and its answers, and writes `work-order-updates.<d>`."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from connectors.errors import Transient
from connectors.kafka.admin import KafkaAdmin
from connectors.kafka.publisher import METADATA_MAX_AGE_MS
from connectors.kafka.security import PLAINTEXT, Security
from connectors.kafka.stopping import stop_consumer
from infra.simulate.departments.capture import Capture
from infra.simulate.departments.crew import Listener
from schemas.codec import encode
from schemas.topics import department_topic, results_topic, updates_topic
from schemas.work_order import DepartmentWorkOrder
from schemas.work_order_update import UpdateResult, WorkOrderUpdate

AGAIN_S: Final = 0.5
SEND_LIMIT_S: Final = 10.0
LOOK_FOR_A_NEW_LOG_S: Final = 1.0


class NewLog(Exception):
    """The broker has begun anew and counts from zero: so must who reads."""


class OverKafka:
    """Reads from the beginning, without a group: what it has seen it knows by version."""

    name = "kafka"

    def __init__(
        self, department: str, brokers: Sequence[str], capture: Capture, security: Security = PLAINTEXT
    ) -> None:
        self._orders = department_topic(department)
        self._answers = results_topic(department)
        self._updates = updates_topic(department)
        self._brokers = list(brokers)
        self._security = security
        self._capture = capture
        self._admin = KafkaAdmin(brokers, security=security)
        self._producer: AIOKafkaProducer | None = None

    async def listen(self, listener: Listener) -> None:
        """Until cancelled; from the beginning again when the broker was away or is another one."""
        while True:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._brokers, group_id=None, enable_auto_commit=False,
                metadata_max_age_ms=METADATA_MAX_AGE_MS,
                **self._security.for_aiokafka(),
            )  # fmt: skip
            try:
                await consumer.start()
                await self._read(consumer, listener)
            except (KafkaError, OSError, TimeoutError, Transient, NewLog):
                await asyncio.sleep(AGAIN_S)
            finally:
                await stop_consumer(consumer)

    async def _read(self, consumer: AIOKafkaConsumer, listener: Listener) -> None:
        log = await self._log()
        consumer.assign(await _places(consumer, (self._orders.name, self._answers.name)))
        await consumer.seek_to_beginning()
        looked_s = asyncio.get_running_loop().time()
        while True:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    self._hand_over(record, listener)
            now_s = asyncio.get_running_loop().time()
            if now_s - looked_s >= LOOK_FOR_A_NEW_LOG_S:
                looked_s = now_s
                if await self._log() != log:
                    raise NewLog

    async def _log(self) -> str:
        return await self._admin.incarnation(self._orders.name)

    def _hand_over(self, record: Any, listener: Listener) -> None:
        headers = b"\n".join(name.encode() + b": " + (value or b"") for name, value in record.headers)
        self._capture.keep(record.topic.encode(), record.key or b"", headers, record.value or b"")
        if record.topic == self._orders.name:
            listener.hear_order(DepartmentWorkOrder.model_validate_json(record.value))
        else:
            listener.hear_answer(UpdateResult.model_validate_json(record.value))

    async def say(self, update: WorkOrderUpdate) -> None:
        """Until the broker has it. It may lose it again: who gets no answer says it once more."""
        while True:
            try:
                producer = await self._started()
                async with asyncio.timeout(SEND_LIMIT_S):
                    await producer.send_and_wait(
                        self._updates.name, encode(update), update.reference.encode()
                    )
            except (KafkaError, OSError, TimeoutError):
                await self.close()
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._brokers, acks="all", metadata_max_age_ms=METADATA_MAX_AGE_MS,
                **self._security.for_aiokafka(),
            )  # fmt: skip
            try:
                await producer.start()
                self._producer = producer
            finally:
                if self._producer is not producer:
                    await producer.stop()
        return self._producer

    async def close(self) -> None:
        """Let go of the broker."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                async with asyncio.timeout(2):
                    await producer.stop()
            except (KafkaError, OSError, TimeoutError):
                await producer.client.close()


async def _places(consumer: AIOKafkaConsumer, topics: Sequence[str]) -> list[TopicPartition]:
    await consumer.topics()
    found = [
        TopicPartition(topic, number)
        for topic in topics
        for number in sorted(consumer.partitions_for_topic(topic) or ())
    ]
    if not found:
        raise Transient("the topics are not there yet")
    return found
