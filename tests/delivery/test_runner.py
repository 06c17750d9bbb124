"""The loop against a real PostgreSQL and a broker in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import pytest

from agents.messages import Binding, Message, Outcome, Rejection
from agents.runner import Limits, Runner
from connectors.delivery import Claim, FenceKey, OutboxRow, Position
from connectors.errors import Permanent, Transient
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.outbox import REPLACED_AT_LEAST_S
from connectors.postgres.pool import create_pool
from schemas.codec import encode
from tests.delivery.checker import Seen, check
from tests.delivery.doubles import MemoryFeed, MemoryLog, MemoryPublisher, Raw
from tests.delivery.scenario import until
from tests.delivery.toy import ToyIn, binding, handling, topic_in, topic_out

IN, OUT = topic_in("unit").name, topic_out("unit").name
FAST = Limits(
    settle_pause_s=0.01, retry_first_s=0.01, retry_most_s=0.02, reclaim_after_s=0.05, close_timeout_s=2.0
)


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    made = await create_pool(dsn, max_size=6)
    yield made
    await made.close()


@dataclass
class Loop:
    """A runner with its doubles, on partition 0."""

    pool: asyncpg.Pool
    binding: Binding = field(default_factory=lambda: binding("unit"))
    log: MemoryLog = field(default_factory=MemoryLog)
    publisher: MemoryPublisher = field(default_factory=MemoryPublisher)
    limits: Limits = FAST
    ledger: PostgresLedger | None = None

    def __post_init__(self) -> None:
        self.feed = MemoryFeed()
        self.deaths: list[BaseException] = []
        self.ledger = self.ledger or PostgresLedger(self.pool)
        self.runner = Runner(
            [self.binding], consumer="unit", ledger=self.ledger, publisher=self.publisher, source=self.log,
            limits=self.limits, die=self.deaths.append,
        )  # fmt: skip
        self.runner.feed = self.feed

    async def open(self) -> None:
        begun = len(self.feed.begun)
        self.runner.open([(IN, 0)])
        assert await until(lambda: len(self.feed.begun) > begun, 5.0)

    def give(self, *records: Raw) -> None:
        self.runner.accept(self.feed.batch(IN, records))

    async def work(self, *records: Raw) -> None:
        """Give one batch and wait until it is completed."""
        self.give(*records)
        assert await until(lambda: records[-1].offset in self.feed.completed, 5.0), self.deaths

    async def rows(self, sql: str) -> list[Any]:
        return [tuple(row) for row in await self.pool.fetch(sql)]

    async def settled(self) -> None:
        """Wait until nothing in the outbox waits for the broker's answer."""
        for _ in range(250):
            if not await self.rows("SELECT 1 FROM outbox WHERE sent_offset IS NULL"):
                return
            await asyncio.sleep(0.02)
        raise AssertionError(await self.rows("SELECT seq, source, topic FROM outbox"))

    async def next_offset(self) -> int:
        return int(await self.pool.fetchval("SELECT next_offset FROM fences"))


def raw(offset: int, number: int | None = None, **more: Any) -> Raw:
    body = ToyIn(number=offset if number is None else number, **more)
    return Raw(offset, b"k", encode(body))


def numbers(rows: Sequence[Any]) -> list[int]:
    return [ToyIn.model_validate_json(row.value).number for row in rows]


async def test_batch_is_applied_published_in_order_settled_and_completed(pool: asyncpg.Pool) -> None:
    loop = Loop(pool)
    await loop.open()
    await loop.work(raw(0), raw(1))
    await loop.work(raw(2), raw(5))
    assert numbers(loop.publisher.sent) == [0, 1, 2, 5]
    assert dict(loop.publisher.sent[0].headers)["ce_type"] == b"rapid.toy-out.v1"
    assert await loop.rows('SELECT "offset" FROM toy ORDER BY n') == [(0,), (1,), (2,), (5,)]
    await loop.settled()
    assert (await loop.next_offset(), loop.feed.begun, loop.feed.completed) == (6, [0], [1, 5])
    await loop.runner.close()


