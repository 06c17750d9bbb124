"""The one loop: batch -> decode -> one transaction -> publish -> complete.

Nothing leaves it. A record that cannot be used becomes a dead letter; when the outside is away the partition
waits and the others go on; whatever nobody foresaw ends the process before anything is acknowledged, and the
supervisor starts it again. Effects, outbox, dead letters and the fence move in one transaction, so that a
record is applied once, however often it is delivered.
"""

import asyncio
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, NoReturn, TypeVar

import structlog

from agents.messages import Binding, Message, Outcome, Rejection
from agents.settling import Published, Settling
from connectors.delivery import (
    Claim,
    Feed,
    FenceKey,
    Incarnations,
    Ledger,
    Log,
    Moment,
    OutboxRow,
    Position,
    Publisher,
    RawRecord,
    RecordBatch,
    Watch,
)
from connectors.errors import Fenced, Outdated, Permanent, Transient
from schemas.codec import MAX_KEY_BYTES, MAX_RECORD_BYTES, Decoded, Defect, decode, encode
from schemas.dead_letter import DeadLetter, Reason, dead_letter_id_of
from schemas.envelope import Event, header
from schemas.origin import kept_headers, origin_of
from schemas.topics import DEAD_LETTERS

log = structlog.get_logger(__name__)

T = TypeVar("T")

