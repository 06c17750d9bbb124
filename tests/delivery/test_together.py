"""Writes that nobody waits for: in one statement, before whoever reads, and before the commit."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from connectors.errors import Permanent
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.pool import create_pool
from connectors.postgres.together import later
from schemas.envelope import Event

TABLES = "CREATE TABLE one (n int PRIMARY KEY); CREATE TABLE two (seq serial, n int, word text)"
ONE = "INSERT INTO one (n) SELECT * FROM unnest($1::int[])"
TWO = "INSERT INTO two (n, word) SELECT * FROM unnest($1::int[], $2::text[])"


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    made = await create_pool(dsn, min_size=1, max_size=1)  # so that the one that counts is the one that works
    await made.execute(TABLES)
    yield made
    await made.close()


async def counted(connection: Any, statements: list[str]) -> None:
    connection.add_query_logger(lambda record: statements.append(record.query))


async def test_what_waits_goes_with_the_outbox_in_one_statement(pool: asyncpg.Pool) -> None:
    ledger = PostgresLedger(pool)
    statements: list[str] = []
    async with ledger.transaction() as connection:
        await counted(connection, statements)
        await later(connection, ONE, [1, 2])
        await later(connection, TWO, [3], ["three"])
        rows = await ledger.add(connection, "s", [Event("t", "k", b"{}", "type.v1", "subject", 1)])
    assert [row.seq for row in rows] == [row["seq"] for row in await pool.fetch("SELECT seq FROM outbox")]
    assert [row["n"] for row in await pool.fetch("SELECT n FROM one ORDER BY n")] == [1, 2]
    assert [tuple(row) for row in await pool.fetch("SELECT n, word FROM two")] == [(3, "three")]
    assert sum("INSERT" in one for one in statements) == 1


async def test_what_waits_is_written_at_the_end_and_before_whoever_reads(pool: asyncpg.Pool) -> None:
    ledger = PostgresLedger(pool)
    async with ledger.transaction() as connection:
        await later(connection, ONE, [1])
        assert await connection.fetchval("SELECT count(*) FROM one") == 1
        await later(connection, ONE, [2])
        assert await connection.fetchrow("SELECT max(n) FROM one") == (2,)
        await later(connection, ONE, [3])
        await connection.execute("UPDATE one SET n = n + 10 WHERE n = 3")
        await later(connection, ONE, [4])
        await later(connection, TWO, [5], ["five"])
    assert [row["n"] for row in await pool.fetch("SELECT n FROM one ORDER BY n")] == [1, 2, 4, 13]
    assert await pool.fetchval("SELECT count(*) FROM two") == 1


async def test_the_same_write_twice_keeps_its_order(pool: asyncpg.Pool) -> None:
    async with PostgresLedger(pool).transaction() as connection:
        for number in range(5):
            await later(connection, TWO, [number], [str(number)])
    assert [row["n"] for row in await pool.fetch("SELECT n FROM two ORDER BY seq")] == [0, 1, 2, 3, 4]


async def write(ledger: PostgresLedger, *writes: tuple[Any, ...], then: Exception | None = None) -> None:
    async with ledger.transaction() as connection:
        for sql, *arguments in writes:
            await later(connection, sql, *arguments)
        if then:
            raise then


async def test_nothing_is_written_of_a_transaction_that_fails(pool: asyncpg.Pool) -> None:
    ledger = PostgresLedger(pool)
    with pytest.raises(RuntimeError):
        await write(ledger, (ONE, [1]), then=RuntimeError())
    with pytest.raises(Permanent):  # what is refused at the end is the transaction's error all the same
        await write(ledger, (TWO, [1], ["1"]), (ONE, [1, 1]))
    counts = "SELECT (SELECT count(*) FROM one) + (SELECT count(*) FROM two)"
    assert await pool.fetchval(counts) == 0


async def test_on_another_connection_it_is_written_at_once(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        await later(connection, ONE, [7])
    assert await pool.fetchval("SELECT n FROM one") == 7
