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
FAST = Limits(retry_first_s=0.01, retry_most_s=0.02, reclaim_after_s=0.05, close_timeout_s=2.0)


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
    assert await loop.rows("SELECT * FROM outbox") == []
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
    assert await successor.rows("SELECT 1 FROM outbox") == []
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
    assert numbers(publisher.sent) == [0, 1, 0, 1]
    assert await loop.rows("SELECT sent_incarnation, sent_offset FROM outbox ORDER BY seq") == [
        (f"boot-2/{OUT}", 2),
        (f"boot-2/{OUT}", 3),
    ]
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
    async def take(self: PostgresLedger, connection: Any, claim: Claim) -> int:
        return int(await connection.fetchval("SELECT next_offset FROM fences FOR UPDATE"))

    monkeypatch.setattr(PostgresLedger, "take", take)


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
        async def take(self, connection: Any, claim: Claim) -> int:
            await awake.wait()
            return await super().take(connection, claim)

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
