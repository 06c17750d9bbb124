"""Two transactions at the same time, each with a new fact of the same case or request: neither is lost."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any, TypeAlias

import asyncpg
import pytest

from agents.intake.agent import Intake
from agents.messages import Message
from connectors.postgres.intake import PostgresIntake
from schemas.incident import IncidentReport
from schemas.issue import IssueReport
from schemas.policy import Policy
from tests.unit.made_up import day, report, request

Report: TypeAlias = IncidentReport | IssueReport

WAITS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Any]:
    connected = await asyncpg.connect(database_url)
    yield connected
    await connected.close()


def message(one: Report) -> Message:
    body = one.model_dump_json().encode()
    return Message("reports", 0, 0, one.key, one, None, None, one.key.encode(), body)


async def take(connection: Any, policy: Policy, one: Report) -> None:
    """What the loop does with it, in the transaction that the caller has begun."""
    intake = Intake(policy, lambda: day(30) + timedelta(days=365))
    store = PostgresIntake(connection)
    handle = intake.incident_reports if isinstance(one, IncidentReport) else intake.issue_reports
    await handle(store, [message(one)])


async def at_the_same_time(
    connections: Sequence[Any],
    policy: Policy,
    first: Report,
    second: Report,
) -> None:
    """The second transaction has read before the first one commits, and waits for its lock."""

    async def later() -> None:
        async with connections[1].transaction():
            await take(connections[1], policy, second)

    async with asyncio.timeout(20), connections[0].transaction():
        await take(connections[0], policy, first)
        waiting = asyncio.create_task(later())
        while not await connections[0].fetchval(WAITS):  # noqa: ASYNC110  # PostgreSQL has no event for it
            await asyncio.sleep(0.01)
    await waiting


async def test_two_victims_of_one_case_from_two_sources(connection: Any, other: Any, policy: Policy) -> None:
    await at_the_same_time((connection, other), policy, report(), report(source="oemc"))
    assert await connection.fetchval("SELECT version FROM incidents") == 2


async def test_a_parent_that_one_of_two_revisions_names(connection: Any, other: Any, policy: Policy) -> None:
    duplicate = request(request_number="SR2", parent_number="SR1")
    await at_the_same_time(
        (connection, other), policy, duplicate, request(request_number="SR2", revised_at=day(1))
    )
    rows = await connection.fetch("SELECT request_number, version, status FROM issues ORDER BY 1")
    assert [tuple(row) for row in rows] == [("SR1", 2, "canceled"), ("SR2", 2, "open")]
