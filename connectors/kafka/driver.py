"""Faust's aiokafka driver with another unit: one event is one polled batch of one partition.

Groups, rebalancing, flow control and the timing of commits stay Faust's. Two things are decided here:

- What may be committed: the end of the prefix of batches that the loop has completed. Faust's own
  acknowledgements move nothing, because a stream also acknowledges what it skips.
- Where reading starts: at the fence's next offset, told by the loop once it has taken the partition over, and
  never at the committed offset. So a polled batch may be dropped at any moment of a rebalance (it will be
  read again), a restored database reads what it has not seen, and a commit that comes late or never is no loss.
"""

import asyncio
import contextlib
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
from connectors.errors import Transient

log = structlog.get_logger(__name__)

IN_FLIGHT_BATCHES: Final = 8  # per partition: one at work, the others wait and are then done together
SHORT_POLL_S: Final = 0.05  # while partitions are left out of the poll, look again this soon

Records = Mapping[TP, list[Any]]  # of RawRecord; the name of the type is Faust's


class Lanes(Protocol):
    """Who processes the batches; called on assignment and on revocation."""

    def open(self, partitions: Iterable[tuple[str, int]]) -> None:
        """These partitions are ours from now on."""
        ...

    async def close(self) -> None:
        """Finish what is at work, or give it up, in bounded time; afterwards nothing is completed."""
        ...


class Progress:
    """Which batches of one run of a partition were handed out and which are done.

    Batches are named by their last offset. `committable` is the offset that may be committed: one past the
    completed prefix, None when nothing is known to be done.
    """

    def __init__(self, run: int, start: int) -> None:
        self.run = run
        self.committable: int | None = start or None
        self.records = 0  # of the batches handed out and not done
        self._delivered: dict[int, int] = {}  # by last offset, in order: its records, 0 when it is done

    @property
    def in_flight(self) -> int:
        """Batches handed out and not done."""
        return sum(records > 0 for records in self._delivered.values())

    def delivered(self, last_offset: int, records: int) -> None:
        """A batch of so many records is handed out; batches come in the order of their offsets."""
        self._delivered[last_offset] = records
        self.records += records

    def complete(self, last_offset: int) -> None:
        """A batch is done; one that was not handed out is ignored."""
        if last_offset not in self._delivered:
            return
        self.records -= self._delivered[last_offset]
        self._delivered[last_offset] = 0
        while self._delivered and not self._delivered[first := next(iter(self._delivered))]:
            del self._delivered[first]
            self.committable = first + 1


class Unparsed(Schema[Any, Any]):
    """Hands the batch through as it is: what is in it is decoded by the loop, record by record."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002  # Faust's signature
        return None

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002  # Faust's signature
        return message.value


class ConsumerThread(stock.AIOKafkaConsumerThread):
    """aiokafka's consumer, in the thread where Faust keeps it."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        """Faust's, but for how long a fetch may wait at the broker: Faust has it fixed at 1.5 s."""
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = int(transport.fetch_wait_s * 1000)  # read when it starts
        return consumer

    async def start_at(self, tp: TP, offset: int) -> None:
        """Read a partition from this offset on; 0 is the beginning of the log. Raises Transient."""
        await self.call_thread(self._start_at, TopicPartition(tp.topic, tp.partition), offset)

    async def _start_at(self, tp: TopicPartition, offset: int) -> None:
        consumer = self._ensure_consumer()
        try:
            if offset:
                consumer.seek(tp, offset)
            elif not await consumer.seek_to_beginning(tp):
                raise TimeoutError
        except (KafkaError, TimeoutError) as error:
            raise Transient(f"cannot seek in {tp.topic}/{tp.partition}: {type(error).__name__}") from error

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit. What fails is tried again with the next one: the fence holds the truth, not the group."""
        try:
            await self._ensure_consumer().commit(
                {TopicPartition(tp.topic, tp.partition): offset for tp, offset in offsets.items()}
            )
        except KafkaError as error:
            log.warning("offsets are not committed", error=type(error).__name__)
            return False
        return True


