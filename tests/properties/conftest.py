"""One database for the whole folder; its tables are emptied between runs."""

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from connectors.geography.areas import Areas
from schemas.policy import Policy
from tests.conftest import TEMPLATE, address_of
from tests.properties.bench import Bench

WORKERS = 3
NAME = "properties"


@pytest.fixture(scope="session")
def bench(server: str, policy: Policy, areas: Areas) -> Iterator[Bench]:
    """The stream on a real database, run from a loop of its own: Hypothesis calls plain functions."""
    with asyncio.Runner() as runner:
        runner.run(_create(server))
        url = address_of(server, NAME)
        connections = [runner.run(asyncpg.connect(url)) for _ in range(WORKERS)]
        yield Bench(runner, connections, policy, areas)
        for connection in connections:
            runner.run(connection.close())


async def _create(server: str) -> None:
    admin = await asyncpg.connect(server)
    await admin.execute(f"CREATE DATABASE {NAME} TEMPLATE {TEMPLATE}")
    await admin.close()
