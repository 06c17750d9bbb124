"""Fences, the outbox, migrations and the meaning of errors, on a real PostgreSQL."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from connectors.delivery import FenceKey, Incarnations, OutboxRow, Position
from connectors.errors import Fenced, Permanent, Transient
from connectors.postgres import outbox
from connectors.postgres import pool as pool_module
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.migrate import MigrationError, migrate
from connectors.postgres.pool import classified, create_pool
from schemas.envelope import Event
from tests.delivery.doubles import MemoryLog

KEY = FenceKey("group", "t", 3)


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    made = await create_pool(dsn, max_size=4, idle_in_transaction_timeout_s=1.0, lock_timeout_s=3.0)
    yield made
    await made.close()


def event(number: int, topic: str = "t", value: bytes = b"{}") -> Event:
    return Event(topic, f"key-{number}", value, "type.v1", f"subject-{number}", number)


async def add(ledger: PostgresLedger, source: str, *events: Event) -> list[OutboxRow]:
    async with ledger.transaction() as connection:
        return await ledger.add(connection, source, events)


async def test_claim_raises_the_epoch_and_fences_the_older_one(pool: asyncpg.Pool) -> None:
    ledger = PostgresLedger(pool)
    old = await ledger.claim(KEY, "boot")
    async with ledger.transaction() as connection:
        assert await ledger.advance(connection, old, 7) == 0
    new = await ledger.claim(KEY, "boot")
    assert (old.epoch, new.epoch, new.next_offset) == (1, 2, 7)
    with pytest.raises(Fenced):
        async with ledger.transaction() as connection:
            await ledger.advance(connection, old, 9)
    other = await ledger.claim(KEY, "another boot")
    assert (other.epoch, other.next_offset) == (3, 0)
    with pytest.raises(Fenced):
        await ledger.restart(new)


async def test_fence_goes_only_forward_and_two_transactions_of_one_owner_follow_one_another(
    pool: asyncpg.Pool,
) -> None:
    ledger = PostgresLedger(pool)
    claim = await ledger.claim(KEY, "boot")

    async def advance(next_offset: int) -> int:
        async with ledger.transaction() as connection:
            return await ledger.advance(connection, claim, next_offset)

    async with ledger.transaction() as connection:
        assert await ledger.advance(connection, claim, 7) == 0
        behind = asyncio.create_task(advance(9))
        assert await eventually(pool, "SELECT count(*) FROM pg_locks WHERE NOT granted", 1)
    assert await asyncio.wait_for(behind, 5.0) == 7
    assert await advance(8) == 9
    assert await advance(10) == 9  # 8 has not put it back


async def eventually(pool: asyncpg.Pool, sql: str, value: object) -> bool:
    for _ in range(250):
        if await pool.fetchval(sql) == value:
            return True
        await asyncio.sleep(0.02)
    return False


async def test_frozen_transaction_does_not_keep_the_fence_locked(pool: asyncpg.Pool) -> None:
    ledger = PostgresLedger(pool)
    zombie = await ledger.claim(KEY, "boot")
    frozen = await pool.acquire()
    await frozen.execute("BEGIN")
    await ledger.advance(frozen, zombie, 1)
    successor = await asyncio.wait_for(ledger.claim(KEY, "boot"), 5.0)
    assert successor.epoch == 2
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)) as ended:
        await frozen.execute("COMMIT")
    assert isinstance(classified(ended.value), Transient)
    await pool.release(frozen)


async def test_outbox_keeps_the_order_of_each_source(pool: asyncpg.Pool) -> None:
    ledger = PostgresLedger(pool)
    first = await add(ledger, "a", *(event(n) for n in range(50)))
    await add(ledger, "b", event(100))
    second = await add(ledger, "a", event(50))
    assert await ledger.unsent("a") == first + second
    assert [row.seq for row in first + second] == sorted(row.seq for row in first + second)
    assert await ledger.settle(first, [Position(0, n) for n in range(50)], Incarnations())
    assert await ledger.unsent("a") == second


async def test_rolled_back_transaction_leaves_nothing_in_the_outbox(pool: asyncpg.Pool) -> None:
    ledger = PostgresLedger(pool)
    with pytest.raises(Permanent):
        await add(ledger, "a", event(1), event(2, value=b"x" * (outbox.MAX_EVENT_BYTES + 1)))
    assert await ledger.unsent("a") == []


async def test_memory_brokers_rows_stay_until_the_reader_has_passed_them(pool: asyncpg.Pool) -> None:
    ledger = PostgresLedger(pool, log=MemoryLog(), keep=frozenset({"t"}))
    rows = await add(ledger, "a", event(1), event(2), event(3), event(4, topic="outward"))
    # the broker did not say where it put the third: it stays unsent
    before = await ledger.incarnations(rows)
    assert before == {"t": "boot-1/t"}
    assert await ledger.settle(
        rows, [Position(3, 10), Position(3, 11), Position(3, -1), Position(0, 0)], before
    )
    assert await ledger.unsent("a") == [rows[2]]
    claim = await ledger.claim(KEY, await MemoryLog().incarnation("t"))
    assert await ledger.sweep("group") == 0
    async with ledger.transaction() as connection:
        await ledger.advance(connection, claim, 11)
    assert await ledger.sweep("group") == 1
    for boot, unsent in (("boot-1", rows[2:3]), ("boot-2", rows[1:3])):
        async with ledger.connection() as connection:
            await outbox.forget_other_boots(connection, boot, "")
        assert await ledger.unsent("a") == unsent


async def test_only_the_sources_asked_for_forget_what_a_broker_that_is_no_more_acknowledged(
    pool: asyncpg.Pool,
) -> None:
    ledger = PostgresLedger(pool, log=MemoryLog(), keep=frozenset({"t"}))
    rows = await add(ledger, "a", event(1)) + await add(ledger, "b", event(2))
    await ledger.settle(rows, [Position(3, 0), Position(3, 1)], await ledger.incarnations(rows))
    async with ledger.connection() as connection:
        await outbox.forget_other_boots(connection, "boot-2", "b")
    assert (await ledger.unsent("a"), await ledger.unsent("b")) == ([], rows[1:])


async def test_rows_that_a_broker_has_which_was_replaced_before_it_was_noted_stay_unsent(
    pool: asyncpg.Pool,
) -> None:
    log = MemoryLog()
    ledger = PostgresLedger(pool, log=log, keep=frozenset({"t"}))
    rows = await add(ledger, "a", event(1))
    before = await ledger.incarnations(rows)
    log.boot = "boot-2"
    before.asked_s -= outbox.REPLACED_AT_LEAST_S  # a broker is not replaced in less
    assert not await ledger.settle(rows, [Position(3, 500)], before)
    assert await ledger.unsent("a") == rows
    assert await ledger.settle(rows, [Position(3, 0)], await ledger.incarnations(rows))
    assert await pool.fetchval("SELECT sent_incarnation FROM outbox") == "boot-2/t"


async def test_rows_sent_to_another_incarnation_are_not_swept(pool: asyncpg.Pool) -> None:
    ledger = PostgresLedger(pool, log=MemoryLog("dead broker"), keep=frozenset({"t"}))
    rows = await add(ledger, "a", event(1))
    await ledger.settle(rows, [Position(3, 0)], await ledger.incarnations(rows))
    claim = await ledger.claim(KEY, await MemoryLog().incarnation("t"))
    async with ledger.transaction() as connection:
        await ledger.advance(connection, claim, 100)
    assert await ledger.sweep("group") == 0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (asyncpg.DeadlockDetectedError("x"), Transient),
        (asyncpg.SerializationError("x"), Transient),
        (asyncpg.CannotConnectNowError("x"), Transient),
        (asyncpg.TooManyConnectionsError("x"), Transient),
        (asyncpg.ConnectionDoesNotExistError("x"), Transient),
        (asyncpg.InterfaceError("connection is closed"), Transient),
        (ConnectionRefusedError(), Transient),
        (TimeoutError(), Transient),
        (asyncpg.UniqueViolationError("x"), Permanent),
        (asyncpg.NumericValueOutOfRangeError("x"), Permanent),
        (asyncpg.UndefinedTableError("x"), asyncpg.UndefinedTableError),
        (KeyError("x"), KeyError),
    ],
)
def test_errors_have_a_meaning(error: Exception, kind: type[Exception]) -> None:
    assert type(classified(error)) is kind


async def test_unreachable_database_is_transient() -> None:
    with pytest.raises(Transient):
        await create_pool("postgresql://nobody@127.0.0.1:1/none", connect_timeout_s=1.0)


async def test_connection_knows_every_array_type_of_our_statements_before_its_first_transaction(
    pool: asyncpg.Pool,
) -> None:
    """Else asyncpg would look them up one by one, with transactions open."""
    sources = "".join(path.read_text() for path in Path(outbox.__file__).parent.glob("*.py"))
    ours = set(re.findall(r"::([a-z0-9]+)\[\]", sources))
    known = set(re.findall(r"::([a-z0-9]+)\[\]", pool_module._TYPES)) | {"text"}  # asyncpg knows that one
    assert ours <= known
    async with pool.acquire() as connection:
        queries: list[str] = []
        connection.add_query_logger(lambda record: queries.append(record.query))
        for name in sorted(ours):
            await connection.fetchval(f"SELECT $1::{name}[]", [])
    assert [query for query in queries if "typeinfo" in query] == []
    assert len(queries) == len(ours)


# -- migrations


def write(folder: Path, name: str, sql: str) -> Path:
    path = folder / name
    path.write_text(sql)
    return path


async def count(dsn: str, table: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(f"SELECT count(*) FROM {table}")
    finally:
        await connection.close()


async def test_migrations_are_applied_once_also_by_workers_that_start_together(
    bare_dsn: str, tmp_path: Path
) -> None:
    write(tmp_path, "0001_one.sql", "CREATE TABLE one (n int); INSERT INTO one VALUES (1);")
    write(tmp_path, "0002_two.sql", "INSERT INTO one VALUES (2);")
    applied = await asyncio.gather(*(migrate(bare_dsn, tmp_path) for _ in range(5)))
    assert sorted(map(len, applied)) == [0, 0, 0, 0, 2]
    assert await count(bare_dsn, "one") == 2
    write(tmp_path, "0003_three.sql", "INSERT INTO one VALUES (3);")
    assert await migrate(bare_dsn, tmp_path) == ["0003_three.sql"]


async def test_changed_migration_stops_with_a_sentence(bare_dsn: str, tmp_path: Path) -> None:
    path = write(tmp_path, "0001_one.sql", "CREATE TABLE one (n int);")
    await migrate(bare_dsn, tmp_path)
    path.write_text("CREATE TABLE one (n bigint);")
    with pytest.raises(MigrationError, match=r"0001_one\.sql was changed after"):
        await migrate(bare_dsn, tmp_path)


async def test_failing_migration_leaves_nothing_behind(bare_dsn: str, tmp_path: Path) -> None:
    path = write(tmp_path, "0001_one.sql", "CREATE TABLE one (n int); SELECT nonsense;")
    with pytest.raises(asyncpg.UndefinedColumnError):
        await migrate(bare_dsn, tmp_path)
    path.write_text("CREATE TABLE one (n int);")
    assert await migrate(bare_dsn, tmp_path) == ["0001_one.sql"]


@pytest.mark.parametrize("names", [["0001_a.sql", "0001_b.sql"], ["1_a.sql"], ["0001-A.sql"]])
async def test_badly_named_migrations_are_refused(names: list[str], tmp_path: Path) -> None:
    for name in names:
        write(tmp_path, name, "SELECT 1")
    with pytest.raises(MigrationError):
        await migrate("postgresql://unused", tmp_path)
