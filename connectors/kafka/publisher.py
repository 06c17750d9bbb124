"""Publishes outbox rows with an idempotent producer: acknowledged by all replicas, in order per partition."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

from connectors.delivery import OutboxRow, Position
from connectors.errors import Permanent, Transient
from connectors.kafka.security import PLAINTEXT, Security

log = structlog.get_logger(__name__)

_PERMANENT: Final = (
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    InvalidTopicError,
    TopicAuthorizationFailedError,
)
CLOSE_TIMEOUT_S: Final = 5.0
CUT_TIMEOUT_S: Final = 1.0
METADATA_MAX_AGE_MS: Final = 10_000
"""How old a producer's knowledge of topics and leaders gets (aiokafka: five minutes). Topics may be others when a
broker is back, and a record for a partition that is no more is taken by the embedded broker and read by nobody."""


class KafkaPublisher:
    """See `connectors.delivery.Publisher`. One instance serves every partition of a worker.

    While the broker is away aiokafka itself tries again, for ever and in order. Should it give a record up,
    its sequence numbers have a hole and the broker refuses what comes after it in the same partition: then
    the producer is replaced, and the caller publishes what is missing again, in the same order.

    `idempotent=False` is for the embedded broker, which gives no producer ids (it answers InitProducerId v0
    with an unknown error). Order holds without them, as aiokafka has one request per partition under way; a
    retry may double a record, which every reader of ours expects.
    """

    def __init__(
        self,
        brokers: Sequence[str],
        *,
        security: Security = PLAINTEXT,
        idempotent: bool = True,
        linger_ms: int = 2,
        request_timeout_s: float = 30.0,
        client_id: str = "rapid-response",
    ) -> None:
        self._options: dict[str, Any] = {
            "bootstrap_servers": list(brokers),
            "client_id": client_id,
            "acks": "all",
            "enable_idempotence": idempotent,
            "linger_ms": linger_ms,
            "request_timeout_ms": int(request_timeout_s * 1000),
            "max_batch_size": 262_144,
            "max_request_size": 1_048_576,
            "retry_backoff_ms": 200,
            "metadata_max_age_ms": METADATA_MAX_AGE_MS,
            **security.for_aiokafka(),
        }
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def publish(self, rows: Sequence[OutboxRow]) -> list[Position]:
        """Send rows in order and wait for the broker's answer to each.

        Raises Transient (publish the same rows again) or Permanent (no broker will ever take one of them).
        """
        if not rows:
            return []
        producer = await self._started()
        try:
            return await _send_all(producer, rows)
        except (KafkaError, OSError, TimeoutError) as error:
            await self._discard(producer)
            raise _classified(error) from error

    async def stop(self) -> None:
        """Let go of the broker. Nothing is awaited that the outbox does not hold."""
        if self._producer is not None:
            await self._discard(self._producer)

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                self._producer = await self._start()
            return self._producer

    async def _start(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(**self._options)
        try:
            await producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await _close(producer)
            raise _classified(error) from error
        return producer

    async def _discard(self, producer: AIOKafkaProducer) -> None:
        """Close a producer whose sequence may have a hole; the next publish starts a new one."""
        async with self._starting:
            if self._producer is not producer:
                return
            self._producer = None
            await _close(producer)


async def _send_all(producer: AIOKafkaProducer, rows: Sequence[OutboxRow]) -> list[Position]:
    answers: list[asyncio.Future[Any]] = []
    try:
        for row in rows:
            answers.append(  # noqa: PERF401  # those before a failure must be kept
                await producer.send(row.topic, row.value, row.key, headers=row.headers)
            )
    finally:
        # also when one cannot be sent: nobody may be left waiting for an answer that nobody reads
        outcomes = await asyncio.gather(*answers, return_exceptions=True)
    return [_position(outcome) for outcome in outcomes]


def _position(outcome: Any) -> Position:
    if isinstance(outcome, BaseException):
        raise outcome
    return Position(outcome.partition, outcome.offset)


async def _close(producer: AIOKafkaProducer) -> None:
    try:
        await asyncio.wait_for(producer.stop(), CLOSE_TIMEOUT_S)
    except (KafkaError, OSError, TimeoutError) as error:
        log.warning("the producer was given up", error=type(error).__name__)
        await _cut(producer)
    except asyncio.CancelledError:
        await _cut(producer)
        raise


async def _cut(producer: AIOKafkaProducer) -> None:
    """End what `stop` leaves alive when it is interrupted: what is queued would reach the broker after what is
    published next, and the connections would stay open. Who waits for an answer hears that there is none."""
    sender: Any = producer._sender
    sending: asyncio.Task[Any] | None = sender.sender_task if sender is not None else None
    if sending is not None:
        sending.cancel()  # it takes nothing more from the queue, and waits for what is under way ...
    await producer.client.close()  # ... which ends with the connections
    if sending is not None and (await asyncio.wait([sending], timeout=CUT_TIMEOUT_S))[1]:
        sending.cancel()
        await asyncio.wait([sending], timeout=CUT_TIMEOUT_S)
    queue: Any = producer._message_accumulator
    queue._pending_batches.update(batch for batches in queue._batches.values() for batch in batches)
    queue.fail_all(KafkaTimeoutError("the producer was given up"))
    await producer.client.close()  # a request under way may have opened another one


def _classified(error: Exception) -> Exception:
    if isinstance(error, _PERMANENT):
        return Permanent(f"the broker refuses it: {type(error).__name__}")
    return Transient(f"the broker does not take records: {type(error).__name__}")
