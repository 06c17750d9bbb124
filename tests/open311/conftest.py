"""Our endpoint on a real socket, on a real database, and a city's endpoint that can misbehave."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from connectors.postgres.pool import create_pool
from schemas.policy import Policy
from tests.open311.city import FakeCity
from tests.open311.ours import Ours, make_ours
from tests.open311.sockets import served


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Any]:
    made = await create_pool(database_url, max_size=6)
    yield made
    await made.close()


@pytest.fixture
async def ours(pool: Any, policy: Policy) -> AsyncIterator[Ours]:
    """Our own endpoint."""
    one = make_ours(pool, policy)
    async with served(one.app) as root:
        one.root = root
        yield one


@pytest.fixture
async def city() -> AsyncIterator[FakeCity]:
    """A city's endpoint."""
    one = FakeCity()
    async with served(one.app) as root:
        one.root = root
        yield one