async def test_next_owner_starts_at_the_fence_and_records_below_it_are_trimmed(pool: asyncpg.Pool) -> None:
    first, second = Loop(pool), Loop(pool)
    await first.open()
    await first.work(raw(0), raw(1))
    await first.runner.close()
    await second.open()
    assert second.feed.begun == [2]
    second.give(
        raw(1), raw(2)
    )  # from before the fence: the lane looks again whether it is still the same log
    assert await until(lambda: len(second.feed.begun) == 2, 5.0)
    await second.work(raw(2))
    assert await second.rows("SELECT number FROM toy ORDER BY n") == [(0,), (1,), (2,)]
    await second.runner.close()


async def test_records_that_cannot_be_used_become_dead_letters_and_the_others_go_on(
    pool: asyncpg.Pool,
) -> None:
    loop = Loop(pool)
    await loop.open()
    bad = Raw(1, b"k", b'{"number":"x","first_name":"Jane"}')
    await loop.work(raw(0), bad, Raw(2, None, b"{}"), Raw(3, b"k", b"\xff"), Raw(4, b"k", None), raw(5))
    letters = await loop.rows(
        'SELECT "offset", reason, field, value, state FROM dead_letters ORDER BY "offset"'
    )
    assert letters == [
        (1, "invalid", "number", b'{"number":"x"}', "open"),
        (2, "missing_key", None, b"{}", "open"),
        (3, "undecodable", None, b"\xff", "open"),
        (4, "not_json", None, b"", "open"),
    ]
    assert [row.topic for row in loop.publisher.sent] == [OUT] * 2 + ["dead-letters"] * 4
    await pool.execute("UPDATE dead_letters SET state = 'retried', last_seen = '2000-01-01'")
    await loop.work(Raw(6, bad.key, bad.value))
    assert await loop.rows("SELECT state, reason FROM dead_letters WHERE last_seen > '2001-01-01'") == [
        ("open", "invalid")
    ]
    await loop.runner.close()


@pytest.mark.parametrize("poisoned", [[0], [6], [3], [0, 1, 2, 3, 4, 5, 6], [2, 5]])
async def test_batch_with_poison_is_halved_until_only_the_poison_is_left_out(
    pool: asyncpg.Pool, poisoned: list[int]
) -> None:
    loop = Loop(pool)
    await loop.open()
    await loop.work(*(raw(offset, poison=offset in poisoned) for offset in range(7)))
    good = [offset for offset in range(7) if offset not in poisoned]
    assert [number for (number,) in await loop.rows("SELECT number FROM toy ORDER BY n")] == good
    assert await loop.rows('SELECT "offset", reason, field FROM dead_letters ORDER BY "offset"') == [
        (offset, "failed", "poison") for offset in poisoned
    ]
    assert numbers([row for row in loop.publisher.sent if row.topic == OUT]) == good
    assert await loop.next_offset() == 7
    await loop.runner.close()


@dataclass
class Held:
    """A toy that notes the records of each transaction, and holds the first one until it is let go."""

    transactions: list[list[int]] = field(default_factory=list)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    def binding(self) -> Binding:
        toy = binding("unit")

        async def handle(connection: Any, messages: Sequence[Message]) -> Outcome:
            self.transactions.append([message.offset for message in messages])
            if len(self.transactions) == 1:
                await self.let_go.wait()
            return await toy.handle(connection, messages)

        return replace(toy, handle=handle)

    async def busy(self, loop: Loop) -> None:
        """The lane is at work on record 0, so that what is given now has to wait."""
        await loop.open()
        loop.give(raw(0))
        assert await until(lambda: bool(self.transactions), 5.0)