class Consumer(stock.Consumer):
    """The batch consumer; see `connectors.delivery.Feed`."""

    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_offset = _Forgetful()
        self._runs = 0
        self._progress: dict[TP, Progress] = {}  # of the partitions that may be polled
        self._polling = asyncio.Lock()
        self._freed = asyncio.Event()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def _lanes(self) -> Lanes:
        return cast(Transport, self.transport).lanes

    # -- where reading starts

    async def begin(self, topic: str, partition: int, offset: int) -> int:
        """Read a partition from this offset on, and return the number of this run."""
        tp = TP(topic, partition)
        self._progress.pop(tp, None)
        async with self._polling:  # a poll that is under way may still move the position
            await self._thread.start_at(tp, offset)
            self._runs += 1
            self._progress[tp] = Progress(self._runs, offset)
        self._freed.set()
        return self._runs

    async def perform_seek(self) -> None:
        """Faust would seek to the committed offsets; here every lane says where its partition starts."""

    # -- what is handed out

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yield one message per polled partition; its value is the batch, its offset the batch's last.

        A batch may be dropped here: whatever closes the flow or changes the run is followed by `begin`.
        """
        generation = self.app.consumer_generation_id
        runs, records = await self._poll(timeout)
        for tp, batch in records.items():
            if self.should_stop or not self.flow_active or self.app.consumer_generation_id != generation:
                return
            progress = self._progress.get(tp)
            if batch and progress is not None and progress.run == runs.get(tp):
                yield tp, self._hand_out(tp, batch, progress, generation)

    def _hand_out(
        self, tp: TP, records: Sequence[RawRecord], progress: Progress, generation: int
    ) -> ConsumerMessage:
        batch = RecordBatch(tp.topic, tp.partition, progress.run, records)
        progress.delivered(batch.last_offset, len(records))
        value: Any = batch  # Faust knows bytes only, and passes on what it gets
        return ConsumerMessage(
            tp.topic, tp.partition, batch.last_offset, 0.0, 0, None, None, value, None, 0, 0, tp,
            generation_id=generation,
        )  # fmt: skip

    async def _poll(self, timeout: float) -> tuple[dict[TP, int], Records]:
        """What the partitions with room have, and the run of each when they were asked."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type]  # mode names its own Event, any does
        active = self._get_active_partitions()
        runs = {
            tp: progress.run
            for tp, progress in self._progress.items()
            if tp in active and self._has_room(progress)
        }
        if not runs:  # an empty set would mean every partition
            await self._wait_for_room(timeout)
            return {}, {}
        wait_s = timeout if len(runs) == len(active) else min(timeout, SHORT_POLL_S)
        async with self._polling:
            free = {tp for tp, run in runs.items() if tp in self._progress and self._progress[tp].run == run}
            return runs, await self._thread.getmany(free, wait_s) if free else {}

    def _has_room(self, progress: Progress) -> bool:
        """Small batches may wait in numbers, of large ones only the next: what waits lies in our memory."""
        most_records = self.app.conf.broker_max_poll_records or 0
        return progress.in_flight < IN_FLIGHT_BATCHES and progress.records <= most_records

    async def _wait_for_room(self, timeout: float) -> None:
        self._freed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._freed.wait(), timeout)

    # -- what is done

    def complete(self, batch: RecordBatch) -> None:
        """Everything of this batch is done. Ignored when the batch is of an older run."""
        progress = self._progress.get(TP(batch.topic, batch.partition))
        if progress is not None and progress.run == batch.run:
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

    async def _commit_offsets(
        self,
        offsets: Mapping[TP, int],
        start_new_transaction: bool = True,  # noqa: ARG002  # Faust's signature
    ) -> bool:
        mine = {tp: offset for tp, offset in offsets.items() if tp in self.assignment()}
        if not mine or not await self._commit(mine):
            return False
        self._committed_offset.update(mine)
        return True

    # -- assignment

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Open the lanes of this generation, then let Faust resume the flow."""
        self._progress = {}
        self._lanes.open((tp.topic, tp.partition) for tp in assigned)
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


class _Forgetful(dict[TP, int | None]):
    """Faust's read offsets, with which it drops what it has seen: after a `begin` it must come again."""

    def __getitem__(self, tp: TP) -> None:
        return None

    def __setitem__(self, tp: TP, offset: int | None) -> None:
        return None


class Transport(stock.Transport):
    """The transport of one app, with the lanes that process its batches."""

    Consumer: ClassVar[type[Any]] = Consumer

    def __init__(self, urls: list[URL], app: Any, lanes: Lanes, *, fetch_wait_s: float = 0.5) -> None:
        super().__init__(urls, app, None)
        self.lanes = lanes
        self.fetch_wait_s = fetch_wait_s
