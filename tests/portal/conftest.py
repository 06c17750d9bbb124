"""Databases of a test's own, as many as it wants, and a portal."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from connectors.postgres.pool import create_pool
from schemas.policy import Policy
from tests.conftest import TEMPLATE, address_of
from tests.portal.soda_server import SodaServer, soda_server
from tests.portal.world import City, Reads, reading_of

_numbers = itertools.count(1)


@pytest.fixture
async def make_pool(server: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """Makes a pool on an empty database."""
    admin = await asyncpg.connect(server)
    made: list[tuple[str, Any]] = []

    async def make() -> Any:
        name = f"portal_{next(_numbers)}"
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        pool = await create_pool(address_of(server, name), min_size=1, max_size=4)
        made.append((name, pool))
        return pool

    yield make
    for name, pool in made:
        pool.terminate()
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def pool(make_pool: Callable[[], Awaitable[Any]]) -> Any:
    return await make_pool()


@pytest.fixture
async def soda() -> AsyncIterator[SodaServer]:
    async with soda_server() as running:
        yield running


@pytest.fixture
def city(soda: SodaServer) -> City:
    return City(soda)


@pytest.fixture
async def reads(soda: SodaServer, pool: Any, policy: Policy) -> AsyncIterator[Reads]:
    async with reading_of(soda, pool, policy) as one:
        yield one