async def test_batches_that_wait_are_applied_in_one_transaction_and_each_is_completed(
    pool: asyncpg.Pool,
) -> None:
    held = Held()
    loop = Loop(pool, held.binding())
    await held.busy(loop)
    for offset in (1, 3, 5):
        loop.give(raw(offset), raw(offset + 1))
    held.let_go.set()
    assert await until(lambda: loop.feed.completed == [0, 2, 4, 6], 5.0)
    assert held.transactions == [[0], [1, 2, 3, 4, 5, 6]]
    assert numbers(loop.publisher.sent) == list(range(7))
    assert await loop.next_offset() == 7
    await loop.runner.close()


async def test_batches_that_wait_are_merged_up_to_so_many_records_and_a_large_one_goes_alone(
    pool: asyncpg.Pool,
) -> None:
    held = Held()
    loop = Loop(pool, held.binding(), limits=replace(FAST, merge_records=3))
    await held.busy(loop)
    loop.give(raw(1), raw(2))
    loop.give(raw(3))
    loop.give(raw(4))
    loop.give(*map(raw, range(5, 10)))
    loop.give(raw(10))
    held.let_go.set()
    assert await until(lambda: loop.feed.completed == [0, 2, 3, 4, 9, 10], 5.0)
    assert held.transactions == [[0], [1, 2, 3], [4], [5, 6, 7, 8, 9], [10]]
    await loop.runner.close()


async def test_a_patient_lane_takes_what_comes_soon_with_what_waits(pool: asyncpg.Pool) -> None:
    held = Held()
    held.let_go.set()
    loop = Loop(pool, replace(held.binding(), patience_s=0.5), limits=replace(FAST, merge_records=5))
    await loop.open()
    for offset in range(3):
        loop.give(raw(offset))
    assert await until(lambda: loop.feed.completed == [0, 1, 2], 5.0)
    assert held.transactions == [[0, 1, 2]]
    await loop.runner.close()


async def test_a_patient_lane_does_not_wait_when_enough_waits_nor_for_its_end(pool: asyncpg.Pool) -> None:
    held = Held()
    held.let_go.set()
    loop = Loop(pool, replace(held.binding(), patience_s=60.0), limits=replace(FAST, merge_records=5))
    await loop.open()
    loop.give(*map(raw, range(5)))
    assert await until(lambda: loop.feed.completed == [4], 5.0)
    loop.give(raw(5))
    async with asyncio.timeout(5.0):
        await loop.runner.close()
    assert held.transactions == [[0, 1, 2, 3, 4]]


async def test_one_bad_record_in_merged_batches_is_the_only_one_that_is_buried(pool: asyncpg.Pool) -> None:
    held = Held()
    loop = Loop(pool, held.binding())
    await held.busy(loop)
    loop.give(raw(1), raw(2))
    loop.give(raw(3), raw(4, poison=True), Raw(5, b"k", b"no JSON"))
    loop.give(raw(6))
    held.let_go.set()
    assert await until(lambda: loop.feed.completed == [0, 2, 5, 6], 5.0)
    assert await loop.rows("SELECT number FROM toy ORDER BY n") == [(n,) for n in (0, 1, 2, 3, 6)]
    assert await loop.rows('SELECT "offset", reason FROM dead_letters ORDER BY "offset"') == [
        (4, "failed"),
        (5, "not_json"),
    ]
    assert numbers([row for row in loop.publisher.sent if row.topic == OUT]) == [0, 1, 2, 3, 6]
    await loop.runner.close()


async def test_batch_of_an_older_run_that_waits_is_dropped_and_those_behind_it_are_applied(
    pool: asyncpg.Pool,
) -> None:
    held = Held()
    loop = Loop(pool, held.binding())
    await held.busy(loop)
    older = loop.feed.batch(IN, [raw(3, 99)])
    loop.runner.accept(older._replace(run=older.run - 1))
    loop.give(raw(1))
    loop.runner.accept(older._replace(run=older.run - 1))
    loop.give(raw(2))
    held.let_go.set()
    assert await until(lambda: loop.feed.completed == [0, 1, 2], 5.0)
    assert held.transactions == [[0], [1, 2]]
    assert await loop.rows("SELECT number FROM toy ORDER BY n") == [(0,), (1,), (2,)]
    await loop.runner.close()


