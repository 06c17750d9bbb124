"""Updates whose order nobody knows: sent on when it is there, given up after a time, through a death in between."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from agents.app import repeating, revisit
from connectors.errors import Permanent, Transient
from connectors.ports import ParkedUpdate
from connectors.postgres import audit, parked
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.pool import create_pool
from schemas.policy import Policy
from schemas.topics import DEAD_LETTERS, UPDATE_COMMAND_TYPE, WORK_ORDER_COMMANDS
from schemas.work_order_update import UpdateCommand, WorkOrderUpdate
from tests.delivery.doubles import MemoryPublisher
from tests.pipeline.stream import Stream
from tests.pipeline.test_departments import shooting

DAY = timedelta(days=1)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    made = await create_pool(database_url, max_size=3)
    yield made
    await made.close()


async def known_reference(connection: Any, policy: Policy, areas: Any) -> str:
    await Stream(connection, policy, areas).feed([shooting("ZZ1")])
    found: str = await connection.fetchval("SELECT reference FROM work_orders ORDER BY reference LIMIT 1")
    return found


def update(reference: str) -> WorkOrderUpdate:
    return WorkOrderUpdate(update_id="early", reference=reference, verb="acknowledge")


async def test_it_is_sent_on_when_its_order_is_there_and_published_by_whoever_comes_next(
    pool: asyncpg.Pool, connection: Any, policy: Policy, areas: Any
) -> None:
    reference = await known_reference(connection, policy, areas)
    at = datetime.now(UTC)
    await parked.park(connection, [ParkedUpdate("cdot", update(reference), at)] * 1)
    ledger, dead = PostgresLedger(pool), MemoryPublisher(away=1)
    with pytest.raises(Transient):  # committed, and gone before it was published
        await revisit(ledger, dead, DAY)
    assert await connection.fetchval("SELECT count(*) FROM parked_updates") == 0
    alive = MemoryPublisher()
    await revisit(ledger, alive, DAY)
    (row,) = alive.sent
    assert (row.topic, dict(row.headers)["ce_type"].decode()) == (
        WORK_ORDER_COMMANDS.name,
        UPDATE_COMMAND_TYPE,
    )
    command = UpdateCommand.model_validate_json(row.value)
    assert (command.department, command.update, command.received_at) == ("cdot", update(reference), at)
    await revisit(ledger, alive, DAY)
    assert len(alive.sent) == 1


async def test_it_is_given_up_as_a_dead_letter(pool: asyncpg.Pool, connection: Any) -> None:
    old = ParkedUpdate("cdot", update("WO-00000-00000"), datetime.now(UTC) - 2 * DAY)
    young = old._replace(department="dss", received_at=datetime.now(UTC))
    await parked.park(connection, [old, young])
    publisher = MemoryPublisher()
    await revisit(PostgresLedger(pool), publisher, DAY)
    assert [row.topic for row in publisher.sent] == [DEAD_LETTERS.name]
    letter = await connection.fetchrow("SELECT topic, reason, field FROM dead_letters")
    assert tuple(letter) == ("work-order-updates.cdot", "unknown_order", "reference")
    (tried,) = await audit.rows(connection, actor="department:cdot", subject=None, since=None, limit=9)
    assert (tried.subject, tried.outcome) == ("WO-00000-00000", "refused")
    assert await connection.fetchval("SELECT department FROM parked_updates") == "dss"


async def test_updates_that_came_together_go_on_in_their_order(
    pool: asyncpg.Pool, connection: Any, policy: Policy, areas: Any
) -> None:
    reference, at = await known_reference(connection, policy, areas), datetime.now(UTC)
    names = [f"u{number}" for number in (7, 3, 9, 1, 8, 2)]
    updates = [update(reference).model_copy(update={"update_id": name}) for name in names]
    await parked.park(connection, [ParkedUpdate("cdot", one, at) for one in updates])
    publisher = MemoryPublisher()
    await revisit(PostgresLedger(pool), publisher, DAY)
    sent = [UpdateCommand.model_validate_json(row.value).update.update_id for row in publisher.sent]
    assert sent == names


async def test_two_updates_under_one_id_are_both_kept(pool: asyncpg.Pool, connection: Any) -> None:
    one, old = update("WO-00000-00000"), datetime.now(UTC) - 2 * DAY
    other = one.model_copy(update={"reference": "WO-00000-00001"})
    await parked.park(connection, [ParkedUpdate("cdot", said, old) for said in (one, other, one)])
    publisher = MemoryPublisher()
    await revisit(PostgresLedger(pool), publisher, DAY)
    keys = await connection.fetch("SELECT key FROM dead_letters ORDER BY key")
    assert [row["key"].decode() for row in keys] == [one.reference, other.reference]


async def test_looking_again_goes_on_after_a_refusal_and_after_what_nobody_foresaw() -> None:
    seen, enough = [Permanent("refused"), RuntimeError("unforeseen"), Transient("away")], asyncio.Event()

    async def look() -> None:
        if seen:
            raise seen.pop()
        enough.set()

    async with repeating(look, 0.001):
        await asyncio.wait_for(enough.wait(), 5.0)