EXIT_UNEXPECTED: Final = 70  # EX_SOFTWARE of sysexits.h: something that nobody foresaw
CANCEL_TIMEOUT_S: Final = 5.0
SETTLE_TIMEOUT_S: Final = 5.0
LOGGED_IDS: Final = 50  # of one topic, in one line
PUBLISHED_LETTER_BYTES: Final = 524_288  # a larger original stays in the table only: base64 adds a third


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the loop."""

    max_record_bytes: int = MAX_RECORD_BYTES
    max_batch_bytes: int = 8_388_608  # of values, per transaction; what is larger is applied in parts
    merge_records: int = 1000  # polled batches that wait are applied together, up to so many records
    settle_pause_s: float = 0.1  # so long after it was published the outbox is settled, for all lanes at once
    retry_first_s: float = 0.1
    retry_most_s: float = 10.0
    reclaim_after_s: float = 3.0  # after being fenced; longer than a heartbeat, so that a zombie learns of it
    close_timeout_s: float = 20.0  # what is at work when partitions are revoked may take this long
    trust_ends: bool = (
        True  # False: this broker tells no true ends (and its incarnation changes at each boot)
    )
    slow_s: float = 6.0  # a transaction that fails after so long is tried again in two halves
    confirm_end_times: int = 3  # a log's end before the fence is believed after so many looks


class Item(NamedTuple):
    """One record of a batch: a message, or why it is none."""

    offset: int
    size_bytes: int
    content: Message | DeadLetter


class _TooSlow(Exception):
    """A transaction took long and failed: the database gives up on sessions that are idle or busy too long, and
    the same records would take as long again."""


class LaneClosed(Exception):
    """The partition was revoked, or the worker stops."""


def end_process(error: BaseException) -> NoReturn:
    """End the process at once, so that nothing in it can be acknowledged any more; the log has said why."""
    del error
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_UNEXPECTED)


class Runner:
    """Runs the lanes of the partitions that this worker owns; one topic has one binding."""

    def __init__(
        self,
        bindings: Sequence[Binding],
        *,
        consumer: str,
        ledger: Ledger,
        publisher: Publisher,
        source: Log,
        limits: Limits | None = None,
        jitter: Callable[[float], float] = lambda seconds: seconds,
        die: Callable[[BaseException], Any] = end_process,
        watch: Watch = lambda *_: None,
        renew: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        self.bindings = {binding.topic.name: binding for binding in bindings}
        if len(self.bindings) < len(bindings):
            raise ValueError("two bindings read the same topic: give each its own consumer group")
        self.consumer = consumer
        self.ledger = ledger
        self.publisher = publisher
        self.source = source
        self.limits = limits or Limits()
        self.jitter = jitter
        self.die = die
        self.watch = watch
        self.renew = renew  # takes up what was put in force, for a ledger that says so; raises Transient
        self.feed: Feed | None = None  # set once the driver is there, before the first partition is assigned
        self.settling = Settling(ledger, self.limits.settle_pause_s, die)
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._draining = False
        self.assignments = 0  # how often this worker was given its share of the partitions, perhaps none

    def drain(self) -> None:
        """Open no lane any more: what is assigned from now on is for others."""
        self._draining = True

    def open(self, partitions: Iterable[tuple[str, int]]) -> None:
        """Start a lane for each partition: it takes the partition over before it reads a record."""
        self.assignments += 1
        for topic, partition in partitions:
            binding = self.bindings.get(topic)
            if binding is not None and not self._draining:
                lane = Lane(self, binding, partition)
                self._lanes[topic, partition] = lane
                lane.start()

    def topics(self) -> list[str]:
        """The topics that the agents read."""
        return list(self.bindings)

    def accept(self, batch: RecordBatch) -> None:
        """Queue a batch for its lane. The driver limits how many are under way."""
        lane = self._lanes.get((batch.topic, batch.partition))
        if lane is not None:
            lane.put(batch)

    async def close(self) -> None:
        """Let every lane finish what it has at work, in bounded time; queued batches are dropped."""
        lanes, self._lanes = list(self._lanes.values()), {}
        await asyncio.gather(*(lane.close(self.limits.close_timeout_s) for lane in lanes))
        try:
            await asyncio.wait_for(self.settling.settle(), SETTLE_TIMEOUT_S)
        except (Transient, TimeoutError) as error:
            log.warning("not settled, the next owner publishes it again", error=str(error))


class Lane:
    """One partition from assignment to revocation: its batches in order, those that wait in one transaction."""

    def __init__(self, runner: Runner, binding: Binding, partition: int) -> None:
        self._runner = runner
        self._binding = binding
        self._limits = runner.limits
        self._key = FenceKey(runner.consumer, binding.topic.name, partition)
        self._waiting: deque[RecordBatch] = deque()
        self._woken = asyncio.Event()  # by a batch, or by the end
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._claim: Claim | None = None
        self._run_number = 0  # of the feed: batches of older runs were read before a seek
        self._position = 0  # one past the last record that this lane has applied
        self._doubtful = False  # a transaction may have been committed without our knowing
        self._in_vain = False  # what we published went to a broker that is no more

    def start(self) -> None:
        """Run in a task of its own."""
        self._task = asyncio.create_task(self._run(), name=f"lane {self._key.source}")

    def put(self, batch: RecordBatch) -> None:
        """Queue a batch."""
        self._tell(Moment("polled", offset=batch.last_offset + 1))
        self._waiting.append(batch)
        self._woken.set()

    async def close(self, timeout_s: float) -> None:
        """Finish the batch at work; cancel it when that takes too long (its rows stay in the outbox)."""
        self._closing.set()
        self._woken.set()
        if self._task is None:
            return
        _, late = await asyncio.wait([self._task], timeout=timeout_s)
        if late:
            log.warning("a batch is given up, it will be done again", source=self._key.source)
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CANCEL_TIMEOUT_S)  # the fence stops it if this does not

    # -- the loop

    async def _run(self) -> None:
        structlog.contextvars.bind_contextvars(
            agent=self._binding.agent, topic=self._key.topic, partition=self._key.partition
        )
        try:
            await self._own()
            while True:
                await self._work(await self._next())
        except LaneClosed:
            pass
        except Exception as error:
            log.critical("unexpected, the process ends", exc_info=error)
            self._runner.die(error)
        finally:
            self._tell(Moment("closed"))

    def _tell(self, moment: Moment) -> None:
        self._runner.watch(self._binding.agent, self._key, moment)

    def _tell_failure(self, error: Transient | Permanent | Fenced) -> None:
        kind: Literal["away", "refused", "fenced"] = "refused"
        if not isinstance(error, Permanent):
            kind = "fenced" if isinstance(error, Fenced) else "away"
        self._tell(Moment("failed", error=kind, why=str(error)))

    async def _next(self) -> list[RecordBatch]:
        """What waits, as far as it goes into one transaction; LaneClosed when there will be nothing."""
        while not self._closing.is_set():
            if self._in_vain:
                await self._insist("publishing what was left", self._publish_leftovers)
            await self._wait_for_more()
            batches = self._take_waiting()
            if batches:
                return batches
            self._woken.clear()
            await self._woken.wait()
        raise LaneClosed

    async def _wait_for_more(self) -> None:
        """Where there is time for it, what comes soon is done together with what waits."""
        waiting = sum(len(batch.records) for batch in self._waiting)
        if self._binding.patience_s and 0 < waiting < self._limits.merge_records:
            await self._pause(self._binding.patience_s)

    def _take_waiting(self) -> list[RecordBatch]:
        """The batches that wait, of this run, while their offsets go up and their records are not too many."""
        taken: list[RecordBatch] = []
        records = 0
        while self._waiting:
            batch = self._waiting[0]
            records += len(batch.records) if batch.run == self._run_number else 0
            if taken and (
                records > self._limits.merge_records or batch.first_offset <= taken[-1].last_offset
            ):
                break
            self._waiting.popleft()
            if batch.run == self._run_number:  # else it was read before a seek, and is read again
                taken.append(batch)
        return taken

    async def _work(self, batches: Sequence[RecordBatch]) -> None:
        """Apply and publish batches that follow one another, whatever it takes, and only then complete them."""
        first, last = batches[0].first_offset, batches[-1].last_offset
        with structlog.contextvars.bound_contextvars(batch=f"{first}-{last}", offset=first):
            if first < self._position:
                log.warning("offsets went back: perhaps it is another log")
                await self._own()
                return
            self._tell(Moment("began", offset=last + 1))
            items = [self._item(record) for batch in batches for record in batch.records]
            try:
                for part in _parts(items, self._limits.max_batch_bytes):
                    await self._apply(part)
            except Fenced as fenced:
                # rightly: revocation is on its way and closes this lane; else a zombie was faster, take it back
                log.warning("fenced, the batch is dropped", reason=str(fenced))
                self._tell_failure(fenced)
                await self._pause(self._limits.reclaim_after_s)
                await self._own()
                return
            self._position = last + 1
            for batch in batches:
                self._feed.complete(batch)
            self._tell(Moment("done", offset=last + 1))

    async def _apply(self, items: Sequence[Item]) -> None:
        """Apply some records and publish what follows; halve them until the one that cannot work is alone."""
        try:
            rows = await self._insist("the transaction", lambda: self._transact_by_what_holds(items))
        except Permanent as error:
            if len(items) == 1:
                await self._apply([_failed(items[0], error)])
                return
        except _TooSlow as error:
            log.warning("tried again in two halves", records=len(items), error=str(error.__cause__))
        else:
            await self._publish(rows)
            return
        middle = len(items) // 2
        await self._apply(items[:middle])
        await self._apply(items[middle:])

    async def _transact_by_what_holds(self, items: Sequence[Item]) -> list[OutboxRow]:
        """An activation between two batches is no failure: it is taken up at once."""
        while True:
            try:
                return await self._transact(items)
            except Outdated as outdated:
                if self._runner.renew is None:
                    raise
                log.info("something else is in force, the batch begins anew", reason=str(outdated))
                await self._runner.renew()

    async def _transact(self, items: Sequence[Item]) -> list[OutboxRow]:
        """Everything that a part of a batch leads to, in one transaction; the outbox rows to publish."""
        if self._doubtful or self._in_vain:
            await self._publish_leftovers()
        ledger, claim = self._runner.ledger, self._claimed
        after = items[-1].offset + 1
        began_s = time.monotonic()
        self._doubtful = True
        try:
            async with ledger.transaction() as connection:
                applied_to = await ledger.advance(connection, claim, after)
                fresh = [item for item in items if item.offset >= applied_to]
                outcome, letters = await self._decide(connection, fresh)
                kept = await ledger.bury(connection, letters)
                events = [*outcome.events, *map(letter_event, kept)]
                rows = await ledger.add(connection, claim.key.source, events)
                if fresh:
                    log.debug("decided", records=len(fresh), changed=_changed(events))
        except (Fenced, Outdated, Permanent) as error:
            self._doubtful = False  # rolled back, for certain
            if isinstance(error, Permanent):
                self._tell_failure(error)
            raise
        except Transient as error:
            if len(items) > 1 and time.monotonic() - began_s > self._limits.slow_s:
                self._tell_failure(error)
                raise _TooSlow from error
            raise
        self._doubtful = False
        self._tell(_applied(fresh, events, letters, time.monotonic() - began_s))
        return rows

    async def _decide(self, connection: Any, items: Sequence[Item]) -> tuple[Outcome, list[DeadLetter]]:
        """What the agent makes of the usable records, and the dead letters of the others, by offset."""
        messages = [item.content for item in items if isinstance(item.content, Message)]
        letters = [item.content for item in items if isinstance(item.content, DeadLetter)]
        outcome = await self._binding.handle(connection, messages) if messages else Outcome()
        letters += map(_letter_of_rejection, outcome.rejections)
        for letter in letters:
            log.warning(
                "dead letter",
                dead_letter=str(letter.dead_letter_id),
                reason=letter.reason,
                field=letter.field,
                at_offset=letter.offset,
            )
        return outcome, sorted(letters, key=lambda letter: letter.offset)

    # -- taking over

    async def _own(self) -> None:
        """Raise the epoch of the partition's fence, publish what its last owner left, read on where it stands."""
        self._tell(Moment("claiming"))
        claim = self._claim = await self._take_over_somehow()
        self._position = claim.next_offset
        await self._insist("publishing what was left", self._publish_leftovers)
        topic, partition = self._key.topic, self._key.partition
        self._run_number = await self._insist(
            "finding the place in the log", lambda: self._feed.begin(topic, partition, claim.next_offset)
        )
        self._tell(Moment("claimed", offset=claim.next_offset))

    async def _take_over_somehow(self) -> Claim:
        while True:
            try:
                return await self._insist("taking the partition over", self._take_over)
            except Fenced as fenced:
                log.warning("another worker took it over at the same time", reason=str(fenced))
                await self._pause(self._limits.reclaim_after_s)

    async def _take_over(self) -> Claim:
        """The epoch is raised before the log's end is read: afterwards nobody else can move the fence."""
        runner = self._runner
        incarnation = await runner.source.incarnation(self._key.topic)
        claim = await runner.ledger.claim(self._key, incarnation)
        if claim.next_offset and self._limits.trust_ends and await self._ends_before(claim.next_offset):
            claim = await runner.ledger.restart(claim)
        log.info("partition taken over", epoch=claim.epoch, next_offset=claim.next_offset)
        return claim

    async def _ends_before(self, next_offset: int) -> bool:
        """Whether the log ends before the fence, looked at several times: a new leader may lag for a moment."""
        for _ in range(self._limits.confirm_end_times):
            end = await self._runner.source.end_offset(self._key.topic, self._key.partition)
            if end >= next_offset:
                return False
            await self._pause(0.5)
        return True

    @property
    def _feed(self) -> Feed:
        if self._runner.feed is None:
            raise RuntimeError("partitions were assigned before there was a driver")
        return self._runner.feed

    @property
    def _claimed(self) -> Claim:
        if self._claim is None:
            raise RuntimeError("a lane works on a partition that it has not claimed")
        return self._claim

    # -- publishing

    async def _publish_leftovers(self) -> None:
        await self._runner.settling.settle()  # else what was just published would be published again
        self._in_vain = False
        rows = await self._runner.ledger.unsent(self._key.source)
        if rows:
            log.info("publishing what was left in the outbox", rows=len(rows))
        await self._publish(rows)
        self._doubtful = False

    async def _publish(self, rows: Sequence[OutboxRow]) -> None:
        """In order, until the broker has every row: they are committed, so there is no way back."""
        if rows:
            before, positions = await self._insist("publishing", lambda: self._send(rows), always=True)
            self._runner.settling.note(Published(rows, positions, before, self._publish_again))
            self._tell(Moment("published"))

    def _publish_again(self) -> None:
        log.warning("the broker was replaced, its successor is sent the same", source=self._key.source)
        self._in_vain = True
        self._woken.set()

    async def _send(self, rows: Sequence[OutboxRow]) -> tuple[Incarnations, list[Position]]:
        before = await self._runner.ledger.incarnations(rows)
        return before, await self._runner.publisher.publish(rows)

    # -- waiting

    async def _insist(self, what: str, attempt: Callable[[], Awaitable[T]], *, always: bool = False) -> T:
        """Try until it works or the lane closes. `always`: a refusal is no way out either, it is waited out."""
        delay_s = self._limits.retry_first_s
        while True:
            try:
                return await attempt()
            except Transient as error:
                self._tell_failure(error)
                log.warning("tried again", what=what, error=str(error), in_s=round(delay_s, 2))
            except Permanent as error:
                if not always:
                    raise
                self._tell_failure(error)
                log.error("refused, tried again", what=what, error=str(error), in_s=round(delay_s, 2))
            await self._pause(self._runner.jitter(delay_s))
            delay_s = min(delay_s * 2, self._limits.retry_most_s)

    async def _pause(self, seconds: float) -> None:
        """Sleep, or raise LaneClosed as soon as the lane closes."""
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return
        raise LaneClosed

    # -- decoding

    def _item(self, record: RawRecord) -> Item:
        decoded = self._decoded(record)
        size_bytes = len(record.value or b"")
        if isinstance(decoded, Defect):
            return Item(record.offset, size_bytes, self._letter_of_defect(record, decoded))
        return Item(record.offset, size_bytes, self._message(record, decoded))

    def _decoded(self, record: RawRecord) -> Decoded | Defect:
        """Decoding is pure: what it cannot take concerns this record alone, and nothing must stop the others."""
        try:
            return decode(
                self._binding.topic,
                record.key,
                record.value,
                record.headers,
                body=self._binding.reads == "body",
                max_bytes=self._limits.max_record_bytes,
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, it is about one record
            log.error("a record cannot be decoded", offset=record.offset, error=type(error).__name__)
            return Defect("failed", None, f"a record that can be decoded ({type(error).__name__})", b"")

    def _message(self, record: RawRecord, decoded: Decoded) -> Message:
        return Message(
            topic=self._key.topic,
            partition=self._key.partition,
            offset=record.offset,
            key=decoded.key,
            body=decoded.body,
            event_id=header(record.headers, "ce_id"),
            correlation=header(record.headers, "ce_correlationid"),
            raw_key=record.key or b"",
            raw_value=decoded.value,
            headers=record.headers,
        )

    def _letter_of_defect(self, record: RawRecord, defect: Defect) -> DeadLetter:
        return _letter(
            (self._key.topic, self._key.partition, record.offset),
            (defect.reason, defect.field, defect.expected),
            (record.key[:MAX_KEY_BYTES] if record.key else record.key, defect.value),
            kept_headers(record.headers),
        )


def _applied(
    items: Sequence[Item], events: Sequence[Event], letters: Sequence[DeadLetter], seconds: float
) -> Moment:
    """What a transaction has done, for who watches."""
    reasons = Counter[str](letter.reason for letter in letters)
    return Moment("applied", records=len(items), events=len(events), letters=reasons, seconds=seconds)


def _changed(events: Sequence[Event]) -> dict[str, list[str]]:
    """The ids of what changed, by the topic that tells of it: whoever looks for an incident or an order in the
    logs finds the batch."""
    changed: dict[str, list[str]] = {}
    for event in events:
        keys = changed.setdefault(event.topic, [])
        if event.key not in keys[-1:] and len(keys) < LOGGED_IDS:
            keys.append(event.key)
    return changed


def _parts(items: Sequence[Item], max_bytes: int) -> list[Sequence[Item]]:
    """The items in runs of at most so many bytes, each with at least one item."""
    parts: list[Sequence[Item]] = []
    start = size = 0
    for index, item in enumerate(items):
        if index > start and size + item.size_bytes > max_bytes:
            parts.append(items[start:index])
            start, size = index, 0
        size += item.size_bytes
    parts.append(items[start:])
    return parts


def _failed(item: Item, error: Permanent) -> Item:
    """The one record that cannot work, as a dead letter."""
    if isinstance(item.content, DeadLetter):
        raise error  # a dead letter that the database refuses is nothing that anybody foresaw
    return item._replace(
        content=_letter_of_rejection(Rejection(item.content, "failed", error.field, str(error)))
    )


def _letter_of_rejection(rejection: Rejection) -> DeadLetter:
    message = rejection.message
    return _letter(
        (message.topic, message.partition, message.offset),
        (rejection.reason, rejection.field, rejection.expected),
        (message.raw_key, message.raw_value),
        kept_headers(message.headers),
    )


def _letter(
    where: tuple[str, int, int],
    why: tuple[Reason, str | None, str],
    original: tuple[bytes | None, bytes | None],
    headers: tuple[tuple[str, str], ...],
) -> DeadLetter:
    topic, partition, offset = where
    reason, field, expected = why
    key, value = original
    return DeadLetter(
        dead_letter_id=dead_letter_id_of(topic, key, value),
        topic=topic,
        partition=partition,
        offset=offset,
        reason=reason,
        field=field[:200] if field else None,
        expected=expected[:2000],
        key=key,
        value=value,
        headers=headers,
        source=origin_of(topic, key, value),
    )


def letter_event(letter: DeadLetter) -> Event:
    """The dead letter as an event; the offset makes the id, so that a second occurrence is another event."""
    published = letter
    if letter.value is not None and len(letter.value) > PUBLISHED_LETTER_BYTES:
        published = letter.model_copy(update={"value": None})
    return Event(
        topic=DEAD_LETTERS.name,
        key=letter.topic,
        value=encode(published),
        type=DEAD_LETTERS.type,
        subject=str(letter.dead_letter_id),
        version=letter.offset,
    )