async def test_offsets_that_go_back_between_batches_that_wait_are_noticed(pool: asyncpg.Pool) -> None:
    held = Held()
    loop = Loop(pool, held.binding())
    await held.busy(loop)
    loop.give(raw(1), raw(2))
    loop.give(raw(2))  # below the fence by the time that it is its turn
    held.let_go.set()
    assert await until(lambda: len(loop.feed.begun) == 2, 5.0)  # the lane looks whether it is the same log
    assert held.transactions == [[0], [1, 2]]
    assert (loop.feed.begun, loop.feed.completed) == ([0, 3], [0, 2])
    await loop.runner.close()


class StuckPublisher(MemoryPublisher):
    """Its broker takes the first rows, and then no more."""

    async def publish(self, rows: Sequence[OutboxRow]) -> list[Position]:
        if self.sent:
            self.waiting = True
            await asyncio.Event().wait()
        return await super().publish(rows)


@pytest.mark.parametrize("committed", [False, True])
async def test_revocation_in_the_middle_of_merged_batches_loses_nothing(
    pool: asyncpg.Pool, committed: bool
) -> None:
    """Revoked while the merged transaction is at work, or while its events are being published; what waits behind
    it is dropped. Neither is finished in time, and the next owner does what is missing."""
    held, stuck = Held(), asyncio.Event()
    toy = held.binding()

    async def handle(connection: Any, messages: Sequence[Message]) -> Outcome:
        outcome = await toy.handle(connection, messages)
        if len(messages) > 1 and not committed:
            stuck.set()
            await asyncio.Event().wait()
        return outcome

    publisher = StuckPublisher()
    dying = Loop(
        pool, replace(toy, handle=handle), publisher=publisher, limits=replace(FAST, close_timeout_s=0.1)
    )
    await held.busy(dying)
    dying.give(raw(1), raw(2))
    dying.give(raw(3))
    held.let_go.set()
    assert await until(lambda: publisher.waiting if committed else stuck.is_set(), 5.0)
    dying.give(raw(4))
    await dying.runner.close()
    assert dying.feed.completed == [0]
    successor = Loop(pool, publisher=MemoryPublisher(sent=publisher.sent))
    await successor.open()
    begun = 4 if committed else 1
    assert successor.feed.begun == [begun]
    await successor.work(*map(raw, range(begun, 5)))
    assert await successor.rows("SELECT number FROM toy ORDER BY n") == [(n,) for n in range(5)]
    assert numbers(publisher.sent) == list(range(5))
    await successor.runner.close()


async def test_records_that_take_too_long_together_are_applied_in_parts(pool: asyncpg.Pool) -> None:
    toy, sizes = binding("unit"), list[int]()

    async def slow(connection: Any, messages: Sequence[Message]) -> Outcome:
        sizes.append(len(messages))
        if len(messages) > 2:
            await asyncio.sleep(0.02)
            raise Transient("the database gave up on the session")
        return await toy.handle(connection, messages)

    loop = Loop(pool, binding=replace(toy, handle=slow), limits=replace(FAST, slow_s=0.01))
    await loop.open()
    await loop.work(*(raw(offset) for offset in range(6)))
    assert sizes == [6, 3, 1, 2, 3, 1, 2]
    assert numbers(loop.publisher.sent) == list(range(6))
    assert await loop.next_offset() == 6
    await loop.runner.close()


