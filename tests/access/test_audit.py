"""The audit trail: one chain whoever writes, and every way of tampering with it shows."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, timedelta

import asyncpg
import pytest

from connectors.postgres import audit
from connectors.postgres.audit import AuditRow, Entry, Head, verify, write
from connectors.postgres.pool import Connection, Pool

Tampering = Callable[[Connection], Awaitable[object]]

ROWS = 6
NO_TRIGGERS = "SET session_replication_role = replica"  # what whoever owns the database can do
TRIGGERS = "SET session_replication_role = origin"


def entry(number: int) -> Entry:
    return Entry(
        f"key:{number:012x}", "orders.update", f"WO-{number}", "done", {"verb": "resolve", "n": number}
    )


async def fill(connection: Connection, rows: int = ROWS) -> Head:
    async with connection.transaction():
        return await write(connection, [entry(number) for number in range(1, rows + 1)])


async def tamper(connection: Connection, *statements: str) -> None:
    for statement in (NO_TRIGGERS, *statements, TRIGGERS):
        await connection.execute(statement)


async def test_a_row_is_kept_as_it_was_told_and_its_hash_is_of_the_hash_before_and_its_content(
    connection: Connection,
) -> None:
    first = Entry(
        "oidc:anna", "orders.update", 'Wörk "1" \\ 工', "refused", {"why": "ü\x00\ud800", "at": [1, None]}
    )
    async with connection.transaction():
        await write(connection, [first])
        head = await write(connection, [entry(2)])
    newest, oldest = await audit.rows(connection, actor=None, subject=None, since=None, limit=10)
    assert (oldest.actor, oldest.action, oldest.subject, oldest.outcome) == first[:4]
    assert json.loads(oldest.details) == first.details
    assert (oldest.seq, oldest.prev, newest.prev, newest.hash) == (1, bytes(32), oldest.hash, head.hash)
    content = {
        "seq": 1, "at": oldest.at.astimezone(UTC).isoformat(timespec="microseconds"), "action": oldest.action,
        "actor": oldest.actor, "details": oldest.details, "outcome": "refused", "subject": oldest.subject,
    }  # fmt: skip
    hashed = bytes(32) + json.dumps(content, separators=(",", ":")).encode()
    assert oldest.hash == hashlib.sha256(hashed).digest()
    assert await verify(connection, head) == (head, None)


async def test_what_strangers_send_is_bounded_and_fits(connection: Connection) -> None:
    async with connection.transaction():
        await write(
            connection, [Entry("x" * 5000, "a\x00\x1b[31m", "\ud800" * 400, "refused", {"n": "y" * 20_000})]
        )
    (row,) = await audit.rows(connection, actor=None, subject=None, since=None, limit=10)
    assert (len(row.actor), row.action, len(row.subject)) == (300, "a\\x00\\x1b[31m", 300)
    assert json.loads(row.details) == {"left_out": "20008 characters"}
    assert (await verify(connection)).broken is None


async def test_outside_of_a_transaction_nothing_is_written(connection: Connection) -> None:
    with pytest.raises(ValueError, match="in the transaction"):
        await write(connection, [entry(1)])
    assert await audit.head_of(connection) == Head(0, bytes(32))


async def test_what_is_rolled_back_is_not_in_the_trail_and_leaves_no_gap(connection: Connection) -> None:
    await fill(connection)
    transaction = connection.transaction()
    await transaction.start()
    await write(connection, [entry(7)])
    await transaction.rollback()
    async with connection.transaction():
        head = await write(connection, [entry(7)])
    assert head.seq == ROWS + 1
    assert await verify(connection) == (head, None)


async def test_writers_at_the_same_time_make_one_chain(connection: Connection, pool: Pool) -> None:
    async def many(writer: int) -> None:
        for number in range(25):
            async with pool.acquire() as own, own.transaction():
                await write(own, [entry(1000 * writer + number), entry(1000 * writer + 500 + number)])

    await asyncio.gather(*(many(writer) for writer in range(8)))
    verdict = await verify(connection)
    assert (verdict.head.seq, verdict.broken) == (8 * 25 * 2, None)
    found = await audit.rows(connection, actor=None, subject=None, since=None, limit=1000)
    assert len({row.subject for row in found}) == 8 * 25 * 2
    assert [row.at for row in found] == sorted((row.at for row in found), reverse=True)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'nobody' WHERE seq = 2",
        "UPDATE audit SET actor = actor",
        "DELETE FROM audit WHERE seq = 2",
        "TRUNCATE audit",
        "DELETE FROM audit_head",
        "TRUNCATE audit_head",
        "UPDATE audit_head SET seq = 0",
        "UPDATE audit_head SET hash = decode(repeat('00', 32), 'hex')",
    ],
)
async def test_the_database_refuses_to_change_the_trail(connection: Connection, statement: str) -> None:
    head = await fill(connection)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only ever added to"):
        await connection.execute(statement)
    assert await verify(connection, head) == (head, None)


SWAP = """UPDATE audit a SET (at, actor, action, subject, outcome, details) =
(SELECT at, actor, action, subject, outcome, details FROM audit b WHERE b.seq = 7 - a.seq) WHERE a.seq IN (3, 4)"""
SWAP_WHOLE = """UPDATE audit a SET (at, actor, action, subject, outcome, details, prev, hash) =
(SELECT at, actor, action, subject, outcome, details, prev, hash FROM audit b WHERE b.seq = 7 - a.seq)
WHERE a.seq IN (3, 4)"""
ADD_AT_END = """INSERT INTO audit SELECT 7, at, 'key:liar', action, subject, outcome, details, hash, hash
FROM audit WHERE seq = 6"""
INSERT_BETWEEN = """INSERT INTO audit SELECT 3, at, 'key:liar', action, subject, outcome, details, prev, hash
FROM audit WHERE seq = 4"""
INSERT_BEFORE = """INSERT INTO audit SELECT 0, at, actor, action, subject, outcome, details, prev, hash
FROM audit WHERE seq = 1"""


@pytest.mark.parametrize(
    ("statements", "sentence"),
    [
        (["UPDATE audit SET actor = 'nobody' WHERE seq = 3"], "Row 3 was changed"),
        (["UPDATE audit SET at = at + interval '1 microsecond' WHERE seq = 3"], "Row 3 was changed"),
        (["UPDATE audit SET action = 'x' WHERE seq = 3"], "Row 3 was changed"),
        (["UPDATE audit SET subject = 'x' WHERE seq = 3"], "Row 3 was changed"),
        (["UPDATE audit SET outcome = 'refused' WHERE seq = 3"], "Row 3 was changed"),
        (["UPDATE audit SET details = details || ' ' WHERE seq = 3"], "Row 3 was changed"),
        (["UPDATE audit SET hash = prev WHERE seq = 3"], "Row 3 was changed"),
        (["UPDATE audit SET prev = hash WHERE seq = 3"], "Row 3 does not follow"),
        (["UPDATE audit SET actor = 'nobody' WHERE seq IN (2, 5)"], "Row 2 was changed"),
        (["DELETE FROM audit WHERE seq = 1"], "Row 1 is missing"),
        (["DELETE FROM audit WHERE seq = 3"], "Row 3 is missing"),
        (["DELETE FROM audit WHERE seq = 3", "UPDATE audit SET seq = seq - 1 WHERE seq > 3"],
         "Row 3 does not follow"),
        (["UPDATE audit SET seq = seq + 10 WHERE seq > 2", "UPDATE audit SET seq = seq - 9 WHERE seq > 10",
          INSERT_BETWEEN], "Row 3 was changed"),
        ([ADD_AT_END], "Row 7 was changed"),
        ([INSERT_BEFORE], "Row 1 is missing"),
        ([SWAP], "Row 3 was changed"),
        ([SWAP_WHOLE], "Row 3 does not follow"),
        (["DELETE FROM audit WHERE seq > 4"], "the last row is 4, and 6 were written"),
        (["DELETE FROM audit"], "the last row is 0, and 6 were written"),
    ],
)  # fmt: skip
async def test_tampering_shows_at_the_first_row_that_does_not_fit(
    connection: Connection, statements: list[str], sentence: str
) -> None:
    await fill(connection)
    await tamper(connection, *statements)
    broken = (await verify(connection)).broken
    assert broken is not None
    assert sentence in broken


async def test_a_row_put_in_with_a_right_hash_of_its_own_shows_at_the_one_after_it(
    connection: Connection,
) -> None:
    await fill(connection)
    third = (await audit.rows(connection, actor=None, subject="WO-3", since=None, limit=1))[0]
    forged = third._replace(actor="key:liar")
    await tamper(
        connection,
        "UPDATE audit SET seq = seq + 10 WHERE seq > 2",
        "UPDATE audit SET seq = seq - 9 WHERE seq > 10",
    )
    await connection.execute(
        "INSERT INTO audit VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        *forged._replace(hash=forged.digest()),
    )
    assert await verify(connection) == (
        Head(3, forged.digest()),
        "Row 4 does not follow the row before it: one of the two was put there or replaced.",
    )


async def remake(connection: Connection, from_seq: int) -> None:
    """What the owner of the database can do: change a row, and all hashes after it."""
    kept = await audit.rows(connection, actor=None, subject=None, since=None, limit=100)
    await tamper(connection, f"DELETE FROM audit WHERE seq >= {from_seq}")
    head = Head(*await connection.fetchrow("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1"))
    await tamper(connection, f"UPDATE audit_head SET seq = {head.seq}, hash = '\\x{head.hash.hex()}'")
    async with connection.transaction():
        await write(
            connection,
            [Entry("key:liar", row.action, row.subject) for row in reversed(kept) if row.seq >= from_seq],
        )


async def test_a_cut_end_whose_head_was_forged_shows_against_a_head_that_was_written_down(
    connection: Connection,
) -> None:
    written_down = await fill(connection)
    row: AuditRow = (await audit.rows(connection, actor=None, subject="WO-4", since=None, limit=1))[0]
    await tamper(
        connection,
        "DELETE FROM audit WHERE seq > 4",
        f"UPDATE audit_head SET seq = 4, hash = '\\x{row.hash.hex()}'",
    )
    assert (await verify(connection)).broken is None
    broken = (await verify(connection, written_down)).broken
    assert broken == "The end is missing: the last row is 4, and 6 was expected."


async def test_a_chain_that_was_made_anew_shows_against_a_head_that_was_written_down(
    connection: Connection,
) -> None:
    early = await fill(connection, 3)
    async with connection.transaction():
        late = await write(connection, [entry(number) for number in (4, 5, 6)])
    await remake(connection, 4)
    assert (await verify(connection)).broken is None
    assert (await verify(connection, early)).broken is None
    broken = (await verify(connection, late)).broken
    assert broken is not None
    assert broken.startswith("Row 6 is not the one that was expected")


async def test_an_empty_trail_is_whole(connection: Connection) -> None:
    nothing = Head(0, bytes(32))
    assert await verify(connection, nothing) == (nothing, None)
    assert (await verify(connection, Head(0, b"\x01" * 32))).broken is not None


async def test_it_is_listed_by_who_what_and_when(connection: Connection) -> None:
    await fill(connection)
    all_of_it = await audit.rows(connection, actor=None, subject=None, since=None, limit=100)
    assert [row.seq for row in all_of_it] == [6, 5, 4, 3, 2, 1]
    assert [row.seq for row in await audit.rows(
        connection, actor=entry(2).actor, subject=None, since=None, limit=100)] == [2]  # fmt: skip
    assert [row.seq for row in await audit.rows(
        connection, actor=None, subject="WO-5", since=all_of_it[0].at, limit=100)] == [5]  # fmt: skip
    later = all_of_it[0].at + timedelta(microseconds=1)
    assert await audit.rows(connection, actor=None, subject=None, since=later, limit=100) == []


async def test_a_long_chain_is_read_in_pages(connection: Connection) -> None:
    rows = 2 * audit.PAGE_ROWS + 1
    head = await fill(connection, rows)
    assert await verify(connection) == (head, None)
    await tamper(connection, f"UPDATE audit SET actor = 'nobody' WHERE seq = {rows - 1}")
    assert (await verify(connection)).head.seq == rows - 2
