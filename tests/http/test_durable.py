"""202 means durable: what a killed process accepted is published by another one, once."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from connectors.delivery import OutboxRow
from tests.http.conftest import Broker, Make, until, until_found
from tests.http.made_up import order, store
from tests.http.test_reports import INCIDENT


@asynccontextmanager
async def process(dsn: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """An API process whose broker never answers; killed at the end, if not before."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.http.process", dsn, stdout=asyncio.subprocess.PIPE
    )
    assert started.stdout is not None
    try:
        async with asyncio.timeout(60):
            port = int(await started.stdout.readline())
        yield started, f"http://127.0.0.1:{port}"
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def accepted(url: str, who: str, path: str, body: Any) -> None:
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.post(f"{url}{path}", json=body, headers={"Authorization": f"Bearer {who}"})
        assert answer.status_code == 202, answer.text


async def settled(connection: Any, broker: Broker, count: int) -> list[OutboxRow]:
    """What the broker has once nothing waits any more, and some looks of the publisher later."""
    await until(lambda: len(broker.records) >= count)
    await until_found(connection, "SELECT count(*) = 0 FROM outbox")
    return broker.records


@pytest.mark.parametrize("standing_by", [False, True], ids=["started afterwards", "standing by"])
async def test_kill_9_between_commit_and_publishing(
    make_app: Make, connection: Any, database_url: str, broker: Broker, *, standing_by: bool
) -> None:
    one = order(1)
    await store(connection, [one])
    async with process(database_url) as (running, url):
        await accepted(url, "intake", "/v1/incident-reports", INCIDENT)
        await accepted(url, "cdot", f"/v1/work-orders/{one.reference}/updates", {"verb": "start"})
        other = make_app()
        if not standing_by:
            running.kill()
            await running.wait()
        async with other.router.lifespan_context(other):
            if standing_by:
                await until_found(connection, LOCK_IS_ASKED_FOR)
                assert broker.records == []
                running.kill()
            records = await settled(connection, broker, 2)
    assert [record.topic for record in records] == ["incident-reports", "work-order-updates.cdot"]


LOCK_IS_ASKED_FOR = "SELECT count(*) = 2 FROM pg_stat_activity WHERE application_name = 'rapid api door'"