async def test_database_errors_of_one_record_are_permanent_and_repeat_no_value(pool: asyncpg.Pool) -> None:
    async def handle(connection: Any, messages: Sequence[Message]) -> Outcome:
        for message in messages:
            await connection.execute("SELECT $1::text::int", "SECRET" if message.offset == 1 else "1")
        return Outcome()

    loop = Loop(pool, binding=Binding(topic_in("unit"), "toy", handle))
    await loop.open()
    await loop.work(raw(0), raw(1), raw(2))
    [(offset, reason, expected)] = await loop.rows('SELECT "offset", reason, expected FROM dead_letters')
    assert (offset, reason) == (1, "failed")
    assert "SECRET" not in expected
    await loop.runner.close()


async def test_refused_message_is_a_dead_letter_in_the_same_transaction(pool: asyncpg.Pool) -> None:
    async def handle(connection: Any, messages: Sequence[Message]) -> Outcome:
        return Outcome(rejections=[Rejection(messages[0], "unknown_category", "category", "a category")])

    loop = Loop(pool, binding=Binding(topic_in("unit"), "toy", handle))
    await loop.open()
    await loop.work(raw(0), raw(1))
    assert await loop.rows('SELECT "offset", reason FROM dead_letters') == [(0, "unknown_category")]
    await loop.runner.close()


async def test_transient_errors_are_waited_out_and_change_nothing_twice(pool: asyncpg.Pool) -> None:
    failures = iter([Transient("away"), asyncpg.DeadlockDetectedError("deadlock"), OSError("gone")])
    out = handling(topic_out("unit"))

    async def handle(connection: Any, messages: Sequence[Message]) -> Outcome:
        outcome = await out(connection, messages)
        for failure in failures:
            raise failure
        return outcome

    loop = Loop(pool, binding=Binding(topic_in("unit"), "toy", handle), publisher=MemoryPublisher(away=3))
    await loop.open()
    await loop.work(raw(0), raw(1))
    assert await loop.rows("SELECT number FROM toy ORDER BY n") == [(0,), (1,)]
    assert numbers(loop.publisher.sent) == [0, 1]
    await loop.runner.close()


async def test_commit_whose_outcome_is_unknown_is_not_done_twice_and_its_events_are_published(
    pool: asyncpg.Pool,
) -> None:
    class Unlucky(PostgresLedger):
        failures = 1

        def transaction(self) -> Any:
            return _lost_after_commit(self) if self.failures else super().transaction()

    def _lost_after_commit(ledger: Unlucky) -> Any:
        @asynccontextmanager
        async def transaction() -> AsyncIterator[Any]:
            async with PostgresLedger.transaction(ledger) as connection:
                yield connection
            ledger.failures -= 1
            raise Transient("the connection was lost during COMMIT")

        return transaction()

    ledger = Unlucky(pool)
    ledger.failures = 0
    loop = Loop(pool, ledger=ledger)
    await loop.open()
    ledger.failures = 1
    await loop.work(raw(0), raw(1))
    assert await loop.rows("SELECT number FROM toy ORDER BY n") == [(0,), (1,)]
    assert numbers(loop.publisher.sent) == [0, 1]
    await loop.runner.close()


async def test_what_nobody_foresaw_ends_the_process_with_nothing_completed(pool: asyncpg.Pool) -> None:
    async def handle(connection: Any, messages: Sequence[Message]) -> Outcome:
        raise KeyError("bug")

    loop = Loop(pool, binding=Binding(topic_in("unit"), "toy", handle))
    await loop.open()
    loop.give(raw(0))
    assert await until(lambda: bool(loop.deaths), 5.0)
    assert (loop.feed.completed, await loop.next_offset()) == ([], 0)
    await loop.runner.close()


