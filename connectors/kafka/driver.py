"""Faust's aiokafka driver with another unit: one event is one polled batch of one partition.

Groups, rebalancing, flow control and the timing of commits stay Faust's. What may be committed is decided
here: the end of the prefix of batches that the loop has completed. Faust's own acknowledgements move nothing,
because a stream also acknowledges what it skips.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol, cast

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.serializers.schemas import Schema
from faust.transport.drivers import aiokafka as stock
from faust.types import TP, ConsumerMessage, Message
from yarl import URL

from connectors.delivery import RawRecord, RecordBatch

log = structlog.get_logger(__name__)

IN_FLIGHT_BATCHES: Final = 2  # per partition: one at work, one waiting
SHORT_POLL_S: Final = 0.05  # while partitions are left out of the poll, look again this soon

Records = Mapping[TP, list[Any]]  # of RawRecord; the name of the type is Faust's


class Lanes(Protocol):
    """Who processes the batches; called on assignment and on revocation."""

    def open(self, partitions: Iterable[tuple[str, int]], generation: int) -> None:
        """These partitions are ours from now on."""
        ...

    async def close(self) -> None:
        """Finish what is at work, or give it up, in bounded time; afterwards nothing is completed."""
        ...


class Progress:
    """Which batches of a partition were handed out and which are done. Batches are named by their last offset."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self._delivered: deque[int] = deque()
        self._completed: set[int] = set()
        self._committable: int | None = None

    @property
    def in_flight(self) -> int:
        """Batches handed out and not done."""
        return len(self._delivered) - len(self._completed)

    @property
    def committable(self) -> int | None:
        """The offset that may be committed: one past the completed prefix; None when nothing is done."""
        return self._committable

    def delivered(self, last_offset: int) -> None:
        """A batch is handed out; batches come in the order of their offsets."""
        self._delivered.append(last_offset)

    def complete(self, last_offset: int) -> None:
        """A batch is done."""
        if last_offset not in self._delivered:
            return
        self._completed.add(last_offset)
        while self._delivered and self._delivered[0] in self._completed:
            done = self._delivered.popleft()
            self._completed.discard(done)
            self._committable = done + 1


class Unparsed(Schema[Any, Any]):
    """Hands the batch through as it is: what is in it is decoded by the loop, record by record."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002  # Faust's signature
        return None

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002  # Faust's signature
        return message.value


class ConsumerThread(stock.AIOKafkaConsumerThread):
    """A commit that fails is tried again with the next one: the fence holds the truth, not the group."""

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        try:
            await self._ensure_consumer().commit(
                {TopicPartition(tp.topic, tp.partition): offset for tp, offset in offsets.items()}
            )
        except KafkaError as error:
            log.warning("offsets are not committed", error=type(error).__name__)
            return False
        return True


class Consumer(stock.Consumer):
    """The batch consumer. `complete` is the only way to move a committed offset."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._progress: dict[TP, Progress] = {}
        self._freed = asyncio.Event()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def _lanes(self) -> Lanes:
        return cast(Transport, self.transport).lanes

    # -- what is handed out

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yield one message per polled partition; its value is the batch, its offset the batch's last."""
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop:
            return
        if not self.flow_active:
            await self._seek_back()
            return
        for tp, batch in records.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return  # the next generation starts at what is committed
            if batch and active is not None and tp in active:
                yield tp, self._hand_out(tp, batch, generation)

    async def _seek_back(self) -> None:
        try:
            await self.perform_seek()
        except (KafkaError, TimeoutError) as error:  # the next assignment seeks again
            log.warning("cannot seek to the committed offsets", error=type(error).__name__)

    def _hand_out(self, tp: TP, records: Sequence[RawRecord], generation: int) -> ConsumerMessage:
        batch = RecordBatch(tp.topic, tp.partition, generation, records)
        progress = self._progress.get(tp)
        if progress is not None and progress.generation == generation:
            progress.delivered(batch.last_offset)
        value: Any = batch  # Faust knows bytes only, and passes on what it gets
        return ConsumerMessage(
            tp.topic, tp.partition, batch.last_offset, 0.0, 0, None, None, value, None, 0, 0, tp,
            generation_id=generation,
        )  # fmt: skip

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Records:
        free = {tp for tp in active_partitions or set() if self._has_room(tp)}
        if not free:  # an empty set would mean every partition
            await self._wait_for_room(timeout)
            return {}
        everything = active_partitions is not None and len(free) == len(active_partitions)
        wait_s = timeout if everything else min(timeout, SHORT_POLL_S)
        return await self._thread.getmany(free, wait_s)

    def _has_room(self, tp: TP) -> bool:
        progress = self._progress.get(tp)
        return progress is None or progress.in_flight < IN_FLIGHT_BATCHES

    async def _wait_for_room(self, timeout: float) -> None:
        self._freed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._freed.wait(), timeout)

    # -- what is done

    def complete(self, batch: RecordBatch) -> None:
        """Everything of this batch is done. Ignored when the batch is of an earlier generation."""
        progress = self._progress.get(TP(batch.topic, batch.partition))
        if progress is None or progress.generation != batch.generation:
            return
        progress.complete(batch.last_offset)
        self._freed.set()

    def ack(self, message: Message) -> bool:
        """Faust's acknowledgement: the stream is past the batch, nothing more."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Faust would count the records within a batch as acknowledged."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return iter([tp for tp in self._progress if topics is None or tp in topics or tp.topic in topics])

    def _new_offset(self, tp: TP) -> int | None:
        progress = self._progress.get(tp)
        return None if progress is None else progress.committable

    async def _commit_offsets(self, offsets: Mapping[TP, int], **_: Any) -> bool:
        mine = {tp: offset for tp, offset in offsets.items() if tp in self.assignment()}
        if not mine or not await self._commit(mine):
            return False
        self._committed_offset.update(mine)
        return True

    # -- assignment

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Start the books and the lanes of this generation, then let Faust resume the flow."""
        self._progress = {tp: Progress(generation_id) for tp in assigned}
        self._lanes.open([(tp.topic, tp.partition) for tp in assigned], generation_id)
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Stop the flow, finish or drop what is at work, commit (Faust's callback does), close the books."""
        await super().on_partitions_revoked(revoked)
        await self._lanes.close()  # Faust leaves out wait_empty when it has no assignment
        self._progress = {}

    async def wait_empty(self) -> None:
        """Wait, in bounded time, until nothing is at work, and commit what is completed."""
        await self._lanes.close()
        await self.commit_and_end_transactions()

    async def verify_all_partitions_active(self) -> None:
        """Faust's complaint about slow streams: a partition that waits for the database is not its business."""


class Transport(stock.Transport):
    """The transport of one app, with the lanes that process its batches."""

    Consumer: ClassVar[type[Any]] = Consumer

    def __init__(self, urls: list[URL], app: Any, lanes: Lanes) -> None:
        super().__init__(urls, app, None)
        self.lanes = lanes
