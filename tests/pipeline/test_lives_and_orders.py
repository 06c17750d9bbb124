"""Lives of responses beside what happens at the same time, and in another order."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any, Literal

import asyncpg
import pytest

from connectors.geography.areas import Areas
from connectors.postgres.orders import PostgresOrders
from connectors.postgres.response_life import PostgresLife
from connectors.webhooks.message import Message, payload
from schemas.policy import Policy
from schemas.response_life import Summary
from schemas.work_order import WorkOrder
from tests.pipeline.stream import Stream
from tests.pipeline.test_departments import AT, shooting
from tests.pipeline.test_response_life import (
    DAY,
    HOUR,
    WINDOW,
    life,
    open_orders,
    settled,
    summary,
    work_all_off,
)
from tests.pipeline.test_updates import light, update
from tests.properties.bench import TABLES
from tests.timers.conftest import until_true

LATE = AT + WINDOW + DAY
Step = Literal["end", "hold", "done", "lamp"]
STEPS: tuple[Step, ...] = ("end", "hold", "done", "lamp")
WAITS = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"


async def begin(connection: Any, policy: Policy, areas: Areas) -> Stream:
    for table in f"{TABLES}, order_ledger, feed".split(", "):
        await connection.execute(f"DELETE FROM {table}")
    stream = Stream(connection, policy, areas, now=AT + HOUR)
    await stream.feed([shooting("ZZ1"), light("SR1")])
    return stream


async def take(stream: Stream, step: Step, first: WorkOrder, second: WorkOrder) -> None:
    match step:
        case "end":
            await stream.wait(LATE)
        case "hold":
            await stream.say(first.department, update(first, "hold", reason="weather", at=AT + 2 * DAY))
        case "done":
            await stream.say(
                second.department, update(second, "resolve", outcome="inspected", at=AT + 3 * DAY)
            )
        case "lamp":
            lamp = {"created_at": AT + 4 * DAY, "revised_at": AT + 4 * DAY}
            await stream.feed([light("SR2", address="4011 W WEST END AVE", **lamp)])


async def test_the_summary_is_the_same_in_whichever_order_all_becomes_known(
    connection: Any, policy: Policy, areas: Areas
) -> None:
    """Facts of before the end, heard of before it and after it; but for `late`: promises begin when we give them."""
    found: set[str] = set()
    for steps in permutations(STEPS):
        stream = await begin(connection, policy, areas)
        inspections = [one for one in await open_orders(stream) if one.work == "inspect"]
        first, second = sorted(inspections, key=lambda one: one.reference)
        stream.now = AT + 5 * DAY
        for step in steps:
            await take(stream, step, first, second)
        await settled(stream)
        found.add(without_late(await summary(stream)))
    assert len(found) == 1, found
    only = Summary.model_validate_json(found.pop())
    assert (only.orders, only.done, only.held, only.open) == (4, 1, 1, 3)


def without_late(found: Summary) -> str:
    left = tuple(one.model_copy(update={"late": False}) for one in found.left_open)
    return found.model_copy(update={"late": 0, "left_open": left}).model_dump_json()


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Any]:
    connected = await asyncpg.connect(database_url)
    yield connected
    await connected.close()


async def test_an_order_that_opens_while_its_response_is_looked_at_waits_and_sees_what_was_decided(
    connection: Any, other: Any, policy: Policy, areas: Areas
) -> None:
    stream = await begin(connection, policy, areas)
    incident_id = (await life(stream)).incident_id
    looking = connection.transaction()
    await looking.start()
    lives = await PostgresLife(connection).lives([incident_id])
    async with other.transaction():
        asking = asyncio.create_task(PostgresOrders(other).at_rest([incident_id]))
        await until_true(lambda: connection.fetchval(WAITS), 10)
        assert not asking.done()
        safe = lives[incident_id].model_copy(update={"safe_since": AT})
        await PostgresLife(connection).save_lives([], [safe])
        await looking.commit()
        assert await asyncio.wait_for(asking, 10) == {incident_id}


async def test_what_nobody_has_looked_at_is_woken_and_what_is_open_is_not(
    connection: Any, policy: Policy, areas: Areas
) -> None:
    stream = await begin(connection, policy, areas)
    incident_id = (await life(stream)).incident_id
    assert await PostgresOrders(connection).at_rest([incident_id]) == set()
    await work_all_off(stream)
    assert await PostgresOrders(connection).at_rest([incident_id]) == {incident_id}
    await connection.execute("DELETE FROM response_life")
    assert await PostgresOrders(connection).at_rest([incident_id]) == {incident_id}


async def test_many_orders_that_open_wake_nobody(connection: Any, policy: Policy, areas: Areas) -> None:
    """Else a replay would look at each response once for each of its orders."""
    stream = await begin(connection, policy, areas)
    before = sum(one.topic == "response-looks" for one in stream.events)
    lamps = [light(f"SR{n}", address=f"40{n} W WEST END AVE") for n in range(10, 30)]
    await stream.feed(lamps)
    orders = await connection.fetchval("SELECT count(*) FROM work_orders")
    looks = sum(one.topic == "response-looks" for one in stream.events) - before
    assert orders > 20
    assert looks <= 2  # the response is triaged again, as it counts them


def test_a_webhook_says_which_response_and_nothing_of_it() -> None:
    at = datetime(2026, 7, 4, tzinfo=UTC) + timedelta(days=3)
    said = payload(Message(1, 2, "response", "r-1", 7, '{"incident_kind":"fatal_shooting"}', at))
    assert said == (
        '{"type":"response.changed","timestamp":"2026-07-07T00:00:00Z","data":{"response_id":"r-1","version":7}}'
    )