async def test_new_owner_publishes_what_the_last_one_left_before_it_reads(pool: asyncpg.Pool) -> None:
    shared = MemoryPublisher()
    dying = Loop(pool, publisher=MemoryPublisher(gate=asyncio.Event()), limits=Limits(close_timeout_s=0.1))
    await dying.open()
    dying.give(raw(0), raw(1))
    assert await until(lambda: dying.publisher.waiting, 5.0)  # committed, and on its way to the broker
    await dying.runner.close()  # gives up while it publishes
    successor = Loop(pool, publisher=shared)
    await successor.open()
    assert (numbers(shared.sent), successor.feed.begun) == ([0, 1], [2])
    await successor.settled()
    await successor.runner.close()


class MortalPublisher(MemoryPublisher):
    """Its broker dies once, after it has acknowledged, and is replaced by an empty one."""

    log: MemoryLog

    async def publish(self, rows: Sequence[OutboxRow]) -> list[Position]:
        positions = await super().publish(rows)
        self.log.boot = "boot-2"
        await asyncio.sleep(REPLACED_AT_LEAST_S)  # a broker is not replaced in less
        return positions


async def test_what_a_broker_acknowledged_that_is_replaced_before_it_is_noted_is_published_again(
    pool: asyncpg.Pool,
) -> None:
    log, publisher = MemoryLog(), MortalPublisher()
    publisher.log = log
    ledger = PostgresLedger(pool, log=log, keep=frozenset({OUT}))
    loop = Loop(pool, log=log, publisher=publisher, ledger=ledger)
    await loop.open()
    await loop.work(raw(0), raw(1))
    assert await until(lambda: len(publisher.sent) == 4, 5.0)  # although no other batch comes
    await loop.settled()
    assert numbers(publisher.sent) == [0, 1, 0, 1]
    assert await loop.rows("SELECT sent_incarnation, sent_offset FROM outbox ORDER BY seq") == [
        (f"boot-2/{OUT}", 2),
        (f"boot-2/{OUT}", 3),
    ]
    await loop.runner.close()


async def test_what_is_published_and_not_settled_is_published_once_more_in_order_by_the_next_owner(
    pool: asyncpg.Pool,
) -> None:
    """As after a kill: nobody settles what the first one published."""
    shared = MemoryPublisher()
    killed = Loop(pool, publisher=shared, limits=replace(FAST, settle_pause_s=60.0))
    await killed.open()
    await killed.work(raw(0), raw(1))
    await killed.work(raw(2))
    successor = Loop(pool, publisher=shared)
    await successor.open()
    assert (numbers(shared.sent), successor.feed.begun) == ([0, 1, 2, 0, 1, 2], [3])
    headers = [dict(row.headers)["ce_id"] for row in shared.sent]
    assert headers[:3] == headers[3:]
    await successor.settled()
    await killed.runner.close()  # settles late what is gone
    await successor.runner.close()


async def test_lane_that_closes_leaves_nothing_unsettled(pool: asyncpg.Pool) -> None:
    loop = Loop(pool, limits=replace(FAST, settle_pause_s=60.0))
    await loop.open()
    await loop.work(raw(0), raw(1))
    assert len(await loop.rows("SELECT 1 FROM outbox")) == 2
    await loop.runner.close()
    assert await loop.rows("SELECT 1 FROM outbox") == []


async def test_lane_that_takes_its_partition_back_does_not_publish_again_what_it_has_published(
    pool: asyncpg.Pool,
) -> None:
    loop = Loop(pool, limits=replace(FAST, settle_pause_s=60.0))
    await loop.open()
    await loop.work(raw(0), raw(1))
    loop.give(raw(1))  # offsets went back: the lane takes the partition over once more
    assert await until(lambda: len(loop.feed.begun) == 2, 5.0)
    assert numbers(loop.publisher.sent) == [0, 1]
    await loop.runner.close()


async def test_new_incarnation_and_a_log_that_ends_early_start_a_new_fence(pool: asyncpg.Pool) -> None:
    loop = Loop(pool)
    await loop.open()
    await loop.work(raw(0), raw(1))
    await loop.runner.close()
    loop.log.boot = "boot-2"
    await loop.open()
    assert loop.feed.begun == [0, 0]
    await loop.work(raw(0, 10), raw(3, 11))
    await loop.runner.close()
    loop.log.ends[IN, 0] = 2
    await loop.open()
    assert loop.feed.begun == [0, 0, 0]
    assert numbers(loop.publisher.sent) == [0, 1, 10, 11]
    await loop.runner.close()


async def test_fenced_worker_that_still_owns_the_partition_takes_it_back(pool: asyncpg.Pool) -> None:
    loop = Loop(pool)
    await loop.open()
    await PostgresLedger(pool).claim(FenceKey("unit", IN, 0), f"boot-1/{IN}")  # a zombie claims late
    loop.give(raw(0))
    assert await until(lambda: len(loop.feed.begun) == 2, 5.0)
    await loop.work(raw(0))
    assert await loop.rows("SELECT number FROM toy") == [(0,)]
    await loop.runner.close()


def _without_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def advance(self: PostgresLedger, connection: Any, claim: Claim, next_offset: int) -> int:
        stood = int(await connection.fetchval("SELECT next_offset FROM fences FOR UPDATE"))
        await connection.execute("UPDATE fences SET next_offset = greatest(next_offset, $1)", next_offset)
        return stood

    monkeypatch.setattr(PostgresLedger, "advance", advance)


def _as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch


@pytest.mark.parametrize(
    ("ledger", "wrong"), [(_as_it_is, []), (_without_epochs, ["1 published out of order"])]
)
async def test_zombie_cannot_publish_after_its_successor_and_without_epochs_it_would(
    pool: asyncpg.Pool,
    monkeypatch: pytest.MonkeyPatch,
    ledger: Callable[[pytest.MonkeyPatch], None],
    wrong: list[str],
) -> None:
    """The zombie wakes between its successor's claim and the successor's first transaction."""
    ledger(monkeypatch)
    awake = asyncio.Event()
    out = handling(topic_out("unit"))

    async def frozen(connection: Any, messages: Sequence[Message]) -> Outcome:
        return await out(connection, messages)

    class Frozen(PostgresLedger):
        async def advance(self, connection: Any, claim: Claim, next_offset: int) -> int:
            await awake.wait()
            return await super().advance(connection, claim, next_offset)

    broker = MemoryPublisher()
    slow = MemoryPublisher(sent=broker.sent, gate=asyncio.Event())
    zombie = Loop(pool, Binding(topic_in("unit"), "toy", frozen), publisher=slow, ledger=Frozen(pool))
    zombie.limits = Limits(reclaim_after_s=60.0)
    zombie.__post_init__()
    await zombie.open()
    zombie.give(raw(0))
    successor = Loop(pool, publisher=broker)
    await successor.open()
    awake.set()
    await asyncio.sleep(0.3)  # the zombie's transaction, whatever becomes of it
    await successor.work(raw(0), raw(1))
    assert slow.gate is not None
    slow.gate.set()
    await asyncio.sleep(0.2)
    await zombie.runner.close()
    await successor.runner.close()
    log = [Seen(0, n, "k", n) for n in (0, 1)]
    published = [Seen(0, place, "k", number) for place, number in enumerate(numbers(broker.sent))]
    applied = [
        Seen(*row)
        for row in await successor.rows('SELECT partition, "offset", key, number FROM toy ORDER BY n')
    ]
    assert [sentence.partition(",")[0] for sentence in check(log, applied, published, [])] == wrong


async def test_permanent_error_without_a_culprit_still_ends_in_one_dead_letter(pool: asyncpg.Pool) -> None:
    async def handle(connection: Any, messages: Sequence[Message]) -> Outcome:
        raise Permanent("never")

    loop = Loop(pool, binding=Binding(topic_in("unit"), "toy", handle))
    await loop.open()
    await loop.work(raw(0))
    assert await loop.rows("SELECT reason, expected FROM dead_letters") == [("failed", "never")]
    await loop.runner.close()
